"""``--folds K`` and ``--seeds N``: a series of runs, each in its own directory, in turn or side by side.

Each is an ordinary run that can be restored and used alone. A restored series resumes every run where it stopped.
"""

import gc
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Sequence

import torch

import utils
from datasets.layout import Layout, list_text
from datasets.loading import Images
from datasets.splits import fold_list
from models.distributed import Processes
from options.command_line import series_members, to_argv
from options.config import Config
from training.phases import Draw
from training.run_directory import STATE_FORMAT, RunDirectory, SeriesDirectory, StateStore
from training.facts import write_options
from training.start import (check_fold, check_gan_run, check_overwrite, decoded_images, read_training_data, schedule_of,
                            should_resume, split_data, train_run)
from training.trainer import Run, check_planned
from utils import SIDE_BY_SIDE, UserError, noted_signals, usable_cores

PROGRAM = Path(__file__).resolve().parents[1] / "train.py"
SECONDS_BETWEEN_POLLS = 0.1


def prepare_series(config: Config, directory: SeriesDirectory, processes: Processes) -> tuple[list[Config], Layout]:
    """Check and claim the directory of the series, and write its options and folds; return its runs and the data.

    Raises UserError before anything is written if the series or one of its runs cannot begin or be resumed.
    """
    processes.run_on_main(directory.lock_if_used)
    if config.run.auto_restore and processes.run_on_main(directory.is_claimed):
        config = config.replaced(overwrite=False)  # as for a single run, there is something to resume
    members = series_members(config)
    data = read_training_data(members[0], processes.world)  # whose directory tells where the images were
    layouts = [split_data(member, data) for member in members]
    processes.run_on_main(lambda: claim_series(config, directory, members, layouts, processes.device))
    return [member.replaced(overwrite=False) for member in members], data  # the old series has been moved as a whole


def claim_series(config: Config, directory: SeriesDirectory, members: Sequence[Config], layouts: Sequence[Layout],
                 device: torch.device) -> None:
    """Check the directories of the series and its runs, claim that of the series, and write its options and folds."""
    check_members(config, directory, members, layouts)
    for folder in (*directory.members(), *(Path(member.run.checkpoint_dir) for member in members)):
        with RunDirectory(folder) as run:
            run.lock_if_used()  # only for a moment: each run locks its own directory
    if config.run.overwrite:
        check_overwrite(config, layouts[0])
        directory.move_aside()
    directory.claim()
    for member, layout in zip(members, layouts):
        if member.series.fold:
            utils.write_text(directory.folder / "splits" / fold_list(member.series.fold), list_text(layout.test))
    write_options(directory.folder, config, layouts[0], device)


def check_members(config: Config, directory: SeriesDirectory, members: Sequence[Config], layouts: Sequence[Layout]
                  ) -> None:
    """Check that the series and all its runs can begin or be resumed. Raises UserError if not."""
    directory.check_free(config.run.overwrite)
    if config.run.overwrite:
        for member, layout in zip(members, layouts):
            check_gan_run(member, len(layout.expressions))
        return
    folders = {Path(member.run.checkpoint_dir) for member in members}
    foreign = [folder for folder in directory.members() if folder not in folders]
    if foreign and not config.resumes:
        raise UserError(f"{directory.folder}: holds the runs of another series ({foreign[0].name}, ...); choose "
                        "another --checkpoint_dir, or move them aside with --overwrite")
    if config.run.restore is not None and not directory.is_claimed() and not directory.members():
        raise UserError(f"--restore: {directory.folder} holds no folds or seeds to resume; start without "
                        "--restore, or name their directory with --checkpoint_dir")
    for member, layout in zip(members, layouts):
        run = RunDirectory(member.run.checkpoint_dir)
        if not should_resume(member, run):
            check_gan_run(member, len(layout.expressions))
        elif (run.folder / "options.json").is_file():
            check_fold(member, layout)
            check_epochs(member, run.folder)


def check_epochs(member: Config, folder: Path) -> None:
    """Check that a resumed run has not trained more than the series now plans. Raises UserError if it has."""
    if member.gan.epochs < member.earlier["epochs"]:
        state = StateStore(folder / "state").load()
        if state.get("format") == STATE_FORMAT:  # else the run itself is refused
            check_planned(state["stage"], schedule_of(member, state["phases"]["perceptual"]["epochs"]), folder)


