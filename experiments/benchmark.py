"""Measure the speed of each part of a training, also relative to the machine's peak.

    python experiments/benchmark.py --sizes demo
    python experiments/benchmark.py --sizes demo --imitate_reference
    python experiments/benchmark.py --sizes paper --phases gan_step --batch_size 4

It prints for each phase: median and quartiles of the time, images/s, GFLOP per image (torch.utils.flop_counter), the
FLOP/s as a part of the peak, the process's peak memory (the GPU's on a GPU), and the bytes written to files. The peak
is the most that large matrix products and convolutions of the same dtype reach between the runs; a phase above it is
an error, since the machine was then busier while the peak was measured.

``--imitate_reference`` also measures the GAN step and the round as the published code works (experiments/imitation.py),
with the same networks in float32. Both take turns, so that other load on the machine affects both, and the imitation
has a process of its own with the system's default allocator.
"""

import argparse
import contextlib
import multiprocessing
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402

import imitation  # noqa: E402
import utils  # noqa: E402
from datasets.crops import Cutter, Picture, Preparation  # noqa: E402
from datasets.layout import Layout, read_layout  # noqa: E402
from datasets.loading import Images, load  # noqa: E402
from datasets.plans import gan_plan, recognizer_plan  # noqa: E402
from datasets.splits import training_pairs  # noqa: E402
from datasets.drawing.data_set import make_dataset  # noqa: E402
from models.checkpoints import TrainedRecognizer  # noqa: E402
from models.gan import SwapGAN  # noqa: E402
from models.networks import VGG, Pair, Perceptual, VGG_fx  # noqa: E402
from models.recognizer import Examples, Recognizer, evaluate, real_features  # noqa: E402
from options.config import GANRecipe, GANShape  # noqa: E402
from training.phases import with_codes  # noqa: E402
from training.run_directory import StateStore  # noqa: E402
from commands.recognize import LARGE_BATCH, recognized_pictures  # noqa: E402
from peak import flops_of, peak_flops  # noqa: E402
from resources import bytes_written, peak_memory, reset_peak_memory  # noqa: E402
from utils import keep_freed_memory, synchronize  # noqa: E402

SIZES = {"paper": {"image_size": 256, "base_width": 64, "vgg_width": 64, "fc_width": 4096, "batch_size": 10,
                   "vgg_batch_size": 12},
         "demo": {"image_size": 64, "base_width": 16, "vgg_width": 8, "fc_width": 256, "batch_size": 16,
                  "vgg_batch_size": 16}}
PHASES = ("gan_step", "synthesis", "recognizer_step", "evaluation", "loading", "recognize", "round", "save")
IMITATED = ("gan_step", "round")
HALVES = ("_gan", "_recognizer")  # the two parts of a round
BLOCKS = 4
EVALUATED = 64


@dataclass(frozen=True)
class Figures:
    """The measured values of a phase; None where one does not apply."""

    phase: str
    images: int
    milliseconds: float
    quartiles: tuple[float, float]
    images_per_second: float
    gflop_per_image: float | None
    peak_share: float | None
    peak_gib: float
    bytes_written: int
    peak: float
    first_seconds: float


class Block(NamedTuple):
    """Consecutive runs of a phase: seconds of each, peak memory, bytes per run, and the device's peak FLOP/s."""

    seconds: list[float]
    peak_gib: float
    written: int
    peak: float


