"""Errors, seeds, files and digests, which every room needs; nothing here knows of faces.

torch is not imported with this module, so that ``--help`` answers at once.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import secrets
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Iterable, Iterator

if TYPE_CHECKING:
    import torch
    from tqdm import tqdm


class UserError(Exception):
    """A mistake in the input; its text says what is wrong, where, and what to do (one line, exit status 2)."""


class Stopped(Exception):
    """The end of a training after SIGINT or SIGTERM, with its state saved (exit status 128 + ``signum``)."""

    def __init__(self, signum: int, message: str = ""):
        super().__init__(message)
        self.signum = signum


def progress(iterable: Iterable | None, description: str, total: int | None = None, unit: str = "step",
             **settings: Any) -> "tqdm":
    """Return a tqdm bar, which is shown only on a terminal, so that log files hold no bars."""
    from tqdm import tqdm

    return tqdm(iterable, description, total, unit=unit, leave=False, dynamic_ncols=True,
                **{"disable": None, **settings})


# ---------------------------------------------------------------------------------------------- randomness

def derived_seed(seed: int, *stream: int | str) -> int:
    """Return the 63-bit seed of one named stream of random numbers, e.g. ``derived_seed(0, "noise", step)``.

    Every random draw of a training is a function of the seed and of *where* it is drawn. A run that is resumed at any
    step therefore needs no saved random state, and no stream shifts when another one draws more.
    """
    text = repr((int(seed), *stream)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def generator(seed: int, *stream: int | str) -> "torch.Generator":
    """Return a CPU ``torch.Generator`` for one named stream (see :func:`derived_seed`)."""
    import torch

    return torch.Generator().manual_seed(derived_seed(seed, *stream))


# --------------------------------------------------------------------------------------------------- files

REFUSALS = errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY


@contextlib.contextmanager
def may_be_refused() -> Iterator[None]:
    """Ignore the error of a file system that does not support an operation (SMB, S3 and FUSE mounts).

    It is meant for permissions, times and synchronization. Errors that lose data, such as a full disk, are raised.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise


def placeholder(path: str | os.PathLike) -> str | None:
    """Return what a file is if it was saved in place of the real one, such as a web page; None for any other file."""
    try:
        with open(path, "rb") as handle:
            start = handle.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    except OSError:
        return None
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself: fetch it with git lfs pull"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "a web page, not the file itself: download it again, and open it in a browser to see what went wrong"
    return None


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike, mode: str = "wb") -> Iterator[Any]:
    """Open a file for writing that appears under its name complete or not at all (temporary file, fsync, rename)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}  # the same bytes on every system
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(temporary, mode.replace("w", "x"), **text) as handle:
            yield handle
            handle.flush()
            with may_be_refused():
                os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_text(path: str | os.PathLike, text: str | Iterable[str]) -> None:
    """Write a text, or its parts one after the other, to a file, atomically."""
    with atomic_file(path, "w") as handle:
        handle.writelines([text] if isinstance(text, str) else text)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write an indented JSON file atomically; NaN and infinity become null."""
    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None


MOST_JSON = 1 << 26  # bytes; larger than any JSON file that this program writes


def read_json(path: str | os.PathLike) -> Any:
    """Return the content of a JSON file.

    Raises UserError if the file is absent, not JSON or larger than :data:`MOST_JSON`.
    """
    try:
        if Path(path).stat().st_size > MOST_JSON:
            raise UserError(f"{path}: too large to be a file of this program; restore it from a backup")
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except RecursionError:
        raise UserError(f"{path}: not readable as JSON (nested too deep); restore it from a backup") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from None


PICTURE_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".pdf": "PDF"}
LARGEST_SIDES = {"JPEG": 65500, "PDF": 65500, "WEBP": 16383}  # in pixels; a PDF file holds a JPEG one


def check_picture_name(path: str | os.PathLike) -> None:
    """Check that a picture can be written under this name. Raises UserError if it cannot."""
    if Path(path).suffix.lower() not in PICTURE_FORMATS:
        raise UserError(f"{path}: a picture's name must end in .png, .jpg or .pdf")


def save_picture(image, path: str | os.PathLike, comment: bytes | None = None) -> None:
    """Write a PIL image atomically in the format of the name's suffix, with a comment if that is JPEG or PNG."""
    content = encoded_picture(image, path, comment)
    with atomic_file(path) as handle:
        handle.write(content)


def encoded_picture(image, path: str | os.PathLike, comment: bytes | None = None) -> bytes:
    """Return the bytes that :func:`save_picture` writes. Raises UserError if the format cannot hold so large a picture.
    """
    import io

    from PIL.PngImagePlugin import PngInfo

    check_picture_name(path)
    buffer, file_format, settings = io.BytesIO(), PICTURE_FORMATS[Path(path).suffix.lower()], {}
    if max(image.size) > LARGEST_SIDES.get(file_format, math.inf):
        raise UserError(f"{path}: {image.width} x {image.height} pixels are too many for {file_format}; let the name "
                        "end in .png, or draw fewer pictures")
    if comment and file_format == "PNG":
        settings["pnginfo"] = PngInfo()
        settings["pnginfo"].add_text("comment", comment.decode())
    elif comment:
        settings["comment"] = comment
    image.save(buffer, format=file_format, quality=95, **settings)
    return buffer.getvalue()


# ----------------------------------------------------------------------------------------------------- digests

def sha256(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with open(path, "rb") as handle:
        return _digest(iter(lambda: handle.read(1 << 20), b""))


def digest_of_ends(handle: BinaryIO) -> bytes:
    """Return a SHA-256 of an open file's size, and of its first and last 512 KiB."""
    size, part = handle.seek(0, os.SEEK_END), 1 << 19
    handle.seek(0)
    digest = hashlib.sha256(str(size).encode() + handle.read(part))
    handle.seek(max(handle.tell(), size - part))
    digest.update(handle.read(part))
    return digest.digest()


def fingerprint(values: Iterable[Any]) -> str:
    """Return a SHA-256 of plain values in their order; an iterator has the digest of the list of its values."""
    return _digest(part.encode() for part in _list_repr(iter(values)))


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _list_repr(values: Iterator[Any]) -> Iterator[str]:
    """Yield the ``repr`` of a list of these values in parts, so that millions of them are never in memory at once."""
    separator = "["
    while chunk := list(islice(values, 1000)):
        yield separator + ", ".join("".join(_list_repr(value)) if isinstance(value, Iterator) else repr(value)
                                    for value in chunk)
        separator = ", "
    yield "]" if separator == ", " else "[]"
