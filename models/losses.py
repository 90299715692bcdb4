"""The losses of METHOD §3 and further ones that the paper does not have.

A loss of the generator is a function here, ``<name>_loss``, and a row of ``GENERATOR_LOSSES`` in options/config.py,
which gives its name, weight and titles; :func:`compute_g_loss` calls all that have a weight. Images are (N, 3, S, S) in
[-1, 1]; every loss returns a scalar and is a mean over the samples.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur

from models.networks import (TAP_WEIGHTS, Discriminators, Edits, Generator, Pair, Perceptual, every_nth,
                             full_precision)
from options.config import GENERATOR_LOSSES, GANRecipe


# ---------------------------------------------------------------------------------------------------- parts of losses

def soft_bce(logits: Tensor, mean: float, noise: Tensor) -> Tensor:
    """Return the BCE of logits (N,) against t(mean) = mean + noise (N,); targets may leave [0, 1] (METHOD §3)."""
    return F.binary_cross_entropy_with_logits(logits, mean + noise)


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


def perceptual_distance(perceptual: Perceptual, x: Tensor, y: Tensor) -> Tensor:
    """Return P(x, y) = Σ wᵢ · mean|φᵢ(x) − φᵢ(y)| of images (N, 3, S, S), without gradient through y (METHOD §3)."""
    with torch.no_grad():
        targets = perceptual(y)
    return sum(weight * mean_distance(a, b) for weight, a, b in zip(TAP_WEIGHTS, perceptual(x), targets))


def total_variation(image: Tensor) -> Tensor:
    """Return TV(x) = MSE of vertical neighbors / S + MSE of horizontal neighbors / S (METHOD §3)."""
    side, image = image.shape[-1], _channels_last(image)
    vertical = F.mse_loss(image[:, 1:], image[:, :-1])
    horizontal = F.mse_loss(image[:, :, 1:], image[:, :, :-1])
    return (vertical + horizontal) / side


def _channels_last(image: Tensor) -> Tensor:
    """Return (N, C, H, W) as (N, H, W, C), so that the gradient has the channels-last format of the images."""
    return image.permute(0, 2, 3, 1)


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Return images (N, 3, S, S) blurred by a Gaussian with a standard deviation of ``sigma`` pixels, 0 for none."""
    return gaussian_blur(image, 2 * math.ceil(3 * sigma) + 1, sigma) if sigma else image


