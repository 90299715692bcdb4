"""AffectNet in both published forms: an annotation file beside every image, or two or three tables of all."""

import argparse
import io
import re
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path

from datasets.importing.collection import Collection, FoundSample, Importer, source_directory
from datasets.importing.naming import one_word
from datasets.importing.rows import check_columns, read_table
from datasets.lists import is_integer, shortened, whole_number
from datasets.names import Names, directory_of
from datasets.walking import is_image_name, walk
from utils import UserError

_EXPRESSIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
_FOLDERS = {"train": "train_set", "test": "val_set"}
_TABLES = {"manual": "training.csv", "automatic": "automatically_annotated.csv", "validation": "validation.csv"}
_COLUMNS = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression",
            "valence", "arousal")
_ANNOTATION = "_exp.npy"
_LARGEST_ANNOTATION = 4096  # bytes


def read(asked: argparse.Namespace) -> Collection:
    """Return the images that were asked for; the validation set, the only other one with labels, is tested on."""
    return read_affectnet(source_directory(asked.source, asked.out), asked.classes, asked.half)


def read_affectnet(source: Path, classes: int, half: str = "manual") -> Collection:
    """Return all images with one of the first ``classes`` expressions, in whichever form there is, at any depth.

    ``half`` is that of the tables: "manual", "automatic" or "both".
    """
    found = Collection(_EXPRESSIONS[:classes], walk(source))
    folders = sorted({path.parent.parent for path in found.walk.others if path.name.endswith(_ANNOTATION)})
    root = next((folder.parent for folder in folders if folder.name in _FOLDERS.values()), None)
    if root or any((source / name).is_dir() for name in _FOLDERS.values()):
        root = root or source
        _check_there(source, [root / name / part for name in _FOLDERS.values() for part in ("images", "annotations")])
        for split, name in _FOLDERS.items():
            _read_folder(root / name, split, found)
    else:
        _read_tables(source, half, found)
    return found


def _check_there(source: Path, parts: list[Path], advice: str = "") -> None:
    for part in parts:
        if not part.exists():
            raise UserError(f"{source}: not an AffectNet tree; {part} is missing{advice}")


def _add(found: Collection, split: str, label: int, name: str, path: Path) -> None:
    if label < len(found.expressions):
        found.samples.append(FoundSample(f"{split}_{one_word(name)}", label, path, split=split))
    else:
        found.leave_out(f"of {_EXPRESSIONS[label]} (--classes {len(_EXPRESSIONS)} takes them)", path)


# ------------------------------------------------------------------------- ``images/N.jpg``, ``annotations/N_exp.npy``

def _read_folder(folder: Path, split: str, found: Collection) -> None:
    images = {path.stem: path for path in found.walk.images if path.parent == folder / "images"}
    annotated = [path.name.removesuffix(_ANNOTATION) for path in found.walk.others
                 if path.parent == folder / "annotations" and path.name.endswith(_ANNOTATION)]
    known = [stem for stem in annotated if stem in images]
    with ThreadPoolExecutor(8) as pool:
        labels = pool.map(_read_annotation, [f"{folder}/annotations/{stem}{_ANNOTATION}" for stem in known])
        for stem, label in zip(known, labels):
            _add(found, split, label, images[stem].name, images[stem])
    found.leave_out("without an annotation", *(images[stem] for stem in images.keys() - set(known)))
    if len(known) < len(annotated):
        found.left_out[f"annotated but missing in {folder / 'images'}"] += len(annotated) - len(known)


def _read_annotation(path: str) -> int:
    """Return the expression of an annotation file, 0 to 7. Raises UserError for any other content."""
    try:
        with open(path, "rb") as handle:
            content = handle.read(_LARGEST_ANNOTATION + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    text = _text_of(content)
    if text is None:
        raise UserError(f"{path}: holds no single text as a NumPy file without pickles; restore it from a backup")
    if not re.fullmatch("[0-7]", text):
        raise UserError(f"{path}: holds \"{shortened(text)}\", and an expression is one of 0 to 7")
    return int(text)


@lru_cache(64)  # of hundreds of thousands of files eight are different
def _text_of(content: bytes) -> str | None:
    """Return the one text that a NumPy file holds; None for any other content. Reads no pickle, and so runs nothing."""
    import numpy  # --help does without it

    try:
        array = numpy.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        text = array.item() if array.size == 1 and len(content) <= _LARGEST_ANNOTATION else None
        return text.decode("ascii") if isinstance(text, bytes) else text if isinstance(text, str) else None
    except Exception:  # numpy raises whatever a damaged header leads to
        return None


# ---------------------------------------------------------------------------------- tables of paths and expressions

def _read_tables(source: Path, half: str, found: Collection) -> None:
    tables: dict[str, Path] = {}
    for path in found.walk.others:
        name = path.name.lower()
        if name in _TABLES.values() and tables.setdefault(name, path) != path:
            raise UserError(f"{source}: holds two tables {name}, {tables[name]} and {path}; name a directory with one")
    if not tables:
        raise UserError(f"{source}: not an AffectNet tree; it needs train_set and val_set with images and annotations, "
                        "or training.csv and validation.csv")
    for kind, name in _TABLES.items():
        if kind in (half, "validation") or half == "both":
            other = next((each for each in ("manual", "automatic") if _TABLES[each] in tables), half)
            advice = f"; --half {other} takes the labels that are there" if kind == half != other else ""
            _check_there(source, [tables.get(name, source / name)], advice)
            _read_rows(tables[name], kind, found, source)


def _read_rows(table: Path, kind: str, found: Collection, source: Path) -> None:
    """Add the rows of a table of paths and expressions, 0 to 10."""
    columns, rows = read_table(table, lambda first: _COLUMNS if is_image_name(first[0]) else None)
    check_columns(table, columns, ("subDirectory_filePath", "expression"), "it must be one of AffectNet's tables")
    first, split = list(islice(rows, 100)), "test" if kind == "validation" else "train"
    below = {path: path.relative_to(source).as_posix().lower() for path in found.walk.images}
    half = "automa" if kind == "automatic" else "manual"
    images = [path for path, name in below.items() if half in name] \
        or [path for path, name in below.items() if "automatic" not in name]
    root = directory_of([row["subDirectory_filePath"] for _, row in first], images) or source
    names = Names.of_files(root, found.walk.images)
    found.names.append(names)
    for line, row in chain(first, rows):
        listed, label = row["subDirectory_filePath"], whole_number(row["expression"])
        if not is_integer(label) or not 0 <= int(label) <= 10:
            raise UserError(f"{table}, line {line}: the expression \"{shortened(label)}\" is not one of 0 to 10")
        if not listed:
            raise UserError(f"{table}, line {line}: names no image")
        name = names.find(listed)
        if name is not None and int(label) >= len(_EXPRESSIONS):
            found.leave_out("without an expression (none, uncertain or no face)", root / name)
        elif name is not None:
            _add(found, split, int(label), name.replace("/", "_"), root / name)


AFFECTNET = Importer(
    "affectnet", "AffectNet (train_set and val_set, or training.csv and validation.csv)",
    "the directory that holds them", read,
    {"--classes": dict(type=int, choices=(7, 8), default=8, help="7 leaves contempt out (default: 8)"),
     "--half": dict(choices=("manual", "automatic", "both"), default="manual", help="which tables' images train: those "
                    "labelled by people, by a network, or both (default: manual)")})
