"""What names say: splits, expressions in their usual spellings, persons and scenes; and the options for such names."""

import argparse
import re
import shlex
from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Iterable, Sequence

from datasets.files import Walk, natural_key
from datasets.importing.collection import Collection, foreign_format
from datasets.lists import is_integer, read_lines
from utils import refuse

# The words of a split in names such as train_afew, Val_Aligned_Faces and FER2013Train.
_SPLIT_WORD = re.compile("(?:fer|public|private|data|images?|img|faces?|is)?"
                         "(train(?:ing|val)?|trn|val(?:id(?:ation)?)?|dev|test(?:ing)?|tst)"
                         "(?:set|data|image|img|face|aligned|crop|cropped|split|frame|sample|list|pic|picture|s)*")
_SPELLINGS = {
    "anger": "anger angry angrily angered annoyed furious rage an ang a",
    "contempt": "contempt contemptuous contemptuously scorn co con c",
    "disgust": "disgust disgusted disgustedly disgusting di dis d",
    "fear": "fear fearful fearfully feared afraid scared frightened terrified af fe fea f",
    "happiness": "happiness happy happily joy joyful happyness ha hap h",
    "sadness": "sadness sad sadly sorrow sa s",
    "surprise": "surprise surprised surprising suprise suprised astonished amazed su sp sur",
    "neutral": "neutral neutrality calm ne neu n",
    **{word: word for word in ("smile", "scream", "squint", "boredom", "pain", "pride", "amusement", "confusion")}}
_MEANING = {spelling: meaning for meaning, spellings in _SPELLINGS.items() for spelling in spellings.split()}
_WORDS = {spelling for spelling in _MEANING if len(spelling) > 3 or spelling in ("sad", "joy")}  # the others are codes
_PERSON = re.compile(r"(?:s|p|f|m|[ab][fm]|id|subj?(?:ect)?|pers(?:on)?|participant|actor|user|model)[\W_]?\d{1,6}"
                     r"|\d{1,4}[fm]|\d{3,5}", re.IGNORECASE)
SEXES = frozenset("female male f m w women men woman man girls boys".split())
_GROUPS = SEXES | frozenset(  # of directories that hold several persons, or several pictures of one
    "session camera cam light view angle pose front frontal left right profile half full quarter fold part batch group "
    "day take clip video sequence seq aligned original raw crop cropped images image faces face color gray grey young "
    "old middle child children adult asian black white caucasian set data level intensity strong weak dark indoor "
    "outdoor open closed direct averted".split())
_SUBJECT_PATTERNS = ("^([A-Za-z]{1,8}[0-9]+)[_. -]", "^([0-9]+[A-Za-z]?)[_. -]", "^[A-Za-z]+[0-9]*_([0-9]+)_",
                     r"^([A-Z]{2})\.", "^([A-Za-z]+)_")

# Options by flag, as argparse takes them: TEST_SHARE for sources that may have no test split, TEST_SUBJECTS for those
# whose subjects are all known, NAMING for those whose names follow no standard.
TEST_SHARE = {"--test_share": dict(type=float, default=0.2, metavar="SHARE", help="without a test split: the share to "
                                   "test on, whole subjects where they are known (default: 0.2)")}
TEST_SUBJECTS = {"--test_subjects": dict(nargs="+", default=["0.2"], metavar="SHARE|ID|FILE",
                                         help="a share of the images, chosen by subject, or subjects, or a file of "
                                         "them (default: 0.2)")}


