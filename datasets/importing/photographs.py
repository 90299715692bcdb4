"""Data sets of photographs: Multi-PIE, JAFFE and KDEF, whose names hold the labels; RAF-DB and ExpW, which list them.

RAF-DB: ``basic/EmoLabel`` and ``basic/Image``, with the official split. ExpW: ``label.lst``, a line for each face, and
the photographs of several persons in ``origin/``. The others may lie in any tree of directories.
"""

import argparse
import re
from pathlib import Path
from typing import Callable

from datasets.files import walk
from datasets.importing.collection import Collection, Importer, SourceSample, face_name, read_box, source_directory
from datasets.importing.naming import TEST_SHARE, TEST_SUBJECTS, other_way, safe_name
from datasets.layout import DATA_SETS
from datasets.lists import Names, cleaned, directory_of, numbered_lines, shortened, whole_number
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

# ----------------------------------------------------------------------------------------------------------- RAF-DB

_RAFDB = {
    "basic": DATA_SETS[3].expressions,
    "compound": ("happily_surprised", "happily_disgusted", "sadly_fearful", "sadly_angry", "sadly_surprised",
                 "sadly_disgusted", "fearfully_angry", "fearfully_surprised", "angrily_surprised", "angrily_disgusted",
                 "disgustedly_surprised")}


_RAFDB_NAME = re.compile(r"(train|test)_(\d+)(?:_aligned)?\.\w+", re.IGNORECASE)


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
    for path in (labels, images):
        if not path.exists():
            raise UserError(f"{source}: not a RAF-DB tree; {path} is missing{other_way(files, source)}")
    for number, line in numbered_lines(labels):
        listed, label = (line.strip().rsplit(None, 1) + [""])[:2]
        split = re.match("(train|test)_", cleaned(listed).rpartition("/")[2], re.IGNORECASE)
        label = whole_number(label)
        if not split or label not in map(str, range(1, 1 + len(collection.expressions))):
            raise UserError(f"{labels}, line {number}: \"{shortened(line)}\" is not \"train_00001.jpg 5\" with a label "
                            f"from 1 to {len(collection.expressions)}; the basic and the compound expressions are "
                            "chosen with --set")
        name = names.find(listed)
        if name is not None:
            target = re.sub(r"_aligned(?=\.\w+$)", "", name, flags=re.IGNORECASE)
            collection.samples.append(SourceSample(target, int(label) - 1, images / name, split=split[1].lower()))
    return collection


RAFDB = Importer(
    "rafdb", "RAF-DB's basic or compound expressions (basic/EmoLabel, basic/Image; or train/1 to test/7, as on Kaggle)",
    "the directory that holds basic/ or compound/", _read_rafdb,
    {"--set": dict(choices=tuple(_RAFDB), default="basic",
                   help="the seven basic or the eleven compound expressions (default: basic)"),
     "--images": dict(choices=("aligned", "original"), default="aligned", help="default: aligned")},
    DATA_SETS[3].directory)

# ------------------------------------------------------------------------------------------------------------- ExpW

_EXPW = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_EXPW_LIST = "label.lst"


def _read_expw(args: argparse.Namespace) -> Collection:
    """Return all listed faces with their boxes, without a split; the list names no persons."""
    source = source_directory(args.source.parent if args.source.is_file() else args.source, args.out)
    files = walk(source)
    lists = [path for path in files.others if path.name.lower() == _EXPW_LIST]
    if len(lists) != 1:
        raise UserError(f"{source}: not an ExpW tree; it holds {len(lists)} files called {_EXPW_LIST}, and one is "
                        f"needed{other_way(files, source)}")
    lines = list(numbered_lines(lists[0]))
    root = directory_of((line.rsplit(None, 7)[0] for _, line in lines[:100]), files.images) or source
    names = Names.of_files(root, files.images)
    collection = Collection(_EXPW, files, len(lines), [names])
    for number, line in lines:
        listed, *values = line.strip().rsplit(None, 7)
        label, where = whole_number(values[-1]) if len(values) == 7 else "", f"{lists[0]}, line {number}"
        if label not in tuple("0123456"):
            raise UserError(f"{where}: \"{shortened(line)}\" is not \"<image> <face> <top> <left> <right> <bottom> "
                            "<confidence> <expression, 0 to 6>\"")
        top, left, right, bottom = values[1:5]
        box = read_box((left, top, right, bottom), False, where)
        name = names.find(listed)
        if name is not None:
            target = face_name(safe_name(Path(name).name), box)
            collection.samples.append(SourceSample(target, int(label), root / name, box=box))
    return collection


EXPW = Importer("expw", "ExpW (label.lst, and photographs in origin/)",
                "the directory that holds label.lst and origin/", _read_expw, TEST_SHARE)
