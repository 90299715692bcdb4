"""How many images per second a training sees."""

from __future__ import annotations

import time

import torch


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Speedometer:
    """Images per second of a training's steps, without the first step of each phase, which chooses algorithms."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._begun: set[str] = set()
        self._images, self._started = 0, 0.0

    def start(self) -> None:
        """Begin to count; before the first step of an epoch."""
        synchronize(self.device)
        self._images, self._started = 0, time.perf_counter()

    def count(self, phase: str, images: int) -> None:
        """Count a step that has just been made on so many images."""
        if phase not in self._begun:
            self._begun.add(phase)
            self.start()
        else:
            self._images += images

    def metrics(self, processes: int = 1) -> dict[str, float]:
        """Images per second of all processes since :meth:`start`; {} for no steps."""
        synchronize(self.device)
        seconds = time.perf_counter() - self._started
        return {"images_per_second": self._images / seconds * processes} if self._images else {}
