"""A run's directory: who may write there, and how an earlier run is moved aside.

A run marks its directory with ``run.json`` before it writes anything else, and a series of folds or seeds the directory
around them with ``series.json``. A new run uses only a directory that is absent, empty, or marked and without results.
``--overwrite`` moves everything in it aside. No file of the user's is ever changed or removed.
"""

import errno
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout  # which torch requires

import utils
from models.checkpoints import RUN_FOLDERS, load_checkpoint, save_checkpoint
from models.distributed import Processes
from options.config import RUN_KEYS
from utils import UserError, read_json, sha256, write_json

LOCK, FORMAT = "run.lock", 1
WITHOUT_LOCKS = errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL  # of a file system
NETWORKS, STATES = ("model/*_iter_*.pth", "VGG/max_ckpt.t7"), "state/state_*.pth"  # results, never overwritten silently
REUSABLE = {"VGG_loss", "judge.pth"}  # may lie there before a run, since they depend on the data alone
UNFINISHED = re.compile(r"\..+\.[a-z0-9_]{8}\.part")
MEMBER = re.compile(r"(fold|seed)_\d{2,}")


class RunDirectory:
    """The directory of one run; it need not exist yet."""

    mark, other_mark, other_content = "run.json", "series.json", "the folds or seeds of another command"
    folders = RUN_FOLDERS

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        self._lock = FileLock(self.folder / LOCK, timeout=0)

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, *_: Any) -> None:
        self._lock.release()

    def is_claimed(self) -> bool:
        """Return whether a run has marked the directory. Raises UserError if the mark is another program's."""
        path = self.folder / self.mark
        if not path.is_file():
            return False
        content = utils.read_json(path)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise UserError(f"{path}: damaged, or of another version; restore it from a backup")
        return True

    def has_results(self) -> bool:
        """Return whether the directory holds networks of a run, or completely saved states."""
        patterns = NETWORKS if StateStore(self.folder / "state").is_begun() else (*NETWORKS, STATES)
        return any(any(self.folder.glob(pattern)) for pattern in patterns)

    def check_free(self, overwrite: bool) -> None:
        """Check that the directory is free for a new run; write nothing. Raises UserError if other files lie there."""
        if not self.folder.exists() or overwrite and self._is_ours():
            return
        if not self.folder.is_dir():
            raise UserError(f"{self.folder}: is a file; choose another --checkpoint_dir")
        if (self.folder / self.other_mark).is_file():
            raise UserError(f"{self.folder}: holds {self.other_content}; choose another --checkpoint_dir")
        if self.has_results():
            raise UserError(f"{self.folder} already holds a run: resume it with --restore, move it aside with "
                            "--overwrite, or choose another --checkpoint_dir")
        if not self.is_claimed():
            foreign = self._foreign()
            if foreign:
                more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
                raise UserError(f"{self.folder}: holds files that no run has written ({foreign[0]}{more}); choose "
                                "another --checkpoint_dir")

    def _foreign(self) -> list[str]:
        """Return the names of what is in the directory and may not lie there before a run, sorted."""
        return sorted(path.name for path in self.folder.iterdir() if path.name not in REUSABLE | {LOCK})

    def _is_ours(self) -> bool:
        """Return whether a run of this program or of the published code has written here."""
        if self.is_claimed() or self.has_results():
            return True
        path = self.folder / "options.json"
        options = utils.read_json(path) if path.is_file() else None
        return isinstance(options, dict) and RUN_KEYS <= options.keys()

    # ------------------------------------------------------------------------------------------- changing

    def lock(self) -> None:
        """Lock the directory against other runs while this process lives. Raises UserError if another run holds it.

        The system releases the lock when the process ends in any way; child processes do not inherit it.
        """
        if self._lock.is_locked:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise UserError(f"{self.folder}: another run is writing here; wait for its end, or choose another "
                            "--checkpoint_dir") from None
        except (OSError, NotImplementedError) as error:
            if getattr(error, "errno", errno.ENOSYS) not in WITHOUT_LOCKS:
                raise

    def lock_if_used(self) -> None:
        """Lock the directory if it has a lock file, so that a second run ends before it does any work."""
        if (self.folder / LOCK).is_file():
            self.lock()

    def claim(self) -> None:
        """Lock and mark the directory, and remove the unfinished files of runs that were killed."""
        self.lock()
        if not self.is_claimed():
            utils.write_json(self.folder / self.mark, {"format": FORMAT})
        for folder in (self.folder / name for name in self.folders if name not in REUSABLE):
            for path in folder.iterdir() if folder.is_dir() else ():
                if UNFINISHED.fullmatch(path.name):
                    path.unlink(missing_ok=True)

    def move_aside(self) -> None:
        """Rename a directory that is not empty to ``NAME.old-2026-11-26-1530``, and print that.

        Raises UserError if it cannot be renamed.
        """
        if not self.folder.is_dir() or {path.name for path in self.folder.iterdir()} <= {LOCK}:
            return
        self.lock()
        self._lock.release()  # Windows renames no directory in which a file is open
        stem = f"{self.folder.resolve().name}.old-{time.strftime('%Y-%m-%d-%H%M')}"
        names = (stem, *(f"{stem}-{number}" for number in range(2, 10000)))
        target = next(path for path in map(self.folder.resolve().with_name, names) if not os.path.lexists(path))
        try:
            self.folder.resolve().rename(target)
        except OSError as error:  # a mount point, or a directory that must not be written to
            raise UserError(f"--overwrite: {self.folder} cannot be renamed ({error.strerror}); choose another "
                            "--checkpoint_dir") from None
        print(f"moved what was in {self.folder} to {target}", flush=True)


