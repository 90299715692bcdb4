"""The networks against the reference's: state-dict names and shapes, and outputs for weights by formula."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy
import pytest
import torch
import torchvision

from models.discriminator import Discriminator, LabelledConv
from models.generator import Decoder, EditConv, Encoder
from models.beyond import even_phases, zero_biases
from models.layers import UP, Normalization, add_to_each, halved, up_layers
from models.swap import decoder_label, swap_codes
from models.backbones import BACKBONES, VGG_fx
from models.vgg import classify, vgg_classifier


DATA = Path(__file__).parent / "data"


def set_by_formula(network: torch.nn.Module) -> torch.nn.Module:
    """The weights of the golden files: cosines of the position in the sorted state dict (tests/data/README.md); eval
    mode.
    """
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


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in numpy.load(DATA / "golden.npz").items()}


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    count = 2 * 3 * 64 * 64
    return torch.from_numpy(numpy.cos(0.11 * numpy.arange(count, dtype=numpy.float64))).float().view(2, 3, 64, 64)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return set_by_formula(Encoder())


def assert_agrees(ours: torch.Tensor, golden: torch.Tensor) -> None:
    assert ours.shape == golden.shape
    scale = golden.abs().max().clamp_min(1e-3)
    assert ((ours - golden).abs().max() / scale).item() < 1e-4


@pytest.mark.parametrize("name, build", [
    ("Encoder", Encoder), ("Decoder", Decoder), ("Decoder_label", lambda: Decoder(label_chans=120)),
    ("D1", lambda: Discriminator(6, 256)), ("D2", lambda: Discriminator(6, 128)), ("VGG_fx", lambda: VGG_fx(6))])
def test_state_dict_has_the_reference_names_and_shapes(name, build):
    wanted = json.loads((DATA / "state_dict_shapes.json").read_text())[name]
    with torch.device("meta"):
        ours = {key: list(value.shape) for key, value in build().state_dict().items()}
    assert ours == wanted


@torch.no_grad()
def test_encoder_gives_the_golden_code_and_skip(golden, image, encoder):
    code, skips = encoder(image)
    assert_agrees(code, golden["z"])
    assert_agrees(skips[0].mean((2, 3)), golden["skip0_mean"])
    assert [tuple(skip.shape[1:]) for skip in skips] == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


@torch.no_grad()
def test_swapped_code_and_label_decoder_give_the_golden_residual(golden, image, encoder):
    code, skips = encoder(image)
    label = torch.tensor([[0, 1, 0, 0, 1, 0]])
    swapped, _ = swap_codes(code[:1], code[1:], label)
    assert_agrees(swapped, golden["z_C"].view_as(swapped))
    decoder = set_by_formula(Decoder(label_chans=120))
    residual = decoder(swapped, code[:1], [skip[:1] for skip in skips], decoder_label(label.float(), False))
    assert_agrees(residual, golden["residual_C"].view_as(residual))


@torch.no_grad()
def test_plain_decoder_gives_the_golden_residual(golden, image, encoder):
    code, skips = encoder(image)
    assert_agrees(set_by_formula(Decoder())(code, code, skips), golden["residual_plain_decoder"])


@torch.no_grad()
def test_discriminators_give_the_golden_probabilities(golden, image):
    label = torch.eye(6)[[1, 4]]
    for name, size in (("d1", 64), ("d2", 32)):
        probability = set_by_formula(Discriminator(6, size))(image, label).sigmoid()
        assert_agrees(probability, golden[name].view_as(probability))


@torch.no_grad()
def test_recognizer_gives_the_golden_logits(golden, image, encoder):
    code, _ = encoder(image)
    assert_agrees(set_by_formula(VGG_fx(6))(image, torch.cat([code, code], dim=1)), golden["logits"])


@torch.no_grad()
def test_several_edits_decoded_at_once_equal_them_one_by_one():
    torch.manual_seed(0)
    encoder, decoder = Encoder(4), Decoder(4, label_chans=6)
    code, skips = encoder(torch.rand(2, 3, 64, 64) * 2 - 1)
    edits, label = torch.rand(3, 2, *code.shape[1:]), torch.rand(3, 2, 6)
    at_once = decoder(edits.flatten(0, 1), code, skips, label.flatten(0, 1))
    one_by_one = torch.cat([decoder(edit, code, skips, own) for edit, own in zip(edits, label)])
    assert at_once.shape == (6, 3, 64, 64)
    torch.testing.assert_close(at_once, one_by_one)


def test_normalization_and_its_gradients_are_those_of_the_plain_form():
    torch.manual_seed(0)
    layer, shapes = Normalization().double(), ((2, 5, 3, 3), (1,), (1,))
    inputs = [torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in shapes]

    def ours(x, alpha, beta):
        return torch.func.functional_call(layer, {"alpha": alpha, "beta": beta}, (x,))

    def plain(x, alpha, beta):
        return torch.nn.functional.normalize(x) * alpha + beta

    found = []
    for form in (ours, plain):
        value = form(*inputs)
        found.append([value, *torch.autograd.grad(value.sin().sum(), inputs)])
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)  # it computes in float32


@pytest.mark.parametrize("size", [16, 32])
def test_first_layers_do_what_label_planes_and_repeated_codes_do(size):
    torch.manual_seed(0)
    image, label = torch.rand(4, 3, size, size), torch.rand(4, 6)
    conv = LabelledConv(9, 5, 3, stride=2, padding=1)
    planes = label[:, :, None, None].expand(-1, -1, size, size)
    torch.testing.assert_close(conv(image, label), torch.nn.Conv2d.forward(conv, torch.cat([image, planes], 1)))
    edited, source = torch.rand(4, 8, 2, 2), torch.rand(2, 8, 2, 2)
    up = EditConv(16 + 12, 5, 3, **UP)
    planes = label.repeat(1, 2)[:, :, None, None].expand(-1, -1, 2, 2)
    whole = torch.cat([edited, source.repeat(2, 1, 1, 1), planes], 1)
    torch.testing.assert_close(up(edited, source, label), torch.nn.ConvTranspose2d.forward(up, whole))


def test_sums_of_edits_and_their_gradients_have_channels_last():
    torch.manual_seed(0)
    last = {"memory_format": torch.channels_last}
    edits, source = (torch.rand(n, 5, 4, 3).to(**last).requires_grad_() for n in (6, 2))
    total = add_to_each(edits, source)
    torch.testing.assert_close(total, edits + source.repeat(3, 1, 1, 1))
    weights = torch.rand(6, 5, 4, 3).to(**last)
    found = torch.autograd.grad((total * weights).sum(), (edits, source))
    torch.testing.assert_close(found, (weights, weights.unflatten(0, (3, 2)).sum(0)))
    assert all(maps.is_contiguous(**last) for maps in (total, *found))


def test_halving_is_average_pooling_and_keeps_channels_last():
    torch.manual_seed(0)
    last = {"memory_format": torch.channels_last}
    image = torch.rand(2, 3, 8, 6).to(**last).requires_grad_()
    small, pooled = halved(image), torch.nn.functional.avg_pool2d(image, 2)
    torch.testing.assert_close(small, pooled)
    weights = torch.rand_like(small)
    ours, theirs = (torch.autograd.grad(each, image, weights)[0] for each in (small, pooled))
    torch.testing.assert_close(ours, theirs)
    assert small.is_contiguous(**last) and ours.is_contiguous(**last)


def test_without_biases_the_first_codes_tell_faces_apart():
    def differing() -> float:
        code = network(faces)[0].detach()
        return float((code - code.mean(0)).square().mean() / code.square().mean())

    torch.manual_seed(0)
    faces, network = torch.rand(12, 3, 64, 64) * 2 - 1, Encoder(16)
    faces = torch.nn.functional.avg_pool2d(faces, 16).repeat_interleave(16, 2).repeat_interleave(16, 3) * 4
    before = differing()
    zero_biases(network)
    assert differing() > 5 * before


def test_with_even_phases_a_plain_area_comes_out_plain():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(*up_layers(4, 5), *up_layers(5, 3))
    plain = torch.randn(2, 4, 1, 1).expand(-1, -1, 8, 8)
    assert layers(plain)[:, :, 8:-8, 8:-8].std((2, 3)).min() > 0.01  # as it is, with a pattern
    even_phases(layers)
    assert layers(plain)[:, :, 8:-8, 8:-8].std((2, 3)).max() < 1e-6
    before = layers[0].weight.clone()
    even_phases(layers)
    torch.testing.assert_close(layers[0].weight, before)  # there is nothing left to do


@pytest.mark.parametrize("side", [1, 2, 3, 4, 6, 7, 8])
def test_classifying_small_maps_is_pooling_them_first(side):
    torch.manual_seed(0)
    classifier, maps = vgg_classifier(5, 16).eval(), torch.rand(3, 5, side, side)
    pooled = torch.nn.functional.adaptive_avg_pool2d(maps, 7)
    torch.testing.assert_close(classify(classifier, maps), classifier(pooled.flatten(1)))


@pytest.mark.parametrize("vgg_width, base_width, mixed", [(8, 8, 64), (12, 8, 32), (4, 8, 96)])
def test_recognizer_widths_are_free(vgg_width, base_width, mixed):
    network = VGG_fx(3, vgg_width=vgg_width, fc_width=16, base_width=base_width)
    logits = network(torch.zeros(2, 3, 64, 64), torch.zeros(2, 16 * base_width, 2, 2))
    assert logits.shape == (2, 3)
    assert network.fx_linear[0].out_channels == mixed
    with pytest.raises(ValueError, match="less than twice"):
        VGG_fx(3, vgg_width=16, base_width=8)


@torch.no_grad()
@pytest.mark.parametrize("side", [32, 64])
def test_resnet_meets_the_codes_as_vgg_does_and_has_torchvisions_layers(side):
    torch.manual_seed(0)
    network = BACKBONES["resnet18"](6).eval()
    assert network(torch.rand(2, 3, side, side), torch.rand(2, 1024, side // 32, side // 32)).shape == (2, 6)
    theirs = torchvision.models.resnet18()
    network.load_backbone(theirs.state_dict())
    image = torch.rand(2, 3, side, side)
    trunk = torch.nn.Sequential(*list(theirs.eval().children())[:-2])
    torch.testing.assert_close(network.features(image), trunk(image))
    for halvings in range(1, 5):
        assert network.features[:network.layers_to(halvings)](image).shape[-1] == side >> halvings
    narrow = BACKBONES["resnet18"](3, vgg_width=8, base_width=8)
    again = BACKBONES["resnet18"].fitting(narrow.state_dict())
    again.load_state_dict(narrow.state_dict())
