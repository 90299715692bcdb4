"""A look at a data directory before it is trained on: ``python -m datasets.check DIR``.

Counts images by expression and split, looks for leaks between the splits, for broken and tiny images, for labels and
classes that cannot work, and draws a contact sheet. Everything is reported, nothing is changed. The exit status is 1
where something would spoil a result.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import warnings
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Iterable, Iterator, Sequence

from utils import UserError, progress, run_command, save_picture

if TYPE_CHECKING:
    import numpy

    from datasets.layout import Layout, Sample

TINY = 32                   # pixels of the shorter side
SAME_PICTURE = 0.995        # correlation of two 32×32 grey pictures from which they count as one picture
_GREY = 32
_SPLITS = ("train", "val", "test")


@dataclass
class Findings:
    """What the check has to say: ``problems`` spoil a result, ``notes`` do not."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def table(layout: "Layout") -> str:
    """Images by expression and split, and subjects by split, as an aligned text table."""
    splits = [split for split in _SPLITS if split != "val" or layout.val]
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


# ---------------------------------------------------------------------------------------------- the command

def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m datasets.check", description=__doc__)
    parser.add_argument("directory", metavar="DIR", help="a data directory: images.list, images_test.list, data/")
    parser.add_argument("-a", "--expressions", nargs="+", metavar="NAME",
                        help="the names of the labels, in order, where the directory does not tell them")
    parser.add_argument("--neutral", metavar="NAME", help="the expression that serves as neutral")
    parser.add_argument("--sheet", metavar="FILE", help="where the contact sheet goes (default: DIR/check.jpg)")
    asked = parser.parse_args(arguments)
    root = Path(asked.directory)
    findings = Findings()
    layout = read_with_findings(root, asked.expressions, asked.neutral, findings)
    print(table(layout), end="\n\n")
    check_classes(layout, findings)
    check_subjects(layout, findings)
    samples = [*layout.split("all"), *layout.target_only]
    looks = look_at(samples)
    check_pictures(layout, looks, findings)
    check_unlisted(layout, findings)

    sheet = Path(asked.sheet) if asked.sheet else root / "check.jpg"
    try:
        save_picture(contact_sheet(layout, looks), sheet)
        print(f"contact sheet: {sheet}")
    except OSError as error:
        if asked.sheet:
            raise UserError(f"{sheet}: cannot be written ({error.strerror}); choose another --sheet") from None
        findings.notes.append(f"no contact sheet, {root} is not writable: choose a place with --sheet FILE")
    for note in findings.notes:
        print(f"note: {note}")
    for problem in findings.problems:
        print(f"PROBLEM: {problem}")
    if findings.problems:
        print(f"{len(findings.problems)} problems that would spoil a result")
        sys.exit(1)
    print("nothing found that would spoil a result")


def read_with_findings(root: Path, expressions: Sequence[str] | None, neutral: str | None,
                       findings: Findings) -> "Layout":
    """The samples of a data directory, without those whose label has no name, which become a problem.

    UserError where a list is absent or malformed.
    """
    from datasets import layout

    if not root.is_dir():
        raise UserError(f"{root}: no such data directory")
    names = layout.declared_expressions(root) or (tuple(expressions) if expressions else None)
    rows = {split: layout.read_split(root, split, required=split != "val") for split in _SPLITS}
    labels = [row.label for part in rows.values() for row in part.values()]
    if names is None:
        names = tuple(map(str, range(max(2, 1 + max(label for label in labels if label < 100)))))
        findings.notes.append("nothing names the expressions: labels are shown as numbers (name them with -a)")
    n, images = len(names), layout.image_directory(root)
    subjects = layout.read_subjects(root, {name for part in rows.values() for name in part})
    targets_allowed = neutral is None and "neutral" not in (name.lower() for name in names)
    highest = n if targets_allowed else n - 1
    held_out = rows["test"].keys() | rows["val"].keys()
    repeated, torn = rows["train"].keys() & held_out, rows["val"].keys() & rows["test"].keys()
    if repeated:        # as in the reference's lists; reading takes them out of training
        findings.notes.append(f"{len(repeated)} names of the training list are held out, because the validation or "
                              f"test list has them too, e.g. {min(repeated)}")
    if torn:
        findings.problems.append(f"leak: {len(torn)} names are in the validation and in the test list, "
                                 f"e.g. {min(torn)}")
    splits: dict[str, list] = {}
    unnamed: dict[int, list[str]] = defaultdict(list)
    for split, part in rows.items():
        splits[split] = []
        for name, row in part.items():
            if not 0 <= row.label <= highest:
                unnamed[row.label].append(row.where)
            elif not (split == "train" and name in held_out):
                splits[split].append(layout.Sample(name, row.label, images / name, *subjects.get(name, (None, None))))
    for label, places in sorted(unnamed.items()):
        findings.problems.append(f"label {label} has no name ({n} expressions: {' '.join(names)}): "
                                 f"{len(places)} images, first in {places[0]}")
    targets = [s for s in splits["train"] if s.label == n]
    for split in ("val", "test"):
        count = sum(s.label == n for s in splits[split])
        if count:
            findings.notes.append(f"{count} images of the {split} list have the label of target-only faces ({n})")
    return layout.Layout(root, names, n if targets else layout.neutral_label(names, neutral),
                         **{split: [s for s in part if s.label < n] for split, part in splits.items()},
                         target_only=targets)


