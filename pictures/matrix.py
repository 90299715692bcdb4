"""The picture of a confusion matrix, fit for a paper."""

from typing import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from evaluation.metrics import Report
from pictures.lettering import FAINT, INK, PAPER, draw_upright, fitted, fitting_font, ink_on, widest

SHADE, EDGE = (8, 69, 148), (206, 212, 218)
CELL, TOP, RIGHT, BOTTOM = 104, 92, 32, 96


def confusion_picture(report: Report, names: Sequence[str], heading: str, source: str = "") -> Image.Image:
    """Draw a confusion matrix: a cell holds its share of the row in percent, and the number of images.

    ``names`` are those of the expressions in the order of the matrix; rows are the true expressions. ``source``, below
    the ``heading``, tells which run was tested on which data.
    """
    n, counts = len(names), report.counts.sum(1)
    notes = [f"{count:,} image{'s' * (count != 1)}" for count in counts.tolist()]
    left = 48 + max(widest(names, 22), widest(notes, 16)) + 28
    width = max(left + n * CELL + RIGHT, widest([heading], 24) + 2 * RIGHT)
    picture = Image.new("RGB", (width, TOP + n * CELL + BOTTOM), PAPER)
    draw, font, small = ImageDraw.Draw(picture), ImageFont.load_default(22), ImageFont.load_default(16)
    draw.text((width / 2, 32), heading, INK, ImageFont.load_default(24), anchor="mm")
    draw.text((width / 2, 64), fitted(source, small, width - 24), FAINT, small, anchor="mm")
    for i in range(n):
        for j in range(n):
            _draw_cell(draw, left + j * CELL, TOP + i * CELL, report.row_percent[i, j], int(report.counts[i, j]))
    for i, (name, note) in enumerate(zip(names, notes)):
        middle = TOP + (i + 0.5) * CELL
        draw.text((left - 14, middle - 10), name, INK, font, anchor="rm")
        draw.text((left - 14, middle + 16), note, FAINT, small, anchor="rm")
        foot = left + (i + 0.5) * CELL, TOP + n * CELL + 22
        draw.text(foot, name, INK, fitting_font(name.replace(" ", "_"), 22, CELL - 6), anchor="mm")
    draw.rectangle((left, TOP, left + n * CELL, TOP + n * CELL), outline=INK, width=2)
    draw.text((left + n * CELL / 2, TOP + n * CELL + 64), "recognized as", INK, font, anchor="mm")
    draw_upright(picture, "true expression", (26, TOP + n * CELL // 2), font)
    return picture


def _draw_cell(draw: ImageDraw.ImageDraw, x: int, y: int, percent: float, count: int) -> None:
    share = 0.0 if np.isnan(percent) else percent / 100
    fill = tuple(round(p + (s - p) * share) for p, s in zip(PAPER, SHADE))
    draw.rectangle((x, y, x + CELL, y + CELL), fill, outline=EDGE)
    text = "–" if np.isnan(percent) else f"{percent:.1f} %"
    draw.text((x + CELL / 2, y + CELL / 2 - 10), text, ink_on(fill), ImageFont.load_default(22), anchor="mm")
    draw.text((x + CELL / 2, y + CELL / 2 + 18), f"{count:,}", ink_on(fill), ImageFont.load_default(16), anchor="mm")
