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


def refused(result: subprocess.CompletedProcess) -> str:
    """The one line with which a command refuses bad input (exit status 2, no traceback)."""
    lines = [line for line in result.stderr.splitlines() if line.strip() and not line.startswith("warning:")]
    assert result.returncode == 2, (result.returncode, result.stdout, result.stderr)
    assert len(lines) == 1 and "Traceback" not in result.stderr, result.stderr
    return lines[0]
