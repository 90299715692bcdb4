"""``--mode grid``: draw test persons, or any faces, with every expression, and the residuals of the swaps."""

import sys
from collections import Counter
from pathlib import Path
from typing import Iterable, Sequence

import numpy
import torch
from PIL import Image
from torch import Tensor

import utils
from commands.swap import expression_numbers, pixels_of, read_faces, stated_or_recognized
from commands.trained import image_directories, load_gan, preparation_for, read_data, recognizer_if_there
from datasets.files import check_output, save_figure
from datasets.layout import Layout, Sample
from datasets.lists import image_directory
from datasets.loading import Images, to_float, typical_images
from evaluation import verdict
from evaluation.synthesis import with_expressions
from models.checkpoints import TrainedRecognizer, TrainedSwap, load_exemplars
from models.gan import Swapper
from options.config import Config
from pictures.sheets import residual_picture, sheet
from training.facts import Facts
from utils import UserError


def draw_grid(config: Config) -> None:
    """Draw the sheet of a run's swaps on its test images, or of the faces of ``--input`` with every expression."""
    if config.faces.input:
        return draw_faces(config)
    output = config.use.output
    check_output(output, "--output")
    trained = load_gan(config)
    layout = read_data(config, trained, ["test"])
    check_output(output, "--output", trees=[image_directory(layout.root)],
                 inputs=[sample.path for sample in layout.split("all")])
    note_low_quality(recognizer_if_there(config, trained.swapper.device))
    save_sheet(trained.swapper, layout, config.run.seed, Path(output), config.use.tile)


def note_low_quality(trained: TrainedRecognizer | None) -> None:
    """Print a note if the quality of the run's swaps was below the gate before its last recognizer round."""
    config = trained.config if trained else {}
    for finding in verdict.of_gate(config.get("swap_quality"), Facts.of_metadata(config).options.get("gate", 0)):
        print(f"note: {finding}", file=sys.stderr)


def draw_faces(config: Config) -> None:
    """Draw each face of ``--input`` with every expression, shown by the run's own examples or by ``--target``."""
    faces, output = config.faces, config.use.output
    inputs, targets = list(faces.input), list(faces.target or ())
    trained = load_gan(config)
    gan, names = trained.swapper, trained.names
    check_output(output, "--output", inputs=inputs + targets, trees=image_directories(trained.metadata))
    stated = expression_numbers(config.swap.swap_list or (), names)
    if targets and len(stated) != 1 + len(targets) or not targets and len(stated) > 1:
        raise UserError(f"--swap_list {' '.join(config.swap.swap_list or ())}: needs the expression of --input"
                        + (f" and of each --target, {1 + len(targets)} in all" if targets else " alone"))
    preparation = preparation_for(faces, gan.shape.image_size, trained.alignment, inputs + targets)
    pixels = pixels_of(read_faces(inputs + targets, preparation), gan.device)
    stated_for_each = stated[:1] * len(inputs) + stated[1:] or None
    count = len(inputs) if stated_for_each is None else len(pixels)
    recognizer = recognizer_if_there(config, gan.device)
    note_low_quality(recognizer)
    expressions = stated_or_recognized(recognizer, pixels[:count], inputs + targets, stated_for_each,
                                       names)[:len(inputs)]
    references, labels = (pixels[len(inputs):], stated[1:]) if targets else exemplars(config, trained)
    labels = torch.tensor(labels, device=gan.device)
    references_of = [(references, labels) if targets else nearest_of_each(face, references, labels)
                     for face in pixels[:len(inputs)]]
    source = "" if stated else "recognized as "
    notes = [f"{Path(path).name} ({source}{names[expression]})" for path, expression in zip(inputs, expressions)]
    title, count = f"swaps of {Path(config.run.checkpoint_dir).name}", len(references_of[0][1])
    save_figure(draw_swaps(gan, pixels, expressions, notes, references_of, names, title, config.use.tile), output)
    print(f"wrote {output}: {len(inputs)} face{'s' * (len(inputs) != 1)} with {count} expression{'s' * (count != 1)}, "
          "and the residuals")


