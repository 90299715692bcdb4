"""CK+ and Oulu-CASIA, data sets of filmed expressions: a sequence goes from a neutral face to the expression's peak.

CK+: ``cohn-kanade-images/S005/001/S005_001_00000011.png`` and ``Emotion/S005/001/..._emotion.txt``; or
``ckextended.csv``, a table of pixels in the form of FER2013's, which names no persons. Oulu-CASIA:
``OriginalImg/VL/Strong/P001/Anger/000.jpeg``, or ``PreProcess Img/VL_Acropped/Strong/...``.
"""

import argparse
import re
from pathlib import Path
from typing import Callable, Sequence

from datasets.files import walk
from datasets.importing.collection import Collection, Importer, SourceSample, source_directory, source_table
from datasets.importing.fer2013 import read_pixels
from datasets.importing.naming import TEST_SUBJECTS, check_parts, other_way, safe_name
from datasets.lists import read_lines, shortened, whole_number
from options.config import check_ranges
from utils import UserError

_PEAK = {"--peak": dict(type=int, default=3, metavar="N",
                        help="the last N frames of a sequence show its expression (default: 3)")}


def _take_sequence(collection: Collection, frames: Sequence[Path], label: int, peak: int, subject: str, scene: str,
                   name: Callable[[Path], str] = lambda path: path.name) -> None:
    """Add a sequence's first frame as neutral and up to ``peak`` last ones as the expression.

    All are of one scene: they are each other's ground-truth swaps. ``name`` gives the name of a frame's image.
    """
    peaks = frames[1:][-peak:]
    if not peaks:
        collection.leave_out("of a sequence of a single frame", *frames)
        return
    labels = [collection.expressions.index("neutral")] + [label] * len(peaks)
    for path, frame_label in zip((frames[0], *peaks), labels):
        collection.samples.append(SourceSample(name(path), frame_label, path, subject, scene))
    collection.leave_out("between the neutral frame and the peak", *frames[1:len(frames) - len(peaks)])


# ---------------------------------------------------------------------------------------------------- CK+

_TABLE = "ckextended.csv"
_CKPLUS = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise", "neutral")
_TABLE_ORDER = ("anger", "disgust", "fear", "happy", "sadness", "surprise", "neutral", "contempt")
_FRAME = re.compile(r"(S\d+)_(\d+)_(\d{1,9})\.(?:png|jpe?g)", re.IGNORECASE)
_LABEL = re.compile(r"(S\d+)_(\d+)_(\d{1,9})_emotion\.txt", re.IGNORECASE)


def _read_ckplus(args: argparse.Namespace) -> Collection:
    """Return the first and the peak frames of labelled sequences, or the rows of ``ckextended.csv``."""
    check_ranges(args, peak=(1, 1000))
    source = args.source
    if source.is_dir() and not (source / "cohn-kanade-images").is_dir() and (source / _TABLE).is_file():
        source = source / _TABLE
    if source.is_file():
        return read_pixels(source_table(source, args.out), _TABLE_ORDER, _CKPLUS, "ckplus")
    source_directory(source, args.out)
    images, labels = source / "cohn-kanade-images", source / "Emotion"
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
    for path in files:
        match = _LABEL.fullmatch(path.name)
        if not match:
            continue
        text = " ".join(read_lines(path, as_words=True))
        if whole_number(text) not in tuple("1234567"):
            raise UserError(f"{path}: \"{shortened(text)}\" is not the number of an expression, 1 to 7")
        sequence = match[1].upper(), match[2]
        if sequence in labels:
            raise UserError(f"{path}: its sequence has another label file; keep one")
        labels[sequence] = int(whole_number(text)) - 1, int(match[3])
    if not labels:
        raise UserError(f"{folder}: holds no file named like S005_001_00000011_emotion.txt")
    return labels


CKPLUS = Importer("ckplus", "CK+ as published (cohn-kanade-images, Emotion), or ckextended.csv",
                  "the directory that holds cohn-kanade-images/ and Emotion/, or ckextended.csv", _read_ckplus,
                  {**_PEAK, **TEST_SUBJECTS})

# --------------------------------------------------------------------------------------------- Oulu-CASIA

_OULU = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")


def _read_oulu(args: argparse.Namespace) -> Collection:
    """Return the first and the peak frames of the sequences of a camera and a light, each sequence as one scene.

    The source holds the tree of original images or that of cropped faces, or is one of them.
    """
    check_ranges(args, peak=(1, 1000))
    source, camera, light = source_directory(args.source, args.out), args.camera, args.light
    roots = [source / folder / light for folder in (f"OriginalImg/{camera}", f"PreProcess Img/{camera}_Acropped",
                                                    camera, f"{camera}_Acropped")]
    root = next((folder for folder in roots if folder.is_dir()), None)
    if root is None:
        raise UserError(f"{source}: not an Oulu-CASIA tree with --camera {camera} --light {light}; neither {roots[0]} "
                        f"nor {roots[1]} is there{other_way(walk(source), source)}")
    collection, folders = Collection(_OULU, walk(source)), {}
    for path in collection.walk.images:
        folders.setdefault(path.parent, []).append(path)
    for folder, frames in folders.items():
        parts = folder.relative_to(root).parts if root in folder.parents else ()
        expression = folder.name.lower()
        if not parts:
            collection.leave_out(f"that are not below {root}", *frames)
        elif len(parts) != 2:
            collection.leave_out("not in a directory like P001/Anger", *frames)
        elif expression not in _OULU[:-1]:
            collection.leave_out(f"of an unknown expression ({folder.name})", *frames)
        else:
            subject, scene = safe_name(parts[0]), f"{camera}_{light}_{folder.name}"
            _take_sequence(collection, frames, _OULU.index(expression), args.peak, subject, scene,
                           lambda path: f"{subject}_{scene}_{safe_name(path.name)}")
    return collection


OULU = Importer(
    "oulu", "Oulu-CASIA (OriginalImg, or PreProcess Img)",
    "the directory that holds OriginalImg/ or PreProcess Img/, or one of them", _read_oulu,
    {"--camera": dict(choices=("VL", "NI"), default="VL", help="visible light or near infrared (default: VL)"),
     "--light": dict(choices=("Strong", "Weak", "Dark"), default="Strong", help="default: Strong"),
     **_PEAK, **TEST_SUBJECTS})
