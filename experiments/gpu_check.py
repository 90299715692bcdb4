"""Check on a GPU, in less than eight minutes, everything that cannot be tested without one.

    python experiments/gpu_check.py
    python experiments/gpu_check.py --size tiny --device cpu --checks device fidelity training

It prints a Markdown table and writes it to ``--output``: whether losses and swaps equal those of the CPU in each
precision, one epoch of each phase in float32, bf16 and fp16, exact resume, speed and memory at the
paper's size, also of the published code's way of working, and two GPUs beside one. Checks that are not possible are
listed as "not tested". The exit status is 1 if a result is outside its bound ("NO") or a check fails.
"""

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

import torch  # noqa: E402

import utils  # noqa: E402
from datasets.drawing.data_set import make_dataset  # noqa: E402
from models.gan import SwapGAN  # noqa: E402
from models.networks import VGG, Pair, Perceptual, VGG_fx  # noqa: E402
from models.recognizer import Examples, Recognizer, real_features  # noqa: E402
from options.config import GANRecipe, GANShape  # noqa: E402
from utils import pick_device, run_command  # noqa: E402

MINUTES = 8.0
WIDTHS = {"tiny": {"image_size": 32, "base_width": 4, "vgg_width": 4, "fc_width": 16, "batch_size": 4,
                   "vgg_batch_size": 8},
          "paper": {"image_size": 64, "base_width": 32, "vgg_width": 32, "fc_width": 512, "batch_size": 8,
                    "vgg_batch_size": 12}}  # of the short trainings; the benchmark uses the paper's
AMPS = {"float32": "off", "bf16": "bf16", "fp16": "fp16"}
DTYPES = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
NEAR_CPU = {"float32": 1e-3, "bf16": 5e-2, "fp16": 5e-2}  # bounds of the difference to the CPU's step in float32
NEAR_FLOAT32 = 0.1  # bound of the relative difference of an epoch's mean losses to those of float32
NEAR_ONE_GPU = 1e-3  # bound of the relative difference of the first losses of two GPUs to those of one
GAN_STEP_GIB, FACTOR = 10.0, 4.0  # bounds of the memory of a step, and of the speed beside the published way
LEAST = {"gan_step": ("peak_share", 0.25), "recognizer_step": ("peak_share", 0.35),
         "evaluation": ("images_per_second", 2000.0)}  # bounds of the speed in bf16


class Row(NamedTuple):
    """One line of the table."""

    check: str
    result: str
    details: str = ""


class NotTested(Exception):
    """The reason why a check is not possible."""


class Failed(Exception):
    """The error of a command that failed."""


