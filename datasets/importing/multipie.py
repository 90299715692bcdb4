"""Multi-PIE by its file names, in any tree: ``PPP_SS_RR_CCC_LL.png``, also as crops ``PPP_SS_RR_CCC_LL_crop_128.png``.

A name holds person, session, recording, camera and light (METHOD §6).
"""

from __future__ import annotations

import argparse
import re

from datasets.importing import naming
from datasets.importing.collection import Collection, Importer, source_directory
from datasets.layout import DATA_SETS, Sample
from datasets.walking import walk
from utils import UserError

_EXPRESSIONS = {        # by session and recording
    (1, 1): "neutral", (2, 1): "neutral", (3, 1): "neutral", (4, 1): "neutral", (4, 3): "neutral",
    (1, 2): "smile", (3, 2): "smile", (2, 2): "surprise", (2, 3): "squint", (3, 3): "disgust", (4, 2): "scream"}
_NAME = re.compile(r"(\d{3})_(\d\d)_(\d\d)_(\d{3})_(\d\d)(?:_[a-z]\w*)?\.\w+", re.IGNORECASE)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this kind."""
    parser.add_argument("--cameras", nargs="+", default=["05_1"], metavar="CC_C", help="default: 05_1, frontal")
    parser.add_argument("--illuminations", nargs="+", default=["07"], metavar="LL", help="default: 07")
    naming.add_test_subjects(parser)


def read(asked: argparse.Namespace) -> Collection:
    """Return all images of some cameras and illuminations, as samples without a split.

    The expression follows from session and recording. The scene is session, camera and illumination.
    """
    source = source_directory(asked)
    for word in asked.cameras:
        if not re.fullmatch(r"\d\d_?\d", word):
            raise UserError(f"--cameras {word}: a camera is named like 05_1")
    for word in asked.illuminations:
        if not re.fullmatch(r"\d\d", word):
            raise UserError(f"--illuminations {word}: an illumination is named by two digits, 00 to 19")
    chosen, expressions = {word.replace("_", "") for word in asked.cameras}, DATA_SETS[2].expressions
    found = Collection(expressions, walk(source))
    for path, match in found.images_named(_NAME, "001_01_01_051_07.png"):
        subject, session, recording, camera, illumination = match.groups()
        expression = _EXPRESSIONS.get((int(session), int(recording)))
        if camera not in chosen:
            found.leave_out("of another camera", path)
        elif illumination not in asked.illuminations:
            found.leave_out("of another illumination", path)
        elif expression is None:
            found.leave_out("of a recording without a known expression", path)
        else:
            scene = f"s{int(session)}_{camera}_{illumination}"
            found.add(None, Sample(path.name, expressions.index(expression), path, subject, scene))
    if set(found.left_out) <= {"not named like 001_01_01_051_07.png"} and not found.undecided:
        raise UserError(f"{source}: not a Multi-PIE tree; no image is named like 001_01_01_051_07.png or "
                        "001_01_01_051_07_crop_128.png")
    return found


MULTIPIE = Importer("multipie", "Multi-PIE, as published (session01/multiview/...) or as crops of 128 pixels",
                    ("SRC", "the directory that holds its images, in any subdirectories"), "datasets/multiple",
                    add_options, read)
