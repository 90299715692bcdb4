"""Sheets of faces in labeled rows and columns: swaps, interpolations, persons with expressions, an epoch's samples."""

from typing import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pictures.lettering import FAINT, INK, PAPER, fitting_font, widest, wrapped

SMALLEST_TILE, GAP, LINE = 64, 3, 16
STRONGEST = 0.6  # the change of a pixel in [-1, 1] that is drawn white, as are all larger ones
Row = Sequence[Tensor | None]


def sheet(rows: Sequence[Row], heads: Sequence[str], notes: Sequence[str] = (), title: str = "",
          residuals: bool = False) -> Image.Image:
    """Draw rows of images (3, S, S) in [-1, 1], or None for an empty place, under column heads.

    ``notes`` are drawn at the left of the rows. With ``residuals``, the scale of :func:`residual_picture` is drawn
    below.
    """
    factor, size = -(-SMALLEST_TILE // _side(rows)), 14
    tile = _side(rows) * factor
    left = widest(notes, size) + 14 if notes else GAP
    fonts = [fitting_font(head, 12, tile - 2) for head in heads]
    lines = [wrapped(head, font, tile - 2) for head, font in zip(heads, fonts)]
    head = (LINE + 12 if title else 0) + LINE * max(map(len, lines)) + 6
    foot = LINE + 14 if residuals else GAP
    width = max(left + len(heads) * (tile + GAP), (widest([title], 15) if title else 0) + 2 * GAP + 8, 450 * residuals)
    picture = Image.new("RGB", (width, head + len(rows) * (tile + GAP) + foot), PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
    draw.text((GAP + 4, 16), title, INK, ImageFont.load_default(15), anchor="lm")
    for column, (texts, small) in enumerate(zip(lines, fonts)):
        for line, text in enumerate(reversed(texts)):
            draw.text((left + column * (tile + GAP) + tile / 2, head - 12 - LINE * line), text, INK, small, anchor="mm")
    for i, row in enumerate(rows):
        top = head + i * (tile + GAP)
        if notes:
            draw.text((left - 8, top + tile / 2), notes[i], INK, font, anchor="rm")
        for column, image in enumerate(row):
            if image is not None:
                picture.paste(to_picture(image).resize((tile, tile), Image.Resampling.BICUBIC),
                              (left + column * (tile + GAP), top))
    if residuals:
        _draw_scale(picture, draw, picture.height - LINE)
    return picture


def _side(rows: Sequence[Row]) -> int:
    return next(image.shape[-1] for row in rows for image in row if image is not None)


def _draw_scale(picture: Image.Image, draw: ImageDraw.ImageDraw, y: int) -> None:
    """Draw the colors of residuals from left to right, between the meanings of the first and the last of them."""
    font, change = ImageFont.load_default(13), torch.linspace(0, STRONGEST, 120).expand(1, 3, 12, 120)
    texts = "change of a pixel: none", f"{100 * STRONGEST / 2:.0f} % of the range or more"
    draw.text((GAP + 4, y), texts[0], INK, font, anchor="lm")
    start = GAP + 12 + int(font.getlength(texts[0]))
    picture.paste(to_picture(residual_picture(change)[0]), (start, y - 6))
    draw.rectangle((start, y - 6, start + 119, y + 5), outline=FAINT)
    draw.text((start + 128, y), texts[1], INK, font, anchor="lm")


def residual_picture(residual: Tensor) -> Tensor:
    """Return images in [-1, 1] of residuals (N, 3, S, S) in [-2, 2]: from black for no change over red to white."""
    strength = residual.abs().mean(1, keepdim=True) / STRONGEST
    return torch.cat([(3 * strength - start).clamp(0, 1) for start in (0, 1, 2)], dim=1) * 2 - 1


def to_picture(image: Tensor) -> Image.Image:
    """Return an image (3, H, W) in [-1, 1] as a PIL image."""
    pixels = image.float().clamp(-1, 1).add(1).mul(127.5).round().byte()
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy()))
