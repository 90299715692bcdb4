"""How fast could it be: FLOPs of a piece of work, and the most that the same device reaches."""

from __future__ import annotations

import time
from typing import Any, Callable

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from system.devices import synchronize


def flops_of(work: Callable[[], Any]) -> tuple[Any, int]:
    """What ``work()`` returns, and the floating-point operations of its matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        result = work()
    return result, counter.get_total_flops()


@torch.no_grad()
def peak_flops(device: torch.device, dtype: torch.dtype = torch.float32, repeats: int = 12,
               small: bool = False) -> float:
    """FLOP/s that the device reaches with this dtype: the best of some large matrix products and 3×3 convolutions.

    On some CPUs the one, on others the other is more than twice as fast. ``small`` is for tests.
    """
    side, count, maps = (256, 1, 16) if small else (8192, 64, 64) if device.type == "cuda" else (1536, 4, 32)
    a, b = (torch.linspace(-1, 1, side * side, device=device).reshape(side, side).to(dtype) for _ in range(2))
    image = torch.ones(count, 256, maps, maps, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    kernel = torch.ones(256, 256, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    products = [(lambda: a @ b, 2 * side ** 3), (lambda: F.conv2d(image, kernel, padding=1),
                                                 2 * 256 * 256 * 9 * count * maps ** 2)]
    best = 0.0
    for _ in range(repeats):
        for work, flops in products:
            synchronize(device)
            started = time.perf_counter()
            work()
            synchronize(device)
            best = max(best, flops / (time.perf_counter() - started))
    return best
