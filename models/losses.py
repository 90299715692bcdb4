"""The losses of METHOD §3, each a pure function, and further ones that the paper does not have.

Images are (N, 3, S, S) in [-1, 1]; every loss returns a scalar and is a mean over the samples.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from models.networks import Edits, Pair, Perceptual, every_nth, full_precision
from options.config import GANRecipe


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


def perceptual_distance(perceptual: Perceptual, x: Tensor, y: Tensor) -> Tensor:
    """Return P(x, y) = Σ wᵢ · mean|φᵢ(x) − φᵢ(y)| of images (N, 3, S, S), without gradient through y (METHOD §3)."""
    with torch.no_grad():
        targets = perceptual(y)
    return sum(weight * mean_distance(a, b) for weight, a, b in zip(perceptual.weights, perceptual(x), targets))


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


# --------------------------------------------------------------------------------------------------- beyond the paper

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


# ------------------------------------------------------------------------------------------------------------- totals

def discriminator_loss(real: tuple[Tensor, Tensor], fake: tuple[Tensor, Tensor], noise: Tensor, groups: int,
                       weight: float = 0.25) -> tuple[Tensor, dict[str, Tensor]]:
    """Return weight·(L(D1) + 0.5·L(D2)) and both losses by name (METHOD §3).

    ``real`` are the logits (2N,) of D1 and D2 on A and B, ``fake`` those (groups·N,) on ``groups`` groups of fakes;
    ``noise`` (2, (2 + groups)·N), real first.
    """
    d1, d2 = (adversarial(r, 1.0, e[:len(r)], 2) + adversarial(f, 0.0, e[len(r):], groups)
              for r, f, e in zip(real, fake, noise))
    return weight * (d1 + 0.5 * d2), {"D1": d1, "D2": d2}


def generator_loss(pair: Pair, edits: Edits, fake: tuple[Tensor, Tensor], noise: Tensor, groups: int,
                   perceptual: Perceptual | None, recipe: GANRecipe) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the generator's total loss and its named terms, each with its weight (METHOD §3).

    ``fake`` are the logits (groups·N,) of D1 and D2 on the fakes, ``noise`` (2, groups·N).
    """
    d1, d2 = (adversarial(f, 1.0, e, groups) for f, e in zip(fake, noise))
    terms = {"adv": recipe.lambda_adv_loss * (d1 + 0.5 * d2)}
    same_expressions = torch.cat([edits.d, edits.c])  # as A and B: D shows A's expression, and C that of B
    if recipe.vgg_loss and recipe.lambda_vgg_loss:
        target = torch.cat([pair.image_a, pair.image_b])
        distance = perceptual_distance(perceptual, every_nth(same_expressions, recipe.lazy),
                                       every_nth(target, recipe.lazy))
        terms["vgg"] = recipe.lambda_vgg_loss * 2 * distance
    if recipe.l1_loss:
        terms["l1"] = recipe.lambda_l1_loss * swap_consistency(pair.image_a, pair.image_b, edits.c, edits.d)
    if recipe.l2_loss:
        terms["l2"] = recipe.lambda_l2_loss * (reconstruction(edits.a_rebuilt, pair.image_a[::recipe.lazy])
                                               + reconstruction(edits.b_rebuilt, pair.image_b[::recipe.lazy]))
    if recipe.tv_loss:
        terms["tv"] = recipe.lambda_tv_loss * 2 * total_variation(same_expressions)
    terms.update(generator_terms(pair, edits, recipe))
    return sum(terms.values()), terms
