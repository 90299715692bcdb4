"""Data sets whose file and directory names hold the labels: Multi-PIE, JAFFE and KDEF; CK+ and Oulu-CASIA.

The photographs of the first three may lie in any tree of directories. In the others a sequence of frames goes from a
neutral face to the expression's peak. CK+: ``cohn-kanade-images/S005/001/S005_001_00000011.png`` and
``Emotion/S005/001/..._emotion.txt``; or ``ckextended.csv``, a table of pixels in the form of FER2013's, which names no
persons. Oulu-CASIA: ``OriginalImg/VL/Strong/P001/Anger/000.jpeg``, or ``PreProcess Img/VL_Acropped/Strong/...``.
"""

import argparse
import re
from pathlib import Path
from typing import Callable, Sequence

from datasets.files import walk
from datasets.importing.collection import Collection, Importer, SourceSample, source_directory, source_table
from datasets.importing.listed import read_pixels
from datasets.importing.naming import TEST_SUBJECTS, check_parts, other_way, safe_name
from datasets.layout import DATA_SETS
from datasets.lists import read_lines, shortened, whole_number
from options.config import check_ranges
from utils import refuse

# ------------------------------------------------------------------------------------ Multi-PIE, JAFFE and KDEF

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
            expression, *person_and_scene = found
            collection.samples.append(SourceSample(path.name, expressions.index(expression), path, *person_and_scene))
    only_foreign = set(+collection.left_out) <= {f"not named like {example}"} and not collection.samples
    refuse(source, (only_foreign, lambda: f"no image is named like {example}{other_way(collection.walk, source)}"))
    return collection


def _read_multipie(args: argparse.Namespace) -> Collection:
    """Return the images of the requested cameras and illuminations; the scene is session, camera and illumination."""
    cameras = {name.replace("_", "") for name in args.cameras}

    def read(subject: str, session: str, recording: str, camera: str, illumination: str) -> tuple[str, str, str] | str:
        expression = _EXPRESSION_OF_RECORDING.get((int(session), int(recording)))
        reasons = {"of another camera": camera not in cameras,
                   "of another illumination": illumination not in args.illuminations,
                   "of a recording without a known expression": expression is None}
        found = expression, subject, f"s{int(session)}_{camera}_{illumination}"
        return next((reason for reason, is_left_out in reasons.items() if is_left_out), found)

    return _read_names(args, DATA_SETS[2].expressions, _MULTIPIE_NAME, "001_01_01_051_07.png", read)


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

# ----------------------------------------------------------------------------------- sequences: CK+ and Oulu-CASIA

_PEAK = {"--peak": dict(type=int, default=3, metavar="N",
                        help="the last N frames of a sequence show its expression (default: 3)")}


def _take_sequence(collection: Collection, frames: Sequence[Path], label: int, peak: int, subject: str, scene: str,
                   prefix: str = "") -> None:
    """Add a sequence's first frame as neutral and up to ``peak`` last ones as the expression.

    All are of one scene: they are each other's ground-truth swaps. Names of images begin with ``prefix``.
    """
    neutral, peaks = collection.expressions.index("neutral"), frames[1:][-peak:]
    if not peaks:
        collection.leave_out("of a sequence of a single frame", *frames)
        return
    collection.samples += [SourceSample(prefix + (safe_name(path.name) if prefix else path.name),
                                        neutral if path is frames[0] else label, path, subject, scene)
                           for path in (frames[0], *peaks)]
    collection.leave_out("between the neutral frame and the peak", *frames[1:len(frames) - len(peaks)])


_CKPLUS = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise", "neutral")
_TABLE_ORDER = ("anger", "disgust", "fear", "happy", "sadness", "surprise", "neutral", "contempt")
_FRAME = re.compile(r"(S\d+)_(\d+)_(\d{1,9})\.(?:png|jpe?g)", re.IGNORECASE)
_LABEL = re.compile(r"(S\d+)_(\d+)_(\d{1,9})_emotion\.txt", re.IGNORECASE)


