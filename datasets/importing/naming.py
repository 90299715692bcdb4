"""Names of splits, expressions, subjects and scenes, as several importers read them, and the options for them."""

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import Sequence

from datasets.files import natural_key
from datasets.importing.collection import Collection
from datasets.lists import is_integer, read_lines
from utils import UserError

_SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
                "test": "test", "testing": "test", "publictest": "val", "privatetest": "test",
                "fertrain": "train", "fervalid": "val", "fertest": "test"}  # FER2013's PublicTest, FER+'s FER2013Train

# Options by flag, as argparse takes them: TEST_SHARE for sources that may have no test split, TEST_SUBJECTS for those
# whose subjects are all known, NAMING for those whose names follow no standard.
TEST_SHARE = {"--test_share": dict(type=float, default=0.2, metavar="SHARE", help="without a test split: the share to "
                                   "test on, whole subjects where they are known (default: 0.2)")}
TEST_SUBJECTS = {"--test_subjects": dict(nargs="+", default=["0.2"], metavar="SHARE|ID|FILE", help="a share of the "
                                         "images, chosen by subject, or subjects, or a file of them (default: 0.2)")}
NAMING = {
    "--expressions": dict(nargs="+", metavar="NAME", help="the expressions to take, in the order of their labels "
                          "(default: all, by name, neutral last); where the data number them, a name for each number, "
                          "in ascending order"),
    "--subject_regex": dict(metavar="REGEX", help="the part of a file name that is the subject, or its first group, "
                            "e.g. '^(S[0-9]+)_'"),
    "--scene_regex": dict(metavar="REGEX", help="the part of a file name that is the scene, or its first group: a "
                          "subject's images of one scene are each other's ground-truth swaps"),
    "--val_as_test": dict(action="store_true", help="test on the validation split, if the test split has no labels"),
    **TEST_SHARE}


def read_test_selection(args: argparse.Namespace) -> float | set[str]:
    """Return the share of the images, or the subjects, that are tested on if a data set has no test split.

    Raises UserError if ``--test_subjects`` or ``--test_share`` is no such selection.
    """
    share = getattr(args, "test_share", 0.2)
    if subjects := getattr(args, "test_subjects", None):
        if len(subjects) == 1 and Path(subjects[0]).is_file():
            return set(read_lines(Path(subjects[0]), as_words=True))
        if len(subjects) > 1 or "." not in subjects[0]:
            return set(subjects)
        try:
            share = float(subjects[0])
        except ValueError:
            raise UserError(f"--test_subjects {subjects[0]}: no share, no subject's number and no file") from None
    if not 0 < share < 1:
        raise UserError(f"the share to test on must lie between 0 and 1, not {share}")
    return share


def split_of(name: str) -> str | None:
    """Return the split that a name such as ``train_set`` or ``Validation`` means, or None."""
    return _SPLIT_NAMES.get(re.sub("[^a-z]|set$", "", name.lower()))


def assign_test_split(collection: Collection, val_as_test: bool, test_images: int) -> None:
    """Make training samples undecided if there is no test split; ``test_images`` of the source belong to one.

    With ``val_as_test`` the validation split becomes the test split. Raises UserError if it cannot, and if all images
    of the test split lack a label or a file.
    """
    val, test = len(collection.split("val")), len(collection.split("test"))
    if val_as_test and (test or not val):
        raise UserError(f"--val_as_test: there are {test} labelled images of the test split and {val} of the "
                        "validation split; leave it out")
    if test_images and not test and not val_as_test:
        advice = "test on the validation images with --val_as_test" if val else \
            "leave them out (directories with --ignore NAME), and training images are tested on"
        raise UserError(f"none of the {test_images} test images can be tested on, since they have no label or no file; "
                        f"{advice}")
    new_split = {"val": "test"} if val_as_test else {}
    new_split |= {None: "train"} if test or val_as_test else {"train": None}
    collection.samples = [sample if sample.label == len(collection.expressions)  # target-only faces always train
                          else replace(sample, split=new_split.get(sample.split, sample.split))
                          for sample in collection.samples]


def safe_name(text: str) -> str:
    """Return a name without white space, leading dots, and characters that a file system or a list cannot hold."""
    return re.sub(r"[^\w.+-]+", "_", text.strip()).lstrip(".")


def expression_key(name: str) -> tuple:
    """Return the key that sorts expressions by number or name, with neutral last."""
    return name.lower() == "neutral", natural_key(name)


def select_labels(present: Sequence[str], expressions: Sequence[str] | None, missing: str) -> list[str]:
    """Return the labels to import, in label order: all that are ``present``, or those that ``expressions`` name.

    If all are numbers, ``expressions`` may name each of them, in ascending order. Raises UserError, which begins with
    ``missing`` (such as "faces.csv: has no label"), if a label is absent.
    """
    if not expressions or set(expressions) <= set(present):
        return list(expressions or present)
    numbered = all(map(is_integer, present))
    if numbered and len(present) == len(expressions):
        return sorted(present, key=int)
    absent = ", ".join(name for name in expressions if name not in present)
    raise UserError(f"{missing} {absent}; it has {', '.join(present)}"
                    + (f": give each of these {len(present)} a name, or take some of them" if numbered else ""))


class NamePatterns:
    """The patterns ``--subject_regex`` and ``--scene_regex``, which read subjects and scenes from file names.

    Raises UserError if one is no regular expression.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self._patterns: dict[str, re.Pattern] = {}
        for attribute in ("subject", "scene"):
            if pattern := getattr(args, f"{attribute}_regex"):
                try:
                    self._patterns[attribute] = re.compile(pattern)
                except re.error as error:
                    raise UserError(f"--{attribute}_regex {pattern}: not a regular expression ({error})") from None

    def read(self, name: str) -> dict[str, str]:
        """Return the subject and the scene of a name: the first group, or all, of each pattern's first match.

        The pattern is searched in the file name, then in the path.
        """
        values = {}
        for attribute, pattern in self._patterns.items():
            match = pattern.search(name.rsplit("/", 1)[-1]) or pattern.search(name)
            if match and (value := safe_name(next(filter(None, match.groups()), match.group()))):
                values[attribute] = value
        return values

    def check(self, collection: Collection) -> None:
        """Check that the patterns match all names. Raises UserError if not, or if there are scenes and no subjects."""
        samples = collection.samples
        for attribute, pattern in self._patterns.items():
            unmatched = [sample.path.name for sample in samples if not getattr(sample, attribute)]
            option = f"--{attribute}_regex {pattern.pattern}"
            if unmatched and len(unmatched) == len(samples):
                raise UserError(f"{option}: matches no file name, e.g. not {unmatched[0]}")
            if unmatched:
                raise UserError(f"{option}: matches {len(samples) - len(unmatched)} of {len(samples)} file names and "
                                f"not {' and '.join(unmatched[:2])}; write one that matches all ((?i) in front ignores "
                                "case)")
        if any(sample.scene for sample in samples) and not any(sample.subject for sample in samples):
            raise UserError("--scene_regex: a scene is one of a subject, and no subject is known; name the subjects "
                            "with --subject_regex")
