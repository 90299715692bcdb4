"""The lists of a data directory: lines of text → labels and subjects by file name (METHOD §6).

Which samples follow from them, :mod:`datasets.layout` says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Collection, Iterator, NamedTuple

from datasets.files import is_image_name
from datasets.names import Names, canonical, shortened
from utils import UserError, placeholder, progress

LIST_NAMES = {"train": "images.list", "val": "images_val.list", "test": "images_test.list"}
LISTS = ("expressions.txt", "subjects.list", "images_val.list", "images_test.list", "images.list")


class Row(NamedTuple):
    """A line of a list: the label that it gives, and where it stands."""

    label: int
    path: Path
    number: int

    @property
    def where(self) -> str:
        """``images.list, line 3``."""
        return f"{self.path}, line {self.number}"


@dataclass(frozen=True)
class Lists:
    """What the lists of a data directory say, by file name.

    ``expressions`` names the labels, or is None where nothing does. ``train`` lacks the names of the training list that
    the validation or test list has too; these are ``held_out``, and ``contradicted`` if the labels differ. ``subjects``
    are (subject, scene or None). ``adapted`` maps names that are written differently from their files' to these.
    """

    root: Path
    expressions: tuple[str, ...] | None
    train: dict[str, Row]
    val: dict[str, Row]
    test: dict[str, Row]
    held_out: set[str]
    contradicted: set[str]
    subjects: dict[str, tuple[str, str | None]]
    adapted: dict[str, str]

    def rows(self) -> list[Row]:
        """The rows of all three splits."""
        return [*self.train.values(), *self.val.values(), *self.test.values()]

    def names(self) -> set[str]:
        """The file names of all three splits."""
        return {*self.train, *self.val, *self.test}


def read_lists(root: Path, *, complete: bool = True, need_test: bool = True) -> Lists:
    """Read the lists of a data directory. Raises UserError if one is malformed or, if ``complete``, absent.

    Without ``need_test`` the test list may be absent.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such data directory; put your faces there as datasets/README.md says, "
                        "import a data set with python -m datasets.convert (rafdb, folders, ...), or see it work "
                        "with: python train.py --preset demo")
    first = Names(image_directory(root))
    names = {split: first.another() for split in LIST_NAMES}
    train = read_split(root, "train", required=complete, names=names["train"])
    test = read_split(root, "test", required=complete and need_test, names=names["test"])
    val = read_split(root, "val", required=False, names=names["val"])
    held_out = train.keys() & (val.keys() | test.keys())
    contradicted = {name for name in held_out if {train[name].label} != {part[name].label for part in (val, test)
                                                                         if name in part}}
    subjects = read_subjects(root, train.keys() | val.keys() | test.keys(), first)
    return Lists(root, declared_expressions(root), {name: row for name, row in train.items() if name not in held_out},
                 val, test, held_out, contradicted, subjects,
                 {listed: name for part in names.values() for listed, name in part.adapted.items()})


def declared_expressions(root: Path) -> tuple[str, ...] | None:
    """The names that a data directory gives its labels (``expressions.txt`` or ``list_attr_*``), or None."""
    names_file = root / "expressions.txt"
    if names_file.is_file():
        names = tuple(read_lines(names_file, as_words=True))
        double = [name for name in names if names.count(name) > 1] if len(names) < 1000 else ["no"]
        if not names or double or len(names) >= 1000:
            wrong = f"names {shortened(double[0])} twice" if double and len(names) < 1000 else \
                "names no expression" if not names else f"names {len(names)} expressions"
            raise UserError(f"{names_file}: {wrong}; it must name each expression once, in the labels' order")
        return names
    for split in ("train", "test"):
        path = _attribute_list(root, split)
        if path is not None:
            return _attribute_names(path)
    return None


def image_directory(root: Path) -> Path:
    """Return where the images of a data directory lie: the reference's ``align_5p/`` if it is there, else ``data/``."""
    return root / "align_5p" if (root / "align_5p").is_dir() else root / "data"


def read_split(root: Path, split: str, *, required: bool, names: Names | None = None) -> dict[str, Row]:
    """The rows of a split's list by file name; {} or, if ``required``, UserError where there is no list.

    ``names`` finds the files that the list means.
    """
    path = root / LIST_NAMES[split]
    if path.is_file():
        return read_label_list(path, names)
    attributes = _attribute_list(root, split)
    if attributes is not None:
        return _read_attribute_list(attributes, names)
    if required:
        raise UserError(f"{path}: no such list (nor a list_attr_*_{split}.txt); "
                        + (f"{root} looks like folders of images, import them with python -m datasets.convert folders "
                           f"{root} --out OUT" if _holds_folders_of_images(root) else
                           "it needs one line \"<file name> <label>\" per image"))
    return {}


def _holds_folders_of_images(root: Path) -> bool:
    """Whether images lie in folders of a directory, or in folders of its ``train`` and the like."""
    folders = [path for path in root.glob("*") if path.is_dir() and path.name not in ("data", "align_5p")]
    return any(is_image_name(file.name) for folder in folders for pattern in ("*.*", "*/*.*")
               for file in islice(folder.glob(pattern), 100))


