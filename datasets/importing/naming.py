"""What importers have in common: names of splits, expressions, subjects and scenes, and the options for them."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Sequence

from datasets.importing.collection import Collection
from datasets.layout import Sample
from datasets.lists import is_integer, read_lines
from datasets.names import natural_key
from utils import UserError

_SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
                "test": "test", "testing": "test", "publictest": "val", "privatetest": "test",
                "fertrain": "train", "fervalid": "val", "fertest": "test"}  # FER2013's PublicTest, FER+'s FER2013Train


def add_options(parser: argparse.ArgumentParser) -> None:
    """``--expressions``, ``--subject_regex``, ``--scene_regex`` and ``--test_share``, for data without a standard."""
    parser.add_argument("--expressions", nargs="+", metavar="NAME", help="the expressions to take, in the order "
                        "of their labels (default: all, by name, neutral last); where the data number them, a name for "
                        "each number, in ascending order")
    parser.add_argument("--subject_regex", metavar="REGEX", help="the part of a file name that tells the subject, "
                        "or its first group, e.g. '^(S[0-9]+)_'")
    parser.add_argument("--scene_regex", metavar="REGEX", help="the part of a file name that tells the scene, or its "
                        "first group: a subject's images of one scene are each other's true swaps")
    parser.add_argument("--val_as_test", action="store_true", help="test on the validation split, where the test "
                        "split has no labels")
    add_test_share(parser)


def add_test_share(parser: argparse.ArgumentParser) -> None:
    """``--test_share``, where there may be no test split."""
    parser.add_argument("--test_share", type=float, default=0.2, metavar="SHARE", help="without a test split: the "
                        "share to test on, whole subjects where they are known (default: 0.2)")


def add_test_subjects(parser: argparse.ArgumentParser) -> None:
    """``--test_subjects``, where all subjects are known."""
    parser.add_argument("--test_subjects", nargs="+", default=["0.2"], metavar="SHARE|ID|FILE",
                        help="a share of the images, chosen by subject, or subjects, or a file of them (default: 0.2)")


def asked_test(asked: argparse.Namespace) -> float | set[str]:
    """Return what is tested on where a data set has no test split: a share, or subjects.

    Raises UserError for what is neither.
    """
    words = getattr(asked, "test_subjects", [str(getattr(asked, "test_share", 0.2))])
    if len(words) == 1 and Path(words[0]).is_file():
        return set(read_lines(Path(words[0]), as_words=True))
    if len(words) > 1 or "." not in words[0] and hasattr(asked, "test_subjects"):
        return set(words)
    try:
        share = float(words[0])
    except ValueError:
        raise UserError(f"--test_subjects {words[0]}: no share, no subject's number and no file") from None
    if not 0 < share < 1:
        raise UserError(f"the share to test on must lie between 0 and 1, not {words[0]}")
    return share


def split_of(name: str) -> str | None:
    """Return the split that a name such as ``train_set`` or ``Validation`` means, or None."""
    return _SPLIT_NAMES.get(re.sub("[^a-z]|set$", "", name.lower()))


def decide_test(found: Collection, val_as_test: bool, tests: int) -> None:
    """Leave training samples undecided where there is no test split; ``tests`` is how many images belong to one.

    With ``val_as_test`` the validation split is tested on. Raises UserError if all images of the test split lack a
    label or a file, and nothing says what is tested on.
    """
    splits = found.splits
    if val_as_test and (splits["test"] or not splits["val"]):
        raise UserError(f"--val_as_test: there are {len(splits['test'])} labelled images of the test split and "
                        f"{len(splits['val'])} of the validation split; leave it out")
    if tests and not splits["test"] and not val_as_test:
        advice = "test on the validation images with --val_as_test" if splits["val"] else \
            "leave them out (directories with --ignore NAME), and training images are tested on"
        raise UserError(f"none of the {tests} test images can be tested on, since they have no label or no file; "
                        f"{advice}")
    if val_as_test:
        splits["test"], splits["val"] = splits["val"], []
    if splits["test"]:
        splits["train"], found.undecided = splits["train"] + found.undecided, []
    else:       # target-only faces always train
        found.undecided += [sample for sample in splits["train"] if sample.label < len(found.expressions)]
        splits["train"] = [sample for sample in splits["train"] if sample.label >= len(found.expressions)]


def one_word(text: str) -> str:
    """A name without white space and without letters that a file system or a list could trip over."""
    return re.sub(r"[^\w.+-]+", "_", text.strip()).lstrip(".")


def neutral_last(name: str) -> tuple:
    """The key that sorts expressions by number or name, with neutral last."""
    return name.lower() == "neutral", natural_key(name)


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

    It is the first group (or all) of the first match in the file name, else in the path. Raises UserError for a
    pattern that is none. """

    def __init__(self, flag: str, pattern: str | None) -> None:
        self._typed = f"{flag} {pattern}"
        try:
            self._pattern = re.compile(pattern) if pattern else None
        except re.error as error:
            raise UserError(f"{self._typed}: not a regular expression ({error})") from None

    def __call__(self, name: str) -> str | None:
        match = self._pattern and (self._pattern.search(name.rsplit("/", 1)[-1]) or self._pattern.search(name))
        return one_word(next(filter(None, match.groups()), match.group())) or None if match else None

    def check(self, samples: Sequence[Sample], found: Sequence[str | None]) -> None:
        """Raise UserError if there is a pattern and it has found nothing in the names of some samples."""
        silent = [sample.path.name for sample, word in zip(samples, found) if not word]
        if self._pattern and silent and not any(found):
            raise UserError(f"{self._typed}: matches no file name, e.g. not {silent[0]}")
        if self._pattern and silent:
            raise UserError(f"{self._typed}: matches {len(samples) - len(silent)} of {len(samples)} file names and not "
                            f"{' and '.join(silent[:2])}; write one that matches all ((?i) in front ignores case)")


class SubjectPattern:
    """``--subject_regex`` and ``--scene_regex``: who and which scene a file name tells."""

    def __init__(self, subject: str | None, scene: str | None) -> None:
        self.subject, self.scene = NamePattern("--subject_regex", subject), NamePattern("--scene_regex", scene)

    def check(self, samples: Sequence[Sample]) -> None:
        """Raise UserError if a pattern does not match all names, or if there are scenes and no subjects."""
        self.subject.check(samples, [sample.subject for sample in samples])
        self.scene.check(samples, [sample.scene for sample in samples])
        if any(sample.scene for sample in samples) and not any(sample.subject for sample in samples):
            raise UserError("--scene_regex: a scene is one of a subject, and no subject is known; tell the subjects "
                            "with --subject_regex")
