"""Checks of where a command may write, and figures that this program knows as its own."""

import os
from pathlib import Path
from typing import Iterable

from utils import UserError, save_picture

FIGURE = b"drawn by JESRL-FER"  # the comment in the files of figures


Paths = Iterable[str | os.PathLike]


def check_output(out: str | os.PathLike, flag: str, *, inputs: Paths = (), trees: Paths = (), apart: Paths = (),
                 directory: bool = False) -> None:
    """Check that a command may write its output to ``out``, with all links followed. Raises UserError if it may not.

    ``out`` is a file or, with ``directory``, a directory, named by ``flag``. What a command reads must stay untouched:
    ``out`` must be none of ``inputs``, lie in none of ``trees``, and neither lie in nor hold a directory of ``apart``.
    """
    out = Path(out)
    try:
        fault = _conflict_with_sources(out, inputs, trees, apart) or _fault_of_place(out.resolve(), directory)
    except (OSError, RuntimeError) as error:  # links that lead in a circle, a name that is too long
        fault = f"cannot be written to ({getattr(error, 'strerror', error)}); choose another"
    if fault:
        raise UserError(f"{flag} {out}: {fault}")


def _conflict_with_sources(out: Path, inputs: Paths, trees: Paths, apart: Paths) -> str | None:
    target = out.resolve()
    for path in map(Path, inputs):
        if path.resolve() == target or out.exists() and path.exists() and out.samefile(path):
            return f"is a file that is read ({path}), which stays untouched; choose another"
    for tree in (*trees, *apart):
        if _lies_in(target, Path(tree).resolve()):
            return f"lies inside the source {tree}, which stays untouched; choose another"
    return next((f"the source {tree} lies inside the output; choose another" for tree in apart
                 if _lies_in(Path(tree).resolve(), target)), None)


def _lies_in(path: Path, folder: Path) -> bool:
    """Return whether a path is a directory or lies in it, also if the names differ and the file system ignores that."""
    around = path, *path.parents
    return folder in around or folder.exists() and any(part.exists() and part.samefile(folder) for part in around)


def _fault_of_place(target: Path, directory: bool) -> str | None:
    if not directory and target.is_dir():
        return "is a directory; name a file"
    around = (target, *target.parents) if directory else target.parents
    existing = next((path for path in around if path.exists()), None)
    if existing is None:
        return f"{target.anchor} is not there; choose another place"
    if not existing.is_dir():
        return f"{existing} is a file; choose another place"
    if not os.access(existing, os.W_OK | os.X_OK):
        return f"{existing} is not writable; choose another place"
    longest = max(len(os.fsencode(part)) for part in target.parts)
    is_too_long = longest > 255 - len("..12345678.part")  # the name of the temporary file must fit as well
    return "a name is too long; choose another" if is_too_long else None


def check_table(path: Path, flag: str, *heads: str) -> None:
    """Check that a text file whose name was not typed is absent or empty, or begins with one of ``heads``.

    Raises UserError if not, since it would be replaced; ``flag`` is the option, with its value, that leads there.
    """
    if path.is_file():
        with open(path, encoding="utf-8", errors="replace") as handle:
            start = handle.read(max(map(len, heads)))
            if start and not start.startswith(heads):
                raise UserError(f"{flag}: {path} would be written, and holds something else; choose another place")


def save_figure(image, path: str | os.PathLike) -> None:
    """Write a picture with the comment by which :func:`is_drawn` recognizes this program's figures."""
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
    """Check that a picture whose name was not typed is absent or was drawn by this program.

    Raises UserError if not, since it would be replaced; ``flag`` is the option that leads elsewhere.
    """
    if os.path.lexists(path) and not is_drawn(path):
        raise UserError(f"{path}: exists, and nothing shows that this program drew it; move it away, or choose "
                        f"another place ({flag})")
