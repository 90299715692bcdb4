"""Networks: fast forms of layers compared with their plain forms, and every backbone."""

import pytest
import torch
from torch.nn import functional as F

from conftest import refused
from models.checkpoints import load_recognizer, save_recognizer
from models.networks import (BACKBONES, UP, EditConv, Encoder, LabelledConv, Normalization,
                             RecognizerNetwork, add_to_each, average_pool_2x2, backbone_named,
                             classify, even_phases, up_layers, vgg_classifier)
from models.recognizer import Examples, Recognizer, real_features
from options.config import RecognizerRecipe

LAST = {"memory_format": torch.channels_last}
NORMALIZATION, LABELLED = Normalization(), LabelledConv(9, 5, 3, stride=2, padding=1)
EDIT, CLASSIFIER = EditConv(16 + 12, 5, 3, **UP), vgg_classifier(5, 16).eval()


def normalized(x: torch.Tensor, alpha: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    return torch.func.functional_call(NORMALIZATION, {"alpha": alpha, "beta": beta}, (x,))


def plain_labelled(x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    planes = label[:, :, None, None].expand(-1, -1, *x.shape[2:])
    return torch.nn.Conv2d.forward(LABELLED, torch.cat([x, planes], 1))


def plain_edit(edited: torch.Tensor, source: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    planes = label.repeat(1, 2)[:, :, None, None].expand(-1, -1, *edited.shape[2:])
    joined = torch.cat([edited, source.repeat(2, 1, 1, 1), planes], 1)
    return torch.nn.ConvTranspose2d.forward(EDIT, joined)


def plain_classify(maps: torch.Tensor) -> torch.Tensor:
    return CLASSIFIER(F.adaptive_avg_pool2d(maps, 7).flatten(1))


@pytest.mark.parametrize("fast, plain, shapes", [
    (normalized, lambda x, alpha, beta: F.normalize(x) * alpha + beta, [(2, 5, 3, 3), (1,), (1,)]),
    *((LABELLED, plain_labelled, [(4, 3, side, side), (4, 6)]) for side in (16, 32)),
    (EDIT, plain_edit, [(4, 8, 2, 2), (2, 8, 2, 2), (4, 6)]),
    (add_to_each, lambda edits, x: edits + x.repeat(3, 1, 1, 1), [(6, 5, 4, 6), (2, 5, 4, 6)]),
    (average_pool_2x2, lambda x: F.avg_pool2d(x, 2), [(2, 5, 4, 6)]),
    *((lambda maps: classify(CLASSIFIER, maps), plain_classify, [(3, 5, side, side)])
      for side in (1, 2, 3, 4, 6, 7, 8))])
def test_fast_forms_equal_the_plain_ones_with_their_gradients(fast, plain, shapes):
    torch.manual_seed(0)
    inputs = [torch.rand(shape).to(**LAST if len(shape) == 4 else {}).requires_grad_()
              for shape in shapes]
    results = []
    for form in (fast, plain):
        value = form(*inputs)
        results.append([value, *torch.autograd.grad(value.sin().sum(), inputs)])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    if fast in (add_to_each, average_pool_2x2):
        assert all(maps.is_contiguous(**LAST) for maps in results[0])


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
