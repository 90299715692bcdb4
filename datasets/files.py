"""Where a command may write."""

import os
from pathlib import Path
from typing import Iterable

from utils import UserError, save_picture

FIGURE = b"drawn by JESRL-FER"  # the comment in the file of a figure


def check_output(out: str | os.PathLike, flag: str, *, inputs: Iterable[str | os.PathLike] = (),
                 trees: Iterable[str | os.PathLike] = (), apart: Iterable[str | os.PathLike] = (),
                 directory: bool = False) -> None:
    """Raise UserError unless a command may write its output there, all links followed. Writes nothing.

    ``out`` is a file or, with ``directory``, a directory, named by ``flag``. It must be none of ``inputs``, lie in none
    of ``trees``, and neither in nor around any of the directories ``apart``: what a command reads stays untouched.
    """
    out = Path(out)
    try:
        target = out.resolve()
        for path in map(Path, inputs):
            if path.resolve() == target or out.exists() and path.exists() and out.samefile(path):
                raise UserError(f"{flag} {out}: is a file that is read ({path}), which stays untouched; choose another")
        for tree in (*trees, *apart):
            if Path(tree).resolve() in (target, *target.parents):
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
    """Raise UserError if a text file whose name nobody typed would be replaced and begins with none of ``heads``.

    ``flag`` is the option, with its value, that leads there.
    """
    if path.is_file():
        with open(path, encoding="utf-8", errors="replace") as handle:
            begin = handle.read(max(map(len, heads)))
            if begin and not begin.startswith(heads):
                raise UserError(f"{flag}: {path} would be written, and holds something else; choose another place")


def save_figure(image, path: str | os.PathLike) -> None:
    """Write a picture with the comment by which :func:`is_drawn` knows what this program has drawn."""
    save_picture(image, path, FIGURE)


def is_drawn(path: str | os.PathLike, comment: bytes = FIGURE) -> bool:
    """Return whether a file is a picture with this comment."""
    from PIL import Image  # lists are read without it

    try:
        with Image.open(path) as picture:
            return picture.info.get("comment") in (comment, comment.decode())  # of JPEG, of PNG
    except Exception:  # Pillow's format plugins raise whatever they stumble over
        return False


def check_figure(path: str | os.PathLike, flag: str) -> None:
    """Raise UserError if a picture whose name nobody typed would replace one that this program has not drawn.

    ``flag`` is the option that leads elsewhere.
    """
    if os.path.lexists(path) and not is_drawn(path):
        raise UserError(f"{path}: is there, and nothing says that this program drew it; move it away, or choose "
                        f"another place ({flag})")
