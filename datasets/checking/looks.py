"""The checks that read the images: for broken and tiny ones, and for pictures that are there twice."""

import math
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Iterator, Sequence

import numpy

from datasets.checking.findings import SPLITS, Findings, first_of
from datasets.layout import Layout, Sample
from datasets.pictures import BLANK_SIDE, BadPicture, greys_of, is_blank, read_picture
from utils import progress, sha256

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
