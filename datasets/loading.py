"""Images → uint8 tensors, and the plans of which images a training looks at when (METHOD §2, §5).

A plan is a list of batches of positions in an :class:`Images`; it is a function of the seed and the epoch, so a
resumed run has the same plan and goes on in the middle of it.
"""

from __future__ import annotations

import copy
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator, NamedTuple, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datasets.layout import Sample, report_broken
from datasets.pictures import read_image
from utils import UserError, derived_seed, number_of_processes, progress


def to_uint8(image: Image.Image) -> Tensor:
    """PIL RGB image → (3, H, W) uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def to_float(pixels: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """(N, 3, S, S) uint8 → float in [-1, 1] on a device, channels last."""
    pixels = pixels.to(device, non_blocking=True)
    return pixels.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1)


class Images(torch.utils.data.Dataset):
    """The images of some samples at one size: ``images[[3, 1]]`` is (2, 3, S, S) uint8.

    ``cache`` keeps every decoded image in memory: "ram" always, "none" never, "auto" where they take less than a
    third of the free memory (each of several processes its part of that). A file that cannot be decoded is a
    UserError; with a cache, before training begins.
    """

    def __init__(self, samples: Sequence[Sample], image_size: int, cache: str = "auto") -> None:
        self.samples, self.image_size = list(samples), image_size
        self.pixels: Tensor | None = None
        self.rows: Tensor | None = None  # of ``pixels``, where these are not of these samples alone
        needed = len(self.samples) * 3 * image_size ** 2
        if cache == "ram" or cache == "auto" and needed < _free_memory() / 3 / number_of_processes():
            self.pixels = self._decode_all()

    def of(self, samples: Sequence[Sample]) -> "Images":
        """The images of some of these samples; those in memory are shared, not decoded again."""
        if self.pixels is None:
            return Images(samples, self.image_size, cache="none")
        position = {sample.path: i for i, sample in enumerate(self.samples)}
        rows = torch.tensor([position[sample.path] for sample in samples], dtype=torch.int64)
        some = copy.copy(self)
        some.samples, some.rows = list(samples), rows if self.rows is None else self.rows[rows]
        return some

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, positions: Sequence[int] | Tensor) -> Tensor:
        if self.pixels is not None:
            positions = torch.as_tensor(positions)
            return self.pixels[positions if self.rows is None else self.rows[positions]]
        decoded = torch.empty(len(positions), 3, self.image_size, self.image_size, dtype=torch.uint8)
        for pixels, i in zip(decoded, positions):
            pixels.copy_(to_uint8(read_image(self.samples[i].path, self.image_size)))
        return decoded

    def evaluation_batches(self, batch_size: int, device: torch.device | str, num_workers: int = 0,
                           share: slice = slice(None)) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order, or a share, in batches: (N, 3, S, S) in [-1, 1] and labels (N,), on a device."""
        positions = np.arange(len(self))[share]
        plan = [Batch.of(part)
                for part in (positions[i:i + batch_size] for i in range(0, len(positions), batch_size))]
        batches = load(self, plan, num_workers, pin_memory=torch.device(device).type == "cuda")
        for batch in progress(batches, "evaluating", len(plan), "batch"):
            batch = batch.to(device)
            yield batch.first, batch.label

    def _decode_all(self) -> Tensor:
        pixels = torch.empty(len(self.samples), 3, self.image_size, self.image_size, dtype=torch.uint8)

        def decode(i: int) -> str | None:
            try:
                pixels[i] = to_uint8(read_image(self.samples[i].path, self.image_size))
            except UserError:
                return "cannot be decoded"
            return None

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            faults = list(progress(pool.map(decode, range(len(self))), "reading images", len(self), "image"))
        report_broken(self.samples, faults)
        return pixels


def _free_memory() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not every system tells
        return 0


# --------------------------------------------------------------------------------------------------- plans

class Batch(NamedTuple):
    """Positions of images (N,): ``first`` are A, the sources or real faces, ``second`` B, the targets, or -1 for none.

    Samples without a second image come first.
    ``flip`` says which samples are mirrored, with all their images. ``truth`` (N, 2) are the pictures that the swap of
    a sample should give, C and D: each person in their own scene with the other's expression; -1 where there is none.
    ``mismatch`` (N, 2) says which of A and B may also be shown with the other's label, as fakes.
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
                   np.full((len(first), 2), -1), np.zeros((len(first), 2), bool))

    def part(self, share: slice) -> "Batch":
        """One process's part of the batch."""
        return Batch(*(array[share] for array in self))


