"""The data and settings that all phases of a training share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

import torch

import utils
from datasets.layout import Layout
from datasets.loading import Images, Loaded, load
from datasets.plans import Plan
from evaluation.metrics import Report
from evaluation.recognition import evaluate
from models.generator import Encoder
from models.parallel import Processes
from models.recognizer import Recognizer


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
    compile: bool
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

    def load(self, plan: Plan, start: int) -> Iterator[Loaded]:
        """Return this process's part of the plan's batches from batch ``start`` on."""
        return load(self.images, plan[start:], self.num_workers, self.device.type == "cuda", self.processes.rank_slice)

    def evaluate_for_selection(self, recognizer: Recognizer, encoder: Encoder | None) -> tuple[float, Report | None]:
        """Return the accuracy in percent on the selection images and the whole report; -1 and None if there are none.

        Each image is recognized by one of the processes.
        """
        if not self.selection_images.samples:
            return -1.0, None
        batches = self.selection_images.evaluation_batches(64, self.device, self.num_workers, self.processes.rank_slice)
        report = evaluate(recognizer, encoder, batches, self.num_classes)
        return report.mean_class_accuracy if self.balanced else report.accuracy, report

    def is_kept(self, accuracy: float, best: float) -> bool:
        """Return whether a network replaces the one kept so far, whose accuracy is ``best``.

        With ``--select_on none`` every network does, and with ``test`` only a strictly better one, as in the published
        code.
        """
        if self.select_on == "none":
            return True
        return accuracy > best if self.select_on == "test" else accuracy >= best

    def selection_metric(self, accuracy: float) -> dict[str, float]:
        """Return an accuracy on the selection images by its name in the log; empty if there are no such images."""
        return {f"{'test' if self.select_on == 'test' else 'val'}_acc": accuracy} if accuracy >= 0 else {}
