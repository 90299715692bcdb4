"""Measure how much of the power of an untrained encoder's codes differs between faces, with and without biases.

    python experiments/measure_start.py datasets/demo

The encoder (seed 0, base width 16) encodes the first 120 test images at 64 px with torch's initial biases and with zero
ones.
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
from models.networks import Encoder, zero_biases  # noqa: E402

IMAGES, SIDE, WIDTH = 120, 64, 16


@torch.inference_mode()
def differing_power(encoder: Encoder, faces: Tensor) -> float:
    """Return the percentage of the power of the codes of faces (N, 3, S, S) that differs from their mean."""
    code, _ = encoder(faces)
    return float(100 * (code - code.mean(0)).square().mean() / code.square().mean())


def main() -> None:
    """Print the percentage with both kinds of biases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DIR", help="a data directory, like the demo's")
    options = parser.parse_args()
    images = Images(read_layout(options.data, None).test[:IMAGES], SIDE, "ram")
    faces = torch.cat([image for image, _ in images.evaluation_batches(IMAGES, torch.device("cpu"))])
    torch.manual_seed(0)
    encoder = Encoder(WIDTH)
    print(f"torch's biases: {differing_power(encoder, faces):.1f} %")
    zero_biases(encoder)
    print(f"zero biases: {differing_power(encoder, faces):.1f} %")


if __name__ == "__main__":
    run_command(main)
