"""The settings of runs: the options that are equal for all seeds and folds of a comparison."""

import re
from pathlib import Path
from typing import Any, Sequence

import utils
from options.config import OPTIONS
from utils import UserError

MEMBER = re.compile(r"\b(seed|fold)_\d{2,}")
NO_SETTINGS = {"seed", "seeds", "split_seed", "fold", "preset", "size", "save_minutes", "log_every", "num_workers",
               "cache"}


def run_options(folder: Path) -> dict[str, Any]:
    """Return the options of the run whose recognizer lies in ``folder``, empty if it has no ``options.json``.

    Raises UserError if that file is damaged.
    """
    path = folder.parent / "options.json"
    saved = utils.read_json(path) if path.is_file() else {}
    if not isinstance(saved, dict):
        raise UserError(f"{path}: damaged, it holds no options; restore it from a backup")
    return saved


def setting_of(folder: Path) -> dict[str, Any]:
    """Return the options of a run that must be equal for all seeds and folds.

    Paths into runs of one series are equal here, since the names of seeds and folds in them are replaced.
    """
    return {name: MEMBER.sub(r"\1_*", value) if isinstance(value, str) else value
            for name, value in run_options(folder).items()
            if name in OPTIONS and OPTIONS[name].restore != "momentary" and name not in NO_SETTINGS}


def check_same_setting(folders: Sequence[Path], flag: str = "--resume_dir") -> None:
    """Check that the options of runs, named by ``flag``, differ only in seed and fold. Raises UserError if not."""
    first = setting_of(folders[0])
    for folder in folders[1:]:
        other = setting_of(folder)
        differing = [name for name in first if name in other and first[name] != other[name]]
        differing.sort(key=lambda name: name in ("gan_from", "perceptual"))  # paths, which say less, come last
        if differing:
            name = differing[0]
            more = f" (and {', '.join(f'--{name}' for name in differing[1:6])})" if len(differing) > 1 else ""
            raise UserError(f"{flag}: {folders[0]} was trained with --{name} {first[name]} and {folder} with "
                            f"--{name} {other[name]}{more}; only runs that differ in seed and fold are pooled; give "
                            "each setting an --against of its own")


def keys_of(folders: Sequence[Path]) -> list[tuple[int, int | None]]:
    """Return seed and fold of each run of a group. Raises UserError if a run has no seed or two have the same."""
    folder_of: dict[tuple[int, int | None], Path] = {}
    for folder in folders:
        saved = run_options(folder)
        if "seed" not in saved:
            raise UserError(f"{folder}: {folder.parent / 'options.json'} holds no seed, which --against needs")
        key = seed, fold = saved["seed"], saved.get("fold")
        if key in folder_of:
            raise UserError(f"{folder}: has the same seed {seed}" + (f" and fold {fold}" if fold else "")
                            + f" as {folder_of[key]}; name one of them")
        folder_of[key] = folder
    return list(folder_of)
