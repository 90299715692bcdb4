"""Images → uint8 tensors, and the batches of a plan with their images (METHOD §2, §5).

Every image is decoded once for a whole training: into memory, or into a file that is mapped into memory. The file of
``--cache disk`` holds the images as (N, 3, S, S) uint8, followed by a digest of each image file. Its name is derived
from the image size and from the image files' names, sizes and times; the file is written atomically.
"""

import copy
import os
import re
import shutil
import sys
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Mapping, NamedTuple, Sequence, TypeVar

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from datasets.augmentations import AUGMENTATIONS
from datasets.layout import Sample, published_picture, report_broken
from datasets.pictures import is_blank, read_image
from datasets.plans import Plan
from utils import (UserError, atomic_file, derived_seed, digest_of_ends, fingerprint, installed_memory, main_process,
                   number_of_processes, processes_here, progress, runs_side_by_side, to_device, usable_cores)

GIB = 2 ** 30
GPU_MEMORY_FRACTION = 0.1  # the part of a GPU's free memory that decoded images may take
DIGEST_BYTES = 32
DECODER_VERSION = 3  # to be raised when pictures.py decodes files in another way
FILE_NAME = r"images_[0-9a-f]{16}\.u8"
EXEMPLARS, CANDIDATES = 3, 100  # exemplars of an expression, and the images of it that they are chosen from
AHEAD = 2  # results of each thread that may wait
Item, Result = TypeVar("Item"), TypeVar("Result")


# ------------------------------------------------------------------------------------------------------ in many threads

def in_threads(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Yield ``function(item)`` of each item in order, which so many threads compute ahead; 0 computes none ahead.

    An error of the function is raised where its result is due. Threads suffice, since Pillow releases Python's lock,
    and they need no shared memory, of which containers have little.
    """
    if not threads:
        yield from map(function, items)
        return
    pool, waiting = ThreadPoolExecutor(threads), deque[Future[Result]]()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def of_files(function: Callable[[Item], Result], items: Sequence[Item], description: str) -> Iterator[Result]:
    """Yield ``function(item)`` of very many files in order, with a thread per core and a progress bar."""
    threads = max(1, usable_cores() // processes_here())
    yield from progress(in_threads(function, items, threads), description, len(items), "image")


# -------------------------------------------------------------------------------- decoded images in memory or in a file

def to_uint8(image: Image.Image) -> Tensor:
    """Return a PIL RGB image as (3, H, W) uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def bytes_of(samples: Sequence[Sample], image_size: int) -> int:
    """Return how many bytes some images take when they are decoded."""
    return len(samples) * 3 * image_size ** 2


def chosen_cache(cache: str, needed: int, folder: Path) -> str:
    """Return ``cache``, or what "auto" means for so many bytes.

    That is "ram" or "disk" if a third of the free memory or disk space suffices, else "none". Several processes of one
    machine prefer "disk": one of them decodes, and the others map its file.
    """
    if cache != "auto":
        return cache
    in_memory, on_disk = fits_memory(needed), needed < free_disk(folder) / 3 / runs_side_by_side()
    if on_disk and (not in_memory or 1 < processes_here() == number_of_processes()):
        return "disk"
    return "ram" if in_memory else "none"


def fits_memory(needed: int) -> bool:
    """Return whether so many bytes are less than a third of the free memory that is left for one process of one run."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not every system reports its free memory
        return False
    return needed < min(free, installed_memory() or free) / 3 / processes_here() / runs_side_by_side()


def free_disk(folder: Path) -> int:
    """Return the bytes that a cache file in ``folder``, which need not exist yet, may take.

    Earlier cache files there count as free, since they are replaced.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return shutil.disk_usage(existing).free + sum(path.stat().st_size for path in _cache_files(folder))


def _cache_files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("*") if re.fullmatch(FILE_NAME, path.name))


