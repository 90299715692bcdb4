"""The check of a data directory before training: ``python -m datasets.check DIR``.

It counts images by expression and split, finds leaks between the splits, broken and tiny images, and labels and classes
that cannot be trained on, and draws a contact sheet. Everything is reported, nothing is changed. The exit status is 1
if something would spoil a result.
"""

import math
import os
import sys
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Iterator, Sequence

import numpy
from PIL import Image, ImageDraw, ImageFont, ImageOps

from datasets.files import Walk, check_output, describe, is_drawn, walk
from datasets.layout import (SPLITS, Layout, Sample, build_layout, class_mistakes, counts_table, label_mistakes)
from datasets.lists import Lists, explain_adapted, image_directory, read_lists
from datasets.pictures import BLANK_SIDE, BadPicture, greys_of, is_blank, read_picture
from options.config import OneLineParser
from utils import UserError, check_picture_name, progress, run_command, save_picture, sha256, user_path

SHEET_COMMENT = b"contact sheet of datasets.check"  # in the file of a sheet, which is then drawn anew


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    findings = check_directory(args.directory, args.expressions, args.neutral, args.sheet)
    for note in findings.notes:
        print(f"note: {note}")
    for problem in findings.problems:
        print(f"PROBLEM: {problem}")
    if findings.problems:
        print(f"{len(findings.problems)} problems that would spoil a result")
        sys.exit(1)
    print("nothing found that would spoil a result")


def build_parser() -> OneLineParser:
    """Return the parser of this command."""
    parser = OneLineParser(prog="python -m datasets.check", description=(__doc__ or "").replace("``", ""))
    parser.add_argument("directory", metavar="DIR", type=user_path,
                        help="a data directory: images.list, images_test.list, data/")
    parser.add_argument("-a", "--expressions", nargs="+", metavar="NAME",
                        help="the names of the labels, in order, if the directory does not name them")
    parser.add_argument("--neutral", metavar="NAME", help="the expression that serves as neutral")
    parser.add_argument("--sheet", metavar="FILE", type=user_path,
                        help="where the contact sheet goes (default: DIR/check.jpg)")
    return parser


@dataclass
class Findings:
    """The findings of a check, as sentences: ``problems`` spoil a result, ``notes`` do not."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_directory(root: Path, expressions: Sequence[str] | None = None, neutral: str | None = None,
                    sheet: Path | None = None) -> Findings:
    """Print the table of a data directory, draw its contact sheet and return everything that its check has found.

    ``expressions`` names the labels if the directory does not; ``neutral`` is the expression that serves as neutral.
    The sheet is written to ``root/check.jpg`` unless ``sheet`` names another file; another picture of this name is left
    alone. Raises UserError if a list is malformed or that of training is absent, or if ``sheet`` cannot be written.
    """
    findings, lists = Findings(), read_lists(root, need_test=False)
    path, images = sheet or root / "check.jpg", image_directory(root)
    check_picture_name(path)
    listed = [image for image in (images / name for name in lists.labels()) if image.name == path.name or sheet]
    if sheet:
        check_output(sheet, "--sheet", trees=[images], inputs=listed)
    names = _expression_names(lists, expressions, findings)
    if not lists.test:
        findings.notes.append("there is no test list: only --folds can train on these images")
    inspect_lists(lists, names, neutral, findings)
    layout = build_layout(lists, names, names, neutral)
    print(counts_table(layout), end="\n\n")
    inspect_classes(layout, findings)
    inspect_subjects(layout, lists, findings)
    scans = scan_images(layout)
    inspect_pictures(scans, findings)
    inspect_unlisted(lists, findings)
    if not sheet and os.path.lexists(path) and not is_drawn(path, SHEET_COMMENT):
        findings.notes.append(f"no contact sheet, {path} is another picture: choose a place with --sheet FILE")
        return findings
    try:
        if not sheet:
            check_output(path, "--sheet", trees=[images], inputs=listed)
        save_picture(contact_sheet(layout, {scan.sample for scan in scans if scan.fault}), path, SHEET_COMMENT)
        print(f"contact sheet: {path}")
    except (OSError, UserError) as error:
        if sheet:
            raise UserError(f"{sheet}: cannot be written ({error.strerror}); choose another --sheet") from None
        findings.notes.append(f"no contact sheet, {path} cannot be written: choose a place with --sheet FILE")
    return findings


def _expression_names(lists: Lists, expressions: Sequence[str] | None, findings: Findings) -> tuple[str, ...]:
    """Return the names of the labels: the directory's, or ``expressions``, or else the labels themselves."""
    if names := lists.expressions or tuple(expressions or ()):
        return names
    findings.notes.append("nothing names the expressions: labels are shown as numbers (name them with -a)")
    # A label that is far too high is a mistake and gets no name.
    highest = max((row.label for row in lists.labels().values() if row.label < 100), default=0)
    return tuple(map(str, range(max(2, 1 + highest))))


# ------------------------------------------------------------------------------------------------ lists and samples

