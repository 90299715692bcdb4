"""A table with columns for file and label (CSV)."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Sequence

from datasets.files import is_image_name
from datasets.importing import naming
from datasets.importing.boxes import boxed, read_box
from datasets.importing.collection import Collection, Importer, source_table
from datasets.importing.naming import SubjectPattern, asked_labels, neutral_last, one_word, split_of
from datasets.importing.rows import check_columns, read_table
from datasets.layout import Sample
from datasets.lists import whole_number
from datasets.names import Names, shortened
from datasets.walking import walk
from utils import UserError

_COLUMNS = {"file": "file names", "label": "labels", "split": "train, val or test; optional",
            "subject": "subjects; optional"}
_ALSO_CALLED = {"split": ("usage", "subset", "partition", "set"),
                "subject": ("subject_id", "subjectid", "person", "person_id", "participant", "identity")}
_SIDES = ("LEFT", "TOP", "RIGHT", "BOTTOM")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this kind."""
    parser.add_argument("--root", metavar="DIR", help="where the files lie (default: the table's directory)")
    for name, meaning in _COLUMNS.items():
        parser.add_argument(f"--{name}_column", metavar="NAME", help=f"the column of {meaning} (default: {name})")
    parser.add_argument("--box_columns", nargs=4, metavar=_SIDES, help="the columns of a face's box in pixels, where a "
                        "picture shows several faces; the last two may be width and height, by their names")
    parser.add_argument("--no_header", action="store_true", help="the table's first line is a row; columns are called "
                        "1, 2, ... by their positions (file: 1, label: 2)")
    naming.add_options(parser)


def read(asked: argparse.Namespace) -> Collection:
    """Return the rows of a table as samples; without a split if no row is of the test split."""
    table = source_table(asked)
    root = Path(asked.root) if asked.root else table.parent
    pattern, names = SubjectPattern(asked.subject_regex, asked.scene_regex), Names(root)
    columns = {key: getattr(asked, f"{key}_column") for key in _COLUMNS}
    records = read_records(table, names, columns, asked.box_columns, asked.no_header)
    present = sorted({record["label"] for _, record in records if record["label"]}, key=neutral_last)
    labels = asked_labels(present, asked.expressions, f"{table}: has no label")
    found = Collection(tuple(map(one_word, asked.expressions or labels)), rows=len(records), names=[names])
    for line, record in records:
        split = split_of(record["split"])
        if record["split"] and split is None:
            raise UserError(f"{table}, line {line}: the split \"{record['split']}\" is not train, val or test")
        name = names.find(record["file"]) if record["file"] else None
        if not record["file"]:
            found.left_out["without a file name"] += 1
        elif name and not record["label"]:
            found.leave_out("without a label", root / name)
        elif name and record["label"] not in labels:
            found.leave_out(f"with a label that is not asked for ({record['label']})", root / name)
        elif name:
            subject = one_word(record["subject"]) or pattern.subject(name)
            target = one_word("_".join(part for part in Path(name).parts if part not in ("..", "/")))
            sample = Sample(target, labels.index(record["label"]), root / name, subject, pattern.scene(name))
            found.add(split, boxed(sample, record["box"]) if asked.box_columns else sample)
    pattern.check(found.everything())
    naming.decide_test(found, asked.val_as_test, sum(split_of(record["split"]) == "test" for _, record in records))
    folders = sorted({sample.path.parent for sample in found.everything()})
    found.walk = walk(*folders, below=False)
    _check_apart(Path(asked.out), folders)
    return found


def _check_apart(out: Path, folders: Sequence[Path]) -> None:
    """Raise UserError if the images of the output would lie among those of the table, or around them."""
    images = (out / "data").resolve()
    for folder in (folder.resolve() for folder in folders):
        if folder == images or images in folder.parents or folder in images.parents:
            raise UserError(f"--out {out}: its images and those of the table in {folder} would lie in one place; "
                            "choose another --out")


def read_records(table: Path, names: Names, columns: dict[str, str | None], box: Sequence[str] | None, no_header: bool
                 ) -> list[tuple[int, dict]]:
    """Read the rows of a table with their lines: the values of the columns asked for, and the box as four numbers.

    ``columns`` are those asked for; it gets the usual names, or positions, in place of None.
    """
    header, rows = read_table(table, lambda first: list(map(str, range(1, 1 + len(first)))) if no_header else None)
    if not no_header:
        _check_header(table, header, [cell for cell in header if is_image_name(cell) or cell and names.is_file(cell)])
    rows = list(rows)
    for key in ("split", "subject"):
        columns[key] = columns[key] or _column_of(key, header, [row for _, row in rows])
    for key, position in (("file", "1"), ("label", "2")):
        usual = position if no_header else next((name for name in header if name.lower() == key), key)
        columns[key] = columns[key] or usual
    for key, column in columns.items():
        check_columns(table, header, [column] if column else [], f"name the right one with --{key}_column, or read a "
                      "table whose first line is a row already with --no_header")
    check_columns(table, header, box or (), "name the right ones with --box_columns")
    if not no_header:
        label = columns["label"]
        _check_header(table, header, [label] if any(row[label] == label for _, row in rows) else [])
    sized = box and all(re.search(f"(?:^|[^a-z])(?:{word[0]}|{word})$", name, re.IGNORECASE)
                        for word, name in zip(("width", "height"), box[2:]))
    records = []
    for line, row in rows:
        record = {key: row[name] if name else "" for key, name in columns.items()}
        record["label"] = whole_number(record["label"])
        if box:
            record["box"] = read_box([row[name] for name in box], sized, f"{table}, line {line}")
        records.append((line, record))
    return records


def _check_header(table: Path, header: Sequence[str], values: Sequence[str]) -> None:
    """Raise UserError if the first line has ``values`` of a row, which would be lost if they were read as names."""
    if values:
        raise UserError(f"{table}: has no header, its first line ({shortened(','.join(header))}) is a row; read it "
                        "with --no_header, which names the columns by position: --file_column 1 --label_column 2")


def _column_of(key: str, header: Sequence[str], rows: Sequence[dict[str, str]]) -> str:
    """Return the column of splits or subjects by its usual names, in any case; "" if there is none."""
    found = [name for name in header if name.lower() in (key, *_ALSO_CALLED[key])]
    if key == "split":
        found = [name for name in found if name == key or all(split_of(row[name]) for row in rows if row[name])]
    return found[0] if found else ""


TABLE = Importer("csv", "a table with columns for file and label",
                 ("FILE", "the table; its first line names the columns (or --no_header)"), "datasets/csv", add_options,
                 read)
