"""``--mode test``: the swap of two faces' expressions, from the files of a run to a picture (METHOD §2).

With ``--frames`` the way from the input to one or several targets: a strip for each, or a square of two.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Callable, Sequence

import torch
from torch import Tensor

from datasets.files import check_figure, check_output, save_figure
from datasets.loading import to_float, to_uint8
from pictures.sheets import residual_picture, sheet, to_picture
from models.swap import Pair
from options.config import Config
from commands.faces import Photo, expression_numbers, own_expressions
from commands.trained import images_of, load_gan, preparation, recognizer_of
from utils import UserError


def swap(config: Config) -> None:
    """Swap the expressions of two faces into ``result.jpg``, or draw the way there. Raises UserError if it cannot."""
    options, output = config.swap, config.output.output
    pasted = [beside(output, name) for name in ("input", "target")] if options.paste else []
    paths = *config.faces.input, *config.faces.target
    for out in pasted:
        check_figure(out, "--output")
    trained = load_gan(config)
    gan, names = trained.swapper, trained.names
    for out in (output, *pasted):
        check_output(out, "--output", inputs=paths, trees=images_of(trained.metadata))
    expressions = expression_numbers(options.swap_list, names)
    if expressions[0] in expressions[1:]:
        raise UserError(f"--swap_list {' '.join(options.swap_list)}: input and target must differ in expression")
    prepared = preparation(config.faces, gan.shape.image_size, trained.alignment, paths)
    photos = [Photo.open(path, prepared) for path in paths]
    face, *targets = (to_float(to_uint8(photo.face)[None], gan.device) for photo in photos)
    labels = torch.tensor(expressions, device=gan.device)
    source, *targets_shown = (names[label] for label in expressions)
    own_expressions(recognizer_of(config, gan.device), torch.cat([face, *targets]), paths, expressions, names)
    if options.frames:
        blend = partial(gan.blend, face, labels[:1], torch.cat(targets), labels[1:])
        rows = interpolation(blend, face[0], [target[0] for target in targets], options.frames, options.matrix)
        picture = sheet(rows, *way_labels(source, targets_shown, options.frames, options.matrix))
        done = f"the input from {source} to " + " and ".join(targets_shown) + f" in {options.frames} frames"
        done += (f": {targets_shown[0]} downwards, {targets_shown[1]} to the right" if options.matrix
                 else ", then the target")
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
        to_each = torch.eye(len(targets), device=face.device)
        return [[*blend(way[:, None] * one), target] for one, target in zip(to_each, targets)]
    down, right = torch.eye(2, device=face.device)
    rows: list[list[Tensor | None]] = [[*blend(share * down + way[:, None] * right), None] for share in way]
    rows[0][-1] = targets[1]
    return [*rows, [targets[0], *[None] * frames]]


def beside(path: str, name: str) -> Path:
    """``result.jpg``, "input" → ``result_input.jpg``."""
    return Path(path).with_stem(f"{Path(path).stem}_{name}")
