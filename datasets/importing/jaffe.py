"""JAFFE: ``KA.AN1.39.tiff``."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from datasets.importing import naming
from datasets.importing.collection import Collection, Importer, files_below, source_directory
from datasets.layout import Sample

_EXPRESSIONS = {"AN": "anger", "DI": "disgust", "FE": "fear", "HA": "happiness", "SA": "sadness", "SU": "surprise",
                "NE": "neutral"}
_NAME = re.compile(r"([A-Z]{2})\.([A-Z]{2})\d+\.\d+\.\w+", re.IGNORECASE)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The option of this kind."""
    naming.add_test_subjects(parser)


def read(asked: argparse.Namespace) -> Collection:
    """What was asked for, as samples without a split."""
    found = read_jaffe(source_directory(asked))
    found.test = naming.share_or_subjects(asked.test_subjects)
    return found


def read_jaffe(source: Path) -> Collection:
    """All images below a directory. All of a person were taken in one studio: the scene is the person."""
    found, codes = Collection(tuple(_EXPRESSIONS.values())), tuple(_EXPRESSIONS)
    for path in files_below(source):
        match = _NAME.fullmatch(path.name)
        if not match or match[2].upper() not in codes:
            found.left_out["not named like KA.AN1.39.tiff"] += 1
        else:
            subject = match[1].upper()
            found.add(None, Sample(path.name, codes.index(match[2].upper()), path, subject, subject))
    return found


JAFFE = Importer("jaffe", "JAFFE (KA.AN1.39.tiff, ...)", ("SRC", "the directory of its images"), "datasets/jaffe",
                 add_options, read)
