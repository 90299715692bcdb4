"""The order in which a training sees its images: the plans of an epoch (METHOD §2, §5).

A plan is a function of the seed and the epoch, so a resumed run has the same plan and continues in the middle of it.
"""

from dataclasses import dataclass, replace
from typing import Sequence

import numpy as np

from datasets.layout import Sample
from utils import derived_seed


@dataclass(frozen=True)
class Plan:
    """The order of an epoch's images, cut into batches: batch i is ``plan[i]``, and a plan of one batch itself.

    The arrays hold an entry for each sample (N,), so that an epoch of millions is a few arrays. ``first`` are positions
    of images: A, the sources or real faces; ``second`` those of B, the targets, or -1 for none. In a batch, samples
    without a second image come first. ``flip`` says which samples are mirrored. ``truth`` (N, 2) are the positions of
    the ground-truth swaps C and D (:func:`ground_truth_swaps`), or -1. ``mismatch`` (N, 2) says which of A and B may
    also be shown with the other's label, as fakes. ``position`` are the samples' positions in the whole epoch, of which
    random draws are a function. Batch i reaches from ``bounds[i]`` to ``bounds[i + 1]``.
    """

    first: np.ndarray
    second: np.ndarray
    flip: np.ndarray
    truth: np.ndarray
    mismatch: np.ndarray
    position: np.ndarray
    bounds: np.ndarray

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray | None = None, flip: np.ndarray | None = None,
           sizes: int | np.ndarray | None = None) -> "Plan":
        """Return a plan without ground-truth swaps and mismatches, by default without second images and mirroring.

        Its batches have these ``sizes``, or one size, but for the last, which may be smaller; by default it is one.
        """
        count = len(first)
        if sizes is None or isinstance(sizes, int):
            bounds = np.append(np.arange(0, count, sizes or max(1, count)), count)
        else:
            bounds = np.append(0, np.cumsum(sizes))
        return cls(first, np.full(count, -1) if second is None else second,
                   np.zeros(count, bool) if flip is None else flip, np.broadcast_to(-1, (count, 2)),
                   np.broadcast_to(False, (count, 2)), np.arange(count), bounds)

    def part(self, rows: slice) -> "Plan":
        """Return some samples as one batch, such as those of one process."""
        arrays = [array[rows] for array in (self.first, self.second, self.flip, self.truth, self.mismatch,
                                            self.position)]
        return Plan(*arrays, np.array([0, len(arrays[0])]))

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, i: int | slice) -> "Plan":
        if isinstance(i, slice):
            start, stop, _ = i.indices(len(self))
            return replace(self, bounds=self.bounds[start:max(start, stop) + 1])
        i = range(len(self))[i]
        return self.part(slice(self.bounds[i], self.bounds[i + 1]))


def gan_plan(samples: Sequence[Sample], batch_size: int, seed: int, epoch: int, scene_truth: bool = False,
             mirror: bool = False, mismatched: bool = False, balanced: bool = False) -> Plan:
    """Return one GAN epoch: (images / batch size) batches of pairs, A of one expression, B of others (METHOD §2, §3).

    Not in METHOD: ``scene_truth`` looks up the ground-truth swaps of the pairs, ``mirror`` mirrors half of them, and
    ``mismatched`` says which real faces may be shown with a wrong label. ``balanced`` draws the expressions of B
    equally often instead of as often as their images occur.
    """
    labels = np.array([sample.label for sample in samples])
    plan = Plan.of(*_draw_gan_pairs(_generator(seed, "gan", epoch), labels, batch_size, balanced), sizes=batch_size)
    if scene_truth:
        plan = replace(plan, truth=ground_truth_swaps(plan.first, plan.second, samples))
    if mismatched:
        allowed = may_mismatch(samples)
        plan = replace(plan, mismatch=np.stack([allowed[plan.first], allowed[plan.second]], 1))
    if mirror:
        plan = replace(plan, flip=_generator(seed, "mirror", epoch).random(len(plan.first)) < 0.5)
    return plan


