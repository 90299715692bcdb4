"""A table with columns for file and label (CSV), and the reader of all tables: row by row, with the mistakes' lines."""

import argparse
import csv
import re
from itertools import chain
from pathlib import Path
from typing import Callable, Iterator, Sequence

from datasets.files import check_output, is_image_name, natural_key, walk
from datasets.importing.collection import Box, Collection, Importer, SourceSample, face_name, read_box, source_table
from datasets.importing.naming import (NAMING, are_rafdb, assign_test_split, check_patterns, expression_key,
                                       meaning_of, safe_name, select_labels, split_of, splits_in_names,
                                       subject_and_scene)
from datasets.layout import DATA_SETS
from datasets.lists import Names, is_integer, shortened, text_lines, whole_number
from utils import UserError, refuse, user_path

_MEANINGS = {"file": "file names", "label": "labels", "split": "train, val or test; optional, \"none\" reads none",
             "subject": "subjects; optional"}
_USUAL_NAMES = {  # of columns, in small letters; an earlier one is preferred
    "file": "file filename file_name image path filepath file_path image_path img_path image_name img_name img pth",
    "label": "label labels emotion expression class category", "split": "split usage subset partition set",
    "subject": "subject subject_id subjectid person person_id person_name participant identity actor"}
_BOXES = [names.split() for names in (
    "left top right bottom", "x1 y1 x2 y2", "xmin ymin xmax ymax", "x0 y0 x1 y1", "x y w h", "x y width height",
    "left top width height", "xmin ymin width height", "x0 y0 w h", "x1 y1 w h", "left upper right lower")]
_TRUE, _FALSE = ("true", "t", "1", "1.0", "yes", "y"), ("false", "f", "0", "0.0", "no", "n")

FEW_VALUES = 4  # of a column, which a note names
_MISSING = ("nan", "na", "n/a", "null", "none", "?", "-", "-1")  # labels that say that there is none

Row = tuple[int, dict[str, str]]  # the line of a row, and its values by column


def read(args: argparse.Namespace) -> Collection:
    """Return the rows of a table as samples. Their splits are undecided if no row is of the test split.

    Raises UserError if the first line is a row, which would be lost if it were read as names.
    """
    table = source_table(args.source, args.out)
    root = args.root or table.parent
    names = Names(root)
    header, lines = read_table(table, lambda first: [str(i + 1) for i in range(len(first))] if args.no_header else None)
    rows = list(lines)
    collection = Collection((), rows=len(rows), names=[names])
    columns = _find_columns(table, header, rows, names, args)
    boxes = _read_boxes(table, header, rows, args.box_columns)
    splits = _read_splits(table, header, rows, columns, collection)
    labels = [whole_number(row[columns["label"]]) for _, row in rows]
    labels = ["" if label.lower() in _MISSING else label for label in labels]
    present = sorted(set(labels) - {""}, key=expression_key)
    expressions = args.expressions or _names_of_numbers(table, present, header, rows, columns, collection)
    labelled = select_labels(table, "label", present, expressions)
    collection.expressions = tuple(map(safe_name, expressions or labelled))
    position = {label: i for i, label in enumerate(labelled)}
    for (_, row), label, split, box in zip(rows, labels, splits, boxes):
        listed = row[columns["file"]]
        name = names.find(listed) if listed else None
        if not listed:
            collection.left_out["without a file name"] += 1
        elif name and label in position:
            subject = safe_name(row[columns["subject"]]) if columns["subject"] else ""
            attributes = subject_and_scene(args, name) | ({"subject": subject} if subject else {})
            target = safe_name("_".join(part for part in Path(name).parts if part not in ("..", "/")))
            collection.samples.append(SourceSample(face_name(target, box) if box else target, position[label],
                                                   root / name, **attributes, split=split, box=box))
        elif name:
            collection.leave_out(f"with a label that is not asked for ({label})" if label else "without a label",
                                 root / name)
    check_patterns(args, collection)
    assign_test_split(collection, args.val_as_test, splits.count("test"))
    _note_contradictions(table, collection)
    folders = sorted({sample.path.parent for sample in collection.samples})
    collection.walk = walk(*folders, below=False)
    check_output(args.out / "data", "--out", apart=folders, directory=True)
    return collection


