"""What the tests share: the repository on the path, shared/ where it is, tiny data sets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"
sys.path.insert(0, str(REPOSITORY))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests' networks are tiny, and two of them run at once


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--hostile-cases N``."""
    parser.addoption("--hostile-cases", type=int, default=1, metavar="N",
                     help="N times as many cases in tests/test_hostile*.py as are quick")


def pytest_configure(config: pytest.Config) -> None:
    """Tell the tests before they are collected: their decorators read it."""
    os.environ["HOSTILE_CASES"] = str(max(1, config.getoption("--hostile-cases")))
    if hasattr(config.option, "loadscopereorder"):  # xdist: files of few, long tests are not to come last, alone
        config.option.loadscopereorder = False


def shared(path: str) -> Path:
    """A file of the shared folder; the test is skipped where the folder does not lie beside the clone."""
    found = SHARED / path
    if not found.exists():
        pytest.skip(f"shared/{path} does not lie beside this clone")
    return found


def command(*words: object, cwd: Path = REPOSITORY, timeout: float = 300) -> subprocess.CompletedProcess:
    """Run ``python <words>`` as a user types it; output as text."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run([sys.executable, *map(str, words)], cwd=cwd, env=environment, timeout=timeout,
                          capture_output=True, text=True)


def train_command(*words: object) -> subprocess.CompletedProcess:
    """``python train.py <words>`` in this process, without the seconds that a new one takes to start."""
    import contextlib
    import io

    import train
    import utils

    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            utils.run_command(lambda: train.main(list(map(str, words))))
        except SystemExit as stop:
            status = stop.code
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def refused(result: subprocess.CompletedProcess) -> str:
    """The one line with which a command refuses bad input (exit status 2, no traceback)."""
    lines = [line for line in result.stderr.splitlines() if line.strip() and not line.startswith("warning:")]
    assert result.returncode == 2, (result.returncode, result.stdout, result.stderr)
    assert len(lines) == 1 and "Traceback" not in result.stderr, result.stderr
    return lines[0]


EXPRESSIONS = ["disgust", "scream", "smile", "squint", "surprise", "neutral"]


def untrained_run(folder: Path, names: list[str] = EXPRESSIONS, image_size: int = 32, alignment: dict | None = None,
                  widths: tuple[int, int, int] = (4, 4, 16)) -> Path:
    """The files of a run whose networks have learned nothing: enough for all that only uses them.

    Batch norm knows some drawn faces, so that answers differ from face to face.
    """
    import torch

    from datasets.loading import to_float, to_uint8
    from datasets.drawing.data_set import truth
    from datasets.drawing.faces import EXPRESSIONS as DRAWN
    from models.checkpoints import save_gan, save_recognizer
    from options.recipes import GANShape
    from models.recognizer import Recognizer, real_features
    from models.swap_gan import SwapGAN
    from models.backbones import VGG_fx

    torch.manual_seed(0)
    base, vgg, fc = widths
    gan = SwapGAN(GANShape(len(names), image_size, base))
    config = {"expressions": names, "listed": names, "neutral_name": names[-1], "image_size": image_size,
              "alignment": alignment, "data_dir": "", "selected_on": "val", "gan": gan.config()}
    recognizer = Recognizer(VGG_fx(len(names), vgg, fc, base))
    faces = to_float(torch.stack([to_uint8(truth(f"p{i:04d}", "c1", name, image_size)) for i in (1, 2)
                                  for name in DRAWN]))
    with torch.no_grad():
        for _ in range(20):
            recognizer.network(faces, real_features(gan.encoder, faces))
        recognizer.network.new_fc.weight.mul_(50)
    save_gan(folder / "model", gan, config, 1)
    save_recognizer(folder / "VGG", recognizer, gan.encoder, 50.0, config)
    return folder
