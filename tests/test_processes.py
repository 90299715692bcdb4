"""Devices without a GPU; processes, also of two machines, train like one and resume exactly."""

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import train
import utils
from conftest import (REPOSITORY, TINY, as_started_by_torchrun, networks, new_process, refused,
                      restored, succeeds)
from models.distributed import Processes
from models.gan import SwapGAN
from models.networks import VGG, Pair, Perceptual, VGG_fx
from models.recognizer import Examples, Recognizer, evaluate, real_features
from options.command_line import resolve
from options.config import GANRecipe, GANShape, RecognizerRecipe
from training import start
from training.trainer import Run
from utils import UserError, line_and_status, multiplies_bf16, number_of_processes, pick_device

CPU = torch.device("cpu")


def test_the_chosen_gpu_is_the_current_one_and_its_capability_decides_on_bf16(monkeypatch):
    current, capabilities = [], {0: (9, 0), 1: (7, 5)}
    for name, stub in (("is_available", lambda: True), ("device_count", lambda: 2),
                       ("set_device", current.append), ("get_device_capability", capabilities.get),
                       ("is_bf16_supported", lambda *_: True)):  # true for emulation too
        monkeypatch.setattr(torch.cuda, name, stub)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert (pick_device([1]), current) == (torch.device("cuda", 1), [1])
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32  # float32 is float32
    for flags, amp in (([], "bf16"), (["--gpu", "1"], "off"), (["--gpu", "1", "--amp", "bf16"], "bf16"),
                       (["--deterministic"], "bf16"), (["--gpu=-1"], "off")):
        assert resolve(["--size", "small", *flags]).hardware.amp == amp
    as_started_by_torchrun(monkeypatch)
    assert pick_device([1, 0]).index == 1
    with pytest.raises(UserError, match="need 2 different GPUs"):
        pick_device([1])


def test_auto_chooses_bf16_on_a_cpu_that_has_it_at_some_width_and_a_run_keeps_the_choice(monkeypatch, tmp_path):
    for flags, supported in (("avx512f avx512_bf16 fma", True), ("avx512f amx_bf16", True), ("avx512f fma", False)):
        (tmp_path / "cpuinfo").write_text(f"processor: 0\nflags\t\t: fpu {flags}\n")
        assert multiplies_bf16(None, tmp_path / "cpuinfo") == supported
    assert not multiplies_bf16(None, tmp_path / "none")
    run, argv = [f"--checkpoint_dir={tmp_path}"], ["--gpu=-1", "--vgg_width=16", "--base_width=32"]
    for supported in (True, False):
        monkeypatch.setattr("options.command_line.multiplies_bf16", lambda gpu, supported=supported: supported)
        chosen = [resolve([*argv, *flags]).hardware.amp
                  for flags in ([], ["--base_width=31"], ["--deterministic"], ["--amp=off"], ["--amp=bf16"])]
        assert chosen == ["bf16" if supported else "off", "off", "off", "off", "bf16"]
        if supported:
            utils.write_json(tmp_path / "options.json", resolve([*argv, *run]).values())
    for flags, amp in (([], "bf16"), (["--amp=auto"], "bf16"), (["--amp=auto", "--force"], "off")):
        assert resolve(["--restore", *run, *flags, "--gpu=-1"]).hardware.amp == amp


@pytest.mark.parametrize("text, where", [
    ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "GPU memory"),
    ("DefaultCPUAllocator: can't allocate memory: you tried", "memory")])
def test_out_of_memory_is_one_line_with_the_flags(text, where):
    line, status = line_and_status(RuntimeError(text))
    assert status == 2 and line.startswith(f"not enough {where}; lower --batch_size, --vgg_batch_size, --image_size")
    assert line_and_status(RuntimeError("shapes do not match")) == (None, 2)


@pytest.mark.parametrize("kind", [SwapGAN, Recognizer])
@pytest.mark.parametrize("before, after", [(torch.bfloat16, torch.float16), (torch.float16, torch.bfloat16)])
def test_a_state_of_bf16_is_continued_in_fp16_and_the_other_way_round(kind, before, after):
    def learner(amp):
        return SwapGAN(GANShape(3, 32, 4), amp=amp) if kind is SwapGAN else Recognizer(VGG_fx(3, 4, 16, 4), amp=amp)

    ours, theirs = learner(before), learner(after)
    theirs.load_state_dict(ours.state_dict())
    assert theirs.scaler.is_enabled() == (after is torch.float16)
    assert all(torch.equal(value, ours.state_dict()[name][key]) for name in ("generator", "network")
               for key, value in theirs.state_dict().get(name, {}).items())


