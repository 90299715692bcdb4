"""Folds for cross-validation: which of all listed images each of K runs is tested on, and what it trains on then.

All images of the training, validation and test lists are cut into folds, since a k-fold protocol knows no official
split. Target-only faces are in no class and so in no fold; they serve in training, but for those of the persons that
a fold is tested on.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy

from datasets.layout import Layout, Sample
from datasets.lists import read_label_list, shortened
from utils import UserError, derived_seed, fingerprint


def cut_folds(samples: Sequence[Sample], count: int, seed: int, by: str = "subject") -> list[list[Sample]]:
    """The samples in ``count`` parts that share no subject and hold nearly equal numbers of every expression.

    ``by`` is "subject", or "image" to cut without regard to persons. The parts are a function of the samples' names,
    labels and subjects and of the seed, whatever their order; within a part the order is that of ``samples``. UserError
    for images without a subject, and for fewer subjects than parts.
    """
    if by == "subject":
        check_subjects(samples)
    keys = [sample.subject if by == "subject" else sample.name for sample in samples]
    groups: dict[str, list[Sample]] = {}
    for key, sample in zip(keys, samples):
        groups.setdefault(key, []).append(sample)
    if len(groups) < count:
        raise UserError(f"--folds {count}: there are only {len(groups)} {by}s to cut into folds; take fewer folds")
    chosen = _assigned(groups, count, seed)
    return [[sample for key, sample in zip(keys, samples) if chosen[key] == part] for part in range(count)]


def _assigned(groups: dict[str, list[Sample]], count: int, seed: int) -> dict[str, int]:
    """The fold of every group: large groups first, each where the sum of squared counts grows least.

    Counts are shares of their expression, so that a rare one weighs as much as a common one.
    """
    keys = sorted(groups)
    labels = sorted({sample.label for group in groups.values() for sample in group})
    shown = [[sample.label for sample in groups[key]] for key in keys]
    counts = numpy.array([[group.count(label) for label in labels] for group in shown], float)
    weight = 1 / counts.sum(0) ** 2
    shuffled = numpy.random.default_rng(derived_seed(seed, "folds")).permutation(len(keys))
    order = shuffled[numpy.argsort(-counts[shuffled].sum(1), kind="stable")]
    held, sizes, chosen = numpy.zeros((count, len(labels))), numpy.zeros(count), {}
    for row in order:
        growth = held @ (weight * counts[row])
        fold = int(numpy.lexsort((sizes, growth))[0])
        held[fold] += counts[row]
        sizes[fold] += counts[row].sum()
        chosen[keys[row]] = fold
    return chosen


def check_subjects(samples: Sequence[Sample]) -> None:
    """Raise UserError if an image has no subject."""
    nameless = [sample.name for sample in samples if not sample.subject]
    if nameless:
        raise UserError(f"--folds: {len(nameless)} of {len(samples)} listed images have no subject in subjects.list, "
                        f"e.g. {shortened(nameless[0])}; add them there, or cut without regard to persons with "
                        "--folds_by image")


def with_fold(layout: Layout, count: int, number: int, seed: int, by: str = "subject") -> Layout:
    """The layout of fold ``number`` (from 1) of ``count``: tested on it, trained on the others, nothing cut off yet."""
    return tested_on(layout, cut_folds(layout.split("all"), count, seed, by)[number - 1], by)


def tested_on(layout: Layout, test: Sequence[Sample], by: str = "subject") -> Layout:
    """The layout with other test images, and all others to train on; those of the training list count as left out."""
    names = {sample.name for sample in test}
    persons = {sample.subject for sample in test if sample.subject} if by == "subject" else set()
    return replace(layout, train=[s for s in layout.split("all") if s.name not in names], val=[], test=list(test),
                   target_only=[s for s in layout.target_only if s.subject not in persons],
                   left_out=layout.left_out + list(test)
                   + [s for s in layout.target_only if s.subject in persons])


def fold_list(number: int) -> str:
    """The name of the list that a run keeps of its fold."""
    return f"fold_{number:02d}.list"


def list_text(samples: Sequence[Sample]) -> str:
    """The text of such a list: ``<file name> <label>`` per line."""
    return "".join(f"{sample.name} {sample.label}\n" for sample in samples)


def described_fold(test: Sequence[Sample], number: int, count: int, by: str, seed: int) -> dict[str, Any]:
    """What a checkpoint says of the fold that it was not trained on."""
    return {"number": number, "of": count, "by": by, "seed": seed, "images": fingerprint(sorted(s.name for s in test))}


def with_kept_fold(layout: Layout, run: Path, fold: Mapping[str, Any]) -> Layout:
    """The layout tested on the images that a run has kept as its fold's; unchanged where it holds none of them.

    ``run`` is the run's directory, ``fold`` what its checkpoint says (:func:`described_fold`). Raises UserError if
    the list is not there or another's, and where the data have lost some of its images. """
    path = run / "splits" / fold_list(fold["number"])
    if not path.is_file():
        raise UserError(f"{path}: no such file, and it alone says which images this run was not trained on; "
                        "restore it from a backup")
    names = set(read_label_list(path))
    if fingerprint(sorted(names)) != fold["images"]:
        raise UserError(f"{path}: does not list the images that this run is tested on; restore it from a backup")
    test = [sample for sample in layout.split("all") if sample.name in names]
    if not test:
        return layout
    if len(test) < len(names):
        raise UserError(f"{layout.root}: {len(names) - len(test)} of {len(names)} images of {path} are no longer "
                        "listed; restore the lists, or start a new run")
    return tested_on(layout, test, fold["by"])


def check_kept_fold(test: Sequence[Sample], path: Path) -> None:
    """Raise UserError if a resumed run would be tested on other images than those of the fold that it has kept."""
    if path.is_file() and set(read_label_list(path)) != {sample.name for sample in test}:
        raise UserError(f"{path}: the lists of the data have changed since this fold was cut, and it may have been "
                        "trained on some of its test images now; put the lists back, or start anew with --overwrite")