def _find_columns(table: Path, header: Sequence[str], rows: Sequence[Row], names: Names, args: argparse.Namespace
                  ) -> dict[str, str]:
    """Return the columns of files, labels, splits and subjects: those of the options, or by usual names; "" for none.

    Raises UserError if the header is a row, if a column that an option names is absent, or that of files or labels is.
    """
    lowered, columns = {name.lower(): name for name in reversed(header)}, {}
    for key, usual in _USUAL_NAMES.items():
        found = [lowered[name] for name in usual.split() if name in lowered]
        if key == "split":  # a column of another meaning may have such a name
            found = [name for name in found if name == key or all(split_of(row[name]) for _, row in rows if row[name])]
        position = {"file": "1", "label": "2"}.get(key) if args.no_header else None
        needed = key if key in ("file", "label") else ""
        columns[key] = getattr(args, f"{key}_column") or position or next(iter(found), needed)
    is_row = any(is_image_name(cell) or cell and names.is_file(cell) for cell in header) \
        or any(row.get(columns["label"]) == columns["label"] for _, row in rows)
    scores = [name for name in header if meaning_of(name)]
    refuse(table,
           (is_row and not args.no_header, f"has no header, its first line ({shortened(','.join(header))}) is a row; "
            "read it with --no_header, which names the columns by position: --file_column 1 --label_column 2"),
           (columns["label"] not in header and len(scores) > 1, f"its columns {', '.join(scores)} seem to hold a score "
            "for each expression; write the name of the highest into a column label"))
    for key, name in columns.items():
        if name and (key, name) != ("split", "none"):
            check_columns(table, header, [name], f"name the right one with --{key}_column, or read a table whose first "
                          "line is a row already with --no_header")
    return columns


# ----------------------------------------------------------------------------------------------- what columns say

def _read_splits(table: Path, header: Sequence[str], rows: Sequence[Row], columns: dict[str, str],
                 collection: Collection) -> list[str | None]:
    """Return the split of each row, or None, as a column says it, or columns such as ``is_test``, of true and false.

    A column that says the split by its values is taken and noted. Raises UserError if several may be meant, and for a
    value that is no split.
    """
    named = columns["split"]
    if named == "none":
        return [None] * len(rows)
    values = {name: {row[name].lower() for _, row in rows} - {""}
              for name in ([named] if named else set(header) - set(columns.values()))}
    flags = {name: split for name, found in values.items()
             if (split := split_of(name)) and found <= {*_TRUE, *_FALSE} and (named or len(found) > 1)}
    texts = [named] if named and not flags else \
        [name for name, found in values.items()
         if len(found) < 20 and len(set(map(split_of, found)) - {None}) > 1]
    several = not named and len(texts) + bool(flags) > 1
    refuse(table, (several, f"several columns may be that of the split ({', '.join(sorted({*texts, *flags}))}); name "
                   "one with --split_column"))
    if not texts and not flags and any(splits_in_names(row[columns["file"]] for _, row in rows)):
        texts = [columns["file"]]
    collection.note(not named and (texts or flags), "the split is that of the column "
                    f"{', '.join(texts or sorted(flags))}; --split_column none reads none")
    others = {name: sorted({row[name] for _, row in rows}, key=natural_key) for name in header
              if name and name not in (*columns.values(), *texts, *flags)}
    shown = [name + f" ({', '.join(said)})" * (len(said) <= FEW_VALUES) for name, said in others.items()]
    collection.note(shown, f"neither split nor person is read from the columns {', '.join(shown)}")
    if flags:
        other = "test" if "train" in flags.values() else "train"
        return [next((split for name, split in flags.items() if row[name].lower() in _TRUE), other) for _, row in rows]
    said = [(line, row[texts[0]] if texts else "") for line, row in rows]
    splits = [next(filter(None, map(split_of, Path(text).parts)), None) for _, text in said]
    wrong = [place for place, split in zip(said, splits) if split is None and place[1]]
    if wrong:
        line, text = wrong[0]
        raise UserError(f"{table}, line {line}: the split \"{text}\" of the column {texts[0]} is not train, val or "
                        "test; correct it, or read no split with --split_column none")
    return splits


