"""Data sets that people have → the layout that training reads: ``python -m datasets.convert KIND SRC``.

The source is never touched. OUT/data gets links to its images (or copies, with --copy or --reencode), OUT the lists.
A second run gives the same files; lists of another data set are not replaced unless --overwrite is given.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from datasets.files import check_output
from datasets.importing.naming import asked_test
from datasets.importing.registry import IMPORTERS
from options.option import LARGEST, OneLineParser, check_ranges
from utils import run_command


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    asked = build_parser().parse_args(arguments)
    check_ranges(asked, reencode=(32, 65536), seed=(0, LARGEST))
    source, out = Path(asked.source), Path(asked.out)
    check_output(out, "--out", directory=True)
    from datasets.importing import conversion, images

    test = asked_test(asked)
    found = asked.read(asked)
    found.test = test
    conversion.convert(found, source, out, images.ImageWriter(asked.copy, asked.reencode),
                       seed=asked.seed, overwrite=asked.overwrite)


def build_parser() -> argparse.ArgumentParser:
    """The options of this command: a subparser for each importer, with common options and the importer's own."""
    parser = OneLineParser(prog="python -m datasets.convert", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True,
                                  metavar="|".join(importer.kind for importer in IMPORTERS))
    for importer in IMPORTERS:
        kind = kinds.add_parser(importer.kind, help=importer.meaning)
        _add_common_options(kind, *importer.source, importer.out)
        importer.add_options(kind)
        kind.set_defaults(read=importer.read)
    return parser


def _add_common_options(parser: argparse.ArgumentParser, source: str, meaning: str, out: str) -> None:
    parser.add_argument("source", metavar=source, help=meaning)
    parser.add_argument("--out", default=out, metavar="DIR", help=f"default: {out}")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--copy", action="store_true", help="copy the images; without it they are linked, and the "
                     "source must stay where it is")
    how.add_argument("--reencode", type=int, metavar="SIDE", help="write upright JPEG files whose shorter side has "
                     "at most SIDE pixels: smaller and faster to read than large photographs")
    parser.add_argument("--seed", type=int, default=0, help="of the split, where the source has none (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace the lists of another data set in DIR")


if __name__ == "__main__":
    run_command(main)
