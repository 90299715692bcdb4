"""Normalization, and the down- and upsampling blocks that all of the GAN is made of (METHOD §1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Normalization(nn.Module):
    """Divide by the L2 norm over channels at each position, then one learned gain and one offset (METHOD §1).

    (N, C, H, W) → (N, C, H, W), always computed in float32. It is ``F.normalize(x) * alpha + beta``, with half as many
    passes over the maps.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1))
        self.beta = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            norm = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(1e-12)
            return torch.addcmul(self.beta, x, self.alpha / norm)


def down_layers(in_chans: int, out_chans: int) -> list[nn.Module]:
    """Conv 3×3 stride 2, Normalization, LeakyReLU 0.2: (N, in, H, W) → (N, out, H/2, W/2)."""
    return [nn.Conv2d(in_chans, out_chans, 3, stride=2, padding=1), Normalization(), nn.LeakyReLU(0.2, inplace=True)]


def up_layers(in_chans: int, out_chans: int) -> list[nn.Module]:
    """Transposed conv 3×3 stride 2, Normalization, ReLU: (N, in, H, W) → (N, out, 2H, 2W)."""
    return [up_conv(in_chans, out_chans), Normalization(), nn.ReLU(inplace=True)]


def up_conv(in_chans: int, out_chans: int) -> nn.ConvTranspose2d:
    """Transposed conv 3×3 that exactly doubles the side: (N, in, H, W) → (N, out, 2H, 2W)."""
    return nn.ConvTranspose2d(in_chans, out_chans, 3, stride=2, padding=1, output_padding=1)


def init_weights(module: nn.Module) -> None:
    """The method's start for ``module.apply``: conv and linear weights N(0, 0.02), linear bias 0 (METHOD §1)."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def constant_planes(label: Tensor, like: Tensor) -> Tensor:
    """A label (N, K) as K constant planes of the size of ``like`` (N, C, H, W): (N, K, H, W)."""
    return label.to(like.dtype)[:, :, None, None].expand(-1, -1, *like.shape[-2:])
