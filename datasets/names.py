"""Names in lists → the files that they mean, by one set of rules for all lists."""

import difflib
import os
import posixpath
import unicodedata
from pathlib import Path
from typing import Iterable

from datasets.walking import is_image_name, walk
from utils import UserError

_QUOTES = "\"'`“”‘’"
_MOST_COMPARED = 20_000  # names that are compared to find the most similar one


def canonical(name: str) -> str:
    """Return a name in one spelling: ``./a.jpg`` and ``p1/../a.jpg`` are ``a.jpg``."""
    return posixpath.normpath(name) if "/" in name else name


def cleaned(name: str) -> str:
    """Return a listed name without quotes, with slashes, and in Unicode's composed form (NFC)."""
    name = name.strip()
    if len(name) > 1 and name[0] in _QUOTES and name[-1] in _QUOTES:
        name = name[1:-1].strip()
    return canonical(unicodedata.normalize("NFC", name.replace("\\", "/")))


class Names:
    """Finds the files that a list means, even if it spells their names a little differently.

    ``names.find(listed)`` is the name of an existing file below ``root``. The files are the images below ``root``, or
    ``known``, names relative to it. A name that no file has is compared without regard to case, ``_aligned``, Unicode
    composition, a missing ending and leading directories, and is resolved if a single file is nearest. ``adapted`` maps
    such names to their files, unless they differ in ``_aligned`` alone; ``missing`` maps names that mean no file or
    several files to these.
    """

    def __init__(self, root: Path, known: Iterable[str] | None = None) -> None:
        self.root, self.adapted, self.missing = root, {}, {}
        self._files = _Files(root, known)
        self._listed_by_file: dict[str, str] = {}

    @classmethod
    def of_files(cls, root: Path, files: Iterable[Path]) -> "Names":
        """Return the names of the given files that lie below ``root``."""
        return cls(root, [path.relative_to(root).as_posix() for path in files if root in path.parents])

    def for_another_list(self) -> "Names":
        """Return a finder of the same files for another list, which may spell their names in another way."""
        other = Names(self.root)
        other._files = self._files
        return other

    def is_file(self, name: str) -> bool:
        """Return whether a file has exactly this name."""
        return self._files.has(canonical(name))

    def find(self, listed: str) -> str | None:
        """Return the name of the file that a listed name means, or None.

        Raises UserError if two different names mean one file.
        """
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
        before = self._listed_by_file.setdefault(name, listed)
        if before != listed and cleaned(before) != cleaned(listed):
            raise UserError(f"\"{shortened(before)}\" and \"{shortened(listed)}\" are both listed, and "
                            f"{self.root / name} is the only file that they can mean; correct the names, or add the "
                            "other file")
        return name

    def explain_missing(self) -> str:
        """Describe names that do not mean a single file: ``e.g. a.jpg and b.jpg (the nearest file: c.jpg)``."""
        first, *more = self.missing
        files = self.missing[first][:2]
        near = f"it may be {' or '.join(map(shortened, files))}" if files else self._files.hint(cleaned(first))
        return f"e.g. {shortened(first)}{f' and {shortened(more[0])}' if more else ''} ({near})"


def explain_adapted(adapted: dict[str, str], listed: str) -> str:
    """Describe :attr:`Names.adapted`, with one of them as the example."""
    return (f"{len(adapted)} listed names are written differently from their files', e.g. \"{shortened(listed)}\" for "
            f"{shortened(adapted[listed])}")


class _Files:
    """The names of the images below a directory, which are read when they are needed, or the ``known`` names."""

    def __init__(self, root: Path, known: Iterable[str] | None) -> None:
        self._root, self._known = root, None if known is None else list(known)
        self._by_folder: dict[str, set[str]] = {}
        self._by_stem: dict[str, dict[str, list[str]]] | None = None  # and by their directories' last parts
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
        """Return the files that a name may mean.

        It is a single file if one agrees with the name better than all others in some respect, and worse in none.
        """
        if self._by_stem is None:
            self._by_stem = {}
            for file in self.all():
                self._by_stem.setdefault(_stem(file), {}).setdefault(_folder(file), []).append(file)
        by_folder, folder = self._by_stem.get(_stem(name), {}), _folder(name)
        chosen = map(by_folder.get, (folder, "")) if folder else by_folder.values()  # others cannot be meant
        rated = [(agreement, file) for files in chosen for file in files or ()
                 if (agreement := _agreement(name, file)) is not None]
        best = [file for agreement, file in rated
                if all(all(map(int.__ge__, agreement, other_agreement)) and agreement != other_agreement
                       for other_agreement, other in rated if other != file)]
        return best or [file for _, file in rated]

    def hint(self, name: str) -> str:
        """Return a phrase for a message that names the existing file whose name is most similar."""
        similar = difflib.get_close_matches(name, self.all()[:_MOST_COMPARED], 1, 0)
        return f"the nearest file: {shortened(similar[0])}" if similar else "there is no image at all"


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


def _folder(name: str) -> str:
    """Return the last part of a name's directory in small letters, "" if it has none."""
    return "".join([part.casefold() for part in cleaned(name).split("/") if part][-2:-1])


def _agreement(listed: str, file: str) -> tuple[int, ...] | None:
    """Rate how well a listed name and a file with the same stem agree: directories, ending, ``_aligned`` and case.

    Returns None if the name cannot mean the file.
    """
    (*listed_folders, listed_base), (*folders, base) = (
        [part.casefold() for part in cleaned(name).split("/") if part] for name in (listed, file))
    common = min(len(listed_folders), len(folders))
    if listed_folders[len(listed_folders) - common:] != folders[len(folders) - common:]:
        return None
    same_ending = listed_base.rpartition(".")[2] == base.rpartition(".")[2]
    if is_image_name(listed_base) and is_image_name(base) and not same_ending and listed_folders != folders:
        return None
    same_case = cleaned(listed).rpartition("/")[2] == cleaned(file).rpartition("/")[2]
    return (2 * common - len(listed_folders) - len(folders), same_ending,
            ("_aligned" in listed_base) == ("_aligned" in base), same_case)


def directory_of(listed: Iterable[str], files: Iterable[Path]) -> Path | None:
    """Return the first directory around the files in which a listed name exists; the names are relative to it."""
    folders = sorted({parent for path in {path.parent for path in files} for parent in (path, path.parent)})
    return next((folder for name in listed for folder in folders if (folder / cleaned(name)).is_file()), None)


def shortened(line: str) -> str:
    """Return a name or a line, cut to 60 characters for a message."""
    return line.strip() if len(line.strip()) <= 60 else line.strip()[:57] + "..."
