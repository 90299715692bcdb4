"""The training loop over the stages of a schedule, and the state from which a run is resumed exactly.

A run's state is its position (stage, step), the states of its phases and the running sums of its metrics. It needs no
random states, since every random draw is a function of the seed and the position. """

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, Callable, Iterable, Iterator, NoReturn, Protocol

import torch
from torch import Tensor

import utils
from models.state_dicts import LARGEST
from options.config import RunOptions
from training.context import TrainingContext
from training.log import RunLog
from training.state import RATE_FLAGS, STATE_FORMAT, StateStore, exploded
from training.timing import Speedometer, TimeLeft, epoch_line
from utils import UserError

Metrics = dict[str, Tensor]
MINUTES_OF_STAGES = 2.0  # least time between states at ends of stages; one of the paper's size takes seconds to write
ADVICE = "go on from the networks of an epoch with --restore N, or start anew with --overwrite"


class Phase(Protocol):
    """A part of a training, such as that of the GAN, whose epochs are stages of the schedule."""

    name: str

    def steps(self, epoch: int) -> int:
        """Return the number of steps in an epoch."""

    def batches(self, epoch: int, start: int) -> Iterator[Any]:
        """Return the batches of an epoch from step ``start`` on, as a function of seed and epoch."""

    def step(self, batch: Any) -> Metrics:
        """Do one step, and return its metrics, which stay on the device."""

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Evaluate and write the networks after an epoch; return further metrics of the epoch."""

    def state(self) -> dict[str, Any]:
        """Return everything that the rest of the run depends on, except the position."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned."""

    def load_networks(self, epoch: int) -> None:
        """Load the networks as they were after GAN epoch ``epoch`` (from 1); the optimizers start anew."""


@dataclass(frozen=True)
class Stage:
    """One epoch of one phase."""

    phase: str
    epoch: int


def check_planned(stage: int, stages: list[Stage], folder: Path) -> None:
    """Check that a resumed run has not trained beyond its schedule. Raises UserError if it has."""
    if stage > len(stages):
        raise UserError(f"--restore: the run in {folder} has already trained more than these options plan; leave "
                        "--epochs out, or raise it")


def fit(run: "Run") -> None:
    """Train from the run's position to its end. Raises Stopped after SIGINT or SIGTERM, with the state saved."""
    run.begin()
    for stage in run.remaining_stages():
        phase = run.phases[stage.phase]
        for batch in run.progress(phase.batches(stage.epoch, start=run.step)):
            run.after_step(phase.step(batch), images=len(batch.label))
        run.after_epoch(phase.end_epoch(stage.epoch, run.means()))


