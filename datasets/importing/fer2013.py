"""FER2013, a table of pixels: ``fer2013.csv`` or ``icml_face_data.csv``; with FER+'s votes instead of its labels."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from pathlib import Path
from typing import Iterator, NamedTuple, Sequence

from datasets.importing.collection import Collection, Importer, PixelSample, source_table
from datasets.importing.rows import check_columns, read_table
from datasets.lists import is_integer, shortened, whole_number
from utils import UserError

TABLES = ("fer2013.csv", "icml_face_data.csv")
SIDE = 48
_EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_VOTED = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
_NO_EXPRESSION = ("unknown", "NF")
_SPLITS = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
_GREYS = {str(grey): grey for grey in range(256)}
_NAME = re.compile(r"fer(\d{1,9})\.png", re.IGNORECASE)


class Vote(NamedTuple):
    """What ten people said of an image: a label, or else why there is none. ``number`` is the image's row, from 0."""

    number: int | None
    usage: str
    label: int | None
    reason: str
    where: str


class Image(NamedTuple):
    """A row of the table."""

    usage: str
    label: int
    pixels: bytes
    where: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """The option of this kind."""
    parser.add_argument("--ferplus", metavar="FILE", help="fer2013new.csv of FER+: what most of ten people saw "
                        "replaces the labels")


def read(asked: argparse.Namespace) -> Collection:
    """What was asked for, with the official split."""
    source = Path(asked.source)
    if source.is_dir():
        inside = [source / name for name in TABLES if (source / name).is_file()]
        if not inside:
            raise UserError(f"{source}: holds neither {TABLES[0]} nor {TABLES[1]}; name the table (if directories hold "
                            "the pictures: python -m datasets.convert folders)")
        asked.source = str(inside[0])
    ferplus = Path(asked.ferplus) if asked.ferplus else None
    if ferplus and not ferplus.is_file():
        raise UserError(f"--ferplus {ferplus}: no such table")
    return read_fer2013(source_table(asked, *filter(None, [ferplus])), ferplus)


def read_fer2013(table: Path, ferplus: Path | None = None) -> Collection:
    """Return all rows of the table; with ``ferplus`` those on whose expression most voters agree."""
    votes = read_votes(ferplus) if ferplus else None
    images = list(read_images(table, len(_EXPRESSIONS)))
    if votes is None:
        return collected(images, [image.label for image in images], _EXPRESSIONS, table)
    votes = by_row(votes, images, ferplus, table)
    unnamed = Vote(None, "", None, "that no row of FER+ names", "")
    found = [votes.get(number, unnamed) for number in range(len(images))]
    return collected(images, [vote.reason if vote.label is None else vote.label for vote in found], _VOTED, table)


def collected(images: Sequence[Image], labels: Sequence[int | str], expressions: tuple[str, ...], table: Path,
              name: str = "fer2013") -> Collection:
    """Collect the rows of a table of pixels, called ``name_00000.png`` and so on.

    A label that is a text is the reason for which the row is left out.
    """
    found = Collection(expressions, rows=len(images))
    for number, (image, label) in enumerate(zip(images, labels)):
        if isinstance(label, str):
            found.left_out[label] += 1
        else:
            found.add(_SPLITS[image.usage], PixelSample(f"{name}_{number:05d}.png", label, table,
                                                        pixels=image.pixels))
    return found


def read_images(table: Path, emotions: int) -> Iterator[Image]:
    """The rows of the table, one after the other; UserError names the line of a mistake."""
    columns, rows = read_table(table)
    check_columns(table, columns, ("emotion", "pixels", "Usage"), "it must be fer2013.csv or icml_face_data.csv")
    for line, row in rows:
        where, usage, label = f"{table}, line {line}", row["Usage"], whole_number(row["emotion"])
        if usage not in _SPLITS:
            raise UserError(f"{where}: the Usage \"{shortened(usage)}\" is not one of {', '.join(_SPLITS)}")
        if label not in map(str, range(emotions)):
            raise UserError(f"{where}: the emotion \"{shortened(label)}\" is not one of 0 to {emotions - 1}"
                            + (" (CK+'s ckextended.csv is of the kind ckplus)" if label == "7" else ""))
        yield Image(usage, int(label), _pixels(row["pixels"], where), where)


