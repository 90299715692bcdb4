"""Data sets with lists or tables of labels: RAF-DB, ExpW, FER2013 with FER+'s labels, and AffectNet."""

import argparse
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Callable, Sequence

from datasets.files import Walk, is_image_name, walk
from datasets.importing.collection import (Box, Collection, Importer, SourceSample, face_name, read_box,
                                           source_directory, source_table)
from datasets.importing.naming import TEST_SHARE, check_parts, other_way, safe_name
from datasets.importing.table import check_columns, read_table
from datasets.layout import DATA_SETS
from datasets.lists import Names, directory_of, is_integer, numbered_lines, read_lines, shortened, whole_number
from utils import UserError, refuse, user_path

# ------------------------------------------------------------------------------------------------ RAF-DB and ExpW

def _read_list(collection: Collection, table: Path, pattern: re.Pattern, first: int, form: str,
               target: Callable[[str, Box | None], str]) -> None:
    """Add the images of a list's lines, whose labels number the expressions from ``first``.

    The groups of ``pattern`` are file and label, and perhaps split or a box. ``target`` returns an image's name in the
    data directory for the file's name and the box. Raises UserError for a line that is not of the ``form``.
    """
    numbers = [str(first + label) for label in range(len(collection.expressions))]
    names, sides = collection.names[0], ("left", "top", "right", "bottom")
    for number, line in numbered_lines(table):
        match, where = pattern.fullmatch(line.strip()), f"{table}, line {number}"
        groups = match.groupdict() if match else {}
        label = whole_number(groups.get("label", ""))
        refuse(where, (label not in numbers, f"\"{shortened(line)}\" is not {form}"))
        box = read_box([groups[side] for side in sides], False, where) if "left" in groups else None
        collection.rows += box is not None  # a row is a face then
        if name := names.find(groups["file"]):
            split = groups["split"].lower() if "split" in groups else None
            collection.samples.append(SourceSample(target(name, box), numbers.index(label), names.root / name,
                                                   split=split, box=box))


_RAFDB = {
    "basic": DATA_SETS[3].expressions,
    "compound": ("happily_surprised", "happily_disgusted", "sadly_fearful", "sadly_angry", "sadly_surprised",
                 "sadly_disgusted", "fearfully_angry", "fearfully_surprised", "angrily_surprised", "angrily_disgusted",
                 "disgustedly_surprised")}
_RAFDB_NAME = re.compile(r"(train|test)_(\d+)(?:_aligned)?\.\w+", re.IGNORECASE)
_RAFDB_LINE = re.compile(r"(?P<file>[\"'`“”‘’]?(?:.*[/\\])?(?P<split>train|test)_[^/\\]*)\s+(?P<label>\S+)",
                         re.IGNORECASE)


def _read_rafdb(args: argparse.Namespace) -> Collection:
    """Return all listed images with the official split into training and test."""
    source = source_directory(args.source, args.out)
    root = source / args.set if (source / args.set).is_dir() else source
    labels, images = root / "EmoLabel" / "list_patition_label.txt", root / "Image" / args.images
    files = walk(root)
    collection = Collection(_RAFDB[args.set], files, names=[Names.of_files(images, files.images)])
    if args.set == "basic" and not labels.exists():  # as on Kaggle: train/1 to train/7, test/1 to test/7
        collection.samples = [
            SourceSample(f"{match[1]}_{match[2]}{path.suffix}", int(path.parent.name) - 1, path, split=match[1].lower())
            for path, match in collection.images_named(_RAFDB_NAME, "train_00001_aligned.jpg")
            if path.parent.name in tuple("1234567")]
    if not collection.samples:
        check_parts(source, "a RAF-DB", (labels, images), files)
        form = f"\"train_00001.jpg 5\" with a label from 1 to {len(collection.expressions)}; the basic and the " \
            "compound expressions are chosen with --set"
        _read_list(collection, labels, _RAFDB_LINE, 1, form,
                   lambda name, _: re.sub(r"_aligned(?=\.\w+$)", "", name, flags=re.IGNORECASE))
    return collection


