"""``--mode grid``: a sheet of test persons × expressions, with the residuals behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import numpy
import torch

import utils
from datasets.files import check_output, save_figure
from datasets.layout import Layout, Sample, image_directory
from datasets.loading import Images, to_float
from models.swapper import Swapper
from pictures.sheets import residual_picture, sheet
from evaluation.synthesis import expressions_of
from options.config import Config
from commands.trained import load_gan, read_data
from utils import UserError


def draw_grid(config: Config) -> None:
    """Draw the sheet of a run's swaps on its test images."""
    output = config.output.output
    check_output(output, "--output")
    trained = load_gan(config)
    layout = read_data(config, trained)
    check_output(output, "--output", trees=[image_directory(layout.root)],
                 inputs=[sample.path for sample in layout.split("all")])
    save_sheet(trained.swapper, layout, config.output.rows, config.run.seed, Path(output))


def save_sheet(gan: Swapper, layout: Layout, count: int, seed: int, path: Path) -> None:
    """Write the sheet of ``count`` test persons, each with every expression of a reference image.

    The first row shows the references. Below, each person has a row of pictures and one of residuals. A person's own
    expression is the reconstruction.
    """
    persons, references = choose(layout, count, seed)
    images = Images([*references, *persons], gan.shape.image_size, cache="none")
    pixels = to_float(images[range(len(images))], gan.device)
    shown, faces = pixels[:len(references)], pixels[len(references):]
    expressions = torch.tensor([sample.label for sample in references], device=gan.device)
    rows: list[list] = [[None, *shown]]
    for face, person in zip(faces, persons):
        swapped, residual = expressions_of(gan, face, person.label, shown, expressions)
        rows += [[face, *swapped], [None, *residual_picture(residual)]]
    heads = ["input", *(layout.expressions[sample.label] for sample in references)]
    notes = ["reference", *(note for person in persons for note in (person.subject or person.name, "residual"))]
    save_figure(sheet(rows, heads, notes, f"test persons of {layout.root.name}", residuals=True), path)
    print(f"wrote {path}: {len(persons)} test persons with {len(references)} expressions and the residuals behind them")


def choose(layout: Layout, count: int, seed: int) -> tuple[list[Sample], list[Sample]]:
    """``count`` test images of different persons, neutral ones first, and one of each expression of other persons."""
    if not layout.test:
        raise UserError(f"{layout.root}: no test images to draw a sheet of")
    random = numpy.random.default_rng(utils.derived_seed(seed, "sheet"))
    shuffled = [layout.test[i] for i in random.permutation(len(layout.test))]
    persons: dict[str, Sample] = {}
    for sample in sorted(shuffled, key=lambda sample: sample.label != layout.neutral):
        persons.setdefault(sample.subject or sample.name, sample)
    chosen = list(persons.values())[:count]
    taken = {sample.subject or sample.name for sample in chosen}
    others = sorted(shuffled, key=lambda sample: (sample.subject or sample.name) in taken)
    return chosen, first_of_each(others, len(layout.expressions))


def first_of_each(samples: Sequence[Sample], num_classes: int) -> list[Sample]:
    """The first sample of each expression that there is."""
    found: dict[int, Sample] = {}
    for sample in samples:
        found.setdefault(sample.label, sample)
    return [found[label] for label in range(num_classes) if label in found]
