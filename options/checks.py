"""The checks of train.py's options that come before any work: values that each may be chosen, but not together."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import utils
from datasets.files import check_figure
from training.parts import is_series
from utils import UserError


def wants_restore(options: argparse.Namespace) -> bool:
    """Whether this training is the continuation of a run."""
    return options.restore is not None or options.auto_restore


def check_options(options: argparse.Namespace, given: dict[str, Any]) -> None:
    """UserError for values that each may be chosen, but not together."""
    check_series_options(options)
    if options.image_size % 32:
        raise UserError(f"--image_size {options.image_size}: must be a multiple of 32 (five halvings), like 64 or 256")
    if options.vgg_width >= 2 * options.base_width:
        raise UserError(f"--vgg_width {options.vgg_width}: must be less than twice --base_width {options.base_width}, "
                        "since one convolution mixes the features of both")
    if options.vgg_init == "imagenet" and options.vgg_width != 64:
        if given.get("vgg_init") == "imagenet":
            raise UserError(f"--vgg_width {options.vgg_width}: there are ImageNet weights for --vgg_width 64 alone; "
                            "add --vgg_init none")
        options.vgg_init = "none"
    if options.mode == "generate" and not options.output:
        raise UserError("--mode generate: --output DIR is missing, the data directory to write")
    if options.mode != "generate":
        typed, named = options.output, {"test": "result.jpg", "grid": "grid.jpg", "recognize": "recognized.jpg",
                                        "export": f"{options.which}.onnx"}
        options.output = typed or named.get(options.mode, "result.jpg")
        if not typed and options.mode in ("test", "grid", "recognize"):
            check_figure(options.output, "--output")
        if options.mode != "export":
            utils.check_picture_name(options.output)
    for name in ("perceptual", "vgg_init") if options.mode == "train" and options.restore is None else ():
        path = getattr(options, name)
        if path and path not in ("imagenet", "none", "stage0") and not Path(path).is_file():
            raise UserError(f"--{name} {path}: no such file")
    if options.mode == "recognize" and not options.input:
        raise UserError("--mode recognize: --input is missing; name pictures, a directory, a pattern or a video")
    if options.mode == "export" and Path(options.output).suffix.lower() != ".onnx":
        raise UserError(f"--output {options.output}: the name of an export must end in .onnx")
    if options.mode == "test":
        check_swap_options(options)
    elif options.mode == "train" and options.restore is not None and options.overwrite:
        raise UserError("--restore and --overwrite: choose one, go on or start anew")


def check_swap_options(options: argparse.Namespace) -> None:
    """UserError for a swap that says too little or two things at once."""
    for name in ("swap_list", "input", "target"):
        if getattr(options, name) is None:
            raise UserError(f"--mode test: --{name} is missing; it needs --swap_list I T, --input FILE and "
                            "--target FILE")
    if len(options.input) > 1:
        raise UserError(f"--input {' '.join(options.input)}: a swap needs one face here; further ones are for --target")
    if len(options.swap_list) != 1 + len(options.target):
        raise UserError(f"--swap_list {' '.join(map(str, options.swap_list))}: needs the expressions of --input and of "
                        f"each --target, {1 + len(options.target)} numbers")
    if len(options.target) > 1 and not options.frames:
        raise UserError("--target: several targets are for a strip or a matrix; add --frames K")
    if options.matrix and (len(options.target) != 2 or not options.frames):
        raise UserError("--matrix: needs two targets and --frames K")
    if options.matrix and options.frames > 20:
        raise UserError(f"--frames {options.frames}: at most 20 for a matrix")
    if options.paste and (not options.align or options.frames):
        raise UserError("--paste puts aligned faces back: it needs --align MODEL, and no --frames")


def check_series_options(options: argparse.Namespace) -> None:
    """UserError for folds and seeds that cannot be."""
    if options.fold is not None and options.folds is None:
        raise UserError(f"--fold {options.fold}: of how many? add --folds K")
    if options.fold is not None and options.fold > options.folds:
        raise UserError(f"--fold {options.fold}: there are {options.folds} folds, from 1 to {options.folds}")
    if options.folds and options.seeds:
        raise UserError("--folds and --seeds: choose one; for both, start --folds K with each --seed in a directory of "
                        "its own, and pool them with test_matrix_multi.py")
    if options.mode != "train":
        if is_series(options):
            raise UserError(f"--checkpoint_dir {options.checkpoint_dir}: holds several runs; name one of them, like "
                            f"{Path(options.checkpoint_dir) / ('fold_01' if options.folds else 'seed_00')}")
    elif options.jobs > 1 and not is_series(options):
        raise UserError(f"--jobs {options.jobs}: is for all of --folds K or --seeds N; a single run is one job")
    elif options.jobs > 1 and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError(f"--jobs {options.jobs}: torchrun's processes train together, one fold or seed after the "
                        "other; leave one of the two out")
    elif is_series(options) and options.restore is not None and options.restore >= 0:
        raise UserError(f"--restore {options.restore}: names an epoch of a single run, and there are several; leave "
                        "the number out, or name one run with --checkpoint_dir")
