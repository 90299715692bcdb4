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


COLUMNS = {"train": 8, "test": 4}  # images of an expression on the contact sheet


def contact_sheet(layout: Layout, broken: set[Sample], side: int = 96) -> Image.Image:
    """A row of training and of test images per expression, from the first to the last of the lists, with its name.

    ``broken`` images are left out; ``side`` is that of an image in pixels.
    """
    rows = [(name, {split: [s for s in layout.split(split) if s.label == label and s not in broken] for split in COLUMNS})
            for label, name in enumerate(layout.expressions)]
    if layout.target_only:
        rows.append(("targets only", {"train": [s for s in layout.target_only if s not in broken], "test": []}))
    font, gap, top = ImageFont.load_default(14), 4, 28
    notes = [f"{name}\n" + "\n".join(f"{len(part)} {split}" for split, part in parts.items()) for name, parts in rows]
    starts = {"train": 16 + int(max(font.getlength(line) for note in notes for line in note.split("\n")))}
    starts["test"] = starts["train"] + COLUMNS["train"] * (side + gap) + 16
    sheet = Image.new("RGB", (starts["test"] + COLUMNS["test"] * (side + gap), top + len(rows) * (side + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for split, start in starts.items():
        draw.text((start, 6), {"train": "training images", "test": "test images"}[split], "black", font)
        for row, ((_, parts), note) in enumerate(zip(rows, notes)):
            place = top + row * (side + gap)
            draw.text((8, place + side / 2), note, "black", font, anchor="lm")
            _paste_row(sheet, parts[split], COLUMNS[split], start, place, side, gap)
    return sheet


def _paste_row(sheet: Image.Image, samples: list[Sample], columns: int, left: int, top: int, side: int, gap: int) -> None:
    """Paste ``columns`` of the samples, evenly spread over them."""
    count = min(columns, len(samples))
    for column in range(count):
        try:
            picture = read_picture(samples[column * len(samples) // count].path)
        except BadPicture:  # changed since it was looked at
            continue
        sheet.paste(ImageOps.fit(picture, (side, side)), (left + column * (side + gap), top))