def _read_boxes(table: Path, header: Sequence[str], rows: Sequence[Row], asked: Sequence[str] | None
                ) -> list[Box | None]:
    """Return the box of each row in the columns of ``--box_columns``, or None without them.

    Raises UserError for values that are no box, and if other columns, of usual names, seem to hold boxes.
    """
    if asked and asked != ["none"]:
        check_columns(table, header, asked, "name the right ones with --box_columns")
        refuse(f"--box_columns {' '.join(asked)}", (
            len(asked) != 4, "must be the four columns LEFT TOP RIGHT BOTTOM, or none"))
        sized = all(re.search(f"(?:^|[^a-z])(?:{word[0]}|{word})$", name, re.IGNORECASE)
                    for word, name in zip(("width", "height"), asked[2:]))
        return [read_box([row[name] for name in asked], sized, f"{table}, line {line}") for line, row in rows]
    plain = {re.sub("^(face|bbox|bounding_?box|box|rect)_?|_", "", name.lower()): name for name in header}
    found = next(([plain[name] for name in names] for names in _BOXES if plain.keys() >= set(names)), [])
    number, whole = re.compile(r"-?\d+(\.\d*)?"), plain.get("", "")
    is_box = whole and all(len(number.findall(row[whole])) == 4 for _, row in rows)
    are_box = found and all(number.fullmatch(row[name]) for _, row in rows[:100] for name in found)
    refuse(table,
           (is_box and not asked, f"the column {whole} seems to hold the boxes of faces; write them in four columns "
            "for --box_columns, or take whole pictures with --box_columns none"),
           (are_box and not asked, f"the columns {' '.join(found)} seem to hold the boxes of faces; cut them out with "
            f"--box_columns {' '.join(found)}, or take whole pictures with --box_columns none"))
    return [None] * len(rows)


def _names_of_numbers(table: Path, present: Sequence[str], header: Sequence[str], rows: Sequence[Row],
                      columns: dict[str, str], collection: Collection) -> list[str] | None:
    """Return the names of labels that are numbers, as RAF-DB's, another column or the files' directories say; or None.

    Raises UserError if a column of expressions says something else than the numbers.
    """
    if not present or not all(map(is_integer, present)):
        return None
    files = [Path(row[columns["file"]].replace("\\", "/")) for _, row in rows]
    texts = {f"the column {name}": [row[name] for _, row in rows] for name in header if name not in columns.values()}
    texts["the directory of its file"] = [path.parent.name for path in files]
    where = next((where for where, names in texts.items()
                  if len(set(names)) > 1 and all(map(meaning_of, set(names)))), None)
    if where:
        numbers = [whole_number(row[columns["label"]]) for _, row in rows]
        pairs = {(number, text.casefold()): text for number, text in zip(numbers, texts[where])}
        fits = len(pairs) == len(present) == len({text for _, text in pairs})
        refuse(table, (not fits, f"{columns['label']} holds numbers, and {where} names expressions that do not go with "
                       "them one by one; choose with --label_column NAME, or name the numbers with --expressions"))
        collection.notes.append(f"the names of the labels are those of {where}")
        return [text for (number, _), text in sorted(pairs.items(), key=lambda pair: int(pair[0][0]))]
    is_rafdb = are_rafdb(present, [path.name for path in files])
    collection.note(is_rafdb, "labels and files are RAF-DB's, and so are the names of the expressions; "
                    "python -m datasets.convert rafdb reads its lists, with the official split")
    return list(DATA_SETS[3].expressions) if is_rafdb else None


