"""How fast is it, and how fast could it be? FLOPs of a step, and the most that the same device reaches."""

from __future__ import annotations

import time
from typing import Any, Callable

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

PEAK_TRIES = 6  # measurements of the peak take a fifth of a second each on a CPU


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


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Speedometer:
    """Images per second of a training's steps, and the share of the device's peak that they use.

    The first step of each phase counts the operations and is not timed. The peak is measured at the ends of the first
    PEAK_TRIES epochs, and of those that were faster than it; the best counts, since a machine may have other work.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, compiled: bool = False) -> None:
        self.device, self.dtype, self.compiled = device, dtype, compiled
        self._peak, self._tries = 0.0, 0
        self._flops_per_image: dict[str, float] = {}
        self._images, self._started = 0, 0.0

    def step(self, phase: str, images: int, work: Callable[[], Any]) -> Any:
        """Do a step on this number of images and return what it returns."""
        if phase in self._flops_per_image or self.compiled:
            self._images += images
            return work()
        result, flops = flops_of(work)
        self._flops_per_image[phase] = flops / images
        self.start()
        return result

    def start(self) -> None:
        """Begin to count; before the first step of an epoch."""
        synchronize(self.device)
        self._images, self._started = 0, time.perf_counter()

    def figures(self, phase: str, processes: int = 1) -> dict[str, float]:
        """Images per second of all processes since :meth:`start`, and this one's share of the peak; {} for no steps."""
        synchronize(self.device)
        if not self._images:
            return {}
        rate = self._images / (time.perf_counter() - self._started)
        found = {"images_per_second": rate * processes}
        if phase in self._flops_per_image:
            flops = rate * self._flops_per_image[phase]
            if self._tries < PEAK_TRIES or flops > self._peak:
                self._peak = max(self._peak, peak_flops(self.device, self.dtype, repeats=2))
                self._tries += 1
            found["peak_share"] = flops / self._peak
        return found
