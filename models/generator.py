"""Encoder and Decoder: a face → code and skips → a residual to add to the face (METHOD §1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers import UP, add_to_each, constant_planes, down_layers, init_weights, up_layers


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
            x = x + F.conv_transpose2d(constant_planes(label, edited.shape[-2:]), for_label, **UP)
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
        return 2 * torch.tanh(x.float())
