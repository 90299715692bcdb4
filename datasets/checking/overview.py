"""A data directory at a glance: the table of its counts and the contact sheet of its images."""

from PIL import Image, ImageDraw, ImageFont, ImageOps

from datasets.checking.findings import SPLITS
from datasets.layout import Layout, Sample
from datasets.pictures import BadPicture, read_picture

COLUMNS = {"train": 8, "test": 4}  # images of an expression on the contact sheet
SIDE, GAP, TOP = 96, 4, 28  # pixels of an image's side, between the images and above them


def table(layout: Layout) -> str:
    """Return images by expression and split, and subjects by split, as an aligned text table."""
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
    name_width, *widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join([name.ljust(name_width), *map(str.rjust, cells, widths)]).rstrip()
                     for name, *cells in rows)


def contact_sheet(layout: Layout, broken: set[Sample]) -> Image.Image:
    """Draw a row per expression: its name, and training and test images evenly spread over the lists.

    ``broken`` images are left out.
    """
    rows = [(name, {split: [s for s in layout.split(split) if s.label == label and s not in broken]
                    for split in COLUMNS}) for label, name in enumerate(layout.expressions)]
    if layout.target_only:
        rows.append(("targets only", {"train": [s for s in layout.target_only if s not in broken], "test": []}))
    captions = ["\n".join([name, *(f"{len(part)} {split}" for split, part in parts.items())]) for name, parts in rows]
    font = ImageFont.load_default(14)
    starts = {"train": 16 + int(max(font.getlength(line) for caption in captions for line in caption.split("\n")))}
    starts["test"] = starts["train"] + COLUMNS["train"] * (SIDE + GAP) + 16
    sheet = Image.new("RGB", (starts["test"] + COLUMNS["test"] * (SIDE + GAP), TOP + len(rows) * (SIDE + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for split, start in starts.items():
        draw.text((start, 6), {"train": "training images", "test": "test images"}[split], "black", font)
        for row, ((_, parts), caption) in enumerate(zip(rows, captions)):
            top = TOP + row * (SIDE + GAP)
            draw.text((8, top + SIDE / 2), caption, "black", font, anchor="lm")
            count = min(COLUMNS[split], len(parts[split]))
            for column in range(count):
                try:
                    picture = read_picture(parts[split][column * len(parts[split]) // count].path)
                except BadPicture:  # changed since the check has read it
                    continue
                sheet.paste(ImageOps.fit(picture, (SIDE, SIDE)), (start + column * (SIDE + GAP), top))
    return sheet
