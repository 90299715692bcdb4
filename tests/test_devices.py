"""Devices and processes without a GPU: stubbed devices, tensors that cannot be read, threads as processes."""

import contextlib
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import utils
from conftest import refused
from datasets.layout import Sample
from datasets.loading import Images, load
from datasets.plans import gan_plan
from models.distributed import Processes, with_strides
from models.gan import SwapGAN
from models.losses import mean_distance
from models.networks import VGG, Normalization, Pair, Perceptual, VGG_fx
from models.recognizer import Examples, Recognizer, real_features
from options.command_line import resolve
from options.config import GANRecipe, GANShape, RecognizerRecipe
from training import series, start
from training.start import amp_dtype, start_processes
from utils import UserError, gpus, line_and_status, multiplies_bf16, number_of_processes, pick_device, processes_here

CUDA, CPU = torch.device("cuda", 1), torch.device("cpu")


def on_threads(count: int, work) -> list:
    """Return what ``work(processes)`` returns or raises in each of ``count`` processes, which are threads."""
    store = torch.distributed.HashStore()

    def outcome(rank: int):
        try:
            return work(Processes(rank, count, CPU, store))
        except UserError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(outcome, range(count)))


def as_started_by_torchrun(monkeypatch, **values: int) -> None:
    """Set the environment of a process that torchrun has started on this machine."""
    for name, value in {"WORLD_SIZE": 2, "RANK": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2, **values}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "1")


# ------------------------------------------------------------------------------------------------------- devices

def test_the_chosen_gpu_is_the_current_one_and_its_capability_decides_on_bf16(monkeypatch):
    current, capabilities = [], {0: (9, 0), 1: (7, 5)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)  # true for emulation too
    monkeypatch.setattr(torch.cuda, "get_device_capability", capabilities.get)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert (pick_device([1]), current) == (CUDA, [1])
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32  # float32 is float32
    for flags, amp in (([], "bf16"), (["--gpu", "1"], "off"), (["--gpu", "1", "--amp", "bf16"], "bf16"),
                       (["--deterministic"], "bf16"), (["--gpu=-1"], "off")):
        assert resolve(["--size", "small", *flags]).hardware.amp == amp
    assert gpus() == [0, 1]
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
    assert amp_dtype("bf16", CPU) is torch.bfloat16 and amp_dtype("off", CPU) is None


@pytest.mark.parametrize("text, where", [("CUDA out of memory. Tried to allocate 2 GiB", "GPU memory"),
                                         ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "GPU memory"),
                                         ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling", "GPU memory"),
                                         ("DefaultCPUAllocator: can't allocate memory: you tried", "memory")])
def test_out_of_memory_is_one_line_with_the_flags(text, where):
    line, status = line_and_status(RuntimeError(text))
    assert status == 2 and line.startswith(f"not enough {where}; lower --batch_size, --vgg_batch_size, --image_size")
    assert line_and_status(RuntimeError("shapes do not match")) == (None, 2)


# ----------------------------------------------------------------------------------------------- mixed precision

def test_a_gradient_scaler_that_skips_the_first_step_leaves_a_momentum_of_zero():
    recognizer = Recognizer(VGG(3, 4, 8), RecognizerRecipe(lr=0.1))
    buffers = [state["momentum_buffer"] for state in recognizer.optimizer.state.values()]
    assert len(buffers) == len(list(recognizer.network.parameters())) and not any(buffer.any() for buffer in buffers)
    scaler, before = torch.amp.GradScaler("cpu"), recognizer.network.new_fc.bias.detach().clone()
    for factor in (float("inf"), 1.0):
        recognizer.optimizer.zero_grad()
        scaler.scale(factor * recognizer.network(torch.rand(2, 3, 32, 32)).sum()).backward()
        scaler.step(recognizer.optimizer)
        scaler.update()
    torch.testing.assert_close(recognizer.network.new_fc.bias, before - 0.1 * (2.0 + 5e-4 * before))


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_maps_of_half_precision_keep_their_type_and_are_computed_in_float32(dtype):
    torch.manual_seed(0)
    layer = Normalization()
    maps = (40 * torch.randn(2, 8, 4, 4)).to(dtype)
    x, exact = maps.clone().requires_grad_(), maps.float().requires_grad_()
    half, full = layer(x), layer(exact)
    assert half.dtype is dtype and torch.equal(half, full.to(dtype))
    gradient = torch.randn(2, 8, 4, 4).to(dtype)
    half.backward(gradient)
    full.backward(gradient.float())
    assert x.grad.dtype is dtype and torch.equal(x.grad, exact.grad.to(dtype))
    y = (40 * torch.randn(2, 8, 4, 4)).to(dtype)
    x.grad = exact.grad = None
    assert torch.equal(mean_distance(x, y), mean_distance(exact, y.float()))
    mean_distance(x, y).backward()
    mean_distance(exact, y.float()).backward()
    torch.testing.assert_close(x.grad.float(), exact.grad, rtol=1e-2, atol=0)


