"""Measure whether the heat maps show what the recognizer needs: blank parts of the test faces and recognize them again.

    python experiments/measure_heat_maps.py checkpoint/checkpoint_demo

The hottest tenth of each face is painted over in the face's mean color; for comparison a random tenth (scattered
places, a square), and the tenth that is hottest in the next face of the list, which shows another expression: that
blanks the usual places of a face without regard to this one. Intervals are those of the mean over the persons.
"""

import argparse
import sys
from pathlib import Path

import numpy
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402

from datasets.layout import read_layout  # noqa: E402
from datasets.loading import Images, to_float  # noqa: E402
from models.checkpoints import TrainedRecognizer, load_recognizer  # noqa: E402
from models.recognizer import explained_side  # noqa: E402

BATCH = 32


def blanked(image: torch.Tensor, heat: torch.Tensor, fraction: float = 0.1) -> torch.Tensor:
    """Return images (N, 3, S, S) with the hottest ``fraction`` of the positions (N, S, S) in the image's mean color."""
    count = round(fraction * heat[0].numel())
    hottest = heat.flatten(1).topk(count, dim=1).indices
    mask = torch.zeros_like(heat.flatten(1), dtype=torch.bool).scatter_(1, hottest, True).view_as(heat)
    return torch.where(mask[:, None], image.mean((2, 3), keepdim=True), image)


def controls(heat: torch.Tensor, random: torch.Generator) -> dict[str, torch.Tensor]:
    """Return the maps (N, S, S) whose hottest positions are blanked, by their names in the table."""
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


def probabilities_after_blanking(trained: TrainedRecognizer, image: torch.Tensor, fraction: float,
                                 random: torch.Generator) -> dict[str, numpy.ndarray]:
    """Return the probability (N,) of the predicted expression in whole and blanked images (N, 3, S, S) in [-1, 1]."""
    predicted = trained.recognize(image).argmax(1)
    heat = trained.heat_maps(image, predicted)
    pictures = {"nothing": image, **{name: blanked(image, places, fraction)
                                     for name, places in controls(heat, random).items()}}
    return {name: trained.recognize(picture).gather(1, predicted[:, None])[:, 0].numpy()
            for name, picture in pictures.items()}


def main() -> None:
    """Blank the test faces and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the run's directory")
    parser.add_argument("--data_dir", help="any data directory (default: that of the run)")
    parser.add_argument("--share", type=float, default=0.1, help="how much of each face is blanked")
    options = parser.parse_args()
    trained = load_recognizer(options.run / "VGG", torch.device("cpu"))
    layout = read_layout(options.data_dir or trained.config["data_dir"], trained.names,
                         known=trained.config.get("listed"), neutral=trained.config.get("neutral_name"))
    images, random = Images(layout.test, trained.image_size, "none"), torch.Generator().manual_seed(0)
    batches = [probabilities_after_blanking(trained, to_float(images[range(i, min(i + BATCH, len(images)))]),
                                            options.share, random) for i in range(0, len(images), BATCH)]
    probabilities = {name: numpy.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    persons = numpy.unique([s.subject or s.name for s in layout.test], return_inverse=True)[1]
    print(f"{options.run} on {len(images)} test images of {persons.max() + 1} persons, maps of VGG stage "
          f"{explained_side(trained.image_size)}\n\n| blanked ({100 * options.share:.0f} % of the face) | probability "
          "left | lowered by (95 % interval) |\n|---|---|---|")
    for name, values in probabilities.items():
        decrease = numpy.bincount(persons, probabilities["nothing"] - values) / numpy.bincount(persons)
        low, high = stats.t.interval(0.95, len(decrease) - 1, decrease.mean(), stats.sem(decrease)) \
            if name != "nothing" and len(decrease) > 1 else (0.0, 0.0)
        interval = f"{decrease.mean():.3f} ({low:.3f} to {high:.3f})" if name != "nothing" else ""
        print(f"| {name} | {values.mean():.3f} | {interval} |")


if __name__ == "__main__":
    main()