class Bench:
    """The networks and images of one size on a device, with a method for each phase."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.device, self.folder = options, torch.device(options.device), folder
        self.amp = {"float32": None, "bf16": torch.bfloat16}[options.dtype]
        torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = True, False  # as in a training
        torch.manual_seed(0)
        shape = GANShape(6, options.image_size, options.base_width)
        self.features = VGG(6, options.vgg_width, options.fc_width).features.to(self.device).requires_grad_(False)
        recipe = GANRecipe(G_max=1e9, alpha5=options.alpha5)
        self.gan = SwapGAN(shape, recipe, Perceptual(self.features), self.device, self.amp)
        network = VGG_fx(6, options.vgg_width, options.fc_width, options.base_width)
        self.recognizer = Recognizer(network, device=self.device, amp=self.amp)
        self.pair = self._pair(options.batch_size)
        self.vgg_pair = self._pair(options.vgg_batch_size)
        self.evaluated = self._pair(EVALUATED)

    @cached_property
    def imitated(self) -> SwapGAN:
        """The GAN of the imitated phases."""
        return imitation.imitated_gan(self.gan, self.features)

    @cached_property
    def imitated_recognizer(self) -> Recognizer:
        """The recognizer of the imitated phases."""
        return imitation.imitated_recognizer(self.recognizer)

    def _pair(self, n: int) -> Pair:
        side, random = self.options.image_size, torch.Generator().manual_seed(n)
        images = (torch.rand(n, 3, side, side, generator=random) * 2 - 1 for _ in range(2))
        a = torch.zeros(n, dtype=torch.long, device=self.device)
        b = 1 + torch.arange(n, device=self.device) % 5
        return Pair(*(image.to(self.device, memory_format=torch.channels_last) for image in images), a, b)

    def gan_step(self) -> None:
        self.gan.step(self.pair)

    def imitated_gan_step(self) -> None:
        imitation.gan_step(self.imitated, self.pair, torch.Generator().manual_seed(0))

    def synthesis(self) -> None:
        self.gan.synthesize(*self.vgg_pair[:2], self.vgg_pair.b, self.vgg_pair.a)

    def recognizer_step(self) -> None:
        image = self.vgg_pair.image_a
        self.recognizer.step(Examples(self.vgg_pair.b, (image, real_features(self.gan.encoder, image, self.amp))))

    def evaluation(self) -> None:
        evaluate(self.recognizer, self.gan.encoder, [(self.evaluated.image_a, self.evaluated.b)], 6)

    # ------------------------------------------------------------------------------------------ with files

    def layout(self) -> Layout:
        """Return the lists of drawn faces of ``--persons`` persons; draw them at the first call."""
        root = self.folder / "faces"
        if not (root / "images.list").is_file():
            make_dataset(root, image_size=self.options.image_size, subjects_train=self.options.persons,
                         subjects_test=max(1, 3 * self.options.persons // 7))
        return read_layout(root)

    def loading(self) -> None:
        Images(self.layout().train, self.options.image_size, cache="ram")

    def recognize(self) -> None:
        """Recognize all training images like ``--mode recognize``, from their files to probabilities."""
        paths = [sample.path for sample in self.layout().train]
        cutter = Cutter(Preparation(self.options.image_size, None, None, 0.0))
        config = {"expressions": self.layout().expressions}
        trained = TrainedRecognizer(self.recognizer, self.gan.encoder, config, 0.0, 0)
        for _ in recognized_pictures(map(Picture, paths), len(paths), cutter, trained, 0, LARGE_BATCH):
            pass

    def save(self) -> None:
        """Write a training state of GAN and recognizer with its checksum, as a training does."""
        state = {"gan": self.gan.state_dict(), "recognizer": self.recognizer.state_dict()}
        StateStore(self.folder / "state").save(state)

    @cache
    def images(self) -> list[Images]:
        """Return training and test images, decoded once as in a training; the phase ``loading`` measures that."""
        layout = self.layout()
        return [Images(samples, self.options.image_size, "ram") for samples in (layout.train, layout.test)]

    def round_gan(self) -> None:
        """Do the first half of a round: one GAN epoch."""
        options, layout, pinned = self.options, self.layout(), self.device.type == "cuda"
        images, _ = self.images()
        for step, batch in enumerate(load(images, gan_plan(layout.train, options.batch_size, 0, 0), 0, pinned)):
            batch = batch.to(self.device)
            pair = Pair(batch.first, batch.second, batch.label, batch.second_label)
            self.gan.step(pair)

    def round_recognizer(self) -> None:
        """Do the second half: a recognizer epoch with six synthesized batches after each real one, an evaluation."""
        options, layout, pinned = self.options, self.layout(), self.device.type == "cuda"
        images, test = self.images()
        pairs = training_pairs(layout, 0, 6)
        labels = np.array([sample.label for sample in layout.train])
        plan = recognizer_plan(labels, pairs, options.vgg_batch_size, 6, True, 0, 0)
        for examples in with_codes(load(images, plan, 0, pinned), self.gan, 7):
            self.recognizer.step(examples)
        evaluate(self.recognizer, self.gan.encoder, test.evaluation_batches(EVALUATED, self.device), 6)

    def imitated_round_gan(self) -> None:
        imitation.gan_epoch(self.imitated, self.layout(), self.options)

    def imitated_round_recognizer(self) -> None:
        imitation.recognizer_epoch(self.imitated, self.imitated_recognizer, self.layout(), self.options,
                                   self.folder / "imitated")

    # ------------------------------------------------------------------------------------------- measuring

    def images_of(self, phase: str) -> int:
        """Return the number of images that a phase processes; for a round, those of all its steps."""
        if phase == "round":
            train, batch = len(self.layout().train), self.options.vgg_batch_size
            return train // self.options.batch_size * self.options.batch_size + train + -(-train // batch) * 6 * batch
        if phase in ("loading", "recognize"):
            return len(self.layout().train)
        return {"gan_step": self.options.batch_size, "evaluation": EVALUATED, "save": 1}.get(
            phase, self.options.vgg_batch_size)

    def first_run(self, phase: str) -> int:
        """Run a phase once and return its operations; 0 for a round, which is not run."""
        if phase.endswith("round"):
            return 0
        return flops_of(getattr(self, phase))[1]

    def block(self, phase: str, budget: float) -> Block:
        """Run a phase once, and again until the budget (seconds) is spent."""
        reset_peak_memory(self.device)
        written, seconds = bytes_written(), []
        while not seconds or sum(seconds) < budget:
            synchronize(self.device)
            began = time.perf_counter()
            getattr(self, phase)()
            synchronize(self.device)
            seconds.append(time.perf_counter() - began)
        return Block(seconds, peak_memory(self.device), (bytes_written() - written) // len(seconds),
                     peak_flops(self.device, self.amp or torch.float32, repeats=6))


class BenchProcess:
    """A process that runs the imitated phases of a :class:`Bench`; to be started before anything is computed."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._pipe, child_pipe = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
        context.Process(target=_serve, args=(options, folder, child_pipe)).start()  # no daemon: it has worker processes
        child_pipe.close()  # so that recv() fails when the child process ends

    def first_run(self, phase: str) -> int:
        """Call :meth:`Bench.first_run` in the process."""
        return self._call("first_run", phase)

    def block(self, phase: str, budget: float) -> Block:
        """Call :meth:`Bench.block` in the process."""
        return self._call("block", phase, budget)

    def end(self) -> None:
        """End the process, unless an error has ended it."""
        with contextlib.suppress(OSError):
            self._pipe.send(None)

    def _call(self, *method_and_arguments: str | float) -> Any:
        self._pipe.send(method_and_arguments)
        return self._pipe.recv()


