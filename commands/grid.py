"""``--mode grid``: draw test persons, or any faces, with every expression, and the residuals of the swaps."""

from pathlib import Path

import numpy
import torch
from torch import Tensor

import utils
from commands.faces import Photo, expression_numbers, stated_or_recognized
from commands.trained import image_directories, load_gan, preparation_for, read_data, recognizer_if_there
from datasets.exemplars import typical_images
from datasets.files import check_output, save_figure
from datasets.layout import Layout, Sample, image_directory
from datasets.loading import Images, to_float, to_uint8
from evaluation.synthesis import with_expressions
from models.checkpoints import TrainedSwap, load_exemplars
from models.swapper import Swapper
from options.config import Config
from pictures.sheets import residual_picture, sheet
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
    inputs, targets = list(faces.input), list(faces.target or ())
    trained = load_gan(config)
    gan, names = trained.swapper, trained.names
    check_output(output, "--output", inputs=inputs + targets, trees=image_directories(trained.metadata))
    stated = expression_numbers(config.swap.swap_list or (), names)
    if targets and len(stated) != 1 + len(targets) or not targets and len(stated) > 1:
        raise UserError(f"--swap_list {' '.join(config.swap.swap_list or ())}: needs the expression of --input"
                        + (f" and of each --target, {1 + len(targets)} in all" if targets else " alone"))
    preparation = preparation_for(faces, gan.shape.image_size, trained.alignment, inputs + targets)
    pixels = to_float(torch.stack([to_uint8(Photo.open(path, preparation).face) for path in inputs + targets]),
                      gan.device)
    stated_for_each = stated[:1] * len(inputs) + stated[1:] or None
    count = len(inputs) if stated_for_each is None else len(pixels)
    expressions = stated_or_recognized(recognizer_if_there(config, gan.device), pixels[:count], inputs + targets,
                                       stated_for_each, names)[:len(inputs)]
    references, labels = (pixels[len(inputs):], stated[1:]) if targets else exemplars(config, trained)
    rows, notes, labels, columns_above = [], [], torch.tensor(labels, device=gan.device), None
    for path, face, expression in zip(inputs, pixels, expressions):
        columns = torch.arange(len(labels)) if targets else nearest_of_each(face, references, labels)
        if columns_above is None or not torch.equal(columns, columns_above):
            rows, notes, columns_above = [*rows, [None, *references[columns]]], [*notes, "reference"], columns
        swapped, residual = with_expressions(gan, face, expression, references[columns], labels[columns])
        rows += [[face, *swapped], [None, *residual_picture(residual)]]
        notes += [f"{Path(path).name[-24:]} ({names[expression]})", "residual"]
    heads, title = ["input", *(names[i] for i in labels[columns])], f"swaps of {Path(config.run.checkpoint_dir).name}"
    save_figure(sheet(rows, heads, notes, title, residuals=True), output)
    print(f"wrote {output}: {len(inputs)} face{'s' * (len(inputs) != 1)} with {len(columns)} "
          f"expression{'s' * (len(columns) != 1)}, and the residuals")


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


def nearest_of_each(face: Tensor, references: Tensor, labels: Tensor) -> Tensor:
    """Return for each expression the position of its reference whose pixels are nearest to those of ``face``.

    ``face`` (3, S, S), ``references`` (E, 3, S, S), ``labels`` (E,); the positions are in the order of the labels.
    """
    distance = (references - face).abs().mean((1, 2, 3))
    return torch.stack([distance.masked_fill(labels != label, float("inf")).argmin() for label in labels.unique()])


def save_sheet(gan: Swapper, layout: Layout, count: int, seed: int, path: Path) -> None:
    """Write the sheet of ``count`` test persons, each with every expression of a reference image.

    The first row shows the references. Below, each person has a row of pictures and one of residuals. A person's own
    expression is the reconstruction. Raises UserError if there are no test images.
    """
    persons, references = choose_samples(layout, count, seed)
    images = Images([*references, *persons], gan.shape.image_size, cache="none")
    pixels = to_float(images[range(len(images))], gan.device)
    reference_faces, faces = pixels[:len(references)], pixels[len(references):]
    expressions = torch.tensor([sample.label for sample in references], device=gan.device)
    rows: list[list] = [[None, *reference_faces]]
    for face, person in zip(faces, persons):
        swapped, residual = with_expressions(gan, face, person.label, reference_faces, expressions)
        rows += [[face, *swapped], [None, *residual_picture(residual)]]
    heads = ["input", *(layout.expressions[sample.label] for sample in references)]
    notes = ["reference", *(note for person in persons for note in (person.subject or person.name, "residual"))]
    save_figure(sheet(rows, heads, notes, f"test persons of {layout.root.name}", residuals=True), path)
    print(f"wrote {path}: {len(persons)} test persons with {len(references)} expressions and the residuals behind them")


def choose_samples(layout: Layout, count: int, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Choose ``count`` test images of different persons, and a test image of each expression as its reference.

    Neutral images are preferred as persons, and images of other persons as references.
    """
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
    chosen_persons = set(map(person_of, chosen))
    other_persons_first = sorted(shuffled, key=lambda sample: person_of(sample) in chosen_persons)
    references = {sample.label: sample for sample in reversed(other_persons_first)}  # the first of each stays
    return chosen, [references[label] for label in sorted(references)]
