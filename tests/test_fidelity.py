"""Agreement with the published code: names and shapes, outputs for weights by formula, and all losses of a GAN step.

The step is computed in float64, since some activations are so near zero that rounding in float32 decides their sign,
and with it some of the gradients.
"""

import json
import math
import pickle
from pathlib import Path

import numpy
import pytest
import torch

from conftest import untrained_run
from models.gan import SwapGAN
from models.networks import (Decoder, Discriminator, Encoder, Pair, Perceptual, VGG_fx, decoder_label, swap_codes,
                             vgg_features)
from options.config import GANRecipe, GANShape

DATA = Path(__file__).parent / "data"
GOLDEN = numpy.load(DATA / "golden_losses.npz")


def picture(step: float, offset: float = 0.0) -> torch.Tensor:
    """Return cos(step·k + offset) over the flattened (2, 3, 64, 64)."""
    return torch.from_numpy(numpy.cos(step * numpy.arange(2 * 3 * 64 * 64) + offset)).view(2, 3, 64, 64)


def set_by_formula(network: torch.nn.Module) -> torch.nn.Module:
    """Set the weights of the golden files: cosines of the position in the sorted state dict (tests/data/README.md)."""
    state = network.state_dict()
    for j, name in enumerate(sorted(state)):
        if name.endswith("num_batches_tracked"):
            continue
        shape = state[name].shape
        c = numpy.cos(0.37 * numpy.arange(state[name].numel(), dtype=numpy.float64) + j).reshape(shape)
        if name.endswith(("running_var", "alpha")) or name.endswith("weight") and len(shape) == 1:
            value = 1 + 0.1 * c
        elif len(shape) >= 2:
            value = c * math.sqrt(2 / state[name][0].numel())
        else:
            value = 0.01 * c
        state[name] = torch.from_numpy(value).float()
    network.load_state_dict(state)
    return network.eval()


@pytest.mark.parametrize("name, build", [
    ("Encoder", Encoder), ("Decoder", Decoder), ("Decoder_label", lambda: Decoder(label_chans=120)),
    ("D1", lambda: Discriminator(6, 256)), ("D2", lambda: Discriminator(6, 128)), ("VGG_fx", lambda: VGG_fx(6))])
def test_state_dict_has_the_reference_names_and_shapes(name, build):
    expected = json.loads((DATA / "state_dict_shapes.json").read_text())[name]
    with torch.device("meta"):
        ours = {key: list(value.shape) for key, value in build().state_dict().items()}
    assert ours == expected


@torch.no_grad()
def test_outputs_are_the_golden_ones():
    golden = {key: torch.from_numpy(value) for key, value in numpy.load(DATA / "golden.npz").items()}
    image = picture(0.11).float()
    code, skips = set_by_formula(Encoder())(image)
    assert [tuple(skip.shape[1:]) for skip in skips] == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]
    label = torch.tensor([[0, 1, 0, 0, 1, 0]])
    swapped, _ = swap_codes(code[:1], code[1:], label)
    decoder = set_by_formula(Decoder(label_chans=120))
    residual = decoder(swapped, code[:1], [skip[:1] for skip in skips], decoder_label(label.float(), False))
    discriminators = [set_by_formula(Discriminator(6, size)) for size in (64, 32)]
    d1, d2 = (discriminator(image, torch.eye(6)[[1, 4]]).sigmoid() for discriminator in discriminators)
    logits = set_by_formula(VGG_fx(6))(image, torch.cat([code, code], dim=1))
    outputs = {"z": code, "skip0_mean": skips[0].mean((2, 3)), "z_C": swapped, "residual_C": residual,
               "residual_plain_decoder": set_by_formula(Decoder())(code, code, skips), "d1": d1, "d2": d2,
               "logits": logits}
    for name, output in outputs.items():
        ours, expected = output.squeeze(), golden[name].squeeze()
        assert ours.shape == expected.shape, name
        assert (ours - expected).abs().max() < 1e-4 * expected.abs().max().clamp_min(1e-3), name


def gan_by_formula(alpha5: bool) -> SwapGAN:
    """Return the GAN of the golden step with its perceptual network: weights by formula, no noise on the targets."""
    gan = SwapGAN(GANShape(6, image_size=64), GANRecipe(alpha5=alpha5, std=0.0))
    for network in (gan.generator.encoder, gan.generator.decoder, gan.discriminators.d1, gan.discriminators.d2):
        set_by_formula(network).train()
    with torch.no_grad():
        gan.generator.decoder.main[4][0].weight.mul_(0.1)
    gan.set_perceptual(Perceptual(set_by_formula(vgg_features(16))))
    for network in (gan.generator, gan.discriminators, gan.perceptual):
        network.double()
    return gan


def assert_close(ours, golden: numpy.ndarray, name: str, tolerance: float = 1e-4) -> None:
    """Assert agreement to ``tolerance`` times the largest value."""
    ours = numpy.asarray(ours, dtype=numpy.float64)
    assert ours.shape == golden.shape, name
    assert numpy.abs(ours - golden).max() <= tolerance * numpy.abs(golden).max(), name


@pytest.mark.parametrize("prefix", ["alpha5", "plain"])
def test_images_losses_and_gradients_of_a_step_equal_the_published_codes(prefix):
    pair = Pair(picture(0.11), picture(0.07, 1.0), torch.tensor([2, 2]), torch.tensor([5, 0]))
    gan = gan_by_formula(prefix == "alpha5")
    with torch.no_grad():
        edits = gan.generator(pair, gan.recipe.alpha5)
    images = {"C": edits.c, "D": edits.d, "A1": edits.a_rebuilt, "B1": edits.b_rebuilt}
    if prefix == "alpha5":
        images.update(C5=edits.c_interpolated, D5=edits.d_interpolated)
    for name, image in images.items():
        assert_close(image[:, :, ::4, ::4], GOLDEN[f"{prefix}_{name}"], name)
    losses = {name: float(value) for name, value in gan.step(pair).items()}
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


def test_networks_are_written_as_pytorch_1_0_1_reads_them(tmp_path):
    """The old format is a row of pickles, of which the first holds a magic number and the second the version 1001."""
    run = untrained_run(tmp_path)
    files = [*run.glob("model/*_iter_temp.pth"), run / "VGG" / "max_ckpt.t7", run / "VGG" / "Enc_max.pth"]
    assert len(files) == 6
    for path in files:
        with open(path, "rb") as handle:
            assert (pickle.load(handle), pickle.load(handle)) == (0x1950a86a20f9469cfc6c, 1001), path
