"""The collection of an importer → a data directory, with links to the images, copies or smaller files.

Pixels that a table lists, faces in boxes and central squares become PNG files.
"""

import math
import os
import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy
from PIL import Image

from datasets.files import describe
from datasets.importing.collection import Collection, SourceSample
from datasets.importing.naming import meaning_of, propose_subject_regex
from datasets.layout import RECORD_NAME, alignment_of, counts_table, read_layout, write_layout
from datasets.lists import LISTS, MOST_EXPRESSIONS, explain_adapted, image_directory, person_key
from datasets.pictures import BLANK, BLANK_SIDE, BadPicture, greys_of, is_blank, read_picture
from datasets.splits import choose_validation
from utils import atomic_file, by_threads, encoded_picture, read_json, refuse, write_json


def convert(collection: Collection, source: Path, out: Path, writer: "ImageWriter", *, test: float | set[str],
            seed: int, overwrite: bool) -> None:
    """Write the images and lists of a collection from ``source`` into ``out``, and report what was taken and left out.

    ``test`` is the share of the undecided samples, or the subjects, that are tested on; the share is drawn by ``seed``.
    Raises UserError, before anything is written, if the collection is no data set to train on, or if a list or an image
    of another data set would be replaced without ``overwrite``.
    """
    collection.samples = [sample for split in ("train", "val", "test", None) for sample in collection.split(split)]
    _unify_subjects(collection)
    _drop_repeated(collection)
    _drop_broken(collection, writer)
    _count_missing(collection)
    _make_names_unique(collection, writer)
    _decide_splits(collection, source, test, seed)
    _check_complete(collection, source)
    images = image_directory(out)
    refuse(images, (images != out / "data", "training would read the images there, and not the imported ones; choose "
                    "another --out, or move it away"))
    collection.samples.sort(key=lambda sample: sample.name)
    splits = {split: collection.split(split) for split in ("train", "val", "test")}
    samples, aligned = list(chain(*splits.values())), _aligned_directory(collection)
    there_already = [sample for sample in samples if (images / sample.name).exists()]
    if not overwrite:
        _check_free(out, collection.expressions, splits, aligned)
        foreign = [images / sample.name for sample in there_already if writer.is_foreign(sample, images / sample.name)]
        refuse(next(iter(foreign), None), (foreign, f"another image has this name ({len(foreign)} such); choose "
                                           "another --out, or replace it with --overwrite"))
    images.mkdir(parents=True, exist_ok=True)
    list(by_threads(lambda sample: writer.write(sample, images / sample.name), samples, "writing"))
    if aligned:  # beside the lists, since a run aligns further pictures in the same way
        write_json(out / RECORD_NAME, read_json(aligned / RECORD_NAME))
    elif alignment_of(out):
        (out / RECORD_NAME).unlink()
    write_layout(out, collection.expressions, splits, remove=True)
    _report(collection, source, out, len(samples) - len(there_already))


def _aligned_directory(collection: Collection) -> Path | None:
    """Return the directory around all images whose faces were aligned, as its record says, or None."""
    are_files = not any(sample.is_extracted for sample in collection.samples)
    around = Path(os.path.commonpath([os.path.abspath(sample.path.parent) for sample in collection.samples]))
    return next(filter(alignment_of, (around, *around.parents)), None) if are_files else None


def _report(collection: Collection, source: Path, out: Path, written: int) -> None:
    """Print what became of all files of the source, and of all rows of its table if a row is a face."""
    samples, expressions = collection.samples, collection.expressions
    print(f"{out}: {len(samples)} images ({f'{written} of them new' if written else 'all there already'})")
    for reason, count in sorted((+collection.left_out).items()):
        print(f"left out: {count} images {reason}")
    has_subjects = any(sample.subject for sample in samples)
    pattern = None if has_subjects else propose_subject_regex([(sample.path.name, sample.label) for sample in samples])
    advice = f" (the names seem to begin with one: --subject_regex '{pattern}')" if pattern else ""
    collection.note(not has_subjects, "no subject is known, so one person may be in the training and in the validation "
                    "or test images, whose accuracy is then too high; name subjects with --subject_regex"
                    f"{advice}, or in subjects.list")
    unknown = [name for name in expressions if not name.isdigit() and not meaning_of(name)]
    collection.note(unknown, f"taken for expressions, though none is known by this name: {', '.join(unknown[:9])}")
    meanings = Counter(filter(None, map(meaning_of, expressions)))
    repeated = [name for name in expressions if meanings[meaning_of(name)] > 1]
    collection.note(repeated, f"{' and '.join(repeated)} mean the same and are different expressions here")
    for note in collection.notes:
        print(f"note: {note}")
    print(counts_table(read_layout(out)))
    images, passed_over = len(collection.walk.images), collection.walk.passed_over()
    used = len({sample.path for sample in samples} & {*collection.walk.images})
    totals = {f"{images + passed_over.total()} files: {used} taken, {describe(passed_over)}, {images - used} refused":
              images, f"{collection.rows} rows: {len(samples)} taken, {collection.rows - len(samples)} refused":
              collection.rows}
    print(f"{source}: {'; '.join(text for text, count in totals.items() if count)}")


