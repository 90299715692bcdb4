"""RAF-DB's basic or compound expressions, with their official split: ``basic/EmoLabel`` and ``basic/Image``."""

from __future__ import annotations

import argparse
import re

from datasets.importing.collection import Collection, Importer, source_directory
from datasets.layout import DATA_SETS, Sample
from datasets.lists import numbered_lines, shortened, whole_number
from datasets.names import Names, cleaned
from datasets.walking import walk
from utils import UserError

_EXPRESSIONS = {
    "basic": DATA_SETS[3].expressions,
    "compound": ("happily_surprised", "happily_disgusted", "sadly_fearful", "sadly_angry", "sadly_surprised",
                 "sadly_disgusted", "fearfully_angry", "fearfully_surprised", "angrily_surprised", "angrily_disgusted",
                 "disgustedly_surprised")}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this kind."""
    parser.add_argument("--set", choices=tuple(_EXPRESSIONS), default="basic",
                        help="the seven basic or the eleven compound expressions (default: basic)")
    parser.add_argument("--images", choices=("aligned", "original"), default="aligned", help="default: aligned")


def read(asked: argparse.Namespace) -> Collection:
    """Return all listed images, as samples of training and test."""
    source, kind, which = source_directory(asked), asked.images, asked.set
    root = source / which if (source / which).is_dir() else source
    labels, images = root / "EmoLabel" / "list_patition_label.txt", root / "Image" / kind
    for path, there in ((labels, labels.is_file()), (images, images.is_dir())):
        if not there:
            raise UserError(f"{source}: not a RAF-DB tree; {path} is missing")
    found = Collection(_EXPRESSIONS[which], walk(root))
    names = Names(images, [path.relative_to(images).as_posix() for path in found.walk.images
                           if images in path.parents])
    found.names.append(names)
    for number, line in numbered_lines(labels):
        listed, label = (line.strip().rsplit(None, 1) + [""])[:2]
        split = re.match("(train|test)_", cleaned(listed).rpartition("/")[2], re.IGNORECASE)
        label = whole_number(label)
        if not split or label not in map(str, range(1, 1 + len(found.expressions))):
            raise UserError(f"{labels}, line {number}: \"{shortened(line)}\" is not \"train_00001.jpg 5\" with a label "
                            f"from 1 to {len(found.expressions)}; the basic and the compound expressions are chosen "
                            "with --set")
        name = names.find(listed)
        if name is not None:
            target = re.sub(r"_aligned(?=\.\w+$)", "", name, flags=re.IGNORECASE)
            found.add(split[1].lower(), Sample(target, int(label) - 1, images / name))
    return found


RAFDB = Importer("rafdb", "RAF-DB's basic or compound expressions (basic/EmoLabel, basic/Image)",
                 ("SRC", "the directory that holds basic/ or compound/"), "datasets/RAF", add_options, read)
