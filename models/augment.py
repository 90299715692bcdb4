"""Random changes of training images that leave their expression as it is; drawn on the CPU, applied on the device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

import utils

NOISE, BLUR, SHIFT, TURN, SCALE = 0.1, 1.0, 1 / 16, 0.15, 0.1  # in [-1, 1], pixels of 64, sides, radians, shares


def disturbed(image: Tensor, random: torch.Generator) -> Tensor:
    """Images (N, 3, S, S) in [-1, 1] shifted, blurred and made noisy, each to an extent of its own."""
    n, side = image.shape[0], image.shape[-1]
    shift, blur, noise = torch.rand(3, n, 2, generator=random).unbind()
    image = blurred(shifted(image, SHIFT * (2 * shift - 1)), BLUR * side / 64 * blur[:, 0])
    extent = utils.to_device(NOISE * noise[:, :1, None, None], image.device)
    return image + extent * utils.to_device(torch.randn(image.shape, generator=random), image.device)


def augmented(image: Tensor, random: torch.Generator) -> Tensor:
    """Images (N, 3, S, S) in [-1, 1] moved, turned, scaled, lit, blurred and made noisy, each to an extent of its own.

    For recognizers: the changes are those between photographs of one face.
    """
    n, side = image.shape[0], image.shape[-1]
    moves, light = 2 * torch.rand(n, 4, generator=random) - 1, torch.rand(n, 3, generator=random)
    blur, noise = torch.rand(2, n, generator=random)
    angle, scale = TURN * moves[:, 2], 1 + SCALE * moves[:, 3]
    theta = torch.stack([scale * angle.cos(), -scale * angle.sin(), 2 * SHIFT * moves[:, 0],
                         scale * angle.sin(), scale * angle.cos(), 2 * SHIFT * moves[:, 1]], 1).view(n, 2, 3)
    grid = utils.to_device(F.affine_grid(theta, list(image.shape), align_corners=False), image.device)
    image = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
    image = blurred(differently_lit(image, light), BLUR * side / 64 * blur)
    extent = utils.to_device(NOISE * noise[:, None, None, None], image.device)
    return image + extent * utils.to_device(torch.randn(image.shape, generator=random), image.device)


def shifted(image: Tensor, share: Tensor) -> Tensor:
    """Images (N, 3, S, S) moved by shares (N, 2) of their side in x and y; the border is repeated."""
    theta = torch.eye(2, 3).repeat(len(image), 1, 1)
    theta[:, :, 2] = 2 * share
    grid = utils.to_device(F.affine_grid(theta, list(image.shape), align_corners=False), image.device)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)


def blurred(image: Tensor, sigma: Tensor) -> Tensor:
    """Images (N, 3, S, S) under a Gaussian of standard deviation sigma (N,) in pixels."""
    n, side = image.shape[0], image.shape[-1]
    radius = max(1, round(2 * float(sigma.max())))
    offset = torch.arange(-radius, radius + 1)
    window = torch.exp(-offset ** 2 / (2 * sigma[:, None].clamp(min=1e-3) ** 2))
    window = utils.to_device((window / window.sum(1, keepdim=True)).repeat_interleave(3, 0), image.device)
    planes = F.pad(image.reshape(1, 3 * n, side, side), (radius,) * 4, mode="replicate")
    planes = F.conv2d(planes, window[:, None, :, None], groups=3 * n)
    return F.conv2d(planes, window[:, None, None, :], groups=3 * n).reshape(image.shape)


def differently_lit(image: Tensor, random: Tensor) -> Tensor:
    """Images (N, 3, S, S) brighter or darker by up to 0.2, with up to 50 % more or less color and contrast.

    ``random`` (N, 3) in [0, 1]. With :func:`shifted` the differentiable augmentation of Zhao et al., 2020.
    """
    light, color, contrast = (utils.to_device(random, image.device)[:, :, None, None, None] - 0.5).unbind(1)
    image = image + 0.4 * light
    grey = image.mean(1, keepdim=True)
    image = grey + (image - grey) * (1 + color)
    middle = image.mean((1, 2, 3), keepdim=True)
    return middle + (image - middle) * (1 + contrast)
