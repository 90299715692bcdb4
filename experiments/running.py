"""Run ``train.py`` for a measurement, in a process of its own with its output in a file."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Sequence

REPOSITORY = Path(__file__).resolve().parents[1]


def train(argv: Sequence[str], output: Path, threads: int | None = None) -> None:
    """Run ``python train.py`` with options, and append its output to a file.

    ``threads`` limits the threads of the run. Raises SystemExit if the run fails.
    """
    environment = {**os.environ, **({} if threads is None else {"OMP_NUM_THREADS": str(threads)})}
    with open(output, "a") as log:
        result = subprocess.run([sys.executable, "train.py", *argv], cwd=REPOSITORY, stdout=log, stderr=log,
                                env=environment)
    if result.returncode:
        raise SystemExit(f"train.py {' '.join(argv)}: exit status {result.returncode}, see {output}")
