"""What training the GAN can do beyond the paper; everything here is off by default.

Further losses, other starts, constraints on weights, and the moving average of the generator. The published method is
in ``losses.py``, ``generator.py``, ``discriminator.py`` and ``swap_gan.py``. """

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.discriminator import Discriminators
from models.generator import Edits, Generator
from models.swap import Pair
from options.recipes import GANRecipe


def generator_terms(pair: Pair, edits: Edits, recipe: GANRecipe) -> dict[str, Tensor]:
    """Return the further terms of the generator's loss that the recipe asks for, each with its weight.

    A term is the sum over both pairs, C with A and D with B: twice the mean over their concatenation.
    """
    terms, truth = {}, pair.extras.truth
    swapped, own = torch.cat([edits.c, edits.d]), torch.cat([pair.image_a, pair.image_b])
    if recipe.scene_truth and truth is not None:
        terms["truth"] = recipe.lambda_truth_loss * 2 * true_swap(swapped, truth, pair.extras.known)
    if recipe.lambda_coarse_loss:
        terms["coarse"] = recipe.lambda_coarse_loss * 2 * coarse_picture(swapped, own)
    if recipe.lambda_gray_loss:
        terms["gray"] = recipe.lambda_gray_loss * 2 * color_of_gray(swapped, own)
    return terms


def discriminator_term(logits: tuple[Tensor, Tensor], noise: Tensor, counted: Tensor) -> Tensor:
    """Return L(D1) + 0.5·L(D2) of real faces shown with a wrong label: logits (2N,) of both, noise (2, 2N)."""
    d1, d2 = (mismatched(own, e, counted) for own, e in zip(logits, noise))
    return d1 + 0.5 * d2


# ------------------------------------------------------------------------------------------------- losses

def mismatched(logits: Tensor, noise: Tensor, counted: Tensor) -> Tensor:
    """Σ over A and B of BCE(D(real with the other's label), t(0)), of those ``counted`` (2N,): logits, noise (2N,).

    (Matching-aware discriminators: Reed et al., 2016.)
    """
    each = F.binary_cross_entropy_with_logits(logits, noise, reduction="none")
    return 2 * (each * counted).mean()


def true_swap(swapped: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Mean squared difference to the truths (N, 3, S, S), 0 for the samples whose truth is not ``known`` (N,).

    The truth is an image of the same person in the same scene with the other expression.
    """
    return ((swapped - truth).square().mean((1, 2, 3)) * known).mean()


def coarse_picture(swapped: Tensor, image: Tensor, side: int = 8) -> Tensor:
    """Mean squared difference of images (N, 3, S, S) averaged to ``side`` × ``side`` cells.

    It keeps light, hair and glasses of the own face: an expression hardly changes such averages.
    """
    return F.adaptive_avg_pool2d(swapped - image, side).square().mean()


def color_of_gray(swapped: Tensor, image: Tensor, tolerance: float = 0.02) -> Tensor:
    """Mean squared color of the swaps (N, 3, S, S) of gray images, 0 for those of color images.

    An image is gray if its channels differ by less than ``tolerance`` from their mean on average.
    """
    gray = _color(image).abs().mean((1, 2, 3)) < tolerance
    return (_color(swapped).square().mean((1, 2, 3)) * gray).mean()


def _color(image: Tensor) -> Tensor:
    return image - image.mean(1, keepdim=True)


# ------------------------------------------------------------------------------- starts, weights, averaging

def zero_biases(network: nn.Module) -> None:
    """Let the biases of all convolutions start at zero, and a face decide its code.

    Torch's own start of the first bias is twice as large as what a face makes of weights N(0, 0.02), and
    :class:`Normalization` hands that on: about 1 % of the first codes' power differs between faces, without a third.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.zeros_(layer.bias)


def start_with_gain(discriminators: Discriminators, gain: float) -> None:
    """Let what the discriminators' last, linear layers see be ``gain`` times as large at first.

    Its length is ``gain`` at every position, and the weights start at 0.02: the logits of a small network, with few
    channels and positions, are small, and grow by few of Adam's steps. 8 at 64 px and width 16 is the paper's size.
    """
    for network in (discriminators.d1, discriminators.d2):
        nn.init.constant_(network.conv[-2].alpha, gain)


@torch.no_grad()
def even_phases(layers: nn.Module) -> None:
    """Give the weights behind each pixel of every transposed convolution in ``layers`` one sum: no grid of dots.

    With stride 2 a 3×3 kernel reaches one pixel of four through its center, others through two weights of a row or of
    a column, or through four corners. Where these sums differ, a plain area comes out with a pattern of period 2
    (Sugawara et al., *Super-resolution using CNNs without any checkerboard artifacts*, 2018).
    """
    for layer in layers.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            phases = [layer.weight[..., rows, columns] for rows in (slice(1, 2), slice(0, 3, 2))
                      for columns in (slice(1, 2), slice(0, 3, 2))]
            sums = [phase.sum((2, 3), keepdim=True) for phase in phases]
            mean = sum(sums) / len(sums)
            for phase, own in zip(phases, sums):
                phase += (mean - own) / (phase.shape[2] * phase.shape[3])


@torch.no_grad()
def move_average(averaged: Generator, trained: Generator, kept: float, step: int) -> None:
    """Move an averaged generator, of which the share ``kept`` stays, towards the trained one; faster at first."""
    kept = min(kept, step / (9 + step) if step else 0.0)
    torch._foreach_lerp_(list(averaged.parameters()), list(trained.parameters()), 1 - kept)
