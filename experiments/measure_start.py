"""How much of the first codes' power differs between faces, with torch's biases and with zero ones?

    python experiments/measure_start.py datasets/demo

An encoder at its start (seed 0, base width 16) looks at the first 120 test images at 64 px.
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
from models.generator import Encoder  # noqa: E402
from models.beyond import zero_biases  # noqa: E402

IMAGES, SIDE, WIDTH = 120, 64, 16


@torch.inference_mode()
def differing(encoder: Encoder, faces: Tensor) -> float:
    """The share in % of the power of the codes of faces (N, 3, S, S) that is not their mean's."""
    code, _ = encoder(faces)
    return float(100 * (code - code.mean(0)).square().mean() / code.square().mean())


def main() -> None:
    """Print both shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DIR", help="a data directory, like the demo's")
    options = parser.parse_args()
    images = Images(read_layout(options.data, None).test[:IMAGES], SIDE, "ram")
    faces = torch.cat([image for image, _ in images.evaluation_batches(IMAGES, torch.device("cpu"))])
    torch.manual_seed(0)
    encoder = Encoder(WIDTH)
    print(f"torch's biases: {differing(encoder, faces):.1f} %")
    zero_biases(encoder)
    print(f"zero biases: {differing(encoder, faces):.1f} %")


if __name__ == "__main__":
    run_command(main)
