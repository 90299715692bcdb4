"""The networks learn their tasks on simple images in seconds, and change nothing else."""

import copy

import numpy
import pytest
import torch
from PIL import Image

from conftest import EXPRESSIONS, matrix_of, succeeds, tiny, train_command
from datasets.layout import Sample, read_layout
from datasets.loading import Images, load, to_float
from datasets.plans import mixed_plan, recognizer_plan
from models.gan import SwapGAN, move_average
from models.losses import perceptual_distance
from models.networks import VGG, Pair, Perceptual, VGG_fx
from models.recognizer import Examples, Recognizer, accuracies, evaluate, real_features
from options.config import GENERATOR_LOSSES, GANRecipe, GANShape, RecognizerRecipe
from pictures.page import METRICS
from training import phases
from training.phases import swap_quality, with_codes


def bars(count: int, label: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Return noise (N, 3, 32, 32) with a bright bar whose height shows the label."""
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
    return Pair(*with_bar, a, b, torch.cat(with_bar[::-1]), torch.ones(2 * n, dtype=torch.bool))


def new_gan(width: int = 4, label_copy: int = 20, **recipe: object) -> SwapGAN:
    """Return a GAN of three expressions, always with the same weights."""
    torch.manual_seed(0)
    return SwapGAN(GANShape(3, 32, width, label_copy=label_copy), GANRecipe(**{"lambda_vgg_loss": 0.0, **recipe}))


def train(gan: SwapGAN, *steps: int, **extras: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    """Train on the pairs of ``steps``, which have ground-truth swaps; return the metrics of each."""
    pairs = {step: pair(step)._replace(**extras) for step in steps}
    return [gan.step(pairs[step]) for step in steps]


def test_gan_learns_to_move_the_bar():
    gan = new_gan(8, label_copy=2, lr=2e-3, lambda_truth_loss=40.0, G_max=1e9)
    metrics = train(gan, *range(120))
    for name, factor in (("truth", 0.4), ("l2", 0.2)):
        values = torch.stack([metrics_of_step[name] for metrics_of_step in metrics])
        assert values[-5:].mean() < factor * values[:5].mean()
    test = pair(1000)
    c, d, residual_c, _ = gan.swap(test)
    unchanged, swapped = (x.sub(test.image_b).abs().mean() for x in (test.image_a, c))
    assert swapped < 0.5 * unchanged
    torch.testing.assert_close(c, (test.image_a + residual_c).clamp(-1, 1))


def test_lazy_losses_are_those_of_every_third_pair():
    gan, all_pairs = new_gan(lambda_vgg_loss=15.0, G_max=1e9, lazy=3), pair(0, n=7)
    gan.set_perceptual(Perceptual(VGG(3, 4, 8).features))
    gan.perceptual.train()  # it is frozen, and stays in eval mode
    assert not any(module.training for module in gan.perceptual.modules())
    some = Pair(*(value[::3] for value in all_pairs[:4]))
    edits = gan.generator(some)
    distance = (perceptual_distance(gan.perceptual, edits.d, some.image_a)
                + perceptual_distance(gan.perceptual, edits.c, some.image_b))
    metrics = gan.step(all_pairs)
    torch.testing.assert_close(metrics["vgg"], 15.0 * distance)
    l2 = (edits.a_rebuilt - some.image_a).square().mean() + (edits.b_rebuilt - some.image_b).square().mean()
    torch.testing.assert_close(metrics["l2"], 10.0 * l2)
    torch.testing.assert_close(metrics["G"], sum(metrics[name] for name in ("adv", "vgg", "l1", "l2", "tv")))


def test_the_discriminators_are_not_updated_after_a_large_generator_loss():
    """Nor on a GPU, where the device decides without the host: both give the same networks."""
    networks = []
    for device_decides in (False, True):
        gan = new_gan(8, G_max=0.1)
        gan.device_decides = device_decides
        metrics = train(gan, 0)
        after_one = copy.deepcopy(gan.discriminators.state_dict())
        metrics += train(gan, 1, 2)
        networks.append({**gan.generator.state_dict(), **gan.discriminators.state_dict()})
        assert all(torch.equal(value, networks[-1][key]) for key, value in after_one.items())
        assert [step["D_updated"].item() for step in metrics] == [1, 0, 0]  # the loss before the first step counts as 0
        assert ["D" in step for step in metrics] == [True, device_decides, device_decides]
    assert all(torch.equal(value, networks[1][key]) for key, value in networks[0].items())
    assert not torch.equal(after_one["d1.conv.0.weight"], new_gan(8).discriminators.state_dict()["d1.conv.0.weight"])


def test_recognizer_learns_bars_and_train_mode_is_restored():
    gan = new_gan()
    recognizer = Recognizer(VGG_fx(3, 4, 32, 4), RecognizerRecipe(lr=0.02))
    for step in range(60):
        label = torch.randint(0, 3, (24,), generator=torch.Generator().manual_seed(step))
        image = bars(24, label, step)
        recognizer.step(Examples(label, (image, real_features(gan.encoder, image))))
    label = torch.arange(30) % 3
    assert accuracies(evaluate(recognizer, gan.encoder, [(bars(30, label, 999), label)], 3))[0] > 90
    assert recognizer.network.training
    assert all(parameter.grad is None for parameter in gan.generator.parameters())  # the encoder is frozen


def test_learning_rate_falls_by_steps():
    gan, rates = new_gan(lr=1.0, lr_decay_steps=2, d_lr_ratio=0.25), []
    for step in range(5):
        gan.steps = step
        gan._set_learning_rates()
        optimizers = gan.optimizer_g, gan.optimizer_d
        rates.append([optimizer.param_groups[0]["lr"] for optimizer in optimizers])
    assert rates == [[rate, pytest.approx(rate / 4)] for rate in (1, 1, 0.97, 0.97, 0.97 ** 2)]
    recipe = RecognizerRecipe(lr=1.0)
    assert [recipe.rate(step) for step in (0, 1799, 1800, 3600)] == [1, 1, 0.97, 0.97 ** 2]
    falling = RecognizerRecipe(lr=1.0, falling_steps=10)
    assert [falling.rate(step) for step in (0, 5, 10)] == pytest.approx([1, 0.5, 0])


def test_synthesis_swaps_the_blocks_of_both_expressions_and_none_of_a_neutral_source():
    gan, (a, b) = new_gan(), torch.tensor([[0, 1, 2], [2, 2, 2]])
    source, target = bars(3, a, 1), bars(3, b, 2)
    image, fx = gan.synthesize(source, target, a, b)
    code, _ = gan.encoder(target)
    assert torch.equal(image[2], source[2]) and torch.equal(fx[2], torch.cat([code[2], code[2]]))
    assert not torch.equal(image[0], target[0]) and torch.equal(fx[0, 32:], code[0])
    first, second, _ = (fx[:, :32] != code).flatten(2).any(2)  # changed channels; cuts 0 11 21 32
    assert first[:11].any() and not first[11:21].any() and first[21:].any()
    assert not second[:11].any() and second[11:21].any() and second[21:].any()
    torch.testing.assert_close(image[:2], gan.swap(Pair(source[:2], target[:2], a[:2], b[:2]))[1])


@pytest.mark.parametrize("mixed", [False, True])
def test_with_codes_equals_computing_the_codes_of_each_batch_alone(faces, mixed):
    torch.manual_seed(0)
    gan, samples = SwapGAN(GANShape(6, 32, 4)), read_layout(faces).train[:12]
    labels = numpy.array([sample.label for sample in samples])
    pairs = numpy.stack([numpy.arange(12), numpy.full(12, labels.tolist().index(5))], axis=1)
    plan = mixed_plan(labels, pairs, 5, 1.0, True, seed=0, epoch=0) if mixed \
        else recognizer_plan(labels, pairs, 5, extra=2, synthesized=True, seed=0, epoch=0)
    images, size = Images(samples, 32), 2 if mixed else 3
    for batch, result in zip(load(images, plan), with_codes(load(images, plan), gan, size), strict=True):
        image, real = to_float(batch.first), batch.alone
        fx = real_features(gan.encoder, image)
        if len(batch.second):
            image[real:], fx[real:] = gan.synthesize(image[real:], to_float(batch.second), batch.label[real:],
                                                     batch.second_label)
        torch.testing.assert_close(result.inputs, (image, fx))
        assert torch.equal(result.label, batch.label) and result.totals == (real, len(image) - real)


def gradient(recipe: RecognizerRecipe, label: torch.Tensor, image: torch.Tensor, real: int) -> torch.Tensor:
    """Return the gradient that a step on images sets in a linear recognizer."""
    torch.manual_seed(0)
    recognizer = Recognizer(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 3)), recipe)
    recognizer.step(Examples(label, (image,), real))
    return torch.cat([parameter.grad.flatten() for parameter in recognizer.network.parameters()])


@pytest.mark.parametrize("shown, quality", [("source", 1.0), ("target", -1.0), ("nothing", None)])
def test_the_quality_of_swaps_is_that_of_their_expressions(tmp_path, monkeypatch, shown, quality):
    """Swaps that show the source's expression are as good as real images; what tells nothing has no quality."""
    for number in range(60):
        side = 255 * (number % 2) if shown != "nothing" else 255
        Image.new("RGB", (32, 32), (side,) * 3).save(tmp_path / f"{number}.png")
    samples = [Sample(f"{number}.png", number % 2, tmp_path / f"{number}.png") for number in range(60)]
    gan = SwapGAN(GANShape(2, 32, 2))
    monkeypatch.setattr(gan, "synthesize", lambda source, target, *_: (source if shown == "source" else target, None))
    brightness = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 2))
    for weight, value in zip(brightness[1].weight, (-1.0, 1.0)):  # it tells the expressions by it
        torch.nn.init.constant_(weight, value)
    assert swap_quality(gan, Recognizer(brightness), Images(samples, 32), numpy.ones(60, bool), 0) == quality


