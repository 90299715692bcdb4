"""ExpW: ``label.lst``, a line for each face, and the photographs of several persons in ``origin/``."""

import argparse
from pathlib import Path

from datasets.importing.collection import Collection, Importer, SourceSample, face_name, read_box, source_directory
from datasets.importing.naming import TEST_SHARE, safe_name
from datasets.lists import numbered_lines, shortened, whole_number
from datasets.names import Names, directory_of
from datasets.walking import walk
from utils import UserError

_EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_LIST = "label.lst"


def read(args: argparse.Namespace) -> Collection:
    """Return all listed faces with their boxes, without a split; the list names no persons."""
    source = source_directory(args.source.parent if args.source.is_file() else args.source, args.out)
    files = walk(source)
    lists = [path for path in files.others if path.name.lower() == _LIST]
    if len(lists) != 1:
        raise UserError(f"{source}: not an ExpW tree; it holds {len(lists)} files called {_LIST}, and one is needed")
    lines = list(numbered_lines(lists[0]))
    root = directory_of((line.rsplit(None, 7)[0] for _, line in lines[:100]), files.images) or source
    names = Names.of_files(root, files.images)
    collection = Collection(_EXPRESSIONS, files, len(lines), [names])
    for number, line in lines:
        listed, *values = line.strip().rsplit(None, 7)
        label, where = whole_number(values[-1]) if len(values) == 7 else "", f"{lists[0]}, line {number}"
        if label not in tuple("0123456"):
            raise UserError(f"{where}: \"{shortened(line)}\" is not \"<image> <face> <top> <left> <right> <bottom> "
                            "<confidence> <expression, 0 to 6>\"")
        top, left, right, bottom = values[1:5]
        box = read_box((left, top, right, bottom), False, where)
        name = names.find(listed)
        if name is not None:
            target = face_name(safe_name(Path(name).name), box)
            collection.samples.append(SourceSample(target, int(label), root / name, box=box))
    return collection


EXPW = Importer("expw", "ExpW (label.lst, and photographs in origin/)",
                "the directory that holds label.lst and origin/", read, TEST_SHARE)
