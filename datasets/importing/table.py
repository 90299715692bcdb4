"""A table with columns for file and label (CSV)."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Sequence

from datasets.files import is_image_name
from datasets.importing import naming
from datasets.importing.boxes import boxed, read_box
from datasets.importing.collection import Collection, Importer, share_to_test_on, source_table
from datasets.importing.naming import SubjectPattern, asked_labels, neutral_last, one_word, split_of
from datasets.importing.rows import check_columns, read_table
from datasets.layout import Sample
from datasets.lists import whole_number
from datasets.names import Names, shown
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
                        "picture may show several faces; the third and fourth may be those of width and height, and are "
                        "if their names say so")
    parser.add_argument("--no_header", action="store_true", help="the table's first line is a row; columns are called "
                        "1, 2, ... by their positions (file: 1, label: 2)")
    naming.add_options(parser)


def read(asked: argparse.Namespace) -> Collection:
    """What was asked for; where no row is of the test split, samples without one."""
    table, share = source_table(asked), share_to_test_on(str(asked.test_share))
    named = {key: getattr(asked, f"{key}_column") for key in _COLUMNS}
    default = {"file": "1", "label": "2"} if asked.no_header else {key: key for key in _COLUMNS}
    found = read_csv(table, Path(asked.root) if asked.root else table.parent,
                     {key: name or default.get(key, "") for key, name in named.items()},
                     {key for key, name in named.items() if name}, asked.expressions,
                     SubjectPattern(asked.subject_regex, asked.scene_regex), asked.box_columns, asked.no_header, asked.val_as_test)
    found.test = share
    out = Path(asked.out)
    images, read = (out / "data").resolve(), {sample.path.parent.resolve() for sample in found.everything()}
    inside = [folder for folder in read if folder == images or images in folder.parents or folder in images.parents]
    if inside:
        raise UserError(f"--out {out}: its images and those of the table in {min(inside)} would lie in one place; "
                        "choose another --out")
    return found


def read_csv(table: Path, root: Path, columns: dict[str, str], asked: set[str], expressions: Sequence[str] | None,
             pattern: SubjectPattern, box: Sequence[str] | None = None, no_header: bool = False,
             val_as_test: bool = False) -> Collection:
    """A table: the columns for file, label and, where there are such, split and subject.

    ``columns`` maps these four to the table's names; those in ``asked`` must exist. Files are relative to ``root``.
    ``box`` names the columns of a face's left, top, right (or width) and bottom (or height).
    """
    names = Names(root)
    records = read_records(table, names, columns, asked, box, no_header)
    present = sorted({record["label"] for _, record in records if record["label"]}, key=neutral_last)
    labels = asked_labels(present, expressions, f"{table}: has no label")
    found = Collection(tuple(map(one_word, expressions or labels)), rows=len(records), names=[names])
    for number, record in records:
        split = split_of(record["split"])
        if record["split"] and split is None:
            raise UserError(f"{table}, line {number}: the split \"{record['split']}\" is not train, val or test")
        if not record["file"] or not record["label"]:
            found.left_out["without a file name or a label"] += 1
            continue
        name = names.find(record["file"])
        if name is None:
            continue
        path = root / name
        if record["label"] not in labels:
            found.leave_out(f"with a label that is not asked for ({record['label']})", path)
            continue
        subject = one_word(record["subject"]) or pattern.subject(name)
        target = one_word("_".join(part for part in Path(name).parts if part not in ("..", "/")))
        sample = Sample(target, labels.index(record["label"]), path, subject, pattern.scene(name))
        found.add(split, boxed(sample, record["box"]) if box else sample)
    pattern.check(found.everything())
    naming.decide_test(found, val_as_test, sum(split_of(record["split"]) == "test" for _, record in records))
    found.walk = walk(*sorted({sample.path.parent for sample in found.everything()}), below=False)
    return found


def read_records(table: Path, names: Names, columns: dict[str, str], asked: set[str], box: Sequence[str] | None,
                 no_header: bool) -> list[tuple[int, dict]]:
    """The rows of a table with their lines: what stands in the columns asked for, and the box as four numbers.

    ``columns`` get the table's names for split and subject where nobody asked for others.
    """
    header, rows = read_table(table, lambda first: list(map(str, range(1, 1 + len(first)))) if no_header else None)
    if not no_header:
        _check_header(table, header, [cell for cell in header if is_image_name(cell) or cell and names.is_file(cell)])
    rows = list(rows)
    for key in {"split", "subject"} - asked:
        columns[key] = _column_of(key, header, [row for _, row in rows])
    for key in ("file", "label", *sorted(asked)):
        check_columns(table, header, [columns[key]], f"name the right one with --{key}_column")
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
    """UserError if the first line has ``values`` that belong into a row: to read it as names would lose that row."""
    if values:
        raise UserError(f"{table}: has no header, its first line ({shown(','.join(header))}) is a row; read it with "
                        "--no_header, which names the columns by position: --file_column 1 --label_column 2")


def _column_of(key: str, header: Sequence[str], rows: Sequence[dict[str, str]]) -> str:
    """The column of splits or subjects by its usual names, in any case; "" if there is none."""
    found = [name for name in header if name.lower() in (key, *_ALSO_CALLED[key])]
    if key == "split":
        found = [name for name in found if name == key or all(split_of(row[name]) for row in rows)]
    return found[0] if found else ""


TABLE = Importer("csv", "a table with columns for file and label",
                 ("FILE", "the table; its first line names the columns (or --no_header)"), "datasets/csv", add_options, read)
