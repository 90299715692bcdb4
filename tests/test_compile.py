"""``--compile``: the same training with inductor, and few compilations for all sizes of batches."""

import copy
import json
import shutil

import pytest
import torch
from torch._dynamo.utils import counters

from conftest import new_process, succeeds
from models.gan import SwapGAN
from models.networks import VGG, Pair, Perceptual, VGG_fx, compile_networks
from models.recognizer import Examples, Recognizer, real_features
from options.config import GANRecipe, GANShape, RecognizerRecipe

pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="no C++ compiler")
SIZE = 32


def pair_of(count: int) -> Pair:
    random = torch.Generator().manual_seed(count)
    image_a, image_b = 2 * torch.rand(2, count, 3, SIZE, SIZE, generator=random) - 1
    a = torch.arange(count) % 3
    return Pair(image_a, image_b, a, (a + 1) % 3, mismatch=torch.ones(2 * count))


def learners(compiled: bool) -> tuple[SwapGAN, Recognizer]:
    torch.manual_seed(0)
    perceptual = Perceptual(VGG(3, 4, 16).features)
    gan = SwapGAN(GANShape(3, SIZE, 4), GANRecipe(ema=0.9, mismatched=True, alpha5=True, lazy=2), perceptual)
    recognizer = Recognizer(VGG_fx(3, 4, 16, 4), RecognizerRecipe(lr=1e-2, guided=True))
    for layer in recognizer.network.modules():  # compiled dropout draws other numbers
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    if compiled:
        gan.compile()
        recognizer.compile()
    return gan, recognizer


def outputs(gan: SwapGAN, recognizer: Recognizer, counts: list[int]) -> torch.Tensor:
    """Return the losses of a step of both on batches of each size, and the outputs of inference, in one row."""
    values = []
    for count in counts:
        pair = pair_of(count)
        values += gan.step(pair).values()
        swaps, fx = gan.synthesize(pair.image_a, pair.image_b, pair.a, pair.b)
        codes = torch.cat([real_features(gan.encoder, pair.image_a), fx])
        examples = Examples(torch.cat([pair.a, pair.a]), (torch.cat([pair.image_a, swaps]), codes), count)
        values += [recognizer.step(examples)["loss"], gan.swap(pair)[1].flatten(), gan.edits(pair).a_rebuilt.flatten(),
                   recognizer.predict(pair.image_a, codes[:count]).flatten()]
    return torch.cat([value.detach().reshape(-1) for value in values])


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).tanh()


def test_a_compiled_network_equals_the_plain_one_and_compiles_once_more_for_all_other_sizes():
    """A small network with two backward passes, as guided gradients need; ``--compile`` compiles whole networks."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    plain = Small()
    fast = copy.deepcopy(plain)
    compile_networks(fast)
    assert fast.state_dict().keys() == plain.state_dict().keys()
    before = counters["stats"]["unique_graphs"]
    for count in (2, 3, 5, 7, 9):
        x, results = torch.rand(count, 4), []
        for network in (plain, fast):
            output = network(x)
            first, second = (torch.autograd.grad(output.pow(power).sum(), list(network.parameters()), retain_graph=True)
                             for power in (1, 2))
            results.append([output, *first, *second])
        torch.testing.assert_close(*results)
    assert 0 < counters["stats"]["unique_graphs"] - before <= 2  # for the first size, and for all others


@pytest.mark.skipif("not config.getoption('--compile')", reason="takes up to 15 minutes; add --compile")
def test_compiled_training_and_inference_equal_eager_ones_and_other_sizes_do_not_compile_again():
    torch._dynamo.reset()
    plain, fast = learners(compiled=False), learners(compiled=True)
    counts, before = [4, 4, 9, 8, 7], counters["stats"]["unique_graphs"]
    torch.testing.assert_close(outputs(*fast, counts), outputs(*plain, counts), rtol=2e-2, atol=2e-2)
    graphs = counters["stats"]["unique_graphs"]
    assert 0 < graphs - before < 32
    outputs(*fast, [6, 10, 11])
    assert counters["stats"]["unique_graphs"] == graphs


@pytest.mark.skipif("not config.getoption('--compile')", reason="takes minutes; add --compile")
def test_benchmark_measures_compiled_networks_beside_eager_ones(tmp_path):
    succeeds(new_process("experiments/benchmark.py", "--image_size", SIZE, "--base_width", 4, "--vgg_width", 4,
                         "--fc_width", 16, "--phases", "evaluation", "--compile", "--seconds", 0, "--device", "cpu",
                         "--json", tmp_path / "figures.json"))
    eager, compiled = json.loads((tmp_path / "figures.json").read_text())["phases"]
    assert (eager["phase"], compiled["phase"]) == ("evaluation", "compiled_evaluation")
    assert eager["gflop_per_image"] > 0 and compiled["gflop_per_image"] is None  # operations are counted eagerly alone
    assert eager["milliseconds"] > 0 and compiled["milliseconds"] > 0
