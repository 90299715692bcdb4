"""Networks: fast forms of layers compared with their plain forms, and every backbone."""

import pytest
import torch

from conftest import refused
from models.checkpoints import load_recognizer, save_recognizer
from models.networks import (BACKBONES, UP, EditConv, Encoder, LabelledConv, Normalization, RecognizerNetwork, VGG_fx,
                             add_to_each, average_pool_2x2, backbone_named, classify, even_phases, up_layers,
                             vgg_classifier)
from models.recognizer import Examples, Recognizer, real_features
from options.config import RecognizerRecipe


def test_normalization_and_its_gradients_equal_the_plain_form():
    torch.manual_seed(0)
    layer, shapes = Normalization().double(), ((2, 5, 3, 3), (1,), (1,))
    inputs = [torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in shapes]

    def ours(x, alpha, beta):
        return torch.func.functional_call(layer, {"alpha": alpha, "beta": beta}, (x,))

    def plain(x, alpha, beta):
        return torch.nn.functional.normalize(x) * alpha + beta

    results = []
    for form in (ours, plain):
        value = form(*inputs)
        results.append([value, *torch.autograd.grad(value.sin().sum(), inputs)])
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-5)  # ours computes in float32


@pytest.mark.parametrize("size", [16, 32])
def test_first_layers_equal_convolutions_of_label_planes_and_repeated_codes(size):
    torch.manual_seed(0)
    image, label = torch.rand(4, 3, size, size), torch.rand(4, 6)
    conv = LabelledConv(9, 5, 3, stride=2, padding=1)
    planes = label[:, :, None, None].expand(-1, -1, size, size)
    torch.testing.assert_close(conv(image, label), torch.nn.Conv2d.forward(conv, torch.cat([image, planes], 1)))
    edited, source = torch.rand(4, 8, 2, 2), torch.rand(2, 8, 2, 2)
    up = EditConv(16 + 12, 5, 3, **UP)
    planes = label.repeat(1, 2)[:, :, None, None].expand(-1, -1, 2, 2)
    concatenated = torch.cat([edited, source.repeat(2, 1, 1, 1), planes], 1)
    torch.testing.assert_close(up(edited, source, label), torch.nn.ConvTranspose2d.forward(up, concatenated))


def test_fast_sums_and_pooling_equal_the_plain_forms_and_keep_channels_last():
    torch.manual_seed(0)
    channels_last = {"memory_format": torch.channels_last}
    edits, source, image = (torch.rand(n, 5, 4, 6).to(**channels_last).requires_grad_() for n in (6, 2, 2))
    for inputs, fast, plain in (((edits, source), add_to_each, lambda a, b: a + b.repeat(3, 1, 1, 1)),
                                ((image,), average_pool_2x2, lambda x: torch.nn.functional.avg_pool2d(x, 2))):
        ours, expected = fast(*inputs), plain(*inputs)
        weights = torch.rand_like(ours)
        gradients = torch.autograd.grad(ours, inputs, weights)
        torch.testing.assert_close((ours, *gradients), (expected, *torch.autograd.grad(expected, inputs, weights)))
        assert all(maps.is_contiguous(**channels_last) for maps in (ours, *gradients))


def test_even_phases_remove_the_pattern_in_plain_areas_and_are_idempotent():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(*up_layers(4, 5), *up_layers(5, 3))
    plain = torch.randn(2, 4, 1, 1).expand(-1, -1, 8, 8)
    assert layers(plain)[:, :, 8:-8, 8:-8].std((2, 3)).min() > 0.01
    even_phases(layers)
    assert layers(plain)[:, :, 8:-8, 8:-8].std((2, 3)).max() < 1e-6
    before = layers[0].weight.clone()
    even_phases(layers)
    torch.testing.assert_close(layers[0].weight, before)


def test_classify_equals_pooling_before_the_classifier():
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
    for layer in (network.fx_linear[0], network.new_fc):  # those that the weights lack
        bound = layer.weight[0].numel() ** -0.5  # PyTorch draws weights and biases from [-bound, bound]
        for values in (layer.weight, layer.bias):
            assert 0.3 * bound < values.abs().max() <= bound
    assert f"backbone resnet18: unknown here; it must be one of {', '.join(BACKBONES)}" in refused(
        lambda: backbone_named("resnet18"))
