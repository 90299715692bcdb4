"""Encoder and Decoder: a face → code and skips → a residual to add to the face; Generator: a swap between (METHOD §1,
§2).
"""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers import (UP, add_to_each, constant_planes, down_layers, every_nth, full_precision, init_weights,
                           up_layers)
from options.recipes import GANShape
from models.swap import Pair, decoder_label, half_way, swap_codes, swap_label


class Encoder(nn.Module):
    """(N, 3, S, S) in [-1, 1] → code (N, 8w, S/32, S/32) and four skips, largest first (METHOD §1).

    The skips are (N, w, S/2, S/2), (N, 2w, S/4, S/4), (N, 4w, S/8, S/8) and (N, 8w, S/16, S/16).
    """

    def __init__(self, base_width: int = 64) -> None:
        super().__init__()
        self.base_width = base_width
        chans = [3] + [base_width * factor for factor in (1, 2, 4, 8, 8)]
        self.main = nn.ModuleList(nn.Sequential(*down_layers(a, b)) for a, b in zip(chans, chans[1:]))
        self.apply(init_weights)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps = []
        for block in self.main:
            image = block(image)
            maps.append(image)
        return maps[-1], maps[:-1]


class EditConv(nn.ConvTranspose2d):
    """The decoder's first layer, of cat(edited code, source code, the label's planes again and again).

    What several edits share is done once: the source's part for all edits of it, and the label's for all its copies.
    """

    def forward(self, edited: Tensor, source: Tensor, label: Tensor | None) -> Tensor:
        """(K·N, 8w, h, w), (N, 8w, h, w)[, (K·N, n)] → (K·N, 8w, 2h, 2w)."""
        chans = edited.shape[1]
        for_edited, for_source, for_copies = self.weight.split([chans, chans, self.in_channels - 2 * chans])
        x = add_to_each(F.conv_transpose2d(edited, for_edited, **UP),
                        F.conv_transpose2d(source, for_source, self.bias, **UP))
        if label is not None:
            for_label = for_copies.unflatten(0, (-1, label.shape[1])).sum(0)
            x = x + F.conv_transpose2d(constant_planes(label.to(x.dtype), edited.shape[-2:]), for_label, **UP)
        return x


class Decoder(nn.Module):
    """Edited code, source code, label and the source's skips → a residual in [-2, 2] (METHOD §1).

    ``label_chans`` is the length of the label with its copies (``n·label_copy``), 0 for the plain decoder.
    """

    def __init__(self, base_width: int = 64, label_chans: int = 0) -> None:
        super().__init__()
        chans = [16 * base_width + label_chans] + [base_width * factor for factor in (8, 4, 2, 1)]
        self.main = nn.ModuleList(
            nn.Sequential(*up_layers(a, b, EditConv if i == 0 else nn.ConvTranspose2d))
            for i, (a, b) in enumerate(zip(chans, chans[1:])))
        self.main.append(nn.Sequential(nn.ConvTranspose2d(base_width, 3, 3, **UP)))
        self.apply(init_weights)

    def forward(self, edited: Tensor, source: Tensor, skips: list[Tensor], label: Tensor | None = None) -> Tensor:
        """(K·N, 8w, h, w), (N, 8w, h, w), skips of N images[, label (K·N, n)] → (K·N, 3, S, S) in [-2, 2].

        K edits of the same N source images may be decoded at once: edit k of image i is row k·N + i.
        """
        x = self.main[0][1:](self.main[0][0](edited, source, label))
        for block, skip in zip(self.main[1:], reversed(skips)):
            x = block(add_to_each(x, skip))
        return 2 * torch.tanh(full_precision(x))


class Edits(NamedTuple):
    """What the generator makes of a :class:`Pair`: images (N, 3, S, S) in [-1, 1], None those that nobody asked for."""

    c: Tensor
    d: Tensor
    a_rebuilt: Tensor | None = None
    b_rebuilt: Tensor | None = None
    c_half: Tensor | None = None
    d_half: Tensor | None = None


class Codes(NamedTuple):
    """Codes (N, 8w, S/32, S/32) of A and B and of their swaps C and D, the skips of A and B (2N, …), label {a, b}."""

    code_a: Tensor
    code_b: Tensor
    code_c: Tensor
    code_d: Tensor
    skips: list[Tensor]
    label: Tensor


class Generator(nn.Module):
    """Encoder and Decoder with the swap between them: all edits of a pair in one batched pass (METHOD §2)."""

    def __init__(self, shape: GANShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = Encoder(shape.base_width)
        self.decoder = Decoder(shape.base_width, shape.label_chans)

    def forward(self, pair: Pair, alpha5: bool = False, rebuild: int = 1) -> Edits:
        """A and B → C, D, A', B' and, with ``alpha5``, the half-way images C5, D5.

        A', B' are made of every ``rebuild``-th pair, with 0 of none.
        """
        coded = self.encoded(pair.image_a, pair.image_b, pair.a, pair.b)
        code, both = torch.cat([coded.code_a, coded.code_b]), torch.cat([coded.code_c, coded.code_d])
        label = torch.cat([coded.label, coded.label])
        edits = {("c", "d"): (both, self.label(label))}
        if rebuild == 1:
            edits["a_rebuilt", "b_rebuilt"] = code, self.label(torch.zeros_like(label), reconstruct=1.0)
        if alpha5:
            edits["c_half", "d_half"] = half_way(code, both), self.label(label)
        codes, labels = zip(*edits.values())
        faces = torch.cat([pair.image_a, pair.image_b])
        images = self.edit(faces, torch.cat(codes), code, coded.skips, torch.cat(labels)).chunk(2 * len(codes))
        made = dict(zip(chain(*edits), images))
        if rebuild > 1:
            some, of_some, *skips = (every_nth(maps, rebuild) for maps in (faces, code, *coded.skips))
            unswapped = self.label(torch.zeros_like(every_nth(label, rebuild)), reconstruct=1.0)
            made["a_rebuilt"], made["b_rebuilt"] = self.edit(some, of_some, of_some, skips, unswapped).chunk(2)
        return Edits(**made)

    def encoded(self, image_a: Tensor, image_b: Tensor, a: Tensor, b: Tensor) -> Codes:
        """Encode faces (N, 3, S, S) with expressions a (N,) and partners with b, and exchange their blocks."""
        code, skips = self.encoder(torch.cat([image_a, image_b]))
        code_a, code_b = code.chunk(2)
        label = swap_label(a, b, self.shape.num_classes)
        return Codes(code_a, code_b, *swap_codes(code_a, code_b, label), skips, label)

    def label(self, multi_hot: Tensor, reconstruct: float | Tensor = 0.0) -> Tensor:
        """(N, n) → the decoder's label (N, n), or (N, n + 1) with ``exp_label``."""
        return decoder_label(multi_hot, self.shape.exp_label, reconstruct)

    def edit(self, faces: Tensor, edited: Tensor, code: Tensor, skips: list[Tensor], label: Tensor) -> Tensor:
        """clamp(face + Dec(edited, code, label, skips of the face), -1, 1), K edits of N faces: (K·N, 3, S, S)."""
        residual = self.residual(edited, code, skips, label)
        return add_to_each(residual, faces).clamp(-1, 1)

    def residual(self, edited: Tensor, code: Tensor, skips: list[Tensor], label: Tensor) -> Tensor:
        """Dec(edited, code, label, skips of the face), K edits of N faces: (K·N, 3, S, S) in [-2, 2]."""
        return self.decoder(edited, code, skips, label if self.shape.decoder_label else None)
