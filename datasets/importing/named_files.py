"""Data sets whose labels are in the file names: Multi-PIE, JAFFE and KDEF, in any tree of directories."""

import argparse
import re

from datasets.importing.collection import Collection, Importer, SourceSample, source_directory
from datasets.importing.naming import TEST_SUBJECTS
from datasets.layout import DATA_SETS
from datasets.walking import walk
from utils import UserError

# ---------------------------------------------------------------------------------------------- Multi-PIE

_MULTIPIE = DATA_SETS[2].expressions
_EXPRESSION_OF_RECORDING = {        # by session and recording, as Multi-PIE publishes them
    (1, 1): "neutral", (2, 1): "neutral", (3, 1): "neutral", (4, 1): "neutral", (4, 3): "neutral",
    (1, 2): "smile", (3, 2): "smile", (2, 2): "surprise", (2, 3): "squint", (3, 3): "disgust", (4, 2): "scream"}
_MULTIPIE_NAME = re.compile(r"(\d{3})_(\d\d)_(\d\d)_(\d{3})_(\d\d)(?:_[a-z]\w*)?\.\w+", re.IGNORECASE)


def _read_multipie(args: argparse.Namespace) -> Collection:
    """Return the images of the requested cameras and illuminations; the scene is session, camera and illumination."""
    source = source_directory(args.source, args.out)
    for name in args.cameras:
        if not re.fullmatch(r"\d\d_?\d", name):
            raise UserError(f"--cameras {name}: a camera is named like 05_1")
    for name in args.illuminations:
        if not re.fullmatch(r"\d\d", name):
            raise UserError(f"--illuminations {name}: an illumination is named by two digits, 00 to 19")
    collection = Collection(_MULTIPIE, walk(source))
    cameras = {name.replace("_", "") for name in args.cameras}
    for path, match in collection.images_named(_MULTIPIE_NAME, "001_01_01_051_07.png"):
        subject, session, recording, camera, illumination = match.groups()
        expression = _EXPRESSION_OF_RECORDING.get((int(session), int(recording)))
        if camera not in cameras:
            collection.leave_out("of another camera", path)
        elif illumination not in args.illuminations:
            collection.leave_out("of another illumination", path)
        elif expression is None:
            collection.leave_out("of a recording without a known expression", path)
        else:
            scene = f"s{int(session)}_{camera}_{illumination}"
            collection.samples.append(SourceSample(path.name, _MULTIPIE.index(expression), path, subject, scene))
    if set(collection.left_out) <= {"not named like 001_01_01_051_07.png"} and not collection.samples:
        raise UserError(f"{source}: not a Multi-PIE tree; no image is named like 001_01_01_051_07.png or "
                        "001_01_01_051_07_crop_128.png")
    return collection


MULTIPIE = Importer(
    "multipie", "Multi-PIE, as published (session01/multiview/...) or as crops of 128 pixels",
    "the directory that holds its images, in any subdirectories", _read_multipie,
    {"--cameras": dict(nargs="+", default=["05_1"], metavar="CC_C", help="default: 05_1, frontal"),
     "--illuminations": dict(nargs="+", default=["07"], metavar="LL", help="default: 07"), **TEST_SUBJECTS},
    DATA_SETS[2].directory)

# -------------------------------------------------------------------------------------------------- JAFFE

_JAFFE = {"AN": "anger", "DI": "disgust", "FE": "fear", "HA": "happiness", "SA": "sadness", "SU": "surprise",
          "NE": "neutral"}
_JAFFE_NAME = re.compile(rf"([A-Z]{{2}})\.({'|'.join(_JAFFE)})(\d+\.\d+)\.\w+", re.IGNORECASE)


def _read_jaffe(args: argparse.Namespace) -> Collection:
    """Return all images; the scene is the person, since everybody was photographed in one studio."""
    collection = Collection(tuple(_JAFFE.values()), walk(source_directory(args.source, args.out)))
    for path, match in collection.images_named(_JAFFE_NAME, "KA.AN1.39.tiff"):
        subject, label = match[1].upper(), list(_JAFFE).index(match[2].upper())
        collection.samples.append(SourceSample(path.name, label, path, subject, subject))
    return collection


JAFFE = Importer("jaffe", "JAFFE (KA.AN1.39.tiff, ...)", "the directory of its images", _read_jaffe, TEST_SUBJECTS)

# --------------------------------------------------------------------------------------------------- KDEF

_ANGLES = ("S", "HL", "HR", "FL", "FR")
_KDEF = {"AF": "afraid", "AN": "angry", "DI": "disgusted", "HA": "happy", "SA": "sad", "SU": "surprised",
         "NE": "neutral"}
_KDEF_NAME = re.compile(rf"([AB])([FM](?:0[1-9]|[12]\d|3[0-5]))({'|'.join(_KDEF)})({'|'.join(_ANGLES)})\.\w+",
                        re.IGNORECASE)


def _read_kdef(args: argparse.Namespace) -> Collection:
    """Return the images of the requested angles; the scene is session and angle."""
    collection = Collection(tuple(_KDEF.values()), walk(source_directory(args.source, args.out)))
    for path, match in collection.images_named(_KDEF_NAME, "AF01ANS.JPG"):
        session, subject, code, angle = (part.upper() for part in match.groups())
        if angle in args.angles:
            label = list(_KDEF).index(code)
            collection.samples.append(SourceSample(path.name, label, path, subject, f"{session}_{angle}"))
        else:
            collection.leave_out("of another angle", path)
    return collection


KDEF = Importer(
    "kdef", "KDEF (AF01/AF01ANS.JPG, ...)", "the directory of its images", _read_kdef,
    {"--angles": dict(nargs="+", choices=_ANGLES, default=["S"], metavar="ANGLE",
                      help=f"of {' '.join(_ANGLES)}: straight, half and full left and right (default: S)"),
     **TEST_SUBJECTS})