class SeriesDirectory(RunDirectory):
    """The directory around the runs of a series, with their lists, outputs and pooled results."""

    mark, other_mark, other_content = "series.json", "run.json", "a single run"
    folders = ("splits", "test_result", "cache")

    def has_results(self) -> bool:
        """Return whether the directory holds networks or states of a single run."""
        return not self.is_claimed() and super().has_results()

    def _foreign(self) -> list[str]:
        """Return the names of what may not lie there before a series; runs of single folds may."""
        return sorted({*super()._foreign()} - {folder.name for folder in self.members()})

    def members(self) -> list[Path]:
        """Return the directories of the runs in here, sorted."""
        return sorted(path for path in self.folder.iterdir() if MEMBER.fullmatch(path.name)
                      and RunDirectory(path).is_claimed()) if self.folder.is_dir() else []


def copy_to_machines(path: Path, processes: Processes, folder: Path, trained: bool = False) -> None:
    """Copy a file of the run in ``folder`` from the main process's machine to the machines that lack it.

    Raises UserError if another file lies there, unless this run has just ``trained`` it, or if it is not in ``folder``.
    """
    if processes.world == 1:
        return

    def digest() -> str | None:
        return utils.sha256(path) if path.is_file() else None

    expected = processes.run_on_main(digest)

    def is_missing() -> bool:
        found = digest()
        if found is None and expected is not None and folder not in path.parents:
            raise UserError(f"{path}: no such file on this machine; copy it from the machine of process 0")
        if found not in (None, expected) and not trained:
            raise UserError(f"{path}: differs from the file of process 0; delete it here, or copy that file")
        return found != expected

    missing = processes.run_on_each_machine(is_missing)
    if not processes.any(missing):
        return
    content = processes.broadcast(torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
                                  if processes.is_main else None)

    def write() -> None:
        with RunDirectory(folder) as directory:
            if not directory.is_claimed():
                directory.claim()
            with utils.atomic_file(path) as handle:
                handle.write(content.numpy())

    processes.run_on_each_machine(lambda: write() if missing else None)


# ------------------------------------------------------------------------------------------------------ training states

STATE_FORMAT = 3  # raised whenever older training states can no longer be resumed
STATE_NAME = r"state_\d{6,}\.pth"
WRITTEN = re.compile(rf"{STATE_NAME}|\.{STATE_NAME}\.[a-z0-9_]{{8}}\.part")  # complete and unfinished states


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
        entries = read_json(self._manifest)
        if not isinstance(entries, list) or not all(map(_is_entry, entries)):
            raise UserError(f"{self._manifest}: damaged; restore it from a backup, or start anew with --overwrite")
        return entries


def _is_entry(entry: Any) -> bool:
    """Return whether an item of the manifest names a state and its SHA-256."""
    return isinstance(entry, dict) and all(
        isinstance(entry.get(key), str) and re.fullmatch(pattern, entry[key])
        for key, pattern in (("file", STATE_NAME), ("sha256", "[0-9a-f]{64}")))