@pytest.mark.parametrize("weight, network", [(15, "ExpressionJudge"), (0, "VGG")])
def test_swaps_are_measured_by_a_network_from_which_the_gan_has_not_learned(
        faces, tmp_path, monkeypatch, weight, network):
    used = []
    monkeypatch.setattr(phases, "swap_quality", lambda gan, classifier, *_: used.append(classifier.network) or 1.0)
    succeeds(train_command(*tiny(faces, tmp_path / "run", "-a", *EXPRESSIONS, "--lambda_vgg_loss", weight,
                                 "--vgg_init", "stage0")))
    assert [type(classifier).__name__ for classifier in used] == [network]


@pytest.mark.parametrize("quality, gate, said", [
    (0.1, 0.25, "learned from real images in place of swaps"), (0.1, 0, "learned their labels all the same"),
    (0.3, 0.25, ""), (None, 0.25, "")])
def test_the_gate_closes_below_its_quality_and_the_result_says_so(
        faces, tmp_path, monkeypatch, quality, gate, said):
    """The warning before the round and the verdict on the result tell one story; a closed gate means real images."""
    synthesized, plan = [], phases.recognizer_plan
    monkeypatch.setattr(phases.RecognizerPhase, "_quality_of_swaps", lambda self: quality)
    monkeypatch.setattr(phases, "recognizer_plan", lambda *args, **settings: synthesized.append(
        settings["synthesized"]) or plan(*args, **settings))
    result = train_command(*tiny(faces, tmp_path / "run", "-a", *EXPRESSIONS, "--gate", gate))
    succeeds(result)
    assert ("quality of the swaps is 0.10" in result.stderr) == bool(said)
    assert synthesized[-1] == (not said or not gate)
    verdict = matrix_of(tmp_path / "run" / "test_result")["verdict"]
    findings = [line for line in verdict if "quality of the swaps was 0.10" in line]
    assert len(findings) == bool(said) and all(said in line for line in findings)


