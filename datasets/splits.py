"""The validation split and the pairs to synthesize, which a training derives from the lists (METHOD §4).

Neither is written into the data directory: a run keeps them with its checkpoint.
"""

from array import array
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Iterator, Sequence

import numpy

from datasets.layout import Layout, Sample, check_neutral
from datasets.lists import is_integer, numbered_lines, read_label_list, shortened
from utils import UserError, derived_seed


VALIDATION_FRACTION = 0.1  # of the training images


def with_validation(layout: Layout, seed: int) -> Layout:
    """Return the layout with a validation split: its own, or a tenth cut from training by the seed.

    The cut goes by subject if ``subjects.list`` names them, so that no person is on both sides, and keeps the
    proportions of the expressions. Every expression keeps a training image.
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
    return replace(layout, train=[s for s in layout.train if s.name not in names],
                   val=[s for s in layout.train if s.name in names])


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
