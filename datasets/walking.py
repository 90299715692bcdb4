"""The files below a directory that belong to the user's data, as all commands find them."""

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from utils import UserError

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
