"""A tree of directories with one for each expression; splits, persons and others may lie above them or below."""

import argparse
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Sequence

from datasets.files import walk
from datasets.importing.collection import Collection, Importer, SourceSample, source_directory
from datasets.importing.naming import (NAMING, SEXES, NamePatterns, are_rafdb, assign_test_split, expression_in,
                                       expression_key, full_names, look_like_persons, meaning_of, name_groups,
                                       other_way, propose_label_regex, safe_name, select_labels, split_of,
                                       splits_in_names)
from datasets.layout import DATA_SETS
from utils import UserError

Folders = tuple[str, ...]  # the directories between the source and an image


def read(args: argparse.Namespace) -> Collection:
    """Return the images of all directories or of the requested expressions, with the splits of the source.

    The splits are undecided if the source has no test split.
    """
    source, target_only = source_directory(args.source, args.out), args.target_only
    patterns = NamePatterns(args)
    collection = Collection((), walk(source))
    places = _find_places(collection, source, args, patterns)
    names = sorted({expression for expression, _ in places if expression}, key=expression_key)
    if len(names) < 2 and not args.label_regex:
        raise UserError(f"{source}: no images in directories of two expressions; it needs one directory per "
                        f"expression, with or without train/ and test/ above{other_way(collection.walk, source)}")
    if not args.expressions and are_rafdb(names, [sample.path.name for _, sample in places]):
        args.expressions = DATA_SETS[3].expressions
        collection.notes.append("the directories 1 to 7 and the file names are RAF-DB's, and so are the expressions; "
                                "python -m datasets.convert rafdb takes the official split from the names too")
    classes = _class_directories(names, args.expressions, target_only, f"{source}: has no directory with images named")
    collection.expressions = tuple(map(safe_name, args.expressions or classes))
    for expression, sample in places:
        if expression is None:
            collection.leave_out("outside the expressions' directories", sample.path)
        elif expression not in classes and expression != target_only:
            collection.leave_out(f"in a directory that is not asked for ({expression})", sample.path)
        elif expression == target_only:
            collection.samples.append(replace(sample, label=len(classes), split="train"))
        else:
            collection.samples.append(replace(sample, label=classes.index(expression)))
    patterns.check(collection)
    assign_test_split(collection, args.val_as_test, sum(sample.split == "test" for _, sample in places))
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


def _find_places(collection: Collection, source: Path, args: argparse.Namespace, patterns: NamePatterns
                 ) -> list[tuple[str | None, SourceSample]]:
    """Return the expression, or None, of each image of the source, with a sample that lacks only its label.

    Images in directories that ``--ignore`` names are left out.

    Raises UserError if directories beside those of known splits or expressions are neither, or if nothing tells which
    directories are the expressions.
    """
    files = []
    for path in collection.walk.images:
        folders = path.relative_to(source).parts[:-1]
        if set(folders) & set(args.ignore):
            collection.leave_out("in directories that --ignore names", path)
        else:
            files.append((path, folders))
    folders = rests = [folders for _, folders in files]
    split_level = _split_level(folders)
    splits = [_split_at(split_level, each) for each in folders]
    if split_level is None and any(splits := splits_in_names([path.name for path, _ in files])):
        collection.notes.append("the split is that of the names of the files")
    splits_alone = split_level is not None and not all(map(expression_in, _names(folders, split_level)))
    if splits_alone:  # not train_happy, test_happy
        rests = [each[:split_level] + each[split_level + 1:] for each in folders]
    if args.label_regex:
        level, labels = None, _read_labels(patterns, source, files, collection)
    else:
        level = _label_level(source, rests, files, args.expressions)
        labels = _labels_at(level, rests, splits)
    if not args.expressions and (named := full_names(sorted({label for label in labels if label}))):
        labels = [named.get(label) for label in labels]  # AN, HA, NE
    if splits_alone:
        _check_splits(source, folders, split_level, level)
    subjects = [""] * len(files) if args.subject_regex else _persons(rests, level, labels, collection)
    common = {each for each in range(level or 0) if len(_names(rests, each)) == 1}
    places = []
    for (path, _), split, rest, label, subject in zip(files, splits, rests, labels, subjects):
        others = (*(part for each, part in enumerate(rest) if each != level and each not in common), path.name)
        target = "_".join(filter(None, (split, label if level is not None else None, *others)))
        attributes = {"subject": subject or None, **patterns.read("/".join(others))}
        places.append((label, SourceSample(safe_name(target), 0, path, **attributes, split=split)))
    _note_contradictions(places, collection)
    return places


