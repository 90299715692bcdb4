"""A table with columns for file and label (CSV), and the reader of all tables: row by row, with the mistakes' lines."""

import argparse
import csv
import re
from itertools import chain
from pathlib import Path
from typing import Callable, Iterator, Sequence

from datasets.files import is_image_name, walk
from datasets.importing.collection import Collection, Importer, SourceSample, face_name, read_box, source_table
from datasets.importing.naming import (NAMING, NamePatterns, assign_test_split, expression_key, safe_name,
                                       select_labels, split_of)
from datasets.lists import Names, shortened, text_lines, whole_number
from utils import UserError

_COLUMNS = {"file": "file names", "label": "labels", "split": "train, val or test; optional",
            "subject": "subjects; optional"}
_OTHER_NAMES = {"split": ("usage", "subset", "partition", "set"),
                "subject": ("subject_id", "subjectid", "person", "person_id", "participant", "identity")}


def read(args: argparse.Namespace) -> Collection:
    """Return the rows of a table as samples. Their splits are undecided if no row is of the test split."""
    table = source_table(args.source, args.out)
    root = args.root or table.parent
    patterns, names = NamePatterns(args), Names(root)
    records = _read_records(table, names, args)
    present = sorted({record["label"] for _, record in records if record["label"]}, key=expression_key)
    labels = select_labels(present, args.expressions, f"{table}: has no label")
    collection = Collection(tuple(map(safe_name, args.expressions or labels)), rows=len(records), names=[names])
    position = {label: i for i, label in enumerate(labels)}
    for line, record in records:
        label, split, box = record["label"], split_of(record["split"]), record.get("box")
        if record["split"] and split is None:
            raise UserError(f"{table}, line {line}: the split \"{record['split']}\" is not train, val or test")
        name = names.find(record["file"]) if record["file"] else None
        if not record["file"]:
            collection.left_out["without a file name"] += 1
        elif name and not label:
            collection.leave_out("without a label", root / name)
        elif name and label not in position:
            collection.leave_out(f"with a label that is not asked for ({label})", root / name)
        elif name:
            attributes = patterns.read(name)
            if subject := safe_name(record["subject"]):
                attributes["subject"] = subject
            target = safe_name("_".join(part for part in Path(name).parts if part not in ("..", "/")))
            collection.samples.append(SourceSample(face_name(target, box) if box else target, position[label],
                                                   root / name, **attributes, split=split, box=box))
    patterns.check(collection)
    test_rows = sum(split_of(record["split"]) == "test" for _, record in records)
    assign_test_split(collection, args.val_as_test, test_rows)
    folders = sorted({sample.path.parent for sample in collection.samples})
    collection.walk = walk(*folders, below=False)
    _check_apart(folders, args.out)
    return collection


def _check_apart(folders: Sequence[Path], out: Path) -> None:
    """Check that a data directory's images and those of a table lie apart. Raises UserError if they do not."""
    images = (out / "data").resolve()
    for folder in (folder.resolve() for folder in folders):
        if folder == images or images in folder.parents or folder in images.parents:
            raise UserError(f"--out {out}: its images and those of the table in {folder} would lie in one place; "
                            "choose another --out")


def _read_records(table: Path, names: Names, args: argparse.Namespace) -> list[tuple[int, dict]]:
    """Return the rows with their lines: {"file", "label", "split", "subject": a text, perhaps an empty one}.

    With ``--box_columns`` each also has a "box".
    """
    header, rows = read_table(table, lambda first: [str(i + 1) for i in range(len(first))] if args.no_header else None)
    if not args.no_header:
        _check_header(table, header, any(is_image_name(cell) or cell and names.is_file(cell) for cell in header))
    rows, box = list(rows), args.box_columns
    columns = {key: getattr(args, f"{key}_column") or _usual_column(key, header, rows, args.no_header)
               for key in _COLUMNS}
    for key, column in columns.items():
        check_columns(table, header, [column] if column else [], f"name the right one with --{key}_column, or read a "
                      "table whose first line is a row already with --no_header")
    check_columns(table, header, box or (), "name the right ones with --box_columns")
    if not args.no_header:
        _check_header(table, header, any(row[columns["label"]] == columns["label"] for _, row in rows))
    sized = box and all(re.search(f"(?:^|[^a-z])(?:{word[0]}|{word})$", name, re.IGNORECASE)
                        for word, name in zip(("width", "height"), box[2:]))
    records = []
    for line, row in rows:
        record = {key: row[column] if column else "" for key, column in columns.items()}
        record["label"] = whole_number(record["label"])
        if box:
            record["box"] = read_box([row[column] for column in box], sized, f"{table}, line {line}")
        records.append((line, record))
    return records


