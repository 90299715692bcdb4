"""The log of a training: every metric in one CSV file, and in TensorBoard if it can be used."""

import csv
import os
from pathlib import Path
from typing import Iterable


class RunLog:
    """The log of a training in ``log/metrics.csv`` (long format), and in TensorBoard if it is installed.

    Values that differ between repetitions, such as speeds, are logged in a file of another ``name``, without
    TensorBoard.

    Columns: ``phase`` (perceptual, gan, recognizer, …), ``epoch`` (from 1), ``step`` (of the phase, from 0),
    ``name``, ``value``. ``position`` is the length of the file in bytes, which training states contain:
    ``RunLog(folder, position)`` continues from there and drops what a killed run had written after it.
    """

    HEADER = ["phase", "epoch", "step", "name", "value"]

    def __init__(self, folder: str | os.PathLike, position: int | None = None, name: str = "metrics.csv"):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        is_new = position is None or not path.exists()
        if not is_new:
            os.truncate(path, min(position, path.stat().st_size))
        self._file = open(path, "w" if is_new else "a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._board = _tensorboard(folder) if name == "metrics.csv" else None
        self._write([self.HEADER] if is_new else [])

    def write(self, phase: str, epoch: int, step: int, metrics: dict[str, float]) -> None:
        """Append one row per metric."""
        self._write([phase, epoch, step, name, f"{value:.6g}"] for name, value in metrics.items())
        for name, value in metrics.items() if self._board is not None else ():
            self._board.add_scalar(f"{phase}/{name}", value, step)

    def _write(self, rows: Iterable[list]) -> None:
        self._writer.writerows(rows)
        self._file.flush()
        self.position = self._file.tell()


def _tensorboard(folder: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except Exception:  # not installed, or too old for the installed numpy or protobuf, with errors of many kinds
        return None
    return SummaryWriter(str(folder), flush_secs=30)