def _names(folders: Sequence[Folders], level: int) -> list[str]:
    """Return the different names of directories at a level."""
    return sorted({each[level] for each in folders if len(each) > level}, key=expression_key)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


# ------------------------------------------------------------------------------------------------- splits

def _split_level(folders: Sequence[Folders]) -> int | None:
    """Return the level of the directories that name splits, or None. Deep ones must name a training split."""
    for level in range(max(map(len, folders), default=0)):
        splits = set(map(split_of, _names(folders, level))) - {None}
        if splits and (level < 2 or "train" in splits):
            return level
    return None


def _split_at(level: int | None, folders: Folders) -> str | None:
    """Return the split that the directory at a level names, or None."""
    return split_of(folders[level]) if level is not None and len(folders) > level else None


def _check_splits(source: Path, folders: Sequence[Folders], level: int, label_level: int | None) -> None:
    """Check that all directories with images at a level are different splits, in one directory or in each expression.

    Raises UserError if not.
    """
    above = sorted({each[:level] for each in folders if len(each) > level})
    below_label = label_level is not None and label_level < level
    if len(above) > 1 and not below_label:
        raise UserError(f"{source}: the splits are in {_some(['/'.join(each) for each in above])}, above the "
                        "expressions; name one of them as the source")
    counts = Counter(each[:level + 1] for each in folders if each[:level + 1])
    splits: dict[tuple, str] = {}
    for folder, count in counts.items():
        split = _split_at(level, folder)
        if split is None and (len(folder) > level or below_label):
            known = ", ".join(name for name in _names(folders, level) if split_of(name))
            raise UserError(f"{source}: {'/'.join(folder)} holds {count} images beside the splits {known} and is none; "
                            "leave it out with --ignore NAME, or rename it")
        first = splits.setdefault((*folder[:level], split), folder[-1])
        if first != folder[-1]:
            raise UserError(f"{source}: {first} and {folder[-1]} are both the {split} split; leave one out "
                            "with --ignore NAME")


# ------------------------------------------------------------------------------------------------- expressions

def _read_labels(patterns: NamePatterns, source: Path, files: Sequence[tuple[Path, Folders]], collection: Collection
                 ) -> list[str | None]:
    """Return the expression that ``--label_regex`` reads from each file name or path."""
    labels = [patterns.find("label", path.name, path.relative_to(source).as_posix()) for path, _ in files]
    unmatched = [path for (path, _), label in zip(files, labels) if not label]
    if len(unmatched) == len(files):
        raise UserError(f"--label_regex {patterns.patterns['label'].pattern}: matches no file name"
                        + (f", e.g. not {unmatched[0].name}" if unmatched else ""))
    if unmatched:
        collection.notes.append(f"--label_regex does not match {len(unmatched)} of {len(files)} file names, e.g. "
                                f"{unmatched[0].name}")
    spelling: dict[str, str] = {}
    return [spelling.setdefault(label.casefold(), label) if label else None for label in labels]


def _label_level(source: Path, rests: Sequence[Folders], files: Sequence[tuple[Path, Folders]],
                 expressions: Sequence[str] | None) -> int | None:
    """Return the level of the directories of the expressions, None if there are no directories.

    It is the one with the names of ``--expressions``, or with the most known expressions. Raises UserError if none is
    known, and several levels or none may hold them.
    """
    levels = range(max(map(len, rests), default=0))
    names = [_names(rests, level) for level in levels]
    known = [[name for name in each if meaning_of(name)] for each in names]
    shares = [len(known[level]) / len(names[level]) * (len(set(map(meaning_of, known[level]))) > 1) for level in levels]
    asked = [level for level in levels if expressions
             and {name.casefold() for name in expressions} <= {name.casefold() for name in names[level]}]
    if asked or max(shares, default=0) >= 0.5:
        return asked[0] if asked else shares.index(max(shares))
    several = [level for level in levels if len(names[level]) > 1]
    possible = [level for level in several if not look_like_persons(names[level])] or several or list(levels)
    if not possible:
        return None
    level, advice = possible[0], "name the expressions with --expressions, or read them from the path with " \
        "--label_regex '^[^/]+/([^/]+)/'"
    inside = possible[1] if len(possible) > 1 else level
    above: dict[str, set[str]] = defaultdict(set)
    for rest in rests:
        if len(rest) > inside:
            above[rest[inside]].add(rest[level])
    if inside != level and 2 * sum(len(each) > 1 for each in above.values()) > len(above):
        raise UserError(f"{source}: either {_some(names[level])} or {_some(names[inside])}, which are in each of them, "
                        f"may be the expressions; {advice}")
    pattern = propose_label_regex([path.name for path, _ in files])
    if pattern and not expressions:
        raise UserError(f"{source}: {_some(names[level])} are no known expressions, and the names of the files hold "
                        f"some: read them with --label_regex '{pattern}', or name the directories with --expressions")
    if not expressions and len(names[level]) > 1 and look_like_persons(names[level]):
        raise UserError(f"{source}: {_some(names[level])} look like persons, and no directory is called like an "
                        f"expression; {advice}")
    return level


