"""Faces that a list tells apart in a picture by their boxes."""

from __future__ import annotations

import math
from typing import Sequence

from datasets.importing.collection import BoxSample
from datasets.layout import Sample
from datasets.lists import shortened
from utils import UserError

Box = tuple[int, int, int, int]


def read_box(values: Sequence[str], sized: bool, where: str) -> Box:
    """Read left, top, right and bottom in pixels from a list's words; ``sized`` if the last two are width and height.

    Fractions of pixels are rounded outwards. Raises UserError if the words are no box.
    """
    try:
        left, top, right, bottom = map(float, values)
        if sized:
            right, bottom = left + right, top + bottom
        box = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
    except (ValueError, OverflowError):
        box = (0, 0, 0, 0)
    if box[0] >= box[2] or box[1] >= box[3]:
        raise UserError(f"{where}: \"{shortened(' '.join(values))}\" is not a box of left, top, "
                        f"{'width and height' if sized else 'right and bottom'} in pixels")
    return box


def boxed(sample: Sample, box: Box) -> BoxSample:
    """Return the face in a box of a sample's picture, to be written as a PNG file."""
    stem = sample.name.rpartition(".")[0] or sample.name
    return BoxSample(f"{stem}_{'_'.join(map(str, box))}.png", sample.label, sample.path, sample.subject, sample.scene,
                     box=box)
