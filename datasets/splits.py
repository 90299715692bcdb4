"""The validation split, the pairs to synthesize and the folds, which a training derives from the lists (METHOD §4).

None of them is written into the data directory: a run keeps them with its checkpoint. Folds for cross-validation are
the listed images that each of K runs is tested on. All images of the training, validation and test lists are cut into
folds, since a k-fold protocol knows no official split. Target-only faces are in no class and so in no fold. They are
used in training, except for those of persons whom the fold is tested on.
"""

from array import array
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

import numpy

from datasets.layout import Layout, Sample, check_neutral
from datasets.lists import is_integer, numbered_lines, read_label_list, shortened
from utils import UserError, derived_seed, fingerprint

VALIDATION_FRACTION = 0.1  # of the training images


def with_validation(layout: Layout, seed: int) -> Layout:
    """Return the layout with a validation split: its own, or a tenth cut from training by the seed.

    The cut goes by subject if ``subjects.list`` names them, so that no person is on both sides, not even as a target
    of synthesis, and keeps the proportions of the expressions. Every expression keeps a training image.
    """
    if layout.val:
        return layout
    return _with_validation_names(layout, choose_validation(layout.train, VALIDATION_FRACTION, seed))


def with_kept_validation(layout: Layout, run: Path) -> Layout:
    """Return the layout with its own validation split, or with the one that a run keeps with its checkpoint.

    ``run`` is the run's directory. Raises UserError if the run's images are no longer among the training images.
    """
    path = run / "splits" / "images_val.list"
    if layout.val or not path.is_file() or not path.stat().st_size:
        return layout
    names = set(read_label_list(path))
    missing = names - {sample.name for sample in layout.train}
    if missing:
        raise UserError(f"{layout.root}: {len(missing)} images of the run's validation split are no longer "
                        "among its training images; restore the lists, or start a new run")
    return _with_validation_names(layout, names)


def _with_validation_names(layout: Layout, names: set[str]) -> Layout:
    val = [s for s in layout.train if s.name in names]
    return replace(_without_targets_of(layout, val), train=[s for s in layout.train if s.name not in names], val=val)


def _without_targets_of(layout: Layout, samples: Sequence[Sample]) -> Layout:
    """Return the layout without the target-only faces of the persons in some samples: they are left out."""
    persons = {sample.subject for sample in samples if sample.subject}
    kept, left_out = ([s for s in layout.target_only if (s.subject in persons) == is_out] for is_out in (False, True))
    return replace(layout, target_only=kept, left_out=layout.left_out + left_out)


def choose_validation(train: Sequence[Sample], fraction: float, seed: int) -> set[str]:
    """Choose the names of a fraction of the samples, by whole subjects, in the proportions of the expressions.

    Groups (a subject's images, or single images) come in random order. A group is chosen if it brings the counts nearer
    to the fraction.
    """
    total = Counter(sample.label for sample in train)
    missing = {label: max(1.0, fraction * count) if count > 1 else 0.0 for label, count in total.items()}
    groups: dict[str, list[Sample]] = {}
    for sample in train:
        groups.setdefault(f"subject {sample.subject}" if sample.subject else f"image {sample.name}", []).append(sample)
    random = numpy.random.default_rng(derived_seed(seed, "validation"))
    keys = sorted(groups)
    chosen: set[str] = set()
    remaining = Counter(total)
    for key in (keys[i] for i in random.permutation(len(keys))):
        counts = Counter(sample.label for sample in groups[key])
        gain = sum(missing[k] ** 2 - (missing[k] - c) ** 2 for k, c in counts.items())
        if gain > 0 and all(remaining[k] > c for k, c in counts.items()):
            chosen.update(sample.name for sample in groups[key])
            for label, count in counts.items():
                missing[label] -= count
                remaining[label] -= count
    return chosen


def sample_pairs(layout: Layout, seed: int, per_image: int = 6, any_target: bool = False) -> numpy.ndarray:
    """Draw ``per_image`` random neutral training images as targets for every training image (METHOD §4).

    Returns (P, 2) positions of sources and targets in ``layout.train + layout.target_only``. ``any_target`` (not in
    METHOD) draws training images of any other expression as targets instead. Raises UserError if there is no target.
    """
    labels = numpy.array([sample.label for sample in layout.train + layout.target_only])
    draw = _draw_any_targets if any_target else _draw_neutral_targets
    targets = draw(layout, labels, seed, per_image)
    return numpy.stack([numpy.repeat(numpy.arange(len(targets)), per_image), targets.ravel()], 1)


def _draw_any_targets(layout: Layout, labels: numpy.ndarray, seed: int, per_image: int) -> numpy.ndarray:
    random = numpy.random.default_rng(derived_seed(seed, "pairs", "any"))
    chosen = numpy.empty((len(layout.train), per_image), numpy.int64)
    without_label = {label: numpy.flatnonzero(labels != label) for label in numpy.unique(labels[:len(chosen)])}
    for row, label in zip(chosen, labels):
        targets = without_label[label]
        row[:] = targets[random.integers(len(targets), size=per_image)]
    return chosen