def test_a_guided_gradient_never_opposes_that_of_the_real_images():
    label = torch.tensor([0, 1, 2, 1, 2, 0])
    image = bars(6, torch.tensor([0, 1, 2, 0, 1, 2]))  # the labels of the last three, synthesized images are wrong
    real = gradient(RecognizerRecipe(), label[:3], image[:3], 3) / 2
    wrong = gradient(RecognizerRecipe(), label[3:], image[3:], 3) / 2
    plain, guided = (gradient(RecognizerRecipe(guided=guided), label, image, 3) for guided in (False, True))
    torch.testing.assert_close(plain, real + wrong)
    assert real @ wrong < 0
    torch.testing.assert_close(guided, real + wrong - real * (real @ wrong) / (real @ real))
    agreeing = gradient(RecognizerRecipe(guided=True), torch.cat([label[:3]] * 2), torch.cat([image[:3]] * 2), 3)
    torch.testing.assert_close(agreeing, 2 * real)


def test_mismatched_labels_teach_the_discriminators_to_use_the_label():
    gan = new_gan(lr=1e-3, G_max=1e9, mismatched=True)
    metrics = train(gan, *range(40), mismatch=torch.ones(24, dtype=torch.bool))
    assert metrics[-1]["mismatched"] < 0.6 * metrics[0]["mismatched"]
    metrics, = train(new_gan(mismatched=True, std=0.0), 0, mismatch=torch.zeros(24, dtype=torch.bool))
    assert metrics["mismatched"] == 0


