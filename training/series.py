"""``--folds K`` and ``--seeds N``: several trainings as one, each in its own directory, and their pooled results.

Each is an ordinary run that can be restored and used by itself. A restored series resumes every run where that stopped.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Sequence

import numpy
import torch

import utils
from commands.matrix import write_pooled
from datasets.folds import fold_list
from datasets.layout import Layout, list_text
from evaluation.metrics import Report
from evaluation.pooled import Pooled
from models.parallel import Processes
from options.command_line import with_run_options
from options.config import Config
from options.schema import check, list_of, whole_number
from system.devices import gpus
from system.processes import main_process
from training.data import check_fold, check_overwrite, checked_data, decoded_images, draw_demo, split_for
from training.jobs import train_side_by_side
from training.launch import begin, check_places
from training.run import should_resume, train_run
from training.run_directory import RunDirectory, SeriesDirectory
from utils import UserError

COUNTS = {"counts": list_of(list_of(whole_number()))}


def train_series(config: Config) -> None:
    """Train all runs of the series, or what is left of them, and pool their results."""
    directory, members = SeriesDirectory(config.run.checkpoint_dir), config.members()
    if main_process():
        directory.lock_if_there()
    device, processes = begin(config) if config.series.jobs == 1 else (None, Processes())
    with processes:
        check_places(config)
        draw_demo(config, processes)
        layout = checked_data(config, processes.world)
        layouts = [split_for(member, layout) for member in members]
        processes.first(lambda: prepare(config, directory, members, layouts))
        if config.run.overwrite:  # the old series is out of the way as a whole
            members = [member.replaced(overwrite=False) for member in members]
        if config.series.jobs > 1:
            train_side_by_side(members, config.series.jobs, config.hardware.gpu or gpus(), directory.folder)
        else:
            train_in_turn(config, directory, members, layout, device, processes)
        processes.first(lambda: pool(config, members, layout))


def prepare(config: Config, directory: SeriesDirectory, members: Sequence[Config], layouts: Sequence[Layout]) -> None:
    """Check the directories of the series and its runs, make room, and write which options and folds it has.

    Raises UserError before anything is written if the series or one of its runs cannot begin or be resumed.
    """
    for folder in (*directory.members(), *(Path(member.run.checkpoint_dir) for member in members)):
        RunDirectory(folder).check_unlocked()
    check_members(config, directory, members, layouts)
    if config.run.overwrite:
        check_overwrite(config, layouts[0])
        directory.move_aside()
    directory.claim()
    for member, layout in zip(members, layouts):
        if member.series.fold:
            utils.write_text(directory.folder / "splits" / fold_list(member.series.fold), list_text(layout.test))
    utils.write_json(directory.folder / "options.json",
                     {**config.values(), "attributes": list(layouts[0].expressions)})


def check_members(config: Config, directory: SeriesDirectory, members: Sequence[Config], layouts: Sequence[Layout]
                  ) -> None:
    """Raises UserError if the series, or one of its runs, cannot begin or be resumed."""
    directory.check_free(config.run.overwrite)
    if config.run.overwrite:
        return
    own = {Path(member.run.checkpoint_dir) for member in members}
    others = [folder for folder in directory.members() if folder not in own]
    if others and not config.resumes:
        raise UserError(f"{directory.folder}: holds the runs of another series ({others[0].name}, ...); choose "
                        "another --checkpoint_dir, or move them aside with --overwrite")
    if config.run.restore is not None and not directory.is_claimed():
        raise UserError(f"--restore: {directory.folder} holds no folds or seeds to resume; start without "
                        "--restore, or name their directory with --checkpoint_dir")
    for member, layout in zip(members, layouts):
        run = RunDirectory(member.run.checkpoint_dir)
        if should_resume(member, run) and (run.folder / "options.json").is_file():
            values = {name: value for name, value in member.values().items() if value is not None}
            with_run_options(member.values(), values, run.folder / "options.json")
            check_fold(member, layout)


def train_in_turn(config: Config, directory: SeriesDirectory, members: Sequence[Config], layout: Layout,
                  device: torch.device, processes: Processes) -> None:
    """Train one run after the other, on images that are decoded once."""
    samples = layout.split("all") + layout.target_only
    images = decoded_images(config, samples, directory, False, device, processes)
    for number, member in enumerate(members, 1):
        name = Path(member.run.checkpoint_dir).name
        if processes.main:
            print(f"\n{name}, {number} of {len(members)}", flush=True)
        try:
            train_run(member, device, processes, layout, images)
        except utils.Stopped as stop:
            raise utils.Stopped(stop.signum, f"stopped by signal {stop.signum} in {name}, the state is saved; resume "
                                f"with --restore --checkpoint_dir {directory.folder}") from None
        gc.collect()  # networks refer to each other, and a GPU's memory is for the next run


# ------------------------------------------------------------------------------------------------- results

def pool(config: Config, members: Sequence[Config], layout: Layout) -> None:
    """Write the pooled confusion matrix and the metrics of all runs, from what each has written of its test."""
    folder, names, series = Path(config.run.checkpoint_dir), layout.expressions, config.series
    paths = [Path(member.run.checkpoint_dir) / "test_result" / "confusion_matrix.json" for member in members]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        print(f"no pooled results: {len(missing)} of {len(members)} runs have evaluated no recognizer (no recognizer "
              f"round in {config.gan.epochs} epochs with --round_every {config.recognizer.round_every} --round_epochs "
              f"{config.recognizer.round_epochs})")
        return
    pooled = Pooled([path.parents[1].name for path in paths], [read_report(path, len(names)) for path in paths])
    kind = f"{series.folds} folds" if series.folds else f"{series.seeds} seeds"
    print()
    write_pooled(pooled, names, f"{kind} of {folder} on {layout.root}, test images", folder / "test_result")


def read_report(path: Path, n: int) -> Report:
    """Read the confusion matrix that a run has written of its test. Raises UserError if it is damaged."""
    counts = check(utils.read_json(path), COUNTS, path)["counts"]
    if len(counts) != n or any(len(row) != n for row in counts):
        raise UserError(f"{path}: damaged, its matrix is not of {n} expressions; restore it from a backup")
    return Report(numpy.array(counts))
