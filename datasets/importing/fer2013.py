"""FER2013, a table of pixels: ``fer2013.csv`` or ``icml_face_data.csv``; with its own labels or those of FER+."""

import argparse
import re
from collections import Counter
from pathlib import Path
from typing import Iterator, NamedTuple, Sequence

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


class ImageRow(NamedTuple):
    """A row of FER2013; ``where`` names its table and line in a message."""

    usage: str
    label: int
    pixels: bytes
    where: str


class VoteRow(NamedTuple):
    """A row of FER+. ``label`` is the one that most of ten people gave, or the reason why there is none.

    ``number`` is that of its Image name, or None if it has none.
    """

    number: int | None
    usage: str
    label: int | str
    where: str


def read(args: argparse.Namespace) -> Collection:
    """Return the images of all rows with the official split; with ``--ferplus`` those on which its voters agree."""
    table, ferplus = args.source, args.ferplus
    if table.is_dir():
        tables = [table / name for name in _TABLES if (table / name).is_file()]
        if not tables:
            raise UserError(f"{table}: holds neither {_TABLES[0]} nor {_TABLES[1]}; name the table (if directories "
                            "hold the pictures: python -m datasets.convert folders)")
        table = tables[0]
    if ferplus and not ferplus.is_file():
        raise UserError(f"--ferplus {ferplus}: no such table")
    source_table(table, args.out, *filter(None, [ferplus]))
    votes = ferplus and _read_votes(ferplus)
    images = list(read_images(table, len(_EXPRESSIONS)))
    if votes is None:
        return collect_rows(images, [image.label for image in images], _EXPRESSIONS, table)
    return collect_rows(images, _labels_by_row(votes, images, ferplus, table), _VOTED, table)


def collect_rows(images: Sequence[ImageRow], labels: Sequence[int | str], expressions: tuple[str, ...], table: Path,
                 name: str = "fer2013") -> Collection:
    """Return the collection of a table's rows, whose images are called ``name_00000.png`` and so on.

    A label that is a text is the reason why the row is left out.
    """
    collection = Collection(expressions, rows=len(images))
    for number, (image, label) in enumerate(zip(images, labels)):
        if isinstance(label, str):
            collection.left_out[label] += 1
        else:
            collection.samples.append(SourceSample(f"{name}_{number:05d}.png", label, table,
                                                   split=_SPLITS[image.usage], pixels=image.pixels))
    return collection


def read_images(table: Path, emotions: int) -> Iterator[ImageRow]:
    """Yield the rows of a table, whose labels are 0 to ``emotions`` - 1. Raises UserError that names a wrong line."""
    columns, rows = read_table(table)
    check_columns(table, columns, ("emotion", "pixels", "Usage"), "it must be fer2013.csv or icml_face_data.csv")
    for line, row in rows:
        where, usage, label = f"{table}, line {line}", row["Usage"], whole_number(row["emotion"])
        if usage not in _SPLITS:
            raise UserError(f"{where}: the Usage \"{shortened(usage)}\" is not one of {', '.join(_SPLITS)}")
        if label not in map(str, range(emotions)):
            raise UserError(f"{where}: the emotion \"{shortened(label)}\" is not one of 0 to {emotions - 1}"
                            + (" (CK+'s ckextended.csv is of the kind ckplus)" if label == "7" else ""))
        yield ImageRow(usage, int(label), _pixels(row["pixels"], where), where)


def _pixels(text: str, where: str) -> bytes:
    values = text.split()
    if len(values) != _SIDE * _SIDE:
        raise UserError(f"{where}: has {len(values)} pixels, not {_SIDE} x {_SIDE} = {_SIDE * _SIDE}")
    try:
        return bytes(map(_GREYS.__getitem__, values))
    except KeyError as error:
        pixel = shortened(error.args[0])
        raise UserError(f"{where}: the pixel \"{pixel}\" is not a whole number from 0 to 255") from None


# ---------------------------------------------------------------------------------------------------- FER+

def _labels_by_row(votes: Sequence[VoteRow], images: Sequence[ImageRow], ferplus: Path, table: Path) -> list[int | str]:
    """Return for each row of FER2013 the label of FER+'s row at the same position, or why there is none.

    The numbers of the Image names are no positions, since FER+ does not count all rows without a name; they only tell
    the order of the rows. Rows that all have a name are put into this order. Raises UserError if others are not in it,
    or if Usages differ.
    """
    if len(votes) != len(images):
        raise UserError(f"--ferplus {ferplus}: has {len(votes)} rows and {table} {len(images)}; they must be the same "
                        "images")
    if all(vote.number is not None for vote in votes):
        votes = sorted(votes, key=lambda vote: vote.number)
    last = -1
    for vote, image in zip(votes, images):
        if vote.number is not None and vote.number <= last:
            raise UserError(f"{vote.where}: fer{vote.number:07d}.png stands behind fer{last:07d}.png, so the rows are "
                            "not in FER2013's order; take FER+'s fer2013new.csv as published")
        if vote.usage != image.usage:
            raise UserError(f"{vote.where}: the Usage is {shortened(vote.usage)}, and {image.usage} in {image.where}; "
                            "they must be the same images")
        last = last if vote.number is None else vote.number
    return [vote.label for vote in votes]


def _read_votes(ferplus: Path) -> list[VoteRow]:
    columns, rows = read_table(ferplus)
    choices = (*_VOTED, *_NO_EXPRESSION)
    check_columns(ferplus, columns, ("Usage", "Image name", *choices), "it must be FER+'s fer2013new.csv")
    return [_vote(row, choices, f"{ferplus}, line {line}") for line, row in rows]


def _vote(row: dict[str, str], choices: tuple[str, ...], where: str) -> VoteRow:
    """Return a row of FER+ with the expression that has most votes, unless another has as many."""
    name = _NAME.fullmatch(row["Image name"])
    if row["Image name"] and not name:
        raise UserError(f"{where}: the Image name \"{shortened(row['Image name'])}\" is not like fer0000000.png")
    votes = Counter({choice: _count(row[choice], choice, where) for choice in choices})
    (winner, most), (_, next_most) = votes.most_common(2)
    label = "on which FER+'s voters tie" if most == next_most else \
        f"that FER+'s voters call {winner}" if winner in _NO_EXPRESSION else _VOTED.index(winner)
    return VoteRow(int(name[1]) if name else None, row["Usage"], label, where)


def _count(text: str, choice: str, where: str) -> int:
    number = whole_number(text)
    if not is_integer(number) or int(number) < 0:
        raise UserError(f"{where}: \"{shortened(text)}\" is not a number of votes for {choice}")
    return int(number)


FER2013 = Importer("fer2013", "FER2013's table of pixels, with FER+'s labels if there are",
                   "fer2013.csv or icml_face_data.csv, or its directory", read,
                   {"--ferplus": dict(type=user_path, metavar="FILE", help="fer2013new.csv of FER+: what most of ten "
                                      "people saw replaces the labels")}, metavar="FILE")