def ground_truth(swapped: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Return the mean squared difference to the ground truths (N, 3, S, S), 0 for samples without one.

    A ground truth is an image of the same person in the same scene with the other expression; ``known`` (N,) tells
    which samples have one.
    """
    return ((swapped - truth).square().mean((1, 2, 3)) * known).mean()


def coarse_difference(swapped: Tensor, image: Tensor, side: int = 8) -> Tensor:
    """Return the mean squared difference of images (N, 3, S, S) averaged to ``side`` × ``side`` cells.

    This loss preserves the light, hair and glasses of a face, since an expression hardly changes such averages.
    """
    return F.adaptive_avg_pool2d(swapped - image, side).square().mean()


def color_of_gray(swapped: Tensor, image: Tensor, tolerance: float = 0.02) -> Tensor:
    """Return the mean squared color of the swaps (N, 3, S, S) of gray images, 0 for those of color images.

    An image is gray if its channels differ by less than ``tolerance`` from their mean on average.
    """
    gray = _color(image).abs().mean((1, 2, 3)) < tolerance
    return (_color(swapped).square().mean((1, 2, 3)) * gray).mean()


def _color(image: Tensor) -> Tensor:
    return image - image.mean(1, keepdim=True)


# -------------------------------------------------------------------------------------------- losses of the generator

@dataclass
class GeneratorStep:
    """What a loss of the generator may use: a pair, its edits, and the networks.

    ``logits`` are those of D1 and D2 (G·N,) on G groups of fakes (C, D and maybe C5, D5), ``noise`` (2, G·N) is that of
    their targets. Of ``lazy`` pairs one has reconstructions and a perceptual loss, which blurs by ``blur`` pixels.
    ``same_expressions`` are D and C, (2N, 3, S, S), which have the expressions of :attr:`faces`.
    """

    pair: Pair
    edits: Edits
    logits: tuple[Tensor, Tensor]
    noise: Tensor
    generator: Generator | None = None
    discriminators: Discriminators | None = None
    perceptual: Perceptual | None = None
    lazy: int = 1
    blur: float = 0.0

    def __post_init__(self) -> None:
        # Made before all losses, since the order in which their gradients are added depends on it.
        self.same_expressions = torch.cat([self.edits.d, self.edits.c])

    @cached_property
    def faces(self) -> Tensor:
        """A and B, (2N, 3, S, S)."""
        return torch.cat([self.pair.image_a, self.pair.image_b])

    @cached_property
    def swapped(self) -> Tensor:
        """C and D, (2N, 3, S, S): the persons of :attr:`faces`."""
        return torch.cat([self.edits.c, self.edits.d])


def adv_loss(step: GeneratorStep) -> Tensor:
    """Return L(D1) + 0.5·L(D2), each Σ over the groups of fakes of BCE(D(fake), t(1))."""
    groups = len(step.logits[0]) // len(step.pair.a)
    d1, d2 = (groups * soft_bce(logits, 1.0, noise) for logits, noise in zip(step.logits, step.noise))
    return d1 + 0.5 * d2


def vgg_loss(step: GeneratorStep) -> Tensor:
    """Return P(D, A) + P(C, B), of blurred images with ``blur``."""
    images, targets = (blurred(every_nth(faces, step.lazy), step.blur) for faces in (step.same_expressions, step.faces))
    return 2 * perceptual_distance(step.perceptual, images, targets)


def l1_loss(step: GeneratorStep) -> Tensor:
    """Return mean|(A + B) − (C + D)|: a swap preserves the sum of both faces."""
    return mean_distance(step.edits.c + step.edits.d, step.pair.image_a + step.pair.image_b)


def l2_loss(step: GeneratorStep) -> Tensor:
    """Return MSE(A', A) + MSE(B', B)."""
    pair, edits = step.pair, step.edits
    return sum(F.mse_loss(_channels_last(rebuilt), _channels_last(image[::step.lazy]))
               for rebuilt, image in ((edits.a_rebuilt, pair.image_a), (edits.b_rebuilt, pair.image_b)))


def tv_loss(step: GeneratorStep) -> Tensor:
    """Return TV(C) + TV(D)."""
    return 2 * total_variation(step.same_expressions)


def truth_loss(step: GeneratorStep) -> Tensor | None:
    """Return the squared distance of C and D to their ground-truth swaps, None without ground truths."""
    pair = step.pair
    return None if pair.truth is None else 2 * ground_truth(step.swapped, pair.truth, pair.known)


def coarse_loss(step: GeneratorStep) -> Tensor:
    """Return the squared distance of C to A and of D to B in coarse cells."""
    return 2 * coarse_difference(step.swapped, step.faces)


def gray_loss(step: GeneratorStep) -> Tensor:
    """Return the squared color in C and D where A and B are gray."""
    return 2 * color_of_gray(step.swapped, step.faces)


FUNCTIONS = {row.name: globals()[f"{row.name}_loss"] for row in GENERATOR_LOSSES}


# ------------------------------------------------------------------------------------------------- totals (METHOD §3)

def compute_g_loss(step: GeneratorStep, recipe: GANRecipe) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the generator's total loss, and its terms by name, each with its weight (METHOD §3)."""
    terms = {}
    for name, weight in recipe.loss_weights().items():
        value = FUNCTIONS[name](step)
        if value is not None:
            terms[name] = weight * value
    return sum(terms.values()), terms


def compute_d_loss(real: tuple[Tensor, Tensor], fake: tuple[Tensor, Tensor],
                   mismatched: tuple[Tensor, Tensor] | None = None, *, noise: Tensor, weight: float = 0.25,
                   mask: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the discriminators' total loss weight·(L(D1) + 0.5·L(D2)), and its terms by name (METHOD §3).

    ``real`` are the logits (2N,) of D1 and D2 on A and B, ``fake`` those (G·N,) on G groups of fakes. ``mismatched``
    (2N,), which the paper does not have, are those on A and B with each other's labels (matching-aware discriminators:
    Reed et al., 2016); they count as fakes where ``mask`` (2N,) is set. ``noise`` is that of the targets in this
    order, (2, (2 + G)·N), and 2·N more for ``mismatched``.
    """
    reals, fakes = len(real[0]), len(fake[0])
    groups = 2 * fakes // reals
    for_real, for_fake, for_mismatched = noise.split([reals, fakes, noise.shape[1] - reals - fakes], 1)
    d1, d2 = (2 * soft_bce(r, 1.0, e) + groups * soft_bce(f, 0.0, g)
              for r, f, e, g in zip(real, fake, for_real, for_fake))
    terms = {"D1": d1, "D2": d2}
    total = weight * (d1 + 0.5 * d2)
    if mismatched is not None:
        m1, m2 = (2 * (F.binary_cross_entropy_with_logits(logits, e, reduction="none") * mask).mean()
                  for logits, e in zip(mismatched, for_mismatched))
        terms["mismatched"] = weight * (m1 + 0.5 * m2)
        total = total + terms["mismatched"]
    return total, terms
