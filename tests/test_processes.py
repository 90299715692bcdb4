"""Several processes (torchrun, gloo) train like one: gradients, batch norm, evaluation, resume."""

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conftest import REPOSITORY, TINY, new_process, succeeds, train_command
from datasets.drawing.data_set import make_dataset
from options.command_line import resolve
from training.start import read_training_data
from training.run_directory import RunDirectory
from utils import UserError

STEPS = '''
import sys
from dataclasses import replace
import torch
from models.distributed import Processes
from models.gan import SwapGAN
from models.networks import VGG, Pair, Perceptual, VGG_fx
from models.recognizer import Examples, Recognizer, evaluate, real_features
from options.config import GANRecipe, GANShape, RecognizerRecipe

torch.set_num_threads(1)
cpu = torch.device("cpu")


def steps(processes):
    torch.manual_seed(0)
    perceptual = Perceptual(VGG(3, 4, 8).features)
    recipe = GANRecipe(alpha5=True, mismatched=True, d_augment=True, lambda_truth_loss=600.0, G_max=1e9, ema=0.9,
                       d_lr_ratio=0.5)
    gan = SwapGAN(GANShape(3, 32, 4), recipe, perceptual, processes=processes)
    network = VGG_fx(3, 4, 16, 4)
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    recognizer = Recognizer(network, RecognizerRecipe(lr=0.01), processes=processes)
    data = torch.Generator().manual_seed(1)
    metrics = []
    total = 7  # an odd number, so that the processes have batches of different sizes
    for step in range(4):
        images = torch.rand(2, total, 3, 32, 32, generator=data) * 2 - 1
        a, b = torch.full((total,), step % 3), (torch.arange(total) % 2 + 1 + step) % 3
        mask = torch.arange(total) % 2 == 0
        image_a, image_b, a, b, mask = (tensor[processes.rank_slice] for tensor in (*images, a, b, mask))
        pair = Pair(image_a, image_b, a, b, torch.cat([image_b, image_a]), mask.repeat(2), mask.repeat(2), total)
        metrics.append(gan.step(pair))
        recognizer.recipe = replace(recognizer.recipe, guided=step % 2 == 1)
        real = int((torch.arange(total)[processes.rank_slice] < 4).sum())
        metrics.append(recognizer.step(Examples(b, (image_a, real_features(gan.encoder, image_a)), real, (4, 3))))
    images, labels = torch.rand(11, 3, 32, 32, generator=data) * 2 - 1, torch.arange(11) % 3
    counts = evaluate(recognizer, gan.encoder, [(images[processes.rank_slice], labels[processes.rank_slice])], 3)
    if processes.is_main:
        torch.save({"gan": {name: gan.network(name).state_dict() for name in gan.NETWORKS},
                     "recognizer": recognizer.network.state_dict(), "metrics": metrics,
                     "counts": torch.from_numpy(counts)}, sys.argv[1])


with Processes.join(cpu) as processes:
    steps(processes)
'''

# train.py, which prints the number of gloo's threads at the interpreter's end; they could end it with a signal.
AT_END = """
import atexit
import runpy
import sys
from pathlib import Path


def name(thread):
    try:
        return thread.read_text()
    except OSError:  # the thread has just ended
        return ""


def print_threads():
    sys.stderr.write(f"threads at the end: {sum('gloo' in name(t) for t in Path('/proc/self/task').glob('*/comm'))}\\n")


atexit.register(print_threads)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def torchrun(count: int, *argv: object) -> subprocess.CompletedProcess:
    return new_process("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}", *argv)


one_store = pytest.mark.skipif(torch.torch_version.TorchVersion(torch.__version__) < "2.6",
                               reason="its torchrun ends the store with process 0, and others print a line of their own")


def error_lines(result: subprocess.CompletedProcess, program: str = "train.py") -> list[str]:
    return [line for line in result.stderr.splitlines() if f"{program}:" in line]


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """Drawn faces of 4 persons to train on and 2 to test on."""
    root = tmp_path_factory.mktemp("data") / "faces"
    make_dataset(root, image_size=32, subjects_train=4, subjects_test=2, scenes=1)
    return root


def test_steps_of_two_processes_equal_those_of_one(tmp_path):
    (tmp_path / "steps.py").write_text(STEPS)
    succeeds(new_process(tmp_path / "steps.py", tmp_path / "1.pth"))
    succeeds(torchrun(2, tmp_path / "steps.py", tmp_path / "2.pth"))
    one, two = (torch.load(tmp_path / f"{count}.pth", weights_only=True) for count in (1, 2))
    torch.testing.assert_close(two["gan"], one["gan"], rtol=0, atol=1e-5)
    torch.testing.assert_close(two["recognizer"], one["recognizer"], rtol=0, atol=1e-3)  # 0.07 without SyncBatchNorm
    torch.testing.assert_close(two["metrics"], one["metrics"], rtol=1e-4, atol=1e-5)  # those of the whole batch
    assert two["counts"].sum() == 11 and torch.equal(one["counts"], two["counts"])  # every image once


def test_a_run_of_two_processes_writes_and_reports_once(faces, tmp_path):
    folder = tmp_path / "run"
    (tmp_path / "at_end.py").write_text(AT_END)
    result = torchrun(2, tmp_path / "at_end.py", "train.py", "--data_dir", faces, "--checkpoint_dir", folder, *TINY,
                      "--epochs", "1")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("threads at the end: 0\n") == 2 and "Warning" not in result.stderr
    assert result.stdout.count("gan epoch 1") == 1 and "on 2 x cpu" in result.stdout
    assert result.stdout.count("confusion_matrix.json") == 1
    with open(folder / "log" / "metrics.csv") as file:
        assert {row["epoch"] for row in csv.DictReader(file) if row["phase"] == "gan_epoch"} == {"1"}


@one_store
def test_a_second_run_of_two_processes_in_one_directory_is_refused_in_one_line(faces, tmp_path):
    directory = RunDirectory(tmp_path / "run")
    directory.lock()
    result = torchrun(2, "train.py", "--data_dir", faces, *TINY, "--checkpoint_dir", directory.folder)
    line, = error_lines(result)
    assert result.returncode != 0 and "another run is writing here" in line
    assert "[rank" not in result.stderr and "Signal 6" not in result.stderr  # no traceback, no crash at the end


def test_too_many_processes_are_refused():
    with pytest.raises(UserError, match="too small for 2 processes"):
        read_training_data(resolve(["--batch_size", "1"]), world=2)


# train.py, whose process 1 raises an error in its fifth step, in the first of torchrun's attempts.
FAILING = """
import os
import sys
import train
import utils
from training.trainer import Run
from utils import run_command

