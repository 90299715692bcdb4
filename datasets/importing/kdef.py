"""KDEF: ``AF01/AF01ANS.JPG``, session A or B, F or M, person, expression, angle."""

from __future__ import annotations

import argparse
import re

from datasets.importing import naming
from datasets.importing.collection import Collection, Importer, source_directory
from datasets.layout import Sample
from datasets.walking import walk

ANGLES = ("S", "HL", "HR", "FL", "FR")
_EXPRESSIONS = {"AF": "afraid", "AN": "angry", "DI": "disgusted", "HA": "happy", "SA": "sad", "SU": "surprised",
                "NE": "neutral"}
_NAME = re.compile(rf"([AB])([FM](?:0[1-9]|[12]\d|3[0-5]))({'|'.join(_EXPRESSIONS)})({'|'.join(ANGLES)})\.\w+",
                   re.IGNORECASE)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this kind."""
    parser.add_argument("--angles", nargs="+", choices=ANGLES, default=["S"], metavar="ANGLE",
                        help=f"of {' '.join(ANGLES)}: straight, half and full left and right (default: S)")
    naming.add_test_subjects(parser)


def read(asked: argparse.Namespace) -> Collection:
    """Return all images of some angles, as samples without a split; the scene is session and angle."""
    found, codes = Collection(tuple(_EXPRESSIONS.values()), walk(source_directory(asked))), tuple(_EXPRESSIONS)
    for path, match in found.images_named(_NAME, "AF01ANS.JPG"):
        session, subject, code, angle = (part.upper() for part in match.groups())
        if angle in asked.angles:
            found.add(None, Sample(path.name, codes.index(code), path, subject, f"{session}_{angle}"))
        else:
            found.leave_out("of another angle", path)
    return found


KDEF = Importer("kdef", "KDEF (AF01/AF01ANS.JPG, ...)", ("SRC", "the directory of its images"), "datasets/kdef",
                add_options, read)
