"""The ``datasets/multiple`` layout: lists → samples, splits, checks (METHOD §6).

A directory holds ``data/`` (or the reference's ``align_5p/``) with the images, ``images.list`` and
``images_test.list`` (``<file name> <label>`` per line), and, where there is more to say, ``images_val.list``,
``subjects.list`` (``<file name> <subject> [<scene>]``), ``images_gan_nature.list`` (the pairs to synthesize) and
``expressions.txt`` (the names of the labels, in order). The reference's ``list_attr_*_{train,test}.txt`` stand in
for absent ``images*.list``. Reading never writes into the directory.
"""

from __future__ import annotations

import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Collection, Iterable, Sequence

from utils import UserError, write_text


@dataclass(frozen=True)
class Sample:
    """One image of a list. ``label`` is a position in the expressions, or their number for a target-only face."""

    name: str
    label: int
    path: Path
    subject: str | None = None
    scene: str | None = None


@dataclass(frozen=True)
class DataSet:
    """What ``--data`` knows of a published data set (METHOD §6)."""

    name: str
    directory: str
    expressions: tuple[str, ...]


DATA_SETS = {
    1: DataSet("mmi", "datasets/MMI", ("anger", "disgust", "fear", "happiness", "sadness", "surprise")),
    2: DataSet("multipie", "datasets/multiple", ("disgust", "scream", "smile", "squint", "surprise", "neutral")),
    3: DataSet("raf", "datasets/RAF",
               ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")),
}


@dataclass(frozen=True)
class Layout:
    """The samples of a data directory by split. Labels are positions in ``expressions``.

    ``neutral`` is the label of the neutral faces that synthesis takes as targets; it is ``len(expressions)`` where
    these are ``target_only``: faces in no class, no GAN pair and no test (METHOD §7, row 15). ``left_out`` are training
    images of expressions that were not asked for; ``listed`` names the labels as the lists number them.
    """

    root: Path
    expressions: tuple[str, ...]
    neutral: int
    train: list[Sample]
    val: list[Sample]
    test: list[Sample]
    target_only: list[Sample] = field(default_factory=list)
    left_out: list[Sample] = field(default_factory=list)
    listed: tuple[str, ...] = ()

    def split(self, name: str) -> list[Sample]:
        """The samples of ``train``, ``val`` or ``test``, or of ``all`` three."""
        return self.train + self.val + self.test if name == "all" else getattr(self, name)

    def counts(self, name: str) -> list[int]:
        """Images per expression in a split."""
        counted = Counter(sample.label for sample in self.split(name))
        return [counted[label] for label in range(len(self.expressions))]


def short_names(expressions: Sequence[str]) -> list[str]:
    """Two-letter names for tables (``DI SC SM SQ SU NE``, METHOD §6); longer where two letters are not enough."""
    for length in range(2, max(map(len, expressions)) + 1):
        names = [name[:length].upper() for name in expressions]
        if len(set(names)) == len(names):
            return names
    return list(expressions)


# ------------------------------------------------------------------------------------------------- reading

def declared_expressions(root: Path) -> tuple[str, ...] | None:
    """The names that a data directory gives its labels (``expressions.txt`` or ``list_attr_*``), or None."""
    names_file = root / "expressions.txt"
    if names_file.is_file():
        return tuple(read_lines(names_file, as_words=True))
    for split in ("train", "test"):
        path = _attribute_list(root, split)
        if path is not None:
            return _attribute_names(path)
    return None


def read_layout(root: str | Path, expressions: Sequence[str] | None = None, *,
                known: Sequence[str] | None = None, neutral: str | None = None) -> Layout:
    """Read the lists of a data directory.

    ``expressions`` are the names asked for, in the order of the labels to give out; None takes those of the
    directory, or ``known``, what is known of the data set from elsewhere. Where the directory or ``known`` names the
    labels, ``expressions`` may reorder them or leave some out. ``neutral`` names the expression whose faces are the
    targets of synthesis; by default the one called "neutral", else the last.

    Raises UserError for an absent directory or list, an unknown expression, a line that is not
    ``<file name> <label>``, a label out of range and a name with two labels. METHOD §6, §7 row 15.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such data directory; put your faces there in the layout of the README "
                        "(\"Your own faces\"), or see it work with: python train.py --preset demo")
    names = declared_expressions(root) or (tuple(known) if known else None)
    expressions = tuple(expressions) if expressions else names
    if expressions is None:
        raise UserError(f"{root}: nothing names its expressions; give them with -a, in the order of the labels")
    _check_names(expressions, names, root)

    listed = read_split(root, "train", required=True)
    test = read_split(root, "test", required=True)
    val = read_split(root, "val", required=False)
    relabel = _Relabel(root, expressions, names, neutral)
    subjects = read_subjects(root, listed.keys() | test.keys() | val.keys())
    images = image_directory(root)

    def samples(rows: dict[str, "_Row"]) -> list[Sample]:
        return [Sample(name, relabel(row), images / name, *subjects.get(name, (None, None)))
                for name, row in rows.items()]

    held_out = test.keys() | val.keys()
    train = samples({name: row for name, row in listed.items() if name not in held_out})
    n = len(expressions)
    splits = {"train": train, "val": samples(val), "test": samples(test)}
    return Layout(root, expressions, relabel.neutral,
                  **{name: [s for s in split if 0 <= s.label < n] for name, split in splits.items()},
                  target_only=[s for s in train if s.label == n], left_out=[s for s in train if s.label < 0],
                  listed=names or expressions)


def image_directory(root: Path) -> Path:
    """Where the images of a data directory lie: ``data/`` or the reference's ``align_5p/``."""
    for name in ("data", "align_5p"):
        if (root / name).is_dir():
            return root / name
    return root / "data"


@dataclass(frozen=True)
class _Row:
    label: int
    where: str


class _Relabel:
    """Turns a list's label into a position in the expressions asked for; -1 where it is not asked for."""

    def __init__(self, root: Path, expressions: tuple[str, ...], names: tuple[str, ...] | None, neutral: str | None):
        self._names = names or expressions
        self._position = [expressions.index(name) if name in expressions else -1 for name in self._names]
        self._n = len(expressions)
        self._target_only_allowed = neutral is None and "neutral" not in (name.lower() for name in self._names)
        self.neutral = neutral_label(expressions, neutral)

    def __call__(self, row: _Row) -> int:
        if 0 <= row.label < len(self._names):
            return self._position[row.label]
        if row.label == len(self._names) and self._target_only_allowed:
            self.neutral = self._n
            return self._n
        raise UserError(f"{row.where}: label {row.label} is out of range, the {len(self._names)} expressions "
                        f"({' '.join(self._names)}) have the labels 0 to {len(self._names) - 1}")


def neutral_label(expressions: Sequence[str], neutral: str | None = None) -> int:
    """The position of the neutral expression: ``neutral`` by name, else the one called "neutral", else the last."""
    lowered = [name.lower() for name in expressions]
    if neutral is None:
        return lowered.index("neutral") if "neutral" in lowered else len(lowered) - 1
    if neutral.lower() not in lowered:
        raise UserError(f"--neutral {neutral}: not among the expressions {' '.join(expressions)}")
    return lowered.index(neutral.lower())


def _check_names(expressions: tuple[str, ...], names: tuple[str, ...] | None, root: Path) -> None:
    if len(expressions) < 2:
        raise UserError("-a: at least two expressions are needed to swap one for another")
    double = [name for name, count in Counter(expressions).items() if count > 1]
    if double:
        raise UserError(f"-a: {' '.join(double)} named twice")
    unknown = [name for name in expressions if names is not None and name not in names]
    if unknown:
        raise UserError(f"-a: unknown expression {' '.join(unknown)}; {root} has {' '.join(names)} "
                        f"(other names? write them, in the order of the labels, into {root / 'expressions.txt'})")


def read_lines(path: Path, *, as_words: bool = False) -> list[str]:
    """The lines (or words) of a text file; UserError where it is unreadable or not text."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if "\0" in text:
        raise UserError(f"{path}: not a text file (it holds zero bytes)")
    return text.split() if as_words else text.splitlines()


LIST_NAMES = {"train": "images.list", "val": "images_val.list", "test": "images_test.list"}


def read_split(root: Path, split: str, *, required: bool) -> dict[str, _Row]:
    """The rows of a split's list by file name; {} or, if ``required``, UserError where there is no list."""
    path = root / LIST_NAMES[split]
    if path.is_file():
        return read_label_list(path)
    attributes = _attribute_list(root, split)
    if attributes is not None:
        return _read_attribute_list(attributes)
    if required:
        raise UserError(f"{path}: no such list (nor a list_attr_*_{split}.txt); "
                        "it needs one line \"<file name> <label>\" per image")
    return {}


def read_label_list(path: Path) -> dict[str, _Row]:
    """``<file name> <label>`` per line → {file name: row}; UserError names the file and line of a mistake."""
    rows: dict[str, _Row] = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        parts = line.rsplit(None, 1)
        if len(parts) != 2 or not is_integer(parts[1]):
            raise UserError(f"{path}, line {number}: \"{shortened(line)}\" is not \"<file name> <label>\"")
        _add_row(rows, parts[0].strip(), _Row(int(parts[1]), f"{path}, line {number}"))
    if not rows:
        raise UserError(f"{path}: lists no image")
    return rows


def _add_row(rows: dict[str, _Row], name: str, row: _Row) -> None:
    if name in rows and rows[name].label != row.label:
        raise UserError(f"{row.where}: {name} has the label {row.label} here and {rows[name].label} before")
    rows[name] = row


def is_integer(text: str) -> bool:
    """Whether a word of a list is a whole number of a sensible length."""
    return text.isascii() and text.lstrip("+-").isdigit() and len(text) < 10


def shortened(line: str) -> str:
    """A line as an error message quotes it."""
    return line.strip() if len(line.strip()) <= 60 else line.strip()[:57] + "..."


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


def _read_attribute_list(path: Path) -> dict[str, _Row]:
    """The reference's ``list_attr_*``: count, names, then ``<file name>`` and one of n values 1, the others -1."""
    names, lines = _attribute_names(path), read_lines(path)
    rows: dict[str, _Row] = {}
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
        _add_row(rows, parts[0].strip(), _Row(label, f"{path}, line {number}"))
    if len(rows) != int(lines[0]):
        raise UserError(f"{path}: announces {lines[0].strip()} images in its first line and lists {len(rows)}")
    return rows


def read_subjects(root: Path, names: Collection[str]) -> dict[str, tuple[str, str | None]]:
    """``<file name> <subject> [<scene>]`` per line → {file name: (subject, scene)}; {} where there is no list.

    ``names`` are the listed file names: they tell where a name with spaces ends.
    """
    path = root / "subjects.list"
    if not path.is_file():
        return {}
    subjects: dict[str, tuple[str, str | None]] = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        parts = next((parts for parts in (line.strip().rsplit(None, 1), line.strip().rsplit(None, 2))
                      if parts[0] in names), line.split())
        if len(parts) not in (2, 3):
            raise UserError(f"{path}, line {number}: \"{shortened(line)}\" is not "
                            "\"<file name> <subject> [<scene>]\"")
        subjects[parts[0]] = (parts[1], parts[2] if len(parts) == 3 else None)
    return subjects


# ------------------------------------------------------------------------------------------------- checking

def check_classes(layout: Layout) -> None:
    """UserError where an expression has no training image, or synthesis no neutral target."""
    empty = [name for name, count in zip(layout.expressions, layout.counts("train")) if count == 0]
    hint = ""
    if layout.neutral < len(layout.expressions) and layout.expressions[layout.neutral] in empty:
        hint = "; synthesis needs neutral faces as targets: name the expression that serves with --neutral NAME"
    if empty:
        raise UserError(f"{layout.root}: no training image of {', '.join(empty)}: leave it out of -a, or add some"
                        + hint)


def check_images(samples: Iterable[Sample]) -> None:
    """UserError that counts the listed files that are missing or no image, and names the first five.

    Reads the headers alone; what is broken further on shows when the image is decoded.
    """
    samples = list(samples)
    with ThreadPoolExecutor(8) as pool:
        report_broken(samples, list(pool.map(lambda sample: image_fault(sample.path), samples)))


def report_broken(samples: Sequence[Sample], faults: Sequence[str | None]) -> None:
    """UserError where any sample has a fault: all counted, the first five named."""
    broken = [f"{sample.path} ({fault})" for sample, fault in zip(samples, faults) if fault]
    if broken:
        more = f", and {len(broken) - 5} more" if len(broken) > 5 else ""
        raise UserError(f"{len(broken)} of {len(samples)} listed images cannot be used: {', '.join(broken[:5])}{more}; "
                        "take them out of the lists or replace them")


def image_fault(path: Path) -> str | None:
    """What is wrong with an image file, judged by its header, or None."""
    from PIL import Image

    if not path.is_file():
        return "missing"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path):
                return None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return "too large"
    except PermissionError:
        return "not readable"
    except Exception:  # Pillow's format plugins raise whatever they stumble over
        return "no image"


# ------------------------------------------------------------------------------------------------- writing

def write_layout(root: str | Path, expressions: Sequence[str], splits: dict[str, Sequence[Sample]]) -> None:
    """Write the lists of a data directory, each whole or not at all, ``images.list`` last.

    ``splits`` maps ``train``, ``test`` and optionally ``val`` to samples; ``subjects.list`` is written where any
    sample has a subject. A list that has nothing to say is removed, so that writing twice gives the same files.
    """
    root = Path(root)
    everything = [sample for name in ("train", "val", "test") for sample in splits.get(name, ())]
    write_text(root / "expressions.txt", "\n".join(expressions) + "\n")
    subjects = "".join(" ".join(filter(None, (s.name, s.subject, s.scene))) + "\n" for s in everything if s.subject)
    texts = {"subjects.list": subjects}
    for split in ("val", "test", "train"):
        texts[LIST_NAMES[split]] = "".join(f"{s.name} {s.label}\n" for s in splits.get(split, ()))
    for name, text in texts.items():
        if text:
            write_text(root / name, text)
        else:
            (root / name).unlink(missing_ok=True)
