"""How the measurements call ``train.py``: as a user does, in a process of its own, with the output in a file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Sequence

REPOSITORY = Path(__file__).resolve().parents[1]


def train(words: Sequence[str], output: Path, threads: int | None = None) -> None:
    """``python train.py`` with these words, its output behind what ``output`` already holds.

    ``threads`` are those of the run; None: as many as it takes by itself. SystemExit where it fails.
    """
    own = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    with open(output, "a") as log:
        done = subprocess.run([sys.executable, "train.py", *words], cwd=REPOSITORY, stdout=log, stderr=log,
                              env={**os.environ, **own})
    if done.returncode:
        raise SystemExit(f"train.py {' '.join(words)}: exit status {done.returncode}, see {output}")
