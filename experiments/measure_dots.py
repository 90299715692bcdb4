"""How much of what the swaps change are dots, specks and color? A table, a row for each run.

    python experiments/measure_dots.py checkpoint/claim/wild_0_gan checkpoint/checkpoint_demo

What the swaps and the reconstructions of the test images add to them, as power over frequency: what it has at a period
of two pixels, across, down and both, over the median of the frequencies around. 1 is no grid; a row of the test images
themselves says what real faces have. Specks are the share of the power at periods below three pixels, color that of
what differs between the channels.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from running import REPOSITORY

sys.path.insert(0, str(REPOSITORY))

from system.command import run_command  # noqa: E402
from datasets.layout import read_layout  # noqa: E402
from datasets.loading import Images  # noqa: E402
from models.checkpoints import gan_config, load_swap_gan  # noqa: E402
from commands.evaluate import trials  # noqa: E402
from commands.trained import subject_numbers  # noqa: E402


def peaks(images: Tensor) -> list[float]:
    """Power (across, down, both) at a period of two pixels in (N, 3, S, S), over the median of the frequencies
    around.
    """
    power, half = torch.fft.fft2(images).abs().square().mean((0, 1)), images.shape[-1] // 2
    around = [(i, j) for i in range(-2, 3) for j in range(-2, 3) if max(abs(i), abs(j)) == 2]
    found = []
    for y, x in ((0, half), (half, 0), (half, half)):
        beside = torch.stack([power[(y + i) % len(power), (x + j) % len(power)] for i, j in around])
        found.append(float(power[y, x] / beside.median()))
    return found


def specks(images: Tensor) -> float:
    """The share in % of the power of (N, 3, S, S), without its mean, at periods below three pixels."""
    power = torch.fft.fft2(images).abs().square().mean((0, 1))
    power[0, 0] = 0
    frequency = torch.fft.fftfreq(len(power))
    return float(100 * power[frequency[:, None].square() + frequency.square() > 1 / 9].sum() / power.sum())


def color(images: Tensor) -> float:
    """The share in % of the power of (N, 3, S, S) that is not common to its channels."""
    return float(100 * (images - images.mean(1, keepdim=True)).square().mean() / images.square().mean())


def measured(run: Path) -> dict[str, list[float]]:
    """The figures of a run's test images, and of what its swaps and reconstructions add to them."""
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
    found = {"the images": torch.cat(faces), "swaps": torch.cat(swapped), "reconstructions": torch.cat(rebuilt)}
    return {what: [*peaks(images), specks(images), color(images)] for what, images in found.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="directories with a run's networks")
    options = parser.parse_args()
    print("| run | | across | down | both | specks % | color % |\n|---|---|---|---|---|---|---|")
    for run in options.runs:
        for what, found in measured(run).items():
            print(f"| {run.name} | {what} | " + " | ".join(f"{value:.1f}" for value in found) + " |", flush=True)


if __name__ == "__main__":
    run_command(main)