def _serve(options: argparse.Namespace, folder: Path, pipe: Connection) -> None:
    bench = Bench(options, folder)
    _ = bench.imitated, bench.imitated_recognizer  # built before anything is timed
    for method, *arguments in iter(pipe.recv, None):
        pipe.send(getattr(bench, method)(*arguments))


def measure(phase: str, bench: Bench, imitation_bench: BenchProcess | None) -> list[Figures]:
    """Run a phase in blocks, in turns with the imitated one if there is one; return their figures.

    A round is run once, in halves, so that both variants see the same other load on the machine.
    """
    variants: dict[str, tuple[Bench | BenchProcess, str]] = {phase: (bench, phase)}
    if imitation_bench and phase in IMITATED:
        variants = {f"imitated_{phase}": (imitation_bench, f"imitated_{phase}"), **variants}
    first, blocks = {}, {name: [] for name in variants}
    for name, (runner, method) in variants.items():
        began = time.perf_counter()
        first[name] = runner.first_run(method), time.perf_counter() - began
    for half in HALVES if phase == "round" else [""] * BLOCKS:
        for name, (runner, method) in variants.items():
            blocks[name].append(runner.block(method + half, 0 if half else bench.options.seconds / BLOCKS))
    if phase == "round":
        blocks = {name: [join_halves(halves)] for name, halves in blocks.items()}
    peak = max(block.peak for of_variant in blocks.values() for block in of_variant)
    return [_figures(name, bench.images_of(phase), blocks[name], *first[name], peak) for name in variants]


def join_halves(halves: list[Block]) -> Block:
    """Return the two halves of a round as one block."""
    return Block([sum(half.seconds[0] for half in halves)], max(half.peak_gib for half in halves),
                 sum(half.written for half in halves), max(half.peak for half in halves))


