"""What an importer is, and what it finds."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable

from datasets.files import check_output, is_image_name
from datasets.layout import Sample
from datasets.lists import LISTS
from utils import UserError


@dataclass(frozen=True)
class PixelSample(Sample):
    """A sample whose picture no file holds: ``path`` is a table that lists its grey ``pixels``, a square by rows."""

    pixels: bytes = field(default=b"", repr=False)


@dataclass
class Collection:
    """What an importer found. A sample's ``path`` is the source's file, its ``name`` the one it gets.

    ``undecided`` samples have no split yet: ``test`` is the share of them that is tested on, or the subjects.
    ``left_out`` counts images by the reason for which they are not taken.
    """

    expressions: tuple[str, ...]
    test: float | set[str] = 0.2
    splits: dict[str, list[Sample]] = field(default_factory=lambda: {"train": [], "val": [], "test": []})
    undecided: list[Sample] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)

    def add(self, split: str | None, sample: Sample) -> None:
        """Put a sample into its split, or among the undecided."""
        (self.splits[split] if split else self.undecided).append(sample)

    def everything(self) -> list[Sample]:
        """All samples, with and without a split."""
        return [*self.splits["train"], *self.splits["val"], *self.splits["test"], *self.undecided]

    def name_apart(self, new_name: Callable[[str], str] = str) -> None:
        """Rename all samples that have a split so that no two share a name, not even where a file system ignores case.

        ``new_name`` maps the names before they are told apart.
        """
        used: set[str] = set()

        def renamed(sample: Sample) -> Sample:
            first = name = new_name(sample.name)
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
    """The directory to import from; UserError where it is absent, or lies in the output or around it."""
    source = Path(asked.source)
    if not source.is_dir():
        raise UserError(f"{source}: no such directory")
    for out in (Path(asked.out), Path(asked.out) / "data"):
        check_output(out, "--out", apart=[source], directory=True)
    return source


def source_table(asked: argparse.Namespace, *others: Path) -> Path:
    """The table to import from; UserError where it is absent, or one of the lists would replace it or ``others``."""
    table = Path(asked.source)
    if not table.is_file():
        raise UserError(f"{table}: no such table")
    for name in LISTS:
        check_output(Path(asked.out) / name, "--out", inputs=[table, *others])
    return table


def files_below(folder: Path) -> list[Path]:
    """All files below a directory that are images by their names, in order."""
    return [path for path in sorted(folder.rglob("*")) if is_image_name(path.name) and path.is_file()]


def share_to_test_on(word: str) -> float:
    """A share, from what was typed; UserError unless it lies between 0 and 1."""
    try:
        share = float(word)
    except ValueError:
        raise UserError(f"--test_subjects {word}: no share, no subject's number and no file") from None
    if not 0 < share < 1:
        raise UserError(f"the share to test on must lie between 0 and 1, not {word}")
    return share