def test_every_metric_of_a_step_has_a_title_in_the_report():
    gan = new_gan(mismatched=True, **{f"lambda_{loss.name}_loss": 1.0 for loss in GENERATOR_LOSSES})
    gan.set_perceptual(Perceptual(VGG(3, 4, 8).features))
    every = torch.ones(24, dtype=torch.bool)
    metrics, = train(gan, 0, truth=torch.zeros(24, 3, 32, 32), known=every, mismatch=every)
    assert metrics.keys() == METRICS.keys() - {"loss", "best_test_acc", "swap_quality"}  # those of the recognizer


def test_biases_start_at_zero_with_zero_biases_and_d_gain_scales_the_first_logits():
    label = torch.arange(6) % 3
    plain, scaled = (new_gan(ema=0.9, zero_biases=True, d_gain=gain) for gain in (1.0, 8.0))
    for network in (scaled.generator, scaled.averaged, scaled.discriminators.d1, scaled.discriminators.d2):
        biases = [value for name, value in network.state_dict().items() if name.endswith(".bias")]
        assert biases and not any(bias.any() for bias in biases)
    logits, gained = (torch.cat(gan.discriminators(bars(6, label), torch.eye(3)[label])) for gan in (plain, scaled))
    assert logits.abs().min() > 0
    torch.testing.assert_close(gained, 8 * logits)


@pytest.mark.parametrize("step, moved", [(0, 1.0), (1, 0.9), (100, 0.1)])
def test_the_averaged_generator_follows_faster_in_the_first_steps(step, moved):
    averaged, trained = (torch.nn.Linear(1, 1) for _ in range(2))
    expected = averaged.weight + moved * (trained.weight - averaged.weight)
    move_average(averaged, trained, 0.9, step)
    torch.testing.assert_close(averaged.weight, expected)


@pytest.mark.parametrize("layers", (0, 2))
def test_only_the_last_layers_phases_stay_even_during_training(layers):
    gan = new_gan(lr=1e-3, even_phases=layers, ema=0.9)
    train(gan, 0, 1, 2)
    for generator in (gan.generator, gan.averaged):
        kernels = [block[0].weight for block in generator.decoder.main]
        differences = [(k[..., 1, 1] - k[..., ::2, ::2].sum((2, 3))).abs().max() for k in kernels]
        assert [bool(difference > 1e-3) for difference in differences] == [True] * (5 - layers) + [False] * layers


def test_losses_in_bf16_are_near_those_in_float32():
    losses = []
    for amp in (None, torch.bfloat16):
        torch.manual_seed(0)
        gan = SwapGAN(GANShape(3, 32, 8), GANRecipe(lambda_vgg_loss=0.0), amp=amp)
        losses.append(torch.stack([metrics["G"] for metrics in train(gan, *range(5))]))
        assert all(parameter.dtype == torch.float32 for parameter in gan.generator.parameters())
    assert torch.allclose(*losses, rtol=0.05)
