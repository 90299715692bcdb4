"""The lists of a data directory: lines of text → labels and subjects by file name (METHOD §6).

Names in lists → the files that they mean, by one set of rules for all lists. :mod:`datasets.layout` turns the lists
into samples.
"""

import os
import posixpath
import re
import unicodedata
from copy import copy
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Collection, Iterable, Iterator, NamedTuple

from datasets.files import is_image_name, walk
from utils import UserError, placeholder, progress, refuse

LIST_NAMES = {"train": "images.list", "val": "images_val.list", "test": "images_test.list"}
MOST_EXPRESSIONS = 1000  # from so many on, labels are no expressions
TARGET_ONLY = "target_only"  # behind the names in expressions.txt: the next label marks neutral faces that are targets
LISTS = ("expressions.txt", "subjects.list", "images_val.list", "images_test.list", "images.list")
_QUOTES = "\"'`“”‘’"
_MOST_COMPARED = 20_000  # names that are compared to find the most similar one


class Row(NamedTuple):
    """A line of a list: its label, and ``where`` it stands, such as ``images.list, line 3``."""

    label: int
    where: str


@dataclass(frozen=True)
class Lists:
    """The content of a data directory's lists, by file name.

    ``expressions`` are the names of the labels, or None if the directory does not name them; ``has_target_only`` says
    whether the label behind them marks target-only faces. ``train`` lacks the names of the training list that the
    validation or test list has too; these are ``held_out``, and ``contradicted`` if the labels differ. ``subjects`` are
    (subject, scene or None), with one spelling for each person. ``adapted`` maps listed names that differ from their
    files' names to these.
    """

    root: Path
    expressions: tuple[str, ...] | None
    has_target_only: bool
    train: dict[str, Row]
    val: dict[str, Row]
    test: dict[str, Row]
    held_out: set[str]
    contradicted: set[str]
    subjects: dict[str, tuple[str, str | None]]
    adapted: dict[str, str]

    def labels(self) -> dict[str, Row]:
        """Return the rows of all three splits by their file names."""
        return {**self.train, **self.val, **self.test}


