"""The picture of a comparison: the values of several groups with their means and intervals."""

from typing import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from evaluation.pooled import Spread
from pictures.lettering import FAINT, INK, PAPER, RULE, widest

SCALE, PANEL, ROW, TOP, BOTTOM = 2, 340, 52, 46, 62
BLUE = (8, 69, 148)


def intervals_picture(names: Sequence[str], panels: Sequence[tuple[str, Sequence[Sequence[float]]]]) -> Image.Image:
    """Draw a row per group and a panel per measure: a ring for each run, a line for the mean, a bar for its interval.

    ``panels`` hold the title of a measure and the values of each group in percent; the intervals are 95 % ones.
    """
    left, gap = widest(names, 15) + 40, 60
    size = left + len(panels) * (PANEL + gap), TOP + ROW * len(names) + BOTTOM
    picture = Image.new("RGB", (SCALE * size[0], SCALE * size[1]), PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(SCALE * 15)
    for i, name in enumerate(names):
        draw.text((SCALE * (left - 26), SCALE * (TOP + (i + 0.5) * ROW + 6)), name, INK, font, anchor="rm")
    for number, (title, groups) in enumerate(panels):
        _draw_panel(draw, left + number * (PANEL + gap), title, groups)
    caption = "ring: a run; line: mean of the runs ± standard deviation; bar: 95 % interval of the mean"
    draw.text((SCALE * left, SCALE * (size[1] - 18)), caption, FAINT, ImageFont.load_default(SCALE * 12), anchor="lm")
    return picture.resize(size, Image.Resampling.LANCZOS)


def _draw_panel(draw: ImageDraw.ImageDraw, left: int, title: str, groups: Sequence[Sequence[float]]) -> None:
    spreads = [Spread.from_values(values) for values in groups]
    ends = [end for values, spread in zip(groups, spreads) for end in (*values, spread.low, spread.high)]
    low, high = max(0.0, np.nanmin(ends)), min(100.0, np.nanmax(ends))
    step = next(step for step in (1, 2, 5, 10, 20, 25) if (high - low) / step <= 6)
    low, high = step * np.floor(low / step), step * max(np.ceil(high / step), np.floor(low / step) + 1)
    font, small = (ImageFont.load_default(SCALE * points) for points in (15, 12))
    foot = TOP + ROW * len(groups)

    def x(value: float) -> float:
        return SCALE * (left + (min(max(value, low), high) - low) / (high - low) * PANEL)

    draw.text((SCALE * left, SCALE * 18), title, INK, font, anchor="lm")
    for tick in np.arange(low, high + step / 2, step):
        draw.line((x(tick), SCALE * (TOP - 8), x(tick), SCALE * foot), RULE, SCALE)
        draw.text((x(tick), SCALE * (foot + 14)), f"{tick:g} %", FAINT, small, anchor="mm")
    for i, (values, spread) in enumerate(zip(groups, spreads)):
        y = SCALE * (TOP + (i + 0.5) * ROW + 6)
        if not np.isnan(spread.low):
            draw.rectangle((x(spread.low), y - SCALE * 6, x(spread.high), y + SCALE * 6), (190, 211, 236))
        draw.line((x(spread.mean), y - SCALE * 11, x(spread.mean), y + SCALE * 11), BLUE, 2 * SCALE)
        for value in values:
            draw.ellipse((x(value) - SCALE * 4, y - SCALE * 4, x(value) + SCALE * 4, y + SCALE * 4), PAPER, BLUE, SCALE)
        middle = min(x(spread.mean), SCALE * (left + PANEL - 48)), y - SCALE * 20
        draw.text(middle, f"{spread} %", INK, small, anchor="mm")