RAFDB = Importer(
    "rafdb", "RAF-DB's basic or compound expressions (basic/EmoLabel, basic/Image; or train/1 to test/7, as on Kaggle)",
    "the directory that holds basic/ or compound/", _read_rafdb,
    {"--set": dict(choices=tuple(_RAFDB), default="basic",
                   help="the seven basic or the eleven compound expressions (default: basic)"),
     "--images": dict(choices=("aligned", "original"), default="aligned", help="default: aligned")},
    DATA_SETS[3].directory)

_EXPW = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_EXPW_LINE = re.compile(r"(?P<file>.*\S)\s+\S+\s+(?P<top>\S+)\s+(?P<left>\S+)\s+(?P<right>\S+)\s+(?P<bottom>\S+)"
                        r"\s+\S+\s+(?P<label>\S+)")


def _read_expw(args: argparse.Namespace) -> Collection:
    """Return all listed faces with their boxes, without a split; the list names no persons."""
    source = source_directory(args.source.parent if args.source.is_file() else args.source, args.out)
    files = walk(source)
    lists = [path for path in files.others if path.name.lower() == "label.lst"]
    refuse(source, (len(lists) != 1, lambda: f"not an ExpW tree; it holds {len(lists)} files called label.lst, and one "
                    f"is needed{other_way(files, source)}"))
    listed = (line.rsplit(None, 7)[0] for line in read_lines(lists[0])[:100] if line.strip())
    names = Names.of_files(directory_of(listed, files.images) or source, files.images)
    collection = Collection(_EXPW, files, names=[names])
    _read_list(collection, lists[0], _EXPW_LINE, 0,
               "\"<image> <face> <top> <left> <right> <bottom> <confidence> <expression, 0 to 6>\"",
               lambda name, box: face_name(safe_name(Path(name).name), box))
    return collection


EXPW = Importer("expw", "ExpW (label.lst, and photographs in origin/)",
                "the directory that holds label.lst and origin/", _read_expw, TEST_SHARE)

# ------------------------------------------------------------------------------------------------ FER2013 and FER+

_FER_TABLES = ("fer2013.csv", "icml_face_data.csv")
_FER_SIDE = 48
_FER = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_VOTED = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
_NO_EXPRESSION = ("unknown", "NF")
_FER_SPLITS = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
_GREYS = {str(grey): grey for grey in range(256)}
_FER_NAME = re.compile(r"fer(\d{1,9})\.png|", re.IGNORECASE)


def _read_fer2013(args: argparse.Namespace) -> Collection:
    """Return the images of all rows with the official split; with ``--ferplus`` those on which its voters agree."""
    tables = [args.source / name for name in _FER_TABLES if (args.source / name).is_file()]
    table = next(iter(tables), args.source)
    refuse(table, (table.is_dir(), f"holds neither {' nor '.join(_FER_TABLES)}; name the table (if directories hold "
                   "the pictures: python -m datasets.convert folders)"))
    source_table(table, args.out, *filter(None, [args.ferplus]))
    collection = read_pixels(table, _FER, _FER, "fer2013")
    return _with_votes(collection, table, args.ferplus) if args.ferplus else collection


def read_pixels(table: Path, numbered: Sequence[str], expressions: tuple[str, ...], name: str) -> Collection:
    """Return all rows of a table, whose labels number the expressions as in ``numbered``.

    The images are called ``name_00000.png`` and so on. Raises UserError that names a wrong line.
    """
    columns, rows = read_table(table)
    check_columns(table, columns, ("emotion", "pixels", "Usage"), "it must be fer2013.csv or icml_face_data.csv")
    collection = Collection(expressions)
    for number, (line, row) in enumerate(rows):
        usage, label, pixels = row["Usage"], whole_number(row["emotion"]), row["pixels"].split()
        unknown = min(set(pixels) - _GREYS.keys(), default="")
        refuse(f"{table}, line {line}",
               (usage not in _FER_SPLITS, f"the Usage \"{shortened(usage)}\" is not one of {', '.join(_FER_SPLITS)}"),
               (label not in map(str, range(len(numbered))), f"the emotion \"{shortened(label)}\" is not one of 0 to "
                f"{len(numbered) - 1}" + (" (CK+'s ckextended.csv is of the kind ckplus)" if label == "7" else "")),
               (len(pixels) != _FER_SIDE ** 2,
                f"has {len(pixels)} pixels, not {_FER_SIDE} x {_FER_SIDE} = {_FER_SIDE ** 2}"),
               (unknown, f"the pixel \"{shortened(unknown)}\" is not a whole number from 0 to 255"))
        collection.samples.append(SourceSample(
            f"{name}_{number:05d}.png", expressions.index(numbered[int(label)]), table, split=_FER_SPLITS[usage],
            pixels=bytes(map(_GREYS.__getitem__, pixels))))
    collection.rows = len(collection.samples)
    return collection


