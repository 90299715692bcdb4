"""A data directory at a glance: the table of its counts and the contact sheet of its images."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont, ImageOps

from datasets.checking.findings import SPLITS
from datasets.layout import Layout, Sample
from datasets.pictures import BadPicture, read_picture


def table(layout: Layout) -> str:
    """Images by expression and split, and subjects by split, as an aligned text table."""
    splits = [split for split in SPLITS if split != "val" or layout.val]
    rows = [["expression", *splits, "all"]]
    for label, name in enumerate(layout.expressions):
        counts = [layout.counts(split)[label] for split in splits]
        rows.append([name, *map(str, counts), str(sum(counts))])
    sums = [len(layout.split(split)) for split in splits]
    rows.append(["all", *map(str, sums), str(sum(sums))])
    if layout.target_only:
        rows.append(["neutral (targets only)", str(len(layout.target_only)), *[""] * len(splits)])
    subjects = [{s.subject for s in layout.split(split) if s.subject} for split in splits]
    if any(subjects):
        rows.append(["subjects", *(str(len(part)) for part in subjects), str(len(set().union(*subjects)))])
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width
                                                            in zip(row[1:], widths[1:]))]).rstrip() for row in rows)


def contact_sheet(layout: Layout, broken: set[Sample], columns: int = 10, side: int = 96) -> Image.Image:
    """A row of training images per expression, from the first to the last of the list, with its name.

    ``broken`` images are left out; ``side`` is that of an image in pixels.
    """
    rows = [(name, [s for s in layout.train if s.label == label and s not in broken])
            for label, name in enumerate(layout.expressions)]
    if layout.target_only:
        rows.append(("targets only", [s for s in layout.target_only if s not in broken]))
    font = ImageFont.load_default(14)
    gap, head = 4, 16 + max(int(font.getlength(text)) for name, part in rows for text in (name, f"{len(part)} train"))
    sheet = Image.new("RGB", (head + columns * (side + gap) + gap, len(rows) * (side + gap) + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (name, part) in enumerate(rows):
        top = gap + row * (side + gap)
        draw.text((8, top + side // 2 - 18), f"{name}\n{len(part)} train", fill="black", font=font)
        count = min(columns, len(part))
        for column in range(count):
            try:
                picture = read_picture(part[column * len(part) // count].path)
            except BadPicture:      # changed since it was looked at
                continue
            sheet.paste(ImageOps.fit(picture, (side, side)), (head + column * (side + gap), top))
    return sheet
