"""How many images per second a training sees."""

from __future__ import annotations

import time

import torch


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Speedometer:
    """Images per second of a training's steps. The first step may compile and allocate, and is not timed."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._images: int | None = None
        self._started = 0.0

    def count(self, images: int) -> None:
        """Count the images of a step that is done."""
        if self._images is not None:
            self._images += images
            return
        synchronize(self.device)
        self._images, self._started = 0, time.perf_counter()

    def metrics(self, processes: int = 1) -> dict[str, float]:
        """Return the images per second of all processes; nothing before the second step."""
        synchronize(self.device)
        if not self._images:
            return {}
        return {"images_per_second": self._images * processes / (time.perf_counter() - self._started)}