def _with_votes(images: Collection, table: Path, ferplus: Path) -> Collection:
    """Return the images with the expressions that most of FER+'s ten voters gave them.

    The numbers of the Image names are no positions, since FER+ does not count all rows without a name; they only tell
    the order of the rows. Rows that all have a name are put into this order. Raises UserError if others are not in it,
    or if number or Usages of the rows differ from FER2013's, or if a row has no votes.
    """
    columns, rows = read_table(ferplus)
    check_columns(ferplus, columns, ("Usage", "Image name", *_VOTED, *_NO_EXPRESSION),
                  "it must be FER+'s fer2013new.csv")
    votes = [(_FER_NAME.fullmatch(row["Image name"]), row, f"{ferplus}, line {line}") for line, row in rows]
    refuse(f"--ferplus {ferplus}", (len(votes) != images.rows, f"has {len(votes)} rows and {table} {images.rows}; they "
                                    "must be the same images"))
    if all(match and match[1] for match, *_ in votes):
        votes.sort(key=lambda vote: int(vote[0][1]))
    collection, last = Collection(_VOTED, rows=images.rows), -1
    for (match, row, where), sample in zip(votes, images.samples):
        name, numbers = row["Image name"], {choice: whole_number(row[choice]) for choice in (*_VOTED, *_NO_EXPRESSION)}
        number = int(match[1]) if match and match[1] else None
        wrong = [choice for choice, text in numbers.items() if not is_integer(text) or int(text) < 0]
        refuse(where, (not match, f"the Image name \"{shortened(name)}\" is not like fer0000000.png"),
               (number is not None and number <= last, f"{name} stands behind fer{last:07d}.png, so the rows are not "
                "in FER2013's order; take FER+'s fer2013new.csv as published"),
               (_FER_SPLITS.get(row["Usage"]) != sample.split, f"the Usage is {shortened(row['Usage'])}, and that of "
                f"{sample.name} in {table} is another; they must be the same images"),
               (wrong, lambda: f"\"{shortened(row[wrong[0]])}\" is not a number of votes for {wrong[0]}"))
        last = last if number is None else number
        (winner, most), (_, next_most) = Counter({each: int(n) for each, n in numbers.items()}).most_common(2)
        if most == next_most or winner in _NO_EXPRESSION:
            reason = "on which FER+'s voters tie" if most == next_most else f"that FER+'s voters call {winner}"
            collection.left_out[reason] += 1
        else:
            collection.samples.append(replace(sample, label=_VOTED.index(winner)))
    return collection


FER2013 = Importer("fer2013", "FER2013's table of pixels, with FER+'s labels if there are",
                   "fer2013.csv or icml_face_data.csv, or its directory", _read_fer2013,
                   {"--ferplus": dict(type=user_path, metavar="FILE", help="fer2013new.csv of FER+: what most of ten "
                                      "people saw replaces the labels")}, metavar="FILE")

# ------------------------------------------------------------------------------------------------------ AffectNet

_AFFECTNET = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
_FOLDERS = {"train": "train_set", "test": "val_set"}
_TABLES = {"train": "training.csv", "test": "validation.csv"}
_COLUMNS = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression",
            "valence", "arousal")
_ANNOTATION = "_exp.npy"


def _read_affectnet(args: argparse.Namespace) -> Collection:
    """Return all images of the requested expressions at any depth: with annotation files beside them, or in tables.

    The test split is the validation set, the only other one with labels.
    """
    source = source_directory(args.source, args.out)
    collection = Collection(_AFFECTNET[:args.classes], walk(source))
    folders = sorted({path.parent.parent for path in collection.walk.others if path.name.endswith(_ANNOTATION)})
    root = next((folder.parent for folder in folders if folder.name in _FOLDERS.values()), source)
    if any((root / name).is_dir() for name in _FOLDERS.values()):
        check_parts(source, "an AffectNet",
                    [root / name / part for name in _FOLDERS.values() for part in ("images", "annotations")], Walk())
        for split, name in _FOLDERS.items():
            _read_folder(root / name, split, collection)
    else:
        _read_tables(source, collection)
    return collection


