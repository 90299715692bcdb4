"""What is measured of speed: operations by hand, rates, what is saved when, and the benchmark at tiny sizes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

from conftest import REPOSITORY, new_process
from models.parallel import Processes
from options.config import RunOptions
from training.timing import Speedometer
from training.trainer import Run, Stage, fit

sys.path.insert(0, str(REPOSITORY / "experiments"))
from peak import flops_of, peak_flops  # noqa: E402


def test_operations_are_those_of_the_hand():
    a, b = torch.rand(3, 5), torch.rand(5, 7)
    result, flops = flops_of(lambda: a @ b)
    assert flops == 2 * 3 * 5 * 7 and torch.equal(result, a @ b)
    conv, image = torch.nn.Conv2d(3, 4, 3, padding=1), torch.rand(2, 3, 8, 8)
    assert flops_of(lambda: conv(image))[1] == 2 * 2 * 4 * 8 * 8 * 3 * 9


def test_training_measures_images_per_second_alone(monkeypatch):
    monkeypatch.setattr("time.perf_counter", iter([10.0, 14.0]).__next__)
    meter = Speedometer(torch.device("cpu"))
    assert meter.metrics() == {}
    for _ in range(6):
        meter.count(8)  # the first step chooses algorithms, and is not timed
    assert meter.metrics(processes=2) == {"images_per_second": 2 * 5 * 8 / 4.0}


def test_a_peak_is_measured():
    assert peak_flops(torch.device("cpu"), small=True) > 1e8


def test_benchmark_at_tiny_sizes(tmp_path):
    result = new_process("experiments/benchmark.py", "--image_size", 32, "--base_width", 4, "--vgg_width", 4,
                         "--fc_width", 16, "--batch_size", 4, "--vgg_batch_size", 6, "--persons", 1, "--seconds", 0,
                         "--phases", "gan_step", "synthesis", "evaluation", "loading", "--imitate_reference",
                         "--device", "cpu", "--json", tmp_path / "figures.json")
    assert result.returncode == 0, result.stderr
    phases = {row["phase"]: row for row in json.loads((tmp_path / "figures.json").read_text())["phases"]}
    assert phases.keys() == {"gan_step", "imitated_gan_step", "synthesis", "evaluation", "loading"}
    assert 0 < phases["gan_step"]["peak_share"] < 1 and phases["loading"]["gflop_per_image"] is None
    ours, theirs = (phases[name]["gflop_per_image"] for name in ("gan_step", "imitated_gan_step"))
    assert 0.7 < ours / theirs < 1  # the same work, less the gradients that nobody uses
    assert "times faster than the reference's way" in result.stdout


class Counting:
    """A phase whose epochs have two steps of some seconds, and that learns nothing."""

    def __init__(self, name: str, clock: list[float], seconds: float) -> None:
        self.name, self.clock, self.seconds = name, clock, seconds

    def steps(self, epoch: int) -> int:
        return 2

    def batches(self, epoch: int, start: int):
        return (SimpleNamespace(label=[0]) for _ in range(start, 2))

    def step(self, batch) -> dict[str, torch.Tensor]:
        self.clock[0] += self.seconds
        return {"loss": torch.ones(())}

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        return {}

    def state(self) -> dict:
        return {}


def saves(folder: Path, monkeypatch, seconds: float) -> list[int]:
    """The stages at which a run of five stage-0, two GAN and one recognizer epochs saves its state."""
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    stages = [Stage("perceptual", i) for i in range(5)] + [Stage("gan", 0), Stage("gan", 1), Stage("recognizer", 0)]
    context = SimpleNamespace(device=torch.device("cpu"), folder=folder, processes=Processes())
    phases = [Counting(name, clock, seconds) for name in ("perceptual", "gan", "recognizer")]
    run = Run(context, RunOptions(), phases, lambda: stages, "lists", "images")
    found: list[int] = []
    monkeypatch.setattr(run.states, "save", lambda state: found.append(state["stage"]))
    fit(run)
    return found


def test_states_are_written_at_the_end_of_phases_and_of_stages_that_take_minutes(tmp_path, monkeypatch):
    assert saves(tmp_path / "quick", monkeypatch, 10.0) == [0, 5, 7, 8]
    assert saves(tmp_path / "slow", monkeypatch, 61.0) == [0, 1, 2, 3, 4, 5, 6, 7, 8]
