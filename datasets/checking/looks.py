"""What the images show: broken and tiny ones, and pictures that are there twice."""

import hashlib
import math
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Iterator, Sequence

import numpy

from datasets.checking.findings import SPLITS, Findings, first_of
from datasets.layout import Layout, Sample
from datasets.pictures import BLANK_SIDE, BadPicture, greys_of, is_blank, read_picture
from utils import progress

TINY = 32                   # pixels of the shorter side
SAME_PICTURE = 0.995        # correlation of two 32×32 grey pictures from which they count as one picture


@dataclass(frozen=True)
class Look:
    """What reading an image once has shown: its ``fault``, or its shorter side, digest and standardized greys (1024,).

    ``greys`` are those of 32×32 pixels, or None for a picture of one color, which is like any other such.
    """

    sample: Sample
    split: str
    fault: str | None = None
    side: int = 0
    digest: str = ""
    greys: numpy.ndarray | None = None


def look_at(layout: Layout) -> list[Look]:
    """Read and decode every image once, by threads; target-only faces are looked at as training images."""
    samples = [(sample, split) for split in SPLITS for sample in layout.split(split)]
    samples += [(sample, "train") for sample in layout.target_only]
    with ThreadPoolExecutor(4) as pool:
        return list(progress(pool.map(lambda pair: _look(*pair), samples), "reading", len(samples), "image"))


def _look(sample: Sample, split: str) -> Look:
    try:
        picture = read_picture(sample.path, 2 * BLANK_SIDE)      # JPEG files at the lowest resolution that will do
        digest = hashlib.sha256(sample.path.read_bytes()).hexdigest()
    except BadPicture as error:
        return Look(sample, split, error.fault)
    greys = greys_of(picture)
    standard = None if is_blank(greys) else (greys - greys.mean()) / (greys.std() * len(greys) ** 0.5)
    return Look(sample, split, None, min(picture.size), digest, standard)


def inspect_pictures(looks: Sequence[Look], findings: Findings) -> None:
    """Find broken, blank and tiny images, and pictures that are there twice: a leak if they are in two splits."""
    broken = [f"{seen.sample.name} ({seen.fault})" for seen in looks if seen.fault]
    if broken:
        findings.problems.append(f"{len(broken)} image{'s' * (len(broken) != 1)} cannot be read: {first_of(broken)}")
    blank = [seen.sample.name for seen in looks if not seen.fault and seen.greys is None]
    if blank:
        findings.problems.append(f"{len(blank)} images are nearly one color and show nothing: {first_of(blank)}")
    tiny = [f"{seen.sample.name} ({seen.side} pixels)" for seen in looks if not seen.fault and seen.side < TINY]
    if tiny:
        findings.notes.append(f"{len(tiny)} images are smaller than {TINY} pixels: {first_of(tiny)}")

    greys, same = [seen.greys for seen in looks], list(_identical(looks))
    near = [(i, j) for i, j in near_duplicates(greys) if looks[i].digest != looks[j].digest]
    known = {*same, *near}
    mirrored = [pair for pair in near_duplicates(greys, mirrored=True) if pair not in known]
    for pairs, what in ((same, "byte-identical images"), (near, "nearly identical images"),
                        (mirrored, "images that are nearly each other's mirror image")):
        _report_pairs([(looks[i], looks[j]) for i, j in pairs], what, findings,
                      findings.problems if pairs is same else findings.notes)


def _report_pairs(pairs: Sequence[tuple[Look, Look]], what: str, findings: Findings, label_findings: list[str]) -> None:
    """Report pictures that are there twice; those with two labels go to ``label_findings``."""
    across = [f"{one.sample.name} ({one.split}) = {other.sample.name} ({other.split})"
              for one, other in pairs if one.split != other.split]
    if across:
        findings.problems.append(f"leak: {len(across)} pairs of {what} in two splits: {first_of(across)}")
    torn = [f"{one.name} = {other.name}" for one, other in ((one.sample, other.sample) for one, other in pairs)
            if one.label != other.label]
    if torn:
        label_findings.append(f"{len(torn)} pairs of {what} have two labels: {first_of(torn)}")
    if len(pairs) > len(across):
        findings.notes.append(f"{len(pairs) - len(across)} pairs of {what} within one split")


def _identical(looks: Sequence[Look]) -> Iterator[tuple[int, int]]:
    first: dict[str, list[int]] = defaultdict(list)
    for index, seen in enumerate(looks):
        if not seen.fault:
            first[seen.digest].append(index)
    for group in first.values():
        yield from ((i, j) for position, i in enumerate(group[:50]) for j in group[position + 1:])


def near_duplicates(greys: Sequence[numpy.ndarray | None], block: int = 1024, mirrored: bool = False
                    ) -> Iterator[tuple[int, int]]:
    """Yield pairs of pictures whose standardized greys (1024,) correlate by at least ``SAME_PICTURE``.

    With ``mirrored`` one picture of each pair is mirrored. All pairs are compared, block by block as matrix products.
    The correlation does not see brightness, contrast, scale and compression, but tells two photographs of one person
    apart.
    """
    known = numpy.array([index for index, grey in enumerate(greys) if grey is not None], int)
    if len(known) < 2:
        return
    vectors = numpy.stack([greys[index] for index in known])
    side = math.isqrt(vectors.shape[1])
    others = vectors.reshape(-1, side, side)[:, :, ::-1].reshape(len(vectors), -1) if mirrored else vectors
    for start in range(0, len(vectors), block):
        rows, columns = numpy.nonzero(vectors[start:start + block] @ others[start:].T >= SAME_PICTURE)
        for row, column in zip(rows.tolist(), columns.tolist()):
            if row < column:
                yield int(known[start + row]), int(known[start + column])
