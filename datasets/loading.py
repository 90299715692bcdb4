"""Images → uint8 tensors, and the batches of a plan with their images (METHOD §2, §5)."""

import copy
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Iterator, NamedTuple, Sequence

import numpy as np
import torch
from torch import Tensor

from datasets.cache import DIGEST_BYTES, DiskCache, bytes_of, decode, fits_memory, to_uint8
from datasets.layout import Layout, Sample
from datasets.parallel import by_processes
from datasets.pictures import read_image
from datasets.plans import Batch, Plan
from utils import digest_of_ends, fingerprint, progress, to_device

GPU_MEMORY_FRACTION = 0.1  # the part of a GPU's free memory that decoded images may take
BATCHES_AHEAD = 2  # for each thread


def to_float(pixels: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Return pixels (N, 3, S, S) uint8 as float in [-1, 1] on a device, channels last."""
    pixels = pixels.to(device, non_blocking=True)
    return pixels.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1)


def _digest(sample: Sample) -> bytes:
    with open(sample.path, "rb") as handle:
        return digest_of_ends(handle)


class Images:
    """The images of some samples at one size: ``images[[3, 1]]`` is (2, 3, S, S) uint8.

    ``cache`` says whether they are kept decoded in memory: "ram" always, "none" never, "auto" if they take less than a
    third of the free memory; a ``store`` holds them in a file. Raises UserError if a file cannot be decoded: with a
    cache in the constructor, without one when the image is read.
    """

    def __init__(self, samples: Sequence[Sample], image_size: int, cache: str = "auto", store: DiskCache | None = None
                 ) -> None:
        self.samples, self.image_size = list(samples), image_size
        self.pixels: Tensor | DiskCache | None = store
        self.digests: np.ndarray | None = None if store is None else store.digests()
        self.rows: Tensor | None = None  # the samples' rows in ``pixels`` if these hold further images
        if cache == "ram" or cache == "auto" and fits_memory(bytes_of(self.samples, image_size)):
            pixels = torch.empty(len(self.samples), 3, image_size, image_size, dtype=torch.uint8)
            self.digests = decode(self.samples, image_size, pixels.numpy().__setitem__)
            self.pixels = pixels

    def subset(self, samples: Sequence[Sample]) -> "Images":
        """Return the images of some of these samples; they share the decoded images with this object."""
        position = {sample.path: i for i, sample in enumerate(self.samples)}
        rows = torch.tensor([position[sample.path] for sample in samples], dtype=torch.int64)
        subset = copy.copy(self)
        subset.samples, subset.rows = list(samples), rows if self.rows is None else self.rows[rows]
        subset.digests = None if self.digests is None else self.digests[rows.numpy()]
        return subset

    def on(self, device: torch.device) -> "Images":
        """Return the same images, decoded on a GPU if they take little of its free memory, else this object."""
        if device.type != "cuda" or not isinstance(self.pixels, Tensor) or \
                self.pixels.nbytes > GPU_MEMORY_FRACTION * torch.cuda.mem_get_info(device)[0]:
            return self
        on_gpu = copy.copy(self)
        on_gpu.pixels = self.pixels.to(device)
        return on_gpu

    def content_digest(self) -> str:
        """Return a SHA-256 of the files' contents, in order, which is the same for a copy of the files.

        Of a file of more than 1 MiB its size, beginning and end count, which change with any change of a compressed
        picture. No file is read twice.
        """
        if self.digests is None:
            digests = b"".join(by_processes(_digest, self.samples, "reading contents"))
            self.digests = np.frombuffer(digests, np.uint8).reshape(-1, DIGEST_BYTES)
        return fingerprint(digest.tobytes().hex() for digest in self.digests)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, positions: Sequence[int] | Tensor) -> Tensor:
        if self.pixels is not None:
            positions = torch.as_tensor(positions)
            rows = positions if self.rows is None else self.rows[positions]
            return self.pixels[to_device(rows, self.pixels.device) if isinstance(self.pixels, Tensor) else rows]
        decoded = torch.empty(len(positions), 3, self.image_size, self.image_size, dtype=torch.uint8)
        for pixels, i in zip(decoded, positions):
            pixels.copy_(to_uint8(read_image(self.samples[i].path, self.image_size)))
        return decoded

    def evaluation_batches(self, batch_size: int, device: torch.device | str, num_workers: int = 0,
                           rank_slice: slice = slice(None)) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all images in order, or those of one process, in batches.

        A batch is (N, 3, S, S) in [-1, 1] and the labels (N,), on a device.
        """
        plan = Plan.of(Batch.of(np.arange(len(self))[rank_slice]), batch_size)
        batches = load(self, plan, num_workers, pin_memory=torch.device(device).type == "cuda")
        for batch in progress(batches, "evaluating", len(plan), "batch"):
            batch = batch.to(device)
            yield batch.first, batch.label


def content_digests(layout: Layout, select_on: str, parts: Sequence[str] = ("train", "test"),
                    images: Images | None = None) -> dict[str, str]:
    """Return a SHA-256 of the images of training and selection ("train"), and one of the test images ("test").

    They are the same for a copy of the directory. ``images`` holds those of "train", if their files have been read
    already.
    """
    selection = layout.test if select_on == "test" else layout.val
    samples = {"train": layout.train + layout.target_only + selection, "test": layout.test}
    digests = {}
    for part in parts:
        in_order = sorted(samples[part], key=lambda sample: sample.name)
        part_images = images.subset(in_order) if images and part == "train" else Images(in_order, 0, "none")
        digests[part] = part_images.content_digest()
    return digests


# ------------------------------------------------------------------------------------------------- loading

class Loaded(NamedTuple):
    """A batch with its images: (N, 3, S, S) uint8, already mirrored, and the labels (N,) of ``first``.

    ``second`` (M, 3, S, S) and ``second_label`` (M,) belong to all samples but the first ``alone``, which have no
    second image. ``truth`` (2N, 3, S, S) are the ground-truth swaps, first all C, then all D, and ``known`` (2N,) says
    which of them exist; both are None if the batch has none. ``mismatch`` (2N,) is the plan's, first all of A.
    ``total`` and ``total_alone`` are N and ``alone`` of the whole batch, of which this may be one process's part.
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
        """Return the batch on a device, images as float in [-1, 1]; copies from pinned memory are asynchronous."""
        return Loaded(*(to_float(value, device) if isinstance(value, Tensor) and value.dtype is torch.uint8
                        else value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
                        for value in self))

    def pinned(self) -> "Loaded":
        """Return the batch with its CPU tensors in pinned memory."""
        return Loaded(*(value.pin_memory() if isinstance(value, Tensor) and not value.is_cuda else value
                        for value in self))


def _load_batch(images: Images, labels: Tensor, whole: Batch, rank_slice: slice) -> Loaded:
    batch = whole.part(rank_slice)
    flip = batch.flip
    first, label = _load_pixels(images, batch.first, flip), labels[batch.first]
    alone, total_alone = (int((part.second < 0).sum()) for part in (batch, whole))
    targets = batch.second[alone:]
    second, second_label = _load_pixels(images, targets, flip[alone:]), labels[targets]
    truth = known = None
    if (whole.truth >= 0).any():  # either all processes get the ground truth of a batch, or none does
        positions = batch.truth.T.flatten()
        truth, known = _load_pixels(images, positions.clip(0), np.tile(flip, 2)), torch.from_numpy(positions >= 0)
    mismatch = torch.from_numpy(batch.mismatch.T.flatten())
    return Loaded(first, label, second, second_label, alone, truth, known, mismatch, len(whole.first), total_alone)


def _load_pixels(images: Images, positions: np.ndarray, flip: np.ndarray) -> Tensor:
    """Return the images at some positions (N,), mirrored where ``flip`` (N,) is true: (N, 3, S, S) uint8."""
    pixels = images[positions]
    if not flip.any():
        return pixels
    is_mirrored = to_device(torch.from_numpy(flip), pixels.device)[:, None, None, None]
    return torch.where(is_mirrored, pixels.flip(3), pixels)


def load(images: Images, plan: Sequence[Batch], num_workers: int = 0, pin_memory: bool = False,
         rank_slice: slice = slice(None)) -> Iterator[Loaded]:
    """Yield the plan's batches in order, or one process's part of each. Raises UserError if an image is damaged.

    Threads decode ahead if the images are not cached in memory: Pillow releases Python's lock, and threads need no
    shared memory, of which containers have little.
    """
    labels = torch.tensor([sample.label for sample in images.samples])

    def load_batch(batch: Batch) -> Loaded:
        loaded = _load_batch(images, labels, batch, rank_slice)
        return loaded.pinned() if pin_memory else loaded

    workers = 0 if isinstance(images.pixels, Tensor) else num_workers
    if not workers:
        yield from map(load_batch, plan)
        return
    pool, ahead = ThreadPoolExecutor(workers), deque[Future[Loaded]]()
    try:
        for batch in plan:
            ahead.append(pool.submit(load_batch, batch))
            if len(ahead) > BATCHES_AHEAD * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
