"""What is measured of speed: operations by hand, rates, and the benchmark at tiny sizes."""

from __future__ import annotations

import json
import sys

import torch

from conftest import REPOSITORY, new_process
from models.speed import Speedometer

sys.path.insert(0, str(REPOSITORY / "experiments"))
from peak import flops_of  # noqa: E402


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