# ----------------------------------------------------------------------------------- devices that cannot be read

class Transfers(TorchDispatchMode):
    """A counter of copies from the CPU to a device. Reading a tensor of the meta device, or a fake one, raises."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("_to_copy", "copy_"):
            source = args[1] if name == "copy_" else args[0]
            self.copies += source.device.type == "cpu" != result.device.type
        return result


@pytest.fixture
def unreadable(monkeypatch) -> torch.device:
    """A device whose tensors have only shapes, so that a test fails if anything is read from it."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # it supports no meta device
    for name in ("Adam", "SGD"):  # nor do the fused optimizers of torch, which are not tested here
        kind = getattr(torch.optim, name)
        monkeypatch.setattr(torch.optim, name,
                            lambda parameters, fused, kind=kind, **settings: kind(parameters, **settings))
        monkeypatch.setattr(kind, "step", lambda self: None)
    return torch.device("meta")


def test_steps_read_nothing_from_a_device_and_copy_only_noise_to_it(unreadable):
    with pytest.raises(RuntimeError):
        torch.zeros((), device=unreadable).item()
    gan = SwapGAN(GANShape(3, 32, 4), GANRecipe(), Perceptual(VGG(3, 4, 8).features), unreadable)
    gan.device_decides = True  # as on a GPU
    recognizer = Recognizer(VGG_fx(3, 4, 16, 4), device=unreadable)
    images = (torch.zeros(4, 3, 32, 32, device=unreadable).to(memory_format=torch.channels_last) for _ in range(2))
    labels = (torch.zeros(4, dtype=torch.long, device=unreadable) for _ in range(2))
    pair = Pair(*images, *labels)
    with Transfers() as gan_transfers:
        metrics = gan.step(pair)
    with Transfers() as recognizer_transfers:
        recognizer.step(Examples(pair.a, (pair.image_a, real_features(gan.encoder, pair.image_a))))
    assert metrics["G"].device == unreadable
    assert (gan_transfers.copies, recognizer_transfers.copies) == (1, 0)


@pytest.mark.skipif(torch.torch_version.TorchVersion(torch.__version__) < "2.6", reason="fake tensors ask for a GPU")
def test_decoded_images_that_fit_stay_on_the_gpu_and_are_gathered_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 ** 30, 2 ** 30))
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self.device.type) or self)
    samples = [Sample(f"{i}.jpg", i % 3, None, f"s{i}", "") for i in range(12)]
    images = Images([], 32, "none")
    images.samples, images.in_memory, images.pixels = samples, True, torch.zeros(12, 3, 32, 32, dtype=torch.uint8)
    with FakeTensorMode(allow_non_fake_inputs=True):
        on_gpu = images.on(torch.device("cuda"))
        assert on_gpu.pixels.is_cuda and images.on(CPU) is images and not images.pixels.is_cuda
        batch = next(load(on_gpu, gan_plan(samples, 4, 0, 0, mirror=True), 2, pin_memory=True))
        assert batch.first.is_cuda and batch.second.is_cuda and batch.first.dtype is torch.uint8
        with Transfers() as transfers:
            image = batch.to("cuda").first
        assert image.dtype is torch.float32 and image.shape == (4, 3, 32, 32) and transfers.copies <= 4  # labels, masks
    assert set(pinned) == {"cpu"}  # labels, masks and positions
    images.pixels = torch.zeros(400, 3, 512, 512, dtype=torch.uint8)  # more than a tenth of 1 GiB
    assert images.on(torch.device("cuda")) is images


# ------------------------------------------------------------------------------------------------ several processes

