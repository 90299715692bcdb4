"""Sets of filmed expressions, CK+ and Oulu-CASIA: a sequence runs from a neutral face to the peak of an expression.

CK+: ``cohn-kanade-images/S005/001/S005_001_00000011.png`` and ``Emotion/S005/001/..._emotion.txt``; or
``ckextended.csv``, a table of pixels in the form of FER2013's, which names no persons. Oulu-CASIA:
``OriginalImg/VL/Strong/P001/Anger/000.jpeg``, or ``PreProcess Img/VL_Acropped/Strong/...``.
"""

import argparse
import re
from pathlib import Path
from typing import Callable, Sequence

from datasets.importing.collection import Collection, FoundSample, Importer, source_directory, source_table
from datasets.importing.fer2013 import collected, read_images
from datasets.importing.naming import TEST_SUBJECTS, one_word
from datasets.lists import read_lines, shortened, whole_number
from datasets.walking import walk
from options.option import check_ranges
from utils import UserError

_PEAK = {"--peak": dict(type=int, default=3, metavar="N",
                        help="the last N frames of a sequence show its expression (default: 3)")}


def _take_sequence(found: Collection, frames: Sequence[Path], label: int, peak: int, subject: str, scene: str,
                   name: Callable[[Path], str] = lambda path: path.name) -> None:
    """Add a sequence's first frame as neutral and its last ``peak``, or as many as there are, as the expression.

    All are of one scene: they are each other's true swaps. ``name`` gives the name of a frame's image.
    """
    peaks = frames[1:][-peak:]
    if not peaks:
        found.leave_out("of a sequence of a single frame", *frames)
        return
    for path, shown in ((frames[0], found.expressions.index("neutral")), *((path, label) for path in peaks)):
        found.samples.append(FoundSample(name(path), shown, path, subject, scene))
    found.leave_out("between the neutral frame and the peak", *frames[1:len(frames) - len(peaks)])


# ---------------------------------------------------------------------------------------------------- CK+

_TABLE = "ckextended.csv"
_CKPLUS = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise", "neutral")
_IN_TABLE = ("anger", "disgust", "fear", "happy", "sadness", "surprise", "neutral", "contempt")
_FRAME = re.compile(r"(S\d+)_(\d+)_(\d{1,9})\.(?:png|jpe?g)", re.IGNORECASE)
_LABEL = re.compile(r"(S\d+)_(\d+)_(\d{1,9})_emotion\.txt", re.IGNORECASE)


def _read_ckplus(asked: argparse.Namespace) -> Collection:
    """Return the labelled sequences, each with its first frame and those up to the one of its label; or the table."""
    check_ranges(asked, peak=(1, 1000))
    source = asked.source
    if source.is_dir() and not (source / "cohn-kanade-images").is_dir() and (source / _TABLE).is_file():
        source = source / _TABLE
    if source.is_file():
        rows = list(read_images(source_table(source, asked.out), len(_IN_TABLE)))
        return collected(rows, [_CKPLUS.index(_IN_TABLE[row.label]) for row in rows], _CKPLUS, source, "ckplus")
    source_directory(source, asked.out)
    images, labels = source / "cohn-kanade-images", source / "Emotion"
    for path in (images, labels):
        if not path.is_dir():
            raise UserError(f"{source}: not a CK+ tree; {path} is missing")
    found = Collection(_CKPLUS, walk(images, labels))
    labelled = _read_labels(found.walk.others, labels)
    frames: dict[tuple[str, str], dict[int, Path]] = {}
    for path, match in found.images_named(_FRAME, "S005_001_00000011.png"):
        frames.setdefault((match[1].upper(), match[2]), {})[int(match[3])] = path
    for sequence, paths in frames.items():
        label, last = labelled.get(sequence, (None, None))
        if label is None:
            found.leave_out("of sequences without a label", *paths.values())
        elif last not in paths:
            found.leave_out("of sequences without the frame that their label is of", *paths.values())
        else:
            found.leave_out("behind the frame that their label is of", *(paths[i] for i in paths if i > last))
            _take_sequence(found, [paths[i] for i in sorted(paths) if i <= last], label, asked.peak, *sequence)
    missing = len(labelled.keys() - frames.keys())
    if missing:
        found.left_out[f"labelled but missing in {images}"] += missing
    return found


