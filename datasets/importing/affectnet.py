"""AffectNet in both published forms: an annotation file beside every image, or two tables of all."""

from __future__ import annotations

import argparse
import os
import re
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from datasets.files import is_image_name
from datasets.importing.collection import Collection, Importer, source_directory
from datasets.importing.naming import one_word
from datasets.importing.rows import check_columns, read_table
from datasets.layout import Sample
from datasets.lists import is_integer, shortened
from utils import UserError

_EXPRESSIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
_FOLDERS = {"train": "train_set", "test": "val_set"}
_TABLES = {"train": "training.csv", "test": "validation.csv"}
_IMAGES = ("Manually_Annotated_Images", "Manually_Annotated")
_NPY = re.compile(rb"\x93NUMPY(?:\x01.{3}|[\x02\x03].{5})\{'descr': '(.+?)', 'fortran_order': \w+, "
                  rb"'shape': \((?:1,)?\), \} *\n", re.DOTALL)
_LARGEST_NPY = 4096


def add_options(parser: argparse.ArgumentParser) -> None:
    """The option of this kind."""
    parser.add_argument("--classes", type=int, choices=(7, 8), default=8, help="7 leaves contempt out (default: 8)")


def read(asked: argparse.Namespace) -> Collection:
    """What was asked for; the validation set, the only one with labels, is tested on."""
    return read_affectnet(source_directory(asked), asked.classes)


def read_affectnet(source: Path, classes: int) -> Collection:
    """All images with one of the first ``classes`` expressions, in whichever form there is."""
    found = Collection(_EXPRESSIONS[:classes])
    if any((source / name).is_dir() for name in _FOLDERS.values()):
        _check_there(source, [source / name / part for name in _FOLDERS.values() for part in ("images", "annotations")])
        for split, name in _FOLDERS.items():
            _read_folder(source / name, split, found)
        return found
    if any((source / name).is_file() for name in _TABLES.values()):
        _check_there(source, [source / name for name in _TABLES.values()])
        images = next((source / name for name in _IMAGES if (source / name).is_dir()), source)
        for split, name in _TABLES.items():
            _read_rows(source / name, images, split, found)
        return found
    raise UserError(f"{source}: not an AffectNet tree; it needs train_set and val_set with images and annotations, or "
                    "training.csv and validation.csv")


def _check_there(source: Path, parts: list[Path]) -> None:
    for part in parts:
        if not part.exists():
            raise UserError(f"{source}: not an AffectNet tree; {part} is missing")


def _read_folder(folder: Path, split: str, found: Collection) -> None:
    """``images/N.jpg`` with ``annotations/N_exp.npy``."""
    images = {name.rpartition(".")[0]: name for name in sorted(os.listdir(folder / "images")) if is_image_name(name)}
    ending = "_exp.npy"
    annotated = sorted(name.removesuffix(ending) for name in os.listdir(folder / "annotations")
                       if name.endswith(ending))
    known = [stem for stem in annotated if stem in images]
    with ThreadPoolExecutor(8) as pool:
        labels = pool.map(read_expression, [f"{folder}/annotations/{stem}{ending}" for stem in known])
        for stem, label in zip(known, labels):
            _add(found, split, label, f"{split}_{one_word(images[stem])}", folder / "images" / images[stem])
    for reason, count in (("without an annotation", len(images) - len(known)),
                          (f"annotated but missing in {folder / 'images'}", len(annotated) - len(known))):
        if count:
            found.left_out[reason] += count


def read_expression(path: str) -> int:
    """The expression of an annotation file, 0 to 7; UserError for any other content, and for a pickle above all."""
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


def _read_rows(table: Path, images: Path, split: str, found: Collection) -> None:
    """A table of paths below ``images`` and expressions, 0 to 10."""
    columns, rows = read_table(table)
    check_columns(table, columns, ("subDirectory_filePath", "expression"), "it must be one of AffectNet's tables")
    for line, row in rows:
        path, label = row["subDirectory_filePath"], row["expression"]
        if not is_integer(label) or not 0 <= int(label) <= 10:
            raise UserError(f"{table}, line {line}: the expression \"{shortened(label)}\" is not one of 0 to 10")
        if not path:
            raise UserError(f"{table}, line {line}: names no image")
        if int(label) >= len(_EXPRESSIONS):
            found.left_out["without an expression (none, uncertain or no face)"] += 1
        elif not (images / path).is_file():
            found.left_out[f"listed but missing below {images}"] += 1
        else:
            _add(found, split, int(label), f"{split}_{one_word(path.replace('/', '_'))}", images / path)


def _add(found: Collection, split: str, label: int, name: str, path: Path) -> None:
    if label < len(found.expressions):
        found.add(split, Sample(name, label, path))
    else:
        found.left_out[f"of {_EXPRESSIONS[label]} (--classes {len(_EXPRESSIONS)} takes them)"] += 1


AFFECTNET = Importer("affectnet", "AffectNet (train_set and val_set, or training.csv and validation.csv)",
                     ("SRC", "the directory that holds them"), "datasets/affectnet", add_options, read)