def test_gradients_of_1x1_convolutions_keep_the_strides_of_their_weights():
    weight, gradient = torch.rand(8, 4, 1, 1), torch.rand(8, 4, 1, 1).as_strided((8, 4, 1, 1), (4, 1, 4, 4))
    result = with_strides(weight.stride(), gradient)
    assert result.stride() == weight.stride() and torch.equal(result, gradient)


@pytest.mark.parametrize("environment", [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": "x"}, {"WORLD_SIZE": "2", "RANK": "0"},
                                         {"WORLD_SIZE": "-1", "RANK": "0", "LOCAL_RANK": "0"}])
def test_several_processes_without_torchrun_are_refused(monkeypatch, environment):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert "torchrun has not started" in refused(number_of_processes)


def test_several_gpus_without_nccl_are_refused(monkeypatch):
    for module, name, value in ((torch.cuda, "is_available", True), (torch.cuda, "device_count", 2),
                                (torch.cuda, "get_device_capability", (8, 0)),
                                (torch.distributed, "is_nccl_available", False)):
        monkeypatch.setattr(module, name, lambda *_, value=value: value)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(os, "execv", lambda *argv: pytest.fail("torchrun was started"))
    line = refused(lambda: start_processes([0, 1]))
    assert "several GPUs need NCCL" in line


@pytest.mark.parametrize("platform, sent", [("linux", [signal.SIGTERM]), ("win32", [])])
def test_ctrl_c_stops_the_runs_of_a_series_and_kills_none_on_windows(monkeypatch, tmp_path, platform, sent):
    statuses, signals = iter([None, 130]), []
    process = SimpleNamespace(returncode=130, send_signal=signals.append, poll=lambda: next(statuses))
    monkeypatch.setattr(series, "start_job", lambda *argv: series.Job("seed_00", 0, tmp_path / "seed_00.txt", process))
    interrupts = iter([0])
    monkeypatch.setattr(series, "noted_signals",
                        lambda: contextlib.nullcontext(lambda: next(interrupts, signal.SIGINT)))
    with monkeypatch.context() as patch, pytest.raises(utils.Stopped):
        patch.setattr(sys, "platform", platform)
        series.train_side_by_side([None], 1, None, tmp_path)
    assert signals == sent


def test_a_process_without_gpu_does_not_join_processes_with_gpus(monkeypatch):
    store = torch.distributed.HashStore()
    store.set("facts 0 0", '["host0", {"kind of device": "cuda"}]')
    monkeypatch.setattr("models.distributed.process_store", lambda: store)
    as_started_by_torchrun(monkeypatch)
    with pytest.raises(UserError, match=r"has another kind of device \(cpu\) than process 0 on host0 \(cuda\)"):
        Processes.join(CPU)


def test_different_options_are_refused_but_for_those_of_a_machine():
    for options, is_same in ((["--lr=0.2"], False), (["--restore"], False), (["--gpu=1", "--checkpoint_dir=b"], True)):
        configs = [resolve(argv) for argv in (["--gpu=-1", "--checkpoint_dir=a"], ["--gpu=-1", *options])]
        outcomes = on_threads(2, lambda processes: start.check_same_options(configs[processes.rank], processes))
        assert all("another options" in str(outcome) for outcome in outcomes) != is_same


def test_one_process_of_each_machine_downloads_and_memory_is_that_of_the_machine(monkeypatch):
    downloads = []
    monkeypatch.setattr(start, "imagenet_weights", lambda url: downloads.append(url) or {"weight": torch.ones(1)})
    monkeypatch.setenv("LOCAL_RANK", "0")
    start.download_imagenet_weights(Processes(2, 4, CPU, torch.distributed.HashStore()), "vgg19_bn")
    assert len(downloads) == 1 and "vgg19_bn" in downloads[0]
    store = torch.distributed.HashStore()
    store.set("result 0 0", "null")
    monkeypatch.setenv("LOCAL_RANK", "1")
    start.download_imagenet_weights(Processes(3, 4, CPU, store), "vgg19_bn")
    assert len(downloads) == 1 and "vgg19_bn" in downloads[0]
    as_started_by_torchrun(monkeypatch, WORLD_SIZE=16)
    assert (number_of_processes(), processes_here()) == (16, 2)


def test_digests_of_different_networks_differ():
    digests = [start.digest_of({"steps": 3, "net": {"w": torch.full((3,), value)}})
               for value in (1.0, 1.0, 1.0000001)]
    assert digests[0] == digests[1] != digests[2]
