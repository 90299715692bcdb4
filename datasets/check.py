"""The check of a data directory before training: ``python -m datasets.check DIR``.

It counts images by expression and split, finds leaks between the splits, broken and tiny images, and labels and classes
that cannot be trained on, and draws a contact sheet on demand. Everything is reported, nothing is changed. The exit
status is 1 if something would spoil a result.
"""

import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, combinations
from pathlib import Path
from typing import Sequence

import numpy
from PIL import Image, ImageDraw, ImageOps

from datasets.files import Walk, check_output, describe, walk
from datasets.layout import (SPLITS, Layout, Sample, alignment_of, build_layout, class_mistakes, counts_table,
                             label_mistakes)
from datasets.lists import Lists, explain_adapted, image_directory, read_lists
from datasets.pictures import BLANK_SIDE, BadPicture, greys_of, is_blank, read_picture
from options.config import OneLineParser
from pictures.lettering import widest, write
from utils import by_threads, check_picture_name, progress, run_command, save_picture, sha256, user_path


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
                        help="draw a contact sheet: a row of training and test images for each expression")
    return parser


@dataclass
class Findings:
    """The findings of a check, as sentences: ``problems`` spoil a result, ``notes`` do not."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, *pairs: tuple[object, str]) -> None:
        """Add the sentences of pairs of what was found, if anything was, and a sentence about it to the notes."""
        self.notes += [sentence for found, sentence in pairs if found]

    def problem(self, *pairs: tuple[object, str]) -> None:
        """Add such sentences to the problems."""
        self.problems += [sentence for found, sentence in pairs if found]


def check_directory(root: Path, expressions: Sequence[str] | None = None, neutral: str | None = None,
                    sheet: Path | None = None) -> Findings:
    """Print the table of a data directory and return everything that its check has found.

    ``expressions`` names the labels if the directory does not; ``neutral`` is the expression that serves as neutral.
    ``sheet`` is the file of a contact sheet. Raises UserError if a list is malformed or that of training is absent, or
    if ``sheet`` cannot be written.
    """
    findings, lists = Findings(), read_lists(root, need_test=False)
    if sheet:
        images = image_directory(root)
        check_picture_name(sheet)
        check_output(sheet, "--sheet", trees=[images], inputs=[images / name for name in lists.labels()])
    # A label that is far too high is a mistake and gets no name.
    highest = max((row.label for row in lists.labels().values() if row.label < 100), default=0)
    names = lists.expressions or tuple(expressions or map(str, range(max(2, 1 + highest))))
    findings.note(
        (not lists.expressions and not expressions, "nothing names the expressions: labels are shown as numbers (name "
         "them with -a)"),
        (not lists.test, "there is no test list: only --folds can train on these images"))
    inspect_lists(lists, names, findings)
    layout, alignment = build_layout(lists, names, names, neutral), alignment_of(root)
    print(counts_table(layout))
    print("alignment: " + (f"{alignment['size']} pixels, margin {alignment['margin']}" if alignment else "not known"))
    inspect_classes(layout, findings)
    inspect_subjects(layout, lists, findings)
    samples = [(sample, split) for split in SPLITS for sample in layout.split(split)]
    samples += [(sample, "train") for sample in layout.target_only]
    scans = list(by_threads(lambda pair: scan_image(*pair), samples, "reading"))
    inspect_pictures(scans, findings)
    inspect_copies([scan for scan in scans if not scan.fault], findings)
    inspect_unlisted(lists, findings)
    if sheet:
        save_picture(contact_sheet(layout, {scan.sample for scan in scans if scan.fault}), sheet)
        print(f"contact sheet: {sheet}")
    print()
    return findings


# ------------------------------------------------------------------------------------------------ lists and samples

def inspect_lists(lists: Lists, names: Sequence[str], findings: Findings) -> None:
    """Report names in two lists, and labels that name no expression."""
    counts = {split: sum(row.label == len(names) for row in rows.values())
              for split, rows in (("val", lists.val), ("test", lists.test))}
    shared = lists.val.keys() & lists.test.keys()
    findings.note(
        (lists.held_out,  # as in the published code's lists; reading takes them out of training
         f"{len(lists.held_out)} names of the training list are held out, because the validation or test list "
         f"has them too, e.g. {first_of(sorted(lists.held_out))}"),
        *((count and lists.has_target_only, f"{count} images of the {split} list have the label of target-only faces "
           f"({len(names)})") for split, count in counts.items()))
    if lists.adapted:
        findings.notes.append(explain_adapted(lists.adapted, min(lists.adapted)))
    findings.problem(
        (lists.contradicted, f"{len(lists.contradicted)} names have one label in the training list and another in the "
         f"validation or test list: {first_of(sorted(lists.contradicted))}"),
        (shared, f"leak: {len(shared)} names are in the validation and in the test list, e.g. "
         f"{first_of(sorted(shared))}"))
    findings.problems += label_mistakes(lists, names)


def inspect_classes(layout: Layout, findings: Findings) -> None:
    """Report expressions without images, and a lack of neutral faces for synthesis."""
    findings.problems += class_mistakes(layout)
    empty = [name for name, count in zip(layout.expressions, layout.counts("test")) if count == 0]
    with_neutral = {sample.subject for sample in layout.targets()}
    without_neutral = {sample.subject for sample in layout.train if sample.subject} - with_neutral
    findings.note(
        (empty, f"no test image of {', '.join(empty)}"),
        (layout.neutral is None, "no expression is called neutral: training needs --neutral NAME or --targets any, "
         "which --preset tuned has"),
        (without_neutral and with_neutral and not layout.target_only,
         f"{len(without_neutral)} training subjects have no neutral image of their own, e.g. "
         f"{first_of(sorted(without_neutral))}"))


def inspect_subjects(layout: Layout, lists: Lists, findings: Findings) -> None:
    """Report persons in two splits, and images and subjects that do not belong to each other."""
    with_subject, listed = set(lists.subjects), set(lists.labels())
    findings.note(*((with_subject and names, f"{len(names)} {finding}, e.g. {first_of(sorted(names))}")
                    for names, finding in ((with_subject - listed, "lines of subjects.list name no listed image"),
                                           (listed - with_subject, "listed images have no line in subjects.list"))))
    subjects = {split: {sample.subject for sample in layout.split(split) if sample.subject} for split in SPLITS}
    subjects["train"] |= {sample.subject for sample in layout.target_only if sample.subject}
    shared = {pair: sorted(subjects[pair[0]] & subjects[pair[1]]) for pair in combinations(SPLITS, 2)}
    findings.problem(*((persons, f"leak: {len(persons)} subjects are in {first} and {second}, e.g. {first_of(persons)}")
                       for (first, second), persons in shared.items()))


def inspect_unlisted(lists: Lists, findings: Findings) -> None:
    """Report images that no list names, and whole directories of them."""
    images, listed = image_directory(lists.root), lists.labels()
    files = walk(images) if images.is_dir() else Walk()
    folder_of = {path.relative_to(images).as_posix(): path.parent.relative_to(images).as_posix()
                 for path in files.images}
    listed_folders = {".", *(folder for name, folder in folder_of.items() if name in listed)}
    unlisted_folders = Counter(folder for folder in folder_of.values() if folder not in listed_folders)
    findings.problems += [f"unlisted class: none of the {count} images in {images / folder} is in a list"
                          for folder, count in sorted(unlisted_folders.items())]
    unlisted = [name for name, folder in folder_of.items() if name not in listed and folder in listed_folders]
    findings.note((files.passed_over(), f"in {images}: {describe(files.passed_over())}"),
                  (unlisted, f"{len(unlisted)} images in {images} are in no list, e.g. {first_of(unlisted)}"))


def first_of(items: Sequence[str], count: int | None = None) -> str:
    """Return the first three of some names as text, and the number of the others of ``count``, or of all."""
    others = (len(items) if count is None else count) - 3
    return ", ".join(items[:3]) + (f", and {others} more" if others > 0 else "")


# ------------------------------------------------------------------------------------------------------- the images

TINY = 32                   # pixels of the shorter side
SAME_PICTURE = 0.995        # correlation of two 32×32 grey pictures from which they count as one picture
MOST_SQUEEZED = 1.15        # ratio of two shapes (width : height) from which a picture is plainly squeezed


@dataclass(frozen=True)
class ImageScan:
    """What a check needs of an image that it reads once: its ``fault``, or its size, digest and greys.

    ``greys`` (1024,) uint8 are those of 32×32 pixels, or None for a picture of one color, which resembles any other
    such.
    """

    sample: Sample
    split: str
    fault: str | None = None
    size: tuple[int, int] = (0, 0)
    digest: str = ""
    greys: numpy.ndarray | None = None


def scan_image(sample: Sample, split: str) -> ImageScan:
    """Read and decode an image once."""
    try:
        picture = read_picture(sample.path, 2 * BLANK_SIDE)      # JPEG files at the lowest resolution that will do
        digest, greys = sha256(sample.path), greys_of(picture)
    except BadPicture as error:
        return ImageScan(sample, split, error.fault)
    return ImageScan(sample, split, None, picture.size, digest, None if is_blank(greys) else greys.astype(numpy.uint8))


def inspect_pictures(scans: Sequence[ImageScan], findings: Findings) -> None:
    """Report broken, blank and tiny images, and images that are no squares."""
    broken = [f"{scan.sample.name} ({scan.fault})" for scan in scans if scan.fault]
    readable = [scan for scan in scans if not scan.fault]
    blank = [scan.sample.name for scan in readable if scan.greys is None]
    tiny = [f"{scan.sample.name} ({min(scan.size)} pixels)" for scan in readable if min(scan.size) < TINY]
    shapes = {split: [scan.size[0] / scan.size[1] for scan in readable if scan.split == split] for split in SPLITS}
    trained = float(numpy.median(shapes["train"] or [1]))
    usual = {split: float(numpy.median(shapes[split] or [trained])) for split in ("val", "test")}
    squeezed = sum(map(_is_squeezed, chain(*shapes.values())))
    findings.problem(
        (broken, f"{len(broken)} image{'s' * (len(broken) != 1)} cannot be read: {first_of(broken)}"),
        (blank, f"{len(blank)} images are nearly one color and show nothing: {first_of(blank)}"),
        *((_is_squeezed(shape / trained), f"the {split} images have another shape (usually {shape:.2f} : 1) than the "
           f"training images ({trained:.2f} : 1), and all are squeezed into squares")
          for split, shape in usual.items()))
    findings.note(
        (tiny, f"{len(tiny)} images are smaller than {TINY} pixels: {first_of(tiny)}"),
        (squeezed, f"{squeezed} of {len(readable)} images are no squares and are squeezed into such: cut them, or "
         "align their faces"))


def _is_squeezed(ratio: float) -> bool:
    return not 1 / MOST_SQUEEZED < ratio < MOST_SQUEEZED


def inspect_copies(scans: Sequence[ImageScan], findings: Findings) -> None:
    """Report pictures that are there twice: a leak if they are in two splits; of equal files also two labels."""
    digests = numpy.unique([scan.digest for scan in scans], return_inverse=True)[1]
    splits, labels = (numpy.array(values) for values in ([scan.split for scan in scans],
                                                         [scan.sample.label for scan in scans]))
    shown = numpy.flatnonzero([scan.greys is not None for scan in scans])
    greys = numpy.array([scans[i].greys for i in shown])
    found = [shown[near_duplicates(greys, is_mirrored)] for is_mirrored in (False, True)]
    similar, mirrored = (pairs[digests[pairs[:, 0]] != digests[pairs[:, 1]]] for pairs in found)
    mirrored = mirrored[~numpy.isin(mirrored @ (len(scans), 1), similar @ (len(scans), 1))]
    for pairs, meaning, report_labels in (
            (_identical_pairs(digests), "byte-identical images", findings.problem),
            (similar, "nearly identical images", findings.note),
            (mirrored, "images that are nearly each other's mirror image", findings.note)):
        leaks, contradictions = (pairs[values[pairs[:, 0]] != values[pairs[:, 1]]] for values in (splits, labels))
        examples = [" = ".join(f"{scans[i].sample.name} ({scans[i].split})" for i in pair) for pair in leaks[:3]]
        findings.problem((examples, f"leak: {len(leaks)} pairs of {meaning} in two splits: "
                          f"{first_of(examples, len(leaks))}"))
        examples = [" = ".join(scans[i].sample.name for i in pair) for pair in contradictions[:3]]
        report_labels((examples, f"{len(contradictions)} pairs of {meaning} have two labels: "
                       f"{first_of(examples, len(contradictions))}"))
        findings.note((len(pairs) > len(leaks), f"{len(pairs) - len(leaks)} pairs of {meaning} within one split"))


def _identical_pairs(digests: numpy.ndarray) -> numpy.ndarray:
    """Return the pairs (P, 2) of equal digests (N,); of many such images, pairs with the first 50 alone."""
    order = numpy.argsort(digests, kind="stable")
    groups = numpy.split(order, numpy.flatnonzero(numpy.diff(digests[order])) + 1)
    pairs = [(i, j) for group in groups for position, i in enumerate(group[:50]) for j in group[position + 1:]]
    return numpy.array(pairs, int).reshape(-1, 2)


CELLS, BLOCK, TILE = 8, 1024, 8192  # cells on a side that are compared first; pictures in a matrix product


def near_duplicates(greys: Sequence[numpy.ndarray], mirrored: bool = False) -> numpy.ndarray:
    """Return the pairs (P, 2), first < second, of pictures whose greys (N, 1024) correlate by ``SAME_PICTURE`` or more.

    With ``mirrored`` one picture of each pair is mirrored. The correlation does not depend on brightness, contrast,
    scale and compression, but distinguishes two photographs of one person. It is at most that of 8 × 8 cells and of
    what they leave out, which is compared first, and only where the heights of the lights in two pictures are alike.
    """
    greys = numpy.asarray(greys).reshape(-1, BLANK_SIDE, BLANK_SIDE)
    others, pairs = greys[:, :, ::-1] if mirrored else greys, [numpy.zeros((0, 2), int)]
    if len(greys) < 2:
        return pairs[0]
    cells, partners = _cells(greys), _cells(others)
    rows = cells[:, :-1].reshape(-1, CELLS, CELLS).sum(2) / CELLS ** 0.5  # the same in the mirror
    key = rows @ numpy.linalg.eigh(rows.T @ rows - len(rows) * numpy.outer(rows.mean(0), rows.mean(0)))[1][:, -1]
    order, reach = numpy.argsort(key), (2 - 2 * SAME_PICTURE) ** 0.5 + 1e-3
    cells, partners, key = cells[order], partners[order], key[order]
    with progress(None, "comparing mirror images" if mirrored else "comparing", len(greys), "image") as bar:
        for start in range(0, len(greys), BLOCK):
            block = cells[start:start + BLOCK]
            end = numpy.searchsorted(key, key[start + len(block) - 1] + reach)
            for tile in range(start, end, TILE):
                near = numpy.argwhere(block @ partners[tile:min(end, tile + TILE)].T >= SAME_PICTURE - 1e-4)
                near = order[near[near[:, 0] + start < near[:, 1] + tile] + (start, tile)]
                pairs += [_correlated(greys, others, near[i:i + TILE]) for i in range(0, len(near), TILE)]
            bar.update(len(block))
    found = numpy.sort(numpy.concatenate(pairs), axis=1)
    return found[numpy.lexsort(found.T[::-1])]


def _cells(greys: numpy.ndarray) -> numpy.ndarray:
    """Return the sums of greys (N, 32, 32) over 8 × 8 cells and the norm of what they leave out: (N, 65) of norm 1."""
    side, parts = BLANK_SIDE // CELLS, [greys[i:i + TILE] for i in range(0, len(greys), TILE)]
    cells = [_standardized(part).reshape(-1, CELLS, side, CELLS, side).sum((2, 4)) for part in parts]
    cells = numpy.concatenate(cells).reshape(-1, CELLS ** 2) / side
    return numpy.column_stack([cells, numpy.sqrt(numpy.maximum(0, 1 - (cells ** 2).sum(1)))])


def _correlated(greys: numpy.ndarray, others: numpy.ndarray, pairs: numpy.ndarray) -> numpy.ndarray:
    """Return those of the pairs (P, 2) of greys and others (N, 32, 32) that correlate by ``SAME_PICTURE`` or more."""
    products = _standardized(greys[pairs[:, 0]]) * _standardized(others[pairs[:, 1]])
    return pairs[products.sum(1) >= SAME_PICTURE]


def _standardized(greys: numpy.ndarray) -> numpy.ndarray:
    """Return greys (N, 32, 32) as float32 (N, 1024) of mean 0 and norm 1."""
    centered = greys.reshape(len(greys), -1).astype(numpy.float32)
    centered -= centered.mean(1, keepdims=True, dtype=numpy.float32)
    return centered / numpy.linalg.norm(centered, axis=1, keepdims=True)


# ------------------------------------------------------------------------------------------------------ at a glance

COLUMNS = {"train": 8, "test": 4}  # images of an expression on the contact sheet
SIDE, GAP, TOP = 96, 4, 28  # pixels of an image's side, between the images and above them


def contact_sheet(layout: Layout, broken: set[Sample]) -> Image.Image:
    """Draw a row per expression: its name, and training and test images evenly spread over the lists.

    ``broken`` images are left out.
    """
    samples = {"train": layout.train + layout.target_only, "test": layout.test}
    names = (*layout.expressions, *["targets only"] * bool(layout.target_only))
    rows = [{split: [s for s in of_split if s.label == label and s not in broken]
             for split, of_split in samples.items()} for label in range(len(names))]
    captions = [[name, *(f"{len(part)} {split}" for split, part in row.items())] for name, row in zip(names, rows)]
    starts = {"train": 16 + widest(list(chain(*captions)), 14)}
    starts["test"] = starts["train"] + COLUMNS["train"] * (SIDE + GAP) + 16
    sheet = Image.new("RGB", (starts["test"] + COLUMNS["test"] * (SIDE + GAP), TOP + len(rows) * (SIDE + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (row, caption) in enumerate(zip(rows, captions)):
        top = TOP + place * (SIDE + GAP)
        for line, text in enumerate(caption):
            write(draw, (8, top + SIDE / 2 + 18 * (line - 1)), text, 14)
        for split, start in starts.items():
            count = min(COLUMNS[split], len(row[split]))
            for column in range(count):
                with suppress(BadPicture):  # changed since the check has read it
                    picture = read_picture(row[split][column * len(row[split]) // count].path)
                    sheet.paste(ImageOps.fit(picture, (SIDE, SIDE)), (start + column * (SIDE + GAP), top))
    for split, start in starts.items():
        write(draw, (start, 14), {"train": "training images", "test": "test images"}[split], 14)
    return sheet


if __name__ == "__main__":
    run_command(main)
