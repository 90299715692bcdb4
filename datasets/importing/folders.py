"""A tree of directories with one for each expression; splits, persons and others may lie above them or below."""

import argparse
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Sequence

from datasets.files import walk
from datasets.importing.collection import Collection, Importer, SourceSample, source_directory
from datasets.importing.naming import (NAMING, SEXES, are_rafdb, assign_test_split, check_patterns, expression_in,
                                       expression_key, find_in_name, full_names, look_like_persons, meaning_of,
                                       most_have_several, name_groups, other_way, pattern, propose_label_regex,
                                       safe_name, select_labels, split_of, splits_in_names, subject_and_scene)
from datasets.layout import DATA_SETS
from utils import refuse

Folders = tuple[str, ...]  # the directories between the source and an image; those of the deepest, filled up with ""


def read(args: argparse.Namespace) -> Collection:
    """Return the images of all directories or of the requested expressions, with the splits of the source.

    The splits are undecided if the source has no test split. Raises UserError if a directory that is asked for is
    absent, or is asked for twice (METHOD §7, row 15: target-only faces).
    """
    source, target_only = source_directory(args.source, args.out), args.target_only
    collection = Collection((), walk(source))
    places = _find_places(collection, source, args)
    names = sorted({expression for expression, _ in places if expression}, key=expression_key)
    refuse(source, (len(names) < 2 and not args.label_regex, lambda: "no images in directories of two expressions; it "
                    "needs one directory per expression, with or without train/ and test/ above"
                    f"{other_way(collection.walk, source)}"))
    if not args.expressions and are_rafdb(names, [sample.path.name for _, sample in places]):
        args.expressions = DATA_SETS[3].expressions
        collection.notes.append("the directories 1 to 7 and the file names are RAF-DB's, and so are the expressions; "
                                "python -m datasets.convert rafdb takes the official split from the names too")
    others = [name for name in names if name != target_only]
    refuse(f"--target_only {target_only}",
           (target_only in (args.expressions or ()), "is one of --expressions too, and its faces can be in no class; "
            "leave it out of one of them"),
           (target_only and target_only not in names, f"{source} has no directory with images of this name; it has "
            f"{', '.join(names)}"),
           (target_only and "neutral" in map(str.lower, args.expressions or others),
            "\"neutral\" is one of the expressions already"))
    classes = select_labels(source, "directory with images named", others, args.expressions)
    collection.expressions = tuple(map(safe_name, args.expressions or classes))
    labels = {name: label for label, name in enumerate((*classes, target_only)) if name}
    for expression, sample in places:
        if expression in labels:
            split = "train" if expression == target_only else sample.split
            collection.samples.append(replace(sample, label=labels[expression], split=split))
        else:
            collection.leave_out(f"in a directory that is not asked for ({expression})" if expression else
                                 "outside the expressions' directories", sample.path)
    check_patterns(args, collection)
    assign_test_split(collection, args.val_as_test, sum(sample.split == "test" for _, sample in places))
    return collection


def _find_places(collection: Collection, source: Path, args: argparse.Namespace
                 ) -> list[tuple[str | None, SourceSample]]:
    """Return the expression, or None, of each image of the source, with a sample that lacks only its label.

    Images in directories that ``--ignore`` names are left out.

    Raises UserError if directories beside those of known splits or expressions are neither, or if nothing tells which
    directories are the expressions.
    """
    parts = {path: path.relative_to(source).parts[:-1] for path in collection.walk.images}
    ignored = {path for path in parts if not set(args.ignore).isdisjoint(parts[path])}
    collection.leave_out("in directories that --ignore names", *ignored)
    paths = [path for path in parts if path not in ignored]
    depth = max((len(parts[path]) for path in paths), default=0)
    folders = rests = [parts[path] + ("",) * (depth - len(parts[path])) for path in paths]
    split_level, splits = _find_splits(folders, paths, collection)
    splits_alone = split_level is not None and not all(map(expression_in, _names(folders, split_level)))
    if splits_alone:  # not train_happy, test_happy
        rests = [each[:split_level] + each[split_level + 1:] for each in folders]
    level = None if args.label_regex else _label_level(source, rests, paths, args.expressions)
    labels = _read_labels(args.label_regex, source, paths, collection) if args.label_regex else \
        _labels_at(level, rests, splits)
    named = {} if args.expressions else full_names(sorted({label for label in labels if label}))
    labels = [named.get(label, label) for label in labels]  # AN, HA, NE
    if splits_alone:
        _check_splits(source, folders, split_level, level)
    subjects = [""] * len(paths) if args.subject_regex else _persons(rests, level, labels, collection)
    common = {each for each in range(level or 0) if len(_names(rests, each)) == 1}
    places = []
    for path, split, rest, label, subject in zip(paths, splits, rests, labels, subjects):
        others = (*(part for each, part in enumerate(rest) if part and each != level and each not in common), path.name)
        target = "_".join(filter(None, (split, label if level is not None else None, *others)))
        attributes = {"subject": subject or None, **subject_and_scene(args, "/".join(others))}
        places.append((label, SourceSample(safe_name(target), 0, path, **attributes, split=split)))
    different = [f"{sample.path.name} of {expression}" for expression, sample in places
                 if expression and meaning_of(sample.path.stem) and meaning_of(expression)
                 and meaning_of(sample.path.stem) != meaning_of(expression)]
    collection.note(len(different) > 0.05 * len(places), f"{len(different)} of {len(places)} file names say another "
                    f"expression than their directories, e.g. {''.join(different[:1])}")
    return places


