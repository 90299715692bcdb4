"""The images of a data set → those of a data directory: as links, as copies or as smaller JPEG files.

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

from datasets.importing.collection import SourceSample
from datasets.pictures import BLANK, BadPicture, fault_when_decoded, greys_of, is_blank, read_picture
from utils import UserError, atomic_file, encoded_picture, may_be_refused, save_picture

MOST_APART = 16  # gray levels between the 8 x 8 cells of a picture and of its smaller JPEG


@dataclass(frozen=True)
class ImageWriter:
    """Writes images into a data directory: as copies, as smaller JPEG files or, by default, as symbolic links.

    ``copy`` makes copies; ``reencode`` makes upright JPEG files with a shorter side of at most so many pixels.
    """

    copy: bool
    reencode: int | None

    def name(self, sample: SourceSample) -> str:
        """Return the file name of a sample's image in the data directory."""
        return str(Path(sample.name).with_suffix(".jpg")) if self.reencode else sample.name

    def is_current(self, target: Path, sample: SourceSample) -> bool:
        """Return whether an earlier run has written the image in the same form."""
        source = sample.path
        if not target.exists():
            return False
        if sample.is_extracted and not self.reencode:
            return _holds_pixels(target, sample)
        if not self.copy and not self.reencode:
            return target.samefile(source)
        if target.is_symlink() or target.samefile(source):
            return False
        if self.copy:
            return filecmp.cmp(target, source, shallow=False)
        if not _has_time_of(target, source):  # the source has changed, or the file system keeps no times
            return target.read_bytes() == encoded_picture(self._reencoded(sample), target)
        with Image.open(target) as image:
            same_form = image.format == "JPEG" and min(image.size) == min(self.reencode, *_picture_of(sample).size)
        return same_form and _shows_picture_of(target, sample)

    def write(self, sample: SourceSample, target: Path) -> None:
        """Write one image, completely or not at all."""
        if self.reencode:
            save_picture(self._reencoded(sample), target)
            _keep_time(sample.path, target)
        elif sample.is_extracted:
            save_picture(_picture_of(sample), target)
        else:
            (_copy if self.copy else _link)(sample.path.resolve(), target)

    def _reencoded(self, sample: SourceSample) -> Image.Image:
        image = _picture_of(sample)
        scale = self.reencode / min(image.size)
        if scale < 1:
            size = tuple(max(self.reencode, round(scale * length)) for length in image.size)
            image = image.resize(size, Image.Resampling.LANCZOS)
        return image


def fault_of(sample: SourceSample) -> str | None:
    """Return what is wrong with a sample's image, which is decoded, or None."""
    if not sample.is_extracted:
        return fault_when_decoded(sample.path)
    try:
        return BLANK if is_blank(greys_of(_picture_of(sample))) else None
    except BadPicture as bad:
        return bad.fault


def is_foreign(target: Path, sample: SourceSample) -> bool:
    """Return whether a file is neither a link to a sample's image nor a copy of it in any form."""
    if not target.exists():
        return False
    if sample.is_extracted and target.suffix == ".png":
        return not _holds_pixels(target, sample)
    if target.samefile(sample.path) or filecmp.cmp(target, sample.path, shallow=False):
        return False
    return not (_has_time_of(target, sample.path) and _shows_picture_of(target, sample))


def _picture_of(sample: SourceSample) -> Image.Image:
    """Return a sample's picture, cropped to the part of its box that lies inside. Raises BadPicture if none does."""
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


def _holds_pixels(target: Path, sample: SourceSample) -> bool:
    """Return whether a file holds exactly the pixels of an extracted sample."""
    try:
        with Image.open(target) as image:
            picture = _picture_of(sample)
            return image.format == "PNG" and image.mode == picture.mode and image.tobytes() == picture.tobytes()
    except Exception:  # Pillow's format plugins raise errors of many types for a damaged file
        return False


def _link(source: Path, target: Path) -> None:
    """Make a symbolic link, which works across file systems; or a copy if links are refused, as on Windows."""
    unfinished = target.with_name(f".{target.name}.part")
    unfinished.unlink(missing_ok=True)
    try:
        os.symlink(source, unfinished)
    except (OSError, NotImplementedError):
        _copy(source, target)
    else:
        os.replace(unfinished, target)


def _copy(source: Path, target: Path) -> None:
    with open(source, "rb") as original, atomic_file(target) as handle:
        shutil.copyfileobj(original, handle, 1 << 20)
    _keep_time(source, target)


def _keep_time(source: Path, target: Path) -> None:
    times = source.stat()
    with may_be_refused():
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))


def _has_time_of(target: Path, source: Path) -> bool:
    return abs(target.stat().st_mtime - source.stat().st_mtime) < 2     # copies keep the time; FAT rounds it


def _shows_picture_of(target: Path, sample: SourceSample) -> bool:
    """Return whether a file shows a sample's picture at any size.

    Equal times do not say so: all files of an unpacked archive may have the same one.
    """
    try:
        written, original = (numpy.asarray(picture.convert("L").resize((8, 8), Image.Resampling.BOX), numpy.int16)
                             for picture in (read_picture(target), _picture_of(sample)))
    except (UserError, OSError):
        return False
    return bool(numpy.abs(written - original).max() <= MOST_APART)
