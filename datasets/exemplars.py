"""Typical images of each expression, which a run keeps so that it can be used without its data."""

from typing import Sequence

import torch
from torch import Tensor

from datasets.layout import Sample
from datasets.loading import Images

COUNT, CANDIDATES = 3, 100  # exemplars of an expression, and the images of it that they are chosen from


def typical_images(images: Images, num_classes: int) -> tuple[Tensor, list[int]]:
    """Return up to three images of each expression, (E, 3, S, S) uint8, and their expressions.

    They are the images nearest to the expression's mean image, of different persons if there are several.
    """
    chosen: list[tuple[Tensor, int]] = []
    for label in range(num_classes):
        rows = [i for i, sample in enumerate(images.samples) if sample.label == label]
        rows = rows[::-(-len(rows) // CANDIDATES)] if rows else []
        if rows:
            pixels = images[rows]
            chosen += [(pixels[i], label) for i in _nearest(pixels, [images.samples[row] for row in rows])]
    return torch.stack([pixels for pixels, _ in chosen]).cpu(), [label for _, label in chosen]


def _nearest(pixels: Tensor, samples: Sequence[Sample]) -> list[int]:
    """Return the positions of the images (N, 3, S, S) that are nearest to their mean, of different persons first."""
    flat = pixels.flatten(1).float()
    order = (flat - flat.mean(0)).square().mean(1).argsort(stable=True).tolist()
    nearest_of_person = {samples[i].subject or samples[i].name: i for i in reversed(order)}.values()
    return sorted(order, key=lambda i: i not in nearest_of_person)[:COUNT]