def _note_contradictions(table: Path, collection: Collection) -> None:
    """Note files in directories of another expression than their label, and tables of other splits beside this one."""
    meanings = [(sample, meaning_of(collection.expressions[sample.label]),
                 set(map(meaning_of, sample.path.parts[-4:-1]))) for sample in collection.samples]
    different = [f"{sample.path} ({collection.expressions[sample.label]})" for sample, label, folders in meanings
                 if label and folders - {None} and label not in folders]
    collection.note(different, f"{len(different)} of {len(meanings)} files lie in a directory of another expression "
                    f"than their label, which was taken, e.g. {''.join(different[:1])}")
    beside = sorted(path.name for path in table.parent.glob(f"*{table.suffix}") if split_of(path.stem))
    collection.note(split_of(table.stem) and beside != [table.name], f"of {', '.join(beside)} only {table.name} was "
                    "read; one table with a column split imports them all")


TABLE = Importer(
    "csv", "a table with columns for file and label", "the table; its first line names the columns (or --no_header)",
    read,
    {"--root": dict(type=user_path, metavar="DIR", help="where the files lie (default: the table's directory)"),
     **{f"--{name}_column": dict(metavar="NAME", help=f"the column of {meaning} (default: {name}, or a usual name)")
        for name, meaning in _MEANINGS.items()},
     "--box_columns": dict(nargs="+", metavar="NAME", help="the columns LEFT TOP RIGHT BOTTOM of a face's box in "
                           "pixels, where pictures show more than the face; the last two may be width and height, by "
                           "their names; \"none\" takes whole pictures"),
     "--no_header": dict(action="store_true", help="the table's first line is a row; columns are called 1, 2, ... by "
                         "their positions (file: 1, label: 2)"), **NAMING}, metavar="FILE")

# ------------------------------------------------------------------------------------------ any table, row by row

def read_table(table: Path, without_header: Callable[[list[str]], Sequence[str] | None] = lambda first: None
               ) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Return the columns that a table's first line names, and an iterator of its rows: (line, {column: value}).

    ``without_header`` is called with the first line, and returns the columns' names if it is a row already, else None.
    Spaces around names and values are removed; a row that ends early has empty values. Raises UserError if the file is
    no table, at once or when the iterator reaches the mistake.
    """
    lines = text_lines(table, newline="")
    first = next(lines, "")
    refuse(table, (not first.strip(), "empty; its first line must name the columns"))
    delimiter = max(",;\t", key=first.count) if re.search("[,;\t]", first) else " "
    rows = _rows(table, csv.reader(chain([first], lines), delimiter=delimiter, skipinitialspace=True))
    number, first_row = next(rows)
    columns = without_header(first_row)
    rows = chain([(number, first_row)], rows) if columns else rows
    columns = list(columns or first_row)
    return columns, ((line, _by_column(table, line, columns, row)) for line, row in rows if row)


def _rows(table: Path, rows: "csv._reader") -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the values of each row. Raises UserError for a row that csv cannot read."""
    try:
        for row in rows:
            yield rows.line_num, [value.strip() for value in row]
    except csv.Error as error:
        raise UserError(f"{table}, line {rows.line_num}: not a line of a table ({error}); correct it") from None


def _by_column(table: Path, line: int, columns: Sequence[str], row: Sequence[str]) -> dict[str, str]:
    """Return the values of a row by column, empty ones at its end. Raises UserError if it has more than the columns."""
    refuse(f"{table}, line {line}", (any(row[len(columns):]), f"has {len(row)} values for {len(columns)} columns; put "
                                     "quotes around values that hold a comma, or correct it"))
    return {**dict.fromkeys(columns, ""), **dict(zip(columns, row))}


def check_columns(table: Path, columns: Sequence[str], needed: Sequence[str], advice: str) -> None:
    """Check that a table has the needed columns. Raises UserError if one is absent (with ``advice``) or not unique."""
    for name in needed:
        refuse(table, (name not in columns, f"has no column \"{name}\" (it has {', '.join(columns)}); {advice}"),
               (columns.count(name) > 1, f"has {columns.count(name)} columns \"{name}\"; rename all but one"))