# ------------------------------------------------------------------------------------------------------- names of files

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
    composition, the ending and leading directories, and is resolved if a single file agrees with it, or a single one in
    all but case. ``adapted`` maps such names to their files, unless they differ in ``_aligned`` alone; ``missing`` maps
    names that mean no file or several files to these.
    """

    def __init__(self, root: Path, known: Iterable[str] | None = None) -> None:
        self.root, self._known = root, None if known is None else dict.fromkeys(known)
        self._folders: dict[str, set[str]] = {}
        self._by_end: dict[tuple[str, ...], list[str]] = {}
        self.adapted, self.missing, self._listed_by_file = {}, {}, {}

    @classmethod
    def of_files(cls, root: Path, files: Iterable[Path]) -> "Names":
        """Return the names of the given files that lie below ``root``."""
        return cls(root, [path.relative_to(root).as_posix() for path in files if root in path.parents])

    def for_another_list(self) -> "Names":
        """Return a finder of the same files for another list, which may spell their names in another way."""
        other = copy(self)
        other.adapted, other.missing, other._listed_by_file = {}, {}, {}
        return other

    def is_file(self, name: str) -> bool:
        """Return whether a file has exactly this name."""
        folder, slash, base = canonical(name).rpartition("/")
        if self._known is not None:
            return canonical(name) in self._known
        if folder + slash not in self._folders:
            self._folders[folder + slash] = _names_in(self.root / (folder + slash))
        return base in self._folders[folder + slash]

    def find(self, listed: str) -> str | None:
        """Return the name of the file that a listed name means, or None.

        Raises UserError if two different names mean one file.
        """
        listed = listed.strip()
        exact = [name for name in (canonical(listed), cleaned(listed)) if self.is_file(name)][:1]
        found = exact or self._similar(cleaned(listed))
        if len(found) != 1:
            self.missing[listed] = found
            return None
        name = found[0]
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
        nearest = get_close_matches(cleaned(first), self._all()[:_MOST_COMPARED], 1, 0)
        near = f"it may be {' or '.join(map(shortened, files))}" if files else \
            f"the nearest file: {shortened(nearest[0])}" if nearest else "there is no image at all"
        return f"e.g. {shortened(first)}{f' and {shortened(more[0])}' if more else ''} ({near})"

    def _all(self) -> list[str]:
        if self._known is not None:
            return list(self._known)
        images = walk(self.root).images if self.root.is_dir() else []
        return [path.relative_to(self.root).as_posix() for path in images]

    def _similar(self, listed: str) -> list[str]:
        """Return the files whose names agree with a listed one as far as both name directories.

        It is a single file if only one has the same ending and directories.
        """
        for name in () if self._by_end else self._all():
            for end in (_key(name)[-1:], ("", *_key(name))[-2:]):
                self._by_end.setdefault(end, []).append(name)
        key = _key(listed)
        ends = [key[-2:], ("", key[-1])] if len(key) > 1 else [key]
        files = [file for end in ends for file in self._by_end.get(end, ())
                 if all(map(str.__eq__, reversed(_key(file)), reversed(key)))]
        return [file for file in files if file.casefold() == listed.casefold()] or files


def explain_adapted(adapted: dict[str, str], listed: str) -> str:
    """Describe :attr:`Names.adapted`, with one of them as the example."""
    return (f"{len(adapted)} listed names are written differently from their files', e.g. \"{shortened(listed)}\" for "
            f"{shortened(adapted[listed])}")


def _names_in(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)}
    except (OSError, ValueError):
        return set()


def _key(name: str) -> tuple[str, ...]:
    """Return the parts of a name in small letters, the last without the ending of an image and ``_aligned``."""
    *folders, last = (part.casefold() for part in cleaned(name).split("/") if part)
    last = last.rpartition(".")[0] if is_image_name(last) else last
    return *folders, last.removesuffix("_aligned")


def directory_of(listed: Iterable[str], files: Iterable[Path]) -> Path | None:
    """Return the first directory around the files in which a listed name exists; the names are relative to it."""
    folders = sorted({parent for path in {path.parent for path in files} for parent in (path, path.parent)})
    return next((folder for name in listed for folder in folders if (folder / cleaned(name)).is_file()), None)


def shortened(line: str) -> str:
    """Return a name or a line, cut to 60 characters for a message."""
    return line.strip() if len(line.strip()) <= 60 else line.strip()[:57] + "..."


# -------------------------------------------------------------------------------------------------------------- reading

def read_lists(root: Path, *, complete: bool = True, need_test: bool = True) -> Lists:
    """Read the lists of a data directory.

    Raises UserError if a list is malformed, and with ``complete`` if the training or test list is absent; without
    ``need_test`` the test list may be absent.
    """
    advice = "put your faces there as datasets/README.md says, import a data set with python -m datasets.convert " \
        "(rafdb, folders, ...), or see it work with: python train.py --preset demo"
    refuse(root, (not root.is_dir(), f"no such data directory; {advice}"),
           (complete and {path.name for path in root.glob("*")} <= {"README.md"}, f"holds no data yet; {advice}"))
    files = Names(image_directory(root))
    names = {split: files.for_another_list() for split in LIST_NAMES}
    train = _read_split(root, "train", complete, names["train"])
    test = _read_split(root, "test", complete and need_test, names["test"])
    val = _read_split(root, "val", False, names["val"])
    held_out = train.keys() & (val.keys() | test.keys())
    contradicted = {name for name in held_out
                    if any(name in split and split[name].label != train[name].label for split in (val, test))}
    expressions = declared_expressions(root)
    has_target_only = expressions is not None and expressions[-1] == TARGET_ONLY
    expressions = expressions[:-1] if has_target_only else expressions
    return Lists(root, expressions, has_target_only, {name: row for name, row in train.items() if name not in held_out},
                 val, test, held_out, contradicted, _read_subjects(root, {*train, *val, *test}, files),
                 {listed: name for split in names.values() for listed, name in split.adapted.items()})


def declared_expressions(root: Path) -> tuple[str, ...] | None:
    """Return the names that a data directory gives its labels (``expressions.txt`` or ``list_attr_*``), or None.

    The last may be :data:`TARGET_ONLY`. Raises UserError if ``expressions.txt`` is empty, names an expression twice or
    names a thousand or more.
    """
    names_file = root / "expressions.txt"
    if names_file.is_file():
        names = tuple(read_lines(names_file, as_words=True))
        fault = "names no expression" if not names else \
            f"names {len(names)} expressions" if len(names) >= MOST_EXPRESSIONS else \
            next((f"names {shortened(name)} twice" for i, name in enumerate(names)
                  if name.casefold() in (other.casefold() for other in names[:i])), None)
        if fault:
            raise UserError(f"{names_file}: {fault}; it must name each expression once, in the order of the labels")
        return names
    path = _attribute_list(root, "train") or _attribute_list(root, "test")
    return path and _attribute_names(path)


def image_directory(root: Path) -> Path:
    """Return the directory of the images: the published code's ``align_5p/`` if it exists, else ``data/``."""
    return root / "align_5p" if (root / "align_5p").is_dir() else root / "data"


