"""3×3 convolutions whose weight gradient is a product of matrices on a CPU.

There, torch's own takes two to four times as long as such a product, for forward pass and input gradient are as fast as
it; on a GPU, in half precision, compiled or for small maps, the layers are torch's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 3
UP = {"stride": 2, "padding": 1, "output_padding": 1}  # a 3×3 kernel then doubles the side exactly
FEWEST, LEAST = 64, 10 ** 9  # channels and operations from which on the product pays for the copies, as measured
PART = 2 ** 20  # floats of windows that are copied at a time, to stay in the cache


class Conv(nn.Conv2d):
    """3×3, padding 1, stride 1 or 2: (N, C, H, W) → (N, K, H/stride, W/stride)."""

    def __init__(self, in_chans: int, out_chans: int, stride: int = 1) -> None:
        super().__init__(in_chans, out_chans, SIDE, stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return conv(x, self.weight, self.bias, self.stride[0])


class UpConv(nn.ConvTranspose2d):
    """3×3, transposed, doubles the side: (N, K, h, w) → (N, C, 2h, 2w)."""

    def __init__(self, in_chans: int, out_chans: int) -> None:
        super().__init__(in_chans, out_chans, SIDE, **UP)

    def forward(self, x: Tensor) -> Tensor:
        return up_conv(x, self.weight, self.bias)


def conv(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """``F.conv2d`` with padding 1: (N, C, H, W), (K, C, 3, 3), (K,) → (N, K, H/stride, W/stride)."""
    if _pays(x, weight, stride):
        return _Convolution.apply(x, weight, bias, stride, False)
    return F.conv2d(x, weight, bias, stride, padding=1)


def up_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.conv_transpose2d`` that doubles the side: (N, K, h, w), (K, C, 3, 3), (C,) → (N, C, 2h, 2w)."""
    if _pays(x, weight, 1):
        return _Convolution.apply(x, weight, bias, 2, True)
    return F.conv_transpose2d(x, weight, bias, **UP)


def weight_gradient(large: Tensor, small: Tensor, stride: int) -> Tensor:
    """The gradient of a loss by the weights that lead from ``large`` to ``small``, or back: (K, C, 3, 3).

    One of the maps (N, C, H, W) and (N, K, H/stride, W/stride) is a layer's input, the other its output's gradient.
    Each of ``small``'s positions has seen a 3×3 window of ``large``: the gradient is the product of all windows, a
    matrix with a row for each position, with the rows of ``small``.
    """
    (count, chans, *sides), (out_chans, height, width) = large.shape, small.shape[1:]
    beyond = [(out - 1) * stride + SIDE - 1 - side for side, out in zip(sides, (height, width))]
    lines = max(1, PART // (SIDE ** 2 * chans * width))
    images, lines = max(1, lines // height), min(lines, height)
    buffer = large.new_empty(min(images, count) * lines * width * SIDE ** 2 * chans)
    total = large.new_zeros(SIDE ** 2 * chans, out_chans)
    for some, rows in zip(large.permute(0, 2, 3, 1).split(images), small.permute(0, 2, 3, 1).split(images)):
        padded = F.pad(some, (0, 0, 1, beyond[1], 1, beyond[0]))
        seen = padded.unfold(1, SIDE, stride).unfold(2, SIDE, stride).permute(0, 1, 2, 4, 5, 3)
        for part, out in zip(seen.split(lines, 1), rows.split(lines, 1)):
            windows = buffer[:part.numel()].view(part.shape).copy_(part).view(-1, len(total))
            torch.addmm(total, windows.t(), out.reshape(-1, out_chans), out=total)
    return total.view(SIDE, SIDE, chans, out_chans).permute(3, 2, 0, 1)


def _pays(x: Tensor, weight: Tensor, stride: int) -> bool:
    windows = x.numel() // x.shape[1] // stride ** 2
    return (x.device.type == "cpu" and weight.shape[1] >= FEWEST and 2 * windows * weight.numel() >= LEAST
            and weight.requires_grad and torch.is_grad_enabled() and x.dtype == weight.dtype
            and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling())


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, transposed: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.settings = [stride] * 2, [1, 1], [1, 1], transposed, [int(transposed)] * 2, 1
        return torch.convolution(x, weight, bias, *ctx.settings)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        (x, weight), (stride, _, _, transposed, *_), wanted = ctx.saved_tensors, ctx.settings, ctx.needs_input_grad
        ours = wanted[1] and not torch.is_grad_enabled()  # else a gradient of this gradient is wanted
        of_x, of_weight, of_bias = torch.ops.aten.convolution_backward(
            gradient, x, weight, [gradient.shape[1]] if wanted[2] else None, *ctx.settings,
            [wanted[0], wanted[1] and not ours, wanted[2] and not ours])
        if ours:
            of_weight = weight_gradient(*((gradient, x) if transposed else (x, gradient)), stride[0])
            of_bias = gradient.sum((0, 2, 3)) if wanted[2] else None
        return of_x, of_weight, of_bias, None, None