# --------------------------------------------------------------------------------------------------- classes

def check_classes(layout: "Layout", findings: Findings) -> None:
    """Expressions without images, and synthesis without neutral faces."""
    for split, found in (("train", findings.problems), ("test", findings.notes)):
        empty = [name for name, count in zip(layout.expressions, layout.counts(split)) if count == 0]
        if empty:
            found.append(f"no {split} image of {', '.join(empty)}")
    if layout.target_only:
        return
    name = layout.expressions[layout.neutral]
    if layout.counts("train")[layout.neutral] == 0:
        findings.problems.append(f"no neutral partners: {name} has no training image, so nothing can be synthesized "
                                 "(name the expression that serves with --neutral)")
    elif name.lower() != "neutral":
        findings.notes.append(f"no expression is called neutral: {name} serves as it (another with --neutral)")
    if layout.target_only or not any(s.subject for s in layout.train):
        return
    with_neutral = {s.subject for s in layout.train if s.label == layout.neutral}
    alone = {s.subject for s in layout.train if s.subject} - with_neutral
    if alone:
        findings.notes.append(f"{len(alone)} training subjects have no neutral image of their own, e.g. {min(alone)}")


def check_subjects(layout: "Layout", findings: Findings) -> None:
    """The same person on both sides of a split."""
    subjects = {split: {s.subject for s in layout.split(split) if s.subject} for split in _SPLITS}
    subjects["train"] |= {s.subject for s in layout.target_only if s.subject}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        shared = subjects[one] & subjects[other]
        if shared:
            findings.problems.append(f"leak: {len(shared)} subjects are in {one} and {other}, "
                                     f"e.g. {', '.join(sorted(shared)[:3])}")


def check_unlisted(layout: "Layout", findings: Findings) -> None:
    """Images that no list names, and whole directories of them."""
    from datasets.layout import LIST_NAMES, read_split, image_directory
    from datasets.places import is_image_name

    images = image_directory(layout.root)
    listed = {name for split in LIST_NAMES for name in read_split(layout.root, split, required=False)}
    present = sorted(path.relative_to(images).as_posix() for path in images.rglob("*") if is_image_name(path.name))
    unlisted = [name for name in present if name not in listed]
    used = {name.rpartition("/")[0] for name in present if name in listed}
    forgotten: dict[str, int] = defaultdict(int)
    for name in unlisted:
        folder = name.rpartition("/")[0]
        if folder and folder not in used:
            forgotten[folder] += 1
    for folder, count in sorted(forgotten.items()):
        findings.problems.append(f"unlisted class: none of the {count} images in {images / folder} is in a list")
    rest = [name for name in unlisted if name.rpartition("/")[0] not in forgotten]
    if rest:
        findings.notes.append(f"{len(rest)} images in {images} are in no list, e.g. {rest[0]}")


# -------------------------------------------------------------------------------------------------- pictures

@dataclass(frozen=True)
class Look:
    """What reading an image once has shown: ``fault`` or its size, digest and standardized 32×32 greys (1024,)."""

    fault: str | None = None
    side: int = 0
    digest: str = ""
    greys: "numpy.ndarray | None" = None


def look_at(samples: Sequence["Sample"]) -> list[Look]:
    """Read and decode every image once, by threads."""
    with ThreadPoolExecutor(4) as pool:
        return list(progress(pool.map(lambda sample: look(sample.path), samples), "reading", len(samples), "image"))


def look(path: Path) -> Look:
    """Read and decode one image; JPEG files at the lowest resolution that will do."""
    import numpy
    from PIL import Image

    from datasets.layout import image_fault

    fault = image_fault(path)
    if fault:
        return Look(fault)
    try:
        content = path.read_bytes()
        with warnings.catch_warnings(), Image.open(io.BytesIO(content)) as image:
            warnings.simplefilter("ignore")
            side = min(image.size)
            image.draft("L", (2 * _GREY, 2 * _GREY))
            grey = image.convert("L").resize((_GREY, _GREY), Image.Resampling.BOX)
    except Exception:  # Pillow's format plugins raise whatever they stumble over
        return Look("damaged")
    greys = numpy.asarray(grey, numpy.float32).ravel()
    greys = greys - greys.mean()
    length = float(numpy.linalg.norm(greys))
    flat = length < _GREY       # a picture of one color is like any other such
    return Look(None, side, hashlib.sha256(content).hexdigest(), None if flat else greys / length)


