"""The built-in data set of drawn faces: ``python -m datasets.synthetic OUT``."""

import argparse

from options.config import LARGEST, OneLineParser, check_ranges
from utils import home_expanded, run_command


def main(arguments: list[str] | None = None) -> None:
    """Draw the data set that the command line describes. Raises UserError for values out of range."""
    options = build_parser().parse_args(arguments)
    check_ranges(options, subjects_train=(1, 100000), subjects_test=(1, 100000), scenes=(1, 1000), seed=(0, LARGEST))
    from datasets.drawing.data_set import EXPRESSIONS, make_dataset

    out, train, test = options.out, options.subjects_train, options.subjects_test
    make_dataset(out, image_size=options.image_size, subjects_train=train, subjects_test=test, scenes=options.scenes,
                 seed=options.seed)
    print(f"{out}: {(train + test) * options.scenes * len(EXPRESSIONS)} faces of {train} + {test} persons; "
          f"train on them with --data_dir {out} -a {' '.join(EXPRESSIONS)}")


def build_parser() -> OneLineParser:
    """Return the parser of this command."""
    parser = OneLineParser(prog="python -m datasets.synthetic", description="Draw the built-in data set.",
                           formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("out", type=home_expanded, metavar="OUT",
                        help="the directory to draw into: new, empty or drawn by this command")
    parser.add_argument("--image_size", type=int, default=64, help="side in pixels, 32 to 512")
    parser.add_argument("--subjects_train", type=int, default=70, help="persons to train on")
    parser.add_argument("--subjects_test", type=int, default=30, help="persons to test on")
    parser.add_argument("--scenes", type=int, default=2, help="scenes of every person, of six pictures each")
    parser.add_argument("--seed", type=int, default=0, help="which persons and scenes are drawn")
    return parser


if __name__ == "__main__":
    run_command(main)
