"""The device that a command computes on, and how much memory and how many cores there are."""

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from system.processes import main_process, number_of_processes, processes_here
from utils import UserError

if TYPE_CHECKING:
    import torch


def pick_device(gpu: list[int] | None) -> "torch.device":
    """Return the requested GPU and make it torch's current one, or the CPU, with a warning if no GPU is available.

    ``gpu`` is None (a GPU if there is one) or a list of indices, where -1 means the CPU. Of several processes on a
    machine, each uses its own GPU. Raises UserError if this machine does not have a GPU of an index, and if the
    processes outnumber the GPUs.
    """
    import torch

    if gpu is not None and any(index < 0 for index in gpu):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        if gpu is not None and main_process():
            print(f"warning: no CUDA GPU is available here{visible_gpus_note()}, using the CPU instead of --gpu "
                  + " ".join(map(str, gpu)), file=sys.stderr)
        return torch.device("cpu")
    local_rank = int(os.environ["LOCAL_RANK"]) if number_of_processes() > 1 else 0
    count = max(local_rank + 1, processes_here()) if "LOCAL_WORLD_SIZE" in os.environ else local_rank + 1
    if gpu is not None and count > 1 and len(set(gpu)) < count:
        raise UserError(f"--gpu {' '.join(map(str, gpu))}: {count} processes here need {count} different GPUs; "
                        "name as many, or leave --gpu out")
    index = local_rank if gpu is None else gpu[local_rank]
    if index >= torch.cuda.device_count():
        raise UserError(f"--gpu {index}: this machine has {torch.cuda.device_count()} GPU(s), numbered from 0"
                        + visible_gpus_note())
    torch.cuda.set_device(index)  # otherwise a context is opened on GPU 0 as well
    return torch.device("cuda", index)


def gpus() -> list[int] | None:
    """Return the indices of this machine's GPUs, None if it has none."""
    import torch

    return list(range(torch.cuda.device_count())) or None if torch.cuda.is_available() else None


def visible_gpus_note() -> str:
    """Return a remark in brackets on how CUDA_VISIBLE_DEVICES renumbers the GPUs, empty if it is not set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return f" (CUDA_VISIBLE_DEVICES={visible} numbers GPUs anew: the first that it names is --gpu 0)" if visible else ""


def to_device(value: "torch.Tensor", device: "torch.device | str") -> "torch.Tensor":
    """Return a CPU tensor on a device; a copy to a GPU starts from pinned memory, so that it is asynchronous."""
    on_gpu = str(device).startswith("cuda") and value.device.type == "cpu"
    return (value.pin_memory() if on_gpu else value).to(device, non_blocking=True)


def synchronize(device: "torch.device") -> None:
    """Wait until a device has finished all its work."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def installed_memory() -> int:
    """Return the bytes of memory of the machine or of its container, whichever is less; 0 if unknown."""
    sizes = []
    with contextlib.suppress(ValueError, OSError, AttributeError):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(ValueError, OSError):
            sizes.append(int(Path(path).read_text()))
    return min((size for size in sizes if size > 0), default=0)