def _figures(phase: str, images: int, blocks: list[Block], flops: int, first_seconds: float, peak: float) -> Figures:
    seconds = [run for block in blocks for run in block.seconds]
    median = float(np.median(seconds))
    peak_share = flops / median / peak if flops else None
    if peak_share and peak_share > 1:
        raise SystemExit(f"{phase}: {peak_share:.2f} of the peak is a mistake; measure again, on a machine without "
                         "other work")
    return Figures(phase, images, 1e3 * median, tuple(1e3 * np.quantile(seconds, (0.25, 0.75))), images / median,
                   flops / images / 1e9 if flops else None, peak_share,
                   max(block.peak_gib for block in blocks), blocks[-1].written, peak, first_seconds)


def table(rows: list[Figures]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| phase | images | first run s | ms (quartiles) | images/s | GFLOP/image | of the peak | peak GiB | "
             "bytes written |", "|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        gflop = "" if row.gflop_per_image is None else f"{row.gflop_per_image:.3g}"
        peak_share = "" if row.peak_share is None else f"{row.peak_share:.2f}"
        low, high = row.quartiles
        lines.append(f"| {row.phase.replace('_', ' ')} | {row.images} | {row.first_seconds:.1f} | "
                     f"{row.milliseconds:.0f} ({low:.0f}–{high:.0f}) | {row.images_per_second:.1f} | {gflop} | "
                     f"{peak_share} | {row.peak_gib:.2f} | {row.bytes_written:,} |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """Return the options, with the values of ``--sizes`` filled in."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", choices=tuple(SIZES), default="demo", help="the paper's sizes, or the demo's")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu",
                        help="cuda, cuda:1 or cpu")
    parser.add_argument("--dtype", choices=("float32", "bf16"), default="float32", help="of the networks' arithmetic")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=PHASES, help="which to measure")
    parser.add_argument("--seconds", type=float, default=10,
                        help=f"time for each phase, in {BLOCKS} blocks of one run at least")
    parser.add_argument("--persons", type=int, help="drawn persons of all that reads files (70; paper on a CPU: 2)")
    parser.add_argument("--alpha5", action="store_true", help="with interpolated images")
    parser.add_argument("--imitate_reference", action="store_true", help="also as the published code works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    for name in SIZES["demo"]:
        parser.add_argument(f"--{name}", type=int, help="instead of that of --sizes")
    options = parser.parse_args()
    for name, value in SIZES[options.sizes].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.persons is None:
        options.persons = 2 if options.sizes == "paper" and options.device == "cpu" else 70
    return options


def main() -> None:
    """Measure the phases, print the table and write the JSON file."""
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        imitation_bench = BenchProcess(options, Path(folder)) if options.imitate_reference else None
        keep_freed_memory()
        bench = Bench(options, Path(folder))
        if {"loading", "recognize", "round"} & set(options.phases):
            bench.layout()
        if "save" in options.phases:
            bench.gan_step()  # the optimizers have a state after a step alone
        if "round" in options.phases:
            bench.images()
        rows: list[Figures] = []
        try:
            for phase in options.phases:
                of_phase = measure(phase, bench, imitation_bench)
                print("\n".join(table(of_phase).splitlines()[2:]), file=sys.stderr)
                rows += of_phase
        finally:
            if imitation_bench:
                imitation_bench.end()
    peak = max(row.peak for row in rows)
    is_gpu = bench.device.type == "cuda"
    name = torch.cuda.get_device_name(bench.device) if is_gpu else f"{torch.get_num_threads()} CPU threads"
    settings: dict[str, Any] = {key: getattr(options, key) for key in ("sizes", "dtype", "persons", *SIZES["demo"])}
    print(f"{name}, torch {torch.__version__}, at best {peak / 1e9:.0f} GFLOP/s; {settings}\n\n{table(rows)}")
    for phase in IMITATED:
        times = {row.phase: row.milliseconds for row in rows if row.phase.endswith(phase)}
        if f"imitated_{phase}" in times:
            print(f"\n{phase.replace('_', ' ')}: {times[f'imitated_{phase}'] / times[phase]:.1f} times faster than the "
                  "reference's way")
    if options.json:
        utils.write_json(options.json, {"device": name, "torch": torch.__version__, "peak_flops": peak,
                                        "settings": settings, "phases": [asdict(row) for row in rows]})


if __name__ == "__main__":
    main()
