"""The check of a data directory before training: ``python -m datasets.check DIR``.

It counts images by expression and split, finds leaks between the splits, broken and tiny images, and labels and classes
that cannot be trained on, and draws a contact sheet. Everything is reported, nothing is changed. The exit status is 1
if something would spoil a result.
"""

import sys
from pathlib import Path

from options.option import OneLineParser
from system.command import run_command


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    from datasets.checking.directory import check_directory

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
    parser.add_argument("directory", metavar="DIR", type=Path,
                        help="a data directory: images.list, images_test.list, data/")
    parser.add_argument("-a", "--expressions", nargs="+", metavar="NAME",
                        help="the names of the labels, in order, if the directory does not name them")
    parser.add_argument("--neutral", metavar="NAME", help="the expression that serves as neutral")
    parser.add_argument("--sheet", metavar="FILE", type=Path,
                        help="where the contact sheet goes (default: DIR/check.jpg)")
    return parser


if __name__ == "__main__":
    run_command(main)