def _add(collection: Collection, split: str, label: int, name: str, path: Path) -> None:
    """Add an image under its split and name, or leave it out if it has no expression or one that is not requested."""
    if label < len(collection.expressions):
        collection.samples.append(SourceSample(f"{split}_{safe_name(name)}", label, path, split=split))
    else:
        collection.leave_out(f"of {_AFFECTNET[label]} (--classes {len(_AFFECTNET)} takes them)"
                             if label < len(_AFFECTNET) else
                             "without an expression (none, uncertain or no face)", path)


def _read_folder(folder: Path, split: str, collection: Collection) -> None:
    """Add the images ``images/N.jpg`` of ``train_set`` or ``val_set`` that have an annotation ``N_exp.npy``."""
    images = {path.stem: path for path in collection.walk.images if path.parent == folder / "images"}
    annotated = {path.name.removesuffix(_ANNOTATION): path for path in collection.walk.others
                 if path.parent == folder / "annotations" and path.name.endswith(_ANNOTATION)}
    present = [stem for stem in annotated if stem in images]
    with ThreadPoolExecutor(8) as pool:
        for stem, label in zip(present, pool.map(_read_annotation, [annotated[stem] for stem in present])):
            _add(collection, split, label, images[stem].name, images[stem])
    collection.leave_out("without an annotation", *(images[stem] for stem in images.keys() - set(present)))
    collection.left_out[f"annotated but missing in {folder / 'images'}"] += len(annotated) - len(present)


def _read_annotation(path: Path) -> int:
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
    refuse(path, (text not in tuple("01234567"), f"holds \"{shortened(text)}\", and an expression is one of 0 to 7"))
    return int(text)


def _read_tables(source: Path, collection: Collection) -> None:
    """Add the images of the tables of training, whose labels are by people, and of validation."""
    files = [path for path in collection.walk.others if path.name.lower() in _TABLES.values()]
    tables = {path.name.lower(): path for path in files}
    missing = [source / name for name in _TABLES.values() if name not in tables]
    refuse(source,
           (len(tables) < len(files), f"holds several tables of one name ({', '.join(map(str, files))}); name a "
            "directory with one of each"),
           (not files, lambda: "not an AffectNet tree; it needs train_set and val_set with images and annotations, or "
            f"training.csv and validation.csv{other_way(collection.walk, source)}"),
           (missing, lambda: f"not an AffectNet tree; {missing[0]} is missing"))
    for split, name in _TABLES.items():
        _read_rows(tables[name], split, collection, source)


def _read_rows(table: Path, split: str, collection: Collection, source: Path) -> None:
    """Add the rows of a table of paths and expressions, 0 to 10."""
    columns, rows = read_table(table, lambda first: _COLUMNS if is_image_name(first[0]) else None)
    check_columns(table, columns, ("subDirectory_filePath", "expression"), "it must be one of AffectNet's tables")
    first_rows = list(islice(rows, 100))
    images = [path for path in collection.walk.images
              if "automatic" not in path.relative_to(source).as_posix().lower()]  # labelled by a network
    root = directory_of([row["subDirectory_filePath"] for _, row in first_rows], images) or source
    names = Names.of_files(root, collection.walk.images)
    collection.names.append(names)
    for line, row in chain(first_rows, rows):
        listed, label = row["subDirectory_filePath"], whole_number(row["expression"])
        refuse(f"{table}, line {line}", (not listed, "names no image"), (
            label not in map(str, range(11)), f"the expression \"{shortened(label)}\" is not one of 0 to 10"))
        name = names.find(listed)
        if name is not None:
            _add(collection, split, int(label), name.replace("/", "_"), root / name)


AFFECTNET = Importer(
    "affectnet", "AffectNet (train_set and val_set, or training.csv and validation.csv)",
    "the directory that holds them", _read_affectnet,
    {"--classes": dict(type=int, choices=(7, 8), default=8, help="7 leaves contempt out (default: 8)")})
