"""The command that imports a data set into a data directory: ``python -m datasets.convert KIND SRC``.

The source is never changed. OUT/data gets links to its images (or copies, with --copy or --reencode), OUT the lists.
A second run gives the same files; lists of another data set are not replaced unless --overwrite is given.
"""

from datasets.files import check_output
from datasets.importing.folders import FOLDERS
from datasets.importing.listed import AFFECTNET, EXPW, FER2013, RAFDB
from datasets.importing.named import CKPLUS, JAFFE, KDEF, MULTIPIE, OULU
from datasets.importing.naming import read_test_selection
from datasets.importing.table import TABLE
from options.config import LARGEST, OneLineParser, check_ranges
from utils import run_command, user_path

IMPORTERS = (MULTIPIE, RAFDB, FER2013, AFFECTNET, EXPW, CKPLUS, OULU, JAFFE, KDEF, FOLDERS, TABLE)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    check_ranges(args, reencode=(32, 65536), seed=(0, LARGEST))
    check_output(args.out, "--out", directory=True)
    from datasets.importing.conversion import ImageWriter, convert

    test = read_test_selection(args)
    convert(args.read(args), args.source, args.out, ImageWriter(args.copy, args.reencode, args.square),
            test=test, seed=args.seed, overwrite=args.overwrite)


def build_parser() -> OneLineParser:
    """Return the parser: a subparser for each importer, with common options and the importer's own."""
    parser = OneLineParser(prog="python -m datasets.convert", description=(__doc__ or "").replace("``", ""))
    kinds = parser.add_subparsers(dest="kind", required=True,
                                  metavar="|".join(importer.kind for importer in IMPORTERS))
    for importer in IMPORTERS:
        kind, out = kinds.add_parser(importer.kind, help=importer.meaning), importer.out or f"datasets/{importer.kind}"
        kind.add_argument("source", metavar=importer.metavar, type=user_path, help=importer.source_meaning)
        kind.add_argument("--out", default=out, type=user_path, metavar="DIR", help=f"default: {out}")
        form = kind.add_mutually_exclusive_group()
        form.add_argument("--copy", action="store_true", help="copy the images; without it they are linked, and the "
                          "source must stay where it is")
        form.add_argument("--reencode", type=int, metavar="SIDE", help="write upright JPEG files whose shorter side "
                          "has at most SIDE pixels: smaller and faster to read than large photographs")
        kind.add_argument("--square", action="store_true", help="cut the central squares out, as PNG files, or "
                          "as JPEG files with --reencode; without it a run squeezes pictures that are not square")
        kind.add_argument("--seed", type=int, default=0, help="of the split, if the source has none (default: 0)")
        kind.add_argument("--overwrite", action="store_true", help="replace the lists of another data set in DIR")
        for flag, settings in importer.options.items():
            kind.add_argument(flag, **settings)
        kind.set_defaults(read=importer.read)
    return parser


if __name__ == "__main__":
    run_command(main)
