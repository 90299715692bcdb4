"""The collection of an importer → a data directory, with links to the images, copies or smaller JPEG files.

Pixels that a table lists, and faces in boxes, become PNG files.
"""

import filecmp
import math
import os
import shutil
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy
from PIL import Image

from datasets.layout import RECORD_NAME, alignment_of
from datasets.files import describe
from datasets.importing.collection import Collection, SourceSample
from datasets.layout import counts_table, read_layout, write_layout
from datasets.lists import LISTS, MOST_EXPRESSIONS, explain_adapted, image_directory, person_key
from datasets.pictures import BLANK, BadPicture, fault_when_decoded, greys_of, is_blank, read_picture
from datasets.splits import choose_validation
from utils import (UserError, atomic_file, encoded_picture, may_be_refused, progress, read_json, save_picture,
                   write_json)

MOST_APART = 16  # gray levels between the 8 x 8 cells of a picture and of its smaller JPEG


def convert(collection: Collection, source: Path, out: Path, writer: "ImageWriter", *, test: float | set[str],
            seed: int, overwrite: bool) -> None:
    """Write the images and lists of a collection from ``source`` into ``out``, and report what was taken and left out.

    ``test`` is the share of the undecided samples, or the subjects, that are tested on; the share is drawn by ``seed``.
    Images that an earlier run has written stay as they are. Raises UserError, before anything is written, if the
    collection is no data set to train on, or if a list or an image of another data set would be replaced without
    ``overwrite``.
    """
    collection.sort_by_split()
    _unify_subjects(collection)
    _drop_repeated(collection)
    _drop_broken(collection)
    _count_missing(collection)
    _make_names_unique(collection, writer)
    _decide_splits(collection, test, seed)
    _drop_targets_of_test_persons(collection)
    _check_complete(collection, source)
    _check_read(out)
    splits = {split: sorted(collection.split(split), key=lambda sample: sample.name)
              for split in ("train", "val", "test")}
    samples, images = [sample for split in splits.values() for sample in split], out / "data"
    with ThreadPoolExecutor(4) as pool:
        current = pool.map(lambda sample: writer.is_current(images / sample.name, sample), samples)
        unwritten = [sample for sample, is_current in zip(samples, current) if not is_current]
        if not overwrite:
            _check_free(out, collection.expressions, splits, unwritten)
        images.mkdir(parents=True, exist_ok=True)
        written = pool.map(lambda sample: writer.write(sample, images / sample.name), unwritten)
        list(progress(written, "writing", len(unwritten), "image"))
    _carry_alignment(source if source.is_dir() else source.parent, out)
    write_layout(out, collection.expressions, splits, remove=True)
    _report(collection, source, out, len(unwritten))


def _carry_alignment(source: Path, out: Path) -> None:
    """Write the record of aligned faces beside their lists, since a run aligns further pictures in the same way."""
    if alignment_of(source):
        write_json(out / RECORD_NAME, read_json(source / RECORD_NAME))


def _report(collection: Collection, source: Path, out: Path, written: int) -> None:
    """Print what became of all files of the source, and of all rows of its table if a row is a face."""
    samples = collection.samples
    print(f"{out}: {len(samples)} images ({f'{written} of them new' if written else 'all there already'})")
    for reason, count in sorted(collection.left_out.items()):
        print(f"left out: {count} images {reason}")
    if not any(sample.subject for sample in samples):
        collection.notes.append("no subject is known, so one person may be in the training and in the validation or "
                                "test images, whose accuracy is then too high; name subjects with --subject_regex, or "
                                "in subjects.list")
    for note in collection.notes:
        print(f"note: {note}")
    print(counts_table(read_layout(out)))
    totals = []
    if collection.walk:
        images, passed_over = len(collection.walk.images), collection.walk.passed_over()
        used = len({sample.path for sample in samples})
        totals.append(f"{images + passed_over.total()} files: {used} taken, {describe(passed_over)}, "
                      f"{images - used} refused")
    if collection.rows:
        totals.append(f"{collection.rows} rows: {len(samples)} taken, {collection.rows - len(samples)} refused")
    print(f"{source}: {'; '.join(totals)}")


