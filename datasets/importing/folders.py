"""One directory per expression, with or without ``train/``, ``val/``, ``test/`` above them or in each."""

import argparse
from pathlib import Path
from typing import NamedTuple, Sequence

from datasets.importing.collection import Collection, FoundSample, Importer, source_directory
from datasets.importing.naming import (NAMING, NamePatterns, asked_labels, decide_test, neutral_last, one_word,
                                       split_of)
from datasets.walking import walk
from utils import UserError


class Place(NamedTuple):
    """Where an image lies: its split and expression, or None, and its name below their directories."""

    split: str | None
    expression: str | None
    name: str
    path: Path


def read(asked: argparse.Namespace) -> Collection:
    """Return all images of some directories, with the splits that there are; without them if none is tested on."""
    source, target_only = source_directory(asked.source, asked.out), asked.target_only
    patterns = NamePatterns(asked)
    found = Collection((), walk(source))
    places = _find_places(found, source, asked.ignore)
    names = sorted({place.expression for place in places if place.expression}, key=neutral_last)
    if not names:
        raise UserError(f"{source}: no images in it; it needs one directory per expression, with or without "
                        "train/ and test/ above")
    chosen = _chosen_directories(names, asked.expressions, target_only, f"{source}: has no directory with images named")
    found.expressions = tuple(map(one_word, asked.expressions or chosen))
    for split, name, below, path in places:
        if name is None:
            found.leave_out("outside the expressions' directories", path)
        elif name not in chosen and name != target_only:
            found.leave_out(f"in a directory that is not asked for ({name})", path)
        else:
            label = len(chosen) if name == target_only else chosen.index(name)
            target = one_word("_".join(filter(None, (split, name, *below.split("/")))))
            found.samples.append(FoundSample(target, label, path, **patterns.read(below),
                                             split="train" if name == target_only else split))
    patterns.check(found)
    decide_test(found, asked.val_as_test, sum(place.split == "test" for place in places))
    return found


def _chosen_directories(names: Sequence[str], expressions: Sequence[str] | None, target_only: str | None, what: str
                        ) -> list[str]:
    """Return the directories of the expressions, in the order of their labels (METHOD §7, row 15: target-only faces).

    Raises UserError, which begins with ``what`` where a directory is not there.
    """
    if target_only and target_only not in names:
        raise UserError(f"{what} {target_only}; it has {', '.join(names)}")
    if target_only in (expressions or ()):
        raise UserError(f"--target_only {target_only}: is one of --expressions too, and its faces can be in no class; "
                        "leave it out of one of them")
    chosen = asked_labels([name for name in names if name != target_only], expressions, what)
    if target_only and any(name.lower() == "neutral" for name in expressions or chosen):
        raise UserError(f"--target_only {target_only}: \"neutral\" is one of the expressions already")
    return chosen


def _find_places(found: Collection, source: Path, ignored: Sequence[str]) -> list[Place]:
    """Find the split and the expression of all images of the source; those in ``ignored`` directories are left out.

    Splits are directories above those of the expressions or below them. Raises UserError if directories with images lie
    beside them and are none, or if two are the same split.
    """
    files = []
    for path in found.walk.images:
        folders = path.relative_to(source).parts[:-1]
        if set(folders) & set(ignored):
            found.leave_out("in directories that --ignore names", path)
        else:
            files.append((path, folders))
    level = next((level for level in (0, 1) if any(map(split_of, [folders[level] for _, folders in files
                                                                  if len(folders) > level]))), None)
    if level is None:
        return [Place(None, folders[0] if folders else None, "/".join((*folders, path.name)[1:]), path)
                for path, folders in files]
    if level and all(len(folders) > 2 for _, folders in files):
        raise UserError(f"{source}: the splits are in {files[0][1][0]}, above the expressions; name it as the source")
    _check_splits(source, [folders[:level + 1] for _, folders in files], level)
    places, spelled = [], {}
    for path, folders in files:
        split = split_of(folders[level]) if len(folders) > level else None
        name = folders[1 - level] if len(folders) > 1 else None
        name = name and spelled.setdefault(name.casefold(), name)  # Happy of one split is happy of another
        places.append(Place(split, name, "/".join((*folders, path.name)[2:]), path))
    return places


def _check_splits(source: Path, folders: list[tuple[str, ...]], level: int) -> None:
    """Raise UserError unless all directories with images, at a ``level`` below the source, are different splits."""
    splits: dict[tuple, str] = {}
    for folder in filter(None, dict.fromkeys(folders)):
        split = split_of(folder[level]) if len(folder) > level else None
        if split is None:
            known = ", ".join(sorted({each[level] for each in folders if len(each) > level and split_of(each[level])}))
            raise UserError(f"{source}: {'/'.join(folder)} holds {folders.count(folder)} images beside the splits "
                            f"{known} and is none; leave it out with --ignore NAME, or rename it")
        other = splits.setdefault((*folder[:level], split), folder[level])
        if other != folder[level]:
            raise UserError(f"{source}: {other} and {folder[level]} are both the {split} split; leave one out "
                            "with --ignore NAME")


FOLDERS = Importer(
    "folders", "one directory per expression, with or without train/, test/",
    "the directory that holds the expressions' directories", read,
    {"--target_only": dict(metavar="NAME", help="a directory of neutral faces that are targets of synthesis, in no "
                           "class (as MMI's)"),
     "--ignore": dict(nargs="+", default=[], metavar="NAME", help="directories to leave out"), **NAMING})
