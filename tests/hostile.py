"""What the hostile tests share: commands in this process, tiny runs, pictures of folders, mutations of values."""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import time
from pathlib import Path
from typing import Any, Callable, Sequence

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import train
import utils
from experiments.resources import peak_memory, reset_peak_memory

CPU = torch.device("cpu")
TINY = ["--image_size", 32, "--base_width", 2, "--vgg_width", 2, "--fc_width", 4, "--batch_size", 6, "--vgg_init",
        "none", "--vgg_batch_size", 12, "--round_every", 1, "--round_epochs", 1, "--perceptual_epochs", 1,
        "--epochs", 1, "--label_copy", 1, "--gpu", -1, "--gan_raw", 1]


def cases(count: int) -> Callable:
    """Hypothesis with so many cases, times ``--hostile-cases``."""
    return settings(max_examples=count * int(os.environ.get("HOSTILE_CASES", 1)), deadline=None, database=None,
                    derandomize=True, suppress_health_check=list(HealthCheck))


def ended(action: Callable[[], Any]) -> tuple[int, str]:
    """The exit status and stderr of an action run as a command; it fails the test at a traceback."""
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
        try:
            utils.run_command(lambda: action() and None)
        except SystemExit as end:
            return end.code or 0, stderr.getvalue()
    return 0, stderr.getvalue()


def refused(action: Callable[[], Any]) -> str:
    """The one line with which an action ends, exit status 2, within 10 seconds of work and 1.5 GiB of memory."""
    reset_peak_memory(CPU)
    started, before = time.process_time(), peak_memory(CPU)
    code, said = ended(action)
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("warning:")]
    assert code == 2 and len(lines) == 1 and len(lines[0]) < 2000, (code, said)
    assert time.process_time() - started < 10
    assert not peak_memory(CPU) - before > 1.5  # the program itself takes half a GiB; NaN where nobody counts
    return lines[0]


def works_or_is_refused(action: Callable[[], Any]) -> bool:
    """Whether the action worked; the test fails unless it did or ended in one line."""
    worked: list[bool] = []

    def noted() -> None:
        action()
        worked.append(True)

    code, said = ended(noted)
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("warning:")]
    assert worked or code == 2 and len(lines) == 1 and len(lines[0]) < 2000, (code, said)
    return bool(worked)


def run(data: Path, folder: Path, *more: object) -> None:
    """``train.py`` in this process, as small as can be."""
    train.main(list(map(str, ["--data_dir", data, "--checkpoint_dir", folder, *TINY, *more])))


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and what is in it; links by where they point."""
    return {path.relative_to(folder).as_posix(): str(path.readlink()).encode() if path.is_symlink()
            else path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file()}


def fill(folder: Path, *names: str) -> dict[str, bytes]:
    """Write foreign files of some names; their bytes by name."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(f"mine: {name}".encode())
    return {name: f"mine: {name}".encode() for name in names}


def kept(folder: Path, foreign: dict[str, bytes]) -> bool:
    """Whether all foreign files still hold what they held."""
    return all((folder / name).is_file() and (folder / name).read_bytes() == content
               for name, content in foreign.items())


# ---------------------------------------------------------------------------------------------- mutations

def deep(depth: int) -> list:
    """Lists in lists."""
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


PLAIN = [None, True, False, 0, -1, 1, 33, 10 ** 9, 10 ** 20, -10 ** 20, 0.5, float("nan"), float("inf"), -float("inf"),
         "", "x", "\0", "ü" * 300, "a" * 5000, [], {}, [1], ["a", "a"], [[]], {"a": {}}, deep(50)]
TENSORS = [torch.zeros(()), torch.zeros(3), torch.full((2, 2), float("nan")), torch.ones(2, dtype=torch.int64),
           torch.ones(3, dtype=torch.complex64), torch.zeros(0, 5), torch.tensor(float("inf")),
           torch.zeros(1).expand(1000, 1000), torch.ones(2, 3, 4, 5)]
seeds = st.integers(0, 2 ** 32 - 1)


def mutated(value: Any, seed: int, values: Sequence[Any] = PLAIN) -> Any:
    """A copy of nested dicts and lists with one to three things replaced, removed or added, by the seed."""
    draw = random.Random(seed)
    for _ in range(draw.randint(1, 3)):
        value = _mutated(value, draw, values)
    return value


def _mutated(value: Any, draw: random.Random, values: Sequence[Any]) -> Any:
    if isinstance(value, torch.Tensor) and value.numel() and draw.random() < 0.5:
        changed = draw.choice([lambda v: v.double() * float("nan"), lambda v: v.long(), lambda v: v.flatten()[:1],
                               lambda v: v.to(torch.complex64), lambda v: v[None], lambda v: v.float() + float("inf")])
        return changed(value)
    if not isinstance(value, (dict, list, tuple)) or not value or draw.random() < 0.1:
        return draw.choice(values)
    if isinstance(value, dict):
        value, key = dict(value), draw.choice(list(value))
        if draw.random() < 0.15:
            del value[key]
        elif draw.random() < 0.1:
            value[draw.choice(["new", 7, ""])] = draw.choice(values)
        else:
            value[key] = _mutated(value[key], draw, values)
        return value
    position = draw.randrange(len(value))
    if draw.random() < 0.15:
        return [*value[:position], *value[position + 1:]]
    return [*value[:position], _mutated(value[position], draw, values), *value[position + 1:]]


LOCK_HOLDER = """
import sys, time
sys.path.insert(0, {repository!r})
from training.run_directory import RunDirectory
held = RunDirectory({folder!r})
held.lock()
print("locked", flush=True)
time.sleep(600)
"""
PYTHON = sys.executable
