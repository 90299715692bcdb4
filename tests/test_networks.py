"""Networks: fast forms of layers beside their plain forms, sizes, and the layers of torchvision's ResNet."""

from __future__ import annotations

import pytest
import torch
import torchvision

from models.backbones import BACKBONES, VGG_fx
from models.beyond import even_phases
from models.discriminator import LabelledConv
from models.generator import EditConv
from models.layers import UP, Normalization, add_to_each, average_pool_2x2, up_layers
from models.vgg import classify, vgg_classifier


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


def test_fast_sums_and_halves_are_those_of_the_plain_form_and_keep_channels_last():
    torch.manual_seed(0)
    last = {"memory_format": torch.channels_last}
    edits, source, image = (torch.rand(n, 5, 4, 6).to(**last).requires_grad_() for n in (6, 2, 2))
    for inputs, fast, plain in (((edits, source), add_to_each, lambda a, b: a + b.repeat(3, 1, 1, 1)),
                                ((image,), average_pool_2x2, lambda x: torch.nn.functional.avg_pool2d(x, 2))):
        ours, theirs = fast(*inputs), plain(*inputs)
        weights = torch.rand_like(ours)
        gradients = torch.autograd.grad(ours, inputs, weights)
        torch.testing.assert_close((ours, *gradients), (theirs, *torch.autograd.grad(theirs, inputs, weights)))
        assert all(maps.is_contiguous(**last) for maps in (ours, *gradients))


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


def test_classifying_small_maps_is_pooling_them_first():
    torch.manual_seed(0)
    classifier = vgg_classifier(5, 16).eval()
    for side in (1, 2, 3, 4, 6, 7, 8):
        maps = torch.rand(3, 5, side, side)
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
        assert network.features[:network.layers_before_downsampling(halvings)](image).shape[-1] == side >> halvings
    narrow = BACKBONES["resnet18"](3, vgg_width=8, base_width=8)
    again = BACKBONES["resnet18"].fitting(narrow.state_dict())
    again.load_state_dict(narrow.state_dict())