def inspect_lists(lists: Lists, names: Sequence[str], neutral: str | None, findings: Findings) -> None:
    """Report names in two lists, and labels that name no expression."""
    if lists.held_out:      # as in the published code's lists; reading takes them out of training
        findings.notes.append(f"{len(lists.held_out)} names of the training list are held out, because the validation "
                              f"or test list has them too, e.g. {min(lists.held_out)}")
    if lists.contradicted:
        findings.problems.append(f"{len(lists.contradicted)} names have one label in the training list and another in "
                                 f"the validation or test list: {first_of(sorted(lists.contradicted))}")
    if lists.adapted:
        findings.notes.append(explain_adapted(lists.adapted, min(lists.adapted)))
    shared = lists.val.keys() & lists.test.keys()
    if shared:
        findings.problems.append(f"leak: {len(shared)} names are in the validation and in the test list, "
                                 f"e.g. {min(shared)}")
    findings.problems += label_mistakes(lists, names)
    for split, rows in (("val", lists.val), ("test", lists.test)):
        count = sum(row.label == len(names) for row in rows.values())
        if count and lists.has_target_only:
            findings.notes.append(f"{count} images of the {split} list have the label of target-only faces "
                                  f"({len(names)})")


def inspect_classes(layout: Layout, findings: Findings) -> None:
    """Report expressions without images, and a lack of neutral faces for synthesis."""
    findings.problems += class_mistakes(layout)
    empty = [name for name, count in zip(layout.expressions, layout.counts("test")) if count == 0]
    if empty:
        findings.notes.append(f"no test image of {', '.join(empty)}")
    if layout.neutral is None:
        findings.notes.append("no expression is called neutral: training needs --neutral NAME or --targets any")
    if layout.target_only or not layout.targets():
        return
    with_neutral = {sample.subject for sample in layout.targets()}
    without_neutral = {sample.subject for sample in layout.train if sample.subject} - with_neutral
    if without_neutral:
        findings.notes.append(f"{len(without_neutral)} training subjects have no neutral image of their own, "
                              f"e.g. {min(without_neutral)}")


def inspect_subjects(layout: Layout, lists: Lists, findings: Findings) -> None:
    """Report persons in two splits, and images and subjects that do not belong to each other."""
    with_subject, listed = set(lists.subjects), set(lists.labels())
    for names, finding in ((with_subject - listed, "lines of subjects.list name no listed image"),
                           (listed - with_subject, "listed images have no line in subjects.list")):
        if with_subject and names:
            findings.notes.append(f"{len(names)} {finding}, e.g. {min(names)}")
    subjects = {split: {sample.subject for sample in samples if sample.subject}
                for split, samples in (("train", layout.train + layout.target_only), ("val", layout.val),
                                       ("test", layout.test))}
    for first, second in combinations(SPLITS, 2):
        shared = sorted(subjects[first] & subjects[second])
        if shared:
            findings.problems.append(f"leak: {len(shared)} subjects are in {first} and {second}, "
                                     f"e.g. {', '.join(shared[:3])}")


def inspect_unlisted(lists: Lists, findings: Findings) -> None:
    """Report images that no list names, and whole directories of them."""
    images, listed = image_directory(lists.root), lists.labels()
    files = walk(images) if images.is_dir() else Walk()
    if files.passed_over():
        findings.notes.append(f"in {images}: {describe(files.passed_over())}")
    folder_of = {path.relative_to(images).as_posix(): path.parent.relative_to(images).as_posix()
                 for path in files.images}
    listed_folders = {".", *(folder for name, folder in folder_of.items() if name in listed)}
    unlisted_folders = Counter(folder for folder in folder_of.values() if folder not in listed_folders)
    for folder, count in sorted(unlisted_folders.items()):
        findings.problems.append(f"unlisted class: none of the {count} images in {images / folder} is in a list")
    unlisted = [name for name, folder in folder_of.items() if name not in listed and folder in listed_folders]
    if unlisted:
        findings.notes.append(f"{len(unlisted)} images in {images} are in no list, e.g. {unlisted[0]}")


def first_of(items: Sequence[str]) -> str:
    """Return the first three items of a list as text, and the number of the others."""
    return ", ".join(items[:3]) + (f", and {len(items) - 3} more" if len(items) > 3 else "")


# ------------------------------------------------------------------------------------------------------- the images

TINY = 32                   # pixels of the shorter side
SAME_PICTURE = 0.995        # correlation of two 32×32 grey pictures from which they count as one picture


@dataclass(frozen=True)
class ImageScan:
    """What a check needs of an image that it reads once: its ``fault``, or its shorter side, digest and greys.

    ``greys`` (1024,) are those of 32×32 pixels with mean 0 and norm 1, or None for a picture of one color, which
    resembles any other such.
    """

    sample: Sample
    split: str
    fault: str | None = None
    side: int = 0
    digest: str = ""
    greys: numpy.ndarray | None = None


def scan_images(layout: Layout) -> list[ImageScan]:
    """Read and decode every image once, by threads; target-only faces count as training images."""
    samples = [(sample, split) for split in SPLITS for sample in layout.split(split)]
    samples += [(sample, "train") for sample in layout.target_only]
    with ThreadPoolExecutor(4) as pool:
        return list(progress(pool.map(lambda pair: _scan(*pair), samples), "reading", len(samples), "image"))


