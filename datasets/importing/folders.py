"""One directory per expression, with or without ``train/``, ``val/``, ``test/`` above."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Sequence

from datasets.files import is_image_name
from datasets.importing import naming
from datasets.importing.collection import Collection, Importer, share_to_test_on, source_directory
from datasets.importing.naming import SPLIT_NAMES, SubjectPattern, asked_labels, neutral_last, one_word
from datasets.layout import Sample
from utils import UserError


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this kind."""
    parser.add_argument("--target_only", metavar="NAME",
                        help="a directory of neutral faces that are targets of synthesis, in no class (as MMI's)")
    naming.add_options(parser)


def read(asked: argparse.Namespace) -> Collection:
    """What was asked for; without a test directory, samples without a split."""
    source, share = source_directory(asked), share_to_test_on(str(asked.test_share))
    found = read_folders(source, asked.expressions, SubjectPattern(asked.subject_regex, asked.scene_regex),
                         asked.target_only)
    found.test = share
    return found


def read_folders(source: Path, expressions: Sequence[str] | None, pattern: SubjectPattern,
                 target_only: str | None) -> Collection:
    """All images of some directories, with the splits that there are.

    ``expressions`` picks directories and orders the labels; by default all, by name with neutral last.
    ``target_only`` names a directory of neutral faces that are in no class (METHOD §7, row 15).
    """
    parts: dict[str | None, Path] = {}
    for path in _directories(source):
        split = SPLIT_NAMES.get(path.name.lower())
        if split in parts:
            raise UserError(f"{source}: {parts[split].name} and {path.name} are both the {split} split; "
                            "put their images into one of them")
        if split:
            parts[split] = path
    parts = parts or {None: source}
    files = [(split, folder.name, path) for split, part in parts.items() for folder in _directories(part)
             for path in sorted(folder.rglob("*")) if not path.is_dir()]
    names = sorted({name for _, name, path in files if is_image_name(path.name)}, key=neutral_last)
    if not names:
        raise UserError(f"{source}: no images in it; it needs one directory per expression, with or without "
                        "train/ and test/ above")
    what = f"{source}: has no directory with images named"
    if target_only and target_only not in names:
        raise UserError(f"{what} {target_only}; it has {', '.join(names)}")
    if target_only in (expressions or ()):
        raise UserError(f"--target_only {target_only}: is one of --expressions too, and its faces can be in no class; "
                        "leave it out of one of them")
    chosen = asked_labels([name for name in names if name != target_only], expressions, what)
    if target_only and any(name.lower() == "neutral" for name in expressions or chosen):
        raise UserError(f"--target_only {target_only}: \"neutral\" is one of the expressions already")
    found = Collection(tuple(map(one_word, expressions or chosen)))
    taken, everything = {path for _, _, path in files}, (path for path in source.rglob("*") if is_image_name(path.name))
    if outside := sum(path not in taken and not path.is_dir() for path in everything):
        found.left_out["outside the expressions' directories"] = outside
    base = "train" if "test" in parts else None     # without a test directory it is cut from training
    for split, name, path in files:
        if not is_image_name(path.name):
            found.left_out["no image by the name"] += 1
        elif name not in chosen and name != target_only:
            found.left_out[f"in a directory that is not asked for ({name})"] += 1
        else:
            below = path.relative_to(parts[split] / name)
            label = len(chosen) if name == target_only else chosen.index(name)
            target = one_word("_".join(filter(None, (split, name, *below.parts))))
            sample = Sample(target, label, path, pattern.subject(below.as_posix()), pattern.scene(below.as_posix()))
            found.add("train" if name == target_only else base if split == "train" else split, sample)
    pattern.check(found.everything())
    return found


def _directories(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))


FOLDERS = Importer("folders", "one directory per expression, with or without train/, test/",
                   ("SRC", "the directory that holds the expressions' directories"), "datasets/folders", add_options,
                   read)
