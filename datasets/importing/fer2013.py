"""FER2013, a table of pixels: ``fer2013.csv`` or ``icml_face_data.csv``; with FER+'s votes instead of its labels."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Iterator, NamedTuple, Sequence

from datasets.importing.collection import Collection, Importer, PixelSample, source_table
from datasets.importing.rows import check_columns, read_table
from datasets.lists import is_integer, shortened
from utils import UserError

TABLES = ("fer2013.csv", "icml_face_data.csv")
SIDE = 48
_EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_VOTED = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
_NO_EXPRESSION = ("unknown", "NF")
_SPLITS = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
_GREYS = {str(grey): grey for grey in range(256)}


class Vote(NamedTuple):
    """What ten people said of an image: a label, or else why there is none."""

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
            raise UserError(f"{source}: holds neither {TABLES[0]} nor {TABLES[1]}; name the table")
        asked.source = str(inside[0])
    ferplus = Path(asked.ferplus) if asked.ferplus else None
    if ferplus and not ferplus.is_file():
        raise UserError(f"--ferplus {ferplus}: no such table")
    return read_fer2013(source_table(asked, *filter(None, [ferplus])), ferplus)


def read_fer2013(table: Path, ferplus: Path | None = None) -> Collection:
    """All rows of the table, with their pixels; with ``ferplus`` those on whose expression most voters agree."""
    votes = read_votes(ferplus) if ferplus else None
    images = list(read_images(table))
    if votes is not None:
        _check_same(votes, images, ferplus, table)
    found = Collection(_EXPRESSIONS if votes is None else _VOTED)
    for number, (image, vote) in enumerate(zip(images, votes or images)):
        if vote.label is None:
            found.left_out[vote.reason] += 1
        else:
            found.add(_SPLITS[image.usage], PixelSample(f"fer2013_{number:05d}.png", vote.label, table,
                                                        pixels=image.pixels))
    return found


def read_images(table: Path) -> Iterator[Image]:
    """The rows of the table, one after the other; UserError names the line of a mistake."""
    columns, rows = read_table(table)
    check_columns(table, columns, ("emotion", "pixels", "Usage"), "it must be fer2013.csv or icml_face_data.csv")
    for line, row in rows:
        where, usage, label = f"{table}, line {line}", row["Usage"], row["emotion"]
        if usage not in _SPLITS:
            raise UserError(f"{where}: the Usage \"{shortened(usage)}\" is not one of {', '.join(_SPLITS)}")
        if label not in tuple("0123456"):
            raise UserError(f"{where}: the emotion \"{shortened(label)}\" is not one of 0 to 6")
        yield Image(usage, int(label), _pixels(row["pixels"], where), where)


def _check_same(votes: Sequence[Vote], images: Sequence[Image], ferplus: Path, table: Path) -> None:
    advice = "they must be the same images in the same order"
    if len(votes) != len(images):
        raise UserError(f"--ferplus {ferplus}: has {len(votes)} rows and {table} {len(images)}; {advice}")
    for vote, image in zip(votes, images):
        if vote.usage != image.usage:
            raise UserError(f"{vote.where}: the Usage is {shortened(vote.usage)}, and {image.usage} in {image.where}; "
                            f"{advice}")


def read_votes(ferplus: Path) -> list[Vote]:
    """The row of every image in FER+: the expression with most votes, unless another has as many."""
    columns, rows = read_table(ferplus)
    choices = (*_VOTED, *_NO_EXPRESSION)
    check_columns(ferplus, columns, ("Usage", "Image name", *choices), "it must be FER+'s fer2013new.csv")
    return [_vote(row, choices, f"{ferplus}, line {line}") for line, row in rows]


def _vote(row: dict[str, str], choices: tuple[str, ...], where: str) -> Vote:
    for name in choices:
        if not is_integer(row[name]) or int(row[name]) < 0:
            raise UserError(f"{where}: \"{shortened(row[name])}\" is no number of votes for {name}")
    votes = Counter({name: int(row[name]) for name in choices})
    (winner, most), (_, next_most) = votes.most_common(2)
    if most == next_most:
        return Vote(row["Usage"], None, "on which FER+'s voters tie", where)
    if winner in _NO_EXPRESSION:
        return Vote(row["Usage"], None, f"that FER+'s voters call {winner}", where)
    return Vote(row["Usage"], _VOTED.index(winner), "", where)


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
