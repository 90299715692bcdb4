"""Networks, swapped codes and losses on numbers (METHOD §1 to §3), and every backbone."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from conftest import refused
from models import losses
from models.checkpoints import load_recognizer, save_recognizer
from models.gan import SwapGAN, augmented
from models.losses import GeneratorStep, compute_g_loss
from models.networks import (BACKBONES, UP, VGG, Discriminators, EditConv, Edits, Encoder, Generator, Pair, Perceptual,
                             RecognizerNetwork, backbone_named, block_cuts, block_mask, classify, decoder_label,
                             even_phases, one_hot, swap_codes, swap_label, up_layers, vgg_classifier)
from models.recognizer import Examples, Recognizer, real_features
from options.command_line import resolve
from options.config import GENERATOR_LOSSES, GANRecipe, GANShape, RecognizerRecipe


@pytest.mark.parametrize("side", (1, 2, 3, 4, 6, 7, 8))
def test_the_classifier_of_maps_equals_adaptive_pooling_before_it(side):
    torch.manual_seed(0)
    classifier, maps = vgg_classifier(5, 16).eval(), torch.rand(3, 5, side, side)
    plain = classifier(F.adaptive_avg_pool2d(maps, 7).flatten(1))
    torch.testing.assert_close(classify(classifier, maps), plain, rtol=1e-4, atol=1e-5)


def test_the_decoders_first_layer_joins_the_edited_code_that_of_the_source_and_the_label():
    torch.manual_seed(0)
    layer = EditConv(16 + 12, 5, 3, **UP)
    edited, source, label = torch.rand(4, 8, 2, 2), torch.rand(2, 8, 2, 2), torch.rand(4, 6)
    planes = label.repeat(1, 2)[:, :, None, None].expand(-1, -1, 2, 2)
    plain = torch.nn.ConvTranspose2d.forward(layer, torch.cat([edited, source.repeat(2, 1, 1, 1), planes], 1))
    torch.testing.assert_close(layer(edited, source, label), plain, rtol=1e-4, atol=1e-5)


def test_even_phases_remove_the_pattern_in_plain_areas():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(*up_layers(4, 5), *up_layers(5, 3))
    plain = torch.randn(2, 4, 1, 1).expand(-1, -1, 8, 8)
    assert layers(plain)[:, :, 8:-8, 8:-8].std((2, 3)).min() > 0.01
    even_phases(layers)
    assert layers(plain)[:, :, 8:-8, 8:-8].std((2, 3)).max() < 1e-6


def of_each_backbone(width: int = 4) -> dict[str, RecognizerNetwork]:
    torch.manual_seed(0)
    return {name: backbone_named(name)(3, vgg_width=width, fc_width=16, base_width=4) for name in BACKBONES}


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_learns_is_saved_and_halves_images_before_the_layer_of_the_heat_maps(name, tmp_path):
    network, encoder, label = of_each_backbone()[name], Encoder(4), torch.tensor([0, 1, 2, 0])
    image = 2 * torch.rand(4, 3, 64, 64) - 1
    assert network.features(image).shape == (4, 32, 2, 2) and isinstance(network, BACKBONES[network.name])
    for index in range(5):
        before = network.features[:network.layers_before_downsampling(index)]
        assert before(image).shape[-1] == 64 >> index, index
    recognizer = Recognizer(network, RecognizerRecipe(lr=1e-2))
    first, *_, last = [recognizer.step(Examples(label, (image, real_features(encoder, image))))["loss"]
                       for _ in range(6)]
    assert last < first
    save_recognizer(tmp_path, recognizer, encoder, 50.0, {"backbone": name})
    loaded = load_recognizer(tmp_path, torch.device("cpu"))
    torch.testing.assert_close(loaded.recognize(image), recognizer.predict(image, real_features(encoder, image)))
    assert loaded.heat_maps(image, label).shape == (4, 64, 64)


@pytest.mark.parametrize("name", BACKBONES)
def test_weights_of_another_width_and_unknown_backbones_are_refused_with_the_names(name):
    network, wider = of_each_backbone()[name], of_each_backbone(6)[name]
    with pytest.raises(ValueError, match=f"torchvision's {name} is needed"):
        network.start_from(wider.state_dict())
    network.start_from(of_each_backbone()[name].state_dict())
    assert f"backbone resnet18: unknown here; it must be one of {', '.join(BACKBONES)}" in refused(
        lambda: backbone_named("resnet18"))


def test_codes_exchange_the_blocks_of_both_expressions_of_each_pair():
    assert block_cuts(512, 6) == [0, 85, 171, 256, 341, 427, 512]  # rounded half to even
    assert block_cuts(512, 7) == [0, 73, 146, 219, 293, 366, 439, 512]
    assert block_cuts(10, 4) == [0, 2, 5, 8, 10]
    code_a, code_b = torch.zeros(2, 512, 1, 1), torch.ones(2, 512, 1, 1)
    code_c, code_d = swap_codes(code_a, code_b, swap_label(torch.tensor([0, 5]), torch.tensor([2, 1]), 6))
    blocks = [code_c[i, :, 0, 0].split([85, 86, 85, 85, 86, 85]) for i in range(2)]
    assert [[block.unique().item() for block in row] for row in blocks] == [[1, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 1]]
    assert torch.equal(code_d, 1 - code_c)


def test_target_only_neutral_has_no_block_and_a_label_may_say_reconstruct():
    label = swap_label(torch.tensor([1]), torch.tensor([3]), 3)
    assert label.tolist() == [[0, 1, 0]] == decoder_label(label, exp_label=False).tolist()
    assert block_mask(label, 6).flatten().tolist() == [False, False, True, True, False, False]
    assert one_hot(torch.tensor([3]), 3).tolist() == [[0, 0, 0]]
    assert decoder_label(0 * label, exp_label=True, reconstruct=1.0).tolist() == [[0, 0, 0, 1]]


@pytest.mark.parametrize("target", [1.0, 0.0, 1.3, -0.2])
def test_soft_bce_is_bce_also_for_targets_outside_0_and_1(target):
    logit = torch.tensor([0.4])
    p = 1 / (1 + math.exp(-0.4))
    expected = -target * math.log(p) - (1 - target) * math.log(1 - p)
    assert losses.soft_bce(logit, target - 0.1, torch.tensor([0.1])).item() == pytest.approx(expected, rel=1e-5)


def test_color_counts_only_in_swaps_of_gray_images():
    gray, colored = torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)
    colored[0] = 0.3  # 0.2, -0.1, -0.1 from the mean
    loss = losses.color_of_gray(torch.stack([colored, colored]), torch.stack([gray, colored]))
    assert loss.item() == pytest.approx((0.04 + 0.01 + 0.01) / 3 / 2)


def step_of(c: torch.Tensor, d: torch.Tensor) -> GeneratorStep:
    """Return a step with black A, white B and these swaps (2, 3, 32, 32), which are also the reconstructions."""
    a, labels, known = torch.zeros(2, 3, 32, 32), torch.tensor([0, 1]), torch.tensor([True, False])
    pair = Pair(a, a + 1, labels, 1 - labels, torch.cat([a + 2, a + 2]), known.repeat(2))
    torch.manual_seed(0)
    return GeneratorStep(pair, Edits(c, d, c, d), (torch.zeros(4),) * 2, torch.zeros(2, 4),
                         Generator(GANShape(2, 32, 4)), Discriminators(GANShape(2, 32, 4)),
                         Perceptual(VGG(2, 4, 8).features))


def test_losses_of_a_step_by_hand():
    """C is red (0.3), D has a horizontal ramp from 0 to 31; what a loss does not look at is in no way special."""
    c, d = torch.zeros(2, 3, 32, 32), torch.arange(32.0).expand(2, 3, 32, 32)
    c[:, 0] = 0.3
    step = step_of(c, d)
    square_c, square_d = 0.09 / 3, float((torch.arange(32.0) - 1).square().mean())
    expected = {"adv": 1.5 * 2 * math.log(2), "l1": float((c + d - 1).abs().mean()), "l2": square_c + square_d,
                "tv": 1 / 32,  # of D alone: horizontal neighbors differ by 1
                "truth": float((c - 2).square().mean() + (d - 2).square().mean()) / 2,  # one of two
                "gray": 2 * 0.02 / 2,
                "coarse": square_c + float((torch.arange(1.5, 32, 4) - 1).square().mean())}
    assert {name: losses.FUNCTIONS[name](step).item() for name in expected} == pytest.approx(expected, rel=1e-5)
    assert losses.vgg_loss(step_of(step.pair.image_b, step.pair.image_a)) == 0  # C has B's expression
    assert losses.truth_loss(replace(step, pair=step.pair._replace(truth=None))) is None


def test_the_perceptual_loss_of_blurred_images_does_not_see_fine_patterns():
    step = step_of(*(torch.zeros(2, 3, 32, 32) for _ in "cd"))
    stripes = 0.5 * (torch.arange(32) % 2).expand(2, 3, 32, 32) - 0.25
    step = replace(step, edits=Edits(step.pair.image_b, step.pair.image_a + stripes), blur=0.0)
    sharp, soft = losses.vgg_loss(step), losses.vgg_loss(replace(step, blur=2.0))
    assert soft < 0.01 * sharp
    dot = torch.zeros(1, 3, 33, 33)
    dot[:, :, 16, 16] = 1
    weights = losses.blurred(dot, 2.0)[0, 0]
    variance = (weights.sum(0) * (torch.arange(33.0) - 16).square()).sum()
    assert weights.sum().item() == pytest.approx(1) and variance.item() == pytest.approx(4, rel=0.05)


def test_augmented_images_are_shifted_brighter_and_have_more_contrast():
    image = torch.rand(5, 3, 32, 32)
    draws = torch.full((4, 5), 0.5)
    draws[0, 1], draws[1, 2], draws[2, 3], draws[3, 4] = 1.0, 0.0, 0.75, 1.0
    same, down, left, bright, contrast = augmented(image, draws)
    torch.testing.assert_close(same, image[0])
    torch.testing.assert_close(down, torch.cat([image[1, :, 4:], image[1, :, -1:].expand(-1, 4, -1)], 1))
    torch.testing.assert_close(left[..., 4:], image[2, ..., :-4])
    torch.testing.assert_close(bright, image[3] + 0.25)
    torch.testing.assert_close(contrast, 1.5 * image[4] - 0.5 * image[4].mean())


def test_discriminators_see_augmented_faces_real_and_swapped_and_both_updates_other_draws():
    seen = []
    torch.manual_seed(0)
    gan = SwapGAN(GANShape(2, 32, 4), GANRecipe(d_augment=True, lambda_vgg_loss=0.0))
    gan.discriminators.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].detach()))
    gan.step(step_of(*torch.zeros(2, 2, 3, 32, 32)).pair)
    for_d, for_g = seen
    assert for_d.shape[0] == 12 and for_g.shape[0] == 8  # A, B and the fakes; the fakes alone
    black, white = for_d[:2], for_d[2:4]  # A and B are plain: their brightness alone changes
    assert all(len(faces.mean((1, 2, 3)).unique()) == 2 for faces in (black, white))
    assert not torch.equal(for_d[4:], for_g)


@pytest.mark.parametrize("loss", GENERATOR_LOSSES, ids=lambda loss: loss.name)
def test_each_loss_has_its_weight_a_flag_and_a_switch_and_has_a_gradient(loss):
    c, d = (torch.rand(2, 3, 32, 32, requires_grad=True) for _ in range(2))
    step = step_of(c, d)
    step.logits = tuple(x.mean((1, 2, 3)).repeat(2) for x in (c, d))
    flag, others = f"--lambda_{loss.name}_loss", [other.name for other in GENERATOR_LOSSES if other != loss]
    recipe = resolve([flag, "3", *(f"--lambda_{name}_loss=0" for name in others)]).gan_recipe
    total, terms = compute_g_loss(step, recipe)
    assert terms.keys() == {loss.name} and total.item() == pytest.approx(3 * losses.FUNCTIONS[loss.name](step).item())
    total.backward()
    assert c.grad.any() and d.grad.any()
    assert loss.name not in resolve([flag, "0"]).gan_recipe.loss_weights()