class Loaded(NamedTuple):
    """A batch with its images: (N, 3, S, S) uint8, already mirrored where ``flip`` says so; labels of ``first``, (N,).

    ``second`` (M, 3, S, S) and ``second_label`` (M,) belong to the samples that have a second image: all but the first
    ``alone``. ``truth`` (2N, 3, S, S) are the true swaps, first all of C, then all of D, and ``known`` (2N,) says which
    of them mean anything; both are None where no truth of the batch is known. ``mismatch`` (2N,) is the plan's, first
    all of A. ``total`` is the size of the whole batch, of which this may be one process's part, and
    ``total_alone`` how many of it have no second image.
    """

    first: Tensor
    label: Tensor
    second: Tensor
    second_label: Tensor
    alone: int
    truth: Tensor | None
    known: Tensor | None
    mismatch: Tensor
    total: int
    total_alone: int

    def to(self, device: torch.device | str) -> "Loaded":
        """The same on a device, images as float in [-1, 1]; from pinned memory, nothing waits for the copies."""
        return Loaded(*(to_float(value, device) if isinstance(value, Tensor) and value.dtype is torch.uint8
                        else value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
                        for value in self))


def gan_plan(samples: Sequence[Sample], batch_size: int, seed: int, epoch: int, scene_truth: bool = False,
              mirror: bool = False, mismatched: bool = False) -> list[Batch]:
    """One GAN epoch: (images / batch size) pairs of batches, A of one expression, B of any others (METHOD §2, §3).

    Not in METHOD: ``scene_truth`` looks up the true swaps of the pairs, ``mirror`` mirrors half of them, and
    ``mismatched`` says whose real faces may be shown with a wrong label.
    """
    labels = np.array([sample.label for sample in samples])
    random = _random(seed, "gan", epoch)
    expressions = np.unique(labels)
    of = {e: np.flatnonzero(labels == e) for e in expressions}
    others = {e: np.flatnonzero(labels != e) for e in expressions}
    plan = [Batch.of(_draw(random, of[a], batch_size), _draw(random, others[a], batch_size))
            for a in random.choice(expressions, max(1, len(labels) // batch_size))]
    if scene_truth:
        plan = with_true_swaps(plan, samples)
    if mismatched:
        many = shows_several(samples)
        plan = [batch._replace(mismatch=np.stack([many[batch.first], many[batch.second]], 1)) for batch in plan]
    if mirror:
        random = _random(seed, "mirror", epoch)
        plan = [batch._replace(flip=random.random(len(batch.flip)) < 0.5) for batch in plan]
    return plan


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


def with_true_swaps(plan: Sequence[Batch], samples: Sequence[Sample]) -> list[Batch]:
    """The plan with the true C and D of its pairs: a person in their own scene with the other's expression.

    Of several such pictures the first is taken.
    """
    known: dict[tuple[str, str, int], int] = {}
    for i, sample in enumerate(samples):
        if sample.subject and sample.scene:
            known.setdefault((sample.subject, sample.scene, sample.label), i)

    def with_label_of(face: int, other: int) -> int:
        return known.get((samples[face].subject, samples[face].scene, samples[other].label), -1)

    return [batch._replace(truth=np.array([(with_label_of(a, b), with_label_of(b, a))
                                           for a, b in zip(batch.first, batch.second)])) for batch in plan]


def real_plan(count: int, batch_size: int, seed: int, *stream: int | str) -> list[Batch]:
    """One pass over ``count`` images in random order, mirrored at random.

    The batches are of equal size to within one, ``batch_size`` at most: no small last batch spoils batch norm.
    """
    random = _random(seed, "real", *stream)
    steps = max(1, min(-(-count // batch_size), count // min(batch_size, 2)))  # no image alone, if it can be
    parts = np.array_split(random.permutation(count), steps)
    return [Batch.of(part, flip=random.random(len(part)) < 0.5) for part in parts]


def recognizer_plan(labels: np.ndarray, pairs: np.ndarray, batch_size: int, extra: int, synthesized: bool,
                    seed: int, epoch: int, balanced: bool = False) -> list[Batch]:
    """One recognizer epoch: after each real batch come ``extra`` further ones, synthesized or real (METHOD §5).

    ``labels`` (N,) are those of the real images, ``pairs`` (P, 2) the positions of sources and targets; each pair is
    drawn once before any comes again. ``balanced`` draws all expressions equally often (not in METHOD).
    """
    real, random = _random(seed, "real", "recognizer", epoch), _random(seed, "further", epoch)
    order = _drawn(real, labels, len(labels), balanced)
    steps = max(1, min(-(-len(labels) // batch_size), len(labels) // min(batch_size, 2)))
    plan = [Batch.of(part, flip=real.random(len(part)) < 0.5) for part in np.array_split(order, steps)]
    needed = len(plan) * extra * batch_size
    order = _drawn(random, labels[pairs[:, 0]] if synthesized else labels, needed, balanced)
    further = iter(order.reshape(-1, batch_size))
    mixed = []
    for batch in plan:
        mixed.append(batch)
        for chosen in (next(further) for _ in range(extra)):
            flip = random.random(batch_size) < 0.5
            mixed.append(Batch.of(pairs[chosen, 0], pairs[chosen, 1], flip) if synthesized
                         else Batch.of(chosen, flip=flip))
    return mixed


def mixed_sizes(count: int, batch_size: int, mix: float) -> tuple[int, int]:
    """Of an epoch over ``count`` real images in mixed batches: its steps, and the synthesized images in each."""
    others = min(batch_size - 1, max(1, round(batch_size * mix / (1 + mix))))
    return -(-count // (batch_size - others)), others


def mixed_plan(labels: np.ndarray, pairs: np.ndarray, batch_size: int, mix: float, synthesized: bool, seed: int,
               epoch: int, balanced: bool = False) -> list[Batch]:
    """One pass over the real images in batches that hold ``mix`` synthesized images for each real one. Not in METHOD.

    Without ``synthesized``, further real images take their places. ``labels``, ``pairs`` and ``balanced`` as in
    :func:`recognizer_plan`.
    """
    steps, others = mixed_sizes(len(labels), batch_size, mix)
    real, random = _random(seed, "real", "recognizer", epoch), _random(seed, "further", epoch)
    parts = np.array_split(_drawn(real, labels, len(labels), balanced), steps)
    further = _drawn(random, labels[pairs[:, 0]] if synthesized else labels, steps * others, balanced)
    plan = []
    for part, chosen in zip(parts, further.reshape(steps, others)):
        sources, targets = pairs[chosen].T if synthesized else (chosen, np.full(others, -1))
        flip = random.random(len(part) + others) < 0.5
        plan.append(Batch.of(np.append(part, sources), np.append(np.full(len(part), -1), targets), flip))
    return plan


def _drawn(random: np.random.Generator, labels: np.ndarray, count: int, balanced: bool) -> np.ndarray:
    """``count`` positions in labels (N,): each once before any comes again, or of each label equally many."""
    if not balanced:
        rounds = [random.permutation(len(labels)) for _ in range(-(-count // len(labels)))]
        return np.concatenate(rounds or [np.zeros(0, int)])[:count]
    of = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    shares = np.full(len(of), count // len(of)) + (random.permutation(len(of)) < count % len(of))
    return random.permutation(np.concatenate([
        positions[_drawn(random, positions, share, False)] for positions, share in zip(of, shares)]))


def third_of_pairs(pairs: np.ndarray, seed: int) -> np.ndarray:
    """A random third of the pairs of each source: 2 of 6 (METHOD §5, ``--ablation``)."""
    random = _random(seed, "ablation")
    kept = []
    for source in np.unique(pairs[:, 0]):
        rows = np.flatnonzero(pairs[:, 0] == source)
        kept.append(random.choice(rows, max(1, round(len(rows) / 3)), replace=False))
    return pairs[np.sort(np.concatenate(kept))]


def _draw(random: np.random.Generator, positions: np.ndarray, count: int) -> np.ndarray:
    """``count`` positions, none twice while there are enough."""
    return random.choice(positions, count, replace=len(positions) < count)


def _random(seed: int, *stream: int | str) -> np.random.Generator:
    return np.random.default_rng(derived_seed(seed, "plan", *stream))


# ------------------------------------------------------------------------------------------------- loading

class _Planned(torch.utils.data.Dataset):
    """A plan's batches as a data set of whole batches, so that a DataLoader's workers decode them ahead."""

    def __init__(self, images: Images, plan: Sequence[Batch], share: slice) -> None:
        self.images, self.plan, self.share = images, plan, share
        self.labels = torch.tensor([sample.label for sample in images.samples])

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, i: int) -> Loaded | UserError:
        try:
            return self._loaded(self.plan[i])
        except UserError as error:  # handed over: raised in a worker it would arrive as a traceback
            return error

    def _loaded(self, whole: Batch) -> Loaded:
        batch = whole.part(self.share)
        flip = torch.from_numpy(batch.flip)
        first, label = self._mirrored(batch.first, flip), self.labels[batch.first]
        alone, total_alone = (int((part.second < 0).sum()) for part in (batch, whole))
        targets = batch.second[alone:]
        second, second_label = self._mirrored(targets, flip[alone:]), self.labels[targets]
        truth = known = None
        if (whole.truth >= 0).any():  # all processes see the truths of a batch, or none does
            positions = batch.truth.T.flatten()
            truth, known = self._mirrored(positions.clip(0), flip.repeat(2)), torch.from_numpy(positions >= 0)
        mismatch = torch.from_numpy(batch.mismatch.T.flatten())
        return Loaded(first, label, second, second_label, alone, truth, known, mismatch, len(whole.first), total_alone)

    def _mirrored(self, positions: np.ndarray, flip: Tensor) -> Tensor:
        pixels = self.images[positions]
        return torch.where(flip[:, None, None, None], pixels.flip(3), pixels)


def load(images: Images, plan: Sequence[Batch], num_workers: int = 0, pin_memory: bool = False,
         share: slice = slice(None)) -> Iterator[Loaded]:
    """The plan's batches in order, or one process's share of each; UserError at an image that cannot be decoded.

    Worker processes are used only where images are not cached in memory.
    """
    workers = 0 if images.pixels is not None else num_workers
    loader = torch.utils.data.DataLoader(_Planned(images, plan, share), batch_size=None, num_workers=workers,
                                         pin_memory=pin_memory, prefetch_factor=4 if workers else None)
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch

