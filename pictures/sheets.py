"""Sheets of faces in labeled rows and columns: swaps, interpolations, persons with expressions, an epoch's samples."""

from typing import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from pictures.lettering import FAINT, PAPER, fitting_size, widest, wrapped, write

SMALLEST_TILE, GAP, LINE, NOTES = 64, 3, 16, 240  # pixels; the widest notes
STRONGEST = 0.6  # the change of a pixel in [-1, 1] that is drawn white, as are all larger ones
Row = Sequence[Tensor | None]


def sheet(rows: Sequence[Row], heads: Sequence[str], notes: Sequence[str] = (), title: str = "",
          residuals: bool = False, tile: int | None = None) -> Image.Image:
    """Draw rows of images (3, S, S) in [-1, 1], or None for an empty place, under column heads.

    ``notes`` are drawn at the left of the rows. With ``residuals``, the scale of :func:`residual_picture` is drawn
    below. ``tile`` is the side of the images in the picture; by default it is theirs, or a multiple of at least 64.
    """
    side = next(image.shape[-1] for row in rows for image in row if image is not None)
    tile = tile or side * -(-SMALLEST_TILE // side)
    left = min(widest(notes, 14), NOTES) + 14 if notes else GAP
    sizes = [fitting_size(head, 12, tile - 2) for head in heads]
    lines = [wrapped(head, size, tile - 2) for head, size in zip(heads, sizes)]
    head = (LINE + 12 if title else 0) + LINE * max(map(len, lines)) + 6
    foot = LINE + 14 if residuals else GAP
    width = max(left + len(heads) * (tile + GAP), (widest([title], 15) if title else 0) + 2 * GAP + 8, 450 * residuals)
    picture = Image.new("RGB", (width, head + len(rows) * (tile + GAP) + foot), PAPER)
    draw = ImageDraw.Draw(picture)
    write(draw, (GAP + 4, 16), title, 15)
    for column, (texts, size) in enumerate(zip(lines, sizes)):
        for line, text in enumerate(reversed(texts)):
            place = left + column * (tile + GAP) + tile / 2, head - 12 - LINE * line
            write(draw, place, text, size, anchor="mm")
    for i, row in enumerate(rows):
        top = head + i * (tile + GAP)
        if notes:
            write(draw, (left - 8, top + tile / 2), notes[i], 14, anchor="rm", width=NOTES)
        for column, image in enumerate(row):
            if image is not None:
                picture.paste(to_picture(image).resize((tile, tile), Image.Resampling.BICUBIC),
                              (left + column * (tile + GAP), top))
    if residuals:
        _draw_scale(picture, draw, picture.height - LINE)
    return picture


def _draw_scale(picture: Image.Image, draw: ImageDraw.ImageDraw, y: int) -> None:
    """Draw the colors of residuals from left to right, between the meanings of the first and the last of them."""
    change = torch.linspace(0, STRONGEST, 120).expand(1, 3, 12, 120)
    texts = "change of a pixel: none", f"{100 * STRONGEST / 2:.0f} % of the range or more"
    write(draw, (GAP + 4, y), texts[0], 13)
    start = GAP + 11 + widest(texts[:1], 13)
    picture.paste(to_picture(residual_picture(change)[0]), (start, y - 6))
    draw.rectangle((start, y - 6, start + 119, y + 5), outline=FAINT)
    write(draw, (start + 128, y), texts[1], 13)


def residual_picture(residual: Tensor) -> Tensor:
    """Return images in [-1, 1] of residuals (N, 3, S, S) in [-2, 2]: from black for no change over red to white."""
    strength = residual.abs().mean(1, keepdim=True) / STRONGEST
    return torch.cat([(3 * strength - start).clamp(0, 1) for start in (0, 1, 2)], dim=1) * 2 - 1


def to_picture(image: Tensor) -> Image.Image:
    """Return an image (3, H, W) in [-1, 1] as a PIL image."""
    pixels = image.float().clamp(-1, 1).add(1).mul(127.5).round().byte()
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy()))
