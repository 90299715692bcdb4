"""The experiments: rates, the benchmark at tiny sizes, and the GPU check."""

import json
import sys

import pytest
import torch

from conftest import REPOSITORY, new_process, refused, succeeds
from training.trainer import Clock

sys.path.insert(0, str(REPOSITORY / "experiments"))
import gpu_check  # noqa: E402
from gpu_check import Checks, Row, speed_row  # noqa: E402


def test_images_per_second_are_measured_without_the_first_step(monkeypatch):
    monkeypatch.setattr("time.perf_counter", iter([10.0, 14.0]).__next__)
    clock = Clock(torch.device("cpu"))
    clock.start()
    assert clock.stop("gan") == {}
    for _ in range(6):
        clock.count(8)
    assert clock.stop("gan", processes=2) == {"images_per_second": 2 * 5 * 8 / 4.0}


def test_benchmark_at_tiny_sizes(tmp_path):
    output = succeeds(new_process(
        "experiments/benchmark.py", "--image_size", 32, "--base_width", 4, "--vgg_width", 4, "--fc_width", 16,
        "--batch_size", 4, "--vgg_batch_size", 6, "--persons", 1, "--seconds", 0, "--phases", "gan_step", "synthesis",
        "evaluation", "loading", "save", "--imitate_reference", "--device", "cpu", "--json", tmp_path / "figures.json"))
    phases = {row["phase"]: row for row in json.loads((tmp_path / "figures.json").read_text())["phases"]}
    assert phases.keys() == {"gan_step", "imitated_gan_step", "synthesis", "evaluation", "loading", "save"}
    assert 0 < phases["gan_step"]["peak_share"] < 1 and phases["loading"]["gflop_per_image"] is None
    ours, theirs = (phases[name]["gflop_per_image"] for name in ("gan_step", "imitated_gan_step"))
    assert 0.7 < ours / theirs < 1  # ours computes no unused gradients
    assert phases["save"]["bytes_written"] > 100_000 and "times faster than the reference's way" in output


def test_the_gpu_check_is_a_table_that_lists_checks_that_were_not_possible(tmp_path):
    refused(new_process("experiments/gpu_check.py"), "torch finds no GPU here")
    output = succeeds(new_process("experiments/gpu_check.py", "--size", "tiny", "--device", "cpu", "--output",
                                  tmp_path / "table.md", "--checks", "device", "fidelity", "two_gpus"))
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert output.splitlines() == lines
    assert lines[2].startswith("| device | CPU | ") and f"torch {torch.__version__}" in lines[2]
    names, results = zip(*(line.split(" | ")[:2] for line in lines[3:]))
    assert names == ("| losses and swaps of a step in float32 equal the CPU's in float32",
                     "| losses and swaps of a step in bf16 equal the CPU's in float32",
                     "| a skipped update of the discriminators changes nothing", "| two processes train like one")
    assert results == ("yes", "yes", "yes", "yes") and "largest difference 0.0e+00" in lines[3]


@pytest.mark.parametrize("name, value", [("NEAR_CPU", {"float32": 0.0, "bf16": 0.0}), ("NEAR_FLOAT32", 0.0)])
def test_a_result_outside_its_bound_is_marked_and_ends_with_status_1(tmp_path, monkeypatch, capsys, name, value):
    monkeypatch.setattr(gpu_check, name, value)
    monkeypatch.setattr(Checks, "train", lambda self, run, *flags: None)
    monkeypatch.setattr(gpu_check, "mean_losses", lambda run: {"gan": 2.0})
    monkeypatch.setattr(gpu_check, "speeds", lambda run: "")
    check = "fidelity" if name == "NEAR_CPU" else "training"
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--size=tiny", "--device=cpu", "--checks", check,
                                      f"--output={tmp_path / 'table.md'}"])
    with pytest.raises(SystemExit) as ended:
        gpu_check.main()
    assert ended.value.code == 1 and "| NO |" in capsys.readouterr().out
    row = {"milliseconds": 20.0, "images_per_second": 500.0, "peak_share": 0.5}
    text = "20.0 ms, 500 images/s, 50 % of 4.0 TFLOP/s; bound in bf16: 25 % of the peak"
    assert speed_row("gan_step", "bf16", row, 4e12) == Row("speed of gan step, bf16", "yes", text)
    assert speed_row("evaluation", "bf16", row, 4e12).result == "NO"  # less than 2,000 images a second
