"""The precision of a run: ``--amp``, and the choice of ``auto``."""

import time
from pathlib import Path
from typing import Callable

import torch

from models.backbones import BACKBONES
from models.parallel import Processes
from models.recognizer import Examples, Recognizer, real_features
from models.swap import Extras, Pair
from models.swap_gan import SwapGAN
from models.vgg import VGG, Perceptual
from options.command_line import read_run_options
from options.config import Config
from utils import UserError

DTYPES = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}
LEAST_WIDTH = 32  # narrower networks were slower in bf16 on every CPU that was tried
GAIN = 1.1        # the least speed-up by bf16; a few timed steps cannot measure a smaller one
SECONDS = 10.0    # of the measurement


def amp_dtype(choice: str, device: torch.device) -> torch.dtype | None:
    """Return the dtype of autocast for ``--amp``, None for float32; ``auto`` must have been replaced before.

    Raises UserError for fp16 on the CPU.
    """
    if choice == "fp16" and device.type == "cpu":
        raise UserError("--amp fp16 needs a GPU; on the CPU there is bf16")
    return DTYPES[choice]


def with_precision(config: Config, num_classes: int, device: torch.device, processes: Processes) -> Config:
    """Return the options with ``bf16`` or ``off`` in place of ``--amp auto``, which a resumed run keeps."""
    if config.hardware.amp != "auto":
        return config
    use_bf16 = supports_bf16(device) and (device.type == "cuda" or config.shape.base_width >= LEAST_WIDTH
                                          and not config.hardware.deterministic)
    use_bf16 = not processes.any(not use_bf16)
    if use_bf16 and device.type == "cpu":
        use_bf16 = processes.run_on_main(lambda: is_bf16_faster(config, num_classes))
    return config.replaced(amp="bf16" if use_bf16 else "off")


def with_kept_precision(config: Config) -> Config:
    """Return the options of a resumed run of a series with the precision that the run chose when it started.

    The options of the series hold no choice, since each run makes its own. With ``--force`` it is made again.
    """
    path = Path(config.run.checkpoint_dir) / "options.json"
    if config.hardware.amp != "auto" or config.run.force or not path.is_file():
        return config
    return config.replaced(amp=read_run_options(path).get("amp", "auto"))


def supports_bf16(device: torch.device, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether a device multiplies bf16 in hardware; older GPUs and CPUs emulate it, slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    try:
        flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "").split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def is_bf16_faster(config: Config, num_classes: int) -> bool:
    """Time a few steps of the run's size in float32 and bf16 on this CPU, and return whether bf16 is faster."""
    with torch.random.fork_rng(devices=[]):
        plain, mixed = least_seconds([build_step(config, num_classes, amp) for amp in (None, torch.bfloat16)], SECONDS)
    is_faster = plain > GAIN * mixed
    print(f"--amp auto: one step takes {plain:.2f} s in float32 and {mixed:.2f} s in bf16 on this CPU; training in "
          + ("bf16" if is_faster else "float32"), flush=True)
    return is_faster


def build_step(config: Config, num_classes: int, amp: torch.dtype | None) -> Callable[[], None]:
    """Return a function that does one step of a GAN and one of a recognizer of the run's size, on noise."""
    widths, side = config.recognizer_shape, config.shape.image_size
    perceptual = Perceptual(VGG(num_classes, widths.vgg_width, 8).features) if config.gan_recipe.vgg_loss else None
    gan = SwapGAN(config.gan_shape(num_classes), config.gan_recipe, perceptual, amp=amp)
    network = BACKBONES[widths.backbone](num_classes, widths.vgg_width, widths.fc_width, config.shape.base_width)
    recognizer = Recognizer(network, amp=amp)
    count = max(2, min(config.gan.batch_size, 4))
    first, second = ((2 * torch.rand(count, 3, side, side) - 1).contiguous(memory_format=torch.channels_last)
                     for _ in range(2))
    a = torch.arange(count) % num_classes
    pair = Pair(first, second, a, (a + 1) % num_classes, Extras(mismatch=torch.ones(2 * count)))

    def step() -> None:
        gan.step(pair, torch.Generator().manual_seed(0))
        recognizer.step(Examples(a, (first, real_features(gan.encoder, first, amp))))

    return step


def least_seconds(steps: list[Callable[[], None]], budget: float) -> list[float]:
    """Return the least seconds of each step, which are done in turn, 3 to 6 times, until ``budget`` (s) is spent."""
    least = [float("inf")] * len(steps)
    began, rounds = time.perf_counter(), 0
    while rounds < 3 or rounds < 6 and time.perf_counter() - began < budget:
        for index, step in enumerate(steps):
            step_began = time.perf_counter()
            step()
            if rounds:  # the first round is slower, since it chooses algorithms
                least[index] = min(least[index], time.perf_counter() - step_began)
        rounds += 1
    return least