calls, after_step = [], Run.after_step


def failing(self, *arguments, **settings):
    calls.append(1)
    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and len(calls) == 5:
        raise utils.UserError("the planted mistake")
    return after_step(self, *arguments, **settings)


Run.after_step = failing
run_command(train.main)
"""


def test_the_failing_process_reports_its_error_and_a_restart_resumes_the_run(faces, tmp_path):
    folder = tmp_path / "run"
    (tmp_path / "failing.py").write_text(FAILING)
    result = new_process("-m", "torch.distributed.run", "--nproc_per_node=2", "--max_restarts=1", "--master_port",
                     free_port(), tmp_path / "failing.py", "--data_dir", faces, "--checkpoint_dir", folder, *TINY,
                     "--epochs", "1", "--auto_restore")
    assert error_lines(result, "failing.py") == ["process 1: failing.py: the planted mistake"]
    assert "Traceback" not in result.stderr and "gan epoch 1" in succeeds(result)


# ---------------------------------------------------------------------------- machines that share no files

def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def two_machines(folder: Path, *argv: object) -> list[subprocess.CompletedProcess]:
    """Run the same command on two "machines", whose working directories are ``node0`` and ``node1`` in a folder."""
    port, environment = free_port(), {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", "--master_addr=127.0.0.1",
               f"--master_port={port}"]
    processes = [subprocess.Popen([sys.executable, *command, f"--node_rank={node}", REPOSITORY / "train.py",
                                   *map(str, argv)], cwd=folder / f"node{node}", env=environment,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for node in (0, 1)]
    outputs = [process.communicate(timeout=300) for process in processes]
    return [subprocess.CompletedProcess(argv, process.returncode, *output)
            for process, output in zip(processes, outputs)]


@pytest.fixture(scope="module")
def machines(faces, tmp_path_factory) -> Path:
    """The working directories of two machines with a copy of the same faces each, after a first GAN epoch on both."""
    folder = tmp_path_factory.mktemp("machines")
    for node in ("node0", "node1"):
        shutil.copytree(faces, folder / node / "faces")
    for result in two_machines(folder, "--data_dir", "faces", "--checkpoint_dir", "run", *TINY, "--epochs", "1"):
        succeeds(result)
    return folder


def test_the_second_machine_receives_the_perceptual_network_and_the_state_of_the_first(machines, tmp_path):
    networks = [torch.load(machines / node / "run" / "VGG_loss" / "6_max_ckpt.t7", weights_only=True)["net"]
                for node in ("node0", "node1")]
    assert all(torch.equal(networks[0][key], networks[1][key]) for key in networks[0])
    assert {path.name for path in (machines / "node1" / "run").iterdir()} == {"VGG_loss", "run.json", "run.lock"}
    shutil.copytree(machines / "node0" / "run", tmp_path / "single")
    shutil.copytree(machines / "node0" / "run" / "state", machines / "node1" / "run" / "state")
    manifest = machines / "node1" / "run" / "state" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text())[1:]))  # the state on node 1 is an older one
    output, _ = map(succeeds, two_machines(machines, "--restore", "--checkpoint_dir", "run", "--epochs", "2", "--gpu",
                                           "-1"))
    assert "gan epoch 2" in output and "gan epoch 1" not in output
    succeeds(train_command("--restore", "--checkpoint_dir", tmp_path / "single", "--epochs", "2", "--gpu", "-1",
                           "--data_dir", machines / "node0" / "faces"))
    two, one = (torch.load(folder / "model" / "Enc_iter_temp.pth", weights_only=True)
                for folder in (machines / "node0" / "run", tmp_path / "single"))
    assert max((one[key] - two[key]).abs().max().item() for key in one) < 1e-4


def test_a_different_image_on_the_second_machine_is_reported_on_both(machines):
    names = [line.split()[0] for line in (machines / "node1" / "faces" / "images.list").read_text().splitlines()]
    changed, other = (machines / "node1" / "faces" / "data" / name for name in names[:2])
    before = changed.read_bytes()
    changed.write_bytes(other.read_bytes())
    results = two_machines(machines, "--data_dir", "faces", "--checkpoint_dir", "other", *TINY)
    changed.write_bytes(before)
    for result in results:
        line, = error_lines(result)
        assert result.returncode != 0 and "has another content of the images" in line
