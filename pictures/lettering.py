"""Lettering that all pictures share: colors, and text that is legible, whatever its script, and fits its place."""

import os
import re
import sys
import unicodedata
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, PAPER, FAINT, RULE = (33, 37, 41), (255, 255, 255), (95, 103, 112), (222, 226, 230)
SMALLEST = 9  # points that are still legible
FONT_FOLDERS = [os.path.expandvars(os.path.expanduser(folder)) for folder in (
    "~/.fonts", "~/.local/share/fonts", "/usr/local/share/fonts", "/usr/share/fonts", "~/Library/Fonts",
    "/Library/Fonts", "/System/Library/Fonts", r"%LOCALAPPDATA%\Microsoft\Windows\Fonts", r"%WINDIR%\Fonts")]
FONT_ENDINGS = ".ttf", ".ttc", ".otf"
_UNUSUAL = re.compile("bold|italic|oblique|light|thin|black|mono|condensed|math|serif", re.IGNORECASE)
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


# -------------------------------------------------------------------------------------------- fonts of all scripts

def font_of(text: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font with all characters of a text: Pillow's own, else one of the system's, else Pillow's own."""
    return _font(_font_file(frozenset(text) - set(map(chr, range(128)))) or "", size)


@cache
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)


def legible(text: str) -> str:
    """Return a text, or its transcription with Latin letters, of which a line tells, if no font has its characters."""
    characters = frozenset(text) - set(map(chr, range(128)))
    return text if _font_file(characters) is not None else _transcription(text)


@cache
def _font_file(characters: frozenset[str]) -> str | None:
    """Return the file of a font with all these characters: "" for Pillow's own, None if the system has none."""
    if _has_all(ImageFont.load_default(16), characters):
        return ""
    files = sorted((path for folder in FONT_FOLDERS for path in Path(folder).rglob("*")
                    if path.suffix.lower() in FONT_ENDINGS and "lastresort" not in path.name.lower()),
                   key=lambda path: (bool(_UNUSUAL.search(path.name)), "sans" not in path.name.lower(), path))
    for path in files:
        try:
            if _has_all(ImageFont.truetype(path, 16), characters):
                return str(path)
        except OSError:  # no font that Pillow reads
            continue
    return None


def _has_all(font: ImageFont.FreeTypeFont, characters: frozenset[str]) -> bool:
    """Return whether a font has a shape of its own for each character, and not the one of missing characters."""
    def drawn(character: str) -> bytes:
        picture = Image.new("L", (48, 48))
        ImageDraw.Draw(picture).text((12, 12), character, 255, font)
        return picture.tobytes()

    missing = drawn("\U0010ffff")
    return all(drawn(character) != missing for character in characters)


@cache
def _transcription(text: str) -> str:
    """Return a text in Latin letters, by the names that Unicode gives its characters, and print a line that says so."""
    letters = []
    for character in unicodedata.normalize("NFC", text):
        plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        kind = unicodedata.category(character)[0]  # marks belong to a letter
        name = re.search("(?:LETTER|SYLLABLE|CHARACTER) (?:SMALL |CAPITAL )?([A-Z]+)", unicodedata.name(character, ""))
        other = {"M": "", "P": "-"}.get(kind, name[1].title() if name else f"U+{ord(character):X}")
        letters.append(plain or other)
    result = "".join(letters)
    if any(character.isalpha() and not character.isascii() for character in text):
        print(f"note: no font of this system shows \"{text}\"; pictures write {result} (install a font that has it, "
              "such as Noto)", file=sys.stderr)
    return result


# -------------------------------------------------------------------------------------------------- text in its place

def write(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, ink: Color = INK,
          anchor: str = "lm", width: float = float("inf")) -> None:
    """Write a text at a place, by its ``anchor``; it is shortened if it is wider than ``width`` pixels."""
    shown = fitted(text, size, width)
    draw.text(place, shown, ink, font_of(shown, size), anchor=anchor)


def width_of(text: str, size: int) -> float:
    """Return the width of a text in pixels, as it is written at a font size."""
    shown = legible(text)
    return font_of(shown, size).getlength(shown)


def widest(texts: Sequence[str], size: int) -> int:
    """Return the width in pixels of the widest of several texts at a font size."""
    return int(max((width_of(text, size) for text in texts), default=0)) + 1


def fitted(text: str, size: int, width: float) -> str:
    """Return a legible text, shortened at its front if it is wider than ``width``: a file name's end tells most.

    It is cut between two parts of a name if at least half of the width is used then.
    """
    text = legible(text)
    if width_of(text, size) <= width:
        return text
    parts = ["…" + text[match.end():] for match in re.finditer(r"[/\\_\-. ]", text)]
    tails = chain((part for part in parts if width_of(part, size) >= width / 2),
                  ("…" + text[start:] for start in range(1, len(text) + 1)))
    return next((tail for tail in tails if width_of(tail, size) <= width), "…")


def fitting_size(text: str, size: int, width: float) -> int:
    """Return the largest font size up to ``size`` in which no word of a text is wider than ``width`` pixels."""
    words = text.split()
    return next((smaller for smaller in range(size, SMALLEST, -1) if widest(words, smaller) <= width), SMALLEST)


def wrapped(text: str, size: int, width: float) -> list[str]:
    """Return the lines of a text that is broken between words at a width in pixels."""
    lines: list[str] = []
    for word in text.split():
        if lines and width_of(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(fitted(word, size, width))
    return lines


def draw_upright(picture: Image.Image, text: str, center: tuple[int, int], size: int) -> None:
    """Write a text from bottom to top."""
    strip = Image.new("RGB", (widest([text], size) + 8, 32), PAPER)
    write(ImageDraw.Draw(strip), (strip.width / 2, 16), text, size, anchor="mm")
    strip = strip.rotate(90, expand=True)
    picture.paste(strip, (center[0] - strip.width // 2, center[1] - strip.height // 2))
