"""Normalization, and the down- and upsampling blocks that all of the GAN is made of (METHOD §1)."""

from __future__ import annotations

from typing import Any, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

UP = {"stride": 2, "padding": 1, "output_padding": 1}  # a transposed 3×3 kernel then doubles the side exactly


class _ScaledDirection(torch.autograd.Function):
    """``F.normalize(x) * alpha + beta`` in half as many passes over the maps, forward and backward.

    Maps of half precision come in, stay saved and go out as they are; between that all is float32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        exact = full_precision(x)
        norm = torch.linalg.vector_norm(exact, dim=1, keepdim=True).clamp_min(1e-12)
        ctx.save_for_backward(x, alpha, norm)
        return torch.addcmul(beta, exact, alpha / norm).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        saved, alpha, norm = ctx.saved_tensors
        x, gradient = full_precision(saved), full_precision(gradient)
        along = (gradient * x).sum(1, keepdim=True) / norm
        of_x = torch.addcmul(gradient, x, -along / norm).mul_(alpha / norm)
        of_alpha, of_beta = (maps.sum().reshape(1) if needed else None
                             for maps, needed in zip((along, gradient), ctx.needs_input_grad[1:]))
        return of_x.to(saved.dtype), of_alpha, of_beta


class Normalization(nn.Module):
    """Divide by the L2 norm over channels at each position, then one learned gain and one offset (METHOD §1).

    (N, C, H, W) → (N, C, H, W) of the same type, computed in float32 also where autocast takes a smaller one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1))
        self.beta = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return _ScaledDirection.apply(x, self.alpha, self.beta)


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """Return the context in which networks are computed in a ``dtype``; None is float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def full_precision(x: Tensor) -> Tensor:
    """A tensor of half precision as float32; float32 and float64 as they are."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def down_layers(in_chans: int, out_chans: int, conv: type[nn.Conv2d] = nn.Conv2d) -> list[nn.Module]:
    """Conv 3×3 stride 2, Normalization, LeakyReLU 0.2: (N, in, H, W) → (N, out, H/2, W/2)."""
    return [conv(in_chans, out_chans, 3, stride=2, padding=1), Normalization(), nn.LeakyReLU(0.2, inplace=True)]


def up_layers(in_chans: int, out_chans: int, conv: type[nn.ConvTranspose2d] = nn.ConvTranspose2d) -> list[nn.Module]:
    """Transposed conv 3×3 stride 2, Normalization, ReLU: (N, in, H, W) → (N, out, 2H, 2W)."""
    return [conv(in_chans, out_chans, 3, **UP), Normalization(), nn.ReLU(inplace=True)]


def init_weights(module: nn.Module) -> None:
    """The method's start for ``module.apply``: conv and linear weights N(0, 0.02), linear bias 0 (METHOD §1)."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def add_to_each(edits: Tensor, source: Tensor) -> Tensor:
    """(K·N, C, H, W) + (N, C, H, W), the source's map to each of its K edits (edit k of source i is row k·N + i).

    Channels come last in between, so that maps which have them there keep them, and so do the sums of their gradients.
    """
    edits, source = (maps.permute(0, 2, 3, 1) for maps in (edits, source))
    return (edits.unflatten(0, (-1, source.shape[0])) + source).flatten(0, 1).permute(0, 3, 1, 2)


def halved(image: Tensor) -> Tensor:
    """Average-pool 2×2: (N, C, H, W) → (N, C, H/2, W/2). Torch's pooling of a few channels that lie last is slow."""
    upper, lower = image.permute(0, 2, 3, 1).unflatten(1, (-1, 2)).unbind(2)
    left, right = (upper + lower).unflatten(2, (-1, 2)).unbind(3)
    return (left + right).mul(0.25).permute(0, 3, 1, 2)


def every_nth(maps: Tensor, n: int) -> Tensor:
    """Of what belongs to A and B of N pairs, (2N, …), that of every nth pair, the first among them."""
    return maps if n == 1 else torch.cat([half[::n] for half in maps.chunk(2)])


def constant_planes(label: Tensor, size: Sequence[int]) -> Tensor:
    """A label (N, K) as K constant planes of a size (H, W): (N, K, H, W)."""
    return label[:, :, None, None].expand(-1, -1, *size)
