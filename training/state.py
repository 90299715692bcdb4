"""Training states on disk: write them so that a kill loses none, and check their networks."""

import os
import re
import sys
from pathlib import Path
from typing import Any, Iterator, Mapping

import torch

from models.state_dicts import LARGEST, fault_of_weights
from options.schema import check, list_of, text
from system.torch_files import load_checkpoint, save_checkpoint
from utils import UserError, read_json, sha256, write_json

STATE_FORMAT = 3  # raised whenever older training states can no longer be resumed
RATE_FLAGS = {"perceptual": "--perceptual_lr", "gan": "--lr", "recognizer": "--vgg_lr"}  # the learning rate of a phase
STATE_NAME = r"state_\d{6,}\.pth"
WRITTEN = re.compile(rf"{STATE_NAME}|\.{STATE_NAME}\.[a-z0-9_]{{8}}\.part")  # complete and unfinished states
MANIFEST = list_of({"file": text(20, STATE_NAME), "sha256": text(64, r"[0-9a-f]*")})


def exploded(states: dict[str, dict[str, Any]]) -> tuple[str, str] | None:
    """Return the first phase whose networks hold NaN, infinite or exploded values, and the fault; None if none does."""
    for phase, state in states.items():
        for name, network in networks_in(state):
            if fault := fault_of_weights(network, LARGEST):
                return phase, f"{name}: {fault}"
    return None


def networks_in(state: Any, name: str = "") -> Iterator[tuple[str, Mapping[str, torch.Tensor]]]:
    """Yield the state dicts of the networks in a phase's state by their key path, without those of optimizers."""
    for key, value in state.items() if isinstance(state, Mapping) else ():
        if str(key).startswith(("optimizer", "scaler")):
            continue
        if isinstance(value, Mapping) and value and all(isinstance(tensor, torch.Tensor) for tensor in value.values()):
            yield f"{name}{key}", value
        else:
            yield from networks_in(value, f"{name}{key} ")


class StateStore:
    """The last two training states of a run, with their checksums in ``manifest.json``.

    A state is written under a new name, then the manifest, then the oldest state is removed: a kill at any moment
    leaves a complete state that the manifest lists.
    """

    COUNT = 2

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        self._manifest = self.folder / "manifest.json"
        self._damaged: set[str] = set()

    def begin(self) -> None:
        """Write an empty manifest: state files that it does not list are the rest of a start that failed."""
        write_json(self._manifest, [])

    def is_begun(self) -> bool:
        """Return whether a run has started here and has not saved a complete state yet."""
        return self._manifest.is_file() and not self._entries()

    def exists(self) -> bool:
        """Return whether there is a state to restore."""
        return bool(self._entries())

    def is_lost(self) -> bool:
        """Return whether there are states without a manifest."""
        return not self._manifest.is_file() and self.folder.is_dir() \
            and any(re.fullmatch(STATE_NAME, path.name) for path in self.folder.iterdir())

    def newest(self) -> Path | None:
        """Return the path of the last state that was saved, None if there is none."""
        entries = self._entries()
        return self.folder / entries[0]["file"] if entries else None

    def save(self, state: Any) -> None:
        """Add a state as the newest, and remove all but the last two."""
        entries = self._entries()
        number = 1 + max((int(entry["file"][6:-4]) for entry in entries), default=0)
        path = self.folder / f"state_{number:06d}.pth"
        save_checkpoint(path, state)
        undamaged = [entry for entry in entries if entry["file"] not in self._damaged]
        entries = [{"file": path.name, "sha256": sha256(path)}, *undamaged][:self.COUNT]
        write_json(self._manifest, entries)
        listed = {entry["file"] for entry in entries}
        for path in self.folder.iterdir():
            if WRITTEN.fullmatch(path.name) and path.name not in listed:
                path.unlink()

    def load(self) -> Any:
        """Return the newest undamaged state, and warn of every damaged one. Raises UserError if there is none."""
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
                     "restore it from a backup, or start anew with --overwrite")
