"""Pictures of a recognizer's predictions: faces with probability bars and heat maps, boxes in a photograph."""

from typing import NamedTuple, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from pictures.lettering import FAINT, INK, PAPER, ink_on, widest, write
from pictures.sheets import to_picture

FACE, GAP, BARS, CAPTION, COLUMNS = 144, 12, 244, 26, 2
COLORS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (110, 110, 110),
          (140, 86, 75), (148, 103, 189), (188, 189, 34))  # Okabe and Ito's, without black, and three more


class Card(NamedTuple):
    """A face (3, S, S) in [-1, 1], its heat map (S, S) in [0, 1], probabilities (n,), caption and true expression."""

    face: Tensor
    heat: Tensor
    probabilities: np.ndarray
    caption: str
    true: int | None = None


def color_of(expression: int) -> tuple[int, int, int]:
    """Return the color of an expression in bars and boxes."""
    return COLORS[expression % len(COLORS)]


def heat_over_face(face: Tensor, heat: Tensor) -> Tensor:
    """Return a gray face (3, S, S) in [-1, 1] under its heat map (S, S) in [0, 1], which is yellow to red."""
    grey = face.mean(0, keepdim=True).expand(3, -1, -1)
    red = torch.ones_like(heat)
    color = torch.stack([red, 0.9 - 1.7 * (heat - 0.4).clamp(min=0), -0.75 * red])
    return torch.lerp(grey, color, 0.8 * heat.clamp(0, 1))


def enlarged(image: Tensor, side: int) -> Image.Image:
    """Return an image (3, S, S) in [-1, 1] as a picture whose side is given in pixels."""
    return to_picture(F.interpolate(image[None].float(), size=(side, side), mode="bicubic", antialias=True)[0])


# --------------------------------------------------------------------------------------------- faces and bars

def cards_picture(cards: Sequence[Card], names: Sequence[str], heads: Sequence[str]) -> Image.Image:
    """Draw faces, heat maps and probabilities in two columns under lines of text, of which the first is large."""
    columns = min(COLUMNS, max(1, len(cards)))
    rows = -(-len(cards) // columns)
    height = CAPTION + max(FACE, 18 * len(names) + 4) + GAP
    width = 2 * FACE + GAP + BARS + 2 * GAP
    sizes = [20, *[13] * (len(heads) - 1)]
    needed = max((widest([head], size) for head, size in zip(heads, sizes)), default=0) + 4 * GAP
    top = 14 + sum(size + 8 for size in sizes)
    picture = Image.new("RGB", (max(columns * width + 2 * GAP, needed), top + rows * height + GAP), PAPER)
    draw, y = ImageDraw.Draw(picture), 12
    for head, size in zip(heads, sizes):
        write(draw, (2 * GAP, y), head, size, INK if size == sizes[0] else FAINT, "la")
        y += size + 8
    for i, card in enumerate(cards):
        _draw_card(picture, draw, 2 * GAP + i % columns * width, top + i // columns * height, card, names)
    return picture


def _draw_card(picture: Image.Image, draw: ImageDraw.ImageDraw, left: int, top: int, card: Card,
               names: Sequence[str]) -> None:
    write(draw, (left, top + CAPTION / 2), card.caption, 14, width=2 * FACE + BARS)
    top += CAPTION
    picture.paste(enlarged(card.face, FACE), (left, top))
    picture.paste(enlarged(heat_over_face(card.face, card.heat), FACE), (left + FACE + 4, top))
    _draw_bars(draw, left + 2 * FACE + GAP + 4, top, card, names)


def _draw_bars(draw: ImageDraw.ImageDraw, left: int, top: int, card: Card, names: Sequence[str]) -> None:
    """Draw a bar for each expression, in color for the predicted one, and a frame around the true one if known."""
    name_width = min(96, widest(names, 13)) + 10
    bar_width, step = BARS - name_width - 58, min(24, (FACE - 4) // len(names) if len(names) < 8 else 18)
    start, predicted = left + name_width, int(card.probabilities.argmax())
    for i, (name, probability) in enumerate(zip(names, card.probabilities.tolist())):
        y = top + i * step + step / 2
        ink = INK if i == predicted else FAINT
        write(draw, (start - 6, y), name, 13, ink, "rm", name_width - 6)
        draw.rectangle((start, y - 5, start + max(1, round(probability * bar_width)), y + 5),
                       color_of(i) if i == predicted else (190, 197, 204))
        write(draw, (start + bar_width + 6, y), f"{100 * probability:.1f} %", 13, ink)
        if i == card.true:
            draw.rounded_rectangle((left - 2, y - step / 2 + 1, start + bar_width + 52, y + step / 2 - 1), 4,
                                   outline=color_of(i), width=2)


# ------------------------------------------------------------------------------------- boxes in a photograph

def with_boxes(photo: Image.Image, boxes: Sequence[tuple[int, int, int, int] | None],
               probabilities: Sequence[np.ndarray], names: Sequence[str]) -> Image.Image:
    """Return a copy of a photograph with a box (left, top, width, height) around each face and its prediction.

    None is the box of the whole photograph. ``probabilities`` are an array (n,) for each box. Several faces are
    numbered in their order.
    """
    picture = photo.convert("RGB")
    draw = ImageDraw.Draw(picture)
    line = max(2, round(max(picture.size) / 400))
    for number, (box, distribution) in enumerate(zip(boxes, probabilities), 1):
        left, top, width, height = box or (0, 0, *picture.size)
        predicted = int(np.argmax(distribution))
        color, text = color_of(predicted), f"{names[predicted]} {100 * distribution[predicted]:.0f} %"
        text = f"#{number} {text}" if len(boxes) > 1 else text
        draw.rectangle((left, top, left + width, top + height), outline=color, width=line)
        size = max(11, round(min(height / 6, max(picture.size) / 40)))
        while widest([text], size) > max(width, 90) and size > 11:
            size -= 1
        tall, wide = size + 6, widest([text], size) + 8
        x = min(max(0, left - line // 2), max(0, picture.width - wide))
        y = top - tall if top >= tall else min(top + height, picture.height - tall)
        draw.rectangle((x, y, x + wide, y + tall), color)
        write(draw, (x + wide / 2, y + tall / 2), text, size, ink_on(color), "mm")
    return picture
