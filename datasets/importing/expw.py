"""ExpW: ``label.lst``, a line for each face, and the photographs of several persons in ``origin/``."""

from __future__ import annotations

import argparse
from pathlib import Path

from datasets.importing import naming
from datasets.importing.boxes import boxed, read_box
from datasets.importing.collection import Collection, Importer, source_directory
from datasets.importing.naming import one_word
from datasets.layout import Sample
from datasets.lists import numbered_lines, shortened, whole_number
from datasets.names import Names, directory_of
from datasets.walking import walk
from utils import UserError

_EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_LIST = "label.lst"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The option of this kind."""
    naming.add_test_share(parser)


def read(asked: argparse.Namespace) -> Collection:
    """Return all listed faces with their boxes, as samples without a split; the list names no persons."""
    if Path(asked.source).is_file():
        asked.source = str(Path(asked.source).parent)
    source = source_directory(asked)
    files = walk(source)
    labels = [path for path in files.others if path.name.lower() == _LIST]
    if len(labels) != 1:
        raise UserError(f"{source}: not an ExpW tree; it holds {len(labels)} files called {_LIST}, and one is needed")
    lines = list(numbered_lines(labels[0]))
    root = directory_of((line.rsplit(None, 7)[0] for _, line in lines[:100]), files.images) or source
    names = Names(root, [path.relative_to(root).as_posix() for path in files.images if root in path.parents])
    found = Collection(_EXPRESSIONS, files, names=[names])
    for number, line in lines:
        listed, *words = line.strip().rsplit(None, 7)
        label = whole_number(words[-1]) if len(words) == 7 else ""
        if label not in tuple("0123456"):
            raise UserError(f"{labels[0]}, line {number}: \"{shortened(line)}\" is not \"<image> <face> <top> <left> "
                            "<right> <bottom> <confidence> <expression, 0 to 6>\"")
        top, left, right, bottom = words[1:5]
        box = read_box((left, top, right, bottom), False, f"{labels[0]}, line {number}")
        found.rows += 1
        name = names.find(listed)
        if name is not None:
            found.add(None, boxed(Sample(one_word(Path(name).name), int(label), root / name), box))
    return found


EXPW = Importer("expw", "ExpW (label.lst, and photographs in origin/)",
                ("SRC", "the directory that holds label.lst and origin/"), "datasets/expw", add_options, read)
