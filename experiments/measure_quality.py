"""Time to quality: seconds of GAN training until the judge sees the target expression in so many of the swaps.

    python experiments/measure_quality.py
    python experiments/measure_quality.py --target 95 --every 2 -- --lambda_adv_loss 0.2

The demo's training, stopped after every few GAN epochs for ``--mode evaluate`` and gone on with, exactly, by
``--restore``. Flags behind ``--`` go to ``train.py``. Seconds are those of the GAN's steps alone (``log/speed.csv``):
without the perceptual network, the recognizer, saving and judging.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

from running import REPOSITORY, train


class Point(NamedTuple):
    """How good the swaps are after so many epochs: seconds of GAN steps, transfer in %, Fréchet distance."""

    epoch: int
    seconds: float
    transfer: float
    frechet: float


def gan_seconds(run: Path) -> float:
    """Seconds of the GAN's steps so far, from the images per second of each epoch."""
    options = json.loads((run / "options.json").read_text())
    listed, kept_aside = (len(path.read_text().splitlines()) for path in (
        REPOSITORY / options["data_dir"] / "images.list", run / "splits" / "images_val.list"))
    images = listed - kept_aside
    of_epoch = max(1, images // options["batch_size"]) * options["batch_size"]
    with open(run / "log" / "speed.csv", newline="") as handle:
        return sum(of_epoch / float(row["value"]) for row in csv.DictReader(handle)
                   if row["phase"] == "gan" and row["name"] == "images_per_second")


def measured(run: Path, epochs: int, more: list[str]) -> Point:
    """Train on to so many epochs, and judge."""
    start = ["--restore"] if run.is_dir() else ["--preset", "demo", "--round_epochs", "0", *more]
    directory, output = ["--checkpoint_dir", str(run)], run.with_name("output.txt")
    train([*directory, *start, "--epochs", str(epochs)], output)
    train([*directory, "--mode", "evaluate", "--restore"], output)
    figures = json.loads((run / "synthesis.json").read_text())
    return Point(epochs, gan_seconds(run), figures["transfer"], figures["fid"])


def main() -> None:
    """Print a row for each stop, and the first that is good enough."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", type=float, default=90, help="share of swaps in %%")
    parser.add_argument("--every", type=int, default=3, help="GAN epochs between two judgements")
    parser.add_argument("--most", type=int, default=30, help="GAN epochs after which it gives up")
    parser.add_argument("flags", nargs="*", help="flags of train.py, behind --")
    options = parser.parse_args()
    print("| epochs | seconds of GAN training | transferred | Fréchet |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for epochs in range(options.every, options.most + 1, options.every):
            point = measured(Path(folder) / "run", epochs, options.flags)
            print(f"| {point.epoch} | {point.seconds:.0f} | {point.transfer:.1f} % | {point.frechet:.2f} |", flush=True)
            if point.transfer >= options.target:
                print(f"\n{options.target:g} % after {point.seconds:.0f} s of GAN training")
                return
    print(f"\n{options.target:g} % not reached")


if __name__ == "__main__":
    main()