def _labels_at(level: int | None, rests: Sequence[Folders], splits: Sequence[str | None]) -> list[str | None]:
    """Return the expression of each image by its directory: Happy of one split is happy of another.

    Unknown directories beside known expressions, outside the training split, are those of images without a label.
    """
    if level is None:
        return [None] * len(rests)
    names = _names(rests, level)
    siblings = {(rest[:level], split, rest[level], meaning_of(rest[level])) for rest, split in zip(rests, splits)
                if len(rest) > level}
    meanings = Counter((above, split, meaning) for above, split, _, meaning in siblings if meaning)
    by_meaning = max(meanings.values(), default=2) == 1  # nowhere two directories of one meaning, such as happy and joy
    keys = {name: by_meaning and meaning_of(name) or name.casefold() for name in names}
    spellings: dict[object, set[str]] = defaultdict(set)
    for name in names:
        spellings[keys[name]].add(name.casefold())
    trained = {rest[level] for rest, split in zip(rests, splits) if len(rest) > level and split in (None, "train")}
    first: dict[object, str] = {}
    labels: list[str | None] = []
    for rest in rests:
        name = rest[level] if len(rest) > level else None
        if name is None or name not in trained and not meaning_of(name) and any(map(meaning_of, trained)):
            labels.append(None)
        else:
            several = len(spellings[keys[name]]) > 1
            labels.append(first.setdefault(keys[name], (several and expression_in(name)) or name))
    return labels


def _note_contradictions(places: Sequence[tuple[str | None, SourceSample]], collection: Collection) -> None:
    """Note names of files that say another expression than their directories."""
    different = [(sample.path.name, expression) for expression, sample in places
                 if expression and meaning_of(sample.path.stem) and meaning_of(expression)
                 and meaning_of(sample.path.stem) != meaning_of(expression)]
    if len(different) > 0.05 * len(places):
        collection.notes.append(f"{len(different)} of {len(places)} file names say another expression than their "
                                f"directories, e.g. {different[0][0]} of {different[0][1]}")


# ------------------------------------------------------------------------------------------------- persons

def _persons(rests: Sequence[Folders], label_level: int | None, labels: Sequence[str | None], collection: Collection
             ) -> list[str]:
    """Return the person of each image whose directory plainly is a person's, "" for all others.

    Such directories show several expressions, and are numbered like persons or have names that say nothing else.
    """
    unused = []
    for level in range(max(map(len, rests), default=0)):
        names, shown = _names(rests, level), defaultdict(set)
        for rest, label in zip(rests, labels):
            if level != label_level and len(rest) > level:
                shown[rest[level]].add(label)
        if len(names) < 2 or 2 * sum(len(each) > 1 for each in shown.values()) <= len(names):
            continue
        is_above = label_level is not None and level < label_level
        if look_like_persons(names) or len(names) > 2 and not name_groups(names) and (
                is_above or not any(name.isdigit() for name in names)):
            collection.notes.append(f"the {len(names)} directories {_some(names)} are taken for persons; "
                                    "--subject_regex reads others from the names")
            return ["_".join((*(part for part in rest[:level] if part.lower() in SEXES), rest[level]))
                    if len(rest) > level else "" for rest in rests]
        unused += names * is_above
    if unused:
        collection.notes.append(f"the directories {_some(unused)} above the expressions say neither split nor person "
                                "and are not used; --subject_regex '^([^/]+)/' takes them for persons")
    return [""] * len(rests)


FOLDERS = Importer(
    "folders", "one directory per expression, with or without train/, test/ or persons; or expressions in file names",
    "the directory that holds the expressions' directories", read,
    {"--label_regex": dict(metavar="REGEX", help="the part of a file name (or else of the path below SRC) that is the "
                           "expression, or its first group, if directories do not name it; codes like AN, HA, NE get "
                           "their names"),
     "--target_only": dict(metavar="NAME", help="a directory of neutral faces that are targets of synthesis, in no "
                           "class (as MMI's)"),
     "--ignore": dict(nargs="+", default=[], metavar="NAME", help="directories to leave out"), **NAMING})