def pattern(text: str) -> re.Pattern:
    """Return a regular expression that a user types. Raises ArgumentTypeError if it is none."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text}: not a regular expression ({error})") from None


NAMING = {
    "--expressions": dict(nargs="+", metavar="NAME", help="the expressions to take, in the order of their labels "
                          "(default: all, by name, neutral last); where the data number them, a name for each number, "
                          "in ascending order"),
    "--subject_regex": dict(type=pattern, metavar="REGEX", help="the part of a file name that is the subject, or its "
                            "first group, e.g. '^(S[0-9]+)_'"),
    "--scene_regex": dict(type=pattern, metavar="REGEX", help="the part of a file name that is the scene, or its "
                          "first group: a subject's images of one scene are each other's ground-truth swaps"),
    "--val_as_test": dict(action="store_true", help="test on the validation split, if there is no test split with "
                          "labels"),
    **TEST_SHARE}


def read_test_selection(args: argparse.Namespace) -> float | set[str]:
    """Return the share of the images, or the subjects, that are tested on if a data set has no test split.

    Raises UserError if ``--test_subjects`` or ``--test_share`` is no such selection.
    """
    subjects = getattr(args, "test_subjects", [str(getattr(args, "test_share", 0.2))])
    file = Path(subjects[0]).expanduser()
    if "test_subjects" in args and (len(subjects) > 1 or not re.fullmatch(r"\d*\.\d*", subjects[0])):
        return set(read_lines(file, as_words=True) if file.is_file() and len(subjects) == 1 else subjects)
    share = float(f"0{subjects[0]}" if subjects[0].startswith(".") else subjects[0])
    refuse("the share to test on", (not 0 < share < 1, f"must lie between 0 and 1, not {share}"))
    return share


# ------------------------------------------------------------------------------------------------ what a name says

def _words_in(name: str) -> list[str]:
    """Return the words of a name in small letters: train and faces of ``Train_Faces``, ``trainFaces`` and so on."""
    return [word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def split_of(name: str) -> str | None:
    """Return the split that a name such as ``train_afew``, ``Val_Aligned_Faces`` or ``validation`` means, or None."""
    starts = {match[1][:2] for word in _words_in(name) if (match := _SPLIT_WORD.fullmatch(word))}
    splits = {{"tr": "train", "te": "test", "ts": "test"}.get(start, "val") for start in starts}
    if splits == {"test"} and "public" in name.lower():  # FER2013's PublicTest validates
        return "val"
    return "train" if splits == {"train", "val"} else splits.pop() if len(splits) == 1 else None


def splits_in_names(names: Iterable[str]) -> list[str | None]:
    """Return the split that the directories or the name of each path say, if all say one and some train; else None."""
    splits = [next(filter(None, map(split_of, (*Path(name).parts[:-1], Path(name).stem))), None) for name in names]
    return splits if None not in splits and "train" in splits and len(set(splits)) > 1 else [None] * len(splits)


def expression_in(name: str) -> str | None:
    """Return the part of a name that is an expression in a usual spelling: ``anger`` of ``aia_anger``, or None."""
    if known := [word for word in _words_in(name) if word in _WORDS]:
        return "_".join(known)
    code = re.fullmatch(r"[\d\W_]*([a-z]{2,3})[\W_]*", name.lower())
    return code[1] if code and code[1] in _MEANING else None


def meaning_of(name: str) -> tuple[str, ...] | None:
    """Return the expressions that a name means, in one spelling (two for a compound one), or None."""
    text = expression_in(name)
    return text and tuple(_MEANING[word] for word in text.split("_"))


def full_names(labels: Sequence[str]) -> dict[str, str]:
    """Return the name of each label if all, three or more, are codes of different expressions: AN, HA, NE; else {}."""
    named = {label: _MEANING.get(label.lower()) for label in labels}
    is_code = len(labels) > 2 and all(len(label) < 4 and label.lower() not in _WORDS for label in labels)
    return named if is_code and None not in named.values() and len(set(named.values())) == len(labels) else {}


def look_like_persons(names: Iterable[str]) -> bool:
    """Return whether all names have the form of a person's number: S010, 001, F12, subject_3."""
    return all(_PERSON.fullmatch(name) for name in names)