class Checks:
    """The checks on one device; each yields its rows of the table."""

    def __init__(self, size: str, device: torch.device, folder: Path) -> None:
        self.size, self.device, self.folder = size, device, folder
        self.ends = time.monotonic() + 60 * MINUTES
        self.gpu = "-1" if device.type == "cpu" else str(device.index or 0)

    def device_row(self) -> Iterator[Row]:
        """Describe the device and the versions."""
        versions = f"torch {torch.__version__}, Python {sys.version.split()[0]}"
        if self.device.type == "cpu":
            yield Row("device", "CPU", f"{torch.get_num_threads()} threads, {versions}")
            return
        properties = torch.cuda.get_device_properties(self.device)
        yield Row("device", properties.name, f"{properties.total_memory / 2 ** 30:.0f} GiB, capability "
                  f"{properties.major}.{properties.minor}, CUDA {torch.version.cuda}, {versions}")

    def fidelity(self) -> Iterator[Row]:
        """Compare the same step on the CPU in float32 and on the device, in each precision and as a training does it.

        A step whose discriminators' update is skipped must leave them unchanged.
        """
        device = pick_device([int(self.gpu)])  # switches TF32 off
        on_cpu = one_step(torch.device("cpu"))
        for name, dtype in DTYPES.items():
            if name == "fp16" and device.type == "cpu":
                continue
            on_device = one_step(device, dtype)
            differences = {key: difference(on_cpu[key], on_device[key]) for key in on_cpu}
            key = max(differences, key=differences.get)
            yield Row(f"losses and swaps of a step in {name} equal the CPU's in float32",
                      verdict(differences[key] < NEAR_CPU[name]), f"largest difference {differences[key]:.1e}, {key}")
        skipping = one_step(device, G_max=0.0)
        yield Row("a skipped update of the discriminators changes nothing", verdict(not skipping["change of D"].any()),
                  f"largest change {float(skipping['change of D'].max()):.1e}")

    def training(self) -> Iterator[Row]:
        """Train one epoch of each phase in each precision; the mean losses must be near those in float32."""
        exact: dict[str, float] = {}
        for name, amp in AMPS.items():
            if name == "fp16" and self.device.type == "cpu":
                yield Row(f"training in {name}", "not tested", "needs a GPU")
                continue
            run = self.folder / f"run_{name}"
            self.train(run, "--amp", amp)
            means = mean_losses(run)
            exact = exact or means
            farthest = max(abs(means[key] / exact[key] - 1) for key in exact)
            yield Row(f"training in {name}", verdict(farthest < NEAR_FLOAT32),
                      f"mean losses within {100 * farthest:.0f} % of float32's; {speeds(run)}")

    def resume(self) -> Iterator[Row]:
        """Compare a run that is stopped and resumed with one that is not."""
        if sys.platform == "win32":
            raise NotTested("Windows has no signal after which a run saves its state")
        whole, stopped = self.folder / "whole", self.folder / "stopped"
        flags = ["--epochs", "2", "--deterministic"]
        self.train(whole, *flags)
        process = subprocess.Popen([*self.command(stopped), *flags], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
                                   stderr=subprocess.DEVNULL)
        for line in process.stdout:
            if "gan epoch 1 " in line:
                process.send_signal(signal.SIGTERM)
        if process.wait() != 128 + signal.SIGTERM:
            raise Failed(f"the run did not stop at the signal (status {process.returncode})")
        self.train(stopped, "--restore", new=False)
        ours, theirs = (torch.load(run / "model" / "Dec_iter_temp.pth", weights_only=True) for run in (whole, stopped))
        largest = max(float((ours[key] - theirs[key]).abs().max()) for key in ours)
        yield Row("resumed run ends like an undisturbed one", verdict(largest == 0),
                  "bit for bit" if largest == 0 else f"weights differ by up to {largest:.1e}")

    def benchmark(self) -> Iterator[Row]:
        """Measure speed and memory at the paper's size, also of the published code's way of working."""
        for dtype in ("float32", "bf16"):
            flags = ["--imitate_reference"] if dtype == "float32" else []
            rows, peak = self.measured("--dtype", dtype, *flags)
            for phase in ("gan_step", "recognizer_step", "evaluation"):
                yield speed_row(phase, dtype, rows[phase], peak)
            if flags:
                factor = rows["imitated_gan_step"]["milliseconds"] / rows["gan_step"]["milliseconds"]
                yield Row("GAN step against the reference's way, float32", verdict(factor >= FACTOR),
                          f"{factor:.1f} times faster; bound: {FACTOR:g} times")
            gib = rows["gan_step"]["peak_gib"]
            yield Row(f"memory of a GAN step, {dtype}", verdict(gib < GAN_STEP_GIB),
                      f"{gib:.1f} GiB; bound: {GAN_STEP_GIB:g} GiB")

    def two_gpus(self) -> Iterator[Row]:
        """Train the same run on one GPU and on two, or in one process and two on the CPU, and compare the losses."""
        if self.device.type == "cuda" and torch.cuda.device_count() < 2:
            raise NotTested("there are no two GPUs")
        flags = ["--amp", "off", "--deterministic"]
        one, two = self.folder / "one", self.folder / "two"
        self.train(one, *flags)
        if self.device.type == "cuda":
            self.train(two, *flags, "--gpu", "0", "1")
        else:
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
            python, *command = self.command(two)
            self.call([python, *launcher, *command, *flags])
        ours, theirs = first_losses(one), first_losses(two)
        farthest = max(abs(theirs[key] / ours[key] - 1) for key in ours)
        yield Row("two GPUs train like one" if self.device.type == "cuda" else "two processes train like one",
                  verdict(farthest < NEAR_ONE_GPU),
                  f"first losses within {farthest:.1e}; {speeds(two)}, in place of {speeds(one)}")

    # -------------------------------------------------------------------------------------------- commands

    def command(self, run: Path) -> list[str]:
        """Return the command of a short training of all phases on drawn faces."""
        faces = self.folder / "faces"
        if not faces.is_dir():
            make_dataset(faces, image_size=WIDTHS[self.size]["image_size"], subjects_test=2, scenes=1,
                         subjects_train=4 if self.size == "tiny" else 20)
        widths = [f"--{name}={value}" for name, value in WIDTHS[self.size].items()]
        return [sys.executable, "train.py", "--data_dir", str(faces), "--checkpoint_dir", str(run), *widths,
                "--vgg_init=none", "--perceptual_epochs=1", "--epochs=1", "--round_every=1", "--round_epochs=1",
                "--force", "--gpu", self.gpu]

    def train(self, run: Path, *flags: str, new: bool = True) -> None:
        """Run the short training from its start, or resume it."""
        command = self.command(run) if new else \
            [sys.executable, "train.py", "--checkpoint_dir", str(run), "--force", "--gpu", self.gpu]
        self.call([*command, *flags])

    def measured(self, *flags: str) -> tuple[dict[str, dict[str, Any]], float]:
        """Run the benchmark, and return its rows by phase and the peak in FLOP/s."""
        json_file = self.folder / "benchmark.json"
        sizes = ["--sizes", "paper"] if self.size == "paper" else \
            ["--sizes", "demo", *(f"--{name}={value}" for name, value in WIDTHS["tiny"].items())]
        phases = [] if "--phases" in flags else ["--phases", "gan_step", "recognizer_step", "evaluation"]
        seconds = "0" if self.size == "tiny" else "4"
        self.call([sys.executable, "experiments/benchmark.py", *sizes, *phases, "--seconds", seconds, "--device",
                   str(self.device), "--json", str(json_file), *flags])
        report = json.loads(json_file.read_text())
        return {row["phase"]: row for row in report["phases"]}, report["peak_flops"]

    def call(self, command: list[str]) -> None:
        """Run a command within the remaining time. Raises NotTested if it takes longer, Failed if it fails."""
        remaining = self.ends - time.monotonic()
        if remaining < 10:
            raise NotTested(f"the {MINUTES:g} minutes are over")
        environment = {**os.environ, **({} if self.device.type == "cuda" else {"CUDA_VISIBLE_DEVICES": ""})}
        try:
            result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=remaining,
                                    env=environment)
        except subprocess.TimeoutExpired:
            raise NotTested(f"took longer than the {remaining:.0f} s that were left") from None
        if result.returncode:
            lines = [line for line in result.stderr.splitlines() if line.strip()] or ["no output"]
            raise Failed(f"{command[1]} ended with status {result.returncode}: {lines[-1][:200]}")


