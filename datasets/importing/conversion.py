"""What an importer has found → a data directory."""

import os
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from datasets.checking.overview import table
from datasets.importing.collection import Collection, FoundSample
from datasets.importing.images import ImageWriter, fault_of, is_foreign
from datasets.layout import read_layout, write_layout
from datasets.lists import LISTS
from datasets.names import explain_adapted
from datasets.splits import choose_validation
from datasets.walking import describe
from utils import UserError, progress


def convert(found: Collection, source: Path, out: Path, writer: ImageWriter, *, test: float | set[str], seed: int,
            overwrite: bool) -> None:
    """Write the images and lists of a collection from ``source`` into ``out``, and say what was taken and left out.

    ``test`` is the share of the undecided samples, or the subjects, that are tested on; ``seed`` draws them. Images
    that an earlier run has written are left alone. Raises UserError, before anything is written, if the collection is
    no data set to train on, or if a list or an image of another one would be replaced without ``overwrite``.
    """
    found.sort_by_split()
    _unify_subjects(found)
    _drop_repeated(found)
    _drop_broken(found)
    _count_the_rest(found)
    _decide_splits(found, test, seed)
    _make_names_unique(found, writer)
    _check_complete(found, source)
    splits = {split: sorted(found.split(split), key=lambda sample: sample.name) for split in ("train", "val", "test")}
    samples, images = [sample for split in splits.values() for sample in split], out / "data"
    with ThreadPoolExecutor(4) as pool:
        current = pool.map(lambda sample: writer.is_current(images / sample.name, sample), samples)
        waiting = [sample for sample, there in zip(samples, current) if not there]
        if not overwrite:
            _check_free(out, found.expressions, splits, waiting)
        images.mkdir(parents=True, exist_ok=True)
        written = pool.map(lambda sample: writer.write(sample, images / sample.name), waiting)
        list(progress(written, "writing", len(waiting), "image"))
    write_layout(out, found.expressions, splits, remove=True)
    _report(found, source, out, len(waiting))


def _report(found: Collection, source: Path, out: Path, written: int) -> None:
    """Print what became of all files of the source, and of all rows of its list if a row is a face."""
    samples = found.samples
    print(f"{out}: {len(samples)} images ({f'{written} of them new' if written else 'all there already'})")
    for reason, count in sorted(found.left_out.items()):
        print(f"left out: {count} images {reason}")
    if not any(sample.subject for sample in samples):
        found.notes.append("no subject is known, so one person may be in the training and in the validation or test "
                           "images, whose accuracy then flatters; tell subjects with --subject_regex, or in "
                           "subjects.list")
    for note in found.notes:
        print(f"note: {note}")
    print(table(read_layout(out)))
    sums = []
    if found.walk:
        taken, passed, images = {sample.path for sample in samples}, found.walk.passed_over(), len(found.walk.images)
        sums.append(f"{images + passed.total()} files: {len(taken)} taken, {describe(passed)}, "
                    f"{images - len(taken)} refused")
    if found.rows:
        sums.append(f"{found.rows} rows: {len(samples)} taken, {found.rows - len(samples)} refused")
    print(f"{source}: {'; '.join(sums)}")


def _unify_subjects(found: Collection) -> None:
    """Give subjects that differ in case alone one spelling: they are one person."""
    spelled: dict[str | None, str | None] = {None: None}
    for sample in found.samples:
        if sample.subject:
            spelled.setdefault(sample.subject.casefold(), sample.subject)
    double = {sample.subject for sample in found.samples if sample.subject} - set(spelled.values())
    if double:
        one = min(double)
        found.notes.append(f"{len(double)} subjects are written in two ways, e.g. {one} and {spelled[one.casefold()]}; "
                           "each is taken for one person")
        found.samples = [replace(sample, subject=sample.subject and spelled[sample.subject.casefold()])
                         for sample in found.samples]


def _drop_repeated(found: Collection) -> None:
    """Leave out all but the first of samples that are one file or one face in it.

    Raises UserError if these have different labels, splits or subjects.
    """
    first: dict[tuple, FoundSample] = {}
    folder_of = lru_cache(None)(os.path.realpath)
    samples, found.samples = found.samples, []
    for sample in samples:
        path = Path(os.path.realpath(sample.path)) if sample.path.is_symlink() else sample.path
        one = first.setdefault((folder_of(path.parent), path.name, sample.box), sample)
        if one is sample or sample.pixels is not None:
            found.samples.append(sample)
        else:
            _check_same(sample, one, (*found.expressions, "target only"))
            found.leave_out("that are there before", sample.path)


