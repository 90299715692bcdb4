"""The generator: an encoder (face → code and skips), the swap of codes, and a decoder (codes → residual to add to the
face) (METHOD §1, §2).
"""

from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers import (UP, add_to_each, constant_planes, down_layers, every_nth, full_precision, init_weights,
                           up_layers)
from models.swap import Pair, decoder_label, swap_codes, swap_label
from options.config import GANShape


class Encoder(nn.Module):
    """The encoder: images (N, 3, S, S) in [-1, 1] → code (N, 8w, S/32, S/32) and four skips, largest first (METHOD §1).

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
    """The decoder's first layer, of cat(edited code, source code, the copies of the label's planes).

    What several edits have in common is computed once: the source's part for all its edits, the label's for all copies.
    """

    def forward(self, edited: Tensor, source: Tensor, label: Tensor | None) -> Tensor:
        """Return maps (K·N, 8w, 2h, 2w) of edited (K·N, 8w, h, w) and source codes (N, 8w, h, w), labels (K·N, n)."""
        chans = edited.shape[1]
        for_edited, for_source, for_copies = self.weight.split([chans, chans, self.in_channels - 2 * chans])
        x = add_to_each(F.conv_transpose2d(edited, for_edited, **UP),
                        F.conv_transpose2d(source, for_source, self.bias, **UP))
        if label is not None:
            for_label = for_copies.unflatten(0, (-1, label.shape[1])).sum(0)
            x = x + F.conv_transpose2d(constant_planes(label.to(x.dtype), edited.shape[-2:]), for_label, **UP)
        return x


class Decoder(nn.Module):
    """The decoder: edited code, source code, label and the source's skips → a residual in [-2, 2] (METHOD §1).

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
        """Return the residuals (K·N, 3, S, S) in [-2, 2] of edited codes (K·N, 8w, h, w) of N source images.

        ``source`` (N, 8w, h, w) and ``skips`` are those of the source images, ``label`` is (K·N, n). Edit k of image i
        is row k·N + i.
        """
        x = self.main[0][1:](self.main[0][0](edited, source, label))
        for block, skip in zip(self.main[1:], reversed(skips)):
            x = block(add_to_each(x, skip))
        return 2 * torch.tanh(full_precision(x))


class Edits(NamedTuple):
    """The images C, D, A', B', C5, D5 of a :class:`Pair`, (N, 3, S, S) in [-1, 1]; None if they were not requested."""

    c: Tensor
    d: Tensor
    a_rebuilt: Tensor | None = None
    b_rebuilt: Tensor | None = None
    c_interpolated: Tensor | None = None
    d_interpolated: Tensor | None = None


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
        """Return C, D, A', B' and, with ``alpha5``, the interpolated images C5, D5 of a pair.

        A', B' are reconstructed of every ``rebuild``-th pair, of none if it is 0.
        """
        codes = self.encode_pair(pair.image_a, pair.image_b, pair.a, pair.b)
        code, swapped = torch.cat([codes.code_a, codes.code_b]), torch.cat([codes.code_c, codes.code_d])
        label = torch.cat([codes.label, codes.label])
        edits = {("c", "d"): (swapped, self.label(label))}
        if rebuild == 1:
            edits["a_rebuilt", "b_rebuilt"] = code, self.label(torch.zeros_like(label), reconstruct=1.0)
        if alpha5:
            edits["c_interpolated", "d_interpolated"] = code + 0.5 * (swapped - code), self.label(label)
        edited, labels = zip(*edits.values())
        faces = torch.cat([pair.image_a, pair.image_b])
        decoded = self.edit(faces, torch.cat(edited), code, codes.skips, torch.cat(labels)).chunk(2 * len(edited))
        images = dict(zip(chain(*edits), decoded))
        if rebuild > 1:
            faces, code, label, *skips = (every_nth(maps, rebuild) for maps in (faces, code, label, *codes.skips))
            unswapped = self.label(torch.zeros_like(label), reconstruct=1.0)
            images["a_rebuilt"], images["b_rebuilt"] = self.edit(faces, code, code, skips, unswapped).chunk(2)
        return Edits(**images)

    def encode_pair(self, image_a: Tensor, image_b: Tensor, a: Tensor, b: Tensor) -> Codes:
        """Return the codes of faces (N, 3, S, S) with expressions a (N,), of partners with b, and of their swaps."""
        code, skips = self.encoder(torch.cat([image_a, image_b]))
        code_a, code_b = code.chunk(2)
        label = swap_label(a, b, self.shape.num_classes)
        return Codes(code_a, code_b, *swap_codes(code_a, code_b, label), skips, label)

    def label(self, multi_hot: Tensor, reconstruct: float | Tensor = 0.0) -> Tensor:
        """Return the decoder's label (N, n), or (N, n + 1) with ``exp_label``, of a multi-hot label (N, n)."""
        return decoder_label(multi_hot, self.shape.exp_label, reconstruct)

    def edit(self, faces: Tensor, edited: Tensor, code: Tensor, skips: list[Tensor], label: Tensor) -> Tensor:
        """Return K edits of N faces, (K·N, 3, S, S): clamp(face + Dec(edited, code, label, its skips), -1, 1)."""
        residual = self.residual(edited, code, skips, label)
        return add_to_each(residual, faces).clamp(-1, 1)

    def residual(self, edited: Tensor, code: Tensor, skips: list[Tensor], label: Tensor) -> Tensor:
        """Return Dec(edited, code, label, skips of the face) of K edits of N faces: (K·N, 3, S, S) in [-2, 2]."""
        return self.decoder(edited, code, skips, label if self.shape.decoder_label else None)
