"""Published data sets as samples: Multi-PIE, RAF-DB, one directory per expression, a CSV table.

Reads names and lists, never pixels, and writes nothing. Each reader returns a :class:`Collection`.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Sequence

from datasets.files import is_image_name
from datasets.layout import DATA_SETS, Layout, Sample, neutral_label
from datasets.lists import is_integer, read_lines, shortened
from datasets.splits import with_validation
from utils import UserError


@dataclass
class Collection:
    """What an importer found. A sample's ``path`` is the source's file, its ``name`` the one it gets.

    ``undecided`` samples have no split yet; ``left_out`` counts images by the reason for which they are not taken.
    """

    expressions: tuple[str, ...]
    splits: dict[str, list[Sample]] = field(default_factory=lambda: {"train": [], "val": [], "test": []})
    undecided: list[Sample] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)

    def add(self, split: str | None, sample: Sample) -> None:
        """Put a sample into its split, or among the undecided."""
        (self.splits[split] if split else self.undecided).append(sample)


# ---------------------------------------------------------------------------------------------- Multi-PIE

_MULTIPIE_EXPRESSIONS = {
    (1, 1): "neutral", (2, 1): "neutral", (3, 1): "neutral", (4, 1): "neutral", (4, 3): "neutral",
    (1, 2): "smile", (3, 2): "smile", (2, 2): "surprise", (2, 3): "squint", (3, 3): "disgust", (4, 2): "scream"}
_MULTIPIE_NAME = re.compile(r"(\d{3})_(\d\d)_(\d\d)_(\d{3})_(\d\d)\.(png|jpe?g)", re.IGNORECASE)


def read_multipie(source: Path, cameras: Sequence[str], illuminations: Sequence[str]) -> Collection:
    """``session0S/multiview/PPP/RR/CC_C/PPP_SS_RR_CCC_LL.png`` → samples without a split (METHOD §6).

    The expression follows from session and recording. The scene is session, camera and illumination.
    """
    root = next((place for place in (source, source / "data") if any(place.glob("session0[1-4]/multiview"))), None)
    if root is None:
        raise UserError(f"{source}: not a Multi-PIE tree; it needs session01/multiview to session04/multiview")
    for word in cameras:
        if not re.fullmatch(r"\d\d_?\d", word):
            raise UserError(f"--cameras {word}: a camera is named like 05_1")
    for word in illuminations:
        if not re.fullmatch(r"\d\d", word):
            raise UserError(f"--illuminations {word}: an illumination is named by two digits, 00 to 19")
    expressions = DATA_SETS[2].expressions
    found = Collection(expressions)
    for camera in sorted({word.replace("_", "") for word in cameras}):
        for path in sorted(root.glob(f"session0[1-4]/multiview/*/*/{camera[:2]}_{camera[2]}/*")):
            match = _MULTIPIE_NAME.fullmatch(path.name)
            if not match:
                found.left_out["not named like 001_01_01_051_07.png"] += 1
                continue
            subject, session, recording, digits, illumination = match.groups()[:5]
            expression = _MULTIPIE_EXPRESSIONS.get((int(session), int(recording)))
            if illumination not in illuminations:
                found.left_out["of another illumination"] += 1
            elif expression is None:
                found.left_out["of a recording without a known expression"] += 1
            else:
                scene = f"s{int(session)}_{digits}_{illumination}"
                found.add(None, Sample(path.name, expressions.index(expression), path, subject, scene))
    return found


# -------------------------------------------------------------------------------------------------- RAF-DB

def read_rafdb(source: Path, kind: str) -> Collection:
    """RAF-DB's basic expressions with their official split; ``kind`` is ``aligned`` or ``original``."""
    root = source / "basic" if (source / "basic").is_dir() else source
    labels, images = root / "EmoLabel" / "list_patition_label.txt", root / "Image" / kind
    for path, there in ((labels, labels.is_file()), (images, images.is_dir())):
        if not there:
            raise UserError(f"{source}: not a RAF-DB tree; {path} is missing")
    found = Collection(DATA_SETS[3].expressions)
    present = {path.name for path in images.iterdir()}
    for number, line in enumerate(read_lines(labels), 1):
        words = line.split()
        if not words:
            continue
        split = words[0].split("_")[0]
        if len(words) != 2 or split not in ("train", "test") or words[1] not in tuple("1234567"):
            raise UserError(f"{labels}, line {number}: \"{shortened(line)}\" is not \"train_00001.jpg 5\"")
        stem, ending = words[0].rsplit(".", 1)
        file_name = f"{stem}_aligned.{ending}" if kind == "aligned" else words[0]
        if file_name in present:
            found.add(split, Sample(words[0], int(words[1]) - 1, images / file_name))
        else:
            found.left_out[f"listed but missing in {images}"] += 1
    return found