def _draw_gan_pairs(random: np.random.Generator, labels: np.ndarray, batch_size: int, balanced: bool) -> np.ndarray:
    """Return the positions of A and B, (2, steps · batch size): a batch's A show one expression, its B others."""
    expressions = np.unique(labels)
    with_label = {label: np.flatnonzero(labels == label) for label in expressions}
    without_label = {label: np.flatnonzero(labels != label) for label in expressions}

    def draw(positions: np.ndarray) -> np.ndarray:  # without repetition if there are enough images
        return random.choice(positions, batch_size, replace=len(positions) < batch_size)

    steps = max(1, len(labels) // batch_size)
    pairs = np.empty((2, steps, batch_size), np.int64)
    for i, a in enumerate(random.choice(expressions, steps)):
        pairs[0, i] = draw(with_label[a])
        if balanced:
            pairs[1, i] = [random.choice(with_label[b])
                           for b in random.choice(expressions[expressions != a], batch_size)]
        else:
            pairs[1, i] = draw(without_label[a])
    return pairs.reshape(2, -1)


def may_mismatch(samples: Sequence[Sample]) -> np.ndarray:
    """Return which real faces may be shown with a wrong label, as fakes: (N,) boolean.

    They are all but those of persons whose several pictures show a single expression: a discriminator would learn that
    these persons never show another one, and swaps onto them would suffer.
    """
    labels: dict[str, list[int]] = {}
    for sample in samples:
        labels.setdefault(sample.subject or "", []).append(sample.label)
    single = {subject for subject, shown in labels.items() if subject and len(shown) > 1 and len(set(shown)) == 1}
    return np.array([sample.subject not in single for sample in samples])


def ground_truth_swaps(first: np.ndarray, second: np.ndarray, samples: Sequence[Sample]) -> np.ndarray:
    """Return the ground-truth C and D of pairs (N,): each person in their own scene with the other's expression.

    They are positions (N, 2), the first of several pictures, -1 if there is none.
    """
    scenes: dict[tuple[str, str], int] = {}
    scene = np.array([scenes.setdefault((s.subject, s.scene), len(scenes)) if s.subject and s.scene else -1
                      for s in samples])
    label = np.array([sample.label for sample in samples])
    positions = np.full((len(scenes) + 1, label.max() + 1), -1)  # the last row is that of faces without a scene
    rows = np.flatnonzero(scene >= 0)[::-1]
    positions[scene[rows], label[rows]] = rows
    return np.stack([positions[scene[first], label[second]], positions[scene[second], label[first]]], 1)


def _batch_sizes(count: int, batch_size: int) -> np.ndarray:
    """Return sizes of batches that are equal to within one, at most ``batch_size`` and at least 2 for batch norm."""
    return _even_sizes(count, max(1, min(-(-count // batch_size), count // min(batch_size, 2))))


def _even_sizes(count: int, steps: int) -> np.ndarray:
    """Return ``steps`` sizes with the sum ``count`` that are equal to within one, the larger first."""
    return count // steps + (np.arange(steps) < count % steps)


def real_plan(count: int, batch_size: int, seed: int, *stream: int | str, balanced: Sequence[int] | None = None
              ) -> Plan:
    """Return one pass over ``count`` images in random order, mirrored at random, in batches of nearly equal size.

    ``balanced`` are labels (N,): instead of one pass, as many images are drawn so that all labels are equally frequent.
    """
    random = _generator(seed, "real", *stream)
    order = random.permutation(count) if balanced is None else _draw(random, np.array(balanced), count, True)
    return Plan.of(order, flip=random.random(count) < 0.5, sizes=_batch_sizes(count, batch_size))


def recognizer_plan(labels: np.ndarray, pairs: np.ndarray, batch_size: int, extra: int, synthesized: bool,
                    seed: int, epoch: int, balanced: bool = False, mirrored: float = 0.5) -> Plan:
    """Return one recognizer epoch: each real batch and ``extra`` further ones, synthesized or real (METHOD §5).

    ``labels`` (N,) are those of the real images, ``pairs`` (P, 2) the positions of sources and targets; each pair is
    drawn once before any is repeated. ``balanced`` draws all expressions equally often (not in METHOD). ``mirrored`` is
    the share of the samples that are mirrored.
    """
    random_real, random = _generator(seed, "real", "recognizer", epoch), _generator(seed, "further", epoch)
    order = _draw(random_real, labels, len(labels), balanced)
    real_sizes = _batch_sizes(len(labels), batch_size)
    sizes = np.full((len(real_sizes), 1 + extra), batch_size)
    sizes[:, 0] = real_sizes
    further_labels = labels[pairs[:, 0]] if synthesized else labels
    further = _draw(random, further_labels, len(real_sizes) * extra * batch_size, balanced)
    is_real = _is_real(real_sizes, extra * batch_size)
    flip = np.empty(len(is_real), bool)
    flip[is_real] = random_real.random(len(order)) < mirrored
    flip[~is_real] = random.random(len(further)) < mirrored
    return Plan.of(*_interleave(order, further, pairs if synthesized else None, is_real), flip, sizes.ravel())


def mixed_sizes(count: int, batch_size: int, mix: float) -> tuple[int, int]:
    """Return the number of mixed batches over ``count`` real images, and the synthesized images in each."""
    synthesized = min(batch_size - 1, max(1, round(batch_size * mix / (1 + mix))))
    return -(-count // (batch_size - synthesized)), synthesized


def mixed_plan(labels: np.ndarray, pairs: np.ndarray, batch_size: int, mix: float, synthesized: bool, seed: int,
               epoch: int, balanced: bool = False, mirrored: float = 0.5) -> Plan:
    """Return one pass over the real images in batches with ``mix`` synthesized images for each real one.

    Without ``synthesized``, further real images take their places. ``labels``, ``pairs``, ``balanced`` and ``mirrored``
    are those of :func:`recognizer_plan`. Not in METHOD.
    """
    steps, further_size = mixed_sizes(len(labels), batch_size, mix)
    random_real, random = _generator(seed, "real", "recognizer", epoch), _generator(seed, "further", epoch)
    order, real_sizes = _draw(random_real, labels, len(labels), balanced), _even_sizes(len(labels), steps)
    further = _draw(random, labels[pairs[:, 0]] if synthesized else labels, steps * further_size, balanced)
    samples = _interleave(order, further, pairs if synthesized else None, _is_real(real_sizes, further_size))
    return Plan.of(*samples, random.random(len(samples[0])) < mirrored, real_sizes + further_size)


def _is_real(real_sizes: np.ndarray, further_size: int) -> np.ndarray:
    """Return True for the images of each real batch and False for the ``further_size`` images behind it, in order."""
    sizes = np.stack([real_sizes, np.full(len(real_sizes), further_size)], 1)
    return np.repeat(np.tile([True, False], len(real_sizes)), sizes.ravel())


def _interleave(order: np.ndarray, further: np.ndarray, pairs: np.ndarray | None, is_real: np.ndarray) -> np.ndarray:
    """Return positions of first and second images (2, N): real ones where ``is_real``, else further ones or pairs."""
    positions = np.full((len(is_real), 2), -1)
    positions[is_real, 0] = order
    if pairs is None:
        positions[~is_real, 0] = further
    else:
        positions[~is_real] = pairs[further]
    return np.ascontiguousarray(positions.T)


def _draw(random: np.random.Generator, labels: np.ndarray, count: int, balanced: bool) -> np.ndarray:
    """Return ``count`` positions in labels (N,), each once before any is repeated, or of each label equally many."""
    if not balanced:
        rounds = [random.permutation(len(labels)) for _ in range(-(-count // len(labels)))]
        return np.concatenate(rounds or [np.zeros(0, int)])[:count]
    by_label = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    n = len(by_label)
    sizes = np.full(n, count // n) + (random.permutation(n) < count % n)
    return random.permutation(np.concatenate([
        positions[_draw(random, positions, size, False)] for positions, size in zip(by_label, sizes)]))


def third_of_pairs(pairs: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Return a random third of all pairs (P, 2), another one in every recognizer epoch (METHOD §5, ``--ablation``)."""
    random = _generator(seed, "ablation", epoch)
    return pairs[np.sort(random.choice(len(pairs), max(1, round(len(pairs) / 3)), replace=False))]


def _generator(seed: int, *stream: int | str) -> np.random.Generator:
    return np.random.default_rng(derived_seed(seed, "plan", *stream))
