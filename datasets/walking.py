"""Which files below a directory belong to the user's data: the one walk of all commands."""

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from utils import UserError

ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2",
           ".avif", ".heic", ".heif")
_OF_TOOLS = re.compile(r"[.@#$~].*|__.*|lost\+found|System Volume Information|Network Trash Folder|Temporary Items",
                       re.IGNORECASE)


def is_image_name(name: str) -> bool:
    """Return whether a file is an image by its name; hidden files are not."""
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


def natural_key(text: str) -> tuple:
    """Return the key that sorts texts with the numbers in them as numbers: ``2`` before ``10``."""
    parts: list = re.split("([0-9]+)", text)
    parts[1::2] = [(len(part.lstrip("0")), part) for part in parts[1::2]]
    return tuple(parts), text


@dataclass
class Walk:
    """The files below some directories, by their natural keys.

    ``images`` are those with the ending of an image, ``others`` all other visible ones. ``hidden`` counts the files
    that are hidden, or in directories that are hidden or that tools have made, by the reason.
    """

    images: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    hidden: Counter = field(default_factory=Counter)

    def passed_over(self) -> Counter:
        """Return the number of files that are no images, by the reason or by their ending."""
        return self.hidden + Counter(path.suffix.lower() or "without an ending" for path in self.others)


def walk(*roots: Path, below: bool = True) -> Walk:
    """Find the files in some directories, and ``below`` them.

    A directory is visited once, however many links lead to it, and rather by its own name than by a link.
    Raises UserError if one cannot be read.
    """
    found, visited, waiting, links = Walk(), set(), list(roots), []
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)
        real = os.path.realpath(folder)
        if real in visited:
            found.hidden["links to a directory that is read already"] += 1
            continue
        visited.add(real)
        for entry in _entries(folder):
            kind = _kind(entry)
            if kind == "directory" and _OF_TOOLS.fullmatch(entry.name):
                found.hidden[f"in {entry.name}"] += sum(len(files) for _, _, files in os.walk(entry.path))
            elif kind == "directory" and below:
                (links if entry.is_symlink() else waiting).append(Path(entry.path))
            elif kind == "file" and entry.name.startswith("."):
                found.hidden["hidden"] += 1
            elif kind == "file":
                (found.images if is_image_name(entry.name) else found.others).append(Path(entry.path))
            elif kind != "directory":
                found.hidden[kind] += 1
    for files in (found.images, found.others):
        files.sort(key=lambda path: natural_key(str(path)))
    found.hidden += Counter()  # without directories that hold no file
    return found


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
    except OSError:  # a circle of links
        return "broken links"


def describe(counts: Counter) -> str:
    """Return the number of files and what it is made of: ``7 passed over (5 in .ipynb_checkpoints, 2 .txt)``."""
    parts = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    return f"{counts.total()} passed over" + (f" ({parts})" if parts else "")
