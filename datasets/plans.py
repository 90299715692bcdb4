"""Which images a training looks at when: the plans of an epoch (METHOD §2, §5).

A plan is a function of the seed and the epoch, so a resumed run has the same plan and goes on in the middle of it.
"""

from typing import NamedTuple, Sequence

import numpy as np

from datasets.layout import Sample
from utils import derived_seed


class Batch(NamedTuple):
    """Positions of images (N,): ``first`` are A, the sources or real faces, ``second`` B, the targets, or -1 for none.

    Samples without a second image come first. ``flip`` says which samples are mirrored. ``truth`` (N, 2) are the
    positions of the true swaps C and D (:func:`true_swaps`), or -1. ``mismatch`` (N, 2) says which of A and B may also
    be shown with the other's label, as fakes.
    """

    first: np.ndarray
    second: np.ndarray
    flip: np.ndarray
    truth: np.ndarray
    mismatch: np.ndarray

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray | None = None, flip: np.ndarray | None = None) -> "Batch":
        """A batch without partners, mirroring or known truths but for what is given."""
        second = np.full(len(first), -1) if second is None else second
        return cls(first, second, np.zeros(len(first), bool) if flip is None else flip,
                   np.broadcast_to(-1, (len(first), 2)), np.broadcast_to(False, (len(first), 2)))

    def part(self, share: slice) -> "Batch":
        """One process's part of the batch."""
        return Batch(*(array[share] for array in self))


class Plan(Sequence[Batch]):
    """Batches in order, cut out of one long one when they are asked for: an epoch of millions is a few arrays.

    Batch i is ``whole`` from ``bounds[i]`` to ``bounds[i + 1]``.
    """

    def __init__(self, whole: Batch, bounds: np.ndarray) -> None:
        self.whole, self.bounds = whole, bounds

    @classmethod
    def of(cls, whole: Batch, sizes: int | np.ndarray) -> "Plan":
        """A long batch cut into some of these sizes, or of one size, the last as large as is left."""
        if isinstance(sizes, int):
            return cls(whole, np.append(np.arange(0, len(whole.first), sizes), len(whole.first)))
        return cls(whole, np.append(0, np.cumsum(sizes)))

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, i: int | slice) -> "Batch | Plan":
        if isinstance(i, slice):
            start, stop, _ = i.indices(len(self))
            return Plan(self.whole, self.bounds[start:max(start, stop) + 1])
        i = range(len(self))[i]
        return self.whole.part(slice(self.bounds[i], self.bounds[i + 1]))


