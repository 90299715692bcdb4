"""One directory per expression, with or without ``train/``, ``val/``, ``test/`` above them or in each."""

import argparse
from pathlib import Path
from typing import NamedTuple, Sequence

from datasets.files import walk
from datasets.importing.collection import Collection, Importer, SourceSample, source_directory
from datasets.importing.naming import (NAMING, NamePatterns, assign_test_split, expression_key, safe_name,
                                       select_labels, split_of)
from utils import UserError


class Place(NamedTuple):
    """An image by its directories: its split and expression, or None, and its name below their directories."""

    split: str | None
    expression: str | None
    name: str
    path: Path


def read(args: argparse.Namespace) -> Collection:
    """Return the images of all directories or of the requested expressions, with the splits of the source.

    The splits are undecided if the source has no test split.
    """
    source, target_only = source_directory(args.source, args.out), args.target_only
    patterns = NamePatterns(args)
    collection = Collection((), walk(source))
    places = _find_places(collection, source, args.ignore)
    names = sorted({place.expression for place in places if place.expression}, key=expression_key)
    if not names:
        raise UserError(f"{source}: no images in it; it needs one directory per expression, with or without "
                        "train/ and test/ above")
    classes = _class_directories(names, args.expressions, target_only, f"{source}: has no directory with images named")
    collection.expressions = tuple(map(safe_name, args.expressions or classes))
    for split, expression, name, path in places:
        if expression is None:
            collection.leave_out("outside the expressions' directories", path)
        elif expression not in classes and expression != target_only:
            collection.leave_out(f"in a directory that is not asked for ({expression})", path)
        else:
            label = len(classes) if expression == target_only else classes.index(expression)
            target = safe_name("_".join(filter(None, (split, expression, *name.split("/")))))
            collection.samples.append(SourceSample(target, label, path, **patterns.read(name),
                                                   split="train" if expression == target_only else split))
    patterns.check(collection)
    assign_test_split(collection, args.val_as_test, sum(place.split == "test" for place in places))
    return collection


def _class_directories(names: Sequence[str], expressions: Sequence[str] | None, target_only: str | None, missing: str
                       ) -> list[str]:
    """Return the directories of the expressions, in the order of their labels (METHOD §7, row 15: target-only faces).

    Raises UserError, which begins with ``missing`` if a directory is absent.
    """
    if target_only and target_only not in names:
        raise UserError(f"{missing} {target_only}; it has {', '.join(names)}")
    if target_only in (expressions or ()):
        raise UserError(f"--target_only {target_only}: is one of --expressions too, and its faces can be in no class; "
                        "leave it out of one of them")
    classes = select_labels([name for name in names if name != target_only], expressions, missing)
    if target_only and any(name.lower() == "neutral" for name in expressions or classes):
        raise UserError(f"--target_only {target_only}: \"neutral\" is one of the expressions already")
    return classes


def _find_places(collection: Collection, source: Path, ignored: Sequence[str]) -> list[Place]:
    """Return the split and the expression of all images of the source, but for those in ``ignored`` directories.

    Splits are directories above those of the expressions or below them. Raises UserError if directories with images lie
    beside them and are no splits, or if two are the same split.
    """
    files = []
    for path in collection.walk.images:
        folders = path.relative_to(source).parts[:-1]
        if set(folders) & set(ignored):
            collection.leave_out("in directories that --ignore names", path)
        else:
            files.append((path, folders))
    level = next((level for level in (0, 1) if any(_split_at(level, folders) for _, folders in files)), None)
    if level is None:
        return [Place(None, folders[0] if folders else None, "/".join((*folders, path.name)[1:]), path)
                for path, folders in files]
    if level and all(len(folders) > 2 for _, folders in files):
        raise UserError(f"{source}: the splits are in {files[0][1][0]}, above the expressions; name it as the source")
    _check_splits(source, [folders[:level + 1] for _, folders in files], level)
    places, spelling = [], {}
    for path, folders in files:
        expression = folders[1 - level] if len(folders) > 1 else None
        if expression:  # Happy of one split is happy of another
            expression = spelling.setdefault(expression.casefold(), expression)
        places.append(Place(_split_at(level, folders), expression, "/".join((*folders, path.name)[2:]), path))
    return places


def _split_at(level: int, folders: tuple[str, ...]) -> str | None:
    """Return the split that the directory at a level names, or None."""
    return split_of(folders[level]) if len(folders) > level else None


def _check_splits(source: Path, folders: list[tuple[str, ...]], level: int) -> None:
    """Check that all directories with images, at a ``level`` below the source, are different splits.

    Raises UserError if one is no split, or if two are the same.
    """
    splits: dict[tuple, str] = {}
    for folder in filter(None, dict.fromkeys(folders)):
        split = _split_at(level, folder)
        if split is None:
            names = ", ".join(sorted({each[level] for each in folders if _split_at(level, each)}))
            raise UserError(f"{source}: {'/'.join(folder)} holds {folders.count(folder)} images beside the splits "
                            f"{names} and is none; leave it out with --ignore NAME, or rename it")
        first = splits.setdefault((*folder[:level], split), folder[level])
        if first != folder[level]:
            raise UserError(f"{source}: {first} and {folder[level]} are both the {split} split; leave one out "
                            "with --ignore NAME")


FOLDERS = Importer(
    "folders", "one directory per expression, with or without train/, test/",
    "the directory that holds the expressions' directories", read,
    {"--target_only": dict(metavar="NAME", help="a directory of neutral faces that are targets of synthesis, in no "
                           "class (as MMI's)"),
     "--ignore": dict(nargs="+", default=[], metavar="NAME", help="directories to leave out"), **NAMING})
