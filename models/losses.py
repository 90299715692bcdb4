"""The losses of METHOD §3, each a pure function.

Images are (N, 3, S, S) in [-1, 1]; every loss returns a scalar and is a mean over the samples.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from models.layers import full_precision


def soft_bce(logits: Tensor, mean: float, noise: Tensor) -> Tensor:
    """Return the BCE of logits (N,) against t(mean) = mean + noise (N,); targets may leave [0, 1] (METHOD §3)."""
    return F.binary_cross_entropy_with_logits(logits, mean + noise)


def adversarial(logits: Tensor, mean: float, noise: Tensor, groups: int) -> Tensor:
    """Return Σ over ``groups`` equal groups (A, B or C, D, …) of BCE(D(group), t(mean)): logits and noise (G·N,)."""
    return groups * soft_bce(logits, mean, noise)


def swap_consistency(image_a: Tensor, image_b: Tensor, image_c: Tensor, image_d: Tensor) -> Tensor:
    """Return mean|(A + B) − (C + D)|: a swap preserves the sum of both faces (METHOD §3, ``--lambda_l1_loss``)."""
    return mean_distance(image_c + image_d, image_a + image_b)


class _MeanDistance(torch.autograd.Function):
    """``(x − y).abs().mean()`` without gradient through y; the plain form allocates two more maps in its backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        difference = full_precision(x) - full_precision(y)
        ctx.save_for_backward(difference.to(x.dtype))  # half precision keeps the sign, which is all that is needed
        return difference.abs().mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        difference, = ctx.saved_tensors
        return difference.sign().mul_(gradient / difference.numel()), None


def mean_distance(x: Tensor, target: Tensor) -> Tensor:
    """Return mean|x − target| of two maps of one shape, in float32, without gradient through ``target``."""
    return _MeanDistance.apply(x, target)


def reconstruction(rebuilt: Tensor, image: Tensor) -> Tensor:
    """Return the MSE of a reconstruction (METHOD §3, ``--lambda_l2_loss``)."""
    return F.mse_loss(_channels_last(rebuilt), _channels_last(image))


def total_variation(image: Tensor) -> Tensor:
    """Return TV(x) = MSE of vertical neighbors / S + MSE of horizontal neighbors / S (METHOD §3)."""
    side, image = image.shape[-1], _channels_last(image)
    vertical = F.mse_loss(image[:, 1:], image[:, :-1])
    horizontal = F.mse_loss(image[:, :, 1:], image[:, :, :-1])
    return (vertical + horizontal) / side


def _channels_last(image: Tensor) -> Tensor:
    """Return (N, C, H, W) as (N, H, W, C), so that the gradient has the channels-last format of the images."""
    return image.permute(0, 2, 3, 1)
