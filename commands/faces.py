"""Faces that a command is given: cut out of their pictures, and the expressions that they show."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Sequence

import numpy
from PIL import Image
from torch import Tensor

from datasets.aligning.alignment import NoFace, align_face
from datasets.aligning.detect import FaceDetector
from datasets.aligning.geometry import paste_back
from datasets.crops import Preparation
from datasets.files import save_figure
from datasets.pictures import read_image, read_picture
from models.checkpoints import TrainedRecognizer
from utils import UserError


def expression_numbers(swap_list: Sequence[str], names: Sequence[str]) -> list[int]:
    """Return the positions of expressions that are given by name or position. Raises UserError for others."""
    typed, known = f"--swap_list {' '.join(swap_list)}", ", ".join(f"{i} {name}" for i, name in enumerate(names))
    for word in swap_list:
        if word not in names and not word.lstrip("-").isdecimal():
            near = get_close_matches(word, names, 1)
            raise UserError(f"{typed}: {word} is no expression of this run"
                            + (f", did you mean {near[0]}?" if near else "") + f"; they are {known}")
        if word not in names and not 0 <= int(word) < len(names):
            raise UserError(f"{typed}: {word} is out of range, the expressions are {known}")
    return [list(names).index(word) if word in names else int(word) for word in swap_list]


def own_expressions(trained: TrainedRecognizer | None, faces: Tensor, paths: Sequence[str],
                    stated: Sequence[int] | None, names: Sequence[str]) -> list[int]:
    """Return the expressions of faces (N, 3, S, S): those that are stated, else those that the recognizer names.

    Prints a line for each face whose expression was not stated, or of which the recognizer says another. Raises
    UserError if there is neither a statement nor a recognizer.
    """
    if trained is None:
        if stated is None:
            raise UserError(f"--input {paths[0]}: this run has no recognizer that could tell its expression; state it "
                            "with --swap_list NAME")
        return list(stated)
    found = []
    for i, (path, probabilities) in enumerate(zip(paths, trained.recognize(faces).cpu())):
        seen = int(probabilities.argmax())
        share = f"{100 * probabilities[seen]:.0f} %"
        if stated is None:
            print(f"{path}: taken for {names[seen]}, as the run's recognizer says ({share}); state another with "
                  "--swap_list")
        elif seen != stated[i]:
            print(f"note: {path} was stated to be {names[stated[i]]}, and the run's recognizer says {names[seen]} "
                  f"({share})")
        found.append(seen if stated is None else stated[i])
    return found


@dataclass(frozen=True)
class Photo:
    """A picture with the face in it: the whole picture, or what alignment cut out; ``matrix`` leads from it there."""

    face: Image.Image
    whole: Image.Image | None = None
    matrix: numpy.ndarray | None = None

    @classmethod
    def open(cls, path: str, prepared: Preparation) -> "Photo":
        """Read a picture, with a detector's model the largest face of it. Raises UserError if there is none."""
        side = prepared.image_size
        if not prepared.model:
            return cls(read_image(path, side))
        detector, photo = FaceDetector(prepared.model), read_picture(path)
        try:
            face, matrix = align_face(photo, prepared.size or side, prepared.margin, detector)
        except NoFace as error:
            raise UserError(f"{path}: {error}; use a picture of a face, or leave out --align") from None
        if face.width != side:
            matrix = matrix * (side / face.width)
            face = face.resize((side, side), Image.Resampling.BICUBIC)
        return cls(face, photo, matrix)

    def save_with(self, face: Image.Image, path: Path) -> None:
        """Write the whole picture with another face in the place of its own."""
        save_figure(paste_back(self.whole, face, self.matrix), path)
        print(f"wrote {path}: the whole photograph with the swapped face")
