"""Checks of train.py's options before any work: values that are each allowed, but not together."""

import os
from pathlib import Path

import utils
from options.config import Config, FaceOptions, JudgeOptions, SwapOptions, UseOptions
from options.option import options_of
from utils import UserError

COMMON_OPTIONS = {"mode", "preset", "checkpoint_dir", "restore", "gpu", "attributes", "data", "data_dir", "neutral",
                  "image_size", "folds", "fold", "seeds"}  # of all modes: they find the run and describe its data
FACE_OPTIONS = {"input", "align", "margin", "output"}
MODE_OPTIONS = {  # a mode → the further options that it uses
    "test": FACE_OPTIONS | {"target", *(option.name for option in options_of(SwapOptions))},
    "grid": {"output", "rows", "seed", "force"}, "grid of --input": FACE_OPTIONS | {"target", "swap_list"},
    "evaluate": {"judge", "judge_epochs", "num_workers", "cache", "force"},
    "generate": {"output", "seed", "pairs_per_image", "targets", "num_workers", "cache", "force"},
    "recognize": FACE_OPTIONS | {"every", "num_workers"}, "export": {"which", "output"}, "report": set(),
}


def check_config(config: Config, typed: frozenset[str]) -> None:
    """Check that the options fit together. Raises UserError if they do not.

    ``typed`` are the names of the options on the command line.
    """
    mode, output = config.task.mode, config.output.output
    check_uses(config, typed)
    check_series(config)
    check_networks(config)
    check_gan_from(config)
    if mode == "generate" and not output:
        raise UserError("--mode generate: --output is missing; name the data directory to write")
    if mode == "export" and Path(output).suffix.lower() != ".onnx":
        raise UserError(f"--output {output}: the name of an export must end in .onnx")
    if mode not in ("generate", "export"):
        from datasets.files import check_figure

        if "output" not in typed and mode in ("test", "grid", "recognize"):
            check_figure(output, "--output")
        utils.check_picture_name(output)
    if mode == "recognize" and not config.faces.input:
        raise UserError("--mode recognize: --input is missing; name pictures, a directory, a pattern or a video")
    if mode == "test":
        check_swap(config)
    elif mode == "train" and config.run.restore is not None and config.run.overwrite:
        raise UserError("--restore and --overwrite: choose one, to resume or to start anew")


def check_uses(config: Config, typed: frozenset[str]) -> None:
    """Check that the mode uses every option on the command line. Raises UserError if it does not."""
    mode = config.task.mode
    if mode == "train":
        parts = JudgeOptions, FaceOptions, SwapOptions, UseOptions
        unused = sorted(typed & {"output", *(option.name for part in parts for option in options_of(part))})
    else:
        kind = "grid of --input" if mode == "grid" and config.faces.input else mode
        unused = sorted(typed - COMMON_OPTIONS - MODE_OPTIONS[kind])
    if unused:
        raise UserError(f"--mode {mode}: --{unused[0]} is not used; leave it out")


def check_gan_from(config: Config) -> None:
    """Check the training of a recognizer alone. Raises UserError if it has no round, or a GAN epoch is restored."""
    rounds = config.gan.epochs // config.recognizer.round_every
    if config.run.gan_from and not rounds * config.recognizer.round_epochs:
        raise UserError(f"--gan_from {config.run.gan_from}: no recognizer round in {config.gan.epochs} epochs; lower "
                        "--round_every, or raise --round_epochs")
    if config.run.gan_from and config.task.mode == "train" and config.restored_epoch is not None:
        raise UserError(f"--restore {config.run.restore}: the run in {config.run.checkpoint_dir} trains no GAN, of "
                        "which it could restore an epoch; leave the number out")


