"""Discriminator: is this a real face of this expression? (METHOD §1)"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers import constant_planes, down_layers, init_weights


class Discriminator(nn.Module):
    """Judges images at one size: they are average-pooled until their side is ``size`` (METHOD §1)."""

    def __init__(self, num_classes: int, size: int, base_width: int = 64) -> None:
        super().__init__()
        self.size = size
        chans = [3 + num_classes] + [base_width * factor for factor in (1, 2, 4, 8)]
        self.conv = nn.Sequential(*(layer for a, b in zip(chans, chans[1:]) for layer in down_layers(a, b)))
        self.linear = nn.Sequential(nn.Linear(chans[-1] * (size // 16) ** 2, 1))
        self.apply(init_weights)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        """(N, 3, S, S) in [-1, 1], S = size·2^k, and one-hot labels (N, n) → (N,) logits (before the sigmoid)."""
        while image.shape[-1] > self.size:
            image = F.avg_pool2d(image, 2)
        maps = self.conv(torch.cat([image, constant_planes(label, image)], dim=1))
        return self.linear(maps.flatten(1)).squeeze(1).float()