def _names(folders: Sequence[Folders], level: int) -> list[str]:
    """Return the different names of directories at a level."""
    return sorted({each[level] for each in folders} - {""}, key=expression_key)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


# ------------------------------------------------------------------------------------------------- splits

def _find_splits(folders: Sequence[Folders], paths: Sequence[Path], collection: Collection
                 ) -> tuple[int | None, list[str | None]]:
    """Return the level of the directories that name splits, or None, and the split of each image, or None.

    Deep directories must name a training split. Without directories of splits, the names of the files may say them.
    """
    for level in range(len(folders[0]) if folders else 0):
        splits = set(map(split_of, _names(folders, level))) - {None}
        if splits and (level < 2 or "train" in splits):
            return level, [split_of(each[level]) for each in folders]
    named = splits_in_names([path.name for path in paths])
    collection.note(any(named), "the split is that of the names of the files")
    return None, named


def _check_splits(source: Path, folders: Sequence[Folders], level: int, label_level: int | None) -> None:
    """Check that all directories with images at a level are different splits, in one directory or in each expression.

    Raises UserError if not.
    """
    above = sorted({each[:level] for each in folders if each[level]})
    below_label = label_level is not None and label_level < level
    refuse(source, (len(above) > 1 and not below_label, f"the splits are in {_some(['/'.join(each) for each in above])}"
                    ", above the expressions; name one of them as the source"))
    known, splits = ", ".join(filter(split_of, _names(folders, level))), {}
    for folder, count in Counter(each[:level + 1] for each in folders if each[0]).items():
        split, name = split_of(folder[level]), folder[level]
        first = splits.setdefault((*folder[:level], split), name)
        refuse(source,
               (split is None and (name or below_label), f"{'/'.join(filter(None, folder))} holds {count} images "
                f"beside the splits {known} and is none; leave it out with --ignore NAME, or rename it"),
               (first != name, f"{first} and {name} are both the {split} split; leave one out with --ignore NAME"))


# ------------------------------------------------------------------------------------------------- expressions

def _read_labels(wanted: re.Pattern, source: Path, paths: Sequence[Path], collection: Collection) -> list[str | None]:
    """Return the expression that ``--label_regex`` reads from each file name or path."""
    labels = [find_in_name(wanted, path.name, path.relative_to(source).as_posix()) for path in paths]
    unmatched = [path.name for path, label in zip(paths, labels) if not label]
    example = f", such as {unmatched[0]}" if unmatched else ""
    refuse(f"--label_regex {wanted.pattern}", (len(unmatched) == len(paths), f"matches no file name{example}"))
    collection.note(unmatched, f"--label_regex does not match {len(unmatched)} of {len(paths)} file names{example}")
    spelling: dict[str, str] = {}
    return [spelling.setdefault(label.casefold(), label) if label else None for label in labels]


