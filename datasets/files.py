"""The user's files: the images below a directory, checks of where a command may write, and this program's figures."""

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable

from utils import UserError, save_picture

ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2",
           ".avif", ".heic", ".heif")
_TOOL_DIRECTORY = re.compile(
    r"[.@#$~].*|__.*|lost\+found|System Volume Information|Network Trash Folder|Temporary Items", re.IGNORECASE)


def is_image_name(name: str) -> bool:
    """Return whether a file is an image by its name. Hidden files are not."""
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


def natural_key(text: str) -> tuple:
    """Return the key that sorts texts with the numbers in them as numbers: ``2`` before ``10``."""
    parts: list = re.split("([0-9]+)", text)
    parts[1::2] = [(len(part.lstrip("0")), part) for part in parts[1::2]]
    return tuple(parts), text


@dataclass
class Walk:
    """The files below some directories, sorted by their natural keys.

    ``images`` are those with the ending of an image, ``others`` all other visible ones. ``hidden`` counts by the reason
    the files that are hidden, or lie in hidden directories or those of tools.
    """

    images: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    hidden: Counter = field(default_factory=Counter)

    def passed_over(self) -> Counter:
        """Return the numbers of files that are no images, by the reason or by their ending."""
        return self.hidden + Counter(path.suffix.lower() or "without an ending" for path in self.others)


def walk(*roots: Path, below: bool = True) -> Walk:
    """Find the files in some directories, and with ``below`` in all directories below them.

    A directory is visited once, however many links lead to it, and by its own name rather than by a link. Raises
    UserError if a directory cannot be read.
    """
    walked, visited, waiting, links = Walk(), set(), list(roots), []
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)
        real = os.path.realpath(folder)
        if real in visited:
            walked.hidden["links to a directory that is read already"] += 1
            continue
        visited.add(real)
        for entry in _entries(folder):
            kind = _kind(entry)
            if kind == "directory" and _TOOL_DIRECTORY.fullmatch(entry.name):
                walked.hidden[f"in {entry.name}"] += sum(len(files) for _, _, files in os.walk(entry.path))
            elif kind == "directory" and below:
                (links if entry.is_symlink() else waiting).append(Path(entry.path))
            elif kind == "file" and entry.name.startswith("."):
                walked.hidden["hidden"] += 1
            elif kind == "file":
                (walked.images if is_image_name(entry.name) else walked.others).append(Path(entry.path))
            elif kind != "directory":
                walked.hidden[kind] += 1
    for files in (walked.images, walked.others):
        files.sort(key=lambda path: natural_key(str(path)))
    walked.hidden += Counter()  # removes the zero counts of directories without files
    return walked


def _entries(folder: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); make it readable, or move it away") from None


def _kind(entry: os.DirEntry) -> str:
    try:
        if entry.is_dir():
            return "directory"
        return "file" if entry.is_file() else "broken links" if entry.is_symlink() else "no regular files"
    except OSError:  # links that lead in a circle
        return "broken links"


def describe(counts: Counter) -> str:
    """Return the number of files and its parts as text: ``7 passed over (5 in .ipynb_checkpoints, 2 .txt)``."""
    parts = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    return f"{counts.total()} passed over" + (f" ({parts})" if parts else "")


# -------------------------------------------------------------------------------------------- where a command may write

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