# ------------------------------------------------------------------------------------------------- the samples

def _unify_subjects(collection: Collection) -> None:
    """Give subjects that differ in case alone one spelling: they are one person."""
    spelling: dict[str, str] = {}
    subjects = {sample.subject: spelling.setdefault(person_key(sample.subject), sample.subject)
                for sample in collection.samples if sample.subject}
    variants = sorted(f"{subject} and {one}" for subject, one in subjects.items() if subject != one)
    collection.note(variants, f"{len(variants)} subjects are written in two ways, e.g. {''.join(variants[:1])}; each "
                    "is taken for one person")
    collection.samples = [replace(sample, subject=subjects.get(sample.subject)) for sample in collection.samples]


def _drop_repeated(collection: Collection) -> None:
    """Leave out all but the first of samples that are the same file, or the same face in it.

    Raises UserError if these have different labels, splits or subjects.
    """
    first: dict[tuple, SourceSample] = {}
    real_folder, labels = lru_cache(None)(os.path.realpath), (*collection.expressions, "target only")
    samples, collection.samples = collection.samples, []
    for sample in samples:
        path = Path(os.path.realpath(sample.path)) if sample.path.is_symlink() else sample.path
        earlier = first.setdefault((real_folder(path.parent), path.name, sample.box), sample)
        if earlier is sample or sample.pixels is not None:
            collection.samples.append(sample)
        else:
            pairs = {"label": (labels[earlier.label], labels[sample.label]), "split": (earlier.split, sample.split),
                     "subject": (earlier.subject, sample.subject)}
            link = "" if sample.path == earlier.path else f" (it is {earlier.path} as well)"
            refuse(f"{sample.path}{link}", *(
                (before != now, f"is taken twice, with the {attribute} {before} and with {now}; correct it, or if a "
                 "table lists several faces of a picture, name their boxes with --box_columns LEFT TOP RIGHT BOTTOM")
                for attribute, (before, now) in pairs.items()))
            collection.leave_out("that are taken already", sample.path)


def _drop_broken(collection: Collection, writer: "ImageWriter") -> None:
    """Leave out images with a fault, so that the lists never name them, and note pictures of different shapes.

    All are decoded, JPEG files at a small size.
    """
    results = list(zip(collection.samples, by_threads(_examine, collection.samples, "checking images", 8)))
    for sample, (fault, _) in results:
        if fault:
            collection.leave_out(f"that cannot be used: {fault}", sample.path)
    collection.samples = [sample for sample, (fault, _) in results if not fault]
    shapes = [shape for _, (fault, shape) in results if not fault] or [1]
    stretched = sum(not 0.9 < shape < 1.1 for shape in shapes)
    collection.note(max(shapes) > 1.2 * min(shapes) and not writer.square, f"{stretched} images are not square (up to "
                    f"{max(max(shapes), 1 / min(shapes)):.1f} to 1), and the shapes differ; a run squeezes them to "
                    "squares, and --square cuts their central squares out")


def _examine(sample: SourceSample) -> tuple[str | None, float]:
    """Return what is wrong with a sample's image, or None, and its width by its height."""
    try:
        picture = _picture_of(sample, BLANK_SIDE)
    except BadPicture as bad:
        return bad.fault, 1
    return BLANK if is_blank(greys_of(picture)) else None, picture.width / picture.height