def _read_split(root: Path, split: str, required: bool, names: Names) -> dict[str, Row]:
    path = root / LIST_NAMES[split]
    if path.is_file():
        return read_label_list(path, names)
    attributes = _attribute_list(root, split)
    if attributes:
        return _read_attribute_list(attributes, names)
    if required:
        raise UserError(f"{path}: no such list (nor a list_attr_*_{split}.txt); "
                        + (f"{root} seems to hold folders of images; import them with python -m datasets.convert "
                           f"folders {root} --out OUT" if _holds_folders_of_images(root) else
                           "it needs one line \"<file name> <label>\" per image"))
    return {}


def _holds_folders_of_images(root: Path) -> bool:
    """Return whether the folders of a directory, or the folders in them, hold images."""
    folders = [path for path in root.glob("*") if path.is_dir() and path.name not in ("data", "align_5p")]
    return any(is_image_name(file.name) for folder in folders for pattern in ("*.*", "*/*.*")
               for file in islice(folder.glob(pattern), 100))


def read_label_list(path: Path, names: Names | None = None) -> dict[str, Row]:
    """Read lines ``<file name> <label>`` into {file name: row}; ``names`` finds the files that the list means.

    Raises UserError that names the line of a mistake, and raises it if no image is listed.
    """
    rows: dict[str, Row] = {}
    for number, line in numbered_lines(path):
        name, *label = line.strip().rsplit(None, 1)
        if len(label) != 1 or not is_integer(whole_number(label[0])):
            raise UserError(f"{path}, line {number}: \"{shortened(line)}\" is not \"<file name> <label>\"")
        _add_row(rows, name, Row(int(whole_number(label[0])), f"{path}, line {number}"), names)
    if not rows:
        raise UserError(f"{path}: lists no image")
    return rows


def _add_row(rows: dict[str, Row], name: str, row: Row, names: Names | None) -> None:
    name = _file_name(name, names)
    if rows.setdefault(name, row).label != row.label:
        raise UserError(f"{row.where}: {shortened(name)} has the label {row.label} here and {rows[name].label} before")


def _file_name(listed: str, names: Names | None) -> str:
    """Return the name of the file that a listed name means, or the listed name in one spelling if there is none."""
    return (names.find(listed) if names else None) or canonical(listed.strip())


def _attribute_list(root: Path, split: str) -> Path | None:
    paths = sorted(root.glob(f"list_attr_*_{split}.txt"))
    if len(paths) > 1:
        raise UserError(f"{root}: more than one list_attr_*_{split}.txt ({', '.join(path.name for path in paths)}); "
                        "keep one")
    return paths[0] if paths else None


def _attribute_names(path: Path) -> tuple[str, ...]:
    lines = read_lines(path)
    if len(lines) < 2 or not is_integer(lines[0].strip()) or not lines[1].split():
        raise UserError(f"{path}: the first line must be the number of images, the second the expressions' names")
    return tuple(lines[1].split())


