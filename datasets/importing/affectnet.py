"""AffectNet in both published forms: an annotation file beside every image, or tables of all images."""

import argparse
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path

from datasets.files import is_image_name, walk
from datasets.importing.collection import Collection, Importer, SourceSample, source_directory
from datasets.importing.naming import check_parts, other_way, safe_name
from datasets.importing.table import check_columns, read_table
from datasets.lists import Names, directory_of, is_integer, shortened, whole_number
from utils import UserError

_EXPRESSIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
_FOLDERS = {"train": "train_set", "test": "val_set"}
_TABLES = {"manual": "training.csv", "automatic": "automatically_annotated.csv", "validation": "validation.csv"}
_COLUMNS = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression",
            "valence", "arousal")
_ANNOTATION = "_exp.npy"


def read(args: argparse.Namespace) -> Collection:
    """Return all images of the requested expressions, in either form and at any depth.

    The test split is the validation set, the only other one with labels.
    """
    source = source_directory(args.source, args.out)
    collection = Collection(_EXPRESSIONS[:args.classes], walk(source))
    folders = sorted({path.parent.parent for path in collection.walk.others if path.name.endswith(_ANNOTATION)})
    root = next((folder.parent for folder in folders if folder.name in _FOLDERS.values()), None)
    if root or any((source / name).is_dir() for name in _FOLDERS.values()):
        root = root or source
        check_parts(source, "an AffectNet",
                    [root / name / part for name in _FOLDERS.values() for part in ("images", "annotations")])
        for split, name in _FOLDERS.items():
            _read_folder(root / name, split, collection)
    else:
        _read_tables(source, args.half, collection)
    return collection


def _add(collection: Collection, split: str, label: int, name: str, path: Path) -> None:
    """Add an image under its split and name, or leave it out if it has no expression or one that is not requested."""
    if label < len(collection.expressions):
        collection.samples.append(SourceSample(f"{split}_{safe_name(name)}", label, path, split=split))
    else:
        collection.leave_out(f"of {_EXPRESSIONS[label]} (--classes {len(_EXPRESSIONS)} takes them)"
                             if label < len(_EXPRESSIONS) else
                             "without an expression (none, uncertain or no face)", path)


# ------------------------------------------------------------------------- ``images/N.jpg``, ``annotations/N_exp.npy``

def _read_folder(folder: Path, split: str, collection: Collection) -> None:
    """Add the images of ``train_set`` or ``val_set`` that have an annotation."""
    images = {path.stem: path for path in collection.walk.images if path.parent == folder / "images"}
    annotated = [path.name.removesuffix(_ANNOTATION) for path in collection.walk.others
                 if path.parent == folder / "annotations" and path.name.endswith(_ANNOTATION)]
    present = [stem for stem in annotated if stem in images]
    with ThreadPoolExecutor(8) as pool:
        labels = pool.map(_read_annotation, [f"{folder}/annotations/{stem}{_ANNOTATION}" for stem in present])
        for stem, label in zip(present, labels):
            _add(collection, split, label, images[stem].name, images[stem])
    collection.leave_out("without an annotation", *(images[stem] for stem in images.keys() - set(present)))
    collection.left_out[f"annotated but missing in {folder / 'images'}"] += len(annotated) - len(present)


def _read_annotation(path: str) -> int:
    """Return the expression of an annotation file, 0 to 7. Pickles, which run code, are not read.

    Raises UserError for any other content.
    """
    import numpy  # imported here to keep --help fast

    try:
        with open(path, "rb") as handle:
            value = numpy.lib.format.read_array(handle, allow_pickle=False).item()
    except Exception:  # a damaged header leads to errors of many types in numpy
        raise UserError(f"{path}: not a NumPy file of a single text without pickles; restore it from a backup"
                        ) from None
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    if not re.fullmatch("[0-7]", text):
        raise UserError(f"{path}: holds \"{shortened(text)}\", and an expression is one of 0 to 7")
    return int(text)


# ---------------------------------------------------------------------------------- tables of paths and expressions

def _read_tables(source: Path, half: str, collection: Collection) -> None:
    """Add the images of the validation table and of the ``half`` that trains: manual, automatic or both."""
    tables: dict[str, Path] = {}
    for path in collection.walk.others:
        name = path.name.lower()
        if name in _TABLES.values() and tables.setdefault(name, path) != path:
            raise UserError(f"{source}: holds two tables {name}, {tables[name]} and {path}; name a directory with one")
    if not tables:
        raise UserError(f"{source}: not an AffectNet tree; it needs train_set and val_set with images and annotations, "
                        f"or training.csv and validation.csv{other_way(collection.walk, source)}")
    for kind, name in _TABLES.items():
        if kind in (half, "validation") or half == "both":
            present = next((each for each in ("manual", "automatic") if _TABLES[each] in tables), half)
            advice = f"; --half {present} takes the labels that are there" if kind == half != present else ""
            check_parts(source, "an AffectNet", [tables.get(name, source / name)], advice=advice)
            _read_rows(tables[name], kind, collection, source)


def _read_rows(table: Path, kind: str, collection: Collection, source: Path) -> None:
    """Add the rows of a table of paths and expressions, 0 to 10."""
    columns, rows = read_table(table, lambda first: _COLUMNS if is_image_name(first[0]) else None)
    check_columns(table, columns, ("subDirectory_filePath", "expression"), "it must be one of AffectNet's tables")
    first_rows, split = list(islice(rows, 100)), "test" if kind == "validation" else "train"
    relative = {path: path.relative_to(source).as_posix().lower() for path in collection.walk.images}
    half = "automa" if kind == "automatic" else "manual"  # in the name of the images' directory
    images = [path for path, name in relative.items() if half in name] \
        or [path for path, name in relative.items() if "automatic" not in name]
    root = directory_of([row["subDirectory_filePath"] for _, row in first_rows], images) or source
    names = Names.of_files(root, collection.walk.images)
    collection.names.append(names)
    for line, row in chain(first_rows, rows):
        listed, label = row["subDirectory_filePath"], whole_number(row["expression"])
        if not is_integer(label) or not 0 <= int(label) <= 10:
            raise UserError(f"{table}, line {line}: the expression \"{shortened(label)}\" is not one of 0 to 10")
        if not listed:
            raise UserError(f"{table}, line {line}: names no image")
        name = names.find(listed)
        if name is not None:
            _add(collection, split, int(label), name.replace("/", "_"), root / name)


AFFECTNET = Importer(
    "affectnet", "AffectNet (train_set and val_set, or training.csv and validation.csv)",
    "the directory that holds them", read,
    {"--classes": dict(type=int, choices=(7, 8), default=8, help="7 leaves contempt out (default: 8)"),
     "--half": dict(choices=("manual", "automatic", "both"), default="manual", help="which tables' images train: those "
                    "labelled by people, by a network, or both (default: manual)")})