def _count_missing(collection: Collection) -> None:
    """Count names that are listed and have no file, and images that no list names."""
    for names in collection.names:
        if names.missing:
            reason = f"listed but missing below {names.root}, {names.explain_missing()}"
            collection.left_out[reason] += len(names.missing)
        collection.notes += [explain_adapted(names.adapted, listed) for listed in list(names.adapted)[:1]]
    known = collection.refused | {sample.path for sample in collection.samples}
    collection.left_out["that no list names"] += sum(path not in known for path in collection.walk.images)


def _decide_splits(collection: Collection, source: Path, test: float | set[str], seed: int) -> None:
    """Divide the undecided samples between training and test, every subject to one side only.

    Target-only faces, which are trained on, of persons in the validation or test images are left out. Raises UserError
    if whole persons cannot be divided.
    """
    undecided, val = collection.split(None), collection.split("val")
    persons = {sample.subject for sample in undecided}
    if isinstance(test, set):
        keys, known = {person_key(subject) for subject in test}, {person_key(person or "") for person in persons}
        unknown = sorted(subject for subject in test if person_key(subject) not in known)
        refuse("--test_subjects", (unknown, f"no images of {', '.join(unknown[:5])}"))
        tested = {sample.name for sample in undecided if person_key(sample.subject or "") in keys}
    else:
        grouped = [replace(sample, subject=sample.subject or f"picture {sample.path}") if sample.box else sample
                   for sample in undecided]  # the faces of a picture stay on one side
        tested = choose_validation(grouped, test, seed)
        advice = "test on a larger one, such as 0.5 (--test_share, --test_subjects)" if len(persons) > 1 else \
            "add other persons"
        names = sorted(filter(None, persons))
        refuse(source, (undecided and not tested and None not in persons, "persons are tested on as wholes, and none "
                        f"of its {len(persons)} ({', '.join(names[:3])}) fits a share of {test:g}; {advice}"))
    collection.samples = [sample if sample.split else
                          replace(sample, split="test" if sample.name in tested else "train")
                          for sample in collection.samples]
    tested_persons = {sample.subject for sample in undecided if sample.name in tested}
    of_persons = "" if None in persons else f" (persons: {len(tested_persons)} of {len(persons)})"
    advice = f"; --val_as_test tests on its {len(val)} validation images instead" if val else ""
    collection.note(tested, f"the source has no test split: {len(tested)} images{of_persons} were cut from its "
                    f"{len(undecided)} training images to test on{advice}")
    held_out = {sample.subject for sample in (*val, *collection.split("test")) if sample.subject}
    dropped = {sample.name: sample.path for sample in collection.samples
               if sample.label == len(collection.expressions) and sample.subject in held_out}
    collection.leave_out("only for targets, of persons in the validation or test images", *dropped.values())
    collection.samples = [sample for sample in collection.samples if sample.name not in dropped]
    both = sorted(held_out & {sample.subject for sample in collection.split("train")})
    collection.note(both, f"{len(both)} persons of the training images are in the validation or test images too, e.g. "
                    f"{', '.join(both[:1])}; --folds cuts by person")


def _make_names_unique(collection: Collection, writer: "ImageWriter") -> None:
    """Give the samples the names of their images; no two of them are equal, even if a file system ignores case."""
    used, common_ending = set(), ".jpg" if writer.reencode else ".png" * writer.square
    for place, sample in enumerate(collection.samples):
        stem, ending = os.path.splitext(sample.name)
        numbers = chain([""], (f"-{number}" for number in range(2, 10 ** 9)))
        names = (f"{stem}{number}{common_ending or ending}" for number in numbers)
        name = next(name for name in names if name.lower() not in used)
        used.add(name.lower())
        collection.samples[place] = replace(sample, name=name)


