"""A training as it runs: where it stands in its schedule, the loop, and the state that lets it go on exactly."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Iterator, Protocol

import torch
from torch import Tensor

import utils
from datasets.layout import Layout
from datasets.loading import Images, Loaded, load
from datasets.plans import Plan
from models.parallel import Processes
from models.speed import Speedometer
from training.records import RunLog, StateStore
from training.state import LARGEST, RATES, STATE, STATE_FORMAT, exploded
from options.schema import check, load_with
from utils import UserError

Figures = dict[str, Tensor]


@dataclass(frozen=True)
class Setting:
    """What all phases of a training share."""

    options: argparse.Namespace
    layout: Layout
    images: Images
    selection_images: Images
    device: torch.device
    amp: torch.dtype | None
    processes: Processes

    @property
    def folder(self) -> Path:
        """The run's directory."""
        return Path(self.options.checkpoint_dir)

    def seed_torch(self, *stream: int | str) -> None:
        """Dropout and initialization draw from torch's global generators: seed these for one stream."""
        torch.manual_seed(utils.derived_seed(self.options.seed, *stream))


class Phase(Protocol):
    """One of the things that a training does in turn: its epochs are stages of the schedule."""

    name: str

    def plan(self, epoch: int) -> Plan:
        """The batches of an epoch: a function of seed and epoch."""

    def group(self, epoch: int) -> int:
        """How many of them are prepared at once: a resumed stage begins with the whole group."""

    def prepared(self, epoch: int, batches: Iterator[Loaded]) -> Iterator[Any]:
        """What a step takes, from the loaded batches."""

    def step(self, batch: Any) -> Figures:
        """One step; its figures stay on the device."""

    def close(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """The end of an epoch: choose, save; the figures to be logged."""

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, beside the position."""

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""


@dataclass(frozen=True)
class Stage:
    """One epoch of one phase."""

    phase: str
    epoch: int


class Run:
    """A training: it walks through the stages of its schedule, whatever their phases do.

    Where it stands is the position (stage, step); with the states of its phases and the running means it makes the
    whole state, since every random draw is a function of the seed and the position.
    """

    def __init__(self, setting: Setting, phases: list[Phase], schedule: Callable[[], list[Stage]],
                 fingerprint: str, content: str) -> None:
        self.setting, self.options, self.processes = setting, setting.options, setting.processes
        self.phases, self.schedule = {phase.name: phase for phase in phases}, schedule
        self.fingerprint, self.content = fingerprint, content  # of the lists, and of the images behind them
        self.moved = False  # whether the position is one that no state knows
        self.states = StateStore(setting.folder / "state")
        self.stop_signal: Callable[[], int] = lambda: 0
        self.stage, self.step = 0, 0
        self.sums: dict[str, tuple[Tensor, int]] = {}
        self.speed = Speedometer(setting.device, setting.amp or torch.float32, self.options.compile)
        self.log: RunLog | None = None
        self.speed_log: RunLog | None = None
        self.log_position: int | None = None
        self._saved_at = time.monotonic()

    def run(self) -> None:
        """Train from the position on to the end; Stopped after SIGINT or SIGTERM, with the state saved."""
        if self.processes.main:
            self.log = RunLog(self.setting.folder / "log", self.log_position)
            self.speed_log = RunLog(self.setting.folder / "log", sys.maxsize, "speed.csv")
        if self.moved or not self.states.exists():
            self.save()
        while self.stage < len(stages := self.schedule()):
            stage = stages[self.stage]
            phase = self.phases[stage.phase]
            means = self._steps(stage, phase)
            rates = self.speed.figures(stage.phase, self.processes.world)
            self._summarize(stage, phase.close(stage.epoch, means), rates)
            self.stage, self.step, self.sums = self.stage + 1, 0, {}
            self._save_if_due(end_of_stage=True)

    def _steps(self, stage: Stage, phase: Phase) -> dict[str, float]:
        """Do the steps of a stage that are still to do; the means of their figures over the whole stage.

        A GPU's figures are read when they are shown, and not waited for in between.
        """
        setting, plan = self.setting, phase.plan(stage.epoch)
        done = self.step % phase.group(stage.epoch)
        loaded = load(setting.images, plan[self.step - done:], self.options.num_workers,
                      setting.device.type == "cuda", self.processes.share)
        batches = phase.prepared(stage.epoch, loaded)
        bar = utils.progress(islice(batches, done, None), f"{stage.phase} {stage.epoch + 1}", len(plan),
                             initial=self.step, disable=None if self.processes.main else True)
        self.speed.start()
        for batch in bar:
            figures = self.speed.step(stage.phase, len(batch.label), lambda: phase.step(batch))
            for name, value in figures.items():
                total, count = self.sums.get(name, (0.0, 0))
                self.sums[name] = (total + value.double(), count + 1)
            shown = self.step % self.options.log_every == 0
            if shown or setting.device.type == "cpu":
                read = {name: float(value) for name, value in figures.items()}
                self._check_finite(read)
                if shown and self.log:
                    self.log.write(stage.phase, stage.epoch, stage.epoch * len(plan) + self.step, read)
                    bar.set_postfix({name: f"{value:.3g}" for name, value in read.items()})
            self.step += 1
            self._save_if_due()
        return {name: float(total) / count for name, (total, count) in self.sums.items()}

    def _summarize(self, stage: Stage, figures: dict[str, float], rates: dict[str, float]) -> None:
        if not self.processes.main:
            return
        self.log.write(f"{stage.phase}_epoch", stage.epoch, stage.epoch, figures)
        self.speed_log.write(stage.phase, stage.epoch, stage.epoch, rates)
        print(f"{stage.phase} epoch {stage.epoch + 1}: "
              + "  ".join(f"{name} {value:.4g}" for name, value in {**figures, **rates}.items()), flush=True)

    # ------------------------------------------------------------------------------------------------ state

    def _save_if_due(self, end_of_stage: bool = False) -> None:
        """Save every few minutes, after each stage and before stopping; what one process decides, all do.

        Several processes ask each other every ``--log_every`` steps alone, since they wait for the answer.
        """
        alone = self.processes.world == 1
        if not (alone or end_of_stage or self.step % self.options.log_every == 0):
            return
        overdue = self.processes.main and time.monotonic() - self._saved_at > 60 * self.options.save_minutes
        signum = self.stop_signal()
        if not alone:
            wishes = torch.tensor([signum, overdue], device=self.setting.device)
            signum, overdue = self.processes.max(wishes).tolist()
        if signum or overdue or end_of_stage:
            self.save()
        if signum:
            raise utils.Stopped(signum, f"stopped by signal {signum}, the state is saved; go on with --restore "
                                f"--checkpoint_dir {self.setting.folder}")

    def save(self) -> None:
        """Save everything that the rest of the run depends on; UserError for losses or networks beyond all reason."""
        sums = {name: (float(total), count) for name, (total, count) in self.sums.items()}
        self._check_finite({name: total for name, (total, _) in sums.items()})
        self.processes.first(lambda: self._write(sums))
        self._saved_at = time.monotonic()

    def _write(self, sums: dict[str, tuple[float, int]]) -> None:
        states = {name: phase.state() for name, phase in self.phases.items()}
        broken = exploded(states)
        if broken:
            self._give_up(f"the networks have exploded ({broken[1]})", broken[0])
        self.states.save({"format": STATE_FORMAT, "stage": self.stage, "step": self.step, "sums": sums,
                          "data": self.fingerprint, "content": self.content, "log_position": self.log.position,
                          "phases": states})

    def restore(self) -> None:
        """Take up the newest undamaged state; UserError where there is none or the data have changed."""
        state, folder = self.states.load(), self.setting.folder
        if not isinstance(state, dict) or state.get("format") != STATE_FORMAT:
            raise UserError(f"--restore: the training state in {folder / 'state'} was written by a version of this program "
                            "whose perceptual loss compared other layers; go on with that version, or behind an epoch's "
                            "networks with --restore N")
        advice = "go on behind an epoch's networks with --restore N, or start anew with --overwrite"
        check(state, STATE, folder / "state", advice)
        if state["data"] != self.fingerprint and not self.options.force:
            raise UserError(f"--restore: the lists in {self.setting.layout.root} have changed since the run was "
                            "started; put them back, or add --force")
        if state.get("content") not in (None, self.content) and not self.options.force:
            raise UserError(f"--restore: images in {self.setting.layout.root} have other contents than when the run "
                            "was started; put them back, or add --force")
        self.stage, self.step, self.log_position = state["stage"], state["step"], state["log_position"]
        self.sums = {name: (torch.tensor(total, dtype=torch.float64, device=self.setting.device), count)
                     for name, (total, count) in state["sums"].items()}
        for name, phase in self.phases.items():
            load_with(phase.load_state, state["phases"][name], f"{folder / 'state'}: its {name} state does not fit "
                      f"this run; {advice}")
        stages = self.schedule()
        steps = len(self.phases[stages[self.stage].phase].plan(stages[self.stage].epoch)) \
            if self.stage < len(stages) and self.step else 0
        if self.step > steps:
            raise UserError(f"{folder / 'state'}: damaged, \"step\" is {self.step} of {steps}; {advice}")

    def _check_finite(self, figures: dict[str, float]) -> None:
        broken = [name for name, value in figures.items() if not abs(value) <= LARGEST]
        if broken:
            self._give_up(f"the loss {broken[0]} is {figures[broken[0]]}", self.schedule()[self.stage].phase)

    def _give_up(self, what: str, phase: str) -> None:
        stages = self.schedule()
        stage = stages[min(self.stage, len(stages) - 1)]
        raise UserError(f"{what} in {stage.phase} epoch {stage.epoch + 1}, step {self.step + 1} or before; the last "
                        f"good state is {self.states.newest() or 'not yet saved'}: go on from there with a lower "
                        f"learning rate (--restore --force {RATES[phase]} ...)")
