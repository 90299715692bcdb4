"""JAFFE: ``KA.AN1.39.tiff``."""

from __future__ import annotations

import argparse
import re

from datasets.importing import naming
from datasets.importing.collection import Collection, Importer, source_directory
from datasets.layout import Sample
from datasets.walking import walk

_EXPRESSIONS = {"AN": "anger", "DI": "disgust", "FE": "fear", "HA": "happiness", "SA": "sadness", "SU": "surprise",
                "NE": "neutral"}
_NAME = re.compile(rf"([A-Z]{{2}})\.({'|'.join(_EXPRESSIONS)})(\d+\.\d+)\.\w+", re.IGNORECASE)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The option of this kind."""
    naming.add_test_subjects(parser)


def read(asked: argparse.Namespace) -> Collection:
    """Return all images, as samples without a split; a person was photographed in one studio, which is the scene."""
    found, codes = Collection(tuple(_EXPRESSIONS.values()), walk(source_directory(asked))), tuple(_EXPRESSIONS)
    for path, match in found.images_named(_NAME, "KA.AN1.39.tiff"):
        subject = match[1].upper()
        found.add(None, Sample(path.name, codes.index(match[2].upper()), path, subject, subject))
    return found


JAFFE = Importer("jaffe", "JAFFE (KA.AN1.39.tiff, ...)", ("SRC", "the directory of its images"), "datasets/jaffe",
                 add_options, read)
