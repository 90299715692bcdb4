"""Do the heat maps show what the recognizer needs? Blanks parts of the test faces and prints the probability left.

    python experiments/measure_heat_maps.py checkpoint/checkpoint_demo

The hottest tenth of each face is painted over in the face's mean color; for comparison a random tenth (scattered
places, a square), and the tenth that is hottest in the next face of the list, which shows another expression: the usual
places of a face without what is particular to this one. Intervals are those of the mean over the persons.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402

from datasets.layout import read_layout  # noqa: E402
from datasets.loading import Images, to_float  # noqa: E402
from evaluation.attribution import explained_side  # noqa: E402
from models.checkpoints import TrainedRecognizer, load_recognizer  # noqa: E402

BATCH = 32


def blanked(image: torch.Tensor, heat: torch.Tensor, share: float = 0.1) -> torch.Tensor:
    """The images (N, 3, S, S) with the hottest ``share`` of the positions of (N, S, S) in the image's mean color."""
    count = round(share * heat[0].numel())
    hottest = heat.flatten(1).topk(count, dim=1).indices
    mask = torch.zeros_like(heat.flatten(1), dtype=torch.bool).scatter_(1, hottest, True).view_as(heat)
    return torch.where(mask[:, None], image.mean((2, 3), keepdim=True), image)


def controls(heat: torch.Tensor, random: torch.Generator) -> dict[str, torch.Tensor]:
    """The maps whose hottest share is blanked: (N, S, S) each."""
    n, side = len(heat), heat.shape[-1]
    corner = torch.rand(n, 2, generator=random)
    squares = torch.zeros_like(heat)
    for square, (down, right) in zip(squares, corner):
        width = round(side * 0.1 ** 0.5)
        top, left = int(down * (side - width + 1)), int(right * (side - width + 1))
        square[top:top + width, left:left + width] = 1
    return {"the hottest places": heat, "random places": torch.rand(heat.shape, generator=random),
            "a random square": squares + 1e-3 * torch.rand(heat.shape, generator=random),
            "the hottest places of the next face": heat.roll(1, 0)}


def probabilities_left(trained: TrainedRecognizer, image: torch.Tensor, share: float, random: torch.Generator
                       ) -> dict[str, numpy.ndarray]:
    """Of the expression that was named, for whole and blanked images (N, 3, S, S) in [-1, 1]: (N,) each."""
    predicted = trained.recognize(image).argmax(1)
    heat = trained.heat_maps(image, predicted)
    pictures = {"nothing": image, **{name: blanked(image, places, share)
                                     for name, places in controls(heat, random).items()}}
    return {name: trained.recognize(picture).gather(1, predicted[:, None])[:, 0].numpy()
            for name, picture in pictures.items()}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the run's directory")
    parser.add_argument("--data_dir", help="any data directory (default: that of the run)")
    parser.add_argument("--share", type=float, default=0.1, help="how much of each face is blanked")
    options = parser.parse_args()
    trained = load_recognizer(options.run / "VGG", torch.device("cpu"))
    layout = read_layout(options.data_dir or trained.config["data_dir"], trained.names,
                         known=trained.config.get("listed"), neutral=trained.config.get("neutral_name"))
    images, random = Images(layout.test, trained.image_size, "none"), torch.Generator().manual_seed(0)
    parts = [probabilities_left(trained, to_float(images[part]), options.share, random)
             for part in (range(i, min(i + BATCH, len(images))) for i in range(0, len(images), BATCH))]
    left = {name: numpy.concatenate([part[name] for part in parts]) for name in parts[0]}
    persons = numpy.unique([s.subject or s.name for s in layout.test], return_inverse=True)[1]
    print(f"{options.run} on {len(images)} test images of {persons.max() + 1} persons, maps of VGG stage "
          f"{explained_side(trained.image_size)}\n\n| blanked ({100 * options.share:.0f} % of the face) | probability "
          "left | lowered by (95 % interval) |\n|---|---|---|")
    for name, values in left.items():
        lowered = numpy.bincount(persons, left["nothing"] - values) / numpy.bincount(persons)
        low, high = stats.t.interval(0.95, len(lowered) - 1, lowered.mean(), stats.sem(lowered)) \
            if name != "nothing" and len(lowered) > 1 else (0.0, 0.0)
        interval = f"{lowered.mean():.3f} ({low:.3f} to {high:.3f})" if name != "nothing" else ""
        print(f"| {name} | {values.mean():.3f} | {interval} |")


if __name__ == "__main__":
    main()