def read_label_list(path: Path, names: Names | None = None) -> dict[str, Row]:
    """``<file name> <label>`` per line → {file name: row}; UserError names the file and line of a mistake.

    ``names`` finds the files that the list means.
    """
    rows: dict[str, Row] = {}
    for number, line in numbered_lines(path):
        name, *label = line.strip().rsplit(None, 1)
        if len(label) != 1 or not is_integer(whole_number(label[0])):
            raise UserError(f"{path}, line {number}: \"{shortened(line)}\" is not \"<file name> <label>\"")
        _add_row(rows, name, Row(int(whole_number(label[0])), path, number), names)
    if not rows:
        raise UserError(f"{path}: lists no image")
    return rows


def _add_row(rows: dict[str, Row], name: str, row: Row, names: Names | None) -> None:
    name = _meant(name, names)
    if name in rows and rows[name].label != row.label:
        raise UserError(f"{row.where}: {shortened(name)} has the label {row.label} here and {rows[name].label} before")
    rows[name] = row


def _meant(name: str, names: Names | None) -> str:
    return (names.find(name) if names else None) or canonical(name.strip())


def _attribute_list(root: Path, split: str) -> Path | None:
    found = sorted(root.glob(f"list_attr_*_{split}.txt"))
    if len(found) > 1:
        raise UserError(f"{root}: more than one list_attr_*_{split}.txt ({', '.join(p.name for p in found)}); "
                        "keep one")
    return found[0] if found else None


def _attribute_names(path: Path) -> tuple[str, ...]:
    lines = read_lines(path)
    if len(lines) < 2 or not is_integer(lines[0].strip()) or not lines[1].split():
        raise UserError(f"{path}: the first line must be the number of images, the second the expressions' names")
    return tuple(lines[1].split())


def _read_attribute_list(path: Path, files: Names | None) -> dict[str, Row]:
    """The reference's ``list_attr_*``: count, names, then ``<file name>`` and one of n values 1, the others -1."""
    names, lines = _attribute_names(path), read_lines(path)
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines[2:], 3):
        if not line.strip():
            continue
        parts = line.rsplit(None, len(names))
        values = parts[1:]
        if len(values) != len(names) or values.count("1") + values.count("+1") != 1 \
                or any(value not in ("1", "+1", "-1", "0") for value in values):
            raise UserError(f"{path}, line {number}: needs a file name and {len(names)} values, "
                            "one of them 1 and the others -1")
        label = next(i for i, value in enumerate(values) if value in ("1", "+1"))
        _add_row(rows, parts[0], Row(label, path, number), files)
    if len(rows) != int(lines[0]):
        raise UserError(f"{path}: announces {lines[0].strip()} images in its first line and lists {len(rows)}")
    return rows


def read_subjects(root: Path, listed: Collection[str], names: Names | None = None) -> dict[str, tuple[str, str | None]]:
    """``<file name> <subject> [<scene>]`` per line → {file name: (subject, scene)}; {} where there is no list.

    ``listed`` are the file names of the other lists: they tell where a name with spaces ends. ``names`` finds the files
    that are meant. Raises UserError for a malformed line, a file with two subjects, and where no name is listed.
    """
    path = root / "subjects.list"
    if not path.is_file():
        return {}
    subjects: dict[str, tuple[str, str | None]] = {}
    for number, line in numbered_lines(path):
        choices = [line.strip().rsplit(None, 1), line.strip().rsplit(None, 2)]
        parts = next((parts for parts in choices if canonical(parts[0]) in listed), None) \
            or next((parts for parts in choices if _meant(parts[0], names) in listed), line.split())
        if len(parts) not in (2, 3):
            raise UserError(f"{path}, line {number}: \"{shortened(line)}\" is not "
                            "\"<file name> <subject> [<scene>]\"")
        name, subject = _meant(parts[0], names), (parts[1], parts[2] if len(parts) == 3 else None)
        if subjects.setdefault(name, subject) != subject:
            here, before = (" ".join(filter(None, words)) for words in (subject, subjects[name]))
            raise UserError(f"{path}, line {number}: {shortened(name)} has the subject {here} here and {before} before")
    if subjects and listed and not any(name in listed for name in subjects):
        raise UserError(f"{path}: names none of the listed images, but {shortened(next(iter(subjects)))}; write the "
                        "names as in images.list, or move it away")
    return subjects


def subject_line(name: str, subject: str, scene: str | None) -> str:
    """A line of ``subjects.list``."""
    return " ".join(filter(None, (name, subject, scene))) + "\n"


# ------------------------------------------------------------------------------------------------ any text file

def read_lines(path: Path, *, as_words: bool = False) -> list[str]:
    """The lines (or words) of a text file. Raises UserError if it is unreadable or not text."""
    if found := placeholder(path):
        raise UserError(f"{path}: is {found}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if "\0" in text:
        raise UserError(f"{path}: not a text file (it holds zero bytes)")
    return text.split() if as_words else text.splitlines()


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that say something, with their numbers from 1, under a bar; errors of read_lines."""
    lines = read_lines(path)
    for number, line in enumerate(progress(lines, f"reading {path.name}", len(lines), "line"), 1):
        if line.strip():
            yield number, line


def is_integer(text: str) -> bool:
    """Whether a word of a list is a whole number of a sensible length."""
    return re.fullmatch(r"[+-]?[0-9]{1,9}", text) is not None


def whole_number(text: str) -> str:
    """A word that is a whole number, such as ``3.0`` or ``3.0000000e+00``, as ``3``; any other word as it is."""
    match = re.fullmatch(r"([+-]?[0-9]{1,9})(?:\.0*)?(?:e[+-]?0+)?", text, re.IGNORECASE)
    return match[1] if match else text
