"""Augmentations of the recognizer's real images: a function and a row of the table each.

An augmentation takes an image (3, S, S) uint8, a numpy generator, which is a function of the seed, the augmentation's
name, the epoch and the sample's position in it, and its strength. It returns the changed image, of the same shape and
type. :mod:`datasets.loading` calls it before the codes are computed. Neither torch nor numpy is imported here, since
``--help`` shows the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Iterable

from utils import UserError

if TYPE_CHECKING:
    from numpy.random import Generator
    from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """An augmentation: its function, its strength from 0 to 1 unless another is given, and what the strength means."""

    function: Callable[[Tensor, Generator, float], Tensor] | None
    strength: float
    help: str


def shift(image: Tensor, generator: Generator, strength: float) -> Tensor:
    """Return the image moved by at most ``strength`` of its side each way; the pixels at its edges are repeated."""
    side, most = image.shape[-1], round(strength * image.shape[-1])
    down, right = generator.integers(-most, most + 1, 2)
    rows, columns = ([min(max(i - by, 0), side - 1) for i in range(side)] for by in (down, right))
    return image[:, rows][:, :, columns]


AUGMENTATIONS = {
    # The plan of an epoch draws what is mirrored, and not a function, since it also mirrors the two faces of a swap.
    "mirror": Augmentation(None, 0.5, "mirrors this part of the images, real or synthesized"),
    "shift": Augmentation(shift, 0.1, "moves an image by at most this part of its side"),
}
AUGMENTATION_HELP = "; ".join(f"{name}:{row.strength:g} {row.help}" for name, row in AUGMENTATIONS.items())


def read_augmentations(typed: Iterable[str]) -> dict[str, float]:
    """Return the strengths of augmentations by their names, from ``name``, ``name:strength`` or ``none``.

    Raises UserError if a name is unknown or repeated, or a strength is not a number from 0 to 1.
    """
    strengths: dict[str, float] = {}
    for text in typed:
        name, colon, strength = text.partition(":")
        try:
            value = float(strength) if colon else AUGMENTATIONS[name].strength if name != "none" else 0.0
        except (KeyError, ValueError):
            value = -1.0
        if name not in (*AUGMENTATIONS, "none") or name in strengths or not 0 <= value <= 1:
            raise UserError(f"--augment {text}: must be none, or different names of {', '.join(AUGMENTATIONS)}, each "
                            "with or without a strength from 0 to 1, such as mirror:0.5")
        strengths[name] = value
    return {name: value for name, value in strengths.items() if name != "none"}
