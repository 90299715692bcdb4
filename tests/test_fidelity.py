"""One GAN step against the published code's own, run with the same weights and images: every loss and gradient norm.

In float64: some activations of the golden step lie so near zero that float32's rounding decides their sign, and with it
some of the gradients.
"""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch

from models.swap import Pair
from models.swap_gan import SwapGAN
from models.vgg import Perceptual, vgg_features
from options.recipes import GANRecipe, GANShape
from test_networks import set_by_formula

GOLDEN = numpy.load(Path(__file__).parent / "data" / "golden_losses.npz")


def picture(step: float, offset: float = 0.0) -> torch.Tensor:
    """cos(step·k + offset) over the flattened (2, 3, 64, 64)."""
    return torch.from_numpy(numpy.cos(step * numpy.arange(2 * 3 * 64 * 64) + offset)).view(2, 3, 64, 64)


def gan_by_formula(alpha5: bool) -> SwapGAN:
    """The GAN and the perceptual network of the golden step: weights by formula, no noise on the targets."""
    gan = SwapGAN(GANShape(6, image_size=64), GANRecipe(alpha5=alpha5, std=0.0))
    for network in (gan.generator.encoder, gan.generator.decoder, gan.discriminators.d1, gan.discriminators.d2):
        set_by_formula(network).train()
    with torch.no_grad():
        gan.generator.decoder.main[4][0].weight.mul_(0.1)
    gan.set_perceptual(Perceptual(set_by_formula(vgg_features(16))))
    for network in (gan.generator, gan.discriminators, gan.perceptual):
        network.double()
    return gan


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair(picture(0.11), picture(0.07, 1.0), torch.tensor([2, 2]), torch.tensor([5, 0]))


def assert_close(ours, golden: numpy.ndarray, name: str, tolerance: float = 1e-4) -> None:
    """Asserts agreement to ``tolerance`` of the largest value."""
    ours = numpy.asarray(ours, dtype=numpy.float64)
    assert ours.shape == golden.shape, name
    assert numpy.abs(ours - golden).max() <= tolerance * numpy.abs(golden).max(), name


@pytest.mark.parametrize("prefix", ["alpha5", "plain"])
def test_images_of_a_step_are_the_references(pair, prefix):
    gan = gan_by_formula(prefix == "alpha5")
    with torch.no_grad():
        edits = gan.generator(pair, gan.recipe.alpha5)
    images = {"C": edits.c, "D": edits.d, "A1": edits.a_rebuilt, "B1": edits.b_rebuilt}
    if prefix == "alpha5":
        images.update(C5=edits.c_half, D5=edits.d_half)
    for name, image in images.items():
        assert_close(image[:, :, ::4, ::4], GOLDEN[f"{prefix}_{name}"], name)


@pytest.mark.parametrize("prefix", ["alpha5", "plain"])
def test_losses_and_gradients_of_a_step_are_the_references(pair, prefix):
    gan = gan_by_formula(prefix == "alpha5")
    losses = {name: float(value) for name, value in gan.step(pair, torch.Generator()).items()}
    names = {"D1_loss": "D1", "D2_loss": "D2", "D_loss": "D", "adv_loss": "adv", "vgg_loss": "vgg", "l1_loss": "l1",
             "l2_loss": "l2", "tv_loss": "tv", "G_loss": "G"}
    for golden, ours in names.items():
        assert_close(losses[ours], GOLDEN[f"{prefix}_{golden}"], golden)
    for golden, network in (("D_gradient_norms", gan.discriminators), ("G_gradient_norms_symmetric", gan.generator)):
        norms = [float(parameter.grad.norm()) for parameter in network.parameters()]
        expected = GOLDEN[f"{prefix}_{golden}"]
        assert_close(norms, expected, golden, tolerance=2e-4)  # the golden run's own rounding: 1.4e-4 of one norm
        visible = expected > 1e-4 * expected.max()
        assert numpy.median(numpy.abs(numpy.array(norms) / expected - 1)[visible]) < 2e-5, golden


def test_perceptual_distance_is_the_references(pair):
    gan = gan_by_formula(False)
    with torch.no_grad():
        distance = gan.perceptual.distance(gan.generator(pair).d, pair.image_a)
    assert_close(distance, GOLDEN["perceptual_distance_D_A"], "perceptual distance")
