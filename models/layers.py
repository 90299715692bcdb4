"""Normalization, and the down- and upsampling blocks of the GAN's networks (METHOD §1)."""

from typing import Any, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

UP = {"stride": 2, "padding": 1, "output_padding": 1}  # a transposed 3×3 kernel then doubles the side exactly


class _ScaledDirection(torch.autograd.Function):
    """``F.normalize(x) * alpha + beta`` in half as many passes over the maps, forward and backward.

    Input, saved maps and output keep their half precision; the computation is in float32.
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
        saved_x, alpha, norm = ctx.saved_tensors
        x, gradient = full_precision(saved_x), full_precision(gradient)
        projection = (gradient * x).sum(1, keepdim=True) / norm
        grad_x = torch.addcmul(gradient, x, -projection / norm).mul_(alpha / norm)
        grad_alpha, grad_beta = (maps.sum().reshape(1) if needed else None
                                 for maps, needed in zip((projection, gradient), ctx.needs_input_grad[1:]))
        return grad_x.to(saved_x.dtype), grad_alpha, grad_beta


class Normalization(nn.Module):
    """Division by the L2 norm over channels at each position, with one learned gain and one offset (METHOD §1).

    Maps (N, C, H, W) keep their shape and type. The computation is in float32, also under autocast.
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
    """Return a tensor of half precision as float32, one of float32 or float64 unchanged."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def down_layers(in_chans: int, out_chans: int, conv: type[nn.Conv2d] = nn.Conv2d) -> list[nn.Module]:
    """Return conv 3×3 stride 2, Normalization, LeakyReLU 0.2: (N, in, H, W) → (N, out, H/2, W/2)."""
    return [conv(in_chans, out_chans, 3, stride=2, padding=1), Normalization(), nn.LeakyReLU(0.2, inplace=True)]


def up_layers(in_chans: int, out_chans: int, conv: type[nn.ConvTranspose2d] = nn.ConvTranspose2d) -> list[nn.Module]:
    """Return transposed conv 3×3 stride 2, Normalization, ReLU: (N, in, H, W) → (N, out, 2H, 2W)."""
    return [conv(in_chans, out_chans, 3, **UP), Normalization(), nn.ReLU(inplace=True)]


def init_weights(module: nn.Module) -> None:
    """Initialize one module, for ``network.apply``: conv and linear weights N(0, 0.02), linear bias 0 (METHOD §1)."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def add_to_each(edits: Tensor, source: Tensor) -> Tensor:
    """Return (K·N, C, H, W) + (N, C, H, W): the source's map is added to each of its K edits, rows i, N + i, ….

    The sum is computed with the channels last, so that channels-last maps and their gradients keep that memory format.
    """
    edits, source = (maps.permute(0, 2, 3, 1) for maps in (edits, source))
    return (edits.unflatten(0, (-1, source.shape[0])) + source).flatten(0, 1).permute(0, 3, 1, 2)


def average_pool_2x2(image: Tensor) -> Tensor:
    """Pool (N, C, H, W) → (N, C, H/2, W/2) by averages; torch's own is slow for few channels in channels-last."""
    upper, lower = image.permute(0, 2, 3, 1).unflatten(1, (-1, 2)).unbind(2)
    left, right = (upper + lower).unflatten(2, (-1, 2)).unbind(3)
    return (left + right).mul(0.25).permute(0, 3, 1, 2)


def every_nth(maps: Tensor, n: int) -> Tensor:
    """Return the rows of every ``n``-th pair, from the first on, of maps of A and B of all pairs (2N, …)."""
    return maps if n == 1 else torch.cat([half[::n] for half in maps.chunk(2)])


def constant_planes(label: Tensor, size: Sequence[int]) -> Tensor:
    """Return a label (N, K) as K constant planes of a size (H, W): (N, K, H, W)."""
    return label[:, :, None, None].expand(-1, -1, *size)
