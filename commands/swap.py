"""``--mode test``: swap the expressions of two faces with a run's networks, and draw the result (METHOD §2).

With ``--frames``, draw the interpolation from the input to one or several targets: a strip each, or a square of two.
"""

from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor

from commands.trained import image_directories, load_gan, preparation_for, recognizer_if_there
from datasets.aligning.detect import NoFace
from datasets.crops import Crop, Cutter, Picture, Preparation
from datasets.files import check_output, save_figure
from datasets.loading import to_float
from models.checkpoints import TrainedRecognizer
from models.networks import Pair
from options.config import Config
from pictures.sheets import residual_picture, sheet
from utils import UserError


def swap(config: Config) -> None:
    """Swap the expressions of two faces and write the picture; with ``--frames``, write the interpolation.

    Raises UserError if the networks, the faces or their expressions cannot be used, or the output cannot be written.
    """
    options, output = config.swap, config.use.output
    paths = *config.faces.input, *config.faces.target
    trained = load_gan(config)
    gan, names = trained.swapper, trained.names
    check_output(output, "--output", inputs=paths, trees=image_directories(trained.metadata))
    expressions = expression_numbers(options.swap_list, names)
    if expressions[0] in expressions[1:]:
        raise UserError(f"--swap_list {' '.join(options.swap_list)}: input and target must differ in expression")
    preparation = preparation_for(config.faces, gan.shape.image_size, trained.alignment, paths)
    face, *targets = pixels_of(read_faces(paths, preparation), gan.device).split(1)
    labels = torch.tensor(expressions, device=gan.device)
    stated_or_recognized(recognizer_if_there(config, gan.device), torch.cat([face, *targets]), paths, expressions,
                         names)
    source, *target_names = (names[expression] for expression in expressions)
    if options.frames:
        blend = partial(gan.blend, face, labels[:1], torch.cat(targets), labels[1:])
        rows = interpolation(blend, [target[0] for target in targets], options.frames, options.matrix)
        picture = sheet(rows, *interpolation_labels(source, target_names, options.frames, options.matrix),
                        tile=config.use.tile)
        content = f"the input from {source} to {' and '.join(target_names)} in {options.frames} frames" + (
            f": {target_names[0]} downwards, {target_names[1]} to the right" if options.matrix else ", then the target")
    else:
        swapped = gan.swap(Pair(face, targets[0], labels[:1], labels[1:]))
        picture, content = draw_swap(face, targets[0], swapped, source, target_names[0], config.use.tile)
    save_figure(picture, output)
    print(f"wrote {output}: {content}")


def draw_swap(face: Tensor, target: Tensor, swapped: Sequence[Tensor], source: str, target_name: str,
              tile: int | None = None) -> tuple[Image.Image, str]:
    """Draw two faces (1, 3, S, S) and the result of :meth:`Swapper.swap`; also return what the picture shows."""
    c, d, *residuals = swapped
    heads = [f"input: {source}", f"target: {target_name}", f"input with {target_name}", f"target with {source}",
             "change of the input", "change of the target"]
    row = [face[0], target[0], c[0], d[0], *residual_picture(torch.cat(residuals))]
    return sheet([row], heads, residuals=True, tile=tile), \
        f"input, target, the input with {target_name}, the target with {source}, the two residuals"


def interpolation_labels(source: str, targets: Sequence[str], frames: int, matrix: bool
                         ) -> tuple[list[str], list[str]]:
    """Return the heads of the columns and the notes of the rows of :func:`interpolation`, from expressions' names."""
    percent = [f"{100 * i / (frames - 1):.0f} %" for i in range(frames)]
    if not matrix:
        return [*percent, "target"], [f"{source} to {target}" for target in targets]
    rows, columns = ([*(f"{value} {target}" for value in percent), "target"] for target in targets)
    return columns, rows


def interpolation(blend: Callable[[Tensor], Tensor], targets: Sequence[Tensor], frames: int, matrix: bool
                  ) -> list[list[Tensor | None]]:
    """Return rows of images (3, S, S): a strip for each target, which ends with it, or with ``matrix`` a square.

    The square goes to the first target downwards and to the second to the right, with the targets at its ends.
    ``blend`` returns images (K, 3, S, S) for shares (K, T) of the T targets in [0, 1].
    """
    steps = torch.linspace(0, 1, frames, device=targets[0].device)
    axes = torch.eye(len(targets), device=targets[0].device)
    if not matrix:
        return [[*blend(steps[:, None] * axis), target] for axis, target in zip(axes, targets)]
    down, right = axes
    rows: list[list[Tensor | None]] = [[*blend(step * down + steps[:, None] * right), None] for step in steps]
    rows[0][-1] = targets[1]
    return [*rows, [targets[0], *[None] * frames]]


# ------------------------------------------------------------------------------------ the faces that a command is given

def expression_numbers(swap_list: Sequence[str], names: Sequence[str]) -> list[int]:
    """Return the positions of expressions that are given by name or position. Raises UserError for others."""
    option, known = f"--swap_list {' '.join(swap_list)}", ", ".join(f"{i} {name}" for i, name in enumerate(names))
    numbers = {**{str(i): i for i in range(len(names))}, **{name: i for i, name in enumerate(names)}}
    for expression in set(swap_list) - numbers.keys():
        if expression.lstrip("-").isdecimal():
            raise UserError(f"{option}: {expression} is out of range, the expressions are {known}")
        near = get_close_matches(expression, names, 1)
        raise UserError(f"{option}: {expression} is no expression of this run"
                        + (f", did you mean {near[0]}?" if near else "") + f"; they are {known}")
    return [numbers[expression] for expression in swap_list]


def stated_or_recognized(trained: TrainedRecognizer | None, faces: Tensor, paths: Sequence[str],
                         stated: Sequence[int] | None, names: Sequence[str]) -> list[int]:
    """Return the expressions of faces (N, 3, S, S) in [-1, 1]: those stated, else those that the recognizer predicts.

    Prints a line for each face whose expression was not stated, or for which the recognizer predicts another one.
    Raises UserError if no expressions are stated and there is no recognizer.
    """
    if trained is None and stated is None:
        raise UserError(f"--input {paths[0]}: this run has no recognizer that could tell its expression; state it with "
                        "--swap_list NAME")
    if trained is None:
        return list(stated)
    distributions = trained.recognize(faces).cpu()
    predicted = distributions.argmax(1).tolist()
    for path, number, own, distribution in zip(paths, predicted, stated or [None] * len(predicted), distributions):
        prediction = f"{names[number]} ({100 * distribution[number]:.0f} %)"
        if own is None:
            print(f"{path}: the run's recognizer predicts {prediction}, which is used; state another expression with "
                  "--swap_list")
        elif own != number:
            print(f"note: {path} is stated to be {names[own]}, but the run's recognizer predicts {prediction}")
    return predicted if stated is None else list(stated)


def read_faces(paths: Sequence[str], preparation: Preparation) -> list[Crop]:
    """Return the face of each picture: the whole picture, or the largest face that the alignment finds.

    Raises UserError if it finds none, or if a picture cannot be read.
    """
    cut, crops = Cutter(preparation), []
    for path in paths:
        try:
            crops += cut(Picture(Path(path)), every=False)
        except NoFace as error:
            raise UserError(f"{path}: {error}; use a picture of a face, or leave out --align") from None
    return crops


def pixels_of(crops: Sequence[Crop], device: torch.device) -> Tensor:
    """Return faces as (N, 3, S, S) in [-1, 1] on a device."""
    return to_float(torch.stack([crop.pixels for crop in crops]), device)
