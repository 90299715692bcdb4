"""RAF-DB's basic or compound expressions, with their official split: ``basic/EmoLabel`` and ``basic/Image``."""

import argparse
import re

from datasets.importing.collection import Collection, Importer, SourceSample, source_directory
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


def read(args: argparse.Namespace) -> Collection:
    """Return all listed images with the official split into training and test."""
    source = source_directory(args.source, args.out)
    root = source / args.set if (source / args.set).is_dir() else source
    labels, images = root / "EmoLabel" / "list_patition_label.txt", root / "Image" / args.images
    for path, exists in ((labels, labels.is_file()), (images, images.is_dir())):
        if not exists:
            raise UserError(f"{source}: not a RAF-DB tree; {path} is missing")
    files = walk(root)
    names = Names.of_files(images, files.images)
    collection = Collection(_EXPRESSIONS[args.set], files, names=[names])
    for number, line in numbered_lines(labels):
        listed, label = (line.strip().rsplit(None, 1) + [""])[:2]
        split = re.match("(train|test)_", cleaned(listed).rpartition("/")[2], re.IGNORECASE)
        label = whole_number(label)
        if not split or label not in map(str, range(1, 1 + len(collection.expressions))):
            raise UserError(f"{labels}, line {number}: \"{shortened(line)}\" is not \"train_00001.jpg 5\" with a label "
                            f"from 1 to {len(collection.expressions)}; the basic and the compound expressions are "
                            "chosen with --set")
        name = names.find(listed)
        if name is not None:
            target = re.sub(r"_aligned(?=\.\w+$)", "", name, flags=re.IGNORECASE)
            collection.samples.append(SourceSample(target, int(label) - 1, images / name, split=split[1].lower()))
    return collection


RAFDB = Importer(
    "rafdb", "RAF-DB's basic or compound expressions (basic/EmoLabel, basic/Image)",
    "the directory that holds basic/ or compound/", read,
    {"--set": dict(choices=tuple(_EXPRESSIONS), default="basic",
                   help="the seven basic or the eleven compound expressions (default: basic)"),
     "--images": dict(choices=("aligned", "original"), default="aligned", help="default: aligned")},
    DATA_SETS[3].directory)