def _unify_subjects(collection: Collection) -> None:
    """Give subjects that differ in case alone one spelling: they are one person."""
    spelling: dict[str, str] = {}
    subjects = [sample.subject for sample in collection.samples if sample.subject]
    for subject in subjects:
        spelling.setdefault(person_key(subject), subject)
    variants = set(subjects) - set(spelling.values())
    if variants:
        example = min(variants)
        collection.notes.append(f"{len(variants)} subjects are written in two ways, e.g. {example} and "
                                f"{spelling[person_key(example)]}; each is taken for one person")
        collection.samples = [replace(sample, subject=sample.subject and spelling[person_key(sample.subject)])
                              for sample in collection.samples]


def _drop_repeated(collection: Collection) -> None:
    """Leave out all but the first of samples that are the same file, or the same face in it.

    Raises UserError if these have different labels, splits or subjects.
    """
    first: dict[tuple, SourceSample] = {}
    real_folder = lru_cache(None)(os.path.realpath)
    samples, collection.samples = collection.samples, []
    for sample in samples:
        path = Path(os.path.realpath(sample.path)) if sample.path.is_symlink() else sample.path
        earlier = first.setdefault((real_folder(path.parent), path.name, sample.box), sample)
        if earlier is sample or sample.pixels is not None:
            collection.samples.append(sample)
        else:
            _check_same(sample, earlier, (*collection.expressions, "target only"))
            collection.leave_out("that are taken already", sample.path)


def _check_same(sample: SourceSample, earlier: SourceSample, labels: tuple[str, ...]) -> None:
    """Check that two samples of one file agree. Raises UserError if their labels, splits or subjects differ."""
    for attribute, before, now in (("label", labels[earlier.label], labels[sample.label]),
                                   ("split", earlier.split, sample.split),
                                   ("subject", earlier.subject, sample.subject)):
        if before != now:
            link = "" if sample.path == earlier.path else f" (it is {earlier.path} as well)"
            advice = "" if sample.box else ", or if a table lists several faces of a picture, name their boxes with " \
                "--box_columns LEFT TOP RIGHT BOTTOM"
            raise UserError(f"{sample.path}{link}: is taken twice, with the {attribute} {before} and with {now}; "
                            f"correct it{advice}")


def _drop_broken(collection: Collection) -> None:
    """Leave out images with a fault, so that the lists never name them. All are decoded, JPEG files at a small size."""
    samples, collection.samples = collection.samples, []
    with ThreadPoolExecutor(8) as pool:
        faults = progress(pool.map(fault_of, samples), "checking images", len(samples), "image")
        for sample, fault in zip(samples, faults):
            if fault:
                collection.leave_out(f"that cannot be used: {fault}", sample.path)
            else:
                collection.samples.append(sample)


def _count_missing(collection: Collection) -> None:
    """Count names that are listed and have no file, and images that no list names."""
    for names in collection.names:
        if names.missing:
            reason = f"listed but missing below {names.root}, {names.explain_missing()}"
            collection.left_out[reason] += len(names.missing)
        if names.adapted:
            collection.notes.append(explain_adapted(names.adapted, next(iter(names.adapted))))
    if collection.walk:
        known = collection.refused | {sample.path for sample in collection.samples}
        unlisted = sum(path not in known for path in collection.walk.images)
        collection.left_out += Counter({"that no list names": unlisted})


def _decide_splits(collection: Collection, test: float | set[str], seed: int) -> None:
    """Divide the undecided samples between training and test, every subject to one side only."""
    undecided = collection.split(None)
    if isinstance(test, set):
        keys = {person_key(subject): subject for subject in test}
        unknown = sorted(map(keys.get, keys.keys() - {person_key(sample.subject or "") for sample in undecided}))
        if unknown:
            raise UserError(f"--test_subjects: no images of {', '.join(unknown[:5])}")
        tested = {sample.name for sample in undecided if person_key(sample.subject or "") in keys}
    else:
        grouped = [replace(sample, subject=sample.subject or f"picture {sample.path}") if sample.box else sample
                   for sample in undecided]  # the faces of a picture stay on one side
        tested = choose_validation(grouped, test, seed)
    collection.samples = [sample if sample.split else
                          replace(sample, split="test" if sample.name in tested else "train")
                          for sample in collection.samples]
    collection.sort_by_split()


def _drop_targets_of_test_persons(collection: Collection) -> None:
    """Leave out target-only faces, which are trained on, of persons in the validation or test images."""
    persons = {sample.subject for split in ("val", "test") for sample in collection.split(split) if sample.subject}
    samples, collection.samples = collection.samples, []
    for sample in samples:
        if sample.label == len(collection.expressions) and sample.subject in persons:
            collection.leave_out("only for targets, of persons in the validation or test images", sample.path)
        else:
            collection.samples.append(sample)