def _read_attribute_list(path: Path, files: Names) -> dict[str, Row]:
    """Read the published ``list_attr_*``: count, names, then lines of a file name and n values, one 1, the others -1.
    """
    names, lines = _attribute_names(path), read_lines(path)
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines[2:], 3):
        if not line.strip():
            continue
        name, *values = line.rsplit(None, len(names))
        is_one = [value in ("1", "+1") for value in values]
        if len(values) != len(names) or sum(is_one) != 1 or not {*values} <= {"1", "+1", "-1", "0"}:
            raise UserError(f"{path}, line {number}: needs a file name and {len(names)} values, "
                            "one of them 1 and the others -1")
        _add_row(rows, name, Row(is_one.index(True), f"{path}, line {number}"), files)
    if len(rows) != int(lines[0]):
        raise UserError(f"{path}: announces {lines[0].strip()} images in its first line and lists {len(rows)}")
    return rows


def _read_subjects(root: Path, listed: Collection[str], names: Names) -> dict[str, tuple[str, str | None]]:
    """Read lines ``<file name> <subject> [<scene>]`` into {file name: (subject, scene)}; {} if there is no list.

    ``listed`` are the file names of the other lists, which tell where a name with spaces ends. Raises UserError if a
    line is malformed, a file has two subjects, or none of the names is ``listed``.
    """
    path = root / "subjects.list"
    if not path.is_file():
        return {}
    subjects: dict[str, tuple[str, str | None]] = {}
    spelling: dict[str, str] = {}
    for number, line in numbered_lines(path):
        choices = [line.strip().rsplit(None, 1), line.strip().rsplit(None, 2)]
        parts = next((parts for parts in choices if canonical(parts[0]) in listed), None) \
            or next((parts for parts in choices if _file_name(parts[0], names) in listed), line.split())
        if len(parts) not in (2, 3):
            raise UserError(f"{path}, line {number}: \"{shortened(line)}\" is not "
                            "\"<file name> <subject> [<scene>]\"")
        person = spelling.setdefault(person_key(parts[1]), parts[1])
        name, subject = _file_name(parts[0], names), (person, parts[2] if len(parts) == 3 else None)
        if subjects.setdefault(name, subject) != subject:
            here, before = (" ".join(filter(None, pair)) for pair in (subject, subjects[name]))
            raise UserError(f"{path}, line {number}: {shortened(name)} has the subject {here} here and {before} before")
    if subjects and listed and subjects.keys().isdisjoint(listed):
        raise UserError(f"{path}: names none of the listed images, but {shortened(next(iter(subjects)))}; write the "
                        "names as in images.list, or move the file away")
    return subjects


def person_key(subject: str) -> str:
    """Return what all spellings of a person's name have in common: ``S001`` and ``s001`` are one person."""
    return unicodedata.normalize("NFC", subject).casefold()


def subject_line(name: str, subject: str, scene: str | None) -> str:
    """Return a line of ``subjects.list``."""
    return " ".join(filter(None, (name, subject, scene))) + "\n"


# ------------------------------------------------------------------------------------------------ any text file

def text_lines(path: Path, newline: str | None = None) -> Iterator[str]:
    """Yield the lines of a text file with their line endings; ``newline`` is that of ``open``.

    Raises UserError if the file is unreadable or not text.
    """
    if kind := placeholder(path):
        raise UserError(f"{path}: is {kind}")
    try:
        with open(path, encoding="utf-8-sig", newline=newline) as handle:
            for line in handle:
                if "\0" in line:
                    raise UserError(f"{path}: not a text file (it holds zero bytes)")
                yield line
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def read_lines(path: Path, *, as_words: bool = False) -> list[str]:
    """Return the lines, or the words, of a text file. Raises UserError as :func:`text_lines` does."""
    text = "".join(text_lines(path))
    return text.split() if as_words else text.splitlines()


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file that are not empty, with their numbers from 1, and show a progress bar."""
    lines = read_lines(path)
    for number, line in enumerate(progress(lines, f"reading {path.name}", len(lines), "line"), 1):
        if line.strip():
            yield number, line


def is_integer(text: str) -> bool:
    """Return whether a text is a whole number of at most nine digits."""
    return re.fullmatch(r"[+-]?[0-9]{1,9}", text) is not None


def whole_number(text: str) -> str:
    """Return ``3`` for other forms of a whole number, such as ``3.0`` or ``3.0000000e+00``; any other text unchanged.
    """
    match = re.fullmatch(r"([+-]?[0-9]{1,9})(?:\.0*)?(?:e[+-]?0+)?", text, re.IGNORECASE)
    return match[1] if match else text
