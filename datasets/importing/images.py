"""Images of a data set → the images of a data directory: as links, as copies or as smaller JPEG files."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from datasets.pictures import read_picture
from utils import atomic_file, save_picture


@dataclass(frozen=True)
class ImageWriter:
    """Brings images into a data directory, as symbolic links unless something else is asked for.

    ``copy`` copies them; ``reencode`` makes upright JPEG files with a shorter side of at most so many pixels.
    """

    copy: bool = False
    reencode: int | None = None

    def name(self, name: str) -> str:
        """The name that an image gets."""
        return str(Path(name).with_suffix(".jpg")) if self.reencode else name

    def is_current(self, target: Path, source: Path) -> bool:
        """Whether an earlier run has written the image in the way that is asked for."""
        if not target.exists():
            return False
        if not self.copy and not self.reencode:
            return target.samefile(source)
        if target.is_symlink() or target.samefile(source) or not _same_time(target, source):
            return False
        if self.copy:
            return target.stat().st_size == source.stat().st_size
        with Image.open(target) as image, Image.open(source) as original:
            return image.format == "JPEG" and min(image.size) == min(self.reencode, *original.size)

    def write(self, source: Path, target: Path) -> None:
        """Write one image, whole or not at all."""
        write = self._reencode if self.reencode else _copy if self.copy else _link
        write(source.resolve(), target)

    def _reencode(self, source: Path, target: Path) -> None:
        image = read_picture(source)
        scale = self.reencode / min(image.size)
        if scale < 1:
            size = tuple(max(self.reencode, round(scale * length)) for length in image.size)
            image = image.resize(size, Image.Resampling.LANCZOS)
        save_picture(image, target)
        _keep_time(source, target)


def is_foreign(target: Path, source: Path) -> bool:
    """Whether a file is neither a link to the source nor a copy of it in any of the ways."""
    return target.exists() and not target.samefile(source) and not _same_time(target, source)


def _link(source: Path, target: Path) -> None:
    """A symbolic link: it works across file systems and shows where the image is. Windows may refuse: then a copy."""
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.symlink(source, part)
    except (OSError, NotImplementedError):
        _copy(source, target)
    else:
        os.replace(part, target)


def _copy(source: Path, target: Path) -> None:
    with open(source, "rb") as original, atomic_file(target) as handle:
        shutil.copyfileobj(original, handle, 1 << 20)
    _keep_time(source, target)


def _keep_time(source: Path, target: Path) -> None:
    times = source.stat()
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))


def _same_time(target: Path, source: Path) -> bool:
    return abs(target.stat().st_mtime - source.stat().st_mtime) < 2     # copies keep the time; FAT rounds it