# --------------------------------------------------------------------------------------------- directories

_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
           "test": "test", "testing": "test"}


def read_folders(source: Path, expressions: Sequence[str] | None, subject_regex: str | None,
                 target_only: str | None) -> Collection:
    """One directory per expression, with or without ``train/``, ``val/``, ``test/`` above.

    ``expressions`` picks directories and orders the labels; by default all, by name with neutral last.
    ``target_only`` names a directory of neutral faces that are in no class (METHOD §7, row 15).
    """
    if not source.is_dir():
        raise UserError(f"{source}: no such directory")
    parts = {_SPLITS[path.name.lower()]: path for path in _directories(source) if path.name.lower() in _SPLITS}
    if not parts:
        parts = {None: source}
    pattern = _compiled(subject_regex)
    files = [(split, folder.name, path) for split, part in parts.items() for folder in _directories(part)
             for path in sorted(folder.rglob("*")) if path.is_file()]
    names = sorted({name for _, name, path in files if is_image_name(path.name)}, key=_neutral_last)
    if not names:
        raise UserError(f"{source}: no images in it; it needs one directory per expression, with or without "
                        "train/ and test/ above")
    missing = [name for name in [*(expressions or ()), *([target_only] if target_only else ())] if name not in names]
    if missing:
        raise UserError(f"{source}: has no directory with images named {', '.join(missing)}; "
                        f"it has {', '.join(names)}")
    chosen = list(expressions or [name for name in names if name != target_only])
    if target_only and any(name.lower() == "neutral" for name in chosen):
        raise UserError(f"--target_only {target_only}: \"neutral\" is one of the expressions already")
    found = Collection(tuple(map(one_word, chosen)))
    base = "train" if "test" in parts else None     # without a test directory it is cut from training
    for split, name, path in files:
        if not is_image_name(path.name):
            found.left_out["no image by the name"] += 1
        elif name not in chosen and name != target_only:
            found.left_out[f"in a directory that is not asked for ({name})"] += 1
        else:
            below = path.relative_to((parts[split]) / name)
            label = len(chosen) if name == target_only else chosen.index(name)
            target = one_word("_".join(filter(None, (split, name, *below.parts))))
            sample = Sample(target, label, path, _subject(pattern, below.as_posix()))
            found.add("train" if name == target_only else base if split == "train" else split, sample)
    _check_subjects(found, subject_regex)
    return found


def _directories(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))


def _neutral_last(name: str) -> tuple:
    return name.lower() == "neutral", not is_integer(name), int(name) if is_integer(name) else 0, name


def _compiled(pattern: str | None) -> re.Pattern | None:
    try:
        return re.compile(pattern) if pattern else None
    except re.error as error:
        raise UserError(f"--subject_regex {pattern}: not a regular expression ({error})") from None


def _subject(pattern: re.Pattern | None, name: str) -> str | None:
    """The first group (or all) of the first match in the file name, else in the path."""
    match = pattern and (pattern.search(name.rsplit("/", 1)[-1]) or pattern.search(name))
    return one_word(next(filter(None, match.groups()), match.group())) or None if match else None


def _check_subjects(found: Collection, pattern: str | None) -> None:
    samples = everything(found)
    if pattern and not any(sample.subject for sample in samples):
        raise UserError(f"--subject_regex {pattern}: matches no file name, e.g. not {samples[0].path.name}")


# ------------------------------------------------------------------------------------------------------ CSV

