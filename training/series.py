"""``--folds K`` and ``--seeds N``: several trainings as one, each in its own directory, and their pooled results.

Which runs there are follows from the options (:mod:`training.parts`); each is an ordinary run that can be restored and
used by itself. A restored series goes on with every run where that stopped.
"""

from __future__ import annotations

import argparse
import gc
from pathlib import Path
from typing import Sequence

import numpy
import torch

import utils
from datasets.folds import fold_list, list_text
from datasets.layout import Layout
from evaluation.metrics import Report
from models.parallel import Processes
from evaluation.pooled import Pooled
from options.checks import wants_restore
from training.decoding import decoded_images
from training.jobs import train_side_by_side
from commands.matrix import write_pooled
from options.command_line import adopt_options
from training.parts import parts_of
from training.records import StateStore
from training.run_directory import RunDirectory, SeriesDirectory
from training.train import Data, begin, check_fold, check_places, checked_data, draw_demo, goes_on, split_for, train_run
from options.schema import Each, Whole, check
from utils import UserError

COUNTS = {"counts": Each(Each(Whole()))}


def train_series(options: argparse.Namespace) -> None:
    """The mode: all runs of the series, or what is left of them, then the pooled results."""
    directory, parts = SeriesDirectory(options.checkpoint_dir), parts_of(options)
    if utils.main_process():
        directory.lock_if_there()
    device, processes = begin(options) if options.jobs == 1 else (None, Processes())
    with processes:
        check_places(options)
        draw_demo(options, processes)
        layout = checked_data(options, processes.world)
        layouts = [split_for(part, layout) for part in parts]
        processes.first(lambda: [RunDirectory(part.checkpoint_dir).check_unlocked() for part in parts])
        processes.first(lambda: check_parts(options, directory, parts, layouts))
        processes.first(lambda: take(options, directory, parts, layouts))
        if options.jobs > 1:
            train_side_by_side(parts, options.jobs, options.gpu or utils.gpus(), Path(options.checkpoint_dir))
        else:
            train_in_turn(options, directory, parts, layout, device, processes)
        processes.first(lambda: pool(options, parts, layout))


def check_parts(options: argparse.Namespace, directory: SeriesDirectory, parts: Sequence[argparse.Namespace],
                layouts: Sequence[Layout]) -> None:
    """UserError where the series, or one of its runs, could not begin or go on. Writes nothing."""
    directory.check_free(options.overwrite)
    others = runs_of_others(directory, parts)
    if others and not options.overwrite and not wants_restore(options):
        raise UserError(f"{directory.folder}: holds the runs of another series ({others[0].folder.name}, ...); choose "
                        "another --checkpoint_dir, or replace them with --overwrite")
    for run in others if options.overwrite else ():
        run.check_unlocked()
    begun = [part for part in parts if StateStore(Path(part.checkpoint_dir) / "state").exists()]
    if options.restore is not None and not begun and not directory.is_claimed():
        raise UserError(f"--restore: {directory.folder} holds no folds or seeds to go on with; start without "
                        "--restore, or name their directory with --checkpoint_dir")
    for part, layout in zip(parts, layouts):
        run, kept = RunDirectory(part.checkpoint_dir), Path(part.checkpoint_dir) / "options.json"
        if goes_on(part, run) and kept.is_file():
            given = {name: value for name, value in vars(part).items() if value is not None}
            adopt_options(part, given, kept)
            check_fold(part, layout)


def runs_of_others(directory: SeriesDirectory, parts: Sequence[argparse.Namespace]) -> list[RunDirectory]:
    """The runs that an earlier series has left there, as one of more folds, and that are no part of this one."""
    ours = {Path(part.checkpoint_dir) for part in parts}
    return [RunDirectory(folder) for folder in directory.runs() if folder not in ours]


def take(options: argparse.Namespace, directory: SeriesDirectory, parts: Sequence[argparse.Namespace],
         layouts: Sequence[Layout]) -> None:
    """Make the directory this series' own, and write which options and folds it has."""
    directory.lock()
    directory.claim()
    directory.clear_parts()
    if not wants_restore(options):
        directory.clear()
    for run in runs_of_others(directory, parts) if options.overwrite else ():
        run.lock()
        run.clear()
    for part, layout in zip(parts, layouts):
        if part.fold:
            utils.write_text(directory.folder / "splits" / fold_list(part.fold), list_text(layout.test))
    utils.write_json(directory.folder / "options.json",
                     {**vars(options), "attributes": list(layouts[0].expressions)})


def train_in_turn(options: argparse.Namespace, directory: SeriesDirectory, parts: Sequence[argparse.Namespace],
                  layout: Layout, device: torch.device, processes: Processes) -> None:
    """One run after the other, on images that are decoded once."""
    everyone = layout.split("all") + layout.target_only
    data = Data(layout, decoded_images(options, everyone, directory, False, device, processes))
    for number, part in enumerate(parts, 1):
        if processes.main:
            print(f"\n{Path(part.checkpoint_dir).name}, {number} of {len(parts)}", flush=True)
        try:
            train_run(part, device, processes, data)
        except utils.Stopped as stop:
            raise stopped(stop.signum, options, f" in {Path(part.checkpoint_dir).name}") from None
        gc.collect()  # networks hold each other, and a GPU's memory is for the next


def stopped(signum: int, options: argparse.Namespace, where: str = "") -> utils.Stopped:
    """What ends a series that has been asked to stop."""
    return utils.Stopped(signum, f"stopped by signal {signum}{where}, the state is saved; go on with --restore "
                         f"--checkpoint_dir {options.checkpoint_dir}")


# ------------------------------------------------------------------------------------------------- results

def pool(options: argparse.Namespace, parts: Sequence[argparse.Namespace], layout: Layout) -> None:
    """Write the pooled confusion matrix and the figures of all runs, from what each has written of its test."""
    folder, names = Path(options.checkpoint_dir), layout.expressions
    found = [Path(part.checkpoint_dir) / "test_result" / "confusion_matrix.json" for part in parts]
    missing = [path for path in found if not path.is_file()]
    if missing:
        print(f"no pooled results: {len(missing)} of {len(parts)} runs have judged no recognizer (no recognizer round "
              f"in {options.epochs} epochs with --round_every {options.round_every} --round_epochs "
              f"{options.round_epochs})")
        return
    reports = [read_report(path, len(names)) for path in found]
    pooled = Pooled([path.parents[1].name for path in found], reports)
    kind = f"{options.folds} folds" if options.folds else f"{options.seeds} seeds"
    print()
    write_pooled(pooled, names, f"{kind} of {folder} on {layout.root}, test images", folder / "test_result")


def read_report(path: Path, n: int) -> Report:
    """The confusion matrix that a run has written of its test; UserError where that is damaged."""
    counts = check(utils.read_json(path), COUNTS, path)["counts"]
    if len(counts) != n or any(len(row) != n for row in counts):
        raise UserError(f"{path}: damaged, its matrix is not of {n} expressions; put it back from a copy")
    return Report(numpy.array(counts))
