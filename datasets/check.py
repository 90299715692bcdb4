"""A look at a data directory before it is trained on: ``python -m datasets.check DIR``.

Counts images by expression and split, looks for leaks between the splits, for broken and tiny images, for labels and
classes that cannot work, and draws a contact sheet. Everything is reported, nothing is changed. The exit status is 1
where something would spoil a result.
"""

import sys
from pathlib import Path

from options.option import OneLineParser
from system.command import run_command


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    asked = build_parser().parse_args(arguments)
    from datasets.checking.directory import check_directory

    found = check_directory(asked.directory, asked.expressions, asked.neutral, asked.sheet)
    for note in found.notes:
        print(f"note: {note}")
    for problem in found.problems:
        print(f"PROBLEM: {problem}")
    if found.problems:
        print(f"{len(found.problems)} problems that would spoil a result")
        sys.exit(1)
    print("nothing found that would spoil a result")


def build_parser() -> OneLineParser:
    """Return the parser of this command."""
    parser = OneLineParser(prog="python -m datasets.check", description=__doc__)
    parser.add_argument("directory", metavar="DIR", type=Path,
                        help="a data directory: images.list, images_test.list, data/")
    parser.add_argument("-a", "--expressions", nargs="+", metavar="NAME",
                        help="the names of the labels, in order, where the directory does not tell them")
    parser.add_argument("--neutral", metavar="NAME", help="the expression that serves as neutral")
    parser.add_argument("--sheet", metavar="FILE", type=Path,
                        help="where the contact sheet goes (default: DIR/check.jpg)")
    return parser


if __name__ == "__main__":
    run_command(main)
