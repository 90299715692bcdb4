"""The files that a comparison of groups of runs leaves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Sequence

import utils
from datasets.files import check_figure, check_output, check_table, save_figure
from evaluation.comparison import MEASURES, Comparison
from pictures.intervals import intervals_picture

HEADS = {"comparison.txt": "setting", "comparison.csv": "group,measure,", "comparison.tex": "\\begin{tabular}{lrrrrr}"}
PICTURE = "comparison.png"


def group_names(groups: Sequence[Sequence[Path]]) -> list[str]:
    """A short name for each group: its runs' common directory, without what all groups have in common."""
    runs = ([os.path.abspath(folder.parent) for folder in folders] for folders in groups)
    places = [Path(os.path.commonpath(own)).parts for own in runs]
    shared = os.path.commonprefix([place[:-1] for place in places])
    return ["/".join(place[len(shared):]) for place in places]


def check_comparison(folder: str) -> None:
    """Raise UserError if :func:`write_comparison` would overwrite something that it has not written."""
    for name in (*HEADS, PICTURE):
        check_output(Path(folder) / name, "--output_dir")
    check_figure(Path(folder) / PICTURE, f"--output_dir {folder}")
    for name, head in HEADS.items():
        check_table(Path(folder) / name, f"--output_dir {folder}", head)


def write_comparison(comparison: Comparison, output_dir: str) -> None:
    """Print the comparison, and write it as text, CSV, LaTeX and picture."""
    places = [Path(output_dir) / name for name in (*HEADS, PICTURE)]
    for place, text in zip(places, (comparison.as_text() + "\n", comparison.as_csv(), comparison.as_latex())):
        utils.write_text(place, text)
    panels = [(measure, [group.values(measure) for group in comparison.groups]) for measure in MEASURES]
    save_figure(intervals_picture([group.name for group in comparison.groups], panels), places[-1])
    print(f"{comparison.as_text()}\n\nwrote {', '.join(map(str, places[:-1]))} and {places[-1]}")
