"""A trained recognizer → accuracy, precision, recall, F1, confusion matrix and mistakes on a list of real images.

    python test_matrix_multi.py --data 2 --resume_dir checkpoint/checkpoint_multipie/VGG --gpu 0
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

import utils
from knobs import OneLineParser, check_ranges
from utils import UserError

if TYPE_CHECKING:
    from datasets.layout import Layout
    from models.checkpoints import Trained


def build_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = OneLineParser(description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--resume_dir", default="checkpoint/checkpoint_multipie/VGG",
        help="directory with max_ckpt.t7 and Enc_max.pth; names, sizes and shapes come from there")
    add("--data", type=int, choices=(1, 2, 3), default=argparse.SUPPRESS,
        help="data set: 1 MMI, 2 Multi-PIE, 3 RAF-DB (default: what the recognizer was trained on, else 2)")
    add("--data_dir", default=argparse.SUPPRESS, help="any data directory, instead of that of --data")
    add("-a", "--attributes", nargs="+", default=argparse.SUPPRESS, metavar="NAME",
        help="names of the expressions, for a checkpoint that does not carry them")
    add("--split", choices=("test", "val", "train", "all"), default="test", help="which images to judge on")
    add("-g", "--gpu", type=int, nargs="+", help="GPU to use, -1 for the CPU (default: the first GPU, if any)")
    add("--batch_size", type=int, default=64, help="images at a time")
    add("--num_workers", type=int, default=2, help="processes that decode images")
    add("--image_size", type=int, default=256, help="image side, for a checkpoint that does not carry it")
    add("--output_dir", default=".",
        help="where Con_Matrix.png, confusion_matrix.json, predictions.csv and mistakes.jpg go")
    return parser


def find_layout(options: argparse.Namespace, trained: Trained) -> "Layout":
    """The data to judge on: --data_dir, --data, or what the recognizer was trained on, in this order."""
    from datasets.layout import DATA_SETS, read_layout
    from modes.trained import names_of

    config, data = trained.config, DATA_SETS[getattr(options, "data", 2)]
    if hasattr(options, "data_dir"):
        root = options.data_dir
    else:
        root = data.directory if hasattr(options, "data") else config.get("data_dir", data.directory)
    names = names_of(trained, getattr(options, "attributes", None), getattr(options, "data", 2), options.resume_dir)
    return read_layout(root, names, known=config.get("listed"), neutral=config.get("neutral_name"))


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    options = build_parser().parse_args(words)
    check_ranges(options, batch_size=(1, 65536), num_workers=(0, 256), image_size=(32, 2048), gpu=(-1, 1023))
    if options.image_size % 32:
        raise UserError(f"--image_size {options.image_size}: must be a multiple of 32, like 64 or 256")
    if not Path(options.resume_dir).is_dir():
        raise UserError(f"--resume_dir {options.resume_dir}: no such directory")
    from datasets.files import check_output
    from datasets.layout import image_directory
    from datasets.splits import with_kept_validation
    from models.checkpoints import load_recognizer
    from modes.matrix import judged_split, write_report

    check_output(options.output_dir, "--output_dir", directory=True)
    trained = load_recognizer(Path(options.resume_dir), utils.pick_device(options.gpu))
    layout = find_layout(options, trained)
    check_output(options.output_dir, "--output_dir", trees=[image_directory(layout.root)], directory=True)
    own_data = Path(trained.config.get("data_dir", "")).resolve() == layout.root.resolve()
    if options.split in ("val", "train", "all") and own_data:
        layout = with_kept_validation(layout, Path(options.resume_dir).parent)
    judged = judged_split(trained, layout, options.split, trained.config.get("image_size", options.image_size),
                          options.batch_size, options.num_workers)
    write_report(judged, layout.expressions, f"{options.resume_dir} on {layout.root}, {options.split} images",
                 options.output_dir)


if __name__ == "__main__":
    utils.run_command(main)
