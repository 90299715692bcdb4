"""What importers have in common: names of splits, expressions, subjects and scenes, and the options for them."""

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import Sequence

from datasets.importing.collection import Collection
from datasets.lists import is_integer, read_lines
from datasets.walking import natural_key
from utils import UserError

_SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
                "test": "test", "testing": "test", "publictest": "val", "privatetest": "test",
                "fertrain": "train", "fervalid": "val", "fertest": "test"}  # FER2013's PublicTest, FER+'s FER2013Train

# Options by flag, as argparse knows them: where there may be no test split, where all subjects are known, and for data
# without a standard.
TEST_SHARE = {"--test_share": dict(type=float, default=0.2, metavar="SHARE", help="without a test split: the share to "
                                   "test on, whole subjects where they are known (default: 0.2)")}
TEST_SUBJECTS = {"--test_subjects": dict(nargs="+", default=["0.2"], metavar="SHARE|ID|FILE", help="a share of the "
                                         "images, chosen by subject, or subjects, or a file of them (default: 0.2)")}
NAMING = {
    "--expressions": dict(nargs="+", metavar="NAME", help="the expressions to take, in the order of their labels "
                          "(default: all, by name, neutral last); where the data number them, a name for each number, "
                          "in ascending order"),
    "--subject_regex": dict(metavar="REGEX", help="the part of a file name that tells the subject, or its first group, "
                            "e.g. '^(S[0-9]+)_'"),
    "--scene_regex": dict(metavar="REGEX", help="the part of a file name that tells the scene, or its first group: a "
                          "subject's images of one scene are each other's true swaps"),
    "--val_as_test": dict(action="store_true", help="test on the validation split, where the test split has no labels"),
    **TEST_SHARE}


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
    val, test = len(found.split("val")), len(found.split("test"))
    if val_as_test and (test or not val):
        raise UserError(f"--val_as_test: there are {test} labelled images of the test split and {val} of the "
                        "validation split; leave it out")
    if tests and not test and not val_as_test:
        advice = "test on the validation images with --val_as_test" if val else \
            "leave them out (directories with --ignore NAME), and training images are tested on"
        raise UserError(f"none of the {tests} test images can be tested on, since they have no label or no file; "
                        f"{advice}")
    moved = {"val": "test"} if val_as_test else {}
    moved |= {None: "train"} if test or val_as_test else {"train": None}
    found.samples = [sample if sample.label == len(found.expressions) else  # target-only faces always train
                     replace(sample, split=moved.get(sample.split, sample.split)) for sample in found.samples]


def one_word(text: str) -> str:
    """Return a name without white space and without letters that a file system or a list could trip over."""
    return re.sub(r"[^\w.+-]+", "_", text.strip()).lstrip(".")


def neutral_last(name: str) -> tuple:
    """Return the key that sorts expressions by number or name, with neutral last."""
    return name.lower() == "neutral", natural_key(name)


def asked_labels(present: Sequence[str], expressions: Sequence[str] | None, what: str) -> list[str]:
    """Return which of the labels ``present`` are taken, in label order: all, or those that ``expressions`` name.

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


class NamePatterns:
    """``--subject_regex`` and ``--scene_regex``: what file names tell of subjects and scenes.

    Raises UserError if one is no regular expression.
    """

    def __init__(self, asked: argparse.Namespace) -> None:
        self._typed = {"subject": asked.subject_regex, "scene": asked.scene_regex}
        self._patterns: dict[str, re.Pattern] = {}
        for what, pattern in self._typed.items():
            try:
                self._patterns |= {what: re.compile(pattern)} if pattern else {}
            except re.error as error:
                raise UserError(f"--{what}_regex {pattern}: not a regular expression ({error})") from None

    def read(self, name: str) -> dict[str, str]:
        """Return the subject and the scene that a name tells: the first group, or all, of the pattern's first match.

        It is looked for in the file name, then in the path.
        """
        matches = {what: pattern.search(name.rsplit("/", 1)[-1]) or pattern.search(name)
                   for what, pattern in self._patterns.items()}
        words = {what: one_word(next(filter(None, match.groups()), match.group()))
                 for what, match in matches.items() if match}
        return {what: word for what, word in words.items() if word}

    def check(self, found: Collection) -> None:
        """Raise UserError if a pattern does not match all names, or if there are scenes and no subjects."""
        samples = found.samples
        for what in self._patterns:
            silent = [sample.path.name for sample in samples if not getattr(sample, what)]
            typed = f"--{what}_regex {self._typed[what]}"
            if silent and len(silent) == len(samples):
                raise UserError(f"{typed}: matches no file name, e.g. not {silent[0]}")
            if silent:
                raise UserError(f"{typed}: matches {len(samples) - len(silent)} of {len(samples)} file names and not "
                                f"{' and '.join(silent[:2])}; write one that matches all ((?i) in front ignores case)")
        if any(sample.scene for sample in samples) and not any(sample.subject for sample in samples):
            raise UserError("--scene_regex: a scene is one of a subject, and no subject is known; tell the subjects "
                            "with --subject_regex")
