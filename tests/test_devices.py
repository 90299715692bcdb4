"""Devices and mixed precision without a GPU: stubbed devices, tensors that cannot be read."""

import contextlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import utils
from conftest import as_started_by_torchrun
from models.gan import SwapGAN
from models.networks import VGG, Normalization, Pair, Perceptual, VGG_fx
from models.recognizer import Examples, Recognizer, real_features
from options.command_line import resolve
from options.config import GANRecipe, GANShape
from training.start import amp_dtype
from utils import UserError, gpus, line_and_status, multiplies_bf16, pick_device

CUDA, CPU = torch.device("cuda", 1), torch.device("cpu")


def test_the_chosen_gpu_is_the_current_one_and_its_capability_decides_on_bf16(monkeypatch):
    current, capabilities = [], {0: (9, 0), 1: (7, 5)}
    for name, stub in (("is_available", lambda: True), ("device_count", lambda: 2),
                       ("set_device", current.append), ("get_device_capability", capabilities.get),
                       ("is_bf16_supported", lambda *_: True)):  # true for emulation too
        monkeypatch.setattr(torch.cuda, name, stub)
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


@pytest.mark.parametrize("text, where", [
    ("CUDA out of memory. Tried to allocate 2 GiB", "GPU memory"),
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


def test_a_recognizer_for_inference_has_no_optimizer_and_one_for_training_a_momentum_of_zero():
    """A step that the gradient scaler skips before the first update must not create it."""
    recognizer = Recognizer(VGG_fx(3, 4, 16, 4))
    recognizer.predict(torch.zeros(2, 3, 32, 32), torch.zeros(2, 64, 1, 1))
    assert "optimizer" not in vars(recognizer)
    buffers = [state["momentum_buffer"] for state in recognizer.optimizer.state.values()]
    assert len(buffers) == len(list(recognizer.network.parameters()))
    assert not any(buffer.any() for buffer in buffers)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_maps_of_half_precision_keep_their_type_and_are_computed_in_float32(dtype):
    torch.manual_seed(0)
    layer = Normalization()
    maps, gradient = (40 * torch.randn(2, 2, 8, 4, 4)).to(dtype)
    x, exact = maps.clone().requires_grad_(), maps.float().requires_grad_()
    half, full = layer(x), layer(exact)
    assert half.dtype is dtype and torch.equal(half, full.to(dtype))
    half.backward(gradient)
    full.backward(gradient.float())
    assert x.grad.dtype is dtype and torch.equal(x.grad, exact.grad.to(dtype))


class Transfers(TorchDispatchMode):
    """A counter of copies from the CPU to a device."""

    copies = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("_to_copy", "copy_"):
            source = args[1] if name == "copy_" else args[0]
            self.copies += source.device.type == "cpu" != result.device.type
        return result


def test_steps_read_nothing_from_a_device_and_copy_only_noise_to_it(monkeypatch):
    unreadable = torch.device("meta")  # its tensors have only shapes
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # it supports no meta device
    for name in ("Adam", "SGD"):  # nor do the fused optimizers of torch, which are not tested here
        kind = getattr(torch.optim, name)
        monkeypatch.setattr(torch.optim, name,
                            lambda parameters, fused, kind=kind, **settings: kind(parameters, **settings))
        monkeypatch.setattr(kind, "step", lambda self: None)
    with pytest.raises(RuntimeError):
        torch.zeros((), device=unreadable).item()
    gan = SwapGAN(GANShape(3, 32, 4), GANRecipe(), Perceptual(VGG(3, 4, 8).features), unreadable)
    gan.device_decides = True  # as on a GPU
    recognizer = Recognizer(VGG_fx(3, 4, 16, 4), device=unreadable)
    images = torch.zeros(2, 4, 3, 32, 32, device=unreadable)
    pair = Pair(*images, *torch.zeros(2, 4, dtype=torch.long, device=unreadable))
    with Transfers() as gan_transfers:
        metrics = gan.step(pair)
    with Transfers() as recognizer_transfers:
        recognizer.step(Examples(pair.a, (pair.image_a, real_features(gan.encoder, pair.image_a))))
    assert metrics["G"].device == unreadable
    assert (gan_transfers.copies, recognizer_transfers.copies) == (1, 0)