def _check_same(sample: FoundSample, other: FoundSample, labels: tuple[str, ...]) -> None:
    for what, first, second in (("label", labels[other.label], labels[sample.label]),
                                ("split", other.split, sample.split), ("subject", other.subject, sample.subject)):
        if first != second:
            also = "" if sample.path == other.path else f" (it is {other.path} as well)"
            advice = "" if sample.box else ", or if a table lists several faces of a picture, name their boxes with " \
                "--box_columns LEFT TOP RIGHT BOTTOM"
            raise UserError(f"{sample.path}{also}: is taken twice, with the {what} {first} and with {second}; correct "
                            f"it{advice}")


def _drop_broken(found: Collection) -> None:
    """Leave out images with a fault, so that the lists never name them. All are decoded, JPEG files as small ones."""
    samples, found.samples = found.samples, []
    with ThreadPoolExecutor(8) as pool:
        faults = progress(pool.map(fault_of, samples), "looking at images", len(samples), "image")
        for sample, fault in zip(samples, faults):
            if fault:
                found.leave_out(f"that cannot be used: {fault}", sample.path)
            else:
                found.samples.append(sample)


def _count_the_rest(found: Collection) -> None:
    """Count listed names without a file, and images that nothing has named."""
    for names in found.names:
        if names.missing:
            found.left_out[f"listed but missing below {names.root}, {names.explain_missing()}"] += len(names.missing)
        if names.adapted:
            found.notes.append(explain_adapted(names.adapted, next(iter(names.adapted))))
    if found.walk:
        known = found.refused | {sample.path for sample in found.samples}
        found.left_out += Counter({"that no list names": sum(path not in known for path in found.walk.images)})


def _decide_splits(found: Collection, test: float | set[str], seed: int) -> None:
    """Give the undecided samples to training and test, every subject to one side only."""
    undecided = found.split(None)
    if isinstance(test, set):
        unknown = sorted(test - {sample.subject for sample in undecided})
        if unknown:
            raise UserError(f"--test_subjects: no images of {', '.join(unknown[:5])}")
        chosen = {sample.name for sample in undecided if sample.subject in test}
    else:
        together = [replace(sample, subject=sample.subject or f"picture {sample.path}") if sample.box else sample
                    for sample in undecided]  # the faces of a picture stay on one side
        chosen = choose_validation(together, test, seed)
    found.samples = [sample if sample.split else
                     replace(sample, split="test" if sample.name in chosen else "train") for sample in found.samples]
    found.sort_by_split()


def _make_names_unique(found: Collection, writer: ImageWriter) -> None:
    """Give the samples the names of their images, no two of them equal, not even where a file system ignores case."""
    used: set[str] = set()
    samples, found.samples = found.samples, []
    for sample in samples:
        first = name = writer.name(sample)
        stem, dot, ending = first.rpartition(".")
        number = 1
        while name.lower() in used:
            number += 1
            name = f"{stem}-{number}{dot}{ending}"
        used.add(name.lower())
        found.samples.append(replace(sample, name=name))


def _check_complete(found: Collection, source: Path) -> None:
    """Raise UserError if the collection is no data set to train on and to test."""
    reasons = "; ".join(f"{count} {reason}" for reason, count in found.left_out.items())
    reason_text = f" (left out: {reasons})" if reasons else ""
    if not found.samples:
        raise UserError(f"{source}: no images to take{reason_text}")
    for split in ("train", "test"):
        if not found.split(split):
            raise UserError(f"{source}: no images for the {split} list{reason_text}; both are needed")
    trained = {sample.label for sample in found.split("train")}
    empty = [name for label, name in enumerate(found.expressions) if label not in trained]
    if empty and len(found.expressions) > 1:
        raise UserError(f"{source}: no training image of {', '.join(empty)}{reason_text}; leave it out, or add some")
    if len(found.expressions) < 2:
        raise UserError(f"{source}: only one expression ({found.expressions[0]}); at least two are needed")
    if len({name.lower() for name in found.expressions}) < len(found.expressions):
        raise UserError(f"{source}: two expressions have one name ({' '.join(found.expressions)})")


def _check_free(out: Path, expressions: tuple[str, ...], splits: dict[str, list[FoundSample]],
                waiting: list[FoundSample]) -> None:
    """Raise UserError if a list or an image of another data set would be replaced."""
    with tempfile.TemporaryDirectory() as folder:
        write_layout(folder, expressions, splits)
        for name in LISTS:
            old, new = out / name, Path(folder) / name
            if old.is_file() and not (new.is_file() and old.read_bytes() == new.read_bytes()):
                raise UserError(f"{old}: belongs to another data set or selection; choose another --out, "
                                "or replace it with --overwrite")
    foreign = [target for sample in waiting if is_foreign(target := out / "data" / sample.name, sample)]
    if foreign:
        raise UserError(f"{foreign[0]}: another image has this name ({len(foreign)} such); choose another --out, "
                        "or replace it with --overwrite")