def decode(samples: Sequence[Sample], image_size: int, store: Callable[[int, np.ndarray], Any]) -> np.ndarray:
    """Decode each image once, in order, and call ``store(i, pixels)`` with its (3, S, S) uint8.

    Returns the digests of the files, (N, 32) uint8. Warns of images that show nothing. Raises UserError that counts
    the files that cannot be decoded.
    """
    digests, faults, blank = np.zeros((len(samples), DIGEST_BYTES), np.uint8), [], []
    for i, decoded in enumerate(of_files(partial(_decode_file, image_size), samples, "reading images")):
        faults.append(None if decoded else "cannot be decoded")
        if decoded:
            pixels, digest = decoded
            store(i, pixels)
            digests[i] = np.frombuffer(digest, np.uint8)
            if is_blank(pixels[1, ::8, ::8]) and all(map(is_blank, pixels)):  # a few pixels first, which is fast
                blank.append(str(samples[i].path))
    report_broken(samples, faults)
    if blank and main_process():
        print(f"warning: {len(blank)} of {len(samples)} images are nearly one color and show nothing: "
              f"{', '.join(blank[:3])}; see python -m datasets.check", file=sys.stderr)
    return digests


def _decode_file(image_size: int, sample: Sample) -> tuple[np.ndarray, bytes] | None:
    """Return the pixels (3, S, S) uint8 and the digest of an image file, None if it cannot be decoded."""
    try:
        with open(sample.path, "rb") as handle:
            digest = digest_of_ends(handle)
            handle.seek(0)
            return to_uint8(read_image(sample.path, image_size, handle)).numpy(), digest
    except (UserError, OSError):
        return None


class DiskCache:
    """A file of ``folder`` for the decoded images of some samples."""

    def __init__(self, folder: Path, samples: Sequence[Sample], image_size: int) -> None:
        self.folder, self.samples, self.image_size = folder, samples, image_size
        files = of_files(_file_state, samples, "looking for changes")
        self.path = folder / f"images_{fingerprint([DECODER_VERSION, PIL.__version__, image_size, files])[:16]}.u8"
        self._pixel_bytes = bytes_of(samples, image_size)
        self._file_bytes = self._pixel_bytes + DIGEST_BYTES * len(samples)

    def is_complete(self) -> bool:
        """Return whether the file exists at its full size."""
        return self.path.is_file() and self.path.stat().st_size == self._file_bytes

    def write(self) -> None:
        """Write the file, in place of any other in the folder. Raises UserError if there is no room for it."""
        needed, free = self._file_bytes, free_disk(self.folder)
        if needed > free:
            raise UserError(f"{self.folder}: --cache disk needs {needed / GIB:.3g} GiB, and the disk has "
                            f"{free / GIB:.3g} free; free some space, choose another --checkpoint_dir, or --cache none")
        for path in _cache_files(self.folder):
            if path != self.path:
                print(f"{path}: holds other images or another size; the images are decoded anew")
            path.unlink()
        with atomic_file(self.path) as handle:
            digests = decode(self.samples, self.image_size, lambda _, pixels: handle.write(pixels))
            handle.write(digests)

    def read(self) -> tuple[Tensor, np.ndarray]:
        """Return the images (N, 3, S, S) uint8, mapped into memory, and the digests of their files (N, 32) uint8."""
        shape = len(self.samples), 3, self.image_size, self.image_size
        pixels = torch.from_numpy(np.memmap(self.path, np.uint8, "c", shape=shape))  # "c": torch warns of "r"
        return pixels, np.fromfile(self.path, np.uint8, offset=self._pixel_bytes).reshape(-1, DIGEST_BYTES)


def _file_state(sample: Sample) -> tuple[str, int, int]:
    status = os.stat(sample.path)
    return sample.name, status.st_size, status.st_mtime_ns


