"""Train the runs of a series side by side, each in a process of its own whose output goes into a file."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import utils
from options.command_line import to_argv
from options.config import Config
from system.command import noted_signals
from system.devices import usable_cores
from system.processes import SIDE_BY_SIDE
from utils import UserError

PROGRAM = Path(__file__).resolve().parents[1] / "train.py"
SECONDS_BETWEEN_POLLS = 0.1


@dataclass(frozen=True)
class Job:
    """A run in its process; ``slot`` is its number among those that run at the same time."""

    name: str
    slot: int
    output: Path
    process: subprocess.Popen


def train_side_by_side(members: Sequence[Config], jobs: int, gpu: Sequence[int] | None, folder: Path) -> None:
    """Train the runs, ``jobs`` at a time, with their output in ``folder/<name>.txt``.

    Raises Stopped after SIGINT or SIGTERM, which is passed on so that all runs save their state, and UserError that
    names the output of runs that failed, after the other runs have ended.
    """
    waiting, running, failed = list(members), [], []
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


def start_job(member: Config, slot: int, gpu: Sequence[int] | None, jobs: int, folder: Path) -> Job:
    """Start a run's process; if the run is resumed, its output is appended to the earlier one."""
    name = Path(member.run.checkpoint_dir).name
    output = folder / f"{name}.txt"
    if gpu is not None:
        member = member.replaced(gpu=[gpu[slot % len(gpu)]])
    environment = {"OMP_NUM_THREADS": str(max(1, usable_cores() // jobs)), **os.environ,
                   SIDE_BY_SIDE: str(jobs)}
    with open(output, "a" if member.run.auto_restore else "w", encoding="utf-8") as file:
        process = subprocess.Popen([sys.executable, str(PROGRAM), *to_argv(member)], env=environment,
                                   stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
    print(f"{name}: started, its output goes to {output}", flush=True)
    return Job(name, slot, output, process)
