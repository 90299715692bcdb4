"""What an importer is, and what it finds."""

from __future__ import annotations

import argparse
import filecmp
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable, Iterator

from datasets.files import check_output
from datasets.layout import Sample
from datasets.lists import LISTS
from datasets.names import Names
from datasets.walking import Walk
from utils import UserError


@dataclass(frozen=True)
class PixelSample(Sample):
    """A sample whose picture no file holds: ``path`` is a table that lists its grey ``pixels``, a square by rows."""

    pixels: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class BoxSample(Sample):
    """A face in a picture: ``box`` is (left, top, right, bottom) in pixels; right and bottom lie outside the face."""

    box: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass
class Collection:
    """What an importer found. A sample's ``path`` is the source's file, its ``name`` the one it gets.

    ``undecided`` samples have no split yet: ``test`` is the share of them that is tested on, or the subjects.
    ``left_out`` counts images by the reason for which they are not taken, ``refused`` are their files. ``walk`` are the
    files of the source, ``rows`` is how many faces its table lists, ``names`` are those by which its lists call files,
    and ``notes`` are sentences for the user.
    """

    expressions: tuple[str, ...]
    walk: Walk | None = None
    rows: int = 0
    names: list[Names] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    test: float | set[str] = 0.2
    splits: dict[str, list[Sample]] = field(default_factory=lambda: {"train": [], "val": [], "test": []})
    undecided: list[Sample] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)
    refused: set[Path] = field(default_factory=set)

    def add(self, split: str | None, sample: Sample) -> None:
        """Put a sample into its split, or among the undecided."""
        (self.splits[split] if split else self.undecided).append(sample)

    def leave_out(self, reason: str, *paths: Path) -> None:
        """Count images of the source that are not taken, each with the reason."""
        self.left_out[reason] += len(paths)
        self.refused.update(paths)

    def everything(self) -> list[Sample]:
        """All samples, with and without a split."""
        return [*self.splits["train"], *self.splits["val"], *self.splits["test"], *self.undecided]

    def map(self, function: Callable[[Sample], Sample]) -> None:
        """Replace every sample by a function of it."""
        self.splits = {split: list(map(function, samples)) for split, samples in self.splits.items()}
        self.undecided = list(map(function, self.undecided))

    def keep(self, kept: Callable[[Sample], bool]) -> None:
        """Keep the samples for which a function says so."""
        self.splits = {split: list(filter(kept, samples)) for split, samples in self.splits.items()}
        self.undecided = list(filter(kept, self.undecided))

    def images_named(self, pattern: re.Pattern, example: str) -> Iterator[tuple[Path, re.Match]]:
        """The images of the source whose file names match a pattern; the others are left out.

        Copies of one file are taken once. Raises UserError if two different files have one name.
        """
        first: dict[tuple, Path] = {}
        for path in self.walk.images:
            match = pattern.fullmatch(path.name)
            if not match:
                self.leave_out(f"not named like {example}", path)
                continue
            known = first.setdefault(tuple(part and part.upper() for part in match.groups()), path)
            if known is path:
                yield path, match
            elif filecmp.cmp(known, path, shallow=False):
                self.leave_out("that are copies of others", path)
            else:
                raise UserError(f"{known} and {path} are one picture by their names, and differ; name the directory of "
                                "one of them as the source, or move the other away")

    def name_apart(self, new_name: Callable[[Sample], str]) -> None:
        """Rename all samples that have a split so that no two share a name, not even where a file system ignores case.

        ``new_name`` gives a sample's name before it is told apart from others.
        """
        used: set[str] = set()

        def renamed(sample: Sample) -> Sample:
            first = name = new_name(sample)
            stem, dot, ending = first.rpartition(".")
            number = 1
            while name.lower() in used:
                number += 1
                name = f"{stem}-{number}{dot}{ending}"
            used.add(name.lower())
            return replace(sample, name=name)

        self.splits = {split: list(map(renamed, samples)) for split, samples in self.splits.items()}


@dataclass(frozen=True)
class Importer:
    """One kind of data set of ``python -m datasets.convert KIND SOURCE``.

    ``meaning`` says what kind that is, ``source`` how the help calls the source and what it is, ``out`` where the data
    directory goes by default. ``add_options`` gives a parser the kind's own options. ``read`` turns what was asked for
    into a :class:`Collection`: it reads names and lists, no image files, writes nothing, and raises UserError for a
    source that is no such data set.
    """

    kind: str
    meaning: str
    source: tuple[str, str]
    out: str
    add_options: Callable[[argparse.ArgumentParser], None]
    read: Callable[[argparse.Namespace], Collection]


def source_directory(asked: argparse.Namespace) -> Path:
    """The directory to import from. Raises UserError if it is absent, or lies in the output or around it."""
    source = Path(asked.source)
    if not source.is_dir():
        raise UserError(f"{source}: no such directory")
    for out in (Path(asked.out), Path(asked.out) / "data"):
        check_output(out, "--out", apart=[source], directory=True)
    return source


def source_table(asked: argparse.Namespace, *others: Path) -> Path:
    """The table to import from. Raises UserError if it is absent, or one of the lists would replace it or ``others``.
    """
    table = Path(asked.source)
    if not table.is_file():
        raise UserError(f"{table}: no such table")
    for name in LISTS:
        check_output(Path(asked.out) / name, "--out", inputs=[table, *others])
    return table
