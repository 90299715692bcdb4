"""What an importer has found → a data directory."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from datasets.checking.overview import table
from datasets.importing.collection import BoxSample, Collection, PixelSample
from datasets.importing.images import ImageWriter, fault_of, is_foreign
from datasets.layout import Layout, Sample, read_layout, write_layout
from datasets.lists import LISTS
from datasets.splits import with_validation
from datasets.walking import describe
from utils import UserError, progress


def convert(found: Collection, source: Path, out: Path, writer: ImageWriter, *, seed: int = 0,
            overwrite: bool = False) -> None:
    """Write the images and lists of a collection from ``source`` into ``out``, and say what was taken and left out.

    ``seed`` draws the test images among those without a split. Images that an earlier run has written are left alone.
    UserError, before anything is written, where the collection is no data set to train on, and where a list or an image
    of another one would be replaced without ``overwrite``.
    """
    unify_subjects(found)
    _drop_repeated(found)
    _drop_broken(found)
    _count_the_rest(found)
    decide_splits(found, seed)
    found.name_apart(writer.name)
    _check_complete(found, source)
    splits = {split: sorted(samples, key=lambda sample: sample.name) for split, samples in found.splits.items()}
    samples = [sample for split in splits.values() for sample in split]
    images = out / "data"
    with ThreadPoolExecutor(4) as pool:
        current = pool.map(lambda sample: writer.is_current(images / sample.name, sample), samples)
        waiting = [sample for sample, there in zip(samples, current) if not there]
    if not overwrite:
        _check_free(out, found.expressions, splits, waiting)

    _write_images(waiting, images, writer)
    write_layout(out, found.expressions, splits, remove=True)
    done = f"{len(waiting)} of them new" if waiting else "all there already"
    print(f"{out}: {len(samples)} images ({done})")
    for reason, count in sorted(found.left_out.items()):
        print(f"left out: {count} images {reason}")
    if not any(sample.subject for sample in samples):
        found.notes.append("no subject is known, so one person may be in the training and in the validation or test "
                           "images, whose accuracy then flatters; tell subjects with --subject_regex, or in subjects.list")
    for note in found.notes:
        print(f"note: {note}")
    print(table(read_layout(out)))
    print(f"{source}: {'; '.join(account(found))}")


def account(found: Collection) -> list[str]:
    """Count what became of all files of the source, and of all rows of its list if a row is a face."""
    samples, sums = found.everything(), []
    if found.walk:
        taken, passed, images = {sample.path for sample in samples}, found.walk.passed_over(), len(found.walk.images)
        sums.append(f"{images + passed.total()} files: {len(taken)} taken, {describe(passed)}, "
                    f"{images - len(taken)} refused")
    if found.rows:
        sums.append(f"{found.rows} rows: {len(samples)} taken, {found.rows - len(samples)} refused")
    return sums


def unify_subjects(found: Collection) -> None:
    """Give subjects that differ in case alone one spelling: they are one person."""
    spelled: dict[str, str] = {}
    for sample in found.everything():
        if sample.subject:
            spelled.setdefault(sample.subject.casefold(), sample.subject)
    double = {sample.subject for sample in found.everything() if sample.subject} - set(spelled.values())
    if double:
        one = min(double)
        found.notes.append(f"{len(double)} subjects are written in two ways, e.g. {one} and {spelled[one.casefold()]}; "
                           "each is taken for one person")
        found.map(lambda sample: replace(sample, subject=sample.subject and spelled[sample.subject.casefold()]))


def _drop_repeated(found: Collection) -> None:
    """Leave out all but the first of samples that are one file or one face in it.

    Raises UserError if these have different labels, splits or subjects.
    """
    first: dict[tuple, tuple[Sample, str | None]] = {}
    repeated: dict[int, Sample] = {}
    folder_of = lru_cache(None)(os.path.realpath)
    splits = [(split, sample) for split, part in (*found.splits.items(), (None, found.undecided)) for sample in part]
    for split, sample in splits:
        if isinstance(sample, PixelSample):
            continue
        path = Path(os.path.realpath(sample.path)) if sample.path.is_symlink() else sample.path
        key = folder_of(path.parent), path.name, getattr(sample, "box", None)
        one, its_split = first.setdefault(key, (sample, split))
        if one is not sample:
            labels = (*found.expressions, "target only")
            _check_same(sample, one.path, {"label": (labels[one.label], labels[sample.label]),
                                           "split": (its_split, split), "subject": (one.subject, sample.subject)})
            repeated[id(sample)] = sample
    found.left_out += Counter({"that are there before": len(repeated)})
    found.refused.update(sample.path for sample in repeated.values())
    found.keep(lambda sample: id(sample) not in repeated)


def _check_same(sample: Sample, other: Path, properties: dict[str, tuple]) -> None:
    for what, (first, second) in properties.items():
        if first != second:
            also = "" if sample.path == other else f" (it is {other} as well)"
            advice = "" if isinstance(sample, BoxSample) else ", or if a table lists several faces of a picture, " \
                "name their boxes with --box_columns LEFT TOP RIGHT BOTTOM"
            raise UserError(f"{sample.path}{also}: is taken twice, with the {what} {first} and with {second}; correct "
                            f"it{advice}")


def _drop_broken(found: Collection) -> None:
    """Leave out images with a fault, so that the lists never name them. All are decoded, JPEG files as small ones."""
    samples = found.everything()
    with ThreadPoolExecutor(8) as pool:
        faults = list(progress(pool.map(fault_of, samples), "looking at images", len(samples), "image"))
    found.left_out += Counter(f"that cannot be used: {fault}" for fault in faults if fault)
    broken = {id(sample): sample.path for sample, fault in zip(samples, faults) if fault}
    found.refused.update(broken.values())
    found.keep(lambda sample: id(sample) not in broken)


def _count_the_rest(found: Collection) -> None:
    """Count listed names without a file, and images that nothing has named."""
    for names in found.names:
        if names.missing:
            found.left_out[f"listed but missing below {names.root}, {names.explain_missing()}"] += len(names.missing)
        if names.adapted:
            found.notes.append(names.explain_adapted())
    if found.walk:
        known = found.refused | {sample.path for sample in found.everything()}
        found.left_out += Counter({"that no list names": sum(path not in known for path in found.walk.images)})


def decide_splits(found: Collection, seed: int) -> None:
    """Give the undecided samples to training and test, every subject to one side only."""
    samples, found.undecided = found.undecided, []
    if isinstance(found.test, set):
        unknown = sorted(found.test - {sample.subject for sample in samples})
        if unknown:
            raise UserError(f"--test_subjects: no images of {', '.join(unknown[:5])}")
        chosen = {sample.name for sample in samples if sample.subject in found.test}
    else:
        together = [replace(sample, subject=sample.subject or f"picture {sample.path}")  # of several faces
                    if isinstance(sample, BoxSample) else sample for sample in samples]
        layout = Layout(Path(), found.expressions, None, together, [], [])
        chosen = {sample.name for sample in with_validation(layout, seed, found.test).val}
    found.splits["train"] += [sample for sample in samples if sample.name not in chosen]
    found.splits["test"] += [sample for sample in samples if sample.name in chosen]


def _check_complete(found: Collection, source: Path) -> None:
    reasons = "; ".join(f"{count} {reason}" for reason, count in found.left_out.items())
    reason_text = f" (left out: {reasons})" if reasons else ""
    counted = {split: len(samples) for split, samples in found.splits.items()}
    if not any(counted.values()):
        raise UserError(f"{source}: no images to take{reason_text}")
    for split in ("train", "test"):
        if not counted[split]:
            raise UserError(f"{source}: no images for the {split} list{reason_text}; both are needed")
    trained = {sample.label for sample in found.splits["train"]}
    empty = [name for label, name in enumerate(found.expressions) if label not in trained]
    if empty and len(found.expressions) > 1:
        raise UserError(f"{source}: no training image of {', '.join(empty)}{reason_text}; leave it out, or add some")
    if len(found.expressions) < 2:
        raise UserError(f"{source}: only one expression ({found.expressions[0]}); at least two are needed")
    if len({name.lower() for name in found.expressions}) < len(found.expressions):
        raise UserError(f"{source}: two expressions have one name ({' '.join(found.expressions)})")


def _check_free(out: Path, expressions: tuple[str, ...], splits: dict[str, list[Sample]],
                waiting: list[Sample]) -> None:
    """Raises UserError if a list or an image of another data set would be replaced."""
    with tempfile.TemporaryDirectory() as folder:
        write_layout(folder, expressions, splits)
        for name in LISTS:
            old, new = out / name, Path(folder) / name
            if old.is_file() and not (new.is_file() and old.read_bytes() == new.read_bytes()):
                raise UserError(f"{old}: belongs to another data set or selection; choose another --out, "
                                "or replace it with --overwrite")
    taken = [out / "data" / s.name for s in waiting if is_foreign(out / "data" / s.name, s)]
    if taken:
        raise UserError(f"{taken[0]}: another image has this name ({len(taken)} such); choose another --out, "
                        "or replace it with --overwrite")


def _write_images(waiting: list[Sample], images: Path, writer: ImageWriter) -> None:
    images.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(4) as pool:
        list(progress(pool.map(lambda sample: writer.write(sample, images / sample.name), waiting), "writing",
                      len(waiting), "image"))
