"""Tensors and figures → pictures for people: sample grids, the swap's panels, sheets, the confusion matrix."""

from __future__ import annotations

from typing import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

from evaluation.metrics import Report

SMALLEST_PANEL = 128


def grid(rows: Sequence[Tensor]) -> Image.Image:
    """Rows of images (N, 3, S, S) in [-1, 1], top to bottom, with thin white lines between them."""
    columns = rows[0].shape[0]
    return to_picture(make_grid(torch.cat([row.float().cpu() for row in rows]), nrow=columns, padding=2, pad_value=1))


def panels(rows: Sequence[Sequence[Tensor | None]]) -> Image.Image:
    """Rows of images (3, S, S) in [-1, 1] side by side, None for white; small ones are enlarged by a whole factor."""
    empty = torch.ones_like(next(panel for panel in rows[0] if panel is not None))
    picture = to_picture(torch.cat([torch.cat([empty if panel is None else panel for panel in row], dim=2)
                                    for row in rows], dim=1).float().cpu())
    factor = -(-SMALLEST_PANEL // empty.shape[-1])
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)


def residual_image(residual: Tensor) -> Tensor:
    """A residual in [-2, 2] as an image in [-1, 1]: middle grey where nothing changes."""
    return residual / 2


def heat_map(residual: Tensor) -> Tensor:
    """Residuals (N, 3, S, S) in [-2, 2] as images in [-1, 1]: black where nothing changes, over red to white at 0.6."""
    strength = residual.abs().mean(1, keepdim=True) / 0.6
    return torch.cat([(3 * strength - start).clamp(0, 1) for start in (0, 1, 2)], dim=1) * 2 - 1


def sheet(heads: Sequence[str], rows: Sequence[Sequence[Tensor | None]], notes: Sequence[str]) -> Image.Image:
    """:func:`panels` under column heads, with a note at the left of each row."""
    body = panels(rows)
    font = ImageFont.load_default(18)
    left = int(max((font.getlength(note) for note in notes), default=0)) + 24
    cell = body.width // len(heads)
    picture = Image.new("RGB", (left + body.width + 8, 40 + body.height + 8), PAPER)
    picture.paste(body, (left, 40))
    draw = ImageDraw.Draw(picture)
    for i, head in enumerate(heads):
        draw.text((left + (i + 0.5) * cell, 20), head, INK, font, anchor="mm")
    for i, note in enumerate(notes):
        draw.text((left - 12, 40 + (i + 0.5) * body.height / len(rows)), note, INK, font, anchor="rm")
    return picture


def to_picture(image: Tensor) -> Image.Image:
    """(3, H, W) in [-1, 1] → PIL image."""
    pixels = image.float().clamp(-1, 1).add(1).mul(127.5).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


# ---------------------------------------------------------------------------------------- confusion matrix

INK, PAPER, SHADE = (33, 37, 41), (255, 255, 255), (8, 69, 148)


def confusion_picture(report: Report, names: Sequence[str], title: str) -> Image.Image:
    """The confusion matrix for a paper: a cell's shade and number are the row's per cent, the count stands below.

    ``names`` are the expressions' in the order of the matrix; rows are the truth, columns what was said.
    """
    cell, n = 104, len(names)
    font, small, large = (ImageFont.load_default(size) for size in (22, 16, 24))
    label_width = int(max(font.getlength(name) for name in names)) + 28
    left, top, right, bottom = 48 + label_width, 76, 32, 96
    picture = Image.new("RGB", (max(left + n * cell + right, int(large.getlength(title)) + 2 * right),
                                top + n * cell + bottom), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((picture.width / 2, top / 2), title, INK, large, anchor="mm")
    for i in range(n):
        for j in range(n):
            _draw_cell(draw, left + j * cell, top + i * cell, cell, report.row_percent[i, j],
                       int(report.counts[i, j]), (font, small))
    for i, name in enumerate(names):
        draw.text((left - 14, top + (i + 0.5) * cell), name, INK, font, anchor="rm")
        shown = font if font.getlength(name) <= cell - 6 else small
        while shown.getlength(name) > cell - 6 and shown.size > 9:
            shown = ImageFont.load_default(shown.size - 1)
        draw.text((left + (i + 0.5) * cell, top + n * cell + 22), name, INK, shown, anchor="mm")
    draw.rectangle((left, top, left + n * cell, top + n * cell), outline=INK, width=2)
    draw.text((left + n * cell / 2, top + n * cell + 64), "recognized as", INK, font, anchor="mm")
    _draw_upright(picture, "true expression", (26, top + n * cell // 2), font)
    return picture


def _draw_cell(draw: ImageDraw.ImageDraw, x: int, y: int, cell: int, percent: float, count: int, fonts: tuple) -> None:
    share = 0.0 if np.isnan(percent) else percent / 100
    fill = tuple(round(p + (s - p) * share) for p, s in zip(PAPER, SHADE))
    draw.rectangle((x, y, x + cell, y + cell), fill, outline=(206, 212, 218))
    ink = PAPER if share > 0.45 else INK
    text = "–" if np.isnan(percent) else f"{percent:.1f}"
    draw.text((x + cell / 2, y + cell / 2 - 10), text, ink, fonts[0], anchor="mm")
    draw.text((x + cell / 2, y + cell / 2 + 18), str(count), ink, fonts[1], anchor="mm")


def _draw_upright(picture: Image.Image, text: str, center: tuple[int, int], font: ImageFont.ImageFont) -> None:
    strip = Image.new("RGB", (int(font.getlength(text)) + 8, 32), PAPER)
    ImageDraw.Draw(strip).text((strip.width / 2, 16), text, INK, font, anchor="mm")
    strip = strip.rotate(90, expand=True)
    picture.paste(strip, (center[0] - strip.width // 2, center[1] - strip.height // 2))