def name_groups(names: Iterable[str]) -> bool:
    """Return whether one of the names is that of a group or a circumstance: female, session2, left."""
    return any(word in _GROUPS for name in names for word in _words_in(name))


def most_have_several(pairs: Iterable[tuple[object, object]]) -> bool:
    """Return whether most of the first items of some pairs stand in several different pairs."""
    counts = Counter(first for first, _ in set(pairs))
    return 2 * sum(count > 1 for count in counts.values()) > len(counts)


def propose_label_regex(names: Sequence[str]) -> str | None:
    """Return the pattern that reads the expressions from file names which hold them, or None."""
    stems = [name.rpartition(".")[0] for name in names]
    found = [{word for word in _words_in(stem) if word in _WORDS} for stem in stems]
    if len({_MEANING[word] for words in found for word in words}) > 1 and sum(map(bool, found)) > 0.9 * len(names):
        return f"(?i)({'|'.join(sorted(set().union(*found), key=lambda word: (-len(word), word)))})"
    parts = [[re.sub(r"\d+$", "", part) for part in re.findall("[A-Za-z0-9]+", stem)] for stem in stems]
    places = (place for place, codes in enumerate(zip(*parts)) if full_names(sorted(set(codes))))
    place = next(places, None)
    return None if place is None else f"^(?:[A-Za-z0-9]+[^A-Za-z0-9]+){{{place}}}([A-Za-z]+)"


def propose_subject_regex(labels: Sequence[tuple[str, object]]) -> str | None:
    """Return a pattern for file names, given with their labels, that plainly begin with a subject, or None.

    A subject has several images, and most subjects show several expressions.
    """
    for subject_pattern in _SUBJECT_PATTERNS:
        found = [(re.search(subject_pattern, name.rpartition(".")[0]), label) for name, label in labels]
        shown = {(match[1], label) for match, label in found if match}
        subjects = {subject for subject, _ in shown}
        if all(match for match, _ in found) and 2 < len(subjects) <= len(labels) / 2 and most_have_several(shown) \
                and not any(meaning_of(subject) or split_of(subject) for subject in subjects):
            return subject_pattern
    return None


def other_way(files: Walk, source: Path) -> str:
    """Return what a message that refuses a source adds: what it seems to be, and the command that reads it; or ""."""
    folders = f"python -m datasets.convert folders {shlex.quote(str(source))}"
    table = next((path for path in files.others if path.suffix.lower() == ".csv"), None)
    subjects = propose_subject_regex([(path.name, path.parent.name) for path in files.images])
    labels = propose_label_regex([path.name for path in files.images])
    ways = (
        (any(path.suffix == ".txt" and path.parent.name == "labels" for path in files.others),
         "it holds YOLO's labels (labels/*.txt beside images/): write them as a table with columns file, label and "
         "split, and import that: python -m datasets.convert csv"),
        (len({meaning_of(path.parent.name) for path in files.images} - {None}) > 1,
         f"its directories name expressions: {folders}" + (f" --subject_regex '{subjects}'" if subjects else "")),
        (labels, f"its file names hold expressions: {folders} --label_regex '{labels}'"),
        (table, f"it holds a table: python -m datasets.convert csv {shlex.quote(str(table))}"))
    formats = ((fault, f"{path.name} {fault}") for path in files.others for fault in [foreign_format(path)])
    return next((f"; {way}" for is_there, way in chain(ways, formats) if is_there), "")


def check_parts(source: Path, kind: str, parts: Iterable[Path], files: Walk) -> None:
    """Check that the parts of a published tree, such as "a RAF-DB" one, exist.

    Raises UserError if one is absent, with the way to read the ``files`` instead.
    """
    missing = [path for path in parts if not path.exists()]
    refuse(source, (missing, lambda: f"not {kind} tree; {missing[0]} is missing{other_way(files, source)}"))


