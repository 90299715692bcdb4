"""AffectNet in both published forms: an annotation file beside every image, or two or three tables of all."""

from __future__ import annotations

import argparse
import re
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path

from datasets.files import is_image_name
from datasets.importing.collection import Collection, Importer, source_directory
from datasets.importing.naming import one_word
from datasets.importing.rows import check_columns, read_table
from datasets.layout import Sample
from datasets.lists import is_integer, shortened, whole_number
from datasets.names import Names, directory_of
from datasets.walking import walk
from utils import UserError

_EXPRESSIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
_FOLDERS = {"train": "train_set", "test": "val_set"}
_TABLES = {"manual": "training.csv", "automatic": "automatically_annotated.csv"}
_VALIDATION = "validation.csv"
_COLUMNS = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression",
            "valence", "arousal")
_NPY = re.compile(rb"\x93NUMPY(?:\x01.{3}|[\x02\x03].{5})\{'descr': '(.+?)', 'fortran_order': \w+, "
                  rb"'shape': \((?:1,)?\), \} *\n", re.DOTALL)
_LARGEST_NPY = 4096


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this kind."""
    parser.add_argument("--classes", type=int, choices=(7, 8), default=8, help="7 leaves contempt out (default: 8)")
    parser.add_argument("--half", choices=(*_TABLES, "both"), default="manual", help="which tables' images "
                        "train: those labelled by people, by a network, or both (default: manual)")


def read(asked: argparse.Namespace) -> Collection:
    """Return the samples asked for; the validation set, the only one with labels, is tested on."""
    return read_affectnet(source_directory(asked), asked.classes, asked.half)


def read_affectnet(source: Path, classes: int, half: str = "manual") -> Collection:
    """Return all images with one of the first ``classes`` expressions, in whichever form there is, at any depth.

    ``half`` of the tables is ``manual``, ``automatic`` or ``both``.
    """
    found = Collection(_EXPRESSIONS[:classes], walk(source))
    folders = {path.parent.parent for path in found.walk.others if path.name.endswith("_exp.npy")}
    if any(folder.name in _FOLDERS.values() for folder in folders) \
            or any((source / name).is_dir() for name in _FOLDERS.values()):
        root = next((folder.parent for folder in sorted(folders) if folder.name in _FOLDERS.values()), source)
        _check_there(source, [root / name / part for name in _FOLDERS.values() for part in ("images", "annotations")])
        for split, name in _FOLDERS.items():
            _read_folder(root / name, split, found)
        return found
    tables: dict[str, Path] = {}
    for path in found.walk.others:
        name = path.name.lower()
        if name in (_VALIDATION, *_TABLES.values()) and tables.setdefault(name, path) != path:
            raise UserError(f"{source}: holds two tables {name}, {tables[name]} and {path}; name a directory with one")
    if not tables:
        raise UserError(f"{source}: not an AffectNet tree; it needs train_set and val_set with images and annotations, "
                        "or training.csv and validation.csv")
    for kind in (*_TABLES, "validation"):
        name = _TABLES.get(kind, _VALIDATION)
        if kind in (half, "validation") or half == "both":
            other = next((each for each in _TABLES if _TABLES[each] in tables), half)
            advice = f"; --half {other} takes the labels that are there" if kind == half != other else ""
            _check_there(source, [tables.get(name, source / name)], advice)
            _read_rows(tables[name], "automatic" if kind == "automatic" else "manual", found,
                       "test" if kind == "validation" else "train", source)
    return found


def _check_there(source: Path, parts: list[Path], advice: str = "") -> None:
    for part in parts:
        if not part.exists():
            raise UserError(f"{source}: not an AffectNet tree; {part} is missing{advice}")


def _read_folder(folder: Path, split: str, found: Collection) -> None:
    """``images/N.jpg`` with ``annotations/N_exp.npy``."""
    images = {path.stem: path for path in found.walk.images if path.parent == folder / "images"}
    ending = "_exp.npy"
    annotated = [path.name.removesuffix(ending) for path in found.walk.others
                 if path.parent == folder / "annotations" and path.name.endswith(ending)]
    known = [stem for stem in annotated if stem in images]
    with ThreadPoolExecutor(8) as pool:
        labels = pool.map(read_expression, [f"{folder}/annotations/{stem}{ending}" for stem in known])
        for stem, label in zip(known, labels):
            _add(found, split, label, f"{split}_{one_word(images[stem].name)}", images[stem])
    found.leave_out("without an annotation", *(images[stem] for stem in images.keys() - set(known)))
    if len(known) < len(annotated):
        found.left_out[f"annotated but missing in {folder / 'images'}"] += len(annotated) - len(known)
def read_expression(path: str) -> int:
    """The expression of an annotation file, 0 to 7. Raises UserError for any other content, and for a pickle above
    all.
    """
    try:
        with open(path, "rb") as handle:
            content = handle.read(_LARGEST_NPY + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    text = _text_of(content)
    if text is None:
        raise UserError(f"{path}: holds no single text as a NumPy file without pickles; put it back from a copy")
    if not re.fullmatch("[0-7]", text):
        raise UserError(f"{path}: holds \"{shortened(text)}\", and an expression is one of 0 to 7")
    return int(text)


@lru_cache(64)      # of hundreds of thousands of files eight are different
def _text_of(content: bytes) -> str | None:
    """The one text that a NumPy file holds; None for any other content. Reads no pickle, and so runs nothing."""
    header = _NPY.match(content)
    if header is None or len(content) > _LARGEST_NPY:
        return None
    coding = {b"<U": "utf-32-le", b">U": "utf-32-be", b"|S": "ascii"}.get(header[1][:2])
    if coding is None:
        return None
    try:
        return content[header.end():].decode(coding).rstrip("\0")
    except UnicodeDecodeError:
        return None


def _read_rows(table: Path, half: str, found: Collection, split: str, source: Path) -> None:
    """Add the rows of a table of paths and expressions, 0 to 10, whose images are those of a ``half``."""
    columns, rows = read_table(table, lambda first: _COLUMNS if is_image_name(first[0]) else None)
    check_columns(table, columns, ("subDirectory_filePath", "expression"), "it must be one of AffectNet's tables")
    first = list(islice(rows, 100))
    root = _images_of(half, found.walk.images, source, [row["subDirectory_filePath"] for _, row in first])
    names = Names(root, [path.relative_to(root).as_posix() for path in found.walk.images if root in path.parents])
    found.names.append(names)
    for line, row in chain(first, rows):
        listed, label = row["subDirectory_filePath"], whole_number(row["expression"])
        if not is_integer(label) or not 0 <= int(label) <= 10:
            raise UserError(f"{table}, line {line}: the expression \"{shortened(label)}\" is not one of 0 to 10")
        if not listed:
            raise UserError(f"{table}, line {line}: names no image")
        name = names.find(listed)
        if name is None:
            continue
        if int(label) >= len(_EXPRESSIONS):
            found.leave_out("without an expression (none, uncertain or no face)", root / name)
        else:
            _add(found, split, int(label), f"{split}_{one_word(name.replace('/', '_'))}", root / name)


def _images_of(half: str, images: list[Path], source: Path, listed: list[str]) -> Path:
    """Return the directory to which listed paths are relative, one of this ``half`` if directories are named so."""
    below = {path: path.relative_to(source).as_posix().lower() for path in images}
    of_half = [path for path, name in below.items() if half[:6] in name] \
        or [path for path, name in below.items() if "automatic" not in name]
    return directory_of(listed, of_half) or source


def _add(found: Collection, split: str, label: int, name: str, path: Path) -> None:
    if label < len(found.expressions):
        found.add(split, Sample(name, label, path))
    else:
        found.leave_out(f"of {_EXPRESSIONS[label]} (--classes {len(_EXPRESSIONS)} takes them)", path)


AFFECTNET = Importer("affectnet", "AffectNet (train_set and val_set, or training.csv and validation.csv)",
                     ("SRC", "the directory that holds them"), "datasets/affectnet", add_options, read)