def _make_names_unique(collection: Collection, writer: "ImageWriter") -> None:
    """Give the samples the names of their images; no two of them are equal, even if a file system ignores case."""
    used: set[str] = set()
    samples, collection.samples = collection.samples, []
    for sample in samples:
        name = writer.name(sample)
        stem, dot, ending = name.rpartition(".")
        number = 1
        while name.lower() in used:
            number += 1
            name = f"{stem}-{number}{dot}{ending}"
        used.add(name.lower())
        collection.samples.append(replace(sample, name=name))


def _check_complete(collection: Collection, source: Path) -> None:
    """Check that the collection is a data set to train on and to test. Raises UserError if it is not."""
    reasons = "; ".join(f"{count} {reason}" for reason, count in collection.left_out.items())
    left_out, expressions = f" (left out: {reasons})" if reasons else "", collection.expressions
    if not collection.samples:
        raise UserError(f"{source}: no images to take{left_out}")
    for split in ("train", "test"):
        if not collection.split(split):
            raise UserError(f"{source}: no images for the {split} list{left_out}; both are needed")
    if len(expressions) < 2:
        raise UserError(f"{source}: only one expression ({expressions[0]}); at least two are needed")
    if "" in expressions:  # the list of expressions would lose it, and later labels would get wrong names
        raise UserError(f"{source}: one of its labels consists of dots alone; name the others with --expressions")
    if len(expressions) >= MOST_EXPRESSIONS:
        raise UserError(f"{source}: has {len(expressions)} labels, such as {', '.join(expressions[:3])}, and fewer "
                        f"than {MOST_EXPRESSIONS} can be expressions; choose what holds the expressions")
    trained = {sample.label for sample in collection.split("train")}
    empty = [name for label, name in enumerate(expressions) if label not in trained]
    if empty:
        raise UserError(f"{source}: no training image of {', '.join(empty)}{left_out}; leave it out, or add some")
    if len({name.lower() for name in expressions}) < len(expressions):
        raise UserError(f"{source}: two expressions have the same name ({' '.join(expressions)})")


def _check_read(out: Path) -> None:
    """Check that ``out/data`` is where the images are looked for. Raises UserError if it is another directory."""
    if (images := image_directory(out)) != out / "data":
        raise UserError(f"{images}: training would read the images there, and not the imported ones; choose another "
                        "--out, or move it away")


def _check_free(out: Path, expressions: tuple[str, ...], splits: dict[str, list[SourceSample]],
                unwritten: list[SourceSample]) -> None:
    """Check that no list and no image of another data set would be replaced. Raises UserError if one would be."""
    with tempfile.TemporaryDirectory() as folder:
        write_layout(folder, expressions, splits)
        for name in LISTS:
            old, new = out / name, Path(folder) / name
            if old.is_file() and not (new.is_file() and old.read_bytes() == new.read_bytes()):
                raise UserError(f"{old}: belongs to another data set or selection; choose another --out, "
                                "or replace it with --overwrite")
    foreign = [target for sample in unwritten if is_foreign(target := out / "data" / sample.name, sample)]
    if foreign:
        raise UserError(f"{foreign[0]}: another image has this name ({len(foreign)} such); choose another --out, "
                        "or replace it with --overwrite")


# ------------------------------------------------------------------------------------------------ the images

