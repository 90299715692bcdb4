"""``--mode test``: the swap of two faces' expressions, from the files of a run to a picture (METHOD §2).

With ``--frames`` the way from the input to one or several targets: a strip for each, or a square of two.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable, Sequence

import numpy
import torch
from PIL import Image
from torch import Tensor

from datasets.aligning.alignment import NoFace, align_face
from datasets.aligning.detect import FaceDetector
from datasets.aligning.geometry import paste_back
from datasets.crops import Preparation
from datasets.files import check_figure, check_output, save_figure
from datasets.loading import to_float, to_uint8
from datasets.pictures import read_image, read_picture
from pictures.sheets import residual_picture, sheet, to_picture
from models.swap import Pair
from options.config import Config
from commands.trained import images_of, load_gan, preparation
from utils import UserError


def swap(config: Config) -> None:
    """Swap the expressions of two faces into ``result.jpg``, or draw the way there. Raises UserError if that cannot be."""
    options, output = config.swap, config.output.output
    pasted = [beside(output, name) for name in ("input", "target")] if options.paste else []
    paths = *config.faces.input, *config.faces.target
    for out in pasted:
        check_figure(out, "--output")
    trained = load_gan(config)
    gan, names = trained.swapper, trained.names
    for out in (output, *pasted):
        check_output(out, "--output", inputs=paths, trees=images_of(trained.metadata))
    check_swap_list(options.swap_list, names)
    prepared = preparation(config.faces, gan.shape.image_size, trained.alignment, paths)
    photos = [Photo.open(path, prepared) for path in paths]
    face, *targets = (to_float(to_uint8(photo.face)[None], gan.device) for photo in photos)
    labels = torch.tensor(options.swap_list, device=gan.device)
    source, *targets_shown = (names[label] for label in options.swap_list)
    if options.frames:
        blend = partial(gan.blend, face, labels[:1], torch.cat(targets), labels[1:])
        rows = interpolation(blend, face[0], [target[0] for target in targets], options.frames, options.matrix)
        picture = sheet(rows, *way_labels(source, targets_shown, options.frames, options.matrix))
        done = f"the input from {source} to " + " and ".join(targets_shown) + f" in {options.frames} frames"
        done += f": {targets_shown[0]} downwards, {targets_shown[1]} to the right" if options.matrix else ", then the target"
    else:
        pair = Pair(face, targets[0], labels[:1], labels[1:])
        c, d, residual_c, residual_d = gan.swap(pair)
        heads = [f"input: {source}", f"target: {targets_shown[0]}", f"input with {targets_shown[0]}",
                 f"target with {source}", "change of the input", "change of the target"]
        picture = sheet([[face[0], targets[0][0], c[0], d[0], *residual_picture(torch.cat([residual_c, residual_d]))]],
                        heads, residuals=True)
        done = f"input, target, the input with {targets_shown[0]}, the target with {source}, the two residuals"
        for photo, swapped, name in zip(photos, (c, d), ("input", "target")):
            if options.paste:
                photo.save_with(to_picture(swapped[0]), beside(output, name))
    save_figure(picture, output)
    print(f"wrote {output}: {done}")


def way_labels(source: str, targets_shown: Sequence[str], frames: int, matrix: bool) -> tuple[list[str], list[str]]:
    """The heads of the columns and the notes of the rows of :func:`interpolation`."""
    shares = [f"{100 * i / (frames - 1):.0f} %" for i in range(frames)]
    if not matrix:
        return [*shares, "target"], [f"{source} to {target}" for target in targets_shown]
    rows, columns = ([*(f"{share} {target}" for share in shares), "target"] for target in targets_shown)
    return columns, rows


def interpolation(blend: Callable[[Tensor], Tensor], face: Tensor,
                  targets: Sequence[Tensor], frames: int, matrix: bool) -> list[list[Tensor | None]]:
    """Rows of panels (3, S, S): a strip per target, which ends with it; or a square of two, its targets at the ends.

    ``blend`` makes images (K, 3, S, S) from shares (K, T).
    """
    way = torch.linspace(0, 1, frames, device=face.device)
    if not matrix:
        moved = [blend(way[:, None] * one_of(i, len(targets), face.device)) for i in range(len(targets))]
        return [[*images, target] for images, target in zip(moved, targets)]
    down, right = (one_of(i, 2, face.device) for i in (0, 1))
    rows: list[list[Tensor | None]] = [[*blend(share * down + way[:, None] * right), None] for share in way]
    rows[0][-1] = targets[1]
    return [*rows, [targets[0], *[None] * frames]]


def one_of(i: int, count: int, device: torch.device) -> Tensor:
    """(count,): 1 at i, else 0."""
    return (torch.arange(count, device=device) == i).float()


def check_swap_list(swap_list: Sequence[int], names: list[str]) -> None:
    """UserError unless the input's expression and each target's are two different ones of these."""
    typed = " ".join(map(str, swap_list))
    for label in swap_list:
        if not 0 <= label < len(names):
            raise UserError(f"--swap_list {typed}: {label} is out of range, the expressions are "
                            + ", ".join(f"{i} {name}" for i, name in enumerate(names)))
    if swap_list[0] in swap_list[1:]:
        raise UserError(f"--swap_list {typed}: input and target must differ in expression")


@dataclass(frozen=True)
class Photo:
    """A picture with the face in it: the whole picture, or what alignment cut out; ``matrix`` leads from it there."""

    face: Image.Image
    whole: Image.Image | None = None
    matrix: numpy.ndarray | None = None

    @classmethod
    def open(cls, path: str, prepared: Preparation) -> "Photo":
        """Read a picture, with a detector's model the largest face of it; UserError where there is none."""
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


def beside(path: str, name: str) -> Path:
    """``result.jpg``, "input" → ``result_input.jpg``."""
    return Path(path).with_stem(f"{Path(path).stem}_{name}")