def one_step(device: torch.device, dtype: torch.dtype | None = None, G_max: float = 1e9) -> dict[str, torch.Tensor]:
    """Return the losses of one GAN and one recognizer step by name, the swaps after it, and the change of D's weights.

    Two GAN steps are done: with a ``G_max`` of 0 the second skips the update of the discriminators.
    """
    torch.manual_seed(0)
    gan = SwapGAN(GANShape(3, 64, 8), GANRecipe(G_max=G_max, std=0.0), Perceptual(VGG(3, 8, 16).features), device,
                  dtype)
    network = VGG_fx(3, 8, 32, 8)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    recognizer = Recognizer(network, device=device, amp=dtype)
    faces = (2 * torch.rand(2, 6, 3, 64, 64, generator=torch.Generator().manual_seed(0)) - 1).to(device)
    a = torch.arange(6, device=device) % 3
    pair = Pair(*(images.contiguous(memory_format=torch.channels_last) for images in faces), a, (a + 1) % 3)
    values = {f"loss {name}": value for name, value in gan.step(pair).items() if name != "D_updated"}
    before = flat(gan.discriminators)
    gan.step(pair)
    examples = Examples(a, (faces[0], real_features(gan.encoder, faces[0], dtype)))
    values["loss of the recognizer"] = recognizer.step(examples)["loss"]
    values["swap"] = gan.swap(pair)[0]
    values["change of D"] = (flat(gan.discriminators) - before).abs()
    return {name: value.detach().float().cpu() for name, value in values.items()}


