"""A table with columns for file and label (CSV)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Sequence

from datasets.importing import naming
from datasets.importing.collection import Collection, Importer, share_to_test_on, source_table
from datasets.importing.naming import SPLIT_NAMES, SubjectPattern, asked_labels, neutral_last, one_word
from datasets.importing.rows import check_columns, read_table
from datasets.layout import Sample
from utils import UserError

_COLUMNS = {"file": "file names", "label": "labels", "split": "train, val or test; optional",
            "subject": "subjects; optional"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this kind."""
    parser.add_argument("--root", metavar="DIR", help="where the files lie (default: the table's directory)")
    for name, meaning in _COLUMNS.items():
        parser.add_argument(f"--{name}_column", metavar="NAME", help=f"the column of {meaning} (default: {name})")
    naming.add_options(parser)


def read(asked: argparse.Namespace) -> Collection:
    """What was asked for; where no row is of the test split, samples without one."""
    table, share = source_table(asked), share_to_test_on(str(asked.test_share))
    named = {key: getattr(asked, f"{key}_column") for key in _COLUMNS}
    found = read_csv(table, Path(asked.root) if asked.root else table.parent,
                     {key: name or key for key, name in named.items()}, {key for key, name in named.items() if name},
                     asked.expressions, SubjectPattern(asked.subject_regex, asked.scene_regex))
    found.test = share
    out = Path(asked.out)
    images, read = (out / "data").resolve(), {sample.path.parent.resolve() for sample in found.everything()}
    inside = [folder for folder in read if folder == images or images in folder.parents or folder in images.parents]
    if inside:
        raise UserError(f"--out {out}: its images and those of the table in {min(inside)} would lie in one place; "
                        "choose another --out")
    return found


def read_csv(table: Path, root: Path, columns: dict[str, str], asked: set[str],
             expressions: Sequence[str] | None, pattern: SubjectPattern) -> Collection:
    """A table with a header: the columns for file, label and, where there are such, split and subject.

    ``columns`` maps these four to the table's names; those in ``asked`` must exist. Files are relative to ``root``.
    """
    header, rows = read_table(table)
    for key in ("file", "label", *sorted(asked)):
        check_columns(table, header, [columns[key]], f"name the right one with --{key}_column")
    records = [(line, {key: row.get(name, "") for key, name in columns.items()}) for line, row in rows]
    present = sorted({record["label"] for _, record in records if record["label"]}, key=neutral_last)
    labels = asked_labels(present, expressions, f"{table}: has no label")
    found = Collection(tuple(map(one_word, expressions or labels)))
    has_test = False
    for number, record in records:
        split = SPLIT_NAMES.get(record["split"].lower()) if record["split"] else None
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
            subject = one_word(record["subject"]) or pattern.subject(record["file"])
            name = one_word("_".join(part for part in Path(record["file"]).parts if part not in ("..", "/")))
            found.add(split, Sample(name, labels.index(record["label"]), path, subject, pattern.scene(record["file"])))
    if has_test:        # rows without a split train
        found.splits["train"], found.undecided = found.splits["train"] + found.undecided, []
    else:
        found.splits["train"], found.undecided = [], found.splits["train"] + found.undecided
    pattern.check(found.everything())
    return found


TABLE = Importer("csv", "a table with columns for file and label",
                 ("FILE", "the table; its first line names the columns"), "datasets/csv", add_options, read)
