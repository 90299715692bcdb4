"""SHA-256 of files and of plain values: whether something is still what it was."""

from __future__ import annotations

import hashlib
import os
from itertools import islice
from typing import Any, BinaryIO, Iterable, Iterator


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as handle:
        return _digest(iter(lambda: handle.read(1 << 20), b""))


def digest_of_ends(handle: BinaryIO, part: int = 1 << 19) -> bytes:
    """A SHA-256 of an open file's size and content; beyond twice ``part`` bytes, of its size, beginning and end."""
    size = handle.seek(0, os.SEEK_END)
    handle.seek(0)
    digest = hashlib.sha256(str(size).encode() + handle.read(part))
    handle.seek(max(handle.tell(), size - part))
    digest.update(handle.read(part))
    return digest.digest()


def fingerprint(values: Iterable[Any]) -> str:
    """A SHA-256 of plain values, the same for equal values in equal order; an iterator counts as the list of its own."""
    return _digest(part.encode() for part in _written(iter(values)))


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _written(values: Iterator[Any]) -> Iterator[str]:
    """The ``repr`` of a list of these values, part by part: millions of them are never in memory at once."""
    before = "["
    while some := list(islice(values, 1000)):
        yield before + ", ".join("".join(_written(value)) if isinstance(value, Iterator) else repr(value)
                                 for value in some)
        before = ", "
    yield "]" if before == ", " else "[]"
