"""The parts of a series of runs: which directories they have, and with which options each is trained."""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any, Iterable


def is_series(options: argparse.Namespace) -> bool:
    """Whether these options ask for several runs: all folds, or several seeds."""
    return bool(options.folds) and options.fold is None or bool(options.seeds)


def fold_directory(folder: str, fold: int | None) -> str:
    """The directory of the run in ``folder``: of fold 3 its ``fold_03``, unless that is what ``folder`` is already."""
    name = fold_name(fold) if fold is not None else ""
    if not name or Path(folder).name == name and (Path(folder) / "options.json").is_file():
        return folder
    return str(Path(folder) / name)


def fold_name(fold: int) -> str:
    """3 → ``fold_03``."""
    return f"fold_{fold:02d}"


def seed_name(seed: int) -> str:
    """3 → ``seed_03``."""
    return f"seed_{seed:02d}"


def parts_of(options: argparse.Namespace) -> list[argparse.Namespace]:
    """The options of each run of a series. With ``--restore`` each goes on, or starts where it has not begun."""
    folder, parts = Path(options.checkpoint_dir), []
    for number in range(options.folds or options.seeds):
        part = copy.copy(options)
        part.seeds, part.jobs = None, 1
        part.auto_restore, part.restore = options.auto_restore or options.restore is not None, None
        if options.folds:
            part.fold, name = number + 1, fold_name(number + 1)
        else:
            part.seed, name = options.seed + number, seed_name(options.seed + number)
        part.checkpoint_dir = str(folder / name)
        parts.append(part)
    return parts


def words_of(part: argparse.Namespace, knobs: Iterable[Any]) -> list[str]:
    """What to type for one run of a series: every option of a training that has a value."""
    words: list[str] = []
    for named in knobs:
        value = getattr(part, named.name)
        if value is None or named.knob.restore == "momentary" and named.name not in TYPED:
            continue
        if named.name == "checkpoint_dir" and part.fold is not None:
            value = str(Path(value).parent)  # --fold goes into its own directory there
        if named.kind is bool:
            words.append(f"--{named.name}" if value else f"--no_{named.name}")
        elif isinstance(value, list):
            words += [f"--{named.name}", *map(str, value)]
        else:
            words.append(f"--{named.name}={value}")  # which may begin with a dash
    return words


TYPED = {"checkpoint_dir", "gpu", "auto_restore", "overwrite", "force", "rows"}  # "momentary", and used in training
