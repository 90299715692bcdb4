"""The check for those who have a GPU, as far as a CPU can show that it works."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from conftest import REPOSITORY, new_process

sys.path.insert(0, str(REPOSITORY / "experiments"))
from gpu_check import Checks, Failed, NotTested, Row, difference, one_step, speed_row  # noqa: E402


def test_the_table_says_what_was_not_tested(tmp_path):
    result = new_process("experiments/gpu_check.py", "--size", "tiny", "--device", "cpu", "--output", tmp_path / "table.md",
                     "--checks", "device", "fidelity", "two_gpus", "compile")
    assert result.returncode == 0, result.stderr
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert result.stdout.splitlines() == lines
    assert lines[2].startswith("| device | CPU | ") and f"torch {torch.__version__}" in lines[2]
    assert lines[3].startswith("| losses and swaps of a step equal the CPU's | yes | largest difference 0.0e+00")
    assert lines[4:] == ["| two gpus | not tested | there are no two GPUs |",
                         "| compile | not tested | at the paper's size alone |"]


def test_without_a_gpu_it_says_so_in_one_line():
    result = new_process("experiments/gpu_check.py")
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "torch finds no GPU here" in result.stderr


def test_commands_that_fail_or_take_too_long_are_told_apart():
    checks = Checks("tiny", torch.device("cpu"), Path("."))
    checks.call([sys.executable, "-c", "pass"])
    with pytest.raises(Failed, match="status 3: the reason"):
        checks.call([sys.executable, "-c", "import sys; print('the reason', file=sys.stderr); sys.exit(3)"])
    checks.ends = 0.0
    with pytest.raises(NotTested, match="minutes are over"):
        checks.call([sys.executable, "-c", "pass"])


def test_differences_and_speeds_are_rows_of_the_table():
    assert {"loss G", "loss D", "loss of the recognizer", "swap"} <= one_step(torch.device("cpu")).keys()
    assert difference(torch.tensor([2.0, 4.0]), torch.tensor([2.0, 3.0])) == 0.25
    row = {"milliseconds": 20.0, "images_per_second": 500.0, "peak_share": 0.5}
    assert speed_row("gan_step", "bf16", row, 4e12) \
        == Row("gan step, bf16", "20.0 ms", "500 images/s, 50 % of 4.0 TFLOP/s; aim in bf16: ≥ 25 % of the peak")
