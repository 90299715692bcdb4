"""The faces that a command is given: read or cut out of their pictures, and the expressions that they show."""

from difflib import get_close_matches
from pathlib import Path
from typing import Sequence

import torch
from torch import Tensor

from datasets.aligning.detect import NoFace
from datasets.crops import Crop, Cutter, Picture, Preparation
from datasets.loading import to_float
from models.checkpoints import TrainedRecognizer
from utils import UserError


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