def gan_plan(samples: Sequence[Sample], batch_size: int, seed: int, epoch: int, scene_truth: bool = False,
             mirror: bool = False, mismatched: bool = False, balanced: bool = False) -> Plan:
    """One GAN epoch: (images / batch size) pairs of batches, A of one expression, B of any others (METHOD §2, §3).

    Not in METHOD: ``scene_truth`` looks up the true swaps of the pairs, ``mirror`` mirrors half of them, and
    ``mismatched`` says whose real faces may be shown with a wrong label. ``balanced`` draws the expressions of B
    equally often, which else are as frequent as their images. """
    labels = np.array([sample.label for sample in samples])
    random = _random(seed, "gan", epoch)
    expressions = np.unique(labels)
    of = {e: np.flatnonzero(labels == e) for e in expressions}
    others = {e: np.flatnonzero(labels != e) for e in expressions}

    def draw(positions: np.ndarray) -> np.ndarray:  # none twice while there are enough
        return random.choice(positions, batch_size, replace=len(positions) < batch_size)

    steps = max(1, len(labels) // batch_size)
    first, second = np.empty((2, steps, batch_size), np.int64)
    for i, a in enumerate(random.choice(expressions, steps)):
        first[i] = draw(of[a])
        if balanced:
            second[i] = [random.choice(of[b]) for b in random.choice(expressions[expressions != a], batch_size)]
        else:
            second[i] = draw(others[a])
    whole = Batch.of(first.ravel(), second.ravel())
    if scene_truth:
        whole = whole._replace(truth=true_swaps(whole.first, whole.second, samples))
    if mismatched:
        many = shows_several(samples)
        whole = whole._replace(mismatch=np.stack([many[whole.first], many[whole.second]], 1))
    if mirror:
        whole = whole._replace(flip=_random(seed, "mirror", epoch).random(len(whole.first)) < 0.5)
    return Plan.of(whole, batch_size)


def shows_several(samples: Sequence[Sample]) -> np.ndarray:
    """Whose real faces may be shown with a wrong label: (N,) boolean.

    Not those of persons of whom several pictures show one expression alone: a discriminator would learn that just they
    never show another, and swaps onto them would suffer.
    """
    labels: dict[str, list[int]] = {}
    for sample in samples:
        labels.setdefault(sample.subject or "", []).append(sample.label)
    one_alone = {subject for subject, shown in labels.items() if subject and len(shown) > 1 and len(set(shown)) == 1}
    return np.array([sample.subject not in one_alone for sample in samples])


def true_swaps(first: np.ndarray, second: np.ndarray, samples: Sequence[Sample]) -> np.ndarray:
    """The true C and D of pairs of positions (N,): each person in their own scene with the other's expression.

    (N, 2) positions, -1 where there is no such picture; of several the first is taken.
    """
    places: dict[tuple[str, str], int] = {}
    place = np.array([places.setdefault((s.subject, s.scene), len(places)) if s.subject and s.scene else -1
                      for s in samples])
    label = np.array([sample.label for sample in samples])
    known = np.full((len(places) + 1, label.max() + 1), -1)  # the last row is that of faces without a scene
    rows = np.flatnonzero(place >= 0)[::-1]
    known[place[rows], label[rows]] = rows
    return np.stack([known[place[first], label[second]], known[place[second], label[first]]], 1)


def _even(count: int, batch_size: int) -> np.ndarray:
    """Return sizes of batches that are equal to within one, at most ``batch_size`` and at least 2 for batch norm."""
    return _parts(count, max(1, min(-(-count // batch_size), count // min(batch_size, 2))))


def _parts(count: int, steps: int) -> np.ndarray:
    """``count`` as ``steps`` sizes that are equal to within one, the larger first."""
    return count // steps + (np.arange(steps) < count % steps)


def real_plan(count: int, batch_size: int, seed: int, *stream: int | str, balanced: Sequence[int] | None = None
              ) -> Plan:
    """One pass over ``count`` images in random order, mirrored at random, in batches of equal size to within one.

    ``balanced`` are the labels (N,) of which all are to be drawn equally often, as many images as there are.
    """
    random = _random(seed, "real", *stream)
    order = random.permutation(count) if balanced is None else _drawn(random, np.array(balanced), count, True)
    return Plan.of(Batch.of(order, flip=random.random(count) < 0.5), _even(count, batch_size))


def recognizer_plan(labels: np.ndarray, pairs: np.ndarray, batch_size: int, extra: int, synthesized: bool,
                    seed: int, epoch: int, balanced: bool = False) -> Plan:
    """One recognizer epoch: after each real batch come ``extra`` further ones, synthesized or real (METHOD §5).

    ``labels`` (N,) are those of the real images, ``pairs`` (P, 2) the positions of sources and targets; each pair is
    drawn once before any comes again. ``balanced`` draws all expressions equally often (not in METHOD).
    """
    real, random = _random(seed, "real", "recognizer", epoch), _random(seed, "further", epoch)
    order = _drawn(real, labels, len(labels), balanced)
    parts = _even(len(labels), batch_size)
    sizes = np.full((len(parts), 1 + extra), batch_size)
    sizes[:, 0] = parts
    further = _drawn(random, labels[pairs[:, 0]] if synthesized else labels, len(parts) * extra * batch_size, balanced)
    whole = _in_turn(order, further, pairs if synthesized else None, parts, extra * batch_size)
    is_real = _alternating(parts, extra * batch_size)
    whole.flip[is_real] = real.random(len(order)) < 0.5
    whole.flip[~is_real] = random.random(len(further)) < 0.5
    return Plan.of(whole, sizes.ravel())


def mixed_sizes(count: int, batch_size: int, mix: float) -> tuple[int, int]:
    """Of an epoch over ``count`` real images in mixed batches: its steps, and the synthesized images in each."""
    others = min(batch_size - 1, max(1, round(batch_size * mix / (1 + mix))))
    return -(-count // (batch_size - others)), others


def mixed_plan(labels: np.ndarray, pairs: np.ndarray, batch_size: int, mix: float, synthesized: bool, seed: int,
               epoch: int, balanced: bool = False) -> Plan:
    """One pass over the real images in batches that hold ``mix`` synthesized images for each real one. Not in METHOD.

    Without ``synthesized``, further real images take their places. ``labels``, ``pairs`` and ``balanced`` as in
    :func:`recognizer_plan`.
    """
    steps, others = mixed_sizes(len(labels), batch_size, mix)
    real, random = _random(seed, "real", "recognizer", epoch), _random(seed, "further", epoch)
    order, parts = _drawn(real, labels, len(labels), balanced), _parts(len(labels), steps)
    further = _drawn(random, labels[pairs[:, 0]] if synthesized else labels, steps * others, balanced)
    whole = _in_turn(order, further, pairs if synthesized else None, parts, others)
    return Plan.of(whole._replace(flip=random.random(len(whole.first)) < 0.5), parts + others)


def _alternating(parts: np.ndarray, others: int) -> np.ndarray:
    """True for each image of the first part, False for ``others`` images, and so on."""
    return np.repeat(np.tile([True, False], len(parts)), np.stack([parts, np.full(len(parts), others)], 1).ravel())


def _in_turn(order: np.ndarray, further: np.ndarray, pairs: np.ndarray | None, parts: np.ndarray, others: int) -> Batch:
    """Return images in parts, without partners; behind each come ``others`` of the ``further`` images, or pairs."""
    chosen = np.full((len(order) + len(further), 2), -1)
    is_first = _alternating(parts, others)
    chosen[is_first, 0] = order
    if pairs is None:
        chosen[~is_first, 0] = further
    else:
        chosen[~is_first] = pairs[further]
    return Batch.of(*np.ascontiguousarray(chosen.T))


def _drawn(random: np.random.Generator, labels: np.ndarray, count: int, balanced: bool) -> np.ndarray:
    """``count`` positions in labels (N,): each once before any comes again, or of each label equally many."""
    if not balanced:
        rounds = [random.permutation(len(labels)) for _ in range(-(-count // len(labels)))]
        return np.concatenate(rounds or [np.zeros(0, int)])[:count]
    of = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    shares = np.full(len(of), count // len(of)) + (random.permutation(len(of)) < count % len(of))
    return random.permutation(np.concatenate([
        positions[_drawn(random, positions, share, False)] for positions, share in zip(of, shares)]))


def third_of_pairs(pairs: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Return a random third of all pairs (P, 2), another for every recognizer epoch (METHOD §5, ``--ablation``)."""
    random = _random(seed, "ablation", epoch)
    return pairs[np.sort(random.choice(len(pairs), max(1, round(len(pairs) / 3)), replace=False))]


def _random(seed: int, *stream: int | str) -> np.random.Generator:
    return np.random.default_rng(derived_seed(seed, "plan", *stream))
