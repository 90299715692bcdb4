"""What a recognizer said, as pictures: faces with probability bars and heat maps, boxes in a photograph, a timeline."""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from pictures.figures import INK, PAPER, to_picture

FACE, GAP, BARS, CAPTION, COLUMNS = 144, 12, 244, 26, 2
FAINT, RULE = (134, 142, 150), (222, 226, 230)
COLORS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (110, 110, 110),
          (140, 86, 75), (148, 103, 189), (188, 189, 34))  # Okabe and Ito's, without black, and three more
PERSONS_SHOWN = 4


class Card(NamedTuple):
    """A face (3, S, S) in [-1, 1], its heat map (S, S) in [0, 1], probabilities (n,), a caption, and what is true."""

    face: Tensor
    heat: Tensor
    probabilities: np.ndarray
    caption: str
    true: int | None = None


def color_of(expression: int) -> tuple[int, int, int]:
    """The color of an expression in boxes and timelines."""
    return COLORS[expression % len(COLORS)]


def heat_over_face(face: Tensor, heat: Tensor) -> Tensor:
    """A face (3, S, S) in [-1, 1] in grey under its heat map (S, S) in [0, 1]: yellow, and red where it is hottest."""
    grey = face.mean(0, keepdim=True).expand(3, -1, -1)
    red = torch.ones_like(heat)
    color = torch.stack([red, 0.9 - 1.7 * (heat - 0.4).clamp(min=0), -0.75 * red])
    return torch.lerp(grey, color, 0.8 * heat.clamp(0, 1))


def enlarged(image: Tensor, side: int) -> Image.Image:
    """An image (3, S, S) in [-1, 1] as a picture of a side in pixels."""
    return to_picture(F.interpolate(image[None].float(), size=(side, side), mode="bicubic", antialias=True)[0])


# --------------------------------------------------------------------------------------------- faces and bars