def _check_header(table: Path, header: Sequence[str], is_row: bool) -> None:
    """Check the first line. Raises UserError if it is a row, which would be lost if it were read as names."""
    if is_row:
        raise UserError(f"{table}: has no header, its first line ({shortened(','.join(header))}) is a row; read it "
                        "with --no_header, which names the columns by position: --file_column 1 --label_column 2")


def _usual_column(key: str, header: Sequence[str], rows: Sequence[tuple[int, dict]], no_header: bool) -> str:
    """Return the column of files, labels, splits or subjects by its usual name in any case, or by its position.

    Files and labels must have one; splits or subjects without one give "".
    """
    if key in ("file", "label"):
        position = {"file": "1", "label": "2"}[key]
        return position if no_header else next((name for name in header if name.lower() == key), key)
    candidates = [name for name in header if name.lower() in (key, *_OTHER_NAMES[key])]
    if key == "split":  # a column of another meaning may have such a name
        candidates = [name for name in candidates
                      if name == key or all(split_of(row[name]) for _, row in rows if row[name])]
    return candidates[0] if candidates else ""


TABLE = Importer(
    "csv", "a table with columns for file and label", "the table; its first line names the columns (or --no_header)",
    read,
    {"--root": dict(type=Path, metavar="DIR", help="where the files lie (default: the table's directory)"),
     **{f"--{name}_column": dict(metavar="NAME", help=f"the column of {meaning} (default: {name})")
        for name, meaning in _COLUMNS.items()},
     "--box_columns": dict(nargs=4, metavar=("LEFT", "TOP", "RIGHT", "BOTTOM"), help="the columns of a face's box in "
                           "pixels, where a picture shows several faces; the last two may be width and height, by "
                           "their names"),
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
    if not first.strip():
        raise UserError(f"{table}: empty; its first line must name the columns")
    delimiter = max(",;\t", key=first.count) if re.search("[,;\t]", first) else " "
    rows = csv.reader(chain([first], lines), delimiter=delimiter, skipinitialspace=True)
    values = _values(table, rows)
    first_row = next(values)
    columns = without_header(first_row)
    if columns:
        values = chain([first_row], values)
    columns = list(columns or first_row)

    def read() -> Iterator[tuple[int, dict[str, str]]]:
        for row in values:
            if any(row[len(columns):]):
                raise UserError(f"{table}, line {rows.line_num}: has {len(row)} values for {len(columns)} columns; put "
                                "quotes around values that hold a comma, or correct it")
            if row:
                yield rows.line_num, {**dict.fromkeys(columns, ""), **dict(zip(columns, row))}

    return columns, read()


def check_columns(table: Path, columns: Sequence[str], needed: Sequence[str], advice: str) -> None:
    """Check that a table has the needed columns. Raises UserError if one is absent (with ``advice``) or not unique."""
    for name in needed:
        if name not in columns:
            raise UserError(f"{table}: has no column \"{name}\" (it has {', '.join(columns)}); {advice}")
        if columns.count(name) > 1:
            raise UserError(f"{table}: has {columns.count(name)} columns \"{name}\"; rename all but one")


def _values(table: Path, rows: "csv._reader") -> Iterator[list[str]]:
    """Yield the values of each row. Raises UserError for a row that csv cannot read."""
    try:
        for row in rows:
            yield [value.strip() for value in row]
    except csv.Error as error:
        raise UserError(f"{table}, line {rows.line_num}: not a line of a table ({error}); correct it") from None
