"""Predictions of a recognizer as pictures: faces with probability bars and heat maps, boxes in a photograph."""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from pictures.lettering import FAINT, INK, PAPER, fitted, ink_on
from pictures.sheets import to_picture

FACE, GAP, BARS, CAPTION, COLUMNS = 144, 12, 244, 26, 2
COLORS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (110, 110, 110),
          (140, 86, 75), (148, 103, 189), (188, 189, 34))  # Okabe and Ito's, without black, and three more


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
    draw.text((left, top + CAPTION / 2), fitted(card.caption, font, 2 * FACE + BARS), INK, font, anchor="lm")
    top += CAPTION
    picture.paste(enlarged(card.face, FACE), (left, top))
    picture.paste(enlarged(heat_over_face(card.face, card.heat), FACE), (left + FACE + 4, top))
    _draw_bars(draw, left + 2 * FACE + GAP + 4, top, card, names)


def _draw_bars(draw: ImageDraw.ImageDraw, left: int, top: int, card: Card, names: Sequence[str]) -> None:
    """A bar for each expression; the named one is in color, and a frame marks the true one where it is known."""
    font = ImageFont.load_default(13)
    word = min(96, max(int(font.getlength(name)) for name in names)) + 10
    room, step = BARS - word - 58, min(24, (FACE - 4) // len(names) if len(names) < 8 else 18)
    predicted = int(card.probabilities.argmax())
    for i, (name, share) in enumerate(zip(names, card.probabilities.tolist())):
        y = top + i * step + step / 2
        strong = i == predicted
        draw.text((left + word - 6, y), fitted(name, font, word - 6), INK if strong else FAINT, font, anchor="rm")
        draw.rectangle((left + word, y - 5, left + word + max(1, round(share * room)), y + 5),
                       color_of(i) if strong else (190, 197, 204))
        draw.text((left + word + room + 6, y), f"{100 * share:.1f} %", INK if strong else FAINT, font, anchor="lm")
        if i == card.true:
            draw.rounded_rectangle((left - 2, y - step / 2 + 1, left + word + room + 52, y + step / 2 - 1), 4,
                                   outline=color_of(i), width=2)


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
        predicted = int(np.argmax(shares))
        color, text = color_of(predicted), f"{names[predicted]} {100 * shares[predicted]:.0f} %"
        text = f"#{number} {text}" if len(boxes) > 1 else text
        draw.rectangle((left, top, left + width, top + height), outline=color, width=line)
        font = ImageFont.load_default(max(11, round(min(height / 6, max(picture.size) / 40))))
        while font.getlength(text) > max(width, 90) and font.size > 11:
            font = ImageFont.load_default(font.size - 1)
        tall, wide = font.size + 6, int(font.getlength(text)) + 8
        x = min(max(0, left - line // 2), max(0, picture.width - wide))
        y = top - tall if top >= tall else min(top + height, picture.height - tall)
        draw.rectangle((x, y, x + wide, y + tall), color)
        draw.text((x + wide / 2, y + tall / 2), text, ink_on(color), font, anchor="mm")
    return picture
