"""A run's directory: who may write there, what a run has written, and what may be removed again.

A run claims its directory before it writes anything else: ``run.json`` lists the names that runs write, and at that
moment none of them existed. Whatever bears one of them later was therefore written by a run, and nothing else is ever
removed. Directories without ``run.json`` come from the reference or from older versions: what bears exactly a run's
name there, beside a run's options or networks, is taken for a run's too. The directory around the folds or seeds of one
command has a mark of its own, ``series.json``, and is kept in the same way.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Iterator

import utils
from datasets.cache import NAME
from options.command_line import RUN_KEYS
from options.schema import Each, Text, Whole, check
from utils import UserError

try:
    import fcntl
except ImportError:  # Windows has none: there two runs in one directory are the user's to avoid
    fcntl = None

MANIFEST, SERIES_MANIFEST, LOCK = "run.json", "series.json", "run.lock"
FORMAT = 1
CACHE_FOLDER = "cache"
CACHE = rf"{CACHE_FOLDER}/{NAME}"
NETWORKS = r"model/(Enc|Dec|D1|D2)_iter_(temp|\d{3,})\.pth"
STATES = r"state/(state_\d{6,}\.pth|manifest\.json)"
BEST = r"VGG/(max_ckpt\.t7|Enc_max\.pth)"
REMOVABLE = (NETWORKS, r"model/config\.json", STATES, BEST, r"img/epoch_\d{3,}\.jpg", r"log/(metrics|speed)\.csv",
             r"log/events\.out\.tfevents\.[\w.-]+", r"splits/(images_(val|gan_nature)|fold_\d{2,})\.list",
             r"test_result/(grid\.jpg|Con_Matrix\.png|confusion_matrix\.json|predictions\.csv|mistakes\.jpg)",
             r"synthesis\.json", r"options\.json", CACHE)
KEPT = (r"VGG_loss/\d+_max_ckpt\.t7", r"judge\.pth")  # they depend on the data alone, and are used again
FOLDERS = ("state", "model", "VGG", "img", "log", "test_result", "splits", CACHE_FOLDER)
PART_NAME = r"(fold|seed)_\d{2,}"
SERIES_REMOVABLE = (r"splits/fold_\d{2,}\.list", r"test_result/(Con_Matrix\.png|confusion_matrix\.json)",
                    r"options\.json", PART_NAME + r"\.txt", CACHE)
SERIES_FOLDERS = ("splits", "test_result", CACHE_FOLDER)
PART = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}\.part")
MANIFEST_SCHEMA = {"format": Whole(FORMAT, FORMAT), "names": Each(Text())}


class RunDirectory:
    """The directory of one run; ``folder`` need not be there yet."""

    manifest, removable, kept, folders, reused = MANIFEST, REMOVABLE, KEPT, FOLDERS, ("VGG_loss",)

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        self._lock: Any = None

    # -------------------------------------------------------------------------------------------- looking

    def is_claimed(self) -> bool:
        """Whether a run has marked the directory as its own; UserError where the mark is another program's."""
        path = self.folder / self.manifest
        if not path.is_file():
            return False
        check(utils.read_json(path), MANIFEST_SCHEMA, path)
        return True

    def holds(self, *patterns: str) -> list[str]:
        """The names of those files below the folder that match one of some patterns."""
        wanted = [re.compile(pattern) for pattern in patterns]
        return [name for name in self._names() if any(pattern.fullmatch(name) for pattern in wanted)]

    def results(self) -> list[str]:
        """The networks and states that are there: what is never removed unless somebody says so."""
        return self.holds(NETWORKS, STATES.replace(r"|manifest\.json", ""), BEST)

    def check_free(self, overwrite: bool) -> None:
        """UserError where a new run would meet files that no run has written. Writes nothing.

        A directory of the reference or of an older version may be overwritten, and then loses files of exactly the
        names that a run writes.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder}: is a file; choose another --checkpoint_dir")
        for name in (*self.folders, *self.reused):
            path = self.folder / name
            if path.is_symlink() or path.exists() and not path.is_dir():
                raise UserError(f"{path}: is no directory that a run has made; choose another --checkpoint_dir")
        if self.is_claimed():
            return
        if (self.folder / SERIES_MANIFEST).is_file():
            raise UserError(f"{self.folder}: holds the folds or seeds of another command; go on with --restore, or "
                            "choose another --checkpoint_dir")
        options = self.folder / "options.json"
        if options.is_file():
            kept = utils.read_json(options)
            if not isinstance(kept, dict) or not RUN_KEYS <= kept.keys():
                raise UserError(f"{options}: holds no options of a run; choose another --checkpoint_dir")
        looks_like_a_run = options.is_file() or bool(self.holds(NETWORKS, BEST))
        if looks_like_a_run and overwrite:
            return
        self._refuse_foreign()

    def _refuse_foreign(self) -> None:
        foreign = [name for name in self._names() if name.split("/")[0] in self.folders] + self.holds(*self.removable)
        if foreign:
            more = f" and {len(set(foreign)) - 1} more" if len(set(foreign)) > 1 else ""
            raise UserError(f"{self.folder}: holds files that this run has not written ({foreign[0]}{more}); choose "
                            "another --checkpoint_dir")

    # ------------------------------------------------------------------------------------------- changing

    def lock(self) -> None:
        """Keep every other run out for as long as this process lives; UserError where one is in here already.

        The system releases the lock with the process, however that ends; child processes do not hold it.
        """
        if self._lock is not None or fcntl is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        held = open(self.folder / LOCK, "a")
        try:
            fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            held.close()
            if not isinstance(error, (BlockingIOError, PermissionError)):
                return  # a file system without locks
            raise UserError(f"{self.folder}: another run is writing here; wait for its end, or choose another "
                            "--checkpoint_dir") from None
        self._lock = held

    def lock_if_there(self) -> None:
        """:meth:`lock` where an earlier run has left its lock, so that a second run ends before it does any work."""
        if (self.folder / LOCK).is_file():
            self.lock()

    def check_unlocked(self) -> None:
        """UserError where a run is in here now. Keeps nobody out."""
        self.lock_if_there()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def claim(self) -> None:
        """Mark the directory as a run's own."""
        if not self.is_claimed():
            utils.write_json(self.folder / self.manifest,
                             {"format": FORMAT, "names": [*self.removable, *self.kept, LOCK]})

    def clear(self, but: Path | None = None) -> None:
        """Remove what a run has written, but for what can be used again, and for one file; folders that are empty then.
        """
        for name in self.holds(*self.removable):
            if self.folder / name != but:
                (self.folder / name).unlink(missing_ok=True)
        self.clear_parts()
        for name in self.folders:
            if (self.folder / name).is_dir() and not any((self.folder / name).iterdir()):
                (self.folder / name).rmdir()

    def clear_parts(self) -> None:
        """Remove the unfinished files of runs that were killed."""
        ours = [re.compile(pattern) for pattern in (*self.removable, *self.kept, re.escape(self.manifest))]
        for name in self._names():
            folder, _, last = name.rpartition("/")
            part = PART.fullmatch(last)
            whole = part and "/".join(filter(None, (folder, part["name"])))
            if part and any(pattern.fullmatch(whole) for pattern in ours):
                (self.folder / name).unlink(missing_ok=True)

    def _names(self) -> Iterator[str]:
        """All files at the top and in the run's folders, at any depth there, links unfollowed; in order."""
        tops = [self.folder / name for name in (*self.folders, *self.reused)]
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            if path.is_symlink() or not path.is_dir():
                yield path.name
            elif path in tops:
                for parent, folders, files in os.walk(path):
                    links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
                    for name in sorted(files + links):
                        yield Path(parent, name).relative_to(self.folder).as_posix()


class SeriesDirectory(RunDirectory):
    """The directory around the runs of a series: it holds their directories, their lists, outputs and pooled results.

    What those directories hold is theirs to keep; nothing here touches it.
    """

    manifest, removable, kept, folders, reused = SERIES_MANIFEST, SERIES_REMOVABLE, (), SERIES_FOLDERS, ()

    def check_free(self, overwrite: bool) -> None:
        """UserError where a new series would meet a run, or files that no series has written. Writes nothing."""
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder}: is a file; choose another --checkpoint_dir")
        run = RunDirectory(self.folder)
        if run.is_claimed() or run.results():
            raise UserError(f"{self.folder}: holds a single run; choose another --checkpoint_dir for several")
        for name in self.folders:
            path = self.folder / name
            if path.is_symlink() or path.exists() and not path.is_dir():
                raise UserError(f"{path}: is no directory that a series has made; choose another --checkpoint_dir")
        if not self.is_claimed():
            self._refuse_foreign()

    def runs(self) -> list[Path]:
        """The directories of runs that lie here, those of an earlier series too, in order."""
        names = sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []
        return [self.folder / name for name in names
                if re.fullmatch(PART_NAME, name) and RunDirectory(self.folder / name).is_claimed()]
