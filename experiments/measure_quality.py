"""Measure the seconds of GAN training until the judge recognizes the target expression in enough swaps.

    python experiments/measure_quality.py
    python experiments/measure_quality.py --target 95 --every 2 -- --lambda_adv_loss 0.2

The demo's training is stopped after every few GAN epochs for ``--mode evaluate`` and resumed exactly with
``--restore``. Flags after ``--`` are passed to ``train.py``. Seconds are those of the GAN's steps (``log/speed.csv``),
without the perceptual network, the recognizer, saving and evaluation.
"""

import argparse
import csv
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

from running import REPOSITORY, train


class Point(NamedTuple):
    """The quality of the swaps after an epoch: seconds of GAN steps so far, transfer in percent, Fréchet distance."""

    epoch: int
    seconds: float
    transfer: float
    frechet: float


def gan_seconds(run: Path) -> float:
    """Return the seconds of the GAN's steps so far, computed from the images per second of each epoch."""
    options = json.loads((run / "options.json").read_text())
    listed, validation = (len(path.read_text().splitlines()) for path in (
        REPOSITORY / options["data_dir"] / "images.list", run / "splits" / "images_val.list"))
    images = max(1, (listed - validation) // options["batch_size"]) * options["batch_size"]  # of an epoch
    with open(run / "log" / "speed.csv", newline="") as handle:
        return sum(images / float(row["value"]) for row in csv.DictReader(handle)
                   if row["phase"] == "gan" and row["name"] == "images_per_second")


def measure(run: Path, epochs: int, flags: list[str]) -> Point:
    """Start or resume the training up to ``epochs``, and evaluate it."""
    start = ["--restore"] if run.is_dir() else ["--preset", "demo", "--round_epochs", "0", *flags]
    directory, output = ["--checkpoint_dir", str(run)], run.with_name("output.txt")
    train([*directory, *start, "--epochs", str(epochs)], output)
    train([*directory, "--mode", "evaluate", "--restore"], output)
    figures = json.loads((run / "synthesis.json").read_text())
    return Point(epochs, gan_seconds(run), figures["transfer"], figures["fid"])


def main() -> None:
    """Print a row for each evaluation, and the time of the first that reaches the target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", type=float, default=90, help="share of swaps in %%")
    parser.add_argument("--every", type=int, default=3, help="GAN epochs between two judgements")
    parser.add_argument("--most", type=int, default=30, help="GAN epochs after which it gives up")
    parser.add_argument("flags", nargs="*", help="flags of train.py, behind --")
    options = parser.parse_args()
    print("| epochs | seconds of GAN training | transferred | Fréchet |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for epochs in range(options.every, options.most + 1, options.every):
            point = measure(Path(folder) / "run", epochs, options.flags)
            print(f"| {point.epoch} | {point.seconds:.0f} | {point.transfer:.1f} % | {point.frechet:.2f} |", flush=True)
            if point.transfer >= options.target:
                print(f"\n{options.target:g} % after {point.seconds:.0f} s of GAN training")
                return
    print(f"\n{options.target:g} % not reached")


if __name__ == "__main__":
    main()
