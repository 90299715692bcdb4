"""Count the floating-point operations of a function, and measure the peak FLOP/s of a device."""

import time
from typing import Any, Callable

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from utils import synchronize


def flops_of(work: Callable[[], Any]) -> tuple[Any, int]:
    """Return the result of ``work()``, and the floating-point operations of its matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        result = work()
    return result, counter.get_total_flops()


@torch.no_grad()
def peak_flops(device: torch.device, dtype: torch.dtype, repeats: int) -> float:
    """Measure the peak FLOP/s of a device with a dtype: the best of large matrix products and 3×3 convolutions.

    Either can be more than twice as fast as the other, depending on the CPU.
    """
    side, count, maps = (8192, 64, 64) if device.type == "cuda" else (1536, 4, 32)
    a, b = (torch.linspace(-1, 1, side * side, device=device).reshape(side, side).to(dtype) for _ in range(2))
    image = torch.ones(count, 256, maps, maps, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    kernel = torch.ones(256, 256, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    products = [(lambda: a @ b, 2 * side ** 3), (lambda: F.conv2d(image, kernel, padding=1),
                                                 2 * 256 * 256 * 9 * count * maps ** 2)]
    best = 0.0
    for _ in range(repeats):
        for work, flops in products:
            synchronize(device)
            began = time.perf_counter()
            work()
            synchronize(device)
            best = max(best, flops / (time.perf_counter() - began))
    return best
