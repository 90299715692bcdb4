"""Data sets of photographs: Multi-PIE, JAFFE and KDEF, whose names hold the labels; RAF-DB and ExpW, which list them.

RAF-DB: ``basic/EmoLabel`` and ``basic/Image``, with the official split. ExpW: ``label.lst``, a line for each face, and
the photographs of several persons in ``origin/``. The others may lie in any tree of directories.
"""

import argparse
import re
from pathlib import Path
from typing import Callable

from datasets.files import walk
from datasets.importing.collection import (Box, Collection, Importer, SourceSample, face_name, read_box,
                                           source_directory)
from datasets.importing.naming import TEST_SHARE, TEST_SUBJECTS, check_parts, other_way, safe_name
from datasets.layout import DATA_SETS
from datasets.lists import Names, directory_of, numbered_lines, read_lines, shortened, whole_number
from utils import UserError

# ------------------------------------------------------------------------------------ Multi-PIE, JAFFE and KDEF

_MULTIPIE = DATA_SETS[2].expressions
_EXPRESSION_OF_RECORDING = {        # by session and recording, as Multi-PIE publishes them
    (1, 1): "neutral", (2, 1): "neutral", (3, 1): "neutral", (4, 1): "neutral", (4, 3): "neutral",
    (1, 2): "smile", (3, 2): "smile", (2, 2): "surprise", (2, 3): "squint", (3, 3): "disgust", (4, 2): "scream"}
_MULTIPIE_NAME = re.compile(r"(\d{3})_(\d\d)_(\d\d)_(\d{3})_(\d\d)(?:_[a-z]\w*)?\.\w+", re.IGNORECASE)
_JAFFE = {"AN": "anger", "DI": "disgust", "FE": "fear", "HA": "happiness", "SA": "sadness", "SU": "surprise",
          "NE": "neutral"}
_JAFFE_NAME = re.compile(rf"([A-Z]{{2}})\.({'|'.join(_JAFFE)})(\d+\.\d+)\.\w+", re.IGNORECASE)
_ANGLES = ("S", "HL", "HR", "FL", "FR")
_KDEF = {"AF": "afraid", "AN": "angry", "DI": "disgusted", "HA": "happy", "SA": "sad", "SU": "surprised",
         "NE": "neutral"}
_KDEF_NAME = re.compile(rf"([AB])([FM](?:0[1-9]|[12]\d|3[0-5]))({'|'.join(_KDEF)})({'|'.join(_ANGLES)})\.\w+",
                        re.IGNORECASE)


def _read_names(args: argparse.Namespace, expressions: tuple[str, ...], pattern: re.Pattern, example: str,
                read: Callable[..., tuple[str, str, str] | str]) -> Collection:
    """Return the images whose names match a pattern.

    ``read`` returns the expression, the subject and the scene that the pattern's groups say, in capitals, or the reason
    why the image is left out.
    """
    source = source_directory(args.source, args.out)
    collection = Collection(expressions, walk(source))
    for path, match in collection.images_named(pattern, example):
        found = read(*map(str.upper, match.groups()))
        if isinstance(found, str):
            collection.leave_out(found, path)
        else:
            expression, subject, scene = found
            collection.samples.append(SourceSample(path.name, expressions.index(expression), path, subject, scene))
    if set(+collection.left_out) <= {f"not named like {example}"} and not collection.samples:
        raise UserError(f"{source}: no image is named like {example}{other_way(collection.walk, source)}")
    return collection


def _read_multipie(args: argparse.Namespace) -> Collection:
    """Return the images of the requested cameras and illuminations; the scene is session, camera and illumination."""
    cameras = {name.replace("_", "") for name in args.cameras}

    def read(subject: str, session: str, recording: str, camera: str, illumination: str) -> tuple[str, str, str] | str:
        expression = _EXPRESSION_OF_RECORDING.get((int(session), int(recording)))
        if camera not in cameras:
            return "of another camera"
        if illumination not in args.illuminations:
            return "of another illumination"
        scene = f"s{int(session)}_{camera}_{illumination}"
        return (expression, subject, scene) if expression else "of a recording without a known expression"

    return _read_names(args, _MULTIPIE, _MULTIPIE_NAME, "001_01_01_051_07.png", read)


def _read_jaffe(args: argparse.Namespace) -> Collection:
    """Return all images; the scene is the person, since everybody was photographed in one studio."""
    return _read_names(args, tuple(_JAFFE.values()), _JAFFE_NAME, "KA.AN1.39.tiff",
                       lambda subject, code, number: (_JAFFE[code], subject, subject))


def _read_kdef(args: argparse.Namespace) -> Collection:
    """Return the images of the requested angles; the scene is session and angle."""
    return _read_names(args, tuple(_KDEF.values()), _KDEF_NAME, "AF01ANS.JPG",
                       lambda session, subject, code, angle: (_KDEF[code], subject, f"{session}_{angle}")
                       if angle in args.angles else "of another angle")


