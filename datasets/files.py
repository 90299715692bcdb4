"""Which files are images by their names, and where a command may write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterable

from utils import UserError, save_picture

FIGURE = b"drawn by JESRL-FER"  # the comment in the file of a figure
ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2",
           ".avif", ".heic", ".heif")


def is_image_name(name: str) -> bool:
    """Whether a file is an image by its name; hidden files are not."""
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


def check_output(out: str | os.PathLike, flag: str, *, inputs: Iterable[str | os.PathLike] = (),
                 trees: Iterable[str | os.PathLike] = (), apart: Iterable[str | os.PathLike] = (),
                 directory: bool = False) -> None:
    """Raises UserError unless a command may write its output there, all links followed. Writes nothing.

    ``out`` is a file or, with ``directory``, a directory, named by ``flag``. It must be none of ``inputs``, lie in none
    of ``trees``, and neither in nor around any of the directories ``apart``: what a command reads stays untouched. And
    it can be made: no file where a directory is needed, and no directory that must not be written to.
    """
    out = Path(out)
    try:
        target = out.resolve()
        for path in map(Path, inputs):
            if path.resolve() == target or out.exists() and path.exists() and out.samefile(path):
                raise UserError(f"{flag} {out}: is a file that is read ({path}), which stays untouched; choose another")
        for tree in (*trees, *apart):
            if target == Path(tree).resolve() or Path(tree).resolve() in target.parents:
                raise UserError(f"{flag} {out}: lies inside the source {tree}, which stays untouched; choose another")
        for tree in apart:
            if target in Path(tree).resolve().parents:
                raise UserError(f"{flag} {out}: the source {tree} lies inside the output; choose another")
    except (OSError, RuntimeError) as error:  # a circle of links, a name that is too long
        raise UserError(f"{flag} {out}: cannot be written to ({getattr(error, 'strerror', error)}); choose another"
                        ) from None
    if not directory and target.is_dir():
        raise UserError(f"{flag} {out}: is a directory; name a file")
    existing = next(path for path in ((target, *target.parents) if directory else target.parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"{flag} {out}: {existing} is a file; choose another place")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{flag} {out}: {existing} is not writable; choose another place")
    longest = max(len(os.fsencode(part)) for part in target.parts)
    if longest > 255 - len("..12345678.part"):  # room for the name under which a file is begun
        raise UserError(f"{flag} {str(out)[:60]}...: a name is too long; choose another")


def check_table(path: Path, flag: str, *heads: str) -> None:
    """Raises UserError if a text file that is to be written by the way is there and does not begin as this program's
    do.

    ``flag`` is the option, with its value, that leads there; ``heads`` are how such files begin.
    """
    if path.is_file():
        with open(path, encoding="utf-8", errors="replace") as handle:
            begin = handle.read(max(map(len, heads)))
            if begin and not begin.startswith(heads):
                raise UserError(f"{flag}: {path} would be written, and holds something else; choose another place")


def save_figure(image, path: str | os.PathLike) -> None:
    """:func:`utils.save_picture` with the comment by which :func:`is_drawn` knows what this program has drawn."""
    save_picture(image, path, FIGURE)


def is_drawn(path: str | os.PathLike, comment: bytes = FIGURE) -> bool:
    """Whether a file is a picture with a comment of ours."""
    from PIL import Image  # lists are read without it

    try:
        with Image.open(path) as picture:
            return picture.info.get("comment") in (comment, comment.decode())  # of JPEG, of PNG
    except Exception:  # Pillow's format plugins raise whatever they stumble over
        return False


def check_figure(path: str | os.PathLike, flag: str) -> None:
    """Raises UserError if a picture is to be written whose name nobody typed, and another than ours has it.

    ``flag`` is the option that leads elsewhere.
    """
    if os.path.lexists(path) and not is_drawn(path):
        raise UserError(f"{path}: is there, and nothing says that this program drew it; move it away, or choose "
                        f"another place ({flag})")
