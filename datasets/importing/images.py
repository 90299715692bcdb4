"""Images of a data set → the images of a data directory: as links, as copies or as smaller JPEG files.

Pixels that a table lists, and faces in boxes, become PNG files.
"""

import filecmp
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy
from PIL import Image

from datasets.importing.collection import FoundSample
from datasets.pictures import BLANK, BadPicture, fault_when_decoded, greys_of, is_blank, read_picture
from utils import UserError, atomic_file, encoded_picture, may_be_refused, save_picture

MOST_APART = 16  # gray levels between the 8 x 8 cells of a picture and of its smaller JPEG


@dataclass(frozen=True)
class ImageWriter:
    """Brings images into a data directory, as symbolic links unless something else is asked for.

    ``copy`` copies them; ``reencode`` makes upright JPEG files with a shorter side of at most so many pixels.
    """

    copy: bool
    reencode: int | None

    def name(self, sample: FoundSample) -> str:
        """Return the name that an image gets."""
        return str(Path(sample.name).with_suffix(".jpg")) if self.reencode else sample.name

    def is_current(self, target: Path, sample: FoundSample) -> bool:
        """Return whether an earlier run has written the image in the way that is asked for."""
        source = sample.path
        if not target.exists():
            return False
        if sample.is_extracted and not self.reencode:
            return _shows(target, sample)
        if not self.copy and not self.reencode:
            return target.samefile(source)
        if target.is_symlink() or target.samefile(source):
            return False
        if self.copy:
            return filecmp.cmp(target, source, shallow=False)
        if not _same_time(target, source):  # the source has changed, or the file system keeps no times
            return target.read_bytes() == encoded_picture(self._smaller(sample), target)
        with Image.open(target) as image:
            as_asked = image.format == "JPEG" and min(image.size) == min(self.reencode, *_whole(sample).size)
        return as_asked and _same_picture(target, sample)

    def write(self, sample: FoundSample, target: Path) -> None:
        """Write one image, whole or not at all."""
        if self.reencode:
            save_picture(self._smaller(sample), target)
            _keep_time(sample.path, target)
        elif sample.is_extracted:
            save_picture(_whole(sample), target)
        else:
            (_copy if self.copy else _link)(sample.path.resolve(), target)

    def _smaller(self, sample: FoundSample) -> Image.Image:
        image = _whole(sample)
        scale = self.reencode / min(image.size)
        if scale < 1:
            size = tuple(max(self.reencode, round(scale * length)) for length in image.size)
            image = image.resize(size, Image.Resampling.LANCZOS)
        return image


def fault_of(sample: FoundSample) -> str | None:
    """Return what is wrong with a sample's image, all of it read, or None."""
    if not sample.is_extracted:
        return fault_when_decoded(sample.path)
    try:
        return BLANK if is_blank(greys_of(_whole(sample))) else None
    except BadPicture as bad:
        return bad.fault


def is_foreign(target: Path, sample: FoundSample) -> bool:
    """Return whether a file is neither a link to a sample's image nor a copy of it in any of the ways."""
    if not target.exists():
        return False
    if sample.is_extracted and target.suffix == ".png":
        return not _shows(target, sample)
    if target.samefile(sample.path) or filecmp.cmp(target, sample.path, shallow=False):
        return False
    return not (_same_time(target, sample.path) and _same_picture(target, sample))


def _whole(sample: FoundSample) -> Image.Image:
    """Return a sample's picture, of a face in a box what lies inside the picture; BadPicture if nothing does."""
    if sample.pixels is not None:
        side = math.isqrt(len(sample.pixels))
        return Image.frombytes("L", (side, side), sample.pixels)
    picture = read_picture(sample.path)
    if sample.box is None:
        return picture
    left, top, right, bottom = sample.box
    inside = max(left, 0), max(top, 0), min(right, picture.width), min(bottom, picture.height)
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise BadPicture(sample.path, "its box lies outside the picture")
    return picture.crop(inside)


def _shows(target: Path, sample: FoundSample) -> bool:
    """Return whether a file holds exactly the pixels of an extracted sample."""
    try:
        with Image.open(target) as image:
            whole = _whole(sample)
            return image.format == "PNG" and image.mode == whole.mode and image.tobytes() == whole.tobytes()
    except Exception:  # Pillow's format plugins raise whatever they stumble over
        return False


def _link(source: Path, target: Path) -> None:
    """Make a symbolic link: it works across file systems and shows where the image is. Windows may refuse: a copy."""
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
    with may_be_refused():
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))


def _same_time(target: Path, source: Path) -> bool:
    return abs(target.stat().st_mtime - source.stat().st_mtime) < 2     # copies keep the time; FAT rounds it


def _same_picture(target: Path, sample: FoundSample) -> bool:
    """Return whether a file shows a sample's picture at any size: unpacked archives may give all files one time."""
    try:
        one, other = (numpy.asarray(picture.convert("L").resize((8, 8), Image.Resampling.BOX), numpy.int16)
                      for picture in (read_picture(target), _whole(sample)))
    except (UserError, OSError):
        return False
    return bool(numpy.abs(one - other).max() <= MOST_APART)
