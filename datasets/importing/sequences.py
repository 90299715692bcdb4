"""What sets of filmed expressions have in common: a sequence runs from a neutral face to the peak of an expression."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Callable, Sequence

from datasets.importing.collection import Collection
from datasets.layout import Sample


def add_options(parser: argparse.ArgumentParser) -> None:
    """``--peak``."""
    parser.add_argument("--peak", type=int, default=3, metavar="N",
                        help="the last N frames of a sequence show its expression (default: 3)")


def take_sequence(found: Collection, frames: Sequence[Path], label: int, peak: int, subject: str, scene: str,
                  name: Callable[[Path], str] = lambda path: path.name) -> None:
    """Add a sequence's first frame as neutral and its last ``peak``, or as many as there are, as the expression.

    All are of one scene: they are each other's true swaps. ``name`` is what a frame is called.
    """
    peaks = frames[1:][-peak:]
    if not peaks:
        found.leave_out("of a sequence of a single frame", *frames)
        return
    for path, shown in ((frames[0], found.expressions.index("neutral")), *((path, label) for path in peaks)):
        found.add(None, Sample(name(path), shown, path, subject, scene))
    found.leave_out("between the neutral frame and the peak", *frames[1:len(frames) - len(peaks)])