def test_a_recognizer_for_inference_has_no_optimizer():
    recognizer = Recognizer(VGG_fx(3, 4, 16, 4))
    recognizer.predict(torch.zeros(2, 3, 32, 32), torch.zeros(2, 64, 1, 1))
    assert "optimizer" not in vars(recognizer)


def steps(processes: Processes, result: str) -> None:
    """Train a GAN and a recognizer in four steps each; write their weights, metrics and counts."""
    torch.manual_seed(0)
    recipe = GANRecipe(alpha5=True, mismatched=True, d_augment=True, lambda_truth_loss=600.0,
                       G_max=1e9, ema=0.9, d_lr_ratio=0.5)
    perceptual, network = Perceptual(VGG(3, 4, 8).features), VGG_fx(3, 4, 16, 4)
    gan = SwapGAN(GANShape(3, 32, 4), recipe, perceptual, processes=processes)
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    recognizer = Recognizer(network, RecognizerRecipe(lr=0.01), processes=processes)
    data, mine, metrics = torch.Generator().manual_seed(1), processes.rank_slice, []
    total = 7  # an odd number, so that the processes have batches of different sizes
    for step in range(4):
        images = torch.rand(2, total, 3, 32, 32, generator=data) * 2 - 1
        a, b = torch.full((total,), step % 3), (torch.arange(total) % 2 + 1 + step) % 3
        mask = torch.arange(total) % 2 == 0
        image_a, image_b, a, b, mask = (tensor[mine] for tensor in (*images, a, b, mask))
        extras = torch.cat([image_b, image_a]), mask.repeat(2), mask.repeat(2), total
        metrics.append(gan.step(Pair(image_a, image_b, a, b, *extras)))
        recognizer.recipe = replace(recognizer.recipe, guided=step % 2 == 1)
        real = int((torch.arange(total)[mine] < 4).sum())
        inputs = image_a, real_features(gan.encoder, image_a)
        metrics.append(recognizer.step(Examples(b, inputs, real, (4, 3))))
    images, labels = torch.rand(11, 3, 32, 32, generator=data) * 2 - 1, torch.arange(11) % 3
    counts = evaluate(recognizer, gan.encoder, [(images[mine], labels[mine])], 3)
    if processes.is_main:
        torch.save({"gan": {name: gan.network(name).state_dict() for name in gan.NETWORKS},
                    "recognizer": recognizer.network.state_dict(), "metrics": metrics,
                    "counts": torch.from_numpy(counts)}, result)


def torchrun(count: int, *argv: object) -> subprocess.CompletedProcess:
    return new_process("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}", *argv)


one_store = pytest.mark.skipif(
    torch.torch_version.TorchVersion(torch.__version__) < "2.6",
    reason="its torchrun ends the store with process 0, and others print a line of their own")


def error_lines(result: subprocess.CompletedProcess, program: str = "train.py") -> list[str]:
    return [line for line in result.stderr.splitlines() if f"{program}:" in line]


def test_steps_of_two_processes_equal_those_of_one(tmp_path):
    steps(Processes(), str(tmp_path / "1.pth"))
    succeeds(torchrun(2, __file__, tmp_path / "2.pth"))
    one, two = (torch.load(tmp_path / f"{count}.pth", weights_only=True) for count in (1, 2))
    torch.testing.assert_close(two["gan"], one["gan"], rtol=0, atol=1e-5)
    torch.testing.assert_close(two["recognizer"], one["recognizer"], rtol=0, atol=1e-3)  # 0.07 without SyncBatchNorm
    torch.testing.assert_close(two["metrics"], one["metrics"], rtol=1e-4, atol=1e-5)  # those of the whole batch
    assert two["counts"].sum() == 11 and torch.equal(one["counts"], two["counts"])  # every image once


def test_too_many_processes_are_refused():
    with pytest.raises(UserError, match="too small for 2 processes"):
        start.read_training_data(resolve(["--batch_size", "1"]), world=2)


def train_and_fail() -> None:
    """Train; process 1 raises an error in its fifth step, in the first of torchrun's attempts."""
    calls, after_step = itertools.count(1), Run.after_step

    def failing(self: Run, *arguments: object, **settings: object) -> None:
        place = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
        if place == ("1", "0") and next(calls) == 5:
            raise UserError("the planted mistake")
        after_step(self, *arguments, **settings)

    Run.after_step = failing
    utils.run_command(train.main)


