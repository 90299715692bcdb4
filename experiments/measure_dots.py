"""Measure dots, specks and color in the changes that swaps and reconstructions make, for each run.

    python experiments/measure_dots.py checkpoint/claim/wild_0_gan checkpoint/checkpoint_demo

The power spectrum of the change of the test images is compared at a period of two pixels, across, down and both, with
the median of the neighboring frequencies: 1 means no grid of dots. A row of the test images themselves shows the values
of real faces. Specks are the part of the power at periods below three pixels, color the part that differs between the
channels.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from running import REPOSITORY

sys.path.insert(0, str(REPOSITORY))

from utils import run_command  # noqa: E402
from datasets.layout import read_layout  # noqa: E402
from datasets.loading import Images  # noqa: E402
from models.checkpoints import gan_config, load_swap_gan  # noqa: E402
from commands.evaluate import trials  # noqa: E402
from commands.trained import subject_numbers  # noqa: E402


def peaks(images: Tensor) -> list[float]:
    """Return the power of images (N, 3, S, S) at a period of two pixels (across, down, both).

    It is relative to the median of the neighboring frequencies.
    """
    power, half = torch.fft.fft2(images).abs().square().mean((0, 1)), images.shape[-1] // 2
    offsets = [(i, j) for i in range(-2, 3) for j in range(-2, 3) if max(abs(i), abs(j)) == 2]
    relative = []
    for y, x in ((0, half), (half, 0), (half, half)):
        neighbors = torch.stack([power[(y + i) % len(power), (x + j) % len(power)] for i, j in offsets])
        relative.append(float(power[y, x] / neighbors.median()))
    return relative


def specks(images: Tensor) -> float:
    """Return the percentage of the power of images (N, 3, S, S) without mean at periods below three pixels."""
    power = torch.fft.fft2(images).abs().square().mean((0, 1))
    power[0, 0] = 0
    frequency = torch.fft.fftfreq(len(power))
    return float(100 * power[frequency[:, None].square() + frequency.square() > 1 / 9].sum() / power.sum())


def color(images: Tensor) -> float:
    """Return the percentage of the power of images (N, 3, S, S) that differs between the channels."""
    return float(100 * (images - images.mean(1, keepdim=True)).square().mean() / images.square().mean())


def measure(run: Path) -> dict[str, list[float]]:
    """Return the figures of a run's test images, and of the changes by its swaps and reconstructions."""
    config = gan_config(run / "model")
    names, device = config["expressions"], torch.device("cpu")
    gan = load_swap_gan(run / "model", None, names, config["image_size"], device)
    test = read_layout(config["data_dir"], names).test
    faces, swapped, rebuilt = [], [], []
    for trial in trials(Images(test, config["image_size"], "ram"), subject_numbers(test), device, 0):
        face, edits = trial.pair.image_a, gan.edits(trial.pair)
        faces.append(face)
        swapped.append(edits.c - face)
        rebuilt.append(edits.a_rebuilt - face)
    changes = {"the images": torch.cat(faces), "swaps": torch.cat(swapped), "reconstructions": torch.cat(rebuilt)}
    return {kind: [*peaks(images), specks(images), color(images)] for kind, images in changes.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="directories with a run's networks")
    options = parser.parse_args()
    print("| run | | across | down | both | specks % | color % |\n|---|---|---|---|---|---|---|")
    for run in options.runs:
        for kind, figures in measure(run).items():
            print(f"| {run.name} | {kind} | " + " | ".join(f"{value:.1f}" for value in figures) + " |", flush=True)


if __name__ == "__main__":
    run_command(main)
