"""Pictures of results, fit for a paper: a confusion matrix, and the intervals of a comparison."""

import re
from html import escape
from pathlib import Path
from typing import NamedTuple, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from evaluation.comparison import Spread
from evaluation.metrics import Report
from pictures.lettering import (FAINT, INK, PAPER, RULE, draw_upright, fitting_size, font_of, ink_on, legible, widest,
                                write)
from utils import UserError

SHADE, EDGE = (8, 69, 148), (206, 212, 218)
CELL, TOP, RIGHT, BOTTOM = 104, 92, 32, 96
SCALE, PANEL, ROW, HEAD, FOOT = 2, 340, 52, 46, 62  # of the intervals' picture
BLUE = (8, 69, 148)
SVG_HEAD, PDF_HEAD = '<svg xmlns="http://www.w3.org/2000/svg"', "%PDF-1.4\n% a confusion matrix of JESRL-FER\n"


class Box(NamedTuple):
    """A filled rectangle of a drawing, or a frame without a fill, in pixels from the upper left corner."""

    x: float
    y: float
    side: float
    fill: tuple[int, int, int] | None
    edge: tuple[int, int, int]


class Text(NamedTuple):
    """A text of a drawing at its middle ("mm") or right end ("rm"); ``upright`` reads from below."""

    x: float
    y: float
    text: str
    size: float
    color: tuple[int, int, int] = INK
    anchor: str = "mm"
    width: float = float("inf")
    upright: bool = False


