"""File names as lists write them → the files that they mean: one set of rules for all lists."""

import difflib
import os
import posixpath
import unicodedata
from pathlib import Path
from typing import Iterable

from datasets.walking import is_image_name, walk
from utils import UserError

_QUOTES = "\"'`“”‘’"
_MOST_COMPARED = 20_000  # names among which the nearest one is looked for


def canonical(name: str) -> str:
    """Return one spelling of each name: ``./a.jpg`` and ``p1/../a.jpg`` are ``a.jpg``."""
    return posixpath.normpath(name) if "/" in name else name


def cleaned(name: str) -> str:
    """Return a listed name without quotes, with slashes, and in Unicode's composed form (NFC)."""
    name = name.strip()
    if len(name) > 1 and name[0] in _QUOTES and name[-1] in _QUOTES:
        name = name[1:-1].strip()
    return canonical(unicodedata.normalize("NFC", name.replace("\\", "/")))


class Names:
    """Finds the files that a list means, where it writes their names a little differently.

    ``names.find(listed)`` is the name of an existing file below ``root``. Files are the images below ``root``, or
    ``known``, some names relative to it. A name that is no file's is compared without regard to case, ``_aligned``,
    Unicode composition, an absent ending and leading directories; it is taken where one file alone is nearest.
    ``adapted`` maps such names to their files (but for ``_aligned``), ``missing`` maps names that mean no file or
    several to these.
    """

    def __init__(self, root: Path, known: Iterable[str] | None = None) -> None:
        self.root, self.adapted, self.missing = root, {}, {}
        self._files = _Files(root, known)
        self._meant: dict[str, str] = {}

    @classmethod
    def of_files(cls, root: Path, files: Iterable[Path]) -> "Names":
        """Return the names of those of some files that lie below ``root``."""
        return cls(root, [path.relative_to(root).as_posix() for path in files if root in path.parents])

    def another(self) -> "Names":
        """Return names of the same files for another list, which may write them in another way."""
        other = Names(self.root)
        other._files = self._files
        return other

    def is_file(self, name: str) -> bool:
        """Return whether a file has exactly this name."""
        return self._files.has(canonical(name))

    def find(self, listed: str) -> str | None:
        """Return the name of the file that is meant, or None. Raises UserError if two different names mean one file."""
        listed = listed.strip()
        name = next((name for name in (canonical(listed), cleaned(listed)) if self._files.has(name)), None)
        if name is None:
            nearest = self._files.nearest(cleaned(listed))
            if len(nearest) != 1:
                self.missing[listed] = nearest
                return None
            name = nearest[0]
        if name.replace("_aligned", "") != canonical(listed).replace("_aligned", ""):
            self.adapted[listed] = name
        before = self._meant.setdefault(name, listed)
        if before != listed and cleaned(before) != cleaned(listed):
            raise UserError(f"\"{shortened(before)}\" and \"{shortened(listed)}\" are both listed, and "
                            f"{self.root / name} is the only file that they can mean; correct the names, or put the "
                            "other file there")
        return name

    def explain_missing(self) -> str:
        """Describe the names that mean no single file: ``e.g. a.jpg and b.jpg (the nearest file: c.jpg)``."""
        first, *more = self.missing
        files = self.missing[first][:2]
        near = f"it may be {' or '.join(map(shortened, files))}" if files else self._files.hint(cleaned(first))
        return f"e.g. {shortened(first)}{f' and {shortened(more[0])}' if more else ''} ({near})"


def explain_adapted(adapted: dict[str, str], listed: str) -> str:
    """Describe :attr:`Names.adapted`, with one of them as the example."""
    return (f"{len(adapted)} listed names are written differently from their files', e.g. \"{shortened(listed)}\" for "
            f"{shortened(adapted[listed])}")


class _Files:
    """The names of the files below a directory, read when they are needed: the images there, or those ``known``."""

    def __init__(self, root: Path, known: Iterable[str] | None) -> None:
        self._root, self._known = root, None if known is None else list(known)
        self._by_folder: dict[str, set[str]] = {}
        self._by_stem: dict[str, list[str]] | None = None
        for name in self._known or ():
            self._by_folder.setdefault(name.rpartition("/")[0], set()).add(name.rpartition("/")[2])

    def has(self, name: str) -> bool:
        """Return whether a file has exactly this name."""
        folder, slash, base = name.rpartition("/")
        folder = folder or slash
        if folder not in self._by_folder:
            self._by_folder[folder] = _files_in(self._root / folder) if self._known is None else set()
        return base in self._by_folder[folder]

    def all(self) -> list[str]:
        """Return all names."""
        if self._known is None:
            images = walk(self._root).images if self._root.is_dir() else []
            self._known = [path.relative_to(self._root).as_posix() for path in images]
        return self._known

    def nearest(self, name: str) -> list[str]:
        """Return the files that a name may mean: one alone if it agrees with the name better in some respect than all
        others, and worse in none.
        """
        if self._by_stem is None:
            self._by_stem = {}
            for file in self.all():
                self._by_stem.setdefault(_stem(file), []).append(file)
        rated = [(agreement, file) for file in self._by_stem.get(_stem(name), ())
                 if (agreement := _agreement(name, file)) is not None]
        best = [file for agreement, file in rated
                if all(all(map(int.__ge__, agreement, other)) and agreement != other
                       for other, another in rated if another != file)]
        return best or [file for _, file in rated]

    def hint(self, name: str) -> str:
        """Return the existing file whose name is most like one, for a message."""
        near = difflib.get_close_matches(name, self.all()[:_MOST_COMPARED], 1, 0)
        return f"the nearest file: {shortened(near[0])}" if near else "there is no image at all"


def _files_in(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)}
    except (OSError, ValueError):
        return set()


def _stem(name: str) -> str:
    """Return the last part of a name without the ending of an image and ``_aligned``, in small letters."""
    last = cleaned(name).rpartition("/")[2].casefold()
    last = last.rpartition(".")[0] if is_image_name(last) else last
    return last.removesuffix("_aligned")


def _agreement(listed: str, file: str) -> tuple[int, ...] | None:
    """Return how well a name and a file of one stem agree, in four respects; None if one cannot mean the other."""
    (*above, last), (*around, other) = ([part.casefold() for part in cleaned(name).split("/") if part]
                                        for name in (listed, file))
    common = min(len(above), len(around))
    if above[len(above) - common:] != around[len(around) - common:]:
        return None
    same_ending = last.rpartition(".")[2] == other.rpartition(".")[2]
    if is_image_name(last) and is_image_name(other) and not same_ending and above != around:
        return None
    same_name = cleaned(listed).rpartition("/")[2] == cleaned(file).rpartition("/")[2]
    return 2 * common - len(above) - len(around), same_ending, ("_aligned" in last) == ("_aligned" in other), same_name


def directory_of(listed: Iterable[str], files: Iterable[Path]) -> Path | None:
    """Return the directory among those around some files to which listed names are relative: the first that holds one.
    """
    folders = sorted({parent for path in {path.parent for path in files} for parent in (path, path.parent)})
    return next((folder for name in listed for folder in folders if (folder / cleaned(name)).is_file()), None)


def shortened(line: str) -> str:
    """Return a name or a line as a message shows it."""
    return line.strip() if len(line.strip()) <= 60 else line.strip()[:57] + "..."