# --------------------------------------------------------------------------------------------------------------- images

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
        self.pixels, self.digests = store.read() if store else (None, None)
        self.rows: Tensor | None = None  # the samples' rows in ``pixels`` if these hold further images
        self.in_memory = cache == "ram" or cache == "auto" and fits_memory(bytes_of(self.samples, image_size))
        if self.in_memory:
            self.pixels = torch.empty(len(self.samples), 3, image_size, image_size, dtype=torch.uint8)
            self.digests = decode(self.samples, image_size, self.pixels.numpy().__setitem__)

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
        if device.type != "cuda" or not self.in_memory or \
                self.pixels.nbytes > GPU_MEMORY_FRACTION * torch.cuda.mem_get_info(device)[0]:
            return self
        on_gpu = copy.copy(self)
        on_gpu.pixels = self.pixels.to(device)
        return on_gpu

    def contents(self) -> np.ndarray:
        """Return a SHA-256 of the content of each file (N, 32) uint8, which is the same for a copy of the file.

        Of a file of more than 1 MiB its size, beginning and end count, which change with any change of a compressed
        picture. No file is read twice.
        """
        if self.digests is None:
            digests = b"".join(of_files(_digest, self.samples, "reading contents"))
            self.digests = np.frombuffer(digests, np.uint8).reshape(-1, DIGEST_BYTES)
        return self.digests

    def content_digest(self) -> str:
        """Return a SHA-256 of the files' contents, in order."""
        return fingerprint(digest.tobytes().hex() for digest in self.contents())

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, positions: Sequence[int] | Tensor) -> Tensor:
        if self.pixels is not None:
            positions = torch.as_tensor(positions)
            rows = positions if self.rows is None else self.rows[positions]
            return self.pixels[to_device(rows, self.pixels.device)]
        decoded = torch.empty(len(positions), 3, self.image_size, self.image_size, dtype=torch.uint8)
        for pixels, i in zip(decoded, positions):
            pixels.copy_(to_uint8(read_image(self.samples[i].path, self.image_size)))
        return decoded

    def evaluation_batches(self, batch_size: int, device: torch.device | str, num_workers: int = 0,
                           rank_slice: slice = slice(None)) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all images in order, or those of one process, in batches.

        A batch is (N, 3, S, S) in [-1, 1] and the labels (N,), on a device.
        """
        plan = Plan.of(np.arange(len(self))[rank_slice], sizes=batch_size)
        batches = load(self, plan, num_workers, pin_memory=torch.device(device).type == "cuda")
        for batch in progress(batches, "evaluating", len(plan), "batch"):
            batch = batch.to(device)
            yield batch.first, batch.label


# -------------------------------------------------------------------------------------------------------------- batches

class Batch(NamedTuple):
    """A batch of a plan with its images: (N, 3, S, S) uint8, mirrored and changed, and the labels (N,) of ``first``.

    ``second`` (M, 3, S, S) and ``second_label`` (M,) belong to all samples but the first ``alone``, which have no
    second image. A target of its source's own expression keeps it, and has as its ``first`` the picture that is shown
    of it: its own, or that of :func:`datasets.layout.published_picture` (METHOD §4, §6). ``truth`` (2N, 3, S, S) are
    the ground-truth swaps, first all C, then all D, and ``known`` (2N,) says which of them exist; both are None if the
    batch has none. ``mismatch`` (2N,) is the plan's, first all of A. ``total`` and ``total_alone`` are N and ``alone``
    of the whole batch, of which this may be one process's part.
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

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on a device, images as float in [-1, 1]; copies from pinned memory are asynchronous."""
        return Batch(*(to_float(value, device) if isinstance(value, Tensor) and value.dtype is torch.uint8
                       else value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
                       for value in self))

    def pinned(self) -> "Batch":
        """Return the batch with its CPU tensors in pinned memory."""
        return Batch(*(value.pin_memory() if isinstance(value, Tensor) and not value.is_cuda else value
                       for value in self))


def load(images: Images, plan: Iterable[Plan], num_workers: int = 0, pin_memory: bool = False,
         rank_slice: slice = slice(None), augment: Callable[[Tensor, int], Tensor] | None = None) -> Iterator[Batch]:
    """Yield the plan's batches in order, or one process's part of each. Raises UserError if an image is damaged.

    ``augment`` changes the images that have no second one (:func:`augmenter`). Threads decode ahead if the images are
    not cached in memory.
    """
    labels = torch.tensor([sample.label for sample in images.samples])

    def load_batch(batch: Plan) -> Batch:
        loaded = _load_batch(images, labels, batch, rank_slice, augment)
        return loaded.pinned() if pin_memory else loaded

    yield from in_threads(load_batch, plan, 0 if images.in_memory else num_workers)


def _load_batch(images: Images, labels: Tensor, whole: Plan, rank_slice: slice,
                augment: Callable[[Tensor, int], Tensor] | None) -> Batch:
    batch = whole.part(rank_slice)
    flip = batch.flip
    first, label = _load_pixels(images, batch.first, flip), labels[batch.first]
    alone, total_alone = (int((part.second < 0).sum()) for part in (batch, whole))
    if augment:
        for image, position in zip(first[:alone], batch.position.tolist()):
            image.copy_(augment(image, position))
    targets = batch.second[alone:]
    second, second_label = _load_pixels(images, targets, flip[alone:]), labels[targets]
    samples = images.samples
    for i in (i for i, j in enumerate(targets) if samples[batch.first[alone + i]].label == samples[j].label):
        path = published_picture(samples[targets[i]])
        shown = to_uint8(read_image(path, images.image_size)) if path else second[i]
        first[alone + i] = shown.flip(-1) if path and flip[alone + i] else shown
    truth = known = None
    if (whole.truth >= 0).any():  # either all processes get the ground truth of a batch, or none does
        positions = batch.truth.T.flatten()
        truth, known = _load_pixels(images, positions.clip(0), np.tile(flip, 2)), torch.from_numpy(positions >= 0)
    mismatch = torch.from_numpy(batch.mismatch.T.flatten())
    return Batch(first, label, second, second_label, alone, truth, known, mismatch, len(whole.first), total_alone)


def _load_pixels(images: Images, positions: np.ndarray, flip: np.ndarray) -> Tensor:
    """Return the images at some positions (N,), mirrored where ``flip`` (N,) is true: (N, 3, S, S) uint8."""
    pixels = images[positions]
    if not flip.any():
        return pixels
    is_mirrored = to_device(torch.from_numpy(flip), pixels.device)[:, None, None, None]
    return torch.where(is_mirrored, pixels.flip(3), pixels)


def augmenter(strengths: Mapping[str, float], seed: int, epoch: int) -> Callable[[Tensor, int], Tensor] | None:
    """Return the function of an image (3, S, S) uint8 and its position in the epoch that applies augmentations.

    ``strengths`` are theirs by name. Return None if no image is to be changed. The function raises TypeError if an
    augmentation returns anything but an image of the same shape and type.
    """
    functions = {name: function for name in strengths if (function := AUGMENTATIONS[name].function)}

    def augment(image: Tensor, position: int) -> Tensor:
        for name, function in functions.items():
            generator = np.random.default_rng(derived_seed(seed, "augment", name, epoch, position))
            changed = function(image, generator, strengths[name])
            if changed.dtype is not torch.uint8 or changed.shape != image.shape:
                raise TypeError(f"augmentation {name}: returned {changed.dtype} {tuple(changed.shape)} in place of "
                                f"torch.uint8 {tuple(image.shape)}")
            image = changed
        return image

    return augment if functions else None


# ------------------------------------------------------------------------------------------------------------ exemplars

def typical_images(images: Images, num_classes: int) -> tuple[Tensor, list[int]]:
    """Return up to three images of each expression, (E, 3, S, S) uint8, and their expressions.

    They are the images nearest to the expression's mean image, of different persons if there are several.
    """
    chosen: list[tuple[Tensor, int]] = []
    for label in range(num_classes):
        rows = [i for i, sample in enumerate(images.samples) if sample.label == label]
        rows = rows[::-(-len(rows) // CANDIDATES)] if rows else []
        if rows:
            pixels = images[rows]
            chosen += [(pixels[i], label) for i in _nearest(pixels, [images.samples[row] for row in rows])]
    return torch.stack([pixels for pixels, _ in chosen]).cpu(), [label for _, label in chosen]


def _nearest(pixels: Tensor, samples: Sequence[Sample]) -> list[int]:
    """Return the positions of the images (N, 3, S, S) that are nearest to their mean, of different persons first."""
    flat = pixels.flatten(1).float()
    order = (flat - flat.mean(0)).square().mean(1).argsort(stable=True).tolist()
    nearest_of_person = {samples[i].subject or samples[i].name: i for i in reversed(order)}.values()
    return sorted(order, key=lambda i: i not in nearest_of_person)[:EXEMPLARS]
