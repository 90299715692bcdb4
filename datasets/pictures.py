"""Image files → RGB pictures: the reader of all commands."""

import io
import os
import re
import struct
import warnings
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Iterator

import numpy
from PIL import Image

from utils import UserError, placeholder

try:  # an optional package: HEIC files, as phones write them
    import pillow_heif
except ImportError:
    pass
else:
    pillow_heif.register_heif_opener()

# Pillow warns of unusual metadata, which are harmless, and of very large pictures, which are refused here in one line.
warnings.filterwarnings("ignore", module=r"PIL\.")
Image.init()  # all formats at once: of several threads that each load them when they open a file, one could miss some

ORIENTATION = 0x0112  # the EXIF tag that says how to turn a picture upright
TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
         5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
         8: Image.Transpose.ROTATE_90}
DEPTHS = 8, 10, 12, 14, 16  # bits of a grey value, as cameras and files use them
BLANK_SIDE, BLANK_DEVIATION = 32, 1.0  # a picture shows nothing if its grey levels at this side deviate less
BLANK = "nearly one color, it shows nothing"
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS, WEBP_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"), (b"VP8X", b"VP8 ", b"VP8L", b"ALPH")


class BadPicture(UserError):
    """An image file that cannot be used; ``fault`` says why in a few words."""

    def __init__(self, path: str | Path, fault: str) -> None:
        super().__init__(path, fault)
        self.path, self.fault = path, fault

    def __str__(self) -> str:
        if self.fault == "missing":
            return f"{self.path}: no such image; check its path, or choose another"
        return f"{self.path}: cannot be read as an image ({self.fault}); replace it"


def read_picture(path: str | Path, least: int | None = None, handle: BinaryIO | None = None) -> Image.Image:
    """Read any image file as RGB at its own size: turned as EXIF says, transparency on white, deep greys scaled.

    With ``least`` a JPEG file may be decoded at a smaller size of at least so many pixels a side, which is faster.
    ``handle`` is the file if it is open already. Metadata that cannot be read are ignored. Raises :class:`BadPicture`
    if the file is missing, too large, animated, of an unknown depth or cannot be decoded.
    """
    for again in (False, True):
        try:
            return _decoded(path, _without_metadata(path) if again else handle or path, least)
        except BadPicture:
            raise
        except MemoryError:
            raise BadPicture(path, "too large") from None
        except Exception:  # Pillow's format plugins raise errors of many kinds
            if again or (fault := image_fault(Path(path))):
                raise BadPicture(path, "damaged" if again else fault) from None