def _label_level(source: Path, rests: Sequence[Folders], paths: Sequence[Path], expressions: Sequence[str] | None
                 ) -> int | None:
    """Return the level of the directories of the expressions, None if there are no directories.

    It is the one with the names of ``--expressions``, or with the most known expressions. Raises UserError if none is
    known, and several levels or none may hold them.
    """
    names = [_names(rests, level) for level in range(len(rests[0]) if rests else 0)]
    meanings = [list(filter(None, map(meaning_of, each))) for each in names]
    shares = [len(each) / len(names[level]) * (len(set(each)) > 1) for level, each in enumerate(meanings)]
    asked = [level for level, each in enumerate(names) if expressions
             and {name.casefold() for name in expressions} <= {name.casefold() for name in each}]
    if asked or max(shares, default=1) >= 0.5:
        return next(iter(asked), shares.index(max(shares)) if shares else None)
    several = [level for level, each in enumerate(names) if len(each) > 1]
    possible = [level for level in several if not look_like_persons(names[level])] or several or range(len(names))
    level, inside = possible[0], possible[min(1, len(possible) - 1)]
    advice = "name the expressions with --expressions, or read them from the path with --label_regex '^[^/]+/([^/]+)/'"
    label_regex = propose_label_regex([path.name for path in paths])
    refuse(source,
           (most_have_several((rest[inside], rest[level]) for rest in rests if rest[inside]), f"either "
            f"{_some(names[level])} or {_some(names[inside])}, which are in each of them, may be the expressions; "
            f"{advice}"),
           (label_regex and not expressions, f"{_some(names[level])} are no known expressions, and the names of the "
            f"files hold some: read them with --label_regex '{label_regex}', or name the directories with "
            "--expressions"),
           (not expressions and len(names[level]) > 1 and look_like_persons(names[level]), f"{_some(names[level])} "
            f"look like persons, and no directory is called like an expression; {advice}"))
    return level


def _labels_at(level: int | None, rests: Sequence[Folders], splits: Sequence[str | None]) -> list[str | None]:
    """Return the expression of each image by its directory: Happy of one split is happy of another.

    Unknown directories beside known expressions, outside the training split, are those of images without a label.
    """
    if level is None:
        return [None] * len(rests)
    siblings = {(rest[:level], split, rest[level], meaning_of(rest[level])) for rest, split in zip(rests, splits)}
    meanings = Counter((above, split, meaning) for above, split, _, meaning in siblings if meaning)
    by_meaning = max(meanings.values(), default=2) == 1  # nowhere two directories of one meaning, such as happy and joy
    trained = {name for _, split, name, _ in siblings if split in (None, "train")} - {""}
    any_known = any(map(meaning_of, trained))
    keys = {name: by_meaning and meaning_of(name) or name.casefold() for name in _names(rests, level)
            if name in trained or meaning_of(name) or not any_known}
    spellings = Counter(key for key, _ in {(key, name.casefold()) for name, key in keys.items()})
    first: dict[object, str] = {}
    for name in dict.fromkeys(rest[level] for rest in rests if rest[level] in keys):
        first.setdefault(keys[name], (spellings[keys[name]] > 1 and expression_in(name)) or name)
    return [first.get(keys.get(rest[level])) for rest in rests]


# ------------------------------------------------------------------------------------------------- persons

def _persons(rests: Sequence[Folders], label_level: int | None, labels: Sequence[str | None], collection: Collection
             ) -> list[str]:
    """Return the person of each image whose directory plainly is a person's, "" for all others.

    Such directories show several expressions, and are numbered like persons or have names that say nothing else.
    """
    for level in range(len(rests[0]) if rests else 0):
        names, is_above = _names(rests, level), label_level is not None and level < label_level
        shown = [(rest[level], label) for rest, label in zip(rests, labels) if rest[level]]
        if level == label_level or len(names) < 2 or not most_have_several(shown):
            continue
        if look_like_persons(names) or len(names) > 2 and not name_groups(names) and (
                is_above or not any(name.isdigit() for name in names)):
            collection.notes.append(f"the {len(names)} directories {_some(names)} are taken for persons; "
                                    "--subject_regex reads others from the names")
            return ["_".join((*(part for part in rest[:level] if part.lower() in SEXES), rest[level]))
                    if rest[level] else "" for rest in rests]
    return [""] * len(rests)


FOLDERS = Importer(
    "folders", "one directory per expression, with or without train/, test/ or persons; or expressions in file names",
    "the directory that holds the expressions' directories", read,
    {"--label_regex": dict(type=pattern, metavar="REGEX", help="the part of a file name (or else of the path below "
                           "SRC) that is the expression, or its first group, if directories do not name it; codes like "
                           "AN, HA, NE get their names"),
     "--target_only": dict(metavar="NAME", help="a directory of neutral faces that are targets of synthesis, in no "
                           "class (as MMI's)"),
     "--ignore": dict(nargs="+", default=[], metavar="NAME", help="directories to leave out"), **NAMING})