def _scan(sample: Sample, split: str) -> ImageScan:
    try:
        picture = read_picture(sample.path, 2 * BLANK_SIDE)      # JPEG files at the lowest resolution that will do
        digest = sha256(sample.path)
    except BadPicture as error:
        return ImageScan(sample, split, error.fault)
    greys = greys_of(picture)
    standardized = None if is_blank(greys) else (greys - greys.mean()) / (greys.std() * len(greys) ** 0.5)
    return ImageScan(sample, split, None, min(picture.size), digest, standardized)


def inspect_pictures(scans: Sequence[ImageScan], findings: Findings) -> None:
    """Report broken, blank and tiny images, and pictures that are there twice: a leak if they are in two splits."""
    broken = [f"{scan.sample.name} ({scan.fault})" for scan in scans if scan.fault]
    if broken:
        findings.problems.append(f"{len(broken)} image{'s' * (len(broken) != 1)} cannot be read: {first_of(broken)}")
    blank = [scan.sample.name for scan in scans if not scan.fault and scan.greys is None]
    if blank:
        findings.problems.append(f"{len(blank)} images are nearly one color and show nothing: {first_of(blank)}")
    tiny = [f"{scan.sample.name} ({scan.side} pixels)" for scan in scans if not scan.fault and scan.side < TINY]
    if tiny:
        findings.notes.append(f"{len(tiny)} images are smaller than {TINY} pixels: {first_of(tiny)}")

    greys, identical = [scan.greys for scan in scans], list(_identical_pairs(scans))
    similar = [(i, j) for i, j in near_duplicates(greys) if scans[i].digest != scans[j].digest]
    known = {*identical, *similar}
    mirrored = [pair for pair in near_duplicates(greys, mirrored=True) if pair not in known]
    for pairs, meaning in ((identical, "byte-identical images"), (similar, "nearly identical images"),
                           (mirrored, "images that are nearly each other's mirror image")):
        _report_pairs([(scans[i], scans[j]) for i, j in pairs], meaning, findings,
                      findings.problems if pairs is identical else findings.notes)


def _report_pairs(pairs: Sequence[tuple[ImageScan, ImageScan]], meaning: str, findings: Findings,
                  label_findings: list[str]) -> None:
    """Report pictures that are there twice; those with two labels go to ``label_findings``."""
    leaks = [f"{first.sample.name} ({first.split}) = {second.sample.name} ({second.split})"
             for first, second in pairs if first.split != second.split]
    if leaks:
        findings.problems.append(f"leak: {len(leaks)} pairs of {meaning} in two splits: {first_of(leaks)}")
    contradictions = [f"{first.sample.name} = {second.sample.name}" for first, second in pairs
                      if first.sample.label != second.sample.label]
    if contradictions:
        label_findings.append(f"{len(contradictions)} pairs of {meaning} have two labels: {first_of(contradictions)}")
    if len(pairs) > len(leaks):
        findings.notes.append(f"{len(pairs) - len(leaks)} pairs of {meaning} within one split")


def _identical_pairs(scans: Sequence[ImageScan]) -> Iterator[tuple[int, int]]:
    """Yield the positions of images with the same bytes; of many such, pairs with the first 50 alone."""
    by_digest: dict[str, list[int]] = defaultdict(list)
    for index, scan in enumerate(scans):
        if not scan.fault:
            by_digest[scan.digest].append(index)
    for group in by_digest.values():
        yield from ((i, j) for position, i in enumerate(group[:50]) for j in group[position + 1:])


def near_duplicates(greys: Sequence[numpy.ndarray | None], block: int = 1024, mirrored: bool = False
                    ) -> Iterator[tuple[int, int]]:
    """Yield the positions of pairs whose greys (1024,), of mean 0 and norm 1, correlate by at least ``SAME_PICTURE``.

    With ``mirrored`` one picture of each pair is mirrored. All pairs are compared, ``block`` pictures with all others
    in each matrix product. The correlation does not depend on brightness, contrast, scale and compression, but
    distinguishes two photographs of one person.
    """
    positions = [index for index, grey in enumerate(greys) if grey is not None]
    if len(positions) < 2:
        return
    vectors = numpy.stack([greys[index] for index in positions])
    side = math.isqrt(vectors.shape[1])
    partners = vectors.reshape(-1, side, side)[:, :, ::-1].reshape(len(vectors), -1) if mirrored else vectors
    for start in range(0, len(vectors), block):
        rows, columns = numpy.nonzero(vectors[start:start + block] @ partners[start:].T >= SAME_PICTURE)
        for row, column in zip(rows.tolist(), columns.tolist()):
            if row < column:
                yield positions[start + row], positions[start + column]


# ------------------------------------------------------------------------------------------------------ at a glance

COLUMNS = {"train": 8, "test": 4}  # images of an expression on the contact sheet
SIDE, GAP, TOP = 96, 4, 28  # pixels of an image's side, between the images and above them


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


if __name__ == "__main__":
    run_command(main)