def by_row(votes: Sequence[Vote], images: Sequence[Image], ferplus: Path, table: Path) -> dict[int, Vote]:
    """Map the rows of FER2013 to those of FER+ whose "Image name" means them.

    Where all names stand at their places, a row without a name means its own place; elsewhere it means no row. Raises
    UserError if two rows mean one, or a row's Usage is not its image's.
    """
    if len(votes) != len(images):
        raise UserError(f"--ferplus {ferplus}: has {len(votes)} rows and {table} {len(images)}; they must be the same "
                        "images")
    in_order = all(vote.number in (None, place) for place, vote in enumerate(votes))
    rows: dict[int, Vote] = {}
    for place, vote in enumerate(votes):
        number = place if in_order else vote.number
        if number is None and vote.label is not None:
            raise UserError(f"{vote.where}: has no Image name, and the rows are not in their order; take FER+'s "
                            "fer2013new.csv as published")
        if number is None:
            continue
        if number >= len(images) or number in rows:
            fault = f"{rows[number].where} has it too" if number in rows else f"{table} has no such row"
            raise UserError(f"{vote.where}: the Image name is fer{number:07d}.png, and {fault}; take FER+'s "
                            "fer2013new.csv as published")
        if vote.usage != images[number].usage:
            raise UserError(f"{vote.where}: the Usage is {shortened(vote.usage)}, and {images[number].usage} in "
                            f"{images[number].where}; they must be the same images")
        rows[number] = vote
    return rows


def read_votes(ferplus: Path) -> list[Vote]:
    """The rows of FER+: the expression with most votes, unless another has as many."""
    columns, rows = read_table(ferplus)
    choices = (*_VOTED, *_NO_EXPRESSION)
    check_columns(ferplus, columns, ("Usage", "Image name", *choices), "it must be FER+'s fer2013new.csv")
    return [_vote(row, choices, f"{ferplus}, line {line}") for line, row in rows]


def _vote(row: dict[str, str], choices: tuple[str, ...], where: str) -> Vote:
    name = _NAME.fullmatch(row["Image name"])
    if row["Image name"] and not name:
        raise UserError(f"{where}: the Image name \"{shortened(row['Image name'])}\" is not like fer0000000.png")
    votes = Counter({choice: _count(row[choice], choice, where) for choice in choices})
    (winner, most), (_, next_most) = votes.most_common(2)
    reason = "on which FER+'s voters tie" if most == next_most else \
        f"that FER+'s voters call {winner}" if winner in _NO_EXPRESSION else ""
    return Vote(int(name[1]) if name else None, row["Usage"], None if reason else _VOTED.index(winner), reason, where)


def _count(text: str, choice: str, where: str) -> int:
    number = whole_number(text)
    if not is_integer(number) or int(number) < 0:
        raise UserError(f"{where}: \"{shortened(text)}\" is no number of votes for {choice}")
    return int(number)


def _pixels(text: str, where: str) -> bytes:
    words = text.split()
    if len(words) != SIDE * SIDE:
        raise UserError(f"{where}: has {len(words)} pixels, not {SIDE} x {SIDE} = {SIDE * SIDE}")
    try:
        return bytes(map(_GREYS.__getitem__, words))
    except KeyError as error:
        raise UserError(f"{where}: the pixel \"{shortened(error.args[0])}\" is no whole number from 0 to 255") from None


FER2013 = Importer("fer2013", "FER2013's table of pixels, with FER+'s labels if there are",
                   ("FILE", "fer2013.csv or icml_face_data.csv, or its directory"), "datasets/fer2013", add_options,
                   read)
