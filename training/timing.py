"""The time of a training: images per second, the time left, and the line that is printed after an epoch."""

import time
from typing import TYPE_CHECKING, Mapping, Sequence

import torch

from system.devices import synchronize

if TYPE_CHECKING:
    from training.trainer import Phase, Stage

COLUMNS = 100  # the longest line of an epoch
PRINTED = ("loss", "G", "D", "val_acc", "test_acc", "best_test_acc", "acc")  # metrics.csv has all metrics


class Speedometer:
    """The images per second of a training. The first step, which may compile and allocate, is not timed."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._images: int | None = None
        self._started = 0.0

    def count(self, images: int) -> None:
        """Count the images of a finished step."""
        if self._images is not None:
            self._images += images
            return
        synchronize(self.device)
        self._images, self._started = 0, time.perf_counter()

    def metrics(self, processes: int = 1) -> dict[str, float]:
        """Return the images per second of all processes by the metric's name; empty before the second step."""
        synchronize(self.device)
        if not self._images:
            return {}
        return {"images_per_second": self._images * processes / (time.perf_counter() - self._started)}


class TimeLeft:
    """The seconds per step of each phase, with the end of an epoch spread over its steps."""

    def __init__(self) -> None:
        self.seconds_per_step: dict[str, float] = {}

    def measure(self, phase: str, seconds: float, steps: int) -> None:
        """Record the seconds of an epoch of a phase, or of its last steps and its end."""
        if steps:
            self.seconds_per_step[phase] = seconds / steps

    def estimate(self, stages: Sequence["Stage"], phases: Mapping[str, "Phase"]) -> tuple[float, list[str]]:
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

    def as_text(self, stages: Sequence["Stage"], phases: Mapping[str, "Phase"]) -> str:
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


def epoch_line(stage: "Stage", stages: Sequence["Stage"], metrics: Mapping[str, float], rates: Mapping[str, float],
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
