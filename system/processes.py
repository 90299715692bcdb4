"""The number and rank of the processes that work together, as ``torchrun`` and ``--jobs`` set them in the environment.
"""

import os
import re
from functools import cache
from typing import Any

from utils import UserError

SIDE_BY_SIDE = "JESRL_FER_SIDE_BY_SIDE"  # the environment variable of :func:`runs_side_by_side`


def main_process() -> bool:
    """Return whether this is the only process, or the one of several (``torchrun``) that prints and writes."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def started_by_torchrun() -> bool:
    """Return whether ``torchrun`` has started several processes, according to the environment."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()


@cache
def process_store() -> Any:
    """Return the key-value store of all processes that ``torchrun`` has started, with keys of this attempt alone.

    After a restart torch hands out the store of the previous attempt, with all its keys.
    """
    from torch import distributed

    store, _, _ = next(distributed.rendezvous("env://"))
    return distributed.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def processes_here() -> int:
    """Return how many of the processes that work together share this machine."""
    local, world = os.environ.get("LOCAL_WORLD_SIZE", ""), number_of_processes()
    return int(local) if re.fullmatch("[0-9]+", local) and 0 < int(local) <= world else world


def number_of_processes() -> int:
    """Return how many processes train together. Raises UserError if WORLD_SIZE is set, but not by torchrun."""
    world = os.environ.get("WORLD_SIZE", "1")
    if world == "1":
        return 1
    numbers = (os.environ.get(name, "") for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"))
    if not all(re.fullmatch("[0-9]{1,5}", number) for number in numbers) or not started_by_torchrun():
        raise UserError(f"WORLD_SIZE={world} is set, but torchrun has not started this process; unset WORLD_SIZE, or "
                        "start with torchrun or --gpu 0 1")
    return int(world)


def runs_side_by_side() -> int:
    """Return how many trainings of ``--jobs`` share this machine's memory and disk; 1 for a single training."""
    return int(os.environ.get(SIDE_BY_SIDE, "1"))
