"""Multi-PIE: ``session0S/multiview/PPP/RR/CC_C/PPP_SS_RR_CCC_LL.png`` (METHOD §6)."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Sequence

from datasets.importing import naming
from datasets.importing.collection import Collection, Importer, source_directory
from datasets.layout import DATA_SETS, Sample
from utils import UserError

_EXPRESSIONS = {        # by session and recording
    (1, 1): "neutral", (2, 1): "neutral", (3, 1): "neutral", (4, 1): "neutral", (4, 3): "neutral",
    (1, 2): "smile", (3, 2): "smile", (2, 2): "surprise", (2, 3): "squint", (3, 3): "disgust", (4, 2): "scream"}
_NAME = re.compile(r"(\d{3})_(\d\d)_(\d\d)_(\d{3})_(\d\d)\.(png|jpe?g)", re.IGNORECASE)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this kind."""
    parser.add_argument("--cameras", nargs="+", default=["05_1"], metavar="CC_C", help="default: 05_1, frontal")
    parser.add_argument("--illuminations", nargs="+", default=["07"], metavar="LL", help="default: 07")
    naming.add_test_subjects(parser)


def read(asked: argparse.Namespace) -> Collection:
    """What was asked for, as samples without a split."""
    found = read_multipie(source_directory(asked), asked.cameras, asked.illuminations)
    found.test = naming.share_or_subjects(asked.test_subjects)
    return found


def read_multipie(source: Path, cameras: Sequence[str], illuminations: Sequence[str]) -> Collection:
    """All images of some cameras and illuminations, as samples without a split.

    The expression follows from session and recording. The scene is session, camera and illumination.
    """
    root = next((place for place in (source, source / "data") if any(place.glob("session0[1-4]/multiview"))), None)
    if root is None:
        raise UserError(f"{source}: not a Multi-PIE tree; it needs session01/multiview to session04/multiview")
    for word in cameras:
        if not re.fullmatch(r"\d\d_?\d", word):
            raise UserError(f"--cameras {word}: a camera is named like 05_1")
    for word in illuminations:
        if not re.fullmatch(r"\d\d", word):
            raise UserError(f"--illuminations {word}: an illumination is named by two digits, 00 to 19")
    expressions = DATA_SETS[2].expressions
    found = Collection(expressions)
    for camera in sorted({word.replace("_", "") for word in cameras}):
        for path in sorted(root.glob(f"session0[1-4]/multiview/*/*/{camera[:2]}_{camera[2]}/*")):
            match = _NAME.fullmatch(path.name)
            if not match:
                found.left_out["not named like 001_01_01_051_07.png"] += 1
                continue
            subject, session, recording, digits, illumination = match.groups()[:5]
            expression = _EXPRESSIONS.get((int(session), int(recording)))
            if illumination not in illuminations:
                found.left_out["of another illumination"] += 1
            elif expression is None:
                found.left_out["of a recording without a known expression"] += 1
            else:
                scene = f"s{int(session)}_{digits}_{illumination}"
                found.add(None, Sample(path.name, expressions.index(expression), path, subject, scene))
    return found


MULTIPIE = Importer("multipie", "a Multi-PIE tree (session01/multiview/...)",
                    ("SRC", "the directory that holds session01 ... session04"), "datasets/multiple", add_options, read)
