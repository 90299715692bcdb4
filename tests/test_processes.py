"""Several processes (torchrun, gloo) train as one does: gradients, batch norm, evaluation, resume."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conftest import REPOSITORY, command
from datasets.synthetic import make_dataset
from training.run_directory import RunDirectory
from test_resume import TINY

STEPS = '''
import sys
from dataclasses import replace
sys.path.insert(0, {repository!r})
import torch
from evaluation.metrics import Report
from models.parallel import Processes
from options.recipes import GANRecipe, GANShape, RecognizerRecipe
from models.recognizer import Examples, Recognizer, evaluate, real_features
from models.swap import Pair
from models.swap_gan import SwapGAN
from models.vgg import VGG, VGG_fx, Perceptual

torch.set_num_threads(1)
cpu = torch.device("cpu")


def steps(processes):
    torch.manual_seed(0)
    perceptual = Perceptual(VGG(3, 4, 8).features)
    recipe = GANRecipe(alpha5=True, mismatched=True, scene_truth=True, G_max=1e9, ema=0.9, d_lr_ratio=0.5)
    gan = SwapGAN(GANShape(3, 32, 4), recipe, perceptual, processes=processes)
    network = VGG_fx(3, 4, 16, 4)
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    recognizer = Recognizer(network, RecognizerRecipe(lr=0.01), processes=processes)
    data = torch.Generator().manual_seed(1)
    figures = []
    total = 7  # an odd number: the shares differ
    for step in range(4):
        images = torch.rand(2, total, 3, 32, 32, generator=data) * 2 - 1
        a, b = torch.full((total,), step % 3), (torch.arange(total) % 2 + 1 + step) % 3
        same = torch.arange(total) % 2 == 0
        own = [tensor[processes.share] for tensor in (images[0], images[1], a, b)]
        truth, known = torch.cat([own[1], own[0]]), same[processes.share].repeat(2)
        figures.append(gan.step(Pair(*own, truth, known, known), torch.Generator().manual_seed(step), total))
        label = b[processes.share]
        recognizer.recipe = replace(recognizer.recipe, guided=step % 2 == 1)
        real = int((torch.arange(total)[processes.share] < 4).sum())
        figures.append(recognizer.step(Examples(label, (own[0], real_features(gan.encoder, own[0])), real, (4, 3))))
    images, labels = torch.rand(11, 3, 32, 32, generator=data) * 2 - 1, torch.arange(11) % 3
    report = evaluate(recognizer, gan.encoder, [(images[processes.share], labels[processes.share])], 3)
    if processes.main:
        torch.save({{"gan": {{name: gan.network(name).state_dict() for name in gan.STATES}},
                     "recognizer": recognizer.network.state_dict(), "figures": figures,
                     "counts": torch.from_numpy(report.counts)}}, sys.argv[1])


with Processes.join(cpu) as processes:
    steps(processes)
'''

# train.py, which tells how many of gloo's threads are there when the interpreter ends: they may meet it with a signal.
AT_END = """
import atexit
import runpy
import sys
from pathlib import Path


def name(thread):
    try:
        return thread.read_text()
    except OSError:  # it has just ended
        return ""


def tell():
    sys.stderr.write(f"threads at the end: {sum('gloo' in name(t) for t in Path('/proc/self/task').glob('*/comm'))}\\n")


atexit.register(tell)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def torchrun(count: int, *words: object) -> subprocess.CompletedProcess:
    return command("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}", *words)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> list[dict]:
    """What one and two processes make of the same four steps."""
    folder = tmp_path_factory.mktemp("steps")
    (folder / "steps.py").write_text(STEPS.format(repository=str(REPOSITORY)))
    single = subprocess.run([sys.executable, folder / "steps.py", folder / "1.pth"], capture_output=True, text=True)
    assert single.returncode == 0, single.stderr
    double = torchrun(2, folder / "steps.py", folder / "2.pth")
    assert double.returncode == 0, double.stderr
    return [torch.load(folder / f"{count}.pth", weights_only=True) for count in (1, 2)]