@dataclass(frozen=True)
class ImageWriter:
    """Writes images into a data directory: as copies, as smaller JPEG files or, by default, as symbolic links.

    ``copy`` makes copies; ``reencode`` makes upright JPEG files with a shorter side of at most so many pixels.
    """

    copy: bool
    reencode: int | None

    def name(self, sample: SourceSample) -> str:
        """Return the file name of a sample's image in the data directory."""
        return str(Path(sample.name).with_suffix(".jpg")) if self.reencode else sample.name

    def is_current(self, target: Path, sample: SourceSample) -> bool:
        """Return whether an earlier run has written the image in the same form."""
        source = sample.path
        if not target.exists():
            return False
        if sample.is_extracted and not self.reencode:
            return _holds_pixels(target, sample)
        if not self.copy and not self.reencode:
            return target.samefile(source)
        if target.is_symlink() or target.samefile(source):
            return False
        if self.copy:
            return filecmp.cmp(target, source, shallow=False)
        if not _has_time_of(target, source):  # the source has changed, or the file system keeps no times
            return target.read_bytes() == encoded_picture(self._reencoded(sample), target)
        with Image.open(target) as image:
            same_form = image.format == "JPEG" and min(image.size) == min(self.reencode, *_picture_of(sample).size)
        return same_form and _shows_picture_of(target, sample)

    def write(self, sample: SourceSample, target: Path) -> None:
        """Write one image, completely or not at all."""
        if self.reencode:
            save_picture(self._reencoded(sample), target)
            _keep_time(sample.path, target)
        elif sample.is_extracted:
            save_picture(_picture_of(sample), target)
        else:
            (_copy if self.copy else _link)(sample.path.resolve(), target)

    def _reencoded(self, sample: SourceSample) -> Image.Image:
        image = _picture_of(sample)
        scale = self.reencode / min(image.size)
        if scale < 1:
            size = tuple(max(self.reencode, round(scale * length)) for length in image.size)
            image = image.resize(size, Image.Resampling.LANCZOS)
        return image


def fault_of(sample: SourceSample) -> str | None:
    """Return what is wrong with a sample's image, which is decoded, or None."""
    if not sample.is_extracted:
        return fault_when_decoded(sample.path)
    try:
        return BLANK if is_blank(greys_of(_picture_of(sample))) else None
    except BadPicture as bad:
        return bad.fault


def is_foreign(target: Path, sample: SourceSample) -> bool:
    """Return whether a file is neither a link to a sample's image nor a copy of it in any form."""
    if not target.exists():
        return False
    if sample.is_extracted and target.suffix == ".png":
        return not _holds_pixels(target, sample)
    if target.samefile(sample.path) or filecmp.cmp(target, sample.path, shallow=False):
        return False
    return not (_has_time_of(target, sample.path) and _shows_picture_of(target, sample))


def _picture_of(sample: SourceSample) -> Image.Image:
    """Return a sample's picture, cropped to the part of its box that lies inside. Raises BadPicture if none does."""
    if sample.pixels is not None:
        side = math.isqrt(len(sample.pixels))
        return Image.frombytes("L", (side, side), sample.pixels)
    picture = read_picture(sample.path)
    if sample.box is None:
        return picture
    left, top, right, bottom = sample.box
    inside = max(left, 0), max(top, 0), min(right, picture.width), min(bottom, picture.height)
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise BadPicture(sample.path, "its box lies outside the picture")
    return picture.crop(inside)


def _holds_pixels(target: Path, sample: SourceSample) -> bool:
    """Return whether a file holds exactly the pixels of an extracted sample."""
    try:
        with Image.open(target) as image:
            picture = _picture_of(sample)
            return image.format == "PNG" and image.mode == picture.mode and image.tobytes() == picture.tobytes()
    except Exception:  # Pillow's format plugins raise errors of many types for a damaged file
        return False


def _link(source: Path, target: Path) -> None:
    """Make a symbolic link, which works across file systems; or a copy if links are refused, as on Windows."""
    unfinished = target.with_name(f".{target.name}.part")
    unfinished.unlink(missing_ok=True)
    try:
        os.symlink(source, unfinished)
    except (OSError, NotImplementedError):
        _copy(source, target)
    else:
        os.replace(unfinished, target)


def _copy(source: Path, target: Path) -> None:
    with open(source, "rb") as original, atomic_file(target) as handle:
        shutil.copyfileobj(original, handle, 1 << 20)
    _keep_time(source, target)


def _keep_time(source: Path, target: Path) -> None:
    times = source.stat()
    with may_be_refused():
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))


def _has_time_of(target: Path, source: Path) -> bool:
    return abs(target.stat().st_mtime - source.stat().st_mtime) < 2     # copies keep the time; FAT rounds it


def _shows_picture_of(target: Path, sample: SourceSample) -> bool:
    """Return whether a file shows a sample's picture at any size.

    Equal times do not say so: all files of an unpacked archive may have the same one.
    """
    try:
        written, original = (numpy.asarray(picture.convert("L").resize((8, 8), Image.Resampling.BOX), numpy.int16)
                             for picture in (read_picture(target), _picture_of(sample)))
    except (UserError, OSError):
        return False
    return bool(numpy.abs(written - original).max() <= MOST_APART)
