"""Extensions of the GAN's training that the paper does not have; all are off by default.

Further losses, other initializations, constraints on weights, and the moving average of the generator. The published
method is in ``losses.py``, ``generator.py``, ``discriminator.py`` and ``swap_gan.py``. """

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.discriminator import Discriminators
from models.generator import Edits, Generator
from models.swap import Pair
from options.config import GANRecipe


def generator_terms(pair: Pair, edits: Edits, recipe: GANRecipe) -> dict[str, Tensor]:
    """Return the further terms of the generator's loss that the recipe asks for, each with its weight.

    A term is the sum over both pairs, C with A and D with B: twice the mean over their concatenation.
    """
    terms, truth = {}, pair.extras.truth
    swapped, original = torch.cat([edits.c, edits.d]), torch.cat([pair.image_a, pair.image_b])
    if recipe.scene_truth and truth is not None:
        terms["truth"] = recipe.lambda_truth_loss * 2 * ground_truth(swapped, truth, pair.extras.known)
    if recipe.lambda_coarse_loss:
        terms["coarse"] = recipe.lambda_coarse_loss * 2 * coarse_difference(swapped, original)
    if recipe.lambda_gray_loss:
        terms["gray"] = recipe.lambda_gray_loss * 2 * color_of_gray(swapped, original)
    return terms


def discriminator_term(logits: tuple[Tensor, Tensor], noise: Tensor, mask: Tensor) -> Tensor:
    """Return L(D1) + 0.5·L(D2), each Σ over A and B of BCE(D(real with the other's label), t(0)) where ``mask`` is set.

    ``logits`` (2N,) are those of D1 and D2, ``noise`` is (2, 2N) and ``mask`` (2N,). (Matching-aware discriminators:
    Reed et al., 2016.)
    """
    d1, d2 = (2 * (F.binary_cross_entropy_with_logits(d_logits, e, reduction="none") * mask).mean()
              for d_logits, e in zip(logits, noise))
    return d1 + 0.5 * d2


# ------------------------------------------------------------------------------------------------- losses

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


# ------------------------------------------------------------------- initialization, constraints, averaging

def zero_biases(network: nn.Module) -> None:
    """Set the biases of all convolutions to zero, so that the face determines its code from the first step on.

    Torch's default for the first bias is twice as large as the response of weights N(0, 0.02) to a face, and
    :class:`Normalization` keeps that ratio: about 1 % of the first codes' power differs between faces, without the
    biases a third.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.zeros_(layer.bias)


def start_with_gain(discriminators: Discriminators, gain: float) -> None:
    """Initialize the gain of the discriminators' last normalization, which scales the input of their linear layers.

    The input has the norm ``gain`` at every position, and the weights start at 0.02: a small network, with few channels
    and positions, has small logits, which grow slowly with Adam. 8 at 64 px and width 16 gives logits of the paper's
    size.
    """
    for network in (discriminators.d1, discriminators.d2):
        nn.init.constant_(network.conv[-2].alpha, gain)


@torch.no_grad()
def even_phases(layers: nn.Module) -> None:
    """Make the weights that reach a pixel sum to the same in all transposed convolutions of ``layers``, in place.

    With stride 2 a 3×3 kernel reaches one pixel of four through its center, others through two weights of a row or of
    a column, or through four corners. Where these sums differ, a plain area comes out with a checkerboard pattern
    (Sugawara et al., *Super-resolution using CNNs without any checkerboard artifacts*, 2018).
    """
    for layer in layers.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            phases = [layer.weight[..., rows, columns] for rows in (slice(1, 2), slice(0, 3, 2))
                      for columns in (slice(1, 2), slice(0, 3, 2))]
            sums = [phase.sum((2, 3), keepdim=True) for phase in phases]
            mean = sum(sums) / len(sums)
            for phase, phase_sum in zip(phases, sums):
                phase += (mean - phase_sum) / (phase.shape[2] * phase.shape[3])


@torch.no_grad()
def move_average(averaged: Generator, trained: Generator, decay: float, step: int) -> None:
    """Update the exponential moving average of a generator in place; the ``decay`` is smaller in the first steps."""
    decay = min(decay, step / (9 + step) if step else 0.0)
    torch._foreach_lerp_(list(averaged.parameters()), list(trained.parameters()), 1 - decay)