def check_networks(config: Config) -> None:
    """Check sizes of networks and files of weights. Raises UserError if they do not fit, or a file does not exist."""
    size, width, base_width = config.shape.image_size, config.recognizer_shape.vgg_width, config.shape.base_width
    if size % 32:
        raise UserError(f"--image_size {size}: must be a multiple of 32 (five halvings), like 64 or 256")
    if width >= 2 * base_width:
        raise UserError(f"--vgg_width {width}: must be less than twice --base_width {base_width}, since one "
                        "convolution mixes the features of both")
    if config.perceptual.vgg_init == "imagenet" and width != 64:
        raise UserError(f"--vgg_width {width}: there are ImageNet weights only for --vgg_width 64; add "
                        "--vgg_init none")
    if config.recognizer_shape.backbone != "vgg19_bn" and config.perceptual.vgg_init == "stage0":
        raise UserError(f"--vgg_init stage0: the perceptual network is a VGG, from which --backbone "
                        f"{config.recognizer_shape.backbone} cannot start; use imagenet, none or a file of its own")
    if config.task.mode == "train" and config.run.restore is None:
        for name, path in (("perceptual", config.perceptual.perceptual), ("vgg_init", config.perceptual.vgg_init)):
            if path and path not in ("imagenet", "none", "stage0") and not Path(path).is_file():
                raise UserError(f"--{name} {path}: no such file")


def check_swap(config: Config) -> None:
    """Check the options of ``--mode test``. Raises UserError if some are missing or contradict each other."""
    faces, swap = config.faces, config.swap
    for name, value in (("swap_list", swap.swap_list), ("input", faces.input), ("target", faces.target)):
        if value is None:
            raise UserError(f"--mode test: --{name} is missing; it needs --swap_list I T, --input FILE and "
                            "--target FILE")
    if len(faces.input) > 1:
        raise UserError(f"--input {' '.join(faces.input)}: a swap needs one face here; name further ones with --target")
    if len(swap.swap_list) != 1 + len(faces.target):
        raise UserError(f"--swap_list {' '.join(map(str, swap.swap_list))}: needs the expressions of --input and of "
                        f"each --target, {1 + len(faces.target)} names or positions in -a")
    if len(faces.target) > 1 and not swap.frames:
        raise UserError("--target: several targets need a strip or a matrix; add --frames K")
    if swap.matrix and (len(faces.target) != 2 or not swap.frames):
        raise UserError("--matrix: needs two targets and --frames K")
    if swap.matrix and swap.frames > 20:
        raise UserError(f"--frames {swap.frames}: at most 20 for a matrix")
    if swap.paste and (not faces.align or swap.frames):
        raise UserError("--paste puts aligned faces back: it needs --align MODEL, and no --frames")


def check_series(config: Config) -> None:
    """Check folds, seeds and jobs. Raises UserError if they contradict each other or the mode."""
    series, restore = config.series, config.run.restore
    if series.fold is not None and series.folds is None:
        raise UserError(f"--fold {series.fold}: the number of folds is missing; add --folds K")
    if series.fold is not None and series.fold > series.folds:
        raise UserError(f"--fold {series.fold}: there are {series.folds} folds, from 1 to {series.folds}")
    if series.folds and series.seeds:
        raise UserError("--folds and --seeds: choose one; for both, start --folds K with each --seed in a directory of "
                        "its own, and pool them with test_matrix_multi.py")
    if config.task.mode != "train":
        if config.is_series:
            folder = config.run.checkpoint_dir
            raise UserError(f"--checkpoint_dir {folder}: holds several runs; name one of them, such as "
                            f"{Path(folder) / ('fold_01' if series.folds else 'seed_00')}")
    elif series.jobs > 1 and not config.is_series:
        raise UserError(f"--jobs {series.jobs}: a single run is one job; leave it out, or add --folds K or --seeds N")
    elif series.jobs > 1 and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError(f"--jobs {series.jobs}: torchrun's processes train together, one fold or seed after the "
                        "other; leave one of the two out")
    elif config.is_series and config.restored_epoch is not None:
        raise UserError(f"--restore {restore}: names an epoch of a single run, and there are several; leave "
                        "the number out, or name one run with --checkpoint_dir")
