"""What a training derives from the lists: the validation split and the pairs to synthesize (METHOD §4).

Neither is written into the data directory: a run keeps them with its checkpoint.
"""

from array import array
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Iterable, Iterator, Sequence

import numpy

from datasets.layout import Layout, Sample, check_neutral
from datasets.lists import is_integer, numbered_lines, read_label_list, shortened
from utils import UserError, derived_seed


def with_validation(layout: Layout, seed: int, share: float = 0.1) -> Layout:
    """The layout with a validation split: its own, or ``share`` cut from training by the seed.

    The cut goes by subject where ``subjects.list`` knows them, so that no person is on both sides, and keeps the
    shares of the expressions. Every expression keeps a training image.
    """
    if layout.val:
        return layout
    return _validated(layout, choose_validation(layout.train, share, seed))


def with_validation_names(layout: Layout, names: Iterable[str]) -> Layout:
    """Return the layout with the validation split that a run has cut. Raises UserError if the data has changed."""
    names, listed = set(names), {sample.name for sample in layout.train}
    if not names <= listed:
        raise UserError(f"{layout.root}: {len(names - listed)} images of the run's validation split are no longer "
                        "among its training images; restore the lists, or start a new run")
    return _validated(layout, names)


def _validated(layout: Layout, names: set[str]) -> Layout:
    return replace(layout, train=[s for s in layout.train if s.name not in names],
                   val=[s for s in layout.train if s.name in names])


def with_kept_validation(layout: Layout, run: Path) -> Layout:
    """The layout with the validation split that a run keeps with its checkpoint; its own comes first, where it has one.

    ``run`` is the run's directory. Raises UserError if the data has changed since.
    """
    kept = run / "splits" / "images_val.list"
    if layout.val or not kept.is_file() or not kept.stat().st_size:
        return layout
    return with_validation_names(layout, read_label_list(kept))


def choose_validation(train: Sequence[Sample], share: float, seed: int) -> set[str]:
    """Choose a share of the samples by name, whole subjects, with the shares of the expressions kept.

    Groups (a subject's images, or single images) come in random order, each taken if it brings the counts nearer.
    """
    total = Counter(sample.label for sample in train)
    missing = {label: max(1.0, share * count) if count > 1 else 0.0 for label, count in total.items()}
    groups: dict[str, list[Sample]] = {}
    for sample in train:
        groups.setdefault(f"subject {sample.subject}" if sample.subject else f"image {sample.name}", []).append(sample)
    random = numpy.random.default_rng(derived_seed(seed, "validation"))
    keys = sorted(groups)
    chosen: set[str] = set()
    left = Counter(total)
    for key in (keys[i] for i in random.permutation(len(keys))):
        counts = Counter(sample.label for sample in groups[key])
        gain = sum(missing[k] ** 2 - (missing[k] - c) ** 2 for k, c in counts.items())
        if gain > 0 and all(left[k] > c for k, c in counts.items()):
            chosen.update(sample.name for sample in groups[key])
            for label, count in counts.items():
                missing[label] -= count
                left[label] -= count
    return chosen


def sample_pairs(layout: Layout, seed: int, per_image: int = 6, any_target: bool = False) -> numpy.ndarray:
    """Every training image as source with ``per_image`` random neutral training images as targets (METHOD §4).

    (P, 2) positions in ``layout.train + layout.target_only``. ``any_target`` (not in METHOD) takes training images of
    any other expression as targets instead.
    """
    labels = numpy.array([sample.label for sample in layout.train + layout.target_only])
    sources = numpy.arange(len(layout.train))
    chosen = numpy.empty((len(sources), per_image), numpy.int64)
    if any_target:
        random = numpy.random.default_rng(derived_seed(seed, "pairs", "any"))
        others = {label: numpy.flatnonzero(labels != label) for label in numpy.unique(labels[sources])}
        for source, label in zip(sources, labels):
            chosen[source] = others[label][random.integers(len(others[label]), size=per_image)]
        return _paired(sources, chosen)
    check_neutral(layout)
    targets = numpy.arange(len(sources), len(labels)) if layout.target_only else \
        numpy.flatnonzero(labels == layout.neutral)
    if not len(targets):
        raise UserError(f"{layout.root}: no neutral training image to be a target of synthesis; "
                        "name the expression that serves with --neutral NAME")
    random = numpy.random.default_rng(derived_seed(seed, "pairs"))
    count = min(per_image, len(targets))
    for source in sources:
        chosen[source, :count] = random.choice(len(targets), count, replace=False)
        chosen[source, count:] = random.integers(len(targets), size=per_image - count)
    return _paired(sources, targets[chosen])


def _paired(sources: numpy.ndarray, targets: numpy.ndarray) -> numpy.ndarray:
    """Sources (N,) with some targets each (N, K) → pairs (N·K, 2)."""
    return numpy.stack([numpy.repeat(sources, targets.shape[1]), targets.ravel()], 1)


def pair_lines(samples: Sequence[Sample], pairs: numpy.ndarray) -> Iterator[str]:
    """Yield ``<source stem>_<target name> <label>`` for pairs of positions (P, 2) in some samples (METHOD §4)."""
    for source, target in zip(*map(numpy.ndarray.tolist, pairs.T)):
        yield f"{_stem(samples[source].name)}_{samples[target].name} {samples[source].label}\n"


def read_pairs(path: Path, samples: Sequence[Sample]) -> numpy.ndarray:
    """Read an ``images_gan_nature.list`` into (P, 2) positions of sources and targets in ``samples``.

    Names with underscores are resolved against those of the samples. Raises UserError if a line names no such pair.
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
    """The pairs to synthesize: the directory's own list, or :func:`sample_pairs` (METHOD §4).

    (P, 2) positions of sources and targets in ``layout.train + layout.target_only``. Raises UserError if the
    directory's list names no pair of training images, or targets that are not neutral without ``any_target``. """
    kept = layout.root / "images_gan_nature.list"
    everyone = layout.train + layout.target_only
    if not kept.is_file():
        return sample_pairs(layout, seed, per_image, any_target)
    listed = everyone + layout.val + layout.left_out
    pairs = read_pairs(kept, listed)
    if not any_target:
        check_neutral(layout)
        strange = next((listed[i] for i in pairs[:, 1] if listed[i].label not in (layout.neutral, -1)), None)
        if strange:
            raise UserError(f"{kept}: the target {strange.name} is {layout.expressions[strange.label]}, and "
                            "targets must be neutral faces; say with --neutral which expression they show")
    pairs = pairs[(pairs < len(everyone)).all(1)]
    if not len(pairs):
        raise UserError(f"{kept}: no pair of it lies in the training images")
    return pairs


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0] if "." in name.rsplit("/", 1)[-1] else name
