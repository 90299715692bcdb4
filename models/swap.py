"""Swapping the expression blocks of codes, as pure functions (METHOD §2).

A code is an encoder's last map (N, C, h, w). Its channels are cut into one contiguous block per expression.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


def block_cuts(chans: int, n: int) -> list[int]:
    """Return the n + 1 cuts of ``chans`` channels into n blocks: rint(i·C/n), half to even. 512, 6 → 0 85 171 256 …"""
    return [round(i * chans / n) for i in range(n + 1)]


def block_mask(label: Tensor, chans: int) -> Tensor:
    """Return the mask (N, C, 1, 1), boolean, of the channels of the expressions of a multi-hot label (N, n)."""
    cuts = block_cuts(chans, label.shape[1])
    blocks = [label[:, i:i + 1].expand(-1, stop - start) for i, (start, stop) in enumerate(zip(cuts, cuts[1:]))]
    return torch.cat(blocks, 1).bool()[:, :, None, None]  # without a copy from the host, which would stall a GPU


def one_hot(expression: Tensor, n: int) -> Tensor:
    """Return expressions (N,) in 0..n one-hot, (N, n) float: zeros for the target-only label n (METHOD §7, row 15)."""
    return F.one_hot(expression, n + 1)[:, :n].float()


def swap_label(a: Tensor, b: Tensor, n: int) -> Tensor:
    """Return the multi-hot label {a, b} of a swap, (N, n) float, of expressions a (N,) and b (N,) (METHOD §2)."""
    return torch.maximum(one_hot(a, n), one_hot(b, n))


def swap_codes(code_a: Tensor, code_b: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Return the codes of C and D: those of A and B (N, C, h, w) with the label's blocks exchanged (METHOD §2)."""
    mask = block_mask(label, code_a.shape[1])
    return torch.where(mask, code_b, code_a), torch.where(mask, code_a, code_b)


def decoder_label(label: Tensor, exp_label: bool, reconstruct: float | Tensor = 0.0) -> Tensor:
    """Return the label in the decoder's form (METHOD §1): (N, n) → (N, n), or (N, n + 1) with ``exp_label``.

    The additional entry is ``reconstruct``, 0 (swap) to 1 (reconstruct only), for all samples or for each (N, 1).
    """
    return torch.cat([label, torch.ones_like(label[:, :1]) * reconstruct], dim=1) if exp_label else label


class Extras(NamedTuple):
    """Data of a pair that the paper's method does not use (:mod:`models.beyond`).

    ``truth`` (2N, 3, S, S) are the ground truths of C and D, and ``known`` (2N,) boolean says which of them exist; both
    are None if none exists. ``mismatch`` (2N,) boolean says which of A and B the discriminators may also see with the
    other's label, as fakes; None for none. """

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