def _draw_neutral_targets(layout: Layout, labels: numpy.ndarray, seed: int, per_image: int) -> numpy.ndarray:
    check_neutral(layout)
    targets = numpy.arange(len(layout.train), len(labels)) if layout.target_only else \
        numpy.flatnonzero(labels == layout.neutral)
    if not len(targets):
        raise UserError(f"{layout.root}: no neutral training image to be a target of synthesis; "
                        "name the expression that serves with --neutral NAME")
    random = numpy.random.default_rng(derived_seed(seed, "pairs"))
    chosen = numpy.empty((len(layout.train), per_image), numpy.int64)
    count = min(per_image, len(targets))
    for row in chosen:
        row[:count] = random.choice(len(targets), count, replace=False)
        row[count:] = random.integers(len(targets), size=per_image - count)
    return targets[chosen]


def pair_lines(samples: Sequence[Sample], pairs: numpy.ndarray) -> Iterator[str]:
    """Yield ``<source stem>_<target name> <label>`` for pairs of positions (P, 2) in ``samples`` (METHOD §4)."""
    for source, target in zip(*map(numpy.ndarray.tolist, pairs.T)):
        yield f"{_stem(samples[source].name)}_{samples[target].name} {samples[source].label}\n"


def read_pairs(path: Path, samples: Sequence[Sample]) -> numpy.ndarray:
    """Read an ``images_gan_nature.list`` into (P, 2) positions of sources and targets in ``samples``.

    A name with several underscores is split where both parts are names of samples. Raises UserError if a line names no
    pair of the samples.
    """
    by_stem: dict[str, int] = {}
    for i, sample in enumerate(samples):
        by_stem.setdefault(_stem(sample.name), i)
    by_name = {sample.name: i for i, sample in enumerate(samples)}
    pairs = array("q")
    for number, line in numbered_lines(path):
        name, _, label = line.strip().rpartition(" ")
        cuts = (i for i, letter in enumerate(name) if letter == "_")
        cut = next((i for i in cuts if name[i + 1:] in by_name and name[:i] in by_stem), None)
        if cut is None or not is_integer(label):
            raise UserError(f"{path}, line {number}: \"{shortened(line)}\" is not "
                            "\"<source stem>_<target name> <label>\" of listed training images")
        pairs.extend((by_stem[name[:cut]], by_name[name[cut + 1:]]))
    return numpy.array(pairs, numpy.int64).reshape(-1, 2)


def training_pairs(layout: Layout, seed: int, per_image: int, any_target: bool = False) -> numpy.ndarray:
    """Return the pairs to synthesize: those of the directory's own list, or :func:`sample_pairs` (METHOD §4).

    They are (P, 2) positions of sources and targets in ``layout.train + layout.target_only``. Raises UserError if the
    directory's list names no pair of training images, or without ``any_target`` a target that is not neutral.
    """
    path = layout.root / "images_gan_nature.list"
    if not path.is_file():
        return sample_pairs(layout, seed, per_image, any_target)
    training = layout.train + layout.target_only
    listed = training + layout.val + layout.left_out
    pairs = read_pairs(path, listed)
    if not any_target:
        check_neutral(layout)
        other = next((listed[i] for i in pairs[:, 1] if listed[i].label not in (layout.neutral, -1)), None)
        if other:
            raise UserError(f"{path}: the target {other.name} is {layout.expressions[other.label]}, and "
                            "targets must be neutral faces; say with --neutral which expression they show")
    pairs = pairs[(pairs < (len(layout.train), len(training))).all(1)]  # target-only faces are no sources
    if not len(pairs):
        raise UserError(f"{path}: none of its pairs consists of training images; correct it, or move it away")
    return pairs


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0] if "." in name.rsplit("/", 1)[-1] else name


# ---------------------------------------------------------------------------------------------------------------- folds

def cut_folds(samples: Sequence[Sample], count: int, seed: int, by: str = "subject") -> list[list[Sample]]:
    """Cut samples into ``count`` parts that share no subject and hold nearly equal numbers of every expression.

    ``by`` is "subject", or "image" to cut without regard to persons. The parts are a function of the samples' names,
    labels and subjects and of the seed, whatever the samples' order; within a part the order is that of ``samples``.
    Raises UserError if an image has no subject, and if there are fewer subjects than parts.
    """
    nameless = [sample.name for sample in samples if not sample.subject]
    if by == "subject" and nameless:
        raise UserError(f"--folds: {len(nameless)} of {len(samples)} listed images have no subject in subjects.list, "
                        f"e.g. {shortened(nameless[0])}; import again with --subject_regex, or add them there "
                        "(--folds_by image cuts without regard to persons, who are then in several folds)")
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
    rest = replace(layout, train=[s for s in layout.split("all") if s.name not in names], val=[], test=list(test),
                   left_out=layout.left_out + list(test))
    return _without_targets_of(rest, test if by == "subject" else ())


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
