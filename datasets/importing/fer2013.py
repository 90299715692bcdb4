"""FER2013, a table of pixels: ``fer2013.csv`` or ``icml_face_data.csv``; with its own labels or those of FER+."""

import argparse
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Sequence

from datasets.importing.collection import Collection, Importer, SourceSample, source_table
from datasets.importing.table import check_columns, read_table
from datasets.lists import is_integer, shortened, whole_number
from utils import UserError, user_path

_TABLES = ("fer2013.csv", "icml_face_data.csv")
_SIDE = 48
_EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_VOTED = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
_NO_EXPRESSION = ("unknown", "NF")
_SPLITS = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
_GREYS = {str(grey): grey for grey in range(256)}
_NAME = re.compile(r"fer(\d{1,9})\.png", re.IGNORECASE)


def read(args: argparse.Namespace) -> Collection:
    """Return the images of all rows with the official split; with ``--ferplus`` those on which its voters agree."""
    table, ferplus = args.source, args.ferplus
    if table.is_dir():
        table = next((table / name for name in _TABLES if (table / name).is_file()), None)
        if table is None:
            raise UserError(f"{args.source}: holds neither {_TABLES[0]} nor {_TABLES[1]}; name the table (if "
                            "directories hold the pictures: python -m datasets.convert folders)")
    if ferplus and not ferplus.is_file():
        raise UserError(f"--ferplus {ferplus}: no such table")
    source_table(table, args.out, *filter(None, [ferplus]))
    collection = read_pixels(table, _EXPRESSIONS, _EXPRESSIONS, "fer2013")
    return _with_votes(collection, table, ferplus) if ferplus else collection


def read_pixels(table: Path, numbered: Sequence[str], expressions: tuple[str, ...], name: str) -> Collection:
    """Return all rows of a table, whose labels number the expressions as in ``numbered``.

    The images are called ``name_00000.png`` and so on. Raises UserError that names a wrong line.
    """
    columns, rows = read_table(table)
    check_columns(table, columns, ("emotion", "pixels", "Usage"), "it must be fer2013.csv or icml_face_data.csv")
    collection = Collection(expressions)
    for number, (line, row) in enumerate(rows):
        usage, label, pixels = row["Usage"], whole_number(row["emotion"]), row["pixels"].split()
        unknown = min(set(pixels) - _GREYS.keys(), default="")
        faults = (
            (usage not in _SPLITS, f"the Usage \"{shortened(usage)}\" is not one of {', '.join(_SPLITS)}"),
            (label not in map(str, range(len(numbered))), f"the emotion \"{shortened(label)}\" is not one of 0 to "
             f"{len(numbered) - 1}" + (" (CK+'s ckextended.csv is of the kind ckplus)" if label == "7" else "")),
            (len(pixels) != _SIDE * _SIDE, f"has {len(pixels)} pixels, not {_SIDE} x {_SIDE} = {_SIDE * _SIDE}"),
            (unknown, f"the pixel \"{shortened(unknown)}\" is not a whole number from 0 to 255"))
        for is_wrong, fault in faults:
            if is_wrong:
                raise UserError(f"{table}, line {line}: {fault}")
        collection.samples.append(SourceSample(
            f"{name}_{number:05d}.png", expressions.index(numbered[int(label)]), table, split=_SPLITS[usage],
            pixels=bytes(map(_GREYS.__getitem__, pixels))))
    collection.rows = len(collection.samples)
    return collection


def _with_votes(images: Collection, table: Path, ferplus: Path) -> Collection:
    """Return the images with the expressions that most of FER+'s ten voters gave them.

    The numbers of the Image names are no positions, since FER+ does not count all rows without a name; they only tell
    the order of the rows. Rows that all have a name are put into this order. Raises UserError if others are not in it,
    or if number or Usages of the rows differ from FER2013's.
    """
    columns, rows = read_table(ferplus)
    check_columns(ferplus, columns, ("Usage", "Image name", *_VOTED, *_NO_EXPRESSION),
                  "it must be FER+'s fer2013new.csv")
    votes = [(*_read_vote(row, where := f"{ferplus}, line {line}"), row["Usage"], where) for line, row in rows]
    if len(votes) != images.rows:
        raise UserError(f"--ferplus {ferplus}: has {len(votes)} rows and {table} {images.rows}; they must be the same "
                        "images")
    if all(number is not None for number, *_ in votes):
        votes.sort(key=lambda vote: vote[0])
    collection, last = Collection(_VOTED, rows=images.rows), -1
    for (number, counts, usage, where), sample in zip(votes, images.samples):
        if number is not None and number <= last:
            raise UserError(f"{where}: fer{number:07d}.png stands behind fer{last:07d}.png, so the rows are not in "
                            "FER2013's order; take FER+'s fer2013new.csv as published")
        if _SPLITS.get(usage) != sample.split:
            raise UserError(f"{where}: the Usage is {shortened(usage)}, and that of {sample.name} in {table} is "
                            "another; they must be the same images")
        last = last if number is None else number
        (winner, most), (_, next_most) = counts.most_common(2)
        if most == next_most:
            collection.left_out["on which FER+'s voters tie"] += 1
        elif winner in _NO_EXPRESSION:
            collection.left_out[f"that FER+'s voters call {winner}"] += 1
        else:
            collection.samples.append(replace(sample, label=_VOTED.index(winner)))
    return collection


def _read_vote(row: dict[str, str], where: str) -> tuple[int | None, Counter]:
    """Return the number of a row's Image name, None if it is empty, and the number of votes for each choice.

    Raises UserError if the name has no number, or if the votes are none.
    """
    name, match = row["Image name"], _NAME.fullmatch(row["Image name"])
    if name and not match:
        raise UserError(f"{where}: the Image name \"{shortened(name)}\" is not like fer0000000.png")
    votes = {choice: whole_number(row[choice]) for choice in (*_VOTED, *_NO_EXPRESSION)}
    if wrong := [choice for choice, number in votes.items() if not is_integer(number) or int(number) < 0]:
        raise UserError(f"{where}: \"{shortened(row[wrong[0]])}\" is not a number of votes for {wrong[0]}")
    return int(match[1]) if match else None, Counter({choice: int(number) for choice, number in votes.items()})


FER2013 = Importer("fer2013", "FER2013's table of pixels, with FER+'s labels if there are",
                   "fer2013.csv or icml_face_data.csv, or its directory", read,
                   {"--ferplus": dict(type=user_path, metavar="FILE", help="fer2013new.csv of FER+: what most of ten "
                                      "people saw replaces the labels")}, metavar="FILE")
