"""What importers have in common: names of splits, expressions, subjects and scenes, and the options for them."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Sequence

from datasets.importing.collection import share_to_test_on
from datasets.layout import Sample
from datasets.lists import is_integer, read_lines
from utils import UserError

SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
               "test": "test", "testing": "test"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """``--expressions``, ``--subject_regex``, ``--scene_regex`` and ``--test_share``, for data without a standard."""
    parser.add_argument("--expressions", nargs="+", metavar="NAME", help="the expressions to take, in the order "
                        "of their labels (default: all, by name, neutral last); where the data number them, a name for "
                        "each number, in ascending order")
    parser.add_argument("--subject_regex", metavar="REGEX", help="the part of a file name that tells the subject, "
                        "or its first group, e.g. '^(S[0-9]+)_'")
    parser.add_argument("--scene_regex", metavar="REGEX", help="the part of a file name that tells the scene, or its "
                        "first group: a subject's images of one scene are each other's true swaps")
    parser.add_argument("--test_share", type=float, default=0.2, metavar="SHARE", help="without a test split: the "
                        "share to test on, whole subjects where they are known (default: 0.2)")


def add_test_subjects(parser: argparse.ArgumentParser) -> None:
    """``--test_subjects``, where all subjects are known."""
    parser.add_argument("--test_subjects", nargs="+", default=["0.2"], metavar="SHARE|ID|FILE",
                        help="a share of the images, chosen by subject, or subjects, or a file of them (default: 0.2)")


def share_or_subjects(words: Sequence[str]) -> float | set[str]:
    """What ``--test_subjects`` says; UserError for what is no share."""
    if len(words) == 1 and Path(words[0]).is_file():
        return set(read_lines(Path(words[0]), as_words=True))
    return share_to_test_on(words[0]) if len(words) == 1 and "." in words[0] else set(words)


def one_word(text: str) -> str:
    """A name without white space and without letters that a file system or a list could trip over."""
    return re.sub(r"[^\w.+-]+", "_", text.strip()).lstrip(".")


def neutral_last(name: str) -> tuple:
    """The key that sorts expressions by number or name, with neutral last."""
    return name.lower() == "neutral", not is_integer(name), int(name) if is_integer(name) else 0, name


def asked_labels(present: Sequence[str], expressions: Sequence[str] | None, what: str) -> list[str]:
    """Which of the labels ``present`` are taken, in label order: all, or those that ``expressions`` name.

    Where all are numbers, ``expressions`` may name each of them, in ascending order. ``what`` says in a UserError who
    lacks a label, e.g. "faces.csv: has no label".
    """
    if not expressions or set(expressions) <= set(present):
        return list(expressions or present)
    numbered = all(map(is_integer, present))
    if numbered and len(present) == len(expressions):
        return sorted(present, key=int)
    absent = ", ".join(name for name in expressions if name not in present)
    raise UserError(f"{what} {absent}; it has {', '.join(present)}"
                    + (f": give each of these {len(present)} a name, or take some of them" if numbered else ""))


class NamePattern:
    """``--subject_regex`` or ``--scene_regex``: ``pattern(name)`` is what a file name tells, or None.

    It is the first group (or all) of the first match in the file name, else in the path. UserError for a pattern that
    is none.
    """

    def __init__(self, flag: str, pattern: str | None) -> None:
        self._typed = f"{flag} {pattern}"
        try:
            self._pattern = re.compile(pattern) if pattern else None
        except re.error as error:
            raise UserError(f"{self._typed}: not a regular expression ({error})") from None

    def __call__(self, name: str) -> str | None:
        match = self._pattern and (self._pattern.search(name.rsplit("/", 1)[-1]) or self._pattern.search(name))
        return one_word(next(filter(None, match.groups()), match.group())) or None if match else None

    def check(self, samples: Sequence[Sample], told: Sequence[str | None]) -> None:
        """UserError where there is a pattern and it has ``told`` nothing of any of these samples."""
        if self._pattern and samples and not any(told):
            raise UserError(f"{self._typed}: matches no file name, e.g. not {samples[0].path.name}")


class SubjectPattern:
    """``--subject_regex`` and ``--scene_regex``: who and which scene a file name tells."""

    def __init__(self, subject: str | None, scene: str | None) -> None:
        self.subject, self.scene = NamePattern("--subject_regex", subject), NamePattern("--scene_regex", scene)

    def check(self, samples: Sequence[Sample]) -> None:
        """UserError where a pattern matches no name, and where there are scenes and no subjects."""
        self.subject.check(samples, [sample.subject for sample in samples])
        self.scene.check(samples, [sample.scene for sample in samples])
        if any(sample.scene for sample in samples) and not any(sample.subject for sample in samples):
            raise UserError("--scene_regex: a scene is one of a subject, and no subject is known; tell the subjects "
                            "with --subject_regex")
