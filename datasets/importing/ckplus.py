"""CK+: ``cohn-kanade-images/S005/001/S005_001_00000011.png`` and ``Emotion/S005/001/..._emotion.txt``.

Or ``ckextended.csv``, a table of pixels in the form of FER2013's, which names no persons.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Iterable

from datasets.importing import naming, sequences
from datasets.importing.collection import Collection, Importer, source_directory, source_table
from datasets.importing.fer2013 import collected, read_images
from datasets.lists import read_lines, shortened, whole_number
from datasets.walking import walk
from options.option import check_ranges
from utils import UserError

TABLE = "ckextended.csv"
_EXPRESSIONS = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise", "neutral")
_IN_TABLE = ("anger", "disgust", "fear", "happy", "sadness", "surprise", "neutral", "contempt")
_FRAME = re.compile(r"(S\d+)_(\d+)_(\d{1,9})\.(?:png|jpe?g)", re.IGNORECASE)
_LABEL = re.compile(r"(S\d+)_(\d+)_(\d{1,9})_emotion\.txt", re.IGNORECASE)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this kind."""
    sequences.add_options(parser)
    naming.add_test_subjects(parser)


def read(asked: argparse.Namespace) -> Collection:
    """Return the samples of the published tree, without a split, or of the table, with its split."""
    check_ranges(asked, peak=(1, 1000))
    source = Path(asked.source)
    if source.is_dir() and not (source / "cohn-kanade-images").is_dir() and (source / TABLE).is_file():
        asked.source = str(source / TABLE)
    if Path(asked.source).is_file():
        return read_ckextended(source_table(asked))
    return read_ckplus(source_directory(asked), asked.peak)


def read_ckextended(table: Path) -> Collection:
    """Return all rows of ``ckextended.csv``, with their pixels and its split."""
    images = list(read_images(table, len(_IN_TABLE)))
    labels = [_EXPRESSIONS.index(_IN_TABLE[image.label]) for image in images]
    return collected(images, labels, _EXPRESSIONS, table, "ckplus")


def read_ckplus(source: Path, peak: int) -> Collection:
    """Return the labelled sequences, each with its first frame and ``peak`` frames up to the one of its label.

    The scene is the sequence.
    """
    images, labels = source / "cohn-kanade-images", source / "Emotion"
    for path in (images, labels):
        if not path.is_dir():
            raise UserError(f"{source}: not a CK+ tree; {path} is missing")
    found = Collection(_EXPRESSIONS, walk(images, labels))
    taken = read_labels(found.walk.others, labels)
    frames: dict[tuple[str, str], dict[int, Path]] = {}
    for path, match in found.images_named(_FRAME, "S005_001_00000011.png"):
        frames.setdefault((match[1].upper(), match[2]), {})[int(match[3])] = path
    for sequence, paths in frames.items():
        if sequence not in taken:
            found.leave_out("of sequences without a label", *paths.values())
            continue
        (subject, scene), (label, last) = sequence, taken[sequence]
        if last not in paths:
            found.leave_out("of sequences without the frame that their label is of", *paths.values())
            continue
        found.leave_out("behind the frame that their label is of", *(paths[frame] for frame in paths if frame > last))
        until = [paths[frame] for frame in sorted(paths) if frame <= last]
        sequences.take_sequence(found, until, label, peak, subject, scene)
    missing = len(taken.keys() - frames.keys())
    if missing:
        found.left_out[f"labelled but missing in {images}"] += missing
    return found


def read_labels(files: Iterable[Path], folder: Path) -> dict[tuple[str, str], tuple[int, int]]:
    """Read the label files into {(subject, sequence): (label, frame)}.

    Raises UserError if one holds anything but 1 to 7, and if a sequence has two.
    """
    labels: dict[tuple[str, str], tuple[int, int]] = {}
    for path in files:
        match = _LABEL.fullmatch(path.name)
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
                  ("SRC", "the directory that holds cohn-kanade-images/ and Emotion/, or ckextended.csv"),
                  "datasets/ckplus", add_options, read)
