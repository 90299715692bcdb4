"""ExpW: ``label.lst``, a line for each face, and the photographs of several persons in ``origin/``."""

import argparse
from pathlib import Path

from datasets.importing.collection import Collection, FoundSample, Importer, face_name, read_box, source_directory
from datasets.importing.naming import TEST_SHARE, one_word
from datasets.lists import numbered_lines, shortened, whole_number
from datasets.names import Names, directory_of
from datasets.walking import walk
from utils import UserError

_EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_LIST = "label.lst"


def read(asked: argparse.Namespace) -> Collection:
    """Return all listed faces with their boxes, without a split; the list names no persons."""
    source = source_directory(asked.source.parent if asked.source.is_file() else asked.source, asked.out)
    files = walk(source)
    labels = [path for path in files.others if path.name.lower() == _LIST]
    if len(labels) != 1:
        raise UserError(f"{source}: not an ExpW tree; it holds {len(labels)} files called {_LIST}, and one is needed")
    lines = list(numbered_lines(labels[0]))
    root = directory_of((line.rsplit(None, 7)[0] for _, line in lines[:100]), files.images) or source
    names = Names.of_files(root, files.images)
    found = Collection(_EXPRESSIONS, files, len(lines), [names])
    for number, line in lines:
        listed, *words = line.strip().rsplit(None, 7)
        label = whole_number(words[-1]) if len(words) == 7 else ""
        if label not in tuple("0123456"):
            raise UserError(f"{labels[0]}, line {number}: \"{shortened(line)}\" is not \"<image> <face> <top> <left> "
                            "<right> <bottom> <confidence> <expression, 0 to 6>\"")
        top, left, right, bottom = words[1:5]
        box = read_box((left, top, right, bottom), False, f"{labels[0]}, line {number}")
        name = names.find(listed)
        if name is not None:
            target = face_name(one_word(Path(name).name), box)
            found.samples.append(FoundSample(target, int(label), root / name, box=box))
    return found


EXPW = Importer("expw", "ExpW (label.lst, and photographs in origin/)",
                "the directory that holds label.lst and origin/", read, TEST_SHARE)