def _read_ckplus(args: argparse.Namespace) -> Collection:
    """Return the first and the peak frames of labelled sequences, or the rows of ``ckextended.csv``."""
    check_ranges(args, peak=(1, 1000))
    source, images, labels = args.source, args.source / "cohn-kanade-images", args.source / "Emotion"
    table = source / "ckextended.csv" if (source / "ckextended.csv").is_file() and not images.is_dir() else source
    if table.is_file():
        return read_pixels(source_table(table, args.out), _TABLE_ORDER, _CKPLUS, "ckplus")
    source_directory(source, args.out)
    check_parts(source, "a CK+", (images, labels), walk(source))
    collection = Collection(_CKPLUS, walk(images, labels))
    labelled = _read_labels(collection.walk.others, labels)
    frames: dict[tuple[str, str], dict[int, Path]] = {}
    for path, match in collection.images_named(_FRAME, "S005_001_00000011.png"):
        frames.setdefault((match[1].upper(), match[2]), {})[int(match[3])] = path
    for sequence, paths in frames.items():
        label, last = labelled.get(sequence, (None, None))
        if label is None:
            collection.leave_out("of sequences without a label", *paths.values())
        elif last not in paths:
            collection.leave_out("of sequences without the frame that their label names", *paths.values())
        else:
            collection.leave_out("after the frame that their label names", *(paths[i] for i in paths if i > last))
            _take_sequence(collection, [paths[i] for i in sorted(paths) if i <= last], label, args.peak, *sequence)
    collection.left_out[f"labelled but missing in {images}"] += len(labelled.keys() - frames.keys())
    return collection


def _read_labels(files: Sequence[Path], folder: Path) -> dict[tuple[str, str], tuple[int, int]]:
    """Read the label files into {(subject, sequence): (label, frame)}.

    Raises UserError if one holds anything but 1 to 7, and if a sequence has two.
    """
    labels: dict[tuple[str, str], tuple[int, int]] = {}
    matches = ((path, match) for path in files if (match := _LABEL.fullmatch(path.name)))
    for path, match in matches:
        text, sequence = " ".join(read_lines(path, as_words=True)), (match[1].upper(), match[2])
        refuse(path, (whole_number(text) not in tuple("1234567"),
                      f"\"{shortened(text)}\" is not the number of an expression, 1 to 7"),
               (sequence in labels, "its sequence has another label file; keep one"))
        labels[sequence] = int(whole_number(text)) - 1, int(match[3])
    refuse(folder, (not labels, "holds no file named like S005_001_00000011_emotion.txt"))
    return labels


CKPLUS = Importer("ckplus", "CK+ as published (cohn-kanade-images, Emotion), or ckextended.csv",
                  "the directory that holds cohn-kanade-images/ and Emotion/, or ckextended.csv", _read_ckplus,
                  {**_PEAK, **TEST_SUBJECTS})

_OULU = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")


def _read_oulu(args: argparse.Namespace) -> Collection:
    """Return the first and the peak frames of the sequences of a camera and a light, each sequence as one scene.

    The source holds the tree of original images or that of cropped faces, or is one of them.
    """
    check_ranges(args, peak=(1, 1000))
    source, camera, light = source_directory(args.source, args.out), args.camera, args.light
    roots = [source / folder / light for folder in (f"OriginalImg/{camera}", f"PreProcess Img/{camera}_Acropped",
                                                    camera, f"{camera}_Acropped")]
    root, collection = next((folder for folder in roots if folder.is_dir()), None), Collection(_OULU, walk(source))
    refuse(source, (root is None, lambda: f"not an Oulu-CASIA tree with --camera {camera} --light {light}; neither "
                    f"{roots[0]} nor {roots[1]} is there{other_way(collection.walk, source)}"))
    folders: dict[Path, list[Path]] = {}
    for path in collection.walk.images:
        folders.setdefault(path.parent, []).append(path)
    for folder, frames in folders.items():
        expression = folder.name.lower()
        if root not in folder.parents:
            collection.leave_out(f"that are not below {root}", *frames)
        elif folder.parent.parent != root:
            collection.leave_out("not in a directory like P001/Anger", *frames)
        elif expression not in _OULU[:-1]:
            collection.leave_out(f"of an unknown expression ({folder.name})", *frames)
        else:
            subject, scene = safe_name(folder.parent.name), f"{camera}_{light}_{folder.name}"
            _take_sequence(collection, frames, _OULU.index(expression), args.peak, subject, scene,
                           f"{subject}_{scene}_")
    return collection


OULU = Importer(
    "oulu", "Oulu-CASIA (OriginalImg, or PreProcess Img)",
    "the directory that holds OriginalImg/ or PreProcess Img/, or one of them", _read_oulu,
    {"--camera": dict(choices=("VL", "NI"), default="VL", help="visible light or near infrared (default: VL)"),
     "--light": dict(choices=("Strong", "Weak", "Dark"), default="Strong", help="default: Strong"),
     **_PEAK, **TEST_SUBJECTS})