MULTIPIE = Importer(
    "multipie", "Multi-PIE, as published (session01/multiview/...) or as crops of 128 pixels",
    "the directory that holds its images, in any subdirectories", _read_multipie,
    {"--cameras": dict(nargs="+", default=["05_1"], metavar="CC_C", help="default: 05_1, frontal"),
     "--illuminations": dict(nargs="+", default=["07"], metavar="LL", help="default: 07"), **TEST_SUBJECTS},
    DATA_SETS[2].directory)

JAFFE = Importer("jaffe", "JAFFE (KA.AN1.39.tiff, ...)", "the directory of its images", _read_jaffe, TEST_SUBJECTS)

KDEF = Importer(
    "kdef", "KDEF (AF01/AF01ANS.JPG, ...)", "the directory of its images", _read_kdef,
    {"--angles": dict(nargs="+", choices=_ANGLES, default=["S"], metavar="ANGLE",
                      help=f"of {' '.join(_ANGLES)}: straight, half and full left and right (default: S)"),
     **TEST_SUBJECTS})

# ------------------------------------------------------------------------------------------------ RAF-DB and ExpW

def _read_list(collection: Collection, table: Path, pattern: re.Pattern, first: int, form: str,
               target: Callable[[str, Box | None], str]) -> int:
    """Add the images of a list's lines, whose labels number the expressions from ``first``; return the number of lines.

    The groups of ``pattern`` are file and label, and perhaps split or a box. ``target`` returns an image's name in the
    data directory for the file's name and the box. Raises UserError for a line that is not of the ``form``.
    """
    numbers = [str(first + label) for label in range(len(collection.expressions))]
    names, count = collection.names[0], 0
    for count, (number, line) in enumerate(numbered_lines(table), 1):
        match, where = pattern.fullmatch(line.strip()), f"{table}, line {number}"
        if not match or whole_number(match["label"]) not in numbers:
            raise UserError(f"{where}: \"{shortened(line)}\" is not {form}")
        groups = match.groupdict()
        box = read_box([groups[side] for side in ("left", "top", "right", "bottom")], False, where) \
            if "left" in groups else None
        if name := names.find(groups["file"]):
            split = groups["split"].lower() if "split" in groups else None
            collection.samples.append(SourceSample(target(name, box), numbers.index(whole_number(groups["label"])),
                                                   names.root / name, split=split, box=box))
    return count


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
    names = Names.of_files(images, files.images)
    collection = Collection(_RAFDB[args.set], files, names=[names])
    if args.set == "basic" and not labels.exists():  # as on Kaggle: train/1 to train/7, test/1 to test/7
        for path, match in collection.images_named(_RAFDB_NAME, "train_00001_aligned.jpg"):
            if path.parent.name in tuple("1234567"):
                collection.samples.append(SourceSample(f"{match[1]}_{match[2]}{path.suffix}", int(path.parent.name) - 1,
                                                       path, split=match[1].lower()))
        if collection.samples:
            return collection
    check_parts(source, "a RAF-DB", (labels, images), files)
    _read_list(collection, labels, _RAFDB_LINE, 1,
               f"\"train_00001.jpg 5\" with a label from 1 to {len(collection.expressions)}; the basic and the "
               "compound expressions are chosen with --set",
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
_EXPW_LIST = "label.lst"
_EXPW_LINE = re.compile(r"(?P<file>.*\S)\s+\S+\s+(?P<top>\S+)\s+(?P<left>\S+)\s+(?P<right>\S+)\s+(?P<bottom>\S+)"
                        r"\s+\S+\s+(?P<label>\S+)")


def _read_expw(args: argparse.Namespace) -> Collection:
    """Return all listed faces with their boxes, without a split; the list names no persons."""
    source = source_directory(args.source.parent if args.source.is_file() else args.source, args.out)
    files = walk(source)
    lists = [path for path in files.others if path.name.lower() == _EXPW_LIST]
    if len(lists) != 1:
        raise UserError(f"{source}: not an ExpW tree; it holds {len(lists)} files called {_EXPW_LIST}, and one is "
                        f"needed{other_way(files, source)}")
    listed = (line.rsplit(None, 7)[0] for line in read_lines(lists[0])[:100] if line.strip())
    names = Names.of_files(directory_of(listed, files.images) or source, files.images)
    collection = Collection(_EXPW, files, names=[names])
    collection.rows = _read_list(
        collection, lists[0], _EXPW_LINE, 0,
        "\"<image> <face> <top> <left> <right> <bottom> <confidence> <expression, 0 to 6>\"",
        lambda name, box: face_name(safe_name(Path(name).name), box))
    return collection


EXPW = Importer("expw", "ExpW (label.lst, and photographs in origin/)",
                "the directory that holds label.lst and origin/", _read_expw, TEST_SHARE)
