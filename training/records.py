"""What a run keeps beside its networks: training states that survive a kill, and the log of every figure."""

from __future__ import annotations

import csv
import os
import re
import sys
from pathlib import Path
from typing import Any

from options.schema import Each, Text, check
from utils import UserError, load_checkpoint, read_json, save_checkpoint, sha256, write_json


STATE_NAME = r"state_\d{6,}\.pth"
WRITTEN = re.compile(rf"{STATE_NAME}|\.{STATE_NAME}\.[a-z0-9_]{{8}}\.part")  # whole states, and those of a kill
MANIFEST = Each({"file": Text(20, STATE_NAME), "sha256": Text(64, r"[0-9a-f]*")})


class StateStore:
    """The last two training states of a run, each with its checksum in ``manifest.json``.

    A state is written under a new name, then the manifest, then the oldest is removed: a kill at any moment leaves a
    whole state that the manifest knows.
    """

    KEPT = 2

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        self._manifest = self.folder / "manifest.json"
        self._damaged: set[str] = set()

    def begin(self) -> None:
        """Say that no state has been saved yet: until one is, whatever lies here is the rest of a false start."""
        write_json(self._manifest, [])

    def is_begun(self) -> bool:
        """Whether a run has begun here and been stopped before its first state was saved."""
        return self._manifest.is_file() and not self._entries()

    def exists(self) -> bool:
        """Whether there is anything to restore."""
        return bool(self._entries())

    def newest(self) -> Path | None:
        """The path of the last state that was saved, or None."""
        entries = self._entries()
        return self.folder / entries[0]["file"] if entries else None

    def save(self, state: Any) -> None:
        """Add a state as the newest."""
        entries = self._entries()
        number = 1 + max((int(entry["file"][6:-4]) for entry in entries), default=0)
        path = self.folder / f"state_{number:06d}.pth"
        save_checkpoint(path, state)
        sound = [entry for entry in entries if entry["file"] not in self._damaged]
        entries = [{"file": path.name, "sha256": sha256(path)}, *sound][:self.KEPT]
        write_json(self._manifest, entries)
        kept = {entry["file"] for entry in entries}
        for old in self.folder.iterdir():
            if WRITTEN.fullmatch(old.name) and old.name not in kept:
                old.unlink()

    def load(self) -> Any:
        """The newest state that is undamaged, with a warning where that is not the last one saved.

        Raises UserError where there is none.
        """
        for entry in self._entries():
            path = self.folder / entry["file"]
            if path.is_file() and sha256(path) == entry["sha256"]:
                return load_checkpoint(path)
            self._damaged.add(entry["file"])
            print(f"warning: {path} is {'damaged' if path.is_file() else 'missing'}, trying the state before it",
                  file=sys.stderr)
        raise UserError(f"{self.folder}: no undamaged training state to restore; start anew with --overwrite, or from "
                        "the networks of an epoch N with --restore N")

    def _entries(self) -> list[dict[str, str]]:
        if not self._manifest.is_file():
            return []
        return check(read_json(self._manifest), MANIFEST, self._manifest,
                     "put it back from a copy, or start anew with --overwrite")


class RunLog:
    """Every figure of a training: ``log/metrics.csv`` (long format), and TensorBoard where it is installed.

    What may differ from run to run, like speeds, goes into a file of another name, without TensorBoard.

    Columns: ``phase`` (perceptual, gan, recognizer, …), ``epoch`` (from 0), ``step`` (of the phase, from 0),
    ``name``, ``value``. ``position`` is the length of the file in bytes: a checkpoint keeps it, and
    ``RunLog(folder, position)`` goes on from there, dropping what a killed run had written after it.
    """

    HEADER = ["phase", "epoch", "step", "name", "value"]

    def __init__(self, folder: str | os.PathLike, position: int | None = None, name: str = "metrics.csv"):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        if position is None or not path.exists():
            self._file = open(path, "w", newline="", encoding="utf-8")
            csv.writer(self._file).writerow(self.HEADER)
        else:
            self._file = open(path, "r+", newline="", encoding="utf-8")
            self._file.truncate(min(position, path.stat().st_size))
            self._file.seek(0, os.SEEK_END)
        self._board = _tensorboard(folder) if name == "metrics.csv" else None
        self.position = self._flush()

    def write(self, phase: str, epoch: int, step: int, figures: dict[str, float]) -> None:
        """Append one row per figure."""
        writer = csv.writer(self._file)
        for name, value in figures.items():
            writer.writerow([phase, epoch, step, name, f"{value:.6g}"])
            if self._board is not None:
                self._board.add_scalar(f"{phase}/{name}", value, step)
        self.position = self._flush()

    def _flush(self) -> int:
        self._file.flush()
        return self._file.tell()


def _tensorboard(folder: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), flush_secs=30)
