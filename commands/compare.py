"""Runs of several settings: which may be pooled, and the files that a comparison of groups leaves."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Sequence

import utils
from datasets.files import check_figure, check_output, check_table, save_figure
from evaluation.comparison import MEASURES, Comparison, Key
from options.config import SPECS
from pictures.intervals import intervals_picture
from utils import UserError

RESULTS = ("comparison.txt", "comparison.csv", "comparison.tex", "comparison.png")
MEMBER = re.compile(r"\b(seed|fold)_\d{2,}")
NOT_THE_SETTING = {"seed", "seeds", "fold", "preset", "save_minutes", "log_every", "num_workers", "cache"}


def options_of(folder: Path) -> dict[str, Any]:
    """The options that make the setting of the run whose recognizer lies in ``folder``; empty if nothing tells them.

    Paths into a run of the same series count as equal for all seeds and folds.
    """
    path = folder.parent / "options.json"
    kept = utils.read_json(path) if path.is_file() else {}
    if not isinstance(kept, dict):
        raise UserError(f"{path}: damaged, it holds no options; restore it from a backup")
    return {name: MEMBER.sub(r"\1_*", value) if isinstance(value, str) else value for name, value in kept.items()
            if name in SPECS and SPECS[name].option.restore != "momentary" and name not in NOT_THE_SETTING}


def key_of(folder: Path) -> Key | None:
    """Seed and fold of the run whose recognizer lies in ``folder``; None if nothing tells them."""
    path = folder.parent / "options.json"
    kept = utils.read_json(path) if path.is_file() else {}
    return (kept["seed"], kept.get("fold")) if isinstance(kept, dict) and "seed" in kept else None


def check_same_setting(folders: Sequence[Path]) -> None:
    """Raise UserError if the options of the runs differ in more than seed and fold."""
    first = options_of(folders[0])
    for folder in folders[1:]:
        other = options_of(folder)
        differing = [name for name in first if name in other and first[name] != other[name]]
        if differing:
            name = differing[0]
            more = f" (and {', '.join(f'--{name}' for name in differing[1:6])})" if len(differing) > 1 else ""
            raise UserError(f"--resume_dir: {folders[0]} was trained with --{name} {first[name]} and {folder} with "
                            f"--{name} {other[name]}{more}; runs are pooled if only seed and fold differ, compare "
                            "settings with --against")


def keys_of(folders: Sequence[Path]) -> list[Key]:
    """Seed and fold of each run of a group; UserError if one has none or two have the same."""
    keys = [key_of(folder) for folder in folders]
    for i, (folder, key) in enumerate(zip(folders, keys)):
        if key is None:
            raise UserError(f"{folder}: {folder.parent / 'options.json'} does not tell its seed, which --against needs")
        if key in keys[:i]:
            seed, fold = key
            raise UserError(f"{folder}: has the same seed {seed}" + (f" and fold {fold}" if fold else "")
                            + f" as {folders[keys.index(key)]}; name one of them")
    return keys


def group_names(groups: Sequence[Sequence[Path]]) -> list[str]:
    """A short name for each group: its runs' common directory, without what all groups have in common."""
    places = [Path(os.path.commonpath([os.path.abspath(folder.parent) for folder in folders])).parts for folders in groups]
    shared = os.path.commonprefix([place[:-1] for place in places])
    return ["/".join(place[len(shared):]) for place in places]


def check_comparison(folder: str) -> None:
    """Raise UserError if :func:`write_comparison` would overwrite something that it has not written."""
    for place in (Path(folder) / name for name in RESULTS):
        check_output(place, "--output_dir")
        if place.suffix == ".png":
            check_figure(place, f"--output_dir {folder}")
    heads = ("setting", "group,measure,", "\\begin{tabular}{lrrrrr}")
    for name, head in zip(RESULTS, heads):
        check_table(Path(folder) / name, f"--output_dir {folder}", head)


def write_comparison(comparison: Comparison, output_dir: str) -> None:
    """Print the comparison, and write it as text, CSV, LaTeX and picture."""
    places = [Path(output_dir) / name for name in RESULTS]
    for place, text in zip(places, (comparison.as_text() + "\n", comparison.as_csv(), comparison.as_latex())):
        utils.write_text(place, text)
    panels = [(measure, [group.values(measure) for group in comparison.groups]) for measure in MEASURES]
    save_figure(intervals_picture([group.name for group in comparison.groups], panels), places[3])
    print(f"{comparison.as_text()}\n\nwrote {', '.join(map(str, places[:-1]))} and {places[-1]}")