def confusion_drawing(report: Report, names: Sequence[str], heading: str = "", source: str = ""
                      ) -> tuple[tuple[int, int], list[Box], list[Text]]:
    """Return the size, boxes and texts of a confusion matrix: a cell holds its share of the row, and its images.

    ``names`` are those of the expressions in the order of the matrix; rows are the true expressions. ``source``, below
    the ``heading``, tells which run was tested on which data; there may be neither.
    """
    n, counts, top = len(names), report.counts.sum(1), TOP if heading else 2 * RIGHT // 3
    notes = [f"{count:,} image{'s' * (count != 1)}" for count in counts.tolist()]
    left = 48 + max(widest(names, 22), widest(notes, 16)) + 28
    width = max(left + n * CELL + RIGHT, widest([heading], 24) + 2 * RIGHT)
    boxes, foot = [], top + n * CELL
    head = [Text(width / 2, 32, heading, 24), Text(width / 2, 64, source, 16, FAINT, width=width - 24)]
    texts = head if heading else []
    for i, j in np.ndindex(n, n):
        percent, x, y = report.row_percent[i, j], left + j * CELL, top + i * CELL
        share = 0.0 if np.isnan(percent) else percent / 100
        fill = tuple(round(p + (s - p) * share) for p, s in zip(PAPER, SHADE))
        boxes.append(Box(x, y, CELL, fill, EDGE))
        value = "–" if np.isnan(percent) else f"{percent:.1f} %"
        texts += [Text(x + CELL / 2, y + CELL / 2 - 10, value, 22, ink_on(fill)),
                  Text(x + CELL / 2, y + CELL / 2 + 18, f"{report.counts[i, j]:,}", 16, ink_on(fill))]
    for i, (name, note) in enumerate(zip(names, notes)):
        middle = top + (i + 0.5) * CELL
        texts += [Text(left - 14, middle - 10, name, 22, anchor="rm"),
                  Text(left - 14, middle + 16, note, 16, FAINT, "rm"),
                  Text(left + (i + 0.5) * CELL, foot + 22, name, fitting_size(name.replace(" ", "_"), 22, CELL - 6))]
    boxes.append(Box(left, top, n * CELL, None, INK))
    texts += [Text(left + n * CELL / 2, foot + 64, "recognized as", 22),
              Text(26, top + n * CELL // 2, "true expression", 22, upright=True)]
    return (width, foot + BOTTOM), boxes, texts


def confusion_picture(report: Report, names: Sequence[str], heading: str, source: str = "") -> Image.Image:
    """Draw a confusion matrix as pixels; arguments as in :func:`confusion_drawing`."""
    size, boxes, texts = confusion_drawing(report, names, heading, source)
    picture = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(picture)
    for x, y, side, fill, edge in boxes:
        draw.rectangle((x, y, x + side, y + side), fill, outline=edge, width=1 if fill else 2)
    for x, y, text, points, color, anchor, width, upright in texts:
        if upright:
            draw_upright(picture, text, (x, y), points)
        else:
            write(draw, (x, y), text, points, color, anchor, width)
    return picture


def confusion_svg(report: Report, names: Sequence[str], heading: str = "") -> str:
    """Return a confusion matrix as SVG, with the letters as text."""
    (width, height), boxes, texts = confusion_drawing(report, names, heading)
    parts = [f'{SVG_HEAD} viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif">']
    parts += [f'<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="{"rgb%s" % (fill,) if fill else "none"}" '
              f'stroke="rgb{edge}"/>' for x, y, side, fill, edge in boxes]
    for x, y, text, points, color, anchor, _, upright in texts:
        turn = f' transform="rotate(-90 {x} {y})"' if upright else ""
        parts.append(f'<text x="{x}" y="{y}" font-size="{points}" fill="rgb{color}" dominant-baseline="central" '
                     f'text-anchor="{"end" if anchor == "rm" else "middle"}"{turn}>{escape(text)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def confusion_pdf(report: Report, names: Sequence[str], heading: str = "") -> bytes:
    """Return a confusion matrix as one PDF page, with the letters as text in an embedded font, as journals ask for.

    Raises UserError if a name has letters that are not in Windows-1252, or if no TrueType font of the system has them.
    """
    (width, height), boxes, texts = confusion_drawing(report, names, heading)
    content = []
    for x, y, side, fill, edge in boxes:
        square = f"{pdf_color(edge)} RG {x} {height - y - side} {side} {side} re"
        content.append((f"{pdf_color(fill)} rg {square} B\n" if fill else f"{square} S\n").encode())
    texts = [text._replace(text=legible(text.text)) for text in texts]
    font = font_of("".join(text.text for text in texts), 1000)
    for x, y, text, points, color, anchor, _, upright in texts:
        try:
            letters = text.encode("cp1252")
        except UnicodeEncodeError:
            raise UserError(f"{text}: a PDF of this program has Latin letters alone; use --format svg") from None
        length = points / 1000 * font.getlength(text)
        back, down = length * (1 if anchor == "rm" else 0.5), 0.35 * points
        place = f"0 1 -1 0 {x + down:.2f} {height - y - back:.2f}" if upright else \
            f"1 0 0 1 {x - back:.2f} {height - y - down:.2f}"
        escaped = re.sub(rb"([\\()])", rb"\\\1", letters)
        content.append(f"BT /F {points} Tf {pdf_color(color)} rg {place} Tm (".encode() + escaped + b") Tj ET\n")
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
               f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {width} {height}]/Contents 4 0 R/"
               f"Resources<</Font<</F 5 0 R>>>>>>".encode(), pdf_stream(b"".join(content)), *pdf_font(font, 6)]
    document, offsets = PDF_HEAD.encode(), []
    for number, content_of in enumerate(objects, 1):
        offsets.append(len(document))
        document += b"%d 0 obj\n" % number + content_of + b"\nendobj\n"
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    return document + b"xref\n0 %d\n0000000000 65535 f \n" % size + table + \
        b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (size, len(document))


def pdf_font(font: ImageFont.FreeTypeFont, number: int) -> list[bytes]:
    """Return a font of size 1000 as three PDF objects, the font, its descriptor ``number``, and its file.

    Raises UserError if it is no TrueType font.
    """
    data = Path(font.path).read_bytes() if isinstance(font.path, str) else font.font_bytes
    if not data.startswith(b"\0\1\0\0"):
        raise UserError(f"{font.path}: is no TrueType font, which a PDF could embed; use --format svg")
    widths = " ".join(f"{font.getlength(bytes([code]).decode('cp1252', 'replace')):.0f}" for code in range(32, 256))
    name, (ascent, descent) = re.sub(r"\W", "", "".join(font.getname())), font.getmetrics()
    return [f"<</Type/Font/Subtype/TrueType/BaseFont/{name}/FirstChar 32/LastChar 255/Widths[{widths}]"
            f"/Encoding/WinAnsiEncoding/FontDescriptor {number} 0 R>>".encode(),
            f"<</Type/FontDescriptor/FontName/{name}/Flags 32/FontBBox[0 {-descent} 1000 {ascent}]/ItalicAngle 0"
            f"/Ascent {ascent}/Descent {-descent}/CapHeight 700/StemV 80/FontFile2 {number + 1} 0 R>>".encode(),
            pdf_stream(data, f"/Length1 {len(data)}")]


def pdf_stream(content: bytes, further: str = "") -> bytes:
    """Return a PDF object that holds content, with further entries of its dictionary."""
    return f"<</Length {len(content)}{further}>>stream\n".encode() + content + b"\nendstream"


def pdf_color(color: tuple[int, int, int]) -> str:
    """Return a color as PDF writes it."""
    return " ".join(f"{part / 255:.3f}" for part in color)


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
