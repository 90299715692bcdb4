"""Swapping the expression blocks of codes, as pure functions (METHOD §2).

A code is an encoder's last map (N, C, h, w). Its channels are cut into one contiguous block per expression.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


def block_cuts(chans: int, n: int) -> list[int]:
    """The n + 1 cuts of ``chans`` channels into n blocks: rint(i·C/n), half to even. 512, 6 → 0 85 171 256 …"""
    return [round(i * chans / n) for i in range(n + 1)]


def block_mask(label: Tensor, chans: int) -> Tensor:
    """Which channels belong to the expressions of a multi-hot label: (N, n) → (N, C, 1, 1), boolean."""
    cuts = block_cuts(chans, label.shape[1])
    blocks = [label[:, i:i + 1].expand(-1, stop - start) for i, (start, stop) in enumerate(zip(cuts, cuts[1:]))]
    return torch.cat(blocks, 1).bool()[:, :, None, None]  # nothing is copied to a device, which would be waited for


def one_hot(expression: Tensor, n: int) -> Tensor:
    """Expressions (N,) in 0..n → (N, n) float; the target-only label n has no expression: zeros (METHOD §7, row 15)."""
    return F.one_hot(expression, n + 1)[:, :n].float()


def swap_label(a: Tensor, b: Tensor, n: int) -> Tensor:
    """The multi-hot label {a, b} of a swap: (N,), (N,) → (N, n) float (METHOD §2)."""
    return torch.maximum(one_hot(a, n), one_hot(b, n))


def swap_codes(code_a: Tensor, code_b: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Exchange the blocks of a multi-hot label between codes (N, C, h, w): the codes of C and of D (METHOD §2)."""
    mask = block_mask(label, code_a.shape[1])
    return torch.where(mask, code_b, code_a), torch.where(mask, code_a, code_b)


def half_way(code: Tensor, swapped: Tensor, share: float = 0.5) -> Tensor:
    """The code that is ``share`` of the way from a code to its swapped one (``--alpha5``: one half)."""
    return code + share * (swapped - code)


def decoder_label(label: Tensor, exp_label: bool, reconstruct: float | Tensor = 0.0) -> Tensor:
    """The label as the decoder takes it (METHOD §1): (N, n) → (N, n), or (N, n + 1) with ``exp_label``.

    Its last entry then says "reconstruct only": 0, 1 or in between, for all samples or for each (N, 1).
    """
    return torch.cat([label, torch.ones_like(label[:, :1]) * reconstruct], dim=1) if exp_label else label


class Extras(NamedTuple):
    """What training beyond the paper also uses of a pair.

    ``truth`` (2N, 3, S, S) are the true C and D, and ``known`` (2N,) boolean says which of them are known; both are
    None if none is. ``mismatch`` (2N,) boolean says which of A and B the discriminators may also see with the other's
    label, as fakes; None for none. """

    truth: Tensor | None = None
    known: Tensor | None = None
    mismatch: Tensor | None = None


class Pair(NamedTuple):
    """Images with one expression and their partners with another: (N, 3, S, S) in [-1, 1] and (N,) labels."""

    image_a: Tensor
    image_b: Tensor
    a: Tensor
    b: Tensor
    extras: Extras = Extras()