def exemplars(config: Config, trained: TrainedSwap) -> tuple[Tensor, list[int]]:
    """Return typical faces (E, 3, S, S) in [-1, 1] that the run has kept, else of its data, and their expressions.

    Raises UserError if it has kept none and its data are not there.
    """
    shape = trained.swapper.shape
    kept = load_exemplars(Path(config.run.checkpoint_dir) / "model", shape)
    if kept is None:
        try:
            layout = read_data(config, trained)
        except UserError as error:
            raise UserError("--mode grid: the run has kept no faces that show the expressions, and its data are not "
                            f"there ({error}); name faces with --target, and their expressions with --swap_list"
                            ) from None
        kept = typical_images(Images(layout.train, shape.image_size, cache="none"), shape.num_classes)
    return to_float(kept[0], trained.swapper.device), kept[1]


def nearest_of_each(face: Tensor, references: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each expression the reference whose pixels are nearest to those of ``face``, and its label.

    ``face`` (3, S, S), ``references`` (E, 3, S, S), ``labels`` (E,).
    """
    distance = (references - face).abs().mean((1, 2, 3))
    nearest = torch.stack([distance.masked_fill(labels != label, float("inf")).argmin() for label in labels.unique()])
    return references[nearest], labels[nearest]


def draw_swaps(gan: Swapper, faces: Iterable[Tensor], expressions: Sequence[int], notes: Sequence[str],
               references_of: Sequence[tuple[Tensor, Tensor]], names: Sequence[str], title: str,
               tile: int | None = None) -> Image.Image:
    """Draw faces (3, S, S) with the expression of each of their references, a row of pictures and one of residuals.

    A face's references are images (T, 3, S, S) and their labels (T,); they are drawn above it unless they are those of
    the face before. Its own expression is the reconstruction. ``notes`` are drawn beside the faces.
    """
    rows, row_notes, above = [], [], None
    for face, expression, note, (references, labels) in zip(faces, expressions, notes, references_of):
        if above is None or not torch.equal(references, above):
            rows, row_notes, above = [*rows, [None, *references]], [*row_notes, "reference"], references
        swapped, residual = with_expressions(gan, face, expression, references, labels)
        rows += [[face, *swapped], [None, *residual_picture(residual)]]
        row_notes += [note, "residual"]
    return sheet(rows, ["input", *(names[label] for label in labels)], row_notes, title, residuals=True,
                 tile=tile)


PERSONS_DRAWN = 4


def save_sheet(gan: Swapper, layout: Layout, seed: int, path: Path, tile: int | None = None) -> None:
    """Write the sheet of some test persons with every expression. Raises UserError if there are no test images."""
    persons, references = choose_samples(layout, PERSONS_DRAWN, seed)
    images = Images([*references, *persons], gan.shape.image_size, cache="none")
    pixels = to_float(images[range(len(images))], gan.device)
    labels = torch.tensor([sample.label for sample in references], device=gan.device)
    picture = draw_swaps(gan, pixels[len(references):], [person.label for person in persons],
                         [f"{sample.subject or sample.name} ({layout.expressions[sample.label]})"
                          for sample in persons],
                         [(pixels[:len(references)], labels)] * len(persons), layout.expressions,
                         f"test persons of {layout.root.name}", tile)
    save_figure(picture, path)
    print(f"wrote {path}: {len(persons)} test persons with {len(references)} expressions and the residuals behind them")


def choose_samples(layout: Layout, count: int, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Choose ``count`` test images of different persons, and a test image of each expression as its reference.

    The persons show one expression after the other, and images of other persons are preferred as references.
    """
    if not layout.test:
        raise UserError(f"{layout.root}: no test images to draw a sheet of")
    random = numpy.random.default_rng(utils.derived_seed(seed, "sheet"))
    shuffled = [layout.test[i] for i in random.permutation(len(layout.test))]
    chosen: dict[str, Sample] = {}
    shown: Counter[int] = Counter()
    while len(chosen) < count and (others := [s for s in shuffled if (s.subject or s.name) not in chosen]):
        sample = min(others, key=lambda sample: shown[sample.label])
        chosen[sample.subject or sample.name] = sample
        shown[sample.label] += 1
    others_last = sorted(shuffled, key=lambda sample: (sample.subject or sample.name) not in chosen)
    references = {sample.label: sample for sample in others_last}  # the last of each stays
    return list(chosen.values()), [references[label] for label in sorted(references)]
