"""The training loop over the stages of a schedule, and the state from which a run is resumed exactly.

A run's state is its position (stage, step), the states of its phases and the running sums of its metrics. It needs no
random states, since every random draw is a function of the seed and the position. """

import csv
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, Callable, Iterable, Iterator, Mapping, NoReturn, Sequence

import torch
from torch import Tensor

import utils
from datasets.layout import Layout
from datasets.loading import Batch, Images, load
from datasets.plans import Plan
from models.checkpoints import LARGEST, fault_of_weights
from models.distributed import Processes
from models.networks import Encoder
from models.recognizer import Recognizer, accuracies, evaluate, near_chance
from options.config import Config
from training.run_directory import STATE_FORMAT, StateStore
from utils import UserError, synchronize


@dataclass(frozen=True)
class TrainingContext:
    """The data of a run, its directory and seed, and the device and processes on which it is trained.

    The networks are trained on ``images`` and chosen on ``selection_images`` (``select_on``: val, test or none), by
    mean class accuracy if ``balanced``. ``metadata`` is stored in checkpoints, so that they can be used alone. """

    folder: Path
    seed: int
    layout: Layout
    images: Images
    selection_images: Images
    select_on: str
    balanced: bool
    num_workers: int
    device: torch.device
    amp: torch.dtype | None
    processes: Processes
    restoring: bool
    force: bool
    metadata: dict[str, Any]

    @property
    def num_classes(self) -> int:
        """The number of expressions."""
        return len(self.layout.expressions)

    def seed_torch(self, *stream: int | str) -> None:
        """Seed torch's global generators, from which dropout and initialization draw, with a derived seed."""
        torch.manual_seed(utils.derived_seed(self.seed, *stream))

    def load(self, plan: Plan, start: int, augment: Callable[[Tensor, int], Tensor] | None = None) -> Iterator[Batch]:
        """Return this process's part of the plan's batches from batch ``start`` on, changed by ``augment``."""
        return load(self.images, plan[start:], self.num_workers, self.device.type == "cuda", self.processes.rank_slice,
                    augment)

    def evaluate_for_selection(self, recognizer: Recognizer, encoder: Encoder | None) -> tuple[float, bool]:
        """Return the accuracy in percent on the selection images, -1 without any, and whether it is near chance.

        Each image is recognized by one of the processes.
        """
        if not self.selection_images.samples:
            return -1.0, False
        batches = self.selection_images.evaluation_batches(64, self.device, self.num_workers, self.processes.rank_slice)
        counts = evaluate(recognizer, encoder, batches, self.num_classes)
        return accuracies(counts)[int(self.balanced)], near_chance(counts)

    def is_kept(self, accuracy: float, best: float) -> bool:
        """Return whether a network replaces the one kept so far, whose accuracy is ``best``.

        With ``--select_on none`` every network does, and with ``test`` only a strictly better one, as in the published
        code.
        """
        return self.select_on == "none" or accuracy > best or accuracy == best and self.select_on == "val"

    def selection_metric(self, accuracy: float) -> dict[str, float]:
        """Return an accuracy on the selection images by its name in the log; empty if there are no such images."""
        return {f"{'test' if self.select_on == 'test' else 'val'}_acc": accuracy} if accuracy >= 0 else {}


# ------------------------------------------------------------------------------------------------------------- the loop

RATE_FLAGS = {"perceptual": "--perceptual_lr", "gan": "--lr", "recognizer": "--vgg_lr"}  # the learning rate of a phase
Metrics = dict[str, Tensor]
LOG_EVERY = 10  # steps between two rows of log/metrics.csv
FIRST_LINE = 5.0  # seconds of training after which a log file gets a first line, before an epoch has ended
SAVE_MINUTES = 10.0  # between two states
MINUTES_OF_STAGES = 2.0  # least time between states at ends of stages; one of the paper's size takes seconds to write
MOST_ADVERSARIAL = 5000  # of the generator's adversarial loss, a thousand times what guessing discriminators give
ADVICE = "go on from the networks of an epoch with --restore N, or start anew with --overwrite"