@pytest.mark.parametrize("name", ["Enc", "Dec", "D1", "D2"])
def test_two_processes_give_the_gan_of_one(outcomes, name):
    one, two = (outcome["gan"][name] for outcome in outcomes)
    assert max((one[key] - two[key]).abs().max().item() for key in one) < 1e-5


def test_two_processes_give_the_recognizer_of_one_batch_norm_included(outcomes):
    one, two = (outcome["recognizer"] for outcome in outcomes)
    assert one.keys() == two.keys()
    assert max((one[key] - two[key]).abs().max().item() for key in one) < 1e-5


def test_figures_are_those_of_the_whole_batch(outcomes):
    for one, two in zip(*(outcome["figures"] for outcome in outcomes)):
        assert {name: value.item() for name, value in one.items()} == pytest.approx(
            {name: value.item() for name, value in two.items()}, rel=1e-4, abs=1e-5)


def test_evaluation_counts_every_image_once(outcomes):
    one, two = (outcome["counts"] for outcome in outcomes)
    assert two.sum() == 11 and torch.equal(one, two)


def test_a_run_of_two_processes_goes_on_with_one(tmp_path):
    faces, folder = tmp_path / "faces", tmp_path / "run"
    make_dataset(faces, image_size=32, subjects_train=6, subjects_test=2, scenes=1)
    words = ["train.py", "--data_dir", faces, "--checkpoint_dir", folder, *TINY]
    (tmp_path / "at_end.py").write_text(AT_END)
    result = torchrun(2, tmp_path / "at_end.py", *words, "--epochs", "1")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("threads at the end: 0\n") == 2
    assert result.stdout.count("gan epoch 1") == 1 and "on 2 x cpu" in result.stdout
    assert result.stdout.count("mean class accuracy") == 1
    result = command(*words, "--restore", "--epochs", "2")
    assert result.returncode == 0, result.stderr
    assert "gan epoch 2" in result.stdout and "gan epoch 1" not in result.stdout
    rows = [row for row in csv.DictReader(open(folder / "log" / "metrics.csv")) if row["phase"] == "gan_epoch"]
    assert {row["epoch"] for row in rows} == {"0", "1"}


def test_a_second_run_of_two_processes_in_one_directory_is_refused_in_one_line(tmp_path):
    faces, folder = tmp_path / "faces", tmp_path / "run"
    make_dataset(faces, image_size=32, subjects_train=3, subjects_test=1, scenes=1)
    running = [RunDirectory(folder / "single"), RunDirectory(folder / "several" / "seed_01")]
    for directory in running:
        directory.lock()
    (tmp_path / "at_end.py").write_text(AT_END)
    for words in (["single"], ["single", "--overwrite"], ["several", "--seeds", "2"]):
        words[0] = folder / words[0]
        result = torchrun(2, tmp_path / "at_end.py", "train.py", "--data_dir", faces, *TINY, "--checkpoint_dir", *words)
        lines = [line for line in result.stderr.splitlines() if "train.py:" in line]
        assert result.returncode != 0 and len(lines) == 1 and "another run is writing here" in lines[0]
        assert "[rank" not in result.stderr  # so torch marks the traceback of a process
        assert set(re.findall(r"threads at the end: (\d+)", result.stderr)) == {"0"}  # torchrun may stop the second


def test_too_many_processes_are_refused_in_one_line(tmp_path):
    faces = tmp_path / "faces"
    make_dataset(faces, image_size=32, subjects_train=3, subjects_test=1, scenes=1)
    result = torchrun(2, "train.py", "--data_dir", faces, "--checkpoint_dir", tmp_path / "run", *TINY,
                      "--batch_size", "1")
    lines = [line for line in result.stderr.splitlines() if "train.py:" in line]
    assert result.returncode != 0 and len(lines) == 1 and lines[0].startswith("train.py:") and "too small for 2 processes" in lines[0]
    assert not (Path(tmp_path) / "run").exists()
