"""The learners learn in seconds what they are for, and leave alone what is not theirs."""

from __future__ import annotations

import numpy
import pytest
import torch

from datasets.layout import read_layout
from datasets.loading import Images, load, to_float
from datasets.plans import mixed_plan, recognizer_plan
from datasets.synthetic import make_dataset
from options.recipes import GANRecipe, GANShape, RecognizerRecipe
from evaluation.recognition import evaluate
from models.recognizer import Examples, Recognizer, real_features
from models.swap import Extras, Pair
from models.swap_gan import SwapGAN
from models.backbones import VGG_fx
from models.vgg import VGG, Perceptual
from training.batches import with_codes


def bars(count: int, label: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Noise with a bright bar whose height is the expression: (N, 3, 32, 32)."""
    image = 0.2 * torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    for i, e in enumerate(label.tolist()):
        image[i, :, 4 + 10 * e:10 + 10 * e] += 0.8
    return image.clamp(-1, 1)


def pair(step: int, n: int = 12) -> Pair:
    a = torch.full((n,), step % 3)
    b = (a + 1 + torch.arange(n) % 2) % 3
    noise = torch.Generator().manual_seed(step)
    person = 0.2 * torch.randn(n, 3, 32, 32, generator=noise)
    with_bar = [(person + bars(n, e) - bars(n, torch.full((n,), 9), 0).clamp(-1, 1)).clamp(-1, 1) for e in (a, b)]
    return Pair(*with_bar, a, b, Extras(torch.cat(with_bar[::-1]), torch.ones(2 * n, dtype=torch.bool)))


def test_gan_learns_to_move_the_bar():
    torch.manual_seed(0)
    gan = SwapGAN(GANShape(3, 32, 8, label_copy=2), GANRecipe(lr=2e-3, vgg_loss=False, scene_truth=True, lambda_truth_loss=40, G_max=1e9))
    before, after = [], []
    for step in range(120):
        figures = gan.step(pair(step), torch.Generator().manual_seed(step))
        (before if step < 5 else after if step >= 115 else []).append((figures["truth"], figures["l2"]))
    paired, l2 = (torch.tensor(values).mean(0) for values in (before, after))
    assert l2[0] < 0.4 * paired[0] and l2[1] < 0.2 * paired[1]
    test = pair(1000)
    c, d, residual_c, _ = gan.swap(test)
    unchanged, swapped = (x.sub(test.image_b).abs().mean() for x in (test.image_a, c))
    assert swapped < 0.5 * unchanged
    torch.testing.assert_close(c, (test.image_a + residual_c).clamp(-1, 1))
    first, way = [part[:1] for part in test[:4]], torch.tensor([[0.0], [0.5], [1.0]])
    none, half, whole = gan.blend(first[0], first[2], first[1], first[3], way)
    torch.testing.assert_close(none, gan.edits(test).a_rebuilt[0])
    torch.testing.assert_close(whole, c[0])
    assert none.sub(first[1]).abs().mean() > half.sub(first[1]).abs().mean() > whole.sub(first[1]).abs().mean()


def test_without_its_loss_reconstructions_are_not_made_and_nothing_else_changes():
    parameters = []
    for recipe in ({"l2_loss": False}, {"lambda_l2_loss": 0.0}):
        torch.manual_seed(0)
        gan = SwapGAN(GANShape(3, 32, 8), GANRecipe(vgg_loss=False, alpha5=True, **recipe))
        for step in range(3):
            gan.step(pair(step), torch.Generator().manual_seed(step))
        parameters.append(torch.cat([p.detach().flatten() for p in gan.generator.parameters()]))
    torch.testing.assert_close(*parameters)
    edits = gan.generator(pair(3), alpha5=True, rebuild=0)
    assert edits.a_rebuilt is None and edits.b_rebuilt is None and edits.d_half.shape == edits.c.shape


def test_lazy_losses_are_those_of_every_third_pair():
    torch.manual_seed(0)
    whole, features = pair(0, n=7), VGG(3, 4, 8).features
    gan = SwapGAN(GANShape(3, 32, 4), GANRecipe(G_max=1e9, lazy=3), Perceptual(features))
    part = Pair(*(each[::3] for each in whole[:4]))
    few = gan.generator(part)
    distances = [gan.perceptual.distance(*each) for each in ((few.d, part.image_a), (few.c, part.image_b))]
    figures = gan.step(whole, torch.Generator().manual_seed(0))
    torch.testing.assert_close(figures["vgg"], 15.0 * sum(distances))
    rebuilt = (few.a_rebuilt - part.image_a).square().mean() + (few.b_rebuilt - part.image_b).square().mean()
    torch.testing.assert_close(figures["l2"], 10.0 * rebuilt)
    torch.testing.assert_close(figures["G"], sum(figures[name] for name in ("adv", "vgg", "l1", "l2", "tv")))


def test_on_a_gpu_the_device_decides_whether_the_discriminators_rest():
    """The same parameters as where the program asks: they rest in steps 1 and 2 of three, as the first loss says."""
    networks = []
    for decides in (False, True):
        torch.manual_seed(0)
        gan = SwapGAN(GANShape(3, 32, 8), GANRecipe(vgg_loss=False, G_max=0.1))
        gan.device_decides = decides
        before = [{key: value.clone() for key, value in gan.discriminators.state_dict().items()}]
        for step in range(3):
            gan.step(pair(step), torch.Generator().manual_seed(step))
            before.append({key: value.clone() for key, value in gan.discriminators.state_dict().items()})
        assert not torch.equal(before[0]["d1.conv.0.weight"], before[1]["d1.conv.0.weight"])
        assert torch.equal(before[1]["d1.conv.0.weight"], before[3]["d1.conv.0.weight"])
        networks.append({**gan.generator.state_dict(), **gan.discriminators.state_dict()})
    assert all(torch.equal(networks[0][key], networks[1][key]) for key in networks[0])


def test_recognizer_learns_bars_and_train_mode_is_put_back():
    torch.manual_seed(0)
    gan = SwapGAN(GANShape(3, 32, 4))
    recognizer = Recognizer(VGG_fx(3, 4, 32, 4), RecognizerRecipe(lr=0.02))
    for step in range(60):
        label = torch.randint(0, 3, (24,), generator=torch.Generator().manual_seed(step))
        image = bars(24, label, step)
        recognizer.step(Examples(label, (image, real_features(gan.encoder, image))))
    label = torch.arange(30) % 3
    report = evaluate(recognizer, gan.encoder, [(bars(30, label, 999), label)], 3)
    assert report.accuracy > 90
    assert recognizer.network.training
    assert all(parameter.grad is None for parameter in gan.generator.parameters())  # the encoder is frozen


def test_discriminators_rest_after_a_large_generator_loss():
    torch.manual_seed(0)
    gan = SwapGAN(GANShape(3, 32, 4), GANRecipe(vgg_loss=False, G_max=0.5))
    first, second = (gan.step(pair(step), torch.Generator().manual_seed(step)) for step in range(2))
    assert "D" in first and first["G"] >= 0.5 and "D" not in second
    assert {"G", "adv", "l1", "l2", "tv"} <= second.keys()


def test_learning_rate_falls_by_steps():
    gan = SwapGAN(GANShape(3, 32, 4), GANRecipe(vgg_loss=False, lr=1.0, lr_decay_steps=2))
    rates = []
    for step in range(5):
        gan._set_learning_rates()
        rates.append(round(gan.optimizer_g.param_groups[0]["lr"], 6))
        gan.steps += 1
    assert rates == [1, 1, 0.97, 0.97, 0.9409]
    recipe = RecognizerRecipe(lr=1.0)
    assert [recipe.rate(step) for step in (0, 1799, 1800, 3600)] == [1, 1, 0.97, 0.97 ** 2]
    falling = RecognizerRecipe(lr=1.0, falling_steps=10)
    assert falling.rate(0) == 1 and abs(falling.rate(5) - 0.5) < 1e-9 and falling.rate(10) == 0


def test_a_neutral_source_synthesizes_the_target_itself():
    torch.manual_seed(0)
    gan = SwapGAN(GANShape(3, 32, 4))
    source, target = bars(3, torch.tensor([0, 1, 2]), 1), bars(3, torch.tensor([2, 2, 2]), 2)
    image, fx = gan.synthesize(source, target, torch.tensor([0, 1, 2]), torch.tensor([2, 2, 2]))
    code, _ = gan.encoder(target)
    assert torch.equal(image[2], target[2]) and torch.equal(fx[2], torch.cat([code[2], code[2]]))
    assert not torch.equal(image[0], target[0]) and torch.equal(fx[0, 32:], code[0])
    blocks = [(fx[i, :32] != code[i]).flatten(1).any(1).nonzero().flatten().tolist() for i in range(2)]
    assert min(blocks[0]) == 0 and set(blocks[0]) <= {*range(0, 11), *range(21, 32)}  # cuts 0 11 21 32
    assert set(blocks[1]) <= set(range(11, 32)) and len(blocks[1]) > 11


def test_synthesis_is_the_d_of_a_swap():
    torch.manual_seed(0)
    gan = SwapGAN(GANShape(3, 32, 4))
    source, target = bars(2, torch.tensor([0, 1]), 1), bars(2, torch.tensor([2, 2]), 2)
    image, _ = gan.synthesize(source, target, torch.tensor([0, 1]), torch.tensor([2, 2]))
    _, d, _, _ = gan.swap(Pair(source, target, torch.tensor([0, 1]), torch.tensor([2, 2])))
    torch.testing.assert_close(image, d)


@pytest.mark.parametrize("mixed", [False, True])
def test_with_codes_a_recognizer_epoch_are_those_of_its_batches_one_by_one(tmp_path, mixed):
    torch.manual_seed(0)
    gan = SwapGAN(GANShape(6, 32, 4))
    make_dataset(tmp_path / "faces", image_size=32, subjects_train=2, subjects_test=1, scenes=1)
    samples = read_layout(tmp_path / "faces").train
    labels = numpy.array([sample.label for sample in samples])
    pairs = numpy.stack([numpy.arange(12), numpy.full(12, labels.tolist().index(5))], axis=1)
    plan = mixed_plan(labels, pairs, 5, 1.0, True, seed=0, epoch=0) if mixed \
        else recognizer_plan(labels, pairs, 5, extra=2, synthesized=True, seed=0, epoch=0)
    images, size = Images(samples, 32), 2 if mixed else 3
    examples = list(with_codes(load(images, plan), gan, size))
    assert [len(batch.label) for batch in examples] == [len(batch.first) for batch in plan] and len(plan) in (4, 9)
    for batch, ours in zip(load(images, plan), examples):
        image, real = to_float(batch.first), batch.alone
        fx = real_features(gan.encoder, image)
        if len(batch.second):
            image[real:], fx[real:] = gan.synthesize(image[real:], to_float(batch.second), batch.label[real:],
                                                     batch.second_label)
        torch.testing.assert_close(ours.inputs, (image, fx))
        assert torch.equal(ours.label, batch.label) and ours.real == real
        assert ours.totals == (real, len(image) - real)


def gradient(recipe: RecognizerRecipe, label: torch.Tensor, image: torch.Tensor, real: int) -> torch.Tensor:
    """What a step on these images sets as the gradient of a linear recognizer without dropout."""
    torch.manual_seed(0)
    recognizer = Recognizer(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 3)), recipe)
    recognizer.step(Examples(label, (image,), real))
    return torch.cat([parameter.grad.flatten() for parameter in recognizer.network.parameters()])


def test_a_guided_gradient_never_undoes_that_of_the_real_images():
    label = torch.tensor([0, 1, 2, 1, 2, 0])
    shown = torch.tensor([0, 1, 2, 0, 1, 2])  # what the images show: the synthesized ones have wrong labels
    image = bars(6, shown)
    real = gradient(RecognizerRecipe(), label[:3], image[:3], 3) / 2
    wrong = gradient(RecognizerRecipe(), label[3:], image[3:], 3) / 2
    plain, guided = (gradient(RecognizerRecipe(guided=on), label, image, 3) for on in (False, True))
    torch.testing.assert_close(plain, real + wrong)
    assert real @ wrong < 0
    torch.testing.assert_close(guided, real + wrong - real * (real @ wrong) / (real @ real))
    right = gradient(RecognizerRecipe(guided=True), torch.cat([label[:3]] * 2), torch.cat([image[:3]] * 2), 3)
    torch.testing.assert_close(right, 2 * real)  # nothing to take out where both agree


def test_a_recognizer_goes_on_with_another_optimizer():
    label = torch.tensor([0, 1, 2])
    first, second = (Recognizer(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 3)),
                                RecognizerRecipe(adam=adam)) for adam in (False, True))
    first.step(Examples(label, (bars(3, label),)))
    second.load_state_dict(first.state_dict())
    assert second.steps == 1 and torch.equal(first.network[1].weight, second.network[1].weight)
    second.step(Examples(label, (bars(3, label),)))
    assert not torch.equal(first.network[1].weight, second.network[1].weight)


def test_mismatched_labels_teach_the_discriminators_to_look_at_the_label():
    torch.manual_seed(0)
    gan = SwapGAN(GANShape(3, 32, 4), GANRecipe(lr=1e-3, vgg_loss=False, G_max=1e9, mismatched=True))
    steps = [gan.step(pair(step)._replace(extras=Extras(mismatch=torch.ones(24, dtype=torch.bool))),
                      torch.Generator().manual_seed(step))
             for step in range(40)]
    assert steps[-1]["mismatched"] < 0.6 * steps[0]["mismatched"]


@pytest.mark.parametrize("zero", (False, True))
def test_biases_of_all_networks_start_at_zero_if_asked(zero):
    gan = SwapGAN(GANShape(3, 32, 4), GANRecipe(zero_biases=zero, ema=0.9))
    for network in (gan.generator, gan.averaged, gan.discriminators.d1, gan.discriminators.d2):
        biases = [value for name, value in network.state_dict().items() if name.endswith(".bias")]
        assert biases and all(not bias.any() for bias in biases) == zero


def test_the_discriminators_have_a_rate_of_their_own():
    torch.manual_seed(0)
    gan = SwapGAN(GANShape(3, 32, 4), GANRecipe(lr=1e-3, weight_decay=0.0, vgg_loss=False, d_lr_ratio=0.25))
    before = [[p.clone() for p in network.parameters()] for network in (gan.generator, gan.discriminators)]
    gan.step(pair(0), torch.Generator().manual_seed(0))
    moved = [max((p - old).abs().max().item() for p, old in zip(network.parameters(), start))
             for network, start in zip((gan.generator, gan.discriminators), before)]
    assert moved == pytest.approx([1e-3, 2.5e-4], rel=0.02)  # Adam's first step is its rate


def test_with_a_gain_the_first_logits_are_so_many_times_as_large():
    logits, label = [], torch.arange(6) % 3
    for gain in (1.0, 8.0):
        torch.manual_seed(0)
        gan = SwapGAN(GANShape(3, 32, 4), GANRecipe(d_gain=gain))
        with torch.no_grad():
            hot = torch.nn.functional.one_hot(label, 3).float()
            logits.append(torch.cat(gan.discriminators(bars(6, label, 0), hot)))
    assert logits[0].abs().min() > 0
    torch.testing.assert_close(logits[1], 8 * logits[0])


@pytest.mark.parametrize("layers", (0, 2))
def test_the_last_layers_phases_stay_even_through_training_and_no_others(layers):
    torch.manual_seed(0)
    gan = SwapGAN(GANShape(3, 32, 4), GANRecipe(lr=1e-3, vgg_loss=False, even_phases=layers, ema=0.9))
    for step in range(3):
        gan.step(pair(step), torch.Generator().manual_seed(step))
    for generator in (gan.generator, gan.averaged):
        kernels = [block[0].weight for block in generator.decoder.main]
        uneven = [(k[..., 1, 1] - k[..., ::2, ::2].sum((2, 3))).abs().max() for k in kernels]
        assert [bool(off > 1e-3) for off in uneven] == [True] * (5 - layers) + [False] * layers


def test_none_may_be_mismatched_and_the_figures_say_so():
    torch.manual_seed(0)
    gan = SwapGAN(GANShape(3, 32, 4), GANRecipe(vgg_loss=False, mismatched=True, std=0.0))
    figures = gan.step(pair(0)._replace(extras=Extras(mismatch=torch.zeros(24, dtype=torch.bool))), torch.Generator())
    assert figures["mismatched"] == 0


def test_target_only_neutral_swaps_the_sources_own_block_alone():
    torch.manual_seed(0)
    gan = SwapGAN(GANShape(2, 32, 4))
    source, target = bars(2, torch.tensor([0, 1]), 1), bars(2, torch.tensor([2, 2]), 2)
    _, fx = gan.synthesize(source, target, torch.tensor([0, 1]), torch.tensor([2, 2]))
    code, _ = gan.encoder(target)
    changed = [(fx[i, :32] != code[i]).flatten(1).any(1).nonzero().flatten().tolist() for i in range(2)]
    assert set(changed[0]) <= set(range(16)) and set(changed[1]) <= set(range(16, 32))
    assert changed[0] and changed[1]


def test_perceptual_network_is_frozen_and_its_taps_are_not_overwritten():
    torch.manual_seed(0)
    perceptual = Perceptual(VGG(3, 4, 8).features)
    perceptual.train()
    assert not any(module.training for module in perceptual.modules())
    x = (torch.rand(2, 3, 32, 32) * 2 - 1).requires_grad_()
    maps = perceptual(x)
    assert [tuple(m.shape[1:]) for m in maps] == [(4, 32, 32), (4, 16, 16), (8, 16, 16), (16, 8, 8), (32, 4, 4)]
    assert maps[3].min() < 0  # behind batch norm, before the ReLU that must not work in place
    assert perceptual.distance(x, x.detach()).item() == 0
    y = (torch.rand(2, 3, 32, 32) * 2 - 1).requires_grad_()
    perceptual.distance(x, y).backward()
    assert x.grad.abs().sum() > 0 and y.grad is None


def test_perceptual_distance_is_that_of_the_network_with_its_batch_norm():
    """Folded and plain, in value and gradient, with running statistics and gains that are not those of the start."""
    torch.manual_seed(0)
    features = VGG(3, 4, 8).features.double()
    for layer in features:
        if isinstance(layer, torch.nn.BatchNorm2d):
            for values in (layer.weight, layer.bias, layer.running_mean):
                torch.nn.init.normal_(values, 0.5)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2)
    perceptual = Perceptual(features)
    x, y = (torch.rand(2, 3, 32, 32, dtype=torch.double).requires_grad_() for _ in range(2))
    maps = []
    for image in (x, y):
        maps.append([])
        for index, layer in enumerate(features[:31]):
            image = layer(image)
            if index in perceptual.taps:
                maps[-1].append(image.clone())  # the ReLU behind a tap works in place here
    plain = sum(weight * (a - b.detach()).abs().mean() for weight, a, b in zip(perceptual.weights, *maps))
    ours = perceptual.distance(x, y)
    assert abs(ours.item() - plain.item()) < 1e-5 * plain.item()
    torch.testing.assert_close(*(torch.autograd.grad(value, x)[0] for value in (ours, plain)), rtol=1e-4, atol=1e-9)


def test_bf16_stays_near_float32():
    figures = []
    for amp in (None, torch.bfloat16):
        torch.manual_seed(0)
        gan = SwapGAN(GANShape(3, 32, 8), GANRecipe(vgg_loss=False), amp=amp)
        figures.append([gan.step(pair(step), torch.Generator().manual_seed(step))["G"] for step in range(5)])
        assert all(parameter.dtype == torch.float32 for parameter in gan.generator.parameters())
    assert torch.allclose(*map(torch.tensor, figures), rtol=0.05)