class Phase:
    """A part of a training, such as that of the GAN, whose epochs are stages of the schedule.

    Beside its ``name`` and the methods below, which need not do anything, each phase has

    - ``steps(epoch)``: the number of steps in an epoch;
    - ``batches(epoch, start)``: the batches of an epoch from step ``start`` on, as a function of seed and epoch;
    - ``step(batch)``: do one step, and return its metrics, which stay on the device;
    - ``end_epoch(epoch, means)``: evaluate and write the networks; return further metrics of the epoch;
    - ``state()`` and ``load_state(state)``: everything that the rest of the run depends on, except the position.
    """

    name: str

    def begin_epoch(self, epoch: int) -> None:
        """Do what precedes the first step of an epoch."""

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
    """Train from the run's position to its end. Raises Stopped after a signal that stops it, with the state saved."""
    run.begin()
    while run.stage < len(run.schedule()):
        stage = run.current_stage()
        phase = run.phases[stage.phase]
        if run.step == 0:
            phase.begin_epoch(stage.epoch)
        for batch in run.progress(phase.batches(stage.epoch, start=run.step)):
            run.after_step(phase.step(batch), images=len(batch.label))
        run.after_epoch(phase.end_epoch(stage.epoch, run.means()))


class Run:
    """The position of a training, its metrics, and its state on disk.

    ``schedule`` returns all stages in order; ``fingerprint`` is a digest of the lists, ``content`` of the images.
    """

    def __init__(self, context: TrainingContext, config: Config, phases: list[Phase],
                 schedule: Callable[[], list[Stage]], fingerprint: str, content: str) -> None:
        self.context, self.config, self.processes = context, config, context.processes
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
        self._saved_at = time.monotonic()
        self._bar: Any = None
        self._clock = Clock(context.device)
        self._first_line_at: float | None = None

    # ------------------------------------------------------------------------------------------------ the loop

    def begin(self) -> None:
        """Open the logs, and save a first state unless the run was resumed from one."""
        if self.processes.is_main:
            self.log = RunLog(self.context.folder / "log", self.log_position)
            self.speed_log = RunLog(self.context.folder / "log", sys.maxsize, "speed.csv")
        if self.processes.run_on_main(lambda: self.was_moved or not self.states.exists()):
            self.save()
        if self.processes.is_main and not sys.stderr.isatty():  # where no bar is shown
            self._first_line_at = time.monotonic() + FIRST_LINE

    def progress(self, batches: Iterable[Any]) -> Iterable[Any]:
        """Return the batches of the current stage with a progress bar."""
        stage = self.current_stage()
        self._clock.start()
        self.steps = self.phases[stage.phase].steps(stage.epoch)  # once, since it may take the plan of an epoch
        self._bar = utils.progress(batches, f"{stage.phase} {stage.epoch + 1}", self.steps,
                                   initial=self.step, disable=None if self.processes.is_main else True)
        return self._bar

    def after_step(self, metrics: Metrics, images: int) -> None:
        """Add up the metrics of a step, log them every :data:`LOG_EVERY` steps, and save if a state is due.

        Metrics on a GPU are read only when they are logged, since reading waits for the GPU.
        """
        self._clock.count(images)
        for name, value in metrics.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value.double(), count + 1)
        is_logged = self.step % LOG_EVERY == 0
        if is_logged or self.context.device.type == "cpu":
            values = {name: float(value) for name, value in metrics.items()}
            self._check_finite(values)
            if is_logged and self.log:
                stage = self.current_stage()
                self.log.write(stage.phase, stage.epoch + 1, stage.epoch * self.steps + self.step, values)
                self._bar.set_postfix({name: f"{value:.3g}" for name, value in values.items()})
        self.step += 1
        if self._first_line_at and time.monotonic() > self._first_line_at:
            stage, self._first_line_at = self.current_stage(), None
            print(f"{stage.phase} epoch {stage.epoch + 1}: step {self.step} of {self.steps}", flush=True)
        self._save_if_due()

    def means(self) -> dict[str, float]:
        """Return the means of the metrics over all steps of the current stage. Raises UserError if they exploded."""
        means = {name: float(total) / count for name, (total, count) in self._sums.items()}
        self._check_finite(means)
        if means.get("adv", 0) > MOST_ADVERSARIAL * self.config.gan_recipe.lambda_adv_loss:
            self._give_up(f"the loss has exploded: G is {means['G']:.3g}, nearly all of it for the discriminators,",
                          "gan")
        return means

    def after_epoch(self, metrics: dict[str, float]) -> None:
        """Log a finished stage, go to the next one, and save at the end of a phase or if the last save is old."""
        stage, line = self.current_stage(), ""
        if self.processes.is_main:
            metrics = {**self.means(), **metrics}
            rates = self._clock.stop(stage.phase, self.processes.world)
            self.log.write(f"{stage.phase}_epoch", stage.epoch + 1, stage.epoch, metrics)
            self.speed_log.write(stage.phase, stage.epoch + 1, stage.epoch, rates)
            stages = self.schedule()
            left = self._clock.time_left(stages[self.stage + 1:], self.phases)
            line = epoch_line(stage, stages, metrics, rates, left)
        self.stage, self.step, self._sums = self.stage + 1, 0, {}
        is_last = self.stage >= len(self.schedule())
        self._save_if_due(line, end_of_phase=is_last or self.current_stage().phase != stage.phase)

    def current_stage(self) -> Stage:
        """Return the stage at the position; the last one if the run is complete."""
        stages = self.schedule()
        return stages[min(self.stage, len(stages) - 1)]

    # ------------------------------------------------------------------------------------------------ state

    def _save_if_due(self, line: str | None = None, end_of_phase: bool = False) -> None:
        """Save every :data:`SAVE_MINUTES`, sooner at the end of a stage, always at that of a phase and before stopping.

        At the end of a stage its ``line`` is printed, after saving, since a terminal may block. Several processes
        decide together, only every :data:`LOG_EVERY` steps, since they wait for each other. Raises Stopped if a signal
        has asked for it.
        """
        end_of_stage = line is not None
        is_single = self.processes.world == 1
        if not (is_single or end_of_stage or self.step % LOG_EVERY == 0):
            return
        minutes = MINUTES_OF_STAGES if end_of_stage else SAVE_MINUTES
        overdue = self.processes.is_main and time.monotonic() - self._saved_at > 60 * minutes
        signum = self.stop_signal()
        if not is_single:
            signals = torch.tensor([signum, overdue], device=self.context.device)
            signum, overdue = self.processes.max(signals).tolist()
        if signum or overdue or end_of_phase:
            self.save()
        if line:
            print(line, flush=True)
            self._first_line_at = None
        if signum:
            raise utils.Stopped(signum, f"stopped by signal {signum}, the state is saved; resume with --restore "
                                f"--checkpoint_dir {self.context.folder}")

    def save(self) -> None:
        """Save the state. Raises UserError if metrics or networks hold NaN, infinite or exploded values."""
        self.means()
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
        if state["data"] != self.fingerprint and not self.context.force:
            raise UserError(f"--restore: the lists in {root} have changed since the run was started; restore them, or "
                            "add --force")
        if state.get("content") not in (None, self.content) and not self.context.force:
            raise UserError(f"--restore: images in {root} have other contents than when the run was started; restore "
                            "them, or add --force")
        self.load_state(state)
        done = self.stage + (self.step > 0)
        if earlier()[:done] != self.schedule()[:done]:
            raise UserError(f"--restore: with other --round_every or --round_epochs the run in {self.context.folder} "
                            "would skip or repeat epochs; leave them as they were, or go on from the networks of an "
                            "epoch with --restore N")
        check_planned(self.stage, self.schedule(), self.context.folder)

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


