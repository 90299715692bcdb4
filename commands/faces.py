"""The faces that a command is given: read or cut out of their pictures, and the expressions that they show."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Sequence

import numpy
from PIL import Image
from torch import Tensor

from datasets.aligning.detect import FaceDetector, NoFace, align_points
from datasets.aligning.geometry import paste_back
from datasets.crops import Preparation
from datasets.files import save_figure
from datasets.pictures import read_image, read_picture
from models.checkpoints import TrainedRecognizer
from utils import UserError


def expression_numbers(swap_list: Sequence[str], names: Sequence[str]) -> list[int]:
    """Return the positions of expressions that are given by name or position. Raises UserError for others."""
    option, known = f"--swap_list {' '.join(swap_list)}", ", ".join(f"{i} {name}" for i, name in enumerate(names))
    for expression in swap_list:
        if expression not in names and not expression.lstrip("-").isdecimal():
            near = get_close_matches(expression, names, 1)
            raise UserError(f"{option}: {expression} is no expression of this run"
                            + (f", did you mean {near[0]}?" if near else "") + f"; they are {known}")
        if expression not in names and not 0 <= int(expression) < len(names):
            raise UserError(f"{option}: {expression} is out of range, the expressions are {known}")
    return [list(names).index(expression) if expression in names else int(expression) for expression in swap_list]


def stated_or_recognized(trained: TrainedRecognizer | None, faces: Tensor, paths: Sequence[str],
                         stated: Sequence[int] | None, names: Sequence[str]) -> list[int]:
    """Return the expressions of faces (N, 3, S, S) in [-1, 1]: those stated, else those that the recognizer predicts.

    Prints a line for each face whose expression was not stated, or for which the recognizer predicts another one.
    Raises UserError if no expressions are stated and there is no recognizer.
    """
    if trained is None:
        if stated is None:
            raise UserError(f"--input {paths[0]}: this run has no recognizer that could tell its expression; state it "
                            "with --swap_list NAME")
        return list(stated)
    expressions = []
    for i, (path, probabilities) in enumerate(zip(paths, trained.recognize(faces).cpu())):
        predicted = int(probabilities.argmax())
        prediction = f"{names[predicted]} ({100 * probabilities[predicted]:.0f} %)"
        if stated is None:
            print(f"{path}: the run's recognizer predicts {prediction}, which is used; state another expression with "
                  "--swap_list")
        elif predicted != stated[i]:
            print(f"note: {path} is stated to be {names[stated[i]]}, but the run's recognizer predicts {prediction}")
        expressions.append(predicted if stated is None else stated[i])
    return expressions


@dataclass(frozen=True)
class Photo:
    """A picture's face, at the networks' size: the whole picture, or the crop that alignment cut out of it.

    With alignment, ``whole`` is the picture and ``matrix`` (2, 3) maps its pixels to those of the crop.
    """

    face: Image.Image
    whole: Image.Image | None = None
    matrix: numpy.ndarray | None = None

    @classmethod
    def open(cls, path: str, preparation: Preparation) -> "Photo":
        """Read a picture; if there is a detector, align its largest face. Raises UserError if it finds none."""
        side = preparation.image_size
        if not preparation.model:
            return cls(read_image(path, side))
        detector, photo = FaceDetector(preparation.model), read_picture(path)
        try:
            face, matrix = align_points(photo, detector(photo)[0].points, preparation.size or side,
                                        preparation.margin)
        except NoFace as error:
            raise UserError(f"{path}: {error}; use a picture of a face, or leave out --align") from None
        if face.width != side:
            matrix = matrix * (side / face.width)
            face = face.resize((side, side), Image.Resampling.BICUBIC)
        return cls(face, photo, matrix)

    def save_with(self, face: Image.Image, path: Path) -> None:
        """Write the whole picture with another face in place of its own."""
        save_figure(paste_back(self.whole, face, self.matrix), path)
        print(f"wrote {path}: the whole photograph with the swapped face")