def train_in_turn(members: Sequence[Config], directory: SeriesDirectory, processes: Processes, data: Layout, draw: Draw
                  ) -> Iterator[tuple[Run, Images]]:
    """Train one run after the other, on images that are decoded once; yield each run with these images."""
    images = decoded_images(members[0], data.split("all") + data.target_only, directory, False, processes)
    for number, member in enumerate(members, 1):
        name = Path(member.run.checkpoint_dir).name
        if processes.is_main:
            print(f"\n{name}, {number} of {len(members)}", flush=True)
        with RunDirectory(member.run.checkpoint_dir) as run_directory:
            try:
                yield train_run(member, run_directory, processes, draw, data, images), images
            except utils.Stopped as stop:
                raise utils.Stopped(stop.signum, f"stopped by signal {stop.signum} in {name}, the state is saved; "
                                    f"resume with --restore --checkpoint_dir {directory.folder}") from None
        gc.collect()  # networks lie in reference cycles, and the next run needs the GPU's memory


# ---------------------------------------------------------------------------------------------------- runs side by side

@dataclass(frozen=True)
class Job:
    """A run in its process; ``slot`` is its number among those that run at the same time."""

    name: str
    slot: int
    output: Path
    process: subprocess.Popen


def train_side_by_side(members: Sequence[Config], jobs: int, gpu: Sequence[int] | None, folder: Path) -> None:
    """Train the runs, ``jobs`` at a time, with their output in ``folder/<name>.txt``.

    Raises Stopped after a signal that stops a training, for which all runs save their state, and UserError that names
    the output of runs that failed, after the other runs have ended.
    """
    waiting, running, failed, gpu = list(members), [], [], gpu or list(range(torch.cuda.device_count()))
    with noted_signals() as stop_signal:
        try:
            stop_sent = False
            while running or waiting:
                if stop_signal() and not stop_sent:
                    stop_sent, waiting = True, []
                    for job in running if sys.platform != "win32" else ():  # there it would end them at once
                        job.process.send_signal(signal.SIGTERM)  # beside a SIGINT that a terminal sends to all
                while waiting and len(running) < jobs:
                    slot = min(set(range(jobs)) - {job.slot for job in running})
                    running.append(start_job(waiting.pop(0), slot, gpu, jobs, folder))
                for job in [job for job in running if job.process.poll() is not None]:
                    running.remove(job)
                    status, outcome = job.process.returncode, "done"
                    if status and stop_sent:
                        outcome = "stopped"
                    elif status:
                        outcome = f"failed with status {status}, see {job.output}"
                        failed.append(job)
                    print(f"{job.name}: {outcome}", flush=True)
                time.sleep(SECONDS_BETWEEN_POLLS)
        finally:
            for job in running:
                job.process.terminate()
        if stop_signal():
            raise utils.Stopped(stop_signal(), f"stopped by signal {stop_signal()}, the states are saved; resume with "
                                f"--restore --checkpoint_dir {folder}")
    if failed:
        outputs = ", ".join(str(job.output) for job in failed)
        raise UserError(f"{len(failed)} of {len(members)} runs failed, see {outputs}; then resume with --restore "
                        f"--checkpoint_dir {folder}")


def start_job(member: Config, slot: int, gpu: Sequence[int], jobs: int, folder: Path) -> Job:
    """Start a run's process; if the run is resumed, its output is appended to the earlier one."""
    name = Path(member.run.checkpoint_dir).name
    output = folder / f"{name}.txt"
    if gpu:
        member = member.replaced(gpu=[gpu[slot % len(gpu)]])
    environment = {"OMP_NUM_THREADS": str(max(1, usable_cores() // jobs)), **os.environ,
                   SIDE_BY_SIDE: str(jobs)}
    with open(output, "a" if member.run.auto_restore else "w", encoding="utf-8") as file:
        process = subprocess.Popen([sys.executable, str(PROGRAM), *to_argv(member)], env=environment,
                                   stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
    print(f"{name}: started, its output goes to {output}", flush=True)
    return Job(name, slot, output, process)