# -------------------------------------------------------------------------------------------------------------- the log

class RunLog:
    """The log of a training in ``log/metrics.csv`` (long format), and in TensorBoard if it is installed.

    Values that differ between repetitions, such as speeds, are logged in a file of another ``name``, without
    TensorBoard.

    Columns: ``phase`` (perceptual, gan, recognizer, …), ``epoch`` (from 1), ``step`` (of the phase, from 0),
    ``name``, ``value``. ``position`` is the length of the file in bytes, which training states contain:
    ``RunLog(folder, position)`` continues from there and drops what a killed run had written after it.
    """

    HEADER = ["phase", "epoch", "step", "name", "value"]

    def __init__(self, folder: str | os.PathLike, position: int | None = None, name: str = "metrics.csv"):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        is_new = position is None or not path.exists()
        if not is_new:
            os.truncate(path, min(position, path.stat().st_size))
        self._file = open(path, "w" if is_new else "a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._board = _tensorboard(folder) if name == "metrics.csv" else None
        self._write([self.HEADER] if is_new else [])

    def write(self, phase: str, epoch: int, step: int, metrics: dict[str, float]) -> None:
        """Append one row per metric."""
        self._write([phase, epoch, step, name, f"{value:.6g}"] for name, value in metrics.items())
        for name, value in metrics.items() if self._board is not None else ():
            self._board.add_scalar(f"{phase}/{name}", value, step)

    def _write(self, rows: Iterable[list]) -> None:
        self._writer.writerows(rows)
        self._file.flush()
        self.position = self._file.tell()


def _tensorboard(folder: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except Exception:  # not installed, or too old for the installed numpy or protobuf, with errors of many kinds
        return None
    return SummaryWriter(str(folder), flush_secs=30)


# ----------------------------------------------------------------------------------------------------------------- time

COLUMNS = 100  # the longest line of an epoch
PRINTED = ("loss", "G", "D", "val_acc", "test_acc", "best_test_acc", "acc")  # metrics.csv has all metrics


class Clock:
    """The time of a training: the images per second of an epoch, and the seconds per step of each phase."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds_per_step = device, {}

    def start(self) -> None:
        """Begin to measure an epoch, or the rest of one."""
        self._began, self._timed_from, self._images, self._steps = time.monotonic(), 0.0, 0, 0

    def count(self, images: int) -> None:
        """Count a step. The first one, which may allocate, counts for no images per second."""
        self._steps += 1
        if self._steps > 1:
            self._images += images
        else:
            synchronize(self.device)
            self._timed_from = time.perf_counter()

    def stop(self, phase: str, processes: int = 1) -> dict[str, float]:
        """Record the seconds per step, the end of an epoch among them; return the images per second by name."""
        synchronize(self.device)
        if self._steps:
            self.seconds_per_step[phase] = (time.monotonic() - self._began) / self._steps
        if not self._images:
            return {}
        return {"images_per_second": self._images * processes / (time.perf_counter() - self._timed_from)}

    def estimate(self, stages: Sequence[Stage], phases: Mapping[str, Phase]) -> tuple[float, list[str]]:
        """Return the estimated seconds of the stages, and the phases among them that have not been timed yet."""
        total, unknown = 0.0, []
        for name in dict.fromkeys(stage.phase for stage in stages):
            epochs = [stage.epoch for stage in stages if stage.phase == name]
            if name not in self.seconds_per_step:
                unknown.append(name)
                continue
            steps = (phases[name].steps(epochs[0]) + phases[name].steps(epochs[-1])) / 2  # they may grow over the run
            total += steps * len(epochs) * self.seconds_per_step[name]
        return total, unknown

    def time_left(self, stages: Sequence[Stage], phases: Mapping[str, Phase]) -> str:
        """Return the time left for the stages as one phrase."""
        seconds, unknown = self.estimate(stages, phases)
        if not stages:
            return "training done"
        return " + ".join([*([duration(seconds)] if seconds else []), *unknown]) + " left"


def duration(seconds: float) -> str:
    """Return a number of seconds as text: 5025 → ``1 h 24 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def epoch_line(stage: Stage, stages: Sequence[Stage], metrics: Mapping[str, float], rates: Mapping[str, float],
               time_left: str) -> str:
    """Return the line of a finished epoch, of at most 100 columns: position, main metrics, time left."""
    names = list(dict.fromkeys(other.phase for other in stages))
    count = sum(other.phase == stage.phase for other in stages)
    number, epoch = names.index(stage.phase) + 1, stage.epoch + 1
    position = f"stage {number} of {len(names)}, {stage.phase} epoch {epoch} of {count}:"
    updated = [f"D updated {100 * metrics['D_updated']:.0f} %"] if "D_updated" in metrics else []
    parts = [*(f"{name} {metrics[name]:.4g}" for name in PRINTED if name in metrics), *updated,
             *(f"{value:.3g} images/s" for value in rates.values())]
    while parts and len("  ".join([position, *parts, time_left])) > COLUMNS:
        parts.pop()
    return "  ".join([position, *parts, time_left])


# ---------------------------------------------------------------------------------------------------- exploded networks

def exploded(states: dict[str, dict[str, Any]]) -> tuple[str, str] | None:
    """Return the first phase whose networks hold NaN, infinite or exploded values, and the fault; None if none does."""
    for phase, state in states.items():
        for name, network in networks_in(state):
            if fault := fault_of_weights(network, LARGEST):
                return phase, f"{name}: {fault}"
    return None


def networks_in(state: Any, name: str = "") -> Iterator[tuple[str, Mapping[str, torch.Tensor]]]:
    """Yield the state dicts of the networks in a phase's state by their key path, without those of optimizers."""
    for key, value in state.items() if isinstance(state, Mapping) else ():
        if str(key).startswith(("optimizer", "scaler")):
            continue
        if isinstance(value, Mapping) and value and all(isinstance(tensor, torch.Tensor) for tensor in value.values()):
            yield f"{name}{key}", value
        else:
            yield from networks_in(value, f"{name}{key} ")
