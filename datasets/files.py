"""Which files are images by their names, and where a command may write."""

from __future__ import annotations

import os
from pathlib import Path

from utils import UserError

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


def is_image_name(name: str) -> bool:
    """Whether a file is an image by its name; hidden files are not."""
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


def check_apart(source: Path, out: Path) -> None:
    """UserError where one of two directories lies in the other: the source must never be written to."""
    source, out = source.resolve(), out.resolve()
    if out == source or source in out.parents:
        raise UserError(f"{out} lies inside the source {source}, which stays untouched; "
                        "choose another output directory")
    if out in source.parents:
        raise UserError(f"the source {source} lies inside the output {out}; choose another output directory")


def check_writable(out: Path) -> None:
    """UserError where a directory cannot be made or written to. Writes nothing."""
    existing = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"{out}: {existing} is a file; choose another output directory")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{out}: {existing} is not writable; choose another output directory")