def are_rafdb(labels: Sequence[str], names: Sequence[str]) -> bool:
    """Return whether labels and file names are those of RAF-DB: 1 to 7, and train_00001_aligned.jpg."""
    fits = sum(re.match(r"(train|test)_\d{3,6}(_aligned)?\.", name, re.IGNORECASE) is not None for name in names)
    return sorted(labels) == list("1234567") and fits > 0.9 * len(names)


def assign_test_split(collection: Collection, val_as_test: bool, test_images: int) -> None:
    """Make training samples undecided if there is no test split; ``test_images`` of the source belong to one.

    With ``val_as_test`` the validation split becomes the test split. Raises UserError if it cannot, and if all images
    of the test split lack a label or a file.
    """
    val, test = len(collection.split("val")), len(collection.split("test"))
    advice = "test on the validation images with --val_as_test" if val else \
        "leave them out (directories with --ignore NAME), and training images are tested on"
    refuse("--val_as_test", (val_as_test and (test or not val), f"there are {test} labelled images of the test split "
                             f"and {val} of the validation split; leave it out"))
    refuse("the test split", (test_images and not test and not val_as_test, f"none of the {test_images} test images "
                              f"can be tested on, since they have no label or no file; {advice}"))
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


def select_labels(source: Path, kind: str, present: Sequence[str], expressions: Sequence[str] | None) -> list[str]:
    """Return the labels to import, in label order: all that are ``present``, or those that ``expressions`` name.

    Their case does not matter. If all are numbers, ``expressions`` may name each of them, in ascending order. Raises
    UserError if the ``source`` lacks one; ``kind`` is what labels are there, such as "label".
    """
    spelling = {name.casefold(): name for name in present}
    absent = [name for name in expressions or () if name.casefold() not in spelling]
    numbered = all(map(is_integer, present))
    if absent and numbered and len(present) == len(expressions):
        return sorted(present, key=int)
    advice = f": give each of these {len(present)} a name, or take some of them" if numbered else ""
    refuse(source, (absent, f"has no {kind} {', '.join(absent)}; it has {', '.join(present)}{advice}"))
    return [spelling[name.casefold()] for name in expressions or present]


# ----------------------------------------------------------------------------------------------- the naming options

def find_in_name(wanted: re.Pattern | None, *names: str) -> str:
    """Return the first group, or all, of the first match of a pattern in one of the names, or ""."""
    match = next(filter(None, map(wanted.search, names)), None) if wanted else None
    return safe_name(next(filter(None, match.groups()), match.group())) if match else ""


def subject_and_scene(args: argparse.Namespace, name: str) -> dict[str, str]:
    """Return what ``--subject_regex`` and ``--scene_regex`` read: from the file name, or else from the path."""
    names = name.rsplit("/", 1)[-1], name
    values = {"subject": find_in_name(args.subject_regex, *names), "scene": find_in_name(args.scene_regex, *names)}
    return {attribute: value for attribute, value in values.items() if value}


def check_patterns(args: argparse.Namespace, collection: Collection) -> None:
    """Check that ``--subject_regex`` and ``--scene_regex`` match all names, and that scenes have subjects.

    Raises UserError if not.
    """
    samples = collection.samples
    for attribute in ("subject", "scene"):
        wanted = getattr(args, f"{attribute}_regex")
        unmatched = [sample.path.name for sample in samples if wanted and not getattr(sample, attribute)]
        refuse(f"--{attribute}_regex {wanted and wanted.pattern}",
               (unmatched and len(unmatched) == len(samples),
                lambda: f"matches no file name, e.g. not {unmatched[0]}"),
               (unmatched, f"matches {len(samples) - len(unmatched)} of {len(samples)} file names and not "
                f"{' and '.join(unmatched[:2])}; write one that matches all ((?i) in front ignores case)"))
    refuse("--scene_regex", (any(sample.scene for sample in samples) and not any(sample.subject for sample in samples),
                             "a scene is one of a subject, and no subject is known; name the subjects with "
                             "--subject_regex"))