def read_image(path: str | Path, image_size: int, handle: BinaryIO | None = None) -> Image.Image:
    """Read an image file as :func:`read_picture` does, and resize it to image_size × image_size."""
    return read_picture(path, handle=handle).resize((image_size, image_size), Image.Resampling.BICUBIC)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB: transparency on white, 10 to 16-bit and floating-point greys as 8 bits.

    Raises ValueError if the values are of an unknown depth.
    """
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_as_bytes(numpy.asarray(image, dtype=numpy.float32), image.mode == "F"))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def greys_of(picture: Image.Image) -> numpy.ndarray:
    """Return the grey values of a picture at 32 × 32 pixels: (1024,) float32."""
    small = picture.convert("L").resize((BLANK_SIDE, BLANK_SIDE), Image.Resampling.BOX)
    return numpy.asarray(small, numpy.float32).ravel()


def is_blank(greys: numpy.ndarray) -> bool:
    """Return whether grey values (any shape) are nearly constant, like those of a black picture."""
    return bool(greys.std() < BLANK_DEVIATION)


def image_fault(path: Path) -> str | None:
    """Return what is wrong with an image file, according to its header, or None."""
    if not os.path.isfile(path):
        return "missing"
    for again in (False, True):
        try:
            with Image.open(_without_metadata(path) if again else path) as opened:
                return _fault_of(opened)
        except Image.DecompressionBombError:
            return "too large"
        except PermissionError:
            return "not readable"
        except Exception:  # Pillow's format plugins raise errors of many kinds
            pass
    with open(path, "rb") as handle:
        start = handle.read(12)
    if start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        return "HEIC, which needs pip install pillow-heif"
    return placeholder(path) or "no image"


def aspect_of(path: Path) -> float:
    """Return the width of a picture divided by its height, from its header; 1 if that cannot be read."""
    with suppress(Exception), Image.open(path) as opened:
        turned = opened.getexif().get(ORIENTATION, 1) > 4
        return opened.height / opened.width if turned else opened.width / opened.height
    return 1.0


def exif_turn(path: str | Path) -> Image.Transpose | None:
    """Return how a picture is turned when it is read, as its EXIF block says; None if it is not turned."""
    with suppress(Exception), Image.open(path) as opened:  # a file that cannot be opened is not turned
        return _turn(opened)
    return None


# ------------------------------------------------------------------------------------------------ one file

def _decoded(path: str | Path, source: BinaryIO | str | Path, least: int | None) -> Image.Image:
    with Image.open(source) as opened:
        if fault := _fault_of(opened):
            raise BadPicture(path, fault)
        opened.filename = ""  # else Pillow maps an uncompressed TIFF file that is turned by 90 degrees in a wrong shape
        deep = ";16" in str(opened.tile and opened.tile[0][3])  # Pillow keeps the upper 8 bits of deep colors
        if least:
            opened.draft("RGB", (least, least))
        opened.load()
        turn = _turn(opened)
        image = opened.transpose(turn) if turn is not None else opened
        try:
            if deep and len(opened.getbands()) > 1:
                _check_deep_colors(opened)
            return to_rgb(image)
        except ValueError as error:
            raise BadPicture(path, str(error)) from None


def _turn(opened: Image.Image) -> Image.Transpose | None:
    with suppress(Exception):  # metadata that cannot be read turn nothing
        return TURNS.get(opened.getexif().get(ORIENTATION))
    return None


def _fault_of(opened: Image.Image) -> str | None:
    """Return what is wrong with an opened image file (too many pixels, several pictures in one file), or None."""
    if opened.width * opened.height > (Image.MAX_IMAGE_PIXELS or float("inf")):
        return "too large"
    if opened.format == "MPO" or not getattr(opened, "is_animated", False):  # MPO holds further views of one picture
        return None
    size = opened.size
    opened.seek(1)
    same_size, _ = opened.size == size, opened.seek(0)  # a page of another size is a preview
    return f"it holds {opened.n_frames} pictures and not one" if same_size else None


# --------------------------------------------------------------------------------------------- deep greys

def _as_bytes(values: numpy.ndarray, is_float: bool) -> numpy.ndarray:
    """Return grey values of any depth as uint8. Raises ValueError if the depth is unknown."""
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if is_float and -0.05 <= low and high <= 1.05:  # resampling may exceed the range a little
        top = 1.0
    else:
        top = next((2.0 ** bits - 1 for bits in DEPTHS if 0 <= low and high < 2 ** bits), None)
    if top is None:
        raise ValueError(f"its values reach from {low:g} to {high:g}, an unknown depth: scale them to 8 bits")
    return (values.clip(0, top) * (255 / top)).astype(numpy.uint8)


def _check_deep_colors(image: Image.Image) -> None:
    """Check that 16-bit colors use the upper 8 bits, which Pillow keeps. Raises ValueError if they do not."""
    high = max(high for _, high in image.convert("RGB").getextrema())
    if high < 64:
        raise ValueError(f"its 16-bit colors reach {high * 256 + 255} at most, an unknown depth: scale them to 8 bits")


# --------------------------------------------------------------------------------- pixels without metadata

def _without_metadata(path: str | Path) -> BinaryIO:
    """Return a JPEG, PNG or WebP file without EXIF, XMP, ICC profile and comments.

    Raises ValueError if the file has another format.
    """
    content = Path(path).read_bytes()
    if content.startswith(b"\xff\xd8"):
        return io.BytesIO(b"".join(_jpeg_parts(content)))
    if content.startswith(PNG_START):
        chunks = _chunks(content, len(PNG_START), ">I4s", 12, 1)
        return io.BytesIO(PNG_START + b"".join(chunk for kind, chunk in chunks if kind in PNG_CHUNKS))
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        chunks = [chunk for kind, chunk in _chunks(content, 12, "<4sI", 8, 2) if kind in WEBP_CHUNKS]
        if chunks[0].startswith(b"VP8X"):  # of its flags, only the one for transparency is kept
            chunks[0] = chunks[0][:8] + bytes([chunks[0][8] & 0x10]) + chunks[0][9:]
        body = b"WEBP" + b"".join(chunks)
        return io.BytesIO(b"RIFF" + struct.pack("<I", len(body)) + body)
    raise ValueError("no format whose metadata can be removed")


def _chunks(content: bytes, offset: int, head: str, around: int, multiple: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the bytes of each chunk of a PNG or WebP file from an offset on.

    ``head`` is the form of length and kind, ``around`` the number of bytes besides the content, whose length is rounded
    up to a ``multiple``.
    """
    while offset + 8 <= len(content):
        kind, length = sorted(struct.unpack_from(head, content, offset), key=lambda value: isinstance(value, int))
        end = offset + around + -(-length // multiple) * multiple
        yield kind, content[offset:end]
        offset = end


def _jpeg_parts(content: bytes) -> Iterator[bytes]:
    """Yield the segments of a JPEG file without APP1 to APP13, APP15 and comments; APP14 says how colors are coded."""
    offset = 2
    yield content[:2]
    while content[offset + 1] != 0xda:  # the marker before the pixels
        end = offset + 2 + struct.unpack_from(">H", content, offset + 2)[0]
        if content[offset + 1] not in (*range(0xe1, 0xee), 0xef, 0xfe):
            yield content[offset:end]
        offset = re.compile(rb"\xff[\xc0-\xfe]").search(content, end).start()
    yield content[offset:]