def _read_labels(files: Sequence[Path], folder: Path) -> dict[tuple[str, str], tuple[int, int]]:
    """Read the label files into {(subject, sequence): (label, frame)}.

    Raises UserError if one holds anything but 1 to 7, and if a sequence has two.
    """
    labels: dict[tuple[str, str], tuple[int, int]] = {}
    for path, match in ((path, _LABEL.fullmatch(path.name)) for path in files):
        if not match:
            continue
        words = read_lines(path, as_words=True)
        if len(words) != 1 or whole_number(words[0]) not in tuple("1234567"):
            raise UserError(f"{path}: \"{shortened(' '.join(words))}\" is no expression, a number from 1 to 7")
        sequence = match[1].upper(), match[2]
        if sequence in labels:
            raise UserError(f"{path}: its sequence has another label file; keep one")
        labels[sequence] = int(whole_number(words[0])) - 1, int(match[3])
    if not labels:
        raise UserError(f"{folder}: holds no file named like S005_001_00000011_emotion.txt")
    return labels


CKPLUS = Importer("ckplus", "CK+ as published (cohn-kanade-images, Emotion), or ckextended.csv",
                  "the directory that holds cohn-kanade-images/ and Emotion/, or ckextended.csv", _read_ckplus,
                  {**_PEAK, **TEST_SUBJECTS})

# --------------------------------------------------------------------------------------------- Oulu-CASIA

_OULU = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")


def _read_oulu(asked: argparse.Namespace) -> Collection:
    """Return the sequences of a camera and a light, each as one scene.

    The source holds the tree of original images, else the one of cropped faces, or is one of them.
    """
    check_ranges(asked, peak=(1, 1000))
    source, camera, light = source_directory(asked.source, asked.out), asked.camera, asked.light
    places = [source / place / light for place in (f"OriginalImg/{camera}", f"PreProcess Img/{camera}_Acropped", camera,
                                                   f"{camera}_Acropped")]
    root = next((place for place in places if place.is_dir()), None)
    if root is None:
        raise UserError(f"{source}: not an Oulu-CASIA tree with --camera {camera} --light {light}; neither {places[0]} "
                        f"nor {places[1]} is there")
    found, folders = Collection(_OULU, walk(source)), {}
    for path in found.walk.images:
        folders.setdefault(path.parent, []).append(path)
    for folder, frames in folders.items():
        place = folder.relative_to(root).parts if root in folder.parents else ()
        expression = folder.name.lower()
        if not place:
            found.leave_out(f"that are not below {root}", *frames)
        elif len(place) != 2:
            found.leave_out("not in a directory like P001/Anger", *frames)
        elif expression not in _OULU[:-1]:
            found.leave_out(f"of an unknown expression ({folder.name})", *frames)
        else:
            subject, scene = one_word(place[0]), f"{camera}_{light}_{folder.name}"
            _take_sequence(found, frames, _OULU.index(expression), asked.peak, subject, scene,
                           lambda path: f"{subject}_{scene}_{one_word(path.name)}")
    return found


OULU = Importer(
    "oulu", "Oulu-CASIA (OriginalImg, or PreProcess Img)",
    "the directory that holds OriginalImg/ or PreProcess Img/, or one of them", _read_oulu,
    {"--camera": dict(choices=("VL", "NI"), default="VL", help="visible light or near infrared (default: VL)"),
     "--light": dict(choices=("Strong", "Weak", "Dark"), default="Strong", help="default: Strong"),
     **_PEAK, **TEST_SUBJECTS})