def read_csv(table: Path, root: Path, columns: dict[str, str], asked: set[str],
             expressions: Sequence[str] | None, subject_regex: str | None) -> Collection:
    """A table with a header: the columns for file, label and, where there are such, split and subject.

    ``columns`` maps these four to the table's names; those in ``asked`` must exist. Files are relative to ``root``.
    """
    lines = read_lines(table)
    if not lines or not lines[0].strip():
        raise UserError(f"{table}: empty; its first line must name the columns")
    delimiter = max(",;\t", key=lines[0].count)
    rows = csv.DictReader(lines, delimiter=delimiter, skipinitialspace=True)
    header = [name.strip() for name in rows.fieldnames or ()]
    rows.fieldnames = header
    for key in ("file", "label", *sorted(asked)):
        if columns[key] not in header:
            raise UserError(f"{table}: has no column \"{columns[key]}\" (it has {', '.join(header)}); "
                            f"name the right one with --{key}_column")
    records = [(rows.line_num, {key: (row.get(name) or "").strip() for key, name in columns.items()}) for row in rows]
    present = sorted({record["label"] for _, record in records if record["label"]}, key=_neutral_last)
    numbers = expressions and all(map(is_integer, present))
    if numbers and len(present) != len(expressions):
        raise UserError(f"{table}: has {len(present)} labels ({', '.join(present)}) and --expressions "
                        f"names {len(expressions)}")
    labels = present if numbers or not expressions else list(expressions)
    absent = [name for name in labels if name not in present]
    if absent:
        raise UserError(f"{table}: has no label {', '.join(absent)}; it has {', '.join(present)}")
    found = Collection(tuple(map(one_word, expressions or labels)))
    pattern, has_test = _compiled(subject_regex), False
    for number, record in records:
        split = _SPLITS.get(record["split"].lower()) if record["split"] else None
        if record["split"] and split is None:
            raise UserError(f"{table}, line {number}: the split \"{record['split']}\" is not train, val or test")
        has_test |= split == "test"
        path = root / record["file"]
        if not record["file"] or not record["label"]:
            found.left_out["without a file name or a label"] += 1
        elif record["label"] not in labels:
            found.left_out[f"with a label that is not asked for ({record['label']})"] += 1
        elif not path.is_file():
            found.left_out[f"listed but missing below {root}"] += 1
        else:
            subject = one_word(record["subject"]) or _subject(pattern, record["file"])
            name = one_word("_".join(part for part in Path(record["file"]).parts if part not in ("..", "/")))
            found.add(split, Sample(name, labels.index(record["label"]), path, subject))
    if has_test:        # rows without a split train
        found.splits["train"], found.undecided = found.splits["train"] + found.undecided, []
    else:
        found.splits["train"], found.undecided = [], found.splits["train"] + found.undecided
    if everything(found):
        _check_subjects(found, subject_regex)
    return found


# -------------------------------------------------------------------------------------------------- splits

def everything(found: Collection) -> list[Sample]:
    """All samples of a collection."""
    return [*found.splits["train"], *found.splits["val"], *found.splits["test"], *found.undecided]


def decide_splits(found: Collection, test: float | set[str], seed: int) -> None:
    """Give the undecided samples to training and test, every subject to one side only.

    ``test`` is the share that goes to the test list, by the seed, or the subjects that do.
    """
    samples, found.undecided = found.undecided, []
    if isinstance(test, set):
        unknown = sorted(test - {sample.subject for sample in samples})
        if unknown:
            raise UserError(f"--test_subjects: no images of {', '.join(unknown[:5])}")
        chosen = {sample.name for sample in samples if sample.subject in test}
    else:
        layout = Layout(Path(), found.expressions, neutral_label(found.expressions), samples, [], [])
        chosen = {sample.name for sample in with_validation(layout, seed, test).val}
    found.splits["train"] += [sample for sample in samples if sample.name not in chosen]
    found.splits["test"] += [sample for sample in samples if sample.name in chosen]


def one_word(text: str) -> str:
    """A name without white space and without letters that a file system or a list could trip over."""
    return re.sub(r"[^\w.+-]+", "_", text.strip()).lstrip(".")


def distinct_names(found: Collection) -> None:
    """Rename samples so that no two have one name, not even where a file system ignores case."""
    used: set[str] = set()

    def renamed(sample: Sample) -> Sample:
        stem, dot, ending = sample.name.rpartition(".")
        name, number = sample.name, 1
        while name.lower() in used:
            number += 1
            name = f"{stem}-{number}{dot}{ending}"
        used.add(name.lower())
        return replace(sample, name=name)

    found.splits = {split: list(map(renamed, samples)) for split, samples in found.splits.items()}
    found.undecided = list(map(renamed, found.undecided))
