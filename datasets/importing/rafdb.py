"""RAF-DB's basic or compound expressions, with their official split: ``basic/EmoLabel`` and ``basic/Image``."""

import argparse
import re

from datasets.importing.collection import Collection, FoundSample, Importer, source_directory
from datasets.layout import DATA_SETS
from datasets.lists import numbered_lines, shortened, whole_number
from datasets.names import Names, cleaned
from datasets.walking import walk
from utils import UserError

_EXPRESSIONS = {
    "basic": DATA_SETS[3].expressions,
    "compound": ("happily_surprised", "happily_disgusted", "sadly_fearful", "sadly_angry", "sadly_surprised",
                 "sadly_disgusted", "fearfully_angry", "fearfully_surprised", "angrily_surprised", "angrily_disgusted",
                 "disgustedly_surprised")}


def read(asked: argparse.Namespace) -> Collection:
    """Return all listed images, in training and test."""
    source = source_directory(asked.source, asked.out)
    root = source / asked.set if (source / asked.set).is_dir() else source
    labels, images = root / "EmoLabel" / "list_patition_label.txt", root / "Image" / asked.images
    for path, there in ((labels, labels.is_file()), (images, images.is_dir())):
        if not there:
            raise UserError(f"{source}: not a RAF-DB tree; {path} is missing")
    files = walk(root)
    names = Names.of_files(images, files.images)
    found = Collection(_EXPRESSIONS[asked.set], files, names=[names])
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
            found.samples.append(FoundSample(target, int(label) - 1, images / name, split=split[1].lower()))
    return found


RAFDB = Importer(
    "rafdb", "RAF-DB's basic or compound expressions (basic/EmoLabel, basic/Image)",
    "the directory that holds basic/ or compound/", read,
    {"--set": dict(choices=tuple(_EXPRESSIONS), default="basic",
                   help="the seven basic or the eleven compound expressions (default: basic)"),
     "--images": dict(choices=("aligned", "original"), default="aligned", help="default: aligned")},
    DATA_SETS[3].directory)