def cards_picture(cards: Sequence[Card], names: Sequence[str], heads: Sequence[str]) -> Image.Image:
    """Faces, heat maps and probabilities in two columns under lines of text, the first of them large."""
    columns = min(COLUMNS, max(1, len(cards)))
    rows = -(-len(cards) // columns)
    height = CAPTION + max(FACE, 18 * len(names) + 4) + GAP
    width = 2 * FACE + GAP + BARS + 2 * GAP
    fonts = [ImageFont.load_default(size) for size in [20, *[13] * (len(heads) - 1)]]
    needed = max((int(font.getlength(head)) for head, font in zip(heads, fonts)), default=0) + 4 * GAP
    top = 14 + sum(font.size + 8 for font in fonts)
    picture = Image.new("RGB", (max(columns * width + 2 * GAP, needed), top + rows * height + GAP), PAPER)
    draw, y = ImageDraw.Draw(picture), 12
    for head, font in zip(heads, fonts):
        draw.text((2 * GAP, y), head, INK if font is fonts[0] else FAINT, font)
        y += font.size + 8
    for i, card in enumerate(cards):
        _draw_card(picture, draw, 2 * GAP + i % columns * width, top + i // columns * height, card, names)
    return picture


def _draw_card(picture: Image.Image, draw: ImageDraw.ImageDraw, left: int, top: int, card: Card,
               names: Sequence[str]) -> None:
    font = ImageFont.load_default(14)
    draw.text((left, top + CAPTION / 2), _fitted(card.caption, font, 2 * FACE + BARS), INK, font, anchor="lm")
    top += CAPTION
    picture.paste(enlarged(card.face, FACE), (left, top))
    picture.paste(enlarged(heat_over_face(card.face, card.heat), FACE), (left + FACE + 4, top))
    _draw_bars(draw, left + 2 * FACE + GAP + 4, top, card, names)


def _draw_bars(draw: ImageDraw.ImageDraw, left: int, top: int, card: Card, names: Sequence[str]) -> None:
    """A bar for each expression; the named one is in color, and a frame marks the true one where it is known."""
    font = ImageFont.load_default(13)
    word = min(96, max(int(font.getlength(name)) for name in names)) + 10
    room, step = BARS - word - 58, min(24, (FACE - 4) // len(names) if len(names) < 8 else 18)
    said = int(card.probabilities.argmax())
    for i, (name, share) in enumerate(zip(names, card.probabilities.tolist())):
        y = top + i * step + step / 2
        strong = i == said
        draw.text((left + word - 6, y), _fitted(name, font, word - 6), INK if strong else FAINT, font, anchor="rm")
        draw.rectangle((left + word, y - 5, left + word + max(1, round(share * room)), y + 5),
                       color_of(i) if strong else (190, 197, 204))
        draw.text((left + word + room + 6, y), f"{100 * share:.1f} %", INK if strong else FAINT, font, anchor="lm")
        if i == card.true:
            draw.rounded_rectangle((left - 2, y - step / 2 + 1, left + word + room + 52, y + step / 2 - 1), 4,
                                   outline=color_of(i), width=2)


def _fitted(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """A text, shortened in its front where it is too wide: the end of a file's name says most."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength("…" + text) > room:
        text = text[1:]
    return "…" + text


# ------------------------------------------------------------------------------------- boxes in a photograph

def with_boxes(photo: Image.Image, boxes: Sequence[tuple[int, int, int, int]], probabilities: Sequence[np.ndarray],
               names: Sequence[str]) -> Image.Image:
    """A copy of a photograph with a box (left, top, width, height) around each face, its expression and probability.

    Several faces are numbered in their order.
    """
    picture = photo.convert("RGB")
    draw = ImageDraw.Draw(picture)
    line = max(2, round(max(picture.size) / 400))
    for number, ((left, top, width, height), shares) in enumerate(zip(boxes, probabilities), 1):
        said = int(np.argmax(shares))
        color, text = color_of(said), f"{names[said]} {100 * shares[said]:.0f} %"
        text = f"#{number} {text}" if len(boxes) > 1 else text
        draw.rectangle((left, top, left + width, top + height), outline=color, width=line)
        font = ImageFont.load_default(max(11, round(min(height / 6, max(picture.size) / 40))))
        while font.getlength(text) > max(width, 90) and font.size > 11:
            font = ImageFont.load_default(font.size - 1)
        tall, wide = font.size + 6, int(font.getlength(text)) + 8
        x = min(max(0, left - line // 2), max(0, picture.width - wide))
        y = top - tall if top >= tall else min(top + height, picture.height - tall)
        draw.rectangle((x, y, x + wide, y + tall), color)
        light = np.dot(color, (0.299, 0.587, 0.114)) > 140
        draw.text((x + wide / 2, y + tall / 2), text, INK if light else PAPER, font, anchor="mm")
    return picture


# ------------------------------------------------------------------------------------------------- a timeline

def timeline(persons: Sequence[tuple[str, np.ndarray, np.ndarray]], names: Sequence[str], title: str,
             longest_gap: float) -> Image.Image:
    """Probabilities over time: per person a note, seconds (T,) and probabilities (T, n), a panel each.

    A line breaks where nothing is known for more than ``longest_gap`` seconds. Drawn twice as large and reduced.
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
    for row, (note, seconds, shares) in enumerate(persons):
        y = top + row * (panel + under)

        def place(t: float, share: float) -> tuple[float, float]:
            return scale * (left + (t - start) / (end - start) * inner), scale * (y + (1 - share) * panel)

        for percent in (0, 25, 50, 75, 100):
            a, b = place(start, percent / 100), place(end, percent / 100)
            draw.line((a, b), RULE, scale)
            draw.text((a[0] - scale * 8, a[1]), f"{percent} %", FAINT, font, anchor="rm")
        for t in _ticks(start, end):
            x, foot = place(t, 0)
            draw.line((x, foot, x, foot + scale * 5), FAINT, scale)
            draw.text((x, foot + scale * 16), f"{t:g} s", FAINT, font, anchor="mm")
        draw.text((scale * left, scale * (y + panel + 36)), note, INK, font, anchor="lm")
        for part in _unbroken(seconds, longest_gap):
            for i in range(len(names)):
                points = [place(t, share) for t, share in zip(seconds[part], shares[part, i])]
                if len(points) > 1:
                    draw.line(points, color_of(i), 2 * scale, joint="curve")
                else:
                    (x, at), = points
                    draw.ellipse((x - 4, at - 4, x + 4, at + 4), color_of(i))
        for i, name in enumerate(names):
            at = scale * (y + 12 + i * min(28, panel // len(names))), scale * (width - right + 16)
            draw.rectangle((at[1], at[0] - scale * 4, at[1] + scale * 14, at[0] + scale * 4), color_of(i))
            draw.text((at[1] + scale * 20, at[0]), name, INK, font, anchor="lm")
    return picture.resize((width, picture.height // scale), Image.Resampling.LANCZOS)


def _ticks(start: float, end: float) -> list[float]:
    """About eight round numbers in a range."""
    rough = (end - start) / 8
    unit = 10 ** np.floor(np.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first = int(np.ceil(start / step - 1e-9))
    return [round(i * step, 6) for i in range(first, int(end / step + 1e-9) + 1)]


def _unbroken(seconds: np.ndarray, longest_gap: float) -> list[slice]:
    """The parts of rising times (T,) between which nothing was known for long."""
    cuts = [0, *(np.flatnonzero(np.diff(seconds) > longest_gap) + 1).tolist(), len(seconds)]
    return [slice(a, b) for a, b in zip(cuts, cuts[1:])]
