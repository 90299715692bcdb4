"""Pictures of results, fit for a paper: a confusion matrix, and the intervals of a comparison."""

from typing import Sequence

import numpy as np
from PIL import Image, ImageDraw

from evaluation.comparison import Spread
from evaluation.metrics import Report
from pictures.lettering import FAINT, INK, PAPER, RULE, draw_upright, fitting_size, ink_on, widest, write

SHADE, EDGE = (8, 69, 148), (206, 212, 218)
CELL, TOP, RIGHT, BOTTOM = 104, 92, 32, 96
SCALE, PANEL, ROW, HEAD, FOOT = 2, 340, 52, 46, 62  # of the intervals' picture
BLUE = (8, 69, 148)


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
    draw = ImageDraw.Draw(picture)
    write(draw, (width / 2, 32), heading, 24, anchor="mm")
    write(draw, (width / 2, 64), source, 16, FAINT, "mm", width - 24)
    for i in range(n):
        for j in range(n):
            _draw_cell(draw, left + j * CELL, TOP + i * CELL, report.row_percent[i, j], int(report.counts[i, j]))
    for i, (name, note) in enumerate(zip(names, notes)):
        middle = TOP + (i + 0.5) * CELL
        write(draw, (left - 14, middle - 10), name, 22, anchor="rm")
        write(draw, (left - 14, middle + 16), note, 16, FAINT, "rm")
        foot = left + (i + 0.5) * CELL, TOP + n * CELL + 22
        write(draw, foot, name, fitting_size(name.replace(" ", "_"), 22, CELL - 6), anchor="mm")
    draw.rectangle((left, TOP, left + n * CELL, TOP + n * CELL), outline=INK, width=2)
    write(draw, (left + n * CELL / 2, TOP + n * CELL + 64), "recognized as", 22, anchor="mm")
    draw_upright(picture, "true expression", (26, TOP + n * CELL // 2), 22)
    return picture


def _draw_cell(draw: ImageDraw.ImageDraw, x: int, y: int, percent: float, count: int) -> None:
    share = 0.0 if np.isnan(percent) else percent / 100
    fill = tuple(round(p + (s - p) * share) for p, s in zip(PAPER, SHADE))
    draw.rectangle((x, y, x + CELL, y + CELL), fill, outline=EDGE)
    text = "–" if np.isnan(percent) else f"{percent:.1f} %"
    write(draw, (x + CELL / 2, y + CELL / 2 - 10), text, 22, ink_on(fill), "mm")
    write(draw, (x + CELL / 2, y + CELL / 2 + 18), f"{count:,}", 16, ink_on(fill), "mm")


def intervals_picture(names: Sequence[str], panels: Sequence[tuple[str, Sequence[Sequence[float]]]]) -> Image.Image:
    """Draw a row per group and a panel per measure: a ring for each run, a line for the mean, a bar for its interval.

    ``panels`` hold the title of a measure and the values of each group in percent; the intervals are 95 % ones.
    """
    left, gap = widest(names, 15) + 40, 60
    size = left + len(panels) * (PANEL + gap), HEAD + ROW * len(names) + FOOT
    picture = Image.new("RGB", (SCALE * size[0], SCALE * size[1]), PAPER)
    draw = ImageDraw.Draw(picture)
    for i, name in enumerate(names):
        write(draw, (SCALE * (left - 26), SCALE * (HEAD + (i + 0.5) * ROW + 6)), name, SCALE * 15, anchor="rm")
    for number, (title, groups) in enumerate(panels):
        _draw_panel(draw, left + number * (PANEL + gap), title, groups)
    caption = "ring: a run; line: mean of the runs ± standard deviation; bar: 95 % interval of the mean"
    write(draw, (SCALE * left, SCALE * (size[1] - 18)), caption, SCALE * 12, FAINT)
    return picture.resize(size, Image.Resampling.LANCZOS)


def _draw_panel(draw: ImageDraw.ImageDraw, left: int, title: str, groups: Sequence[Sequence[float]]) -> None:
    spreads = [Spread.from_values(values) for values in groups]
    ends = [end for values, spread in zip(groups, spreads) for end in (*values, spread.low, spread.high)]
    low, high = max(0.0, np.nanmin(ends)), min(100.0, np.nanmax(ends))
    step = next(step for step in (1, 2, 5, 10, 20, 25) if (high - low) / step <= 6)
    low, high = step * np.floor(low / step), step * max(np.ceil(high / step), np.floor(low / step) + 1)
    foot = HEAD + ROW * len(groups)

    def x(value: float) -> float:
        return SCALE * (left + (min(max(value, low), high) - low) / (high - low) * PANEL)

    write(draw, (SCALE * left, SCALE * 18), title, SCALE * 15)
    for tick in np.arange(low, high + step / 2, step):
        draw.line((x(tick), SCALE * (HEAD - 8), x(tick), SCALE * foot), RULE, SCALE)
        write(draw, (x(tick), SCALE * (foot + 14)), f"{tick:g} %", SCALE * 12, FAINT, "mm")
    for i, (values, spread) in enumerate(zip(groups, spreads)):
        y = SCALE * (HEAD + (i + 0.5) * ROW + 6)
        if not np.isnan(spread.low):
            draw.rectangle((x(spread.low), y - SCALE * 6, x(spread.high), y + SCALE * 6), (190, 211, 236))
        draw.line((x(spread.mean), y - SCALE * 11, x(spread.mean), y + SCALE * 11), BLUE, 2 * SCALE)
        for value in values:
            draw.ellipse((x(value) - SCALE * 4, y - SCALE * 4, x(value) + SCALE * 4, y + SCALE * 4), PAPER, BLUE, SCALE)
        middle = min(x(spread.mean), SCALE * (left + PANEL - 48)), y - SCALE * 20
        write(draw, middle, f"{spread} %", SCALE * 12, anchor="mm")
