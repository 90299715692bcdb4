"""What data sets without a standard have in common: names of splits, expressions and subjects, and their options."""

from __future__ import annotations

import argparse
import re
from typing import Sequence

from datasets.layout import Sample
from datasets.lists import is_integer
from utils import UserError

SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
               "test": "test", "testing": "test"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """``--expressions``, ``--subject_regex`` and ``--test_share``."""
    parser.add_argument("--expressions", nargs="+", metavar="NAME", help="the expressions to take, in the order "
                        "of their labels (default: all, by name, neutral last)")
    parser.add_argument("--subject_regex", metavar="REGEX", help="the part of a file name that tells the subject, "
                        "or its first group, e.g. '^(S[0-9]+)_'")
    parser.add_argument("--test_share", type=float, default=0.2, metavar="SHARE", help="without a test split: the "
                        "share to test on, whole subjects where they are known (default: 0.2)")


def one_word(text: str) -> str:
    """A name without white space and without letters that a file system or a list could trip over."""
    return re.sub(r"[^\w.+-]+", "_", text.strip()).lstrip(".")


def neutral_last(name: str) -> tuple:
    """The key that sorts expressions by number or name, with neutral last."""
    return name.lower() == "neutral", not is_integer(name), int(name) if is_integer(name) else 0, name


class SubjectPattern:
    """``--subject_regex``: ``pattern(name)`` is the subject that a file name tells, or None.

    It is the first group (or all) of the first match in the file name, else in the path. UserError for a pattern that
    is none.
    """

    def __init__(self, pattern: str | None) -> None:
        self._text = pattern
        try:
            self._pattern = re.compile(pattern) if pattern else None
        except re.error as error:
            raise UserError(f"--subject_regex {pattern}: not a regular expression ({error})") from None

    def __call__(self, name: str) -> str | None:
        match = self._pattern and (self._pattern.search(name.rsplit("/", 1)[-1]) or self._pattern.search(name))
        return one_word(next(filter(None, match.groups()), match.group())) or None if match else None

    def check(self, samples: Sequence[Sample]) -> None:
        """UserError where there is a pattern and it has told no subject of these samples."""
        if self._pattern and samples and not any(sample.subject for sample in samples):
            raise UserError(f"--subject_regex {self._text}: matches no file name, e.g. not {samples[0].path.name}")