def flat(network: torch.nn.Module) -> torch.Tensor:
    """Return a copy of all weights of a network in one row."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()])


def mean_losses(run: Path) -> dict[str, float]:
    """Return the mean of the total loss of each phase of a short training."""
    values: dict[str, list[float]] = {}
    for row in read_csv(run / "log" / "metrics.csv"):
        if row["name"] in ("G", "loss"):
            values.setdefault(row["phase"], []).append(float(row["value"]))
    return {phase: sum(losses) / len(losses) for phase, losses in values.items()}


def first_losses(run: Path) -> dict[str, float]:
    """Return the total losses with which stage 0 and the GAN begin; the GAN's depends on all steps of stage 0."""
    rows = [row for row in read_csv(run / "log" / "metrics.csv") if row["name"] in ("G", "loss")]
    return {row["phase"]: float(row["value"]) for row in rows
            if row["phase"] in ("perceptual", "gan") and row["step"] == "0"}


def speeds(run: Path) -> str:
    """Return the images per second of each phase of a short training."""
    rows = read_csv(run / "log" / "speed.csv")
    return ", ".join(f"{row['phase']} {float(row['value']):.0f} images/s" for row in rows)


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest difference, divided by the largest value of ``a`` if that is above 1."""
    return float((a - b).abs().max() / a.abs().max().clamp(min=1))


def speed_row(phase: str, dtype: str, row: dict[str, Any], peak: float) -> Row:
    """Return the row of a phase of the benchmark; the bound is that of bf16."""
    measure, least = LEAST[phase]
    peak_share = f", {100 * row['peak_share']:.0f} % of {peak / 1e12:.1f} TFLOP/s" if row["peak_share"] else ""
    bound = f"{100 * least:.0f} % of the peak" if measure == "peak_share" else f"{least:,.0f} images/s"
    result = verdict((row[measure] or 0) >= least) if dtype == "bf16" else "measured"
    speed = f"{row['milliseconds']:.1f} ms, {row['images_per_second']:.0f} images/s{peak_share}"
    return Row(f"speed of {phase.replace('_', ' ')}, {dtype}", result, f"{speed}; bound in bf16: {bound}")


def verdict(passed: bool) -> str:
    return "yes" if passed else "NO"


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    return "\n".join(["| check | result | |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def main() -> None:
    """Run the checks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=("paper", "tiny"), default="paper", help="tiny: to try this program itself")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu")
    parser.add_argument("--output", type=Path, default=Path("gpu_check.md"), metavar="FILE",
                        help="where the table is written")
    names = {"device": "device_row", "fidelity": "fidelity", "training": "training", "resume": "resume",
             "two_gpus": "two_gpus", "benchmark": "benchmark"}
    parser.add_argument("--checks", nargs="+", choices=names, default=list(names), help="which to make")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise utils.UserError("--device cuda: torch finds no GPU here; try --size tiny --device cpu")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        checks = Checks(options.size, device, Path(folder))
        for name in options.checks:
            check: Callable[[], Iterator[Row]] = getattr(checks, names[name])
            try:
                for row in check():
                    rows.append(row)
                    print(f"| {' | '.join(row)} |", file=sys.stderr, flush=True)
            except NotTested as reason:
                rows.append(Row(name.replace("_", " "), "not tested", str(reason)))
            except (Failed, RuntimeError) as error:  # also torch's own errors, on untested devices
                rows.append(Row(name.replace("_", " "), "FAILED", " ".join(str(error).split())[:200]))
    utils.write_text(options.output, table(rows) + "\n")
    print(table(rows))
    if any(row.result in ("NO", "FAILED") for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    run_command(main)
