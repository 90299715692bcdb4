"""CK+: ``cohn-kanade-images/S005/001/S005_001_00000011.png`` and ``Emotion/S005/001/..._emotion.txt``."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from datasets.importing import naming, sequences
from datasets.importing.collection import Collection, Importer, files_below, source_directory
from datasets.lists import read_lines, shortened
from options.option import check_ranges
from utils import UserError

_EXPRESSIONS = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise", "neutral")
_FRAME = re.compile(r"(S\d+)_(\d+)_(\d+)\.(png|jpe?g)", re.IGNORECASE)
_LABEL = re.compile(r"(S\d+)_(\d+)_(\d+)_emotion\.txt", re.IGNORECASE)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this kind."""
    sequences.add_options(parser)
    naming.add_test_subjects(parser)


def read(asked: argparse.Namespace) -> Collection:
    """What was asked for, as samples without a split."""
    check_ranges(asked, peak=(1, 1000))
    found = read_ckplus(source_directory(asked), asked.peak)
    found.test = naming.share_or_subjects(asked.test_subjects)
    return found


def read_ckplus(source: Path, peak: int) -> Collection:
    """The labelled sequences, each with its first frame and its last ``peak``; the scene is the sequence."""
    images, labels = source / "cohn-kanade-images", source / "Emotion"
    for path in (images, labels):
        if not path.is_dir():
            raise UserError(f"{source}: not a CK+ tree; {path} is missing")
    found, taken = Collection(_EXPRESSIONS), read_labels(labels)
    frames: dict[tuple[str, str], list[Path]] = {}
    for path in files_below(images):
        match = _FRAME.fullmatch(path.name)
        if match:
            frames.setdefault((match[1].upper(), match[2]), []).append(path)
        else:
            found.left_out["not named like S005_001_00000011.png"] += 1
    for sequence, paths in frames.items():
        if sequence in taken:
            subject, scene = sequence
            sequences.take_sequence(found, paths, taken[sequence], peak, subject, scene)
        else:
            found.left_out["of sequences without a label"] += len(paths)
    missing = len(taken.keys() - frames.keys())
    if missing:
        found.left_out[f"labelled but missing in {images}"] += missing
    return found


def read_labels(folder: Path) -> dict[tuple[str, str], int]:
    """{(subject, sequence): label}; UserError for a file that holds anything but 1 to 7, and two of one sequence."""
    labels: dict[tuple[str, str], int] = {}
    for path in sorted(folder.rglob("*_emotion.txt")):
        match = _LABEL.fullmatch(path.name)
        if not match:
            continue
        words = read_lines(path, as_words=True)
        if len(words) != 1 or not re.fullmatch(r"[1-7](\.0*(e\+?0+)?)?", words[0]):
            raise UserError(f"{path}: \"{shortened(' '.join(words))}\" is no expression, a number from 1 to 7")
        sequence = match[1].upper(), match[2]
        if sequence in labels:
            raise UserError(f"{path}: its sequence has another label file; keep one")
        labels[sequence] = int(words[0][0]) - 1
    if not labels:
        raise UserError(f"{folder}: holds no file named like S005_001_00000011_emotion.txt")
    return labels


CKPLUS = Importer("ckplus", "CK+ as published (cohn-kanade-images, Emotion)",
                  ("SRC", "the directory that holds cohn-kanade-images/ and Emotion/"), "datasets/ckplus", add_options,
                  read)