def _check_complete(collection: Collection, source: Path) -> None:
    """Check that the collection is a data set to train on and to test. Raises UserError if it is not."""
    reasons = "; ".join(f"{count} {reason}" for reason, count in (+collection.left_out).items())
    left_out, expressions = f" (left out: {reasons})" if reasons else "", collection.expressions
    trained = {sample.label for sample in collection.split("train")}
    empty = [name for label, name in enumerate(expressions) if label not in trained]
    absent = [split for split in ("train", "test") if not collection.split(split)]
    refuse(
        source,
        (not collection.samples, f"no images to take{left_out}"),
        (absent, f"no images for the {' and '.join(absent)} list{left_out}; both are needed"),
        (len(expressions) < 2, f"only one expression ({' '.join(expressions)}); at least two are needed"),
        ("" in expressions, "one of its labels consists of dots alone; name the others with --expressions"),
        (len(expressions) >= MOST_EXPRESSIONS, f"has {len(expressions)} labels, such as {', '.join(expressions[:3])}, "
         f"and fewer than {MOST_EXPRESSIONS} can be expressions; choose what holds the expressions"),
        (empty, f"no training image of {', '.join(empty[:20])}{left_out}; leave it out, or add some"),
        (len({name.lower() for name in expressions}) < len(expressions),
         f"two expressions have the same name ({' '.join(expressions[:20])})"))


def _check_free(out: Path, expressions: tuple[str, ...], splits: dict[str, list[SourceSample]],
                aligned: Path | None) -> None:
    """Check that no list and no record of another data set would be replaced. Raises UserError if one would be."""
    with tempfile.TemporaryDirectory() as folder:
        write_layout(folder, expressions, splits)
        for name in LISTS:
            old, new = out / name, Path(folder) / name
            is_kept = not old.is_file() or new.is_file() and old.read_bytes() == new.read_bytes()
            refuse(old, (not is_kept, "belongs to another data set or selection; choose another --out, or replace it "
                         "with --overwrite"))
    before = alignment_of(out)
    refuse(out / RECORD_NAME, (before and before != (aligned and alignment_of(aligned)), "the images there were "
                               "aligned in another way; choose another --out, or replace them with --overwrite"))


# ------------------------------------------------------------------------------------------------- the images

@dataclass(frozen=True)
class ImageWriter:
    """Writes images into a data directory: as copies, as other pictures or, by default, as symbolic links.

    ``copy`` makes copies; ``reencode`` makes upright JPEG files with a shorter side of at most so many pixels;
    ``square`` cuts the central squares out.
    """

    copy: bool
    reencode: int | None
    square: bool = False

    def is_foreign(self, sample: SourceSample, target: Path) -> bool:
        """Return whether an existing file is neither a sample's file, nor a copy of it, nor what would be written."""
        return not target.samefile(sample.path) and target.read_bytes() not in (
            sample.path.read_bytes(), self._content(sample, target))

    def write(self, sample: SourceSample, target: Path) -> None:
        """Write one image, completely or not at all; a copy where the system refuses links, as Windows does."""
        content, unfinished = self._content(sample, target), target.with_name(f".{target.name}.part")
        with suppress(OSError, NotImplementedError):
            if content is None:  # a symbolic link works across file systems
                unfinished.unlink(missing_ok=True)
                os.symlink(sample.path.resolve(), unfinished)
                os.replace(unfinished, target)
                return
        with atomic_file(target) as handle:
            handle.write(sample.path.read_bytes() if content is None else content)

    def _content(self, sample: SourceSample, target: Path) -> bytes | None:
        """Return the bytes of a sample's image, None if it is linked."""
        if not (self.reencode or self.square or sample.is_extracted):
            return sample.path.read_bytes() if self.copy else None
        picture = _picture_of(sample)
        if self.square:
            side = min(picture.size)
            left, top = (picture.width - side) // 2, (picture.height - side) // 2
            picture = picture.crop((left, top, left + side, top + side))
        scale = self.reencode / min(picture.size) if self.reencode else 1
        if scale < 1:
            size = tuple(max(self.reencode, round(scale * length)) for length in picture.size)
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        return encoded_picture(picture, target)


def _picture_of(sample: SourceSample, least: int | None = None) -> Image.Image:
    """Return a sample's picture, cropped to the part of its box that lies inside. Raises BadPicture if none does.

    With ``least``, JPEG files may be decoded at a smaller size.
    """
    if sample.pixels is not None:
        side = math.isqrt(len(sample.pixels))
        return Image.frombytes("L", (side, side), sample.pixels)
    if sample.box is None:
        return read_picture(sample.path, least)
    picture = read_picture(sample.path)
    left, top, right, bottom = numpy.clip(sample.box, 0, (*picture.size, *picture.size)).tolist()
    if left >= right or top >= bottom:
        raise BadPicture(sample.path, "its box lies outside the picture")
    return picture.crop((left, top, right, bottom))
