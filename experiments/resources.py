"""The resources that a process has used so far: bytes written to files, and peak memory."""

import contextlib
from pathlib import Path

import torch


def bytes_written() -> int:
    """Return the bytes that this process and its finished children have written so far; 0 if the system counts none."""
    try:
        return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["wchar"])
    except OSError:
        return 0


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak memory, if the system supports that."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> float:
    """Return the peak memory in GiB since :func:`reset_peak_memory`: of the GPU's tensors, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2 ** 30
    status = Path("/proc/self/status")
    if not status.is_file():
        return float("nan")
    return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) / 2 ** 20
