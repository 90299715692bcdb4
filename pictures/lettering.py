"""Lettering that all pictures share: colors, and text that fits its place and is legible on its background."""

from typing import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, PAPER, FAINT, RULE = (33, 37, 41), (255, 255, 255), (95, 103, 112), (222, 226, 230)
SMALLEST = 9  # points that are still legible
Color = tuple[int, int, int]


def contrast(one: Color, other: Color) -> float:
    """Return the contrast ratio of two sRGB colors, from 1 to 21, by their relative luminances (WCAG 2.1)."""
    srgb = np.asarray((one, other)) / 255
    linear = np.where(srgb <= 0.03928, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    dark, light = sorted(linear @ (0.2126, 0.7152, 0.0722))
    return float((light + 0.05) / (dark + 0.05))


def ink_on(background: Color) -> Color:
    """Return black or white, whichever is easier to read on a color: the contrast is at least 4.58."""
    return max(((0, 0, 0), PAPER), key=lambda ink: contrast(ink, background))


def fitted(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Return a text, shortened at its front if it is wider than ``width`` pixels: a file name's end tells most."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("…" + text) > width:
        text = text[1:]
    return "…" + text


def fitting_font(text: str, size: int, width: float) -> ImageFont.FreeTypeFont:
    """Return the font of the largest size up to ``size`` in which no word of a text is wider than ``width`` pixels."""
    fonts = map(ImageFont.load_default, range(size, SMALLEST - 1, -1))
    return next((font for font in fonts if max(map(font.getlength, text.split() or [""])) <= width),
                ImageFont.load_default(SMALLEST))


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Return the lines of a text that is broken between words at a width in pixels."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(fitted(word, font, width))
    return lines


def widest(texts: Sequence[str], size: int) -> int:
    """Return the width in pixels of the widest of several texts at a font size."""
    font = ImageFont.load_default(size)
    return int(max(map(font.getlength, texts), default=0)) + 1


def draw_upright(picture: Image.Image, text: str, center: tuple[int, int], font: ImageFont.FreeTypeFont) -> None:
    """Write a text from bottom to top."""
    strip = Image.new("RGB", (int(font.getlength(text)) + 8, 32), PAPER)
    ImageDraw.Draw(strip).text((strip.width / 2, 16), text, INK, font, anchor="mm")
    strip = strip.rotate(90, expand=True)
    picture.paste(strip, (center[0] - strip.width // 2, center[1] - strip.height // 2))
