"""The picture of the probabilities over the time of a video."""

from typing import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pictures.cards import color_of
from pictures.lettering import FAINT, INK, PAPER, RULE, fitted

PERSONS_SHOWN = 4


def timeline(persons: Sequence[tuple[str, np.ndarray, np.ndarray]], names: Sequence[str], title: str,
             longest_gap: float) -> Image.Image:
    """Draw a panel for each person, who is given by a note, seconds (T,) and probabilities (T, n).

    A line breaks in gaps of more than ``longest_gap`` seconds. All is drawn twice as large and reduced.
    """
    scale, width, panel, left, right, top = 2, 1100, 230, 66, 128, 56
    under = 60 if any(note for note, _, _ in persons) else 36
    picture = Image.new("RGB", (scale * width, scale * (top + len(persons) * (panel + under))), PAPER)
    draw = ImageDraw.Draw(picture)
    large, font = (ImageFont.load_default(scale * size) for size in (18, 13))
    draw.text((scale * left, scale * 26), title, INK, large, anchor="lm")
    start = min((seconds[0] for _, seconds, _ in persons), default=0.0)
    end = max(max((seconds[-1] for _, seconds, _ in persons), default=1.0), start + 1e-3)
    inner = width - left - right
    for row, (note, seconds, probabilities) in enumerate(persons):
        y = top + row * (panel + under)

        def place(t: float, probability: float) -> tuple[float, float]:
            return scale * (left + (t - start) / (end - start) * inner), scale * (y + (1 - probability) * panel)

        for percent in (0, 25, 50, 75, 100):
            a, b = place(start, percent / 100), place(end, percent / 100)
            draw.line((a, b), RULE, scale)
            draw.text((a[0] - scale * 8, a[1]), f"{percent} %", FAINT, font, anchor="rm")
        for t in _ticks(start, end):
            x, foot = place(t, 0)
            draw.line((x, foot, x, foot + scale * 5), FAINT, scale)
            draw.text((x, foot + scale * 16), f"{t:g} s", FAINT, font, anchor="mm")
        draw.text((scale * left, scale * (y + panel + 36)), note, INK, font, anchor="lm")
        breaks = np.flatnonzero(np.diff(seconds) > longest_gap) + 1
        for part in np.split(np.arange(len(seconds)), breaks):
            for i in range(len(names)):
                points = [place(t, p) for t, p in zip(seconds[part], probabilities[part, i])]
                if len(points) > 1:
                    draw.line(points, color_of(i), 2 * scale, joint="curve")
                else:
                    (dot_x, dot_y), = points
                    draw.ellipse((dot_x - 4, dot_y - 4, dot_x + 4, dot_y + 4), color_of(i))
        for i, name in enumerate(names):
            key_x, key_y = scale * (width - right + 16), scale * (y + 12 + i * min(28, panel // len(names)))
            draw.rectangle((key_x, key_y - scale * 4, key_x + scale * 14, key_y + scale * 4), color_of(i))
            draw.text((key_x + scale * 20, key_y), fitted(name, font, scale * (right - 40)), INK, font, anchor="lm")
    return picture.resize((width, picture.height // scale), Image.Resampling.LANCZOS)


def _ticks(start: float, end: float) -> list[float]:
    """Return about eight round numbers in a range."""
    rough = (end - start) / 8
    unit = 10 ** np.floor(np.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first = int(np.ceil(start / step - 1e-9))
    return [round(i * step, 6) for i in range(first, int(end / step + 1e-9) + 1)]