def test_the_failing_process_reports_its_error_and_a_restart_resumes_the_run(faces, tmp_path):
    result = new_process("-m", "torch.distributed.run", "--nproc_per_node=2", "--max_restarts=1",
                         "--master_port", free_port(), __file__, "--data_dir", faces,
                         "--checkpoint_dir", tmp_path / "run", *TINY, "--auto_restore")
    line = "process 1: test_processes.py: the planted mistake"
    assert error_lines(result, "test_processes.py") == [line]
    assert "Traceback" not in result.stderr and "gan epoch 1" in succeeds(result)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def two_machines(folder: Path, *argv: object) -> list[subprocess.CompletedProcess]:
    """Train on two "machines", whose working directories are ``node0`` and ``node1``."""
    command = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1",
               "--master_addr=127.0.0.1", f"--master_port={free_port()}"]

    def machine(node: int) -> subprocess.CompletedProcess:
        return new_process(*command, f"--node_rank={node}", REPOSITORY / "train.py", *argv,
                           cwd=folder / f"node{node}")

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(machine, (0, 1)))


@pytest.fixture(scope="module")
def machines(faces, tmp_path_factory) -> Path:
    """The working directories of two machines with a copy of the same faces each, after a first GAN epoch on both."""
    folder = tmp_path_factory.mktemp("machines")
    for node in ("node0", "node1"):
        shutil.copytree(faces, folder / node / "faces")
    for result in two_machines(folder, "--data_dir", "faces", "--checkpoint_dir", "run", *TINY):
        succeeds(result)
    return folder


def test_the_second_machine_receives_the_perceptual_network_and_the_state_of_the_first(machines, tmp_path):
    first, second = (machines / node / "run" for node in ("node0", "node1"))
    assert networks(first, "VGG_loss/*.t7") == networks(second, "VGG_loss/*.t7")
    assert {path.name for path in second.iterdir()} == {"VGG_loss", "run.json", "run.lock"}
    shutil.copytree(first, tmp_path / "single")
    shutil.copytree(first / "state", second / "state")
    manifest = second / "state" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text())[1:]))  # the state on node 1 is an older one
    argv = ["--restore", "--checkpoint_dir", "run", "--epochs", "2", "--gpu", "-1"]
    output, _ = map(succeeds, two_machines(machines, *argv))
    assert "gan epoch 2" in output and "gan epoch 1" not in output
    argv = ["--epochs", 2, "--data_dir", machines / "node0" / "faces"]
    succeeds(restored(tmp_path / "single", *argv))
    two, one = (torch.load(run / "model" / "Enc_iter_temp.pth", weights_only=True)
                for run in (first, tmp_path / "single"))
    torch.testing.assert_close(two, one, rtol=0, atol=1e-4)


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


@pytest.mark.parametrize("world, ranks", [
    ("2", ""), ("x", ""), ("2", "RANK"), ("-1", "RANK LOCAL_RANK")])
def test_several_processes_without_torchrun_are_refused(monkeypatch, world, ranks):
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("WORLD_SIZE", world), *((name, "0") for name in ranks.split())):
        monkeypatch.setenv(name, value)
    refused(number_of_processes, "torchrun has not started")


def test_a_process_without_gpu_does_not_join_processes_with_gpus(monkeypatch):
    store = torch.distributed.HashStore()
    store.set("facts 0 0", '["host0", {"kind of device": "cuda"}]')
    monkeypatch.setattr("models.distributed.process_store", lambda: store)
    as_started_by_torchrun(monkeypatch)
    with pytest.raises(UserError, match=r"has another kind of device \(cpu\) than process 0 on host0 \(cuda\)"):
        Processes.join(CPU)


@pytest.mark.parametrize("options, is_same", [
    (["--lr=0.2"], False), (["--restore"], False), (["--gpu=1", "--checkpoint_dir=b"], True)])
def test_different_options_are_refused_but_for_those_of_a_machine(options, is_same):
    store = torch.distributed.HashStore()
    configs = [resolve(argv) for argv in (["--gpu=-1", "--checkpoint_dir=a"], ["--gpu=-1", *options])]

    def outcome(rank: int) -> str:  # processes are threads here
        try:
            processes = Processes(rank, 2, CPU, store)
            return str(start.check_same_options(configs[rank], processes))
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        assert all("another options" in text for text in pool.map(outcome, range(2))) != is_same


if __name__ == "__main__":  # in each process of the tests that start this file
    if len(sys.argv) > 2:
        train_and_fail()
    else:
        with Processes.join(CPU) as these:
            steps(these, sys.argv[1])