def check_pictures(layout: "Layout", looks: Sequence[Look], findings: Findings) -> None:
    """Broken and tiny images, and pictures that are there twice: a leak where they are in two splits.

    ``looks`` belong to ``layout.split("all") + layout.target_only``.
    """
    samples = [*layout.split("all"), *layout.target_only]
    broken = [f"{s.name} ({seen.fault})" for s, seen in zip(samples, looks) if seen.fault]
    if broken:
        findings.problems.append(f"{len(broken)} images cannot be read: {_first(broken)}")
    tiny = [f"{s.name} ({seen.side} pixels)" for s, seen in zip(samples, looks)
            if not seen.fault and seen.side < TINY]
    if tiny:
        findings.notes.append(f"{len(tiny)} images are smaller than {TINY} pixels: {_first(tiny)}")
    sides = ["train"] * len(layout.train) + ["val"] * len(layout.val) + ["test"] * len(layout.test)
    sides += ["train"] * len(layout.target_only)

    same = list(_identical(looks))
    near = [pair for pair in near_duplicates([seen.greys for seen in looks]) if looks[pair[0]].digest
            != looks[pair[1]].digest]
    for pairs, what in ((same, "byte-identical images"), (near, "nearly identical images")):
        across = [pair for pair in pairs if sides[pair[0]] != sides[pair[1]]]
        if across:
            told = [f"{samples[i].name} ({sides[i]}) = {samples[j].name} ({sides[j]})" for i, j in across]
            findings.problems.append(f"leak: {len(across)} pairs of {what} in two splits: {_first(told)}")
        torn = [f"{samples[i].name} = {samples[j].name}" for i, j in pairs if samples[i].label != samples[j].label]
        if torn:
            findings.notes.append(f"{len(torn)} pairs of {what} have two labels: {_first(torn)}")
        within = len(pairs) - len(across)
        if within:
            findings.notes.append(f"{within} pairs of {what} within one split")


def _identical(looks: Sequence[Look]) -> Iterator[tuple[int, int]]:
    first: dict[str, list[int]] = defaultdict(list)
    for index, seen in enumerate(looks):
        if not seen.fault:
            first[seen.digest].append(index)
    for group in first.values():
        yield from ((i, j) for position, i in enumerate(group[:50]) for j in group[position + 1:])


def near_duplicates(greys: Sequence["numpy.ndarray | None"], block: int = 1024) -> Iterator[tuple[int, int]]:
    """Pairs of pictures whose standardized greys (1024,) correlate by at least ``SAME_PICTURE``.

    All pairs are compared, block by block as matrix products. The correlation does not see brightness, contrast,
    scale and compression, but tells two photographs of one person apart.
    """
    import numpy

    known = numpy.array([index for index, grey in enumerate(greys) if grey is not None], int)
    if len(known) < 2:
        return
    vectors = numpy.stack([greys[index] for index in known])
    for start in range(0, len(vectors), block):
        rows, columns = numpy.nonzero(vectors[start:start + block] @ vectors[start:].T >= SAME_PICTURE)
        for row, column in zip(rows.tolist(), columns.tolist()):
            if row < column:
                yield int(known[start + row]), int(known[start + column])


def _first(items: Iterable[str], count: int = 3) -> str:
    items = list(items)
    return ", ".join(items[:count]) + (f", and {len(items) - count} more" if len(items) > count else "")


# --------------------------------------------------------------------------------------------- contact sheet

def contact_sheet(layout: "Layout", looks: Sequence[Look], columns: int = 10, side: int = 96):
    """A PIL image: a row of training images per expression, from the first to the last of the list, with its name."""
    from PIL import Image, ImageDraw, ImageFont, ImageOps

    from datasets.align import open_photo

    usable = {s.name for s, seen in zip([*layout.split("all"), *layout.target_only], looks) if not seen.fault}
    rows = [(name, [s for s in layout.train if s.label == label and s.name in usable])
            for label, name in enumerate(layout.expressions)]
    if layout.target_only:
        rows.append(("targets only", [s for s in layout.target_only if s.name in usable]))
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
                picture = open_photo(part[column * len(part) // count].path)
            except UserError:       # changed since it was looked at
                continue
            sheet.paste(ImageOps.fit(picture, (side, side)), (head + column * (side + gap), top))
    return sheet


if __name__ == "__main__":
    run_command(main)
