"""Every image decoded once for a whole training: into memory, or into a file that is mapped into memory.

The file of ``--cache disk`` holds the images as (N, 3, S, S) uint8, followed by a digest of each image file. Its name
is derived from the image size and from the image files' names, sizes and times; the file is written atomically.
"""

import os
import re
import shutil
import sys
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from datasets.layout import Sample, report_broken
from datasets.parallel import by_processes
from datasets.pictures import is_blank, read_image
from utils import (UserError, atomic_file, digest_of_ends, fingerprint, installed_memory, main_process,
                   number_of_processes, processes_here, runs_side_by_side)

GIB = 2 ** 30
DIGEST_BYTES = 32
DECODER_VERSION = 2             # to be raised when pictures.py decodes files in another way
FILE_NAME = r"images_[0-9a-f]{16}\.u8"


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
    chunk_size = max(1, min(64, 2 ** 20 // (3 * image_size ** 2)))
    for i, decoded in enumerate(by_processes(partial(_decode_file, image_size), samples, "reading images", chunk_size)):
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
    """The decoded images of some samples in a file of ``folder``: ``cache[[3, 1]]`` is (2, 3, S, S) uint8."""

    def __init__(self, folder: Path, samples: Sequence[Sample], image_size: int) -> None:
        self.folder, self.samples, self.image_size = folder, samples, image_size
        files = by_processes(_file_state, samples, "looking for changes")
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

    def digests(self) -> np.ndarray:
        """Return the digests of the image files, (N, 32) uint8."""
        return np.fromfile(self.path, np.uint8, offset=self._pixel_bytes).reshape(-1, DIGEST_BYTES)

    @cached_property
    def _pixels(self) -> np.ndarray:
        return np.memmap(self.path, np.uint8, "r", shape=(len(self.samples), 3, self.image_size, self.image_size))

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self._pixels[rows.numpy()])


def _file_state(sample: Sample) -> tuple[str, int, int]:
    status = os.stat(sample.path)
    return sample.name, status.st_size, status.st_mtime_ns
