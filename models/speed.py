"""How fast is it, and how fast could it be? FLOPs of a step and the peak of a matrix product on the same device."""

from __future__ import annotations

import time
from typing import Any, Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


def flops_of(work: Callable[[], Any]) -> tuple[Any, int]:
    """What ``work()`` returns, and the floating-point operations of its matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        result = work()
    return result, counter.get_total_flops()


def matrix_peak(device: torch.device, dtype: torch.dtype = torch.float32, side: int | None = None,
                repeats: int = 12) -> float:
    """FLOP/s of the best of some products of two square matrices: what the device reaches with this dtype."""
    side = side or (8192 if device.type == "cuda" else 1536)
    a, b = (torch.linspace(-1, 1, side * side, device=device).reshape(side, side).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(repeats):
        synchronize(device)
        started = time.perf_counter()
        a @ b
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return 2 * side ** 3 / min(seconds)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Speedometer:
    """Images per second of a training's steps, and the share of the device's matrix peak that they use.

    The first step of each phase counts the operations and is not timed. The peak is the best seen so far: on a machine
    with other work, one measurement would not do.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, compiled: bool = False) -> None:
        self.device, self.dtype, self.compiled = device, dtype, compiled
        self._peak = 0.0
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
            self._peak = max(self._peak, matrix_peak(self.device, self.dtype, repeats=4))
            found["peak_share"] = rate * self._flops_per_image[phase] / self._peak
        return found
