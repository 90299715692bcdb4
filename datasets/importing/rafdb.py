"""RAF-DB's basic expressions, with their official split: ``basic/EmoLabel`` and ``basic/Image``."""

from __future__ import annotations

import argparse
from pathlib import Path

from datasets.importing.collection import Collection, Importer, source_directory
from datasets.layout import DATA_SETS, Sample
from datasets.lists import read_lines, shortened
from utils import UserError


def add_options(parser: argparse.ArgumentParser) -> None:
    """The option of this kind."""
    parser.add_argument("--images", choices=("aligned", "original"), default="aligned", help="default: aligned")


def read(asked: argparse.Namespace) -> Collection:
    """What was asked for, as samples of training and test."""
    return read_rafdb(source_directory(asked), asked.images)


def read_rafdb(source: Path, kind: str) -> Collection:
    """All listed images; ``kind`` is ``aligned`` or ``original``."""
    root = source / "basic" if (source / "basic").is_dir() else source
    labels, images = root / "EmoLabel" / "list_patition_label.txt", root / "Image" / kind
    for path, there in ((labels, labels.is_file()), (images, images.is_dir())):
        if not there:
            raise UserError(f"{source}: not a RAF-DB tree; {path} is missing")
    found = Collection(DATA_SETS[3].expressions)
    present = {path.name for path in images.iterdir()}
    for number, line in enumerate(read_lines(labels), 1):
        words = line.split()
        if not words:
            continue
        split = words[0].split("_")[0]
        if len(words) != 2 or split not in ("train", "test") or words[1] not in tuple("1234567") \
                or "." not in words[0]:
            raise UserError(f"{labels}, line {number}: \"{shortened(line)}\" is not \"train_00001.jpg 5\"")
        stem, ending = words[0].rsplit(".", 1)
        file_name = f"{stem}_aligned.{ending}" if kind == "aligned" else words[0]
        if file_name in present:
            found.add(split, Sample(words[0], int(words[1]) - 1, images / file_name))
        else:
            found.left_out[f"listed but missing in {images}"] += 1
    return found


RAFDB = Importer("rafdb", "RAF-DB's basic expressions (basic/EmoLabel, basic/Image)",
                 ("SRC", "the directory that holds basic/"), "datasets/RAF", add_options, read)
