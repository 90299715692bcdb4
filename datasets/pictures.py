"""Image files → RGB pictures: the one reader that all commands use."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy
from PIL import Image, ImageOps

from utils import UserError

# Pillow warns of odd metadata, which does no harm, and of very large pictures, which are refused here in one line.
warnings.filterwarnings("ignore", module=r"PIL\.")


class BadPicture(UserError):
    """An image file that cannot be used; ``fault`` says why in a word or two."""

    def __init__(self, path: str | Path, fault: str) -> None:
        super().__init__(path, fault)
        self.path, self.fault = path, fault

    def __str__(self) -> str:
        if self.fault == "missing":
            return f"{self.path}: no such image; look where it is, or take another"
        return f"{self.path}: cannot be read as an image ({self.fault}); replace it"


def read_picture(path: str | Path, least: int | None = None, handle: BinaryIO | None = None) -> Image.Image:
    """Any image file → RGB at its own size: EXIF rotation applied, transparency on white, 16 bits reduced.

    With ``least`` a JPEG file may come smaller, down to this many pixels a side, which is faster. ``handle`` is the
    file where it is open already. :class:`BadPicture` where the file is missing, too large or cannot be decoded.
    """
    try:
        with Image.open(handle or path) as opened:
            if _too_large(opened):
                raise BadPicture(path, "too large")
            if least:
                opened.draft("RGB", (least, least))
            return to_rgb(ImageOps.exif_transpose(opened))
    except BadPicture:
        raise
    except MemoryError:
        raise BadPicture(path, "too large") from None
    except Exception:  # Pillow's format plugins raise whatever they stumble over
        raise BadPicture(path, image_fault(Path(path)) or "damaged") from None


def read_image(path: str | Path, image_size: int, handle: BinaryIO | None = None) -> Image.Image:
    """:func:`read_picture` at image_size × image_size."""
    return read_picture(path, image_size, handle).resize((image_size, image_size), Image.Resampling.BICUBIC)


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB: transparency on white, 16-bit and floating-point greys brought to 8 bits."""
    if image.mode.startswith(("I", "F")):
        grey = numpy.asarray(image, dtype=numpy.float32)
        top = 255.0 if grey.max(initial=0.0) <= 255 else 65535.0
        image = Image.fromarray((grey.clip(0, top) * (255 / top)).astype(numpy.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def image_fault(path: Path) -> str | None:
    """What is wrong with an image file, judged by its header, or None."""
    if not os.path.isfile(path):
        return "missing"
    try:
        with Image.open(path) as opened:
            return "too large" if _too_large(opened) else None
    except Image.DecompressionBombError:
        return "too large"
    except PermissionError:
        return "not readable"
    except Exception:  # Pillow's format plugins raise whatever they stumble over
        return "no image"


def fault_when_decoded(path: Path) -> str | None:
    """What is wrong with an image file, judged by all of it, or None."""
    try:
        read_picture(path, least=1)  # of a JPEG file all is read, but little worked out
    except BadPicture as bad:
        return bad.fault
    return None


def _too_large(opened: Image.Image) -> bool:
    return opened.width * opened.height > (Image.MAX_IMAGE_PIXELS or float("inf"))
