"""Every image decoded once, for a whole training: into memory, or into a file that is mapped into it.

A file for ``--cache disk`` holds the images as (N, 3, S, S) uint8, and behind them a digest of each image file. Its
name tells of which files, by names, sizes and times, at which size; under that name it appears whole or not at all.
"""

import os
import re
import shutil
import sys
from functools import partial
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
from system.devices import installed_memory
from system.processes import main_process, processes_here, runs_side_by_side
from utils import UserError, atomic_file, digest_of_ends, fingerprint

GIB = 2 ** 30
DIGEST = 32                     # bytes
READING = 2                     # to be raised where pictures.py comes to read files in another way
NAME = r"images_[0-9a-f]{16}\.u8"


def to_uint8(image: Image.Image) -> Tensor:
    """PIL RGB image → (3, H, W) uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def bytes_of(samples: Sequence[Sample], image_size: int) -> int:
    """How much some images are when decoded."""
    return len(samples) * 3 * image_size ** 2


def chosen_cache(cache: str, needed: int, folder: Path) -> str:
    """What "auto" is for so many bytes: "ram" or "disk" where a third of what is free there suffices, else "none"."""
    if cache != "auto":
        return cache
    if fits_memory(needed):
        return "ram"
    return "disk" if needed < free_disk(folder) / 3 / runs_side_by_side() else "none"


def fits_memory(needed: int) -> bool:
    """Whether so many bytes are less than a third of the free memory, or of the part of a process or a run in that."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not every system tells
        return False
    return needed < min(free, installed_memory() or free) / 3 / processes_here() / runs_side_by_side()


def free_disk(folder: Path) -> int:
    """Bytes for a file in a folder that need not be there yet, in place of those that an earlier run has left there."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return shutil.disk_usage(there).free + sum(path.stat().st_size for path in _left(folder))


def _left(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("*") if re.fullmatch(NAME, path.name))


def decode(samples: Sequence[Sample], image_size: int, keep: Callable[[int, np.ndarray], Any]) -> np.ndarray:
    """Decode each image once, in order: ``keep(i, pixels)`` gets (3, S, S) uint8. Digests of the files, (N, 32) uint8.

    Raises UserError that counts the files that cannot be decoded, and warns of images that show nothing.
    """
    digests, faults, blank = np.zeros((len(samples), DIGEST), np.uint8), [], []
    together = max(1, min(64, 2 ** 20 // (3 * image_size ** 2)))
    for i, found in enumerate(by_processes(partial(_decoded, image_size), samples, "reading images", together)):
        faults.append(None if found else "cannot be decoded")
        if found:
            keep(i, found[0])
            digests[i] = np.frombuffer(found[1], np.uint8)
            if is_blank(found[0][1, ::8, ::8]) and is_blank(found[0]):  # the few pixels first: they are fast
                blank.append(str(samples[i].path))
    report_broken(samples, faults)
    if blank and main_process():
        print(f"warning: {len(blank)} of {len(samples)} images are nearly one color and show nothing: "
              f"{', '.join(blank[:3])}; see python -m datasets.check", file=sys.stderr)
    return digests


def _decoded(image_size: int, sample: Sample) -> tuple[np.ndarray, bytes] | None:
    try:
        with open(sample.path, "rb") as handle:
            digest = digest_of_ends(handle)
            handle.seek(0)
            return to_uint8(read_image(sample.path, image_size, handle)).numpy(), digest
    except (UserError, OSError):
        return None


class DiskCache:
    """The images of some samples in a file of ``folder``: ``cache[[3, 1]]`` is (2, 3, S, S) uint8."""

    def __init__(self, folder: Path, samples: Sequence[Sample], image_size: int) -> None:
        self.folder, self.samples, self.image_size = folder, samples, image_size
        files = by_processes(_identity, samples, "looking for changes")
        self.path = folder / f"images_{fingerprint([READING, PIL.__version__, image_size, files])[:16]}.u8"
        self._pixels = bytes_of(samples, image_size)
        self._mapped: np.ndarray | None = None

    def is_made(self) -> bool:
        """Whether the file is there."""
        return self.path.is_file() and self.path.stat().st_size == self._pixels + DIGEST * len(self.samples)

    def make(self) -> None:
        """Write the file, in place of any other in the folder. Raises UserError if there is no room for it."""
        needed, free = self._pixels + DIGEST * len(self.samples), free_disk(self.folder)
        if needed > free:
            raise UserError(f"{self.folder}: --cache disk needs {needed / GIB:.3g} GiB, and the disk has "
                            f"{free / GIB:.3g} free; free some space, choose another --checkpoint_dir, or --cache none")
        for path in _left(self.folder):
            if path != self.path:
                print(f"{path}: of other images or settings than now; they are decoded anew")
            path.unlink()
        with atomic_file(self.path) as handle:
            digests = decode(self.samples, self.image_size, lambda _, pixels: handle.write(pixels))
            handle.write(digests)

    def digests(self) -> np.ndarray:
        """(N, 32) uint8."""
        return np.fromfile(self.path, np.uint8, offset=self._pixels).reshape(-1, DIGEST)

    def __getitem__(self, rows: Tensor) -> Tensor:
        if self._mapped is None:  # in each process when it first looks
            shape = len(self.samples), 3, self.image_size, self.image_size
            self._mapped = np.memmap(self.path, np.uint8, "r", shape=shape)
        return torch.from_numpy(self._mapped[rows.numpy()])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}


def _identity(sample: Sample) -> tuple[str, int, int]:
    found = os.stat(sample.path)
    return sample.name, found.st_size, found.st_mtime_ns
