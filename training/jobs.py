"""The runs of a series side by side, each as a process of its own whose output goes into a file."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Sequence

import utils
from options.command_line import KNOBS
from training.parts import words_of
from utils import UserError

PROGRAM = Path(__file__).resolve().parents[1] / "train.py"
SECONDS_BETWEEN_LOOKS = 0.1


@dataclass(frozen=True)
class Job:
    """A run in its process; ``slot`` is its number among those that are trained at the same time."""

    name: str
    slot: int
    output: Path
    process: subprocess.Popen


def train_side_by_side(parts: Sequence[argparse.Namespace], jobs: int, gpu: list[int] | None, folder: Path) -> None:
    """Train the runs, ``jobs`` at a time, with their output in ``folder/<name>.txt``.

    SIGINT and SIGTERM are handed on: all save and stop, and so does this (Stopped). A run that fails does not keep the
    others from their end; UserError then names its output.
    """
    waiting, running, failed = list(parts), [], []
    with utils.noted_signals() as arrived:
        try:
            told = False
            while running or waiting:
                if arrived() and not told:
                    told, waiting = True, []
                    for job in running:
                        job.process.send_signal(signal.SIGTERM)  # beside a SIGINT that a terminal sends to all
                while waiting and len(running) < jobs:
                    slot = min(set(range(jobs)) - {job.slot for job in running})
                    running.append(started(waiting.pop(0), slot, gpu, jobs, folder))
                for job in [job for job in running if job.process.poll() is not None]:
                    running.remove(job)
                    if job.process.returncode and not told:
                        failed.append(job)
                    print(f"{job.name}: {outcome(job, told)}", flush=True)
                time.sleep(SECONDS_BETWEEN_LOOKS)
        finally:
            for job in running:
                job.process.terminate()
        if arrived():
            raise utils.Stopped(arrived(), f"stopped by signal {arrived()}, the states are saved; go on with --restore "
                                f"--checkpoint_dir {folder}")
    if failed:
        outputs = ", ".join(str(job.output) for job in failed)
        raise UserError(f"{len(failed)} of {len(parts)} runs failed, see {outputs}; then go on with --restore "
                        f"--checkpoint_dir {folder}")


def started(part: argparse.Namespace, slot: int, gpu: list[int] | None, jobs: int, folder: Path) -> Job:
    """A run's process; what an earlier one has said of it stays where it goes on."""
    name = Path(part.checkpoint_dir).name
    output = folder / f"{name}.txt"
    if gpu is not None:
        part.gpu = [gpu[slot % len(gpu)]]
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs)), **os.environ,
                   utils.SIDE_BY_SIDE: str(jobs)}
    with open(output, "a" if part.auto_restore else "w", encoding="utf-8") as file:
        process = popen([sys.executable, str(PROGRAM), *words_of(part, KNOBS.values())], environment, file)
    print(f"{name}: started, its output goes to {output}", flush=True)
    return Job(name, slot, output, process)


def popen(words: list[str], environment: dict[str, str], file: IO[str]) -> subprocess.Popen:
    """A process without input, whose output and errors go into a file."""
    return subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)


def outcome(job: Job, told: bool) -> str:
    """How a run has ended, in words."""
    status = job.process.returncode
    if status == 0:
        return "done"
    return "stopped" if told else f"failed with status {status}, see {job.output}"
