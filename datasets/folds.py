"""Folds for cross-validation: the listed images that each of K runs is tested on, and those that it trains on.

All images of the training, validation and test lists are cut into folds, since a k-fold protocol knows no official
split. Target-only faces are in no class and so in no fold. They are used in training, except for those of persons
whom the fold is tested on.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy

from datasets.layout import Layout, Sample
from datasets.lists import read_label_list, shortened
from utils import UserError, derived_seed, fingerprint


def cut_folds(samples: Sequence[Sample], count: int, seed: int, by: str = "subject") -> list[list[Sample]]:
    """Cut samples into ``count`` parts that share no subject and hold nearly equal numbers of every expression.

    ``by`` is "subject", or "image" to cut without regard to persons. The parts are a function of the samples' names,
    labels and subjects and of the seed, whatever the samples' order; within a part the order is that of ``samples``.
    Raises UserError if an image has no subject, and if there are fewer subjects than parts.
    """
    if by == "subject":
        check_subjects(samples)
    keys = [sample.subject if by == "subject" else sample.name for sample in samples]
    groups: dict[str, list[Sample]] = {}
    for key, sample in zip(keys, samples):
        groups.setdefault(key, []).append(sample)
    if len(groups) < count:
        raise UserError(f"--folds {count}: there are only {len(groups)} {by}s to cut into folds; choose fewer folds")
    fold_of = _assign_folds(groups, count, seed)
    return [[sample for key, sample in zip(keys, samples) if fold_of[key] == part] for part in range(count)]


def _assign_folds(groups: dict[str, list[Sample]], count: int, seed: int) -> dict[str, int]:
    """Return the fold of every group: large groups first, each where the sum of squared counts grows least.

    Counts are divided by the size of their expression, so that a rare one weighs as much as a common one.
    """
    keys = sorted(groups)
    labels_by_group = [[sample.label for sample in groups[key]] for key in keys]
    labels = sorted({label for group in labels_by_group for label in group})
    counts = numpy.array([[group.count(label) for label in labels] for group in labels_by_group], float)
    weight = 1 / counts.sum(0) ** 2
    shuffled = numpy.random.default_rng(derived_seed(seed, "folds")).permutation(len(keys))
    order = shuffled[numpy.argsort(-counts[shuffled].sum(1), kind="stable")]
    fold_counts, fold_of = numpy.zeros((count, len(labels))), {}
    for row in order:
        growth = fold_counts @ (weight * counts[row])
        fold = int(numpy.lexsort((fold_counts.sum(1), growth))[0])  # of equal growth, the smallest fold
        fold_counts[fold] += counts[row]
        fold_of[keys[row]] = fold
    return fold_of


def check_subjects(samples: Sequence[Sample]) -> None:
    """Check that every image has a subject. Raises UserError if one has none."""
    nameless = [sample.name for sample in samples if not sample.subject]
    if nameless:
        raise UserError(f"--folds: {len(nameless)} of {len(samples)} listed images have no subject in subjects.list, "
                        f"e.g. {shortened(nameless[0])}; add them there, or cut without regard to persons with "
                        "--folds_by image")


def with_fold(layout: Layout, count: int, number: int, seed: int, by: str = "subject") -> Layout:
    """Return the layout that tests on fold ``number`` (from 1) of ``count`` and trains on the others.

    It has no validation split yet.
    """
    return _with_test_images(layout, cut_folds(layout.split("all"), count, seed, by)[number - 1], by)


def _with_test_images(layout: Layout, test: Sequence[Sample], by: str) -> Layout:
    """Return the layout with these test images, and all others to train on.

    The test images are listed among the left-out ones, and so are target-only faces of the persons in them.
    """
    names = {sample.name for sample in test}
    persons = {sample.subject for sample in test if sample.subject} if by == "subject" else set()
    return replace(layout, train=[s for s in layout.split("all") if s.name not in names], val=[], test=list(test),
                   target_only=[s for s in layout.target_only if s.subject not in persons],
                   left_out=layout.left_out + list(test) + [s for s in layout.target_only if s.subject in persons])


def fold_list(number: int) -> str:
    """Return the name of the list in which a run keeps the images of its fold."""
    return f"fold_{number:02d}.list"


def fold_metadata(test: Sequence[Sample], number: int, count: int, by: str, seed: int) -> dict[str, Any]:
    """Return what a checkpoint records about the fold that it was not trained on."""
    return {"number": number, "of": count, "by": by, "seed": seed, "images": fingerprint(sorted(s.name for s in test))}


def with_kept_fold(layout: Layout, run: Path, fold: Mapping[str, Any]) -> Layout:
    """Return the layout that tests on the images of a run's fold, or the same layout if it lists none of them.

    ``run`` is the run's directory, which holds the list of the fold, and ``fold`` is what its checkpoint records
    (:func:`fold_metadata`). Raises UserError if the list is missing or is that of another fold, and if some of its
    images are no longer among the data.
    """
    path = run / "splits" / fold_list(fold["number"])
    if not path.is_file():
        raise UserError(f"{path}: no such file, and nothing else tells which images this run was not trained on; "
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
    return _with_test_images(layout, test, fold["by"])


def check_kept_fold(test: Sequence[Sample], path: Path) -> None:
    """Check that a resumed run is tested on the images in its list of the fold. Raises UserError if it is not."""
    if path.is_file() and set(read_label_list(path)) != {sample.name for sample in test}:
        raise UserError(f"{path}: the lists of the data have changed since this fold was cut, so the run may have been "
                        "trained on images of its test list; restore the lists, or start anew with --overwrite")
