"""``--mode grid``: a sheet of test persons, or of any faces, × expressions, with the residuals behind them."""

from __future__ import annotations

from pathlib import Path

import numpy
import torch
from torch import Tensor

import utils
from datasets.exemplars import typical_images
from datasets.files import check_output, save_figure
from datasets.layout import Layout, Sample, image_directory
from datasets.loading import Images, to_float, to_uint8
from pictures.sheets import residual_picture, sheet
from models.checkpoints import TrainedSwap, load_exemplars
from models.swapper import Swapper
from evaluation.synthesis import expressions_of
from options.config import Config
from commands.faces import Photo, expression_numbers, own_expressions
from commands.trained import images_of, load_gan, preparation, read_data, recognizer_of
from utils import UserError


def draw_grid(config: Config) -> None:
    """Draw the sheet of a run's swaps on its test images, or of the faces of ``--input`` with every expression."""
    if config.faces.input:
        return draw_faces(config)
    output = config.output.output
    check_output(output, "--output")
    trained = load_gan(config)
    layout = read_data(config, trained, ["test"])
    check_output(output, "--output", trees=[image_directory(layout.root)],
                 inputs=[sample.path for sample in layout.split("all")])
    save_sheet(trained.swapper, layout, config.output.rows, config.run.seed, Path(output))


def draw_faces(config: Config) -> None:
    """Draw each face of ``--input`` with every expression, shown by the run's own examples or by ``--target``."""
    faces, output = config.faces, config.output.output
    own, targets = list(faces.input), list(faces.target or ())
    trained = load_gan(config)
    gan, names = trained.swapper, trained.names
    check_output(output, "--output", inputs=own + targets, trees=images_of(trained.metadata))
    stated = expression_numbers(config.swap.swap_list or (), names)
    if targets and len(stated) != 1 + len(targets) or not targets and len(stated) > 1:
        raise UserError(f"--swap_list {' '.join(config.swap.swap_list or ())}: needs the expression of --input"
                        + (f" and of each --target, {1 + len(targets)} in all" if targets else " alone"))
    prepared = preparation(faces, gan.shape.image_size, trained.alignment, own + targets)
    pixels = to_float(torch.stack([to_uint8(Photo.open(path, prepared).face) for path in own + targets]), gan.device)
    of_inputs = stated[:1] * len(own) + stated[1:] or None
    count = len(own) if of_inputs is None else len(pixels)
    expressions = own_expressions(recognizer_of(config, gan.device), pixels[:count], own + targets, of_inputs,
                                  names)[:len(own)]
    shown, labels = (pixels[len(own):], stated[1:]) if targets else exemplars(config, trained)
    rows, notes, labels, above = [], [], torch.tensor(labels, device=gan.device), None
    kinds = labels.unique().tolist() if not targets else labels.tolist()
    for path, face, expression in zip(own, pixels, expressions):
        columns = torch.arange(len(labels)) if targets else nearest_of_each(face, shown, labels)
        if above is None or not torch.equal(columns, above):
            rows, notes, above = [*rows, [None, *shown[columns]]], [*notes, "reference"], columns
        swapped, residual = expressions_of(gan, face, expression, shown[columns], labels[columns])
        rows += [[face, *swapped], [None, *residual_picture(residual)]]
        notes += [f"{Path(path).name[-24:]} ({names[expression]})", "residual"]
    heads, title = ["input", *(names[kind] for kind in kinds)], f"swaps of {Path(config.run.checkpoint_dir).name}"
    save_figure(sheet(rows, heads, notes, title, residuals=True), output)
    print(f"wrote {output}: {len(own)} face{'s' * (len(own) != 1)} with {len(kinds)} "
          f"expression{'s' * (len(kinds) != 1)}, and the residuals")


def exemplars(config: Config, trained: TrainedSwap) -> tuple[Tensor, list[int]]:
    """Return typical faces (E, 3, S, S) in [-1, 1] that the run has kept, else of its data, and their expressions."""
    shape = trained.swapper.shape
    found = load_exemplars(Path(config.run.checkpoint_dir) / "model", shape)
    if found is None:
        try:
            layout = read_data(config, trained)
        except UserError as error:
            raise UserError("--mode grid: the run has kept no faces that show the expressions, and its data are not "
                            f"there ({error}); name faces with --target, and their expressions with --swap_list"
                            ) from None
        found = typical_images(Images(layout.train, shape.image_size, cache="none"), shape.num_classes)
    return to_float(found[0], trained.swapper.device), found[1]


def nearest_of_each(face: Tensor, shown: Tensor, labels: Tensor) -> Tensor:
    """Return the position of the face of each expression whose pixels are nearest to those of ``face``."""
    distance = (shown - face).abs().mean((1, 2, 3))
    return torch.stack([distance.masked_fill(labels != label, float("inf")).argmin() for label in labels.unique()])


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
    def person_of(sample: Sample) -> str:
        return sample.subject or sample.name

    random = numpy.random.default_rng(utils.derived_seed(seed, "sheet"))
    shuffled = [layout.test[i] for i in random.permutation(len(layout.test))]
    persons: dict[str, Sample] = {}
    for sample in sorted(shuffled, key=lambda sample: sample.label != layout.neutral):
        persons.setdefault(person_of(sample), sample)
    chosen = list(persons.values())[:count]
    used = set(map(person_of, chosen))
    others = sorted(shuffled, key=lambda sample: person_of(sample) in used)
    first = {sample.label: sample for sample in reversed(others)}  # the first of each expression stays
    return chosen, [first[label] for label in sorted(first)]