class Run:
    """The position of a training, its metrics, and its state on disk.

    ``schedule`` returns all stages in order; ``fingerprint`` is a digest of the lists, ``content`` of the images.
    """

    def __init__(self, context: TrainingContext, options: RunOptions, phases: list[Phase],
                 schedule: Callable[[], list[Stage]], fingerprint: str, content: str) -> None:
        self.context, self.options, self.processes = context, options, context.processes
        self.phases, self.schedule = {phase.name: phase for phase in phases}, schedule
        self.fingerprint, self.content = fingerprint, content
        self.states = StateStore(context.folder / "state")
        self.stop_signal: Callable[[], int] = lambda: 0
        self.stage, self.step = 0, 0
        self.steps = 0  # of the current stage
        self.was_moved = False  # whether no saved state has this position
        self.log: RunLog | None = None
        self.speed_log: RunLog | None = None
        self.log_position: int | None = None
        self._sums: dict[str, tuple[Tensor, int]] = {}
        self._speed = Speedometer(context.device)
        self._saved_at = time.monotonic()
        self._bar: Any = None
        self._time_left, self._stage_began = TimeLeft(), (time.monotonic(), 0)

    # ------------------------------------------------------------------------------------------------ the loop

    def begin(self) -> None:
        """Open the logs, and save a first state unless the run was resumed from one."""
        if self.processes.is_main:
            self.log = RunLog(self.context.folder / "log", self.log_position)
            self.speed_log = RunLog(self.context.folder / "log", sys.maxsize, "speed.csv")
        if self.processes.run_on_main(lambda: self.was_moved or not self.states.exists()):
            self.save()

    def remaining_stages(self) -> Iterator[Stage]:
        """Yield the stages from the position on."""
        while self.stage < len(stages := self.schedule()):
            yield stages[self.stage]

    def progress(self, batches: Iterable[Any]) -> Iterable[Any]:
        """Return the batches of the current stage with a progress bar."""
        stage = self.current_stage()
        self._speed, self._stage_began = Speedometer(self.context.device), (time.monotonic(), self.step)
        self.steps = self.phases[stage.phase].steps(stage.epoch)  # once, since it may take the plan of an epoch
        self._bar = utils.progress(batches, f"{stage.phase} {stage.epoch + 1}", self.steps,
                                   initial=self.step, disable=None if self.processes.is_main else True)
        return self._bar

    def after_step(self, metrics: Metrics, images: int) -> None:
        """Add up the metrics of a step, log them every ``--log_every`` steps, and save if a state is due.

        Metrics on a GPU are read only when they are logged, since reading waits for the GPU.
        """
        self._speed.count(images)
        for name, value in metrics.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value.double(), count + 1)
        is_logged = self.step % self.options.log_every == 0
        if is_logged or self.context.device.type == "cpu":
            values = {name: float(value) for name, value in metrics.items()}
            self._check_finite(values)
            if is_logged and self.log:
                stage = self.current_stage()
                self.log.write(stage.phase, stage.epoch + 1, stage.epoch * self.steps + self.step, values)
                self._bar.set_postfix({name: f"{value:.3g}" for name, value in values.items()})
        self.step += 1
        self._save_if_due()

    def means(self) -> dict[str, float]:
        """Return the means of the metrics over all steps of the current stage."""
        return {name: float(total) / count for name, (total, count) in self._sums.items()}

    def after_epoch(self, metrics: dict[str, float]) -> None:
        """Log a finished stage, go to the next one, and save at the end of a phase or if the last save is old."""
        stage = self.current_stage()
        if self.processes.is_main:
            metrics = {**self.means(), **metrics}
            rates = self._speed.metrics(self.processes.world)
            self.log.write(f"{stage.phase}_epoch", stage.epoch + 1, stage.epoch, metrics)
            self.speed_log.write(stage.phase, stage.epoch + 1, stage.epoch, rates)
            began, first_step = self._stage_began
            self._time_left.measure(stage.phase, time.monotonic() - began, self.step - first_step)
            stages = self.schedule()
            left = self._time_left.as_text(stages[self.stage + 1:], self.phases)
            print(epoch_line(stage, stages, metrics, rates, left), flush=True)
        self.stage, self.step, self._sums = self.stage + 1, 0, {}
        is_last = self.stage >= len(self.schedule())
        self._save_if_due(end_of_stage=True, end_of_phase=is_last or self.current_stage().phase != stage.phase)

    def current_stage(self) -> Stage:
        """Return the stage at the position; the last one if the run is complete."""
        stages = self.schedule()
        return stages[min(self.stage, len(stages) - 1)]

    # ------------------------------------------------------------------------------------------------ state

    def _save_if_due(self, end_of_stage: bool = False, end_of_phase: bool = False) -> None:
        """Save every ``--save_minutes``, sooner at the end of a stage, always at that of a phase and before stopping.

        Several processes decide together, only every ``--log_every`` steps, since they wait for each other. Raises
        Stopped after SIGINT or SIGTERM. """
        is_single = self.processes.world == 1
        if not (is_single or end_of_stage or self.step % self.options.log_every == 0):
            return
        minutes = min(self.options.save_minutes, MINUTES_OF_STAGES) if end_of_stage else self.options.save_minutes
        overdue = self.processes.is_main and time.monotonic() - self._saved_at > 60 * minutes
        signum = self.stop_signal()
        if not is_single:
            signals = torch.tensor([signum, overdue], device=self.context.device)
            signum, overdue = self.processes.max(signals).tolist()
        if signum or overdue or end_of_phase:
            self.save()
        if signum:
            raise utils.Stopped(signum, f"stopped by signal {signum}, the state is saved; resume with --restore "
                                f"--checkpoint_dir {self.context.folder}")

    def save(self) -> None:
        """Save the state. Raises UserError if metrics or networks hold NaN, infinite or exploded values."""
        self._check_finite({name: float(total) for name, (total, _) in self._sums.items()})
        self.processes.run_on_main(self._write)
        self._saved_at = time.monotonic()

    def _write(self) -> None:
        state = self.state()
        if fault := exploded(state["phases"]):
            self._give_up(f"the networks have exploded ({fault[1]})", fault[0])
        self.states.save({**state, "format": STATE_FORMAT, "data": self.fingerprint, "content": self.content})

    def state(self) -> dict[str, Any]:
        """Return everything that the rest of the run depends on, except its data."""
        return {"stage": self.stage, "step": self.step,
                "sums": {name: (float(total), count) for name, (total, count) in self._sums.items()},
                "log_position": self.log.position if self.log else self.log_position,
                "phases": {name: phase.state() for name, phase in self.phases.items()}}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        self.stage, self.step, self.log_position = state["stage"], state["step"], state["log_position"]
        self._sums = {name: (torch.tensor(total, dtype=torch.float64, device=self.context.device), count)
                      for name, (total, count) in state["sums"].items()}
        for name, phase in self.phases.items():
            try:
                phase.load_state(state["phases"][name])
            except (KeyError, ValueError, RuntimeError) as error:  # the state of other data, with --force
                text = shorten(str(error), 300, placeholder=" ...")
                raise UserError(f"{self.states.folder}: its {name} state does not fit this run; {ADVICE} "
                                f"({type(error).__name__}: {text})") from None

    def restore(self, earlier: Callable[[], list[Stage]]) -> None:
        """Restore the newest undamaged state, whose position is one in the schedule ``earlier``.

        Raises UserError if there is none, or the data or the epochs up to its position have changed.
        """
        state, folder = self.states.load(), self.states.folder
        if state.get("format") != STATE_FORMAT:
            raise UserError(f"--restore: the training state in {folder} was written by a version of this program whose "
                            "perceptual loss compared other layers; go on with that version, or from the networks of "
                            "an epoch with --restore N")
        root = self.context.layout.root
        if state["data"] != self.fingerprint and not self.options.force:
            raise UserError(f"--restore: the lists in {root} have changed since the run was started; restore them, or "
                            "add --force")
        if state.get("content") not in (None, self.content) and not self.options.force:
            raise UserError(f"--restore: images in {root} have other contents than when the run was started; restore "
                            "them, or add --force")
        self.load_state(state)
        done = self.stage + (self.step > 0)
        if earlier()[:done] != self.schedule()[:done]:
            raise UserError(f"--restore: with other --round_every or --round_epochs the run in {self.context.folder} "
                            "would skip or repeat epochs; leave them as they were, or go on from the networks of an "
                            "epoch with --restore N")
        check_planned(self.stage, self.schedule(), self.context.folder)
        stage, is_over = self.current_stage(), self.stage >= len(self.schedule())
        steps = 0 if is_over or not self.step else self.phases[stage.phase].steps(stage.epoch)
        if self.step > steps:
            raise UserError(f"{folder}: damaged, \"step\" is {self.step} of {steps}; {ADVICE}")

    def move_after(self, gan_epoch: int) -> None:
        """Move the position to the end of a GAN epoch (from 1); the phases' networks stay unchanged."""
        self.stage, self.was_moved = 1 + self.schedule().index(Stage("gan", gan_epoch - 1)), True
        log = self.context.folder / "log" / "metrics.csv"
        self.log_position = log.stat().st_size if log.is_file() else None

    def _check_finite(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            if not abs(value) <= LARGEST:  # true for NaN
                self._give_up(f"the metric \"{name}\" is {value}", self.current_stage().phase)

    def _give_up(self, fault: str, phase: str) -> NoReturn:
        stage = self.current_stage()
        raise UserError(f"{fault} in {stage.phase} epoch {stage.epoch + 1}, step {self.step + 1} or before; the last "
                        f"good state is {self.states.newest() or 'not yet saved'}: resume from there with a lower "
                        f"learning rate (--restore --force {RATE_FLAGS[phase]} ...)")
