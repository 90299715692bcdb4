"""Runs of one setting: their options differ in seed and fold alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Sequence

import utils
from options.config import OPTIONS
from utils import UserError

MEMBER = re.compile(r"\b(seed|fold)_\d{2,}")
NOT_THE_SETTING = {"seed", "seeds", "split_seed", "fold", "preset", "size", "save_minutes", "log_every", "num_workers",
                   "cache"}


def run_options(folder: Path) -> dict[str, Any]:
    """Return the options of the run whose recognizer lies in ``folder``; empty if nothing tells them."""
    path = folder.parent / "options.json"
    kept = utils.read_json(path) if path.is_file() else {}
    if not isinstance(kept, dict):
        raise UserError(f"{path}: damaged, it holds no options; restore it from a backup")
    return kept


def setting_of(folder: Path) -> dict[str, Any]:
    """Return the options that make the setting of a run.

    Paths into a run of the same series count as equal for all seeds and folds.
    """
    return {name: MEMBER.sub(r"\1_*", value) if isinstance(value, str) else value
            for name, value in run_options(folder).items()
            if name in OPTIONS and OPTIONS[name].restore != "momentary" and name not in NOT_THE_SETTING}


def check_same_setting(folders: Sequence[Path], flag: str = "--resume_dir") -> None:
    """Raises UserError if the options of the runs, named by ``flag``, differ in more than seed and fold."""
    first = setting_of(folders[0])
    for folder in folders[1:]:
        other = setting_of(folder)
        differing = [name for name in first if name in other and first[name] != other[name]]
        differing.sort(key=lambda name: name in ("gan_from", "perceptual"))  # they follow from where the runs lie
        if differing:
            name = differing[0]
            more = f" (and {', '.join(f'--{name}' for name in differing[1:6])})" if len(differing) > 1 else ""
            raise UserError(f"{flag}: {folders[0]} was trained with --{name} {first[name]} and {folder} with "
                            f"--{name} {other[name]}{more}; runs are pooled if only seed and fold differ; give "
                            "each setting an --against of its own")


def keys_of(folders: Sequence[Path]) -> list[tuple[int, int | None]]:
    """Return seed and fold of each run of a group. Raises UserError if one has none or two have the same."""
    found: dict[tuple[int, int | None], Path] = {}
    for folder in folders:
        kept = run_options(folder)
        if "seed" not in kept:
            raise UserError(f"{folder}: {folder.parent / 'options.json'} does not tell its seed, which --against needs")
        key = seed, fold = kept["seed"], kept.get("fold")
        if key in found:
            raise UserError(f"{folder}: has the same seed {seed}" + (f" and fold {fold}" if fold else "")
                            + f" as {found[key]}; name one of them")
        found[key] = folder
    return list(found)
