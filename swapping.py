"""``--mode test``: the swap of two faces' expressions, from the files of a run to a picture (METHOD §2)."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import utils
from utils import UserError

if TYPE_CHECKING:
    import numpy
    from PIL import Image

    from models.swap_gan import SwapGAN


def swap(options: argparse.Namespace) -> None:
    """Swap the expressions of two faces into ``result.jpg``, or into a strip of steps; UserError for what cannot be."""
    import torch
    from datasets.loading import to_float, to_uint8
    from models import figures
    from models.swap import Pair

    gan, names = load_for_swap(options)
    photos = [Photo.open(path, gan.shape.image_size, options) for path in (options.input, options.target)]
    faces = [to_float(to_uint8(photo.face)[None], gan.device) for photo in photos]
    pair = Pair(*faces, *(torch.tensor([label], device=gan.device) for label in options.swap_list))
    source, target = (names[label] for label in options.swap_list)
    if options.steps:
        panels = [gan.swap(pair, k / (options.steps - 1))[0][0] for k in range(options.steps)]
        said = f"the input from {source} to {target} in {options.steps} steps"
    else:
        c, d, residual_c, residual_d = gan.swap(pair)
        panels = [faces[0][0], faces[1][0], c[0], d[0], figures.residual_image(residual_c[0]),
                  figures.residual_image(residual_d[0])]
        said = f"input, target, the input with {target}, the target with {source}, the two residuals"
        for photo, swapped, name in zip(photos, (c, d), ("input", "target")):
            if options.paste:
                photo.save_with(figures.to_picture(swapped[0]), beside(options.output, name))
    utils.save_picture(figures.row(panels), options.output)
    print(f"wrote {options.output}: {said}")


def load_for_swap(options: argparse.Namespace) -> tuple["SwapGAN", list[str]]:
    """The encoder and decoder of a run and the names of its expressions; UserError where they do not fit -a."""
    from datasets.layout import DATA_SETS
    from models import checkpoints

    folder = Path(options.checkpoint_dir) / "model"
    epoch = options.restore if options.restore is not None and options.restore >= 0 else None
    if not checkpoints.gan_file(folder, "Enc", epoch).is_file():
        raise UserError(f"--restore: {checkpoints.gan_file(folder, 'Enc', epoch)} is not there; train first, or name "
                        "the run's directory with --checkpoint_dir (or its --data_dir or --preset)")
    names = checkpoints.gan_config(folder).get("expressions") or options.attributes \
        or list(DATA_SETS[options.data].expressions)
    if options.attributes and list(options.attributes) != list(names):
        raise UserError(f"-a {' '.join(options.attributes)}: the run in {options.checkpoint_dir} was trained with "
                        f"-a {' '.join(names)}, in this order")
    for which, label in zip(("I", "T"), options.swap_list):
        if not 0 <= label < len(names):
            raise UserError(f"--swap_list {which}={label}: out of range, the expressions are "
                            + ", ".join(f"{i} {name}" for i, name in enumerate(names)))
    if options.swap_list[0] == options.swap_list[1]:
        raise UserError(f"--swap_list {options.swap_list[0]} {options.swap_list[1]}: the two expressions must differ")
    device = utils.pick_device(options.gpu)
    return checkpoints.load_swap_gan(folder, epoch, names, options.image_size, device), names


@dataclass(frozen=True)
class Photo:
    """A picture with the face in it: the whole picture, or what alignment cut out with ``matrix``."""

    face: "Image.Image"
    whole: "Image.Image | None" = None
    matrix: "numpy.ndarray | None" = None

    @classmethod
    def open(cls, path: str, image_size: int, options: argparse.Namespace) -> "Photo":
        """Read a picture, with ``--align`` the largest face of it; UserError where there is none."""
        from datasets.loading import read_image

        if not options.align:
            return cls(read_image(path, image_size))
        from datasets.align import NoFace, align_face, open_photo
        from datasets.detect import FaceDetector

        detector, photo = FaceDetector(options.align), open_photo(path)
        try:
            face, matrix = align_face(photo, image_size, options.margin, detector)
        except NoFace as error:
            raise UserError(f"{path}: {error}; use a picture of a face, or leave out --align") from None
        return cls(face, photo, matrix)

    def save_with(self, face: "Image.Image", path: Path) -> None:
        """Write the whole picture with another face in the place of its own."""
        from datasets.geometry import paste_back

        utils.save_picture(paste_back(self.whole, face, self.matrix), path)
        print(f"wrote {path}: the whole photograph with the swapped face")


def beside(path: str, name: str) -> Path:
    """``result.jpg``, "input" → ``result_input.jpg``."""
    return Path(path).with_stem(f"{Path(path).stem}_{name}")
