"""The options of train.py: presets, one line per knob, and the checks that come before any work.

An option's value is the one typed, else that of the run which is restored, else the preset's, else the default.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Callable, Sequence

import utils
from utils import UserError

MODES = ("train", "test", "evaluate", "grid", "generate", "recognize", "export")
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "tuned": {"scene_truth": True, "mirror": True, "paired_metric": "l2", "lambda_paired_loss": 600.0,
              "lambda_vgg_loss": 3.0, "G_max": 1000.0, "ema": 0.999, "lr": 1e-3},
    "demo": {
        "data_dir": "datasets/demo", "checkpoint_dir": "checkpoint/checkpoint_demo", "image_size": 64,
        "base_width": 16, "vgg_width": 8, "fc_width": 256, "vgg_init": "stage0", "perceptual_epochs": 16,
        "perceptual_lr": 1e-3, "epochs": 25, "batch_size": 16, "lr": 4e-3, "lr_decay_steps": 12, "G_max": 1000.0,
        "scene_truth": True, "mirror": True, "paired_metric": "l2", "lambda_paired_loss": 600.0, "lambda_adv_loss": 0.1,
        "lambda_vgg_loss": 0.5, "lambda_l2_loss": 60.0, "vgg_lr": 1e-2, "vgg_batch_size": 16, "round_epochs": 2,
        "multi_add_gan": True,
    },
}


class Switch(argparse.Action):
    """``--name``, ``--no_name`` and ``--no-name`` for one boolean option."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        negative = [f"--no{mark}{dest}" for mark in "_-"]
        super().__init__([*option_strings, *negative], dest, nargs=0, **settings)

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        setattr(namespace, self.dest, not option_string.startswith(("--no_", "--no-")))

    def format_usage(self) -> str:
        return f"{self.option_strings[0]} | {self.option_strings[-2]}"


def build_parser() -> argparse.ArgumentParser:
    """Every option of this command, with its default (that of the preset "paper") and its meaning."""
    parser = argparse.ArgumentParser(description="Train, or swap the expressions of two faces.",
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)

    def group(title: str) -> Callable[..., None]:
        add = parser.add_argument_group(title).add_argument

        def option(*names: str, **settings: Any) -> None:
            if isinstance(settings.get("default"), bool):
                settings["action"] = Switch
            add(*names, **settings)
        return option

    add = group("what to do")
    add("-m", "--mode", choices=MODES, default="train", help="train; test: swap two faces' expressions; "
        "evaluate: measure the swaps of the test images; grid: draw a sheet of them; generate: write the synthesized "
        "training set; recognize: name the expressions in any pictures; export: write an ONNX file for other programs")
    add("--preset", choices=tuple(PRESETS), default="paper",
        help="defaults of all other options: the paper's; a recipe with better swaps; a small run on drawn faces")
    add("-a", "--attributes", nargs="+", metavar="NAME",
        help="names of the expressions in the order of the labels (default: the data set's)")
    add("--neutral", metavar="NAME", help="the expression whose faces are targets of synthesis "
        "(default: the one called neutral, else the last of -a)")
    add("-g", "--gpu", type=int, nargs="+",
        help="GPU to use, several to train on all of them, -1 for the CPU (default: the first GPU, if any)")
    add("--seed", type=int, default=0, help="seed of everything random")
    add("--deterministic", default=False, help="the same files again on a GPU too, at some cost in speed")

    add = group("files")
    add("--data", type=int, choices=(1, 2, 3), default=2, help="data set: 1 MMI, 2 Multi-PIE, 3 RAF-DB")
    add("--data_dir", metavar="DIR", help="any data directory (default: that of --data, like datasets/multiple)")
    add("--checkpoint_dir", metavar="DIR", help="where the run writes (default: checkpoint/checkpoint_multipie for "
        "--data 2, checkpoint/checkpoint_NAME for another data set or directory)")
    add("-r", "--restore", type=int, nargs="?", const=-1, metavar="N",
        help="go on with the run in --checkpoint_dir exactly where it stopped; with N, from the networks of epoch N")
    add("--auto_restore", default=False, help="--restore if there is something to restore, else start")
    add("--overwrite", default=False, help="start anew where --checkpoint_dir already holds a run, deleting it")
    add("--force", default=False, help="restore although options differ from the run's")
    add("--save_minutes", type=float, default=10.0, help="save the training state at least this often")
    add("--log_every", type=int, default=10, help="steps between two rows of log/metrics.csv")
    add("--num_workers", type=int, default=2, help="processes that decode images, where they are not cached")
    add("--cache", choices=("auto", "ram", "none"), default="auto", help="keep decoded images in memory")

    add = group("networks")
    add("--image_size", type=int, default=256, help="image side S, a multiple of 32")
    add("--base_width", type=int, default=64, help="width w of the GAN's first layer")
    add("--vgg_width", type=int, default=64, help="width of VGG's first layer, less than twice --base_width")
    add("--fc_width", type=int, default=4096, help="width of VGG's two hidden linear layers")
    add("--decoder_label", default=True, help="tell the decoder which expressions are swapped")
    add("--label_copy", type=int, default=20, help="copies of the decoder's label")
    add("--exp_label", default=False, help="lengthen the decoder's label by \"reconstruct only\"")
    add("--amp", choices=("auto", "off", "bf16", "fp16"), default="auto",
        help="mixed precision; auto is bf16 on GPUs that have it")

    add("--compile", default=False, help="let torch.compile make the networks faster, after minutes of compiling")

    add = group("perceptual network (stage 0)")
    add("--perceptual", metavar="FILE", help="take a trained VGG19-bn from here instead of training it")
    add("--perceptual_epochs", type=int, default=20, help="epochs of its training on the real training images")
    add("--perceptual_lr", type=float, default=1e-4, help="AdamW's learning rate there; it falls to zero")
    add("--perceptual_disturbed", default=False,
        help="shift, blur and add noise to its training images (not in the paper)")
    add("--vgg_init", default="imagenet", metavar="imagenet|none|stage0|FILE",
        help="where VGG19-bn starts: torchvision's weights (--vgg_width 64 only), random, a state dict; with stage0 "
        "the perceptual network at random, and the recognizer from the perceptual network")

    add = group("GAN")
    add("--epochs", type=int, default=50, help="GAN epochs; one is images / batch size steps")
    add("--batch_size", type=int, default=10, help="pairs per step")
    add("--lr", type=float, default=2e-4, help="Adam's learning rate, for generator and discriminators")
    add("--lr_decay", type=float, default=0.97, help="factor on the learning rate ...")
    add("--lr_decay_steps", type=int, default=300, help="... after this many steps")
    add("--weight_decay", type=float, default=1e-5, help="Adam's weight decay")
    add("--alpha5", default=False, help="also judge the half-way images C5 and D5")
    add("--std", type=float, default=0.2, help="noise on the targets of the adversarial loss")
    add("--G_max", type=float, default=22.0, help="discriminators rest after a generator loss of this or more")
    for name, weight, meaning in (("vgg", 15.0, "perceptual"), ("l1", 5.0, "(A+B) - (C+D)"),
                                  ("l2", 10.0, "reconstruction"), ("tv", 5.0, "total variation")):
        add(f"--{name}_loss", default=True, help=f"use the {meaning} loss")
        add(f"--lambda_{name}_loss", type=float, default=weight, help=f"weight of the {meaning} loss")

    add = group("GAN, beyond the paper")
    add("--paired", type=float, default=0.0, help="share of the pairs that show one person in one scene, where "
        "subjects.list has scenes; their true swap is known")
    add("--scene_truth", default=False, help="know the true swaps of all other pairs too: the pictures of the same "
        "person and scene with the other's expression, where the data have them")
    add("--lambda_paired_loss", type=float, default=40.0,
        help="weight of the distance of C and D to their known truths")
    add("--paired_metric", choices=("l1", "l2"), default="l1",
        help="that distance: mean absolute or squared difference")
    add("--mirror", default=False, help="mirror half of the pairs")
    add("--mismatched", default=False, help="discriminators also see real faces with a wrong label, as fakes")
    add("--ema", type=float, default=0.0, help="use the generator's moving average, of which this share "
        "stays in every step")
    add("--lr_d", type=float, metavar="X", help="learning rate of the discriminators (default: --lr)")
    add("--adv_loss", choices=("bce", "hinge"), default="bce", help="adversarial loss")
    add("--lambda_adv_loss", type=float, default=1.0, help="its weight for the generator")
    add("--lambda_r1_loss", type=float, default=0.0,
        help="weight of R1, the discriminators' gradient penalty on real images")
    add("--lambda_cycle_loss", type=float, default=0.0, help="weight of L1 between A, B and C, D swapped back")
    add("--lambda_residual_loss", type=float, default=0.0, help="weight of mean|C - A| + mean|D - B|: change little")
    add("--diff_aug", default=False, help="shift and light images differently before the discriminators, real and fake")
    add("--vgg_taps", type=float, nargs=5, default=[1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0], metavar="W",
        help="weights of the five perceptual taps")

    add = group("recognizer")
    add("--round_every", type=int, default=5, help="GAN epochs between two recognizer rounds")
    add("--round_epochs", type=int, default=4, help="recognizer epochs in a round")
    add("--vgg_batch_size", type=int, default=12, help="images per step")
    add("--vgg_lr", type=float, default=1e-3, help="SGD's learning rate")
    add("--vgg_lr_decay_steps", type=int, default=1800, help="steps after which it is multiplied by 0.97")
    add("--multi_add_gan", default=False, help="add synthesized batches little by little: 1 real, then 2, 3, 6 ones")
    add("--gan_raw", type=int, default=6, help="synthesized batches after each real one without --multi_add_gan; "
        "0 puts real ones in the place of all synthesized ones")
    add("--mix", type=float, default=0.0, help="synthesized images per real one in every batch, instead of whole "
        "synthesized batches between real ones (0: the paper's)")
    add("--synthesized_weight", type=float, default=1.0, help="what a synthesized image counts beside a real one in a "
        "mixed batch")
    add("--guided", default=False, help="take out what of the synthesized images' gradient points against the real ones'")
    add("--balanced", default=False, help="draw all expressions equally often, and choose the best recognizer by mean "
        "class accuracy")
    add("--augment", default=False, help="move, turn, light, blur and add noise to the recognizer's images")
    add("--vgg_schedule", choices=("step", "cosine"), default="step", help="SGD's rate: times 0.97 now and then, or "
        "falling to zero over all planned steps")
    add("--targets", choices=("neutral", "any"), default="neutral", help="whose faces are given other expressions")
    add("--gan_until", type=float, default=1.0, help="share of all recognizer epochs with synthesized batches; real "
        "ones take their place afterwards (not in the paper)")
    add("--encode_synthesized", default=False, help="give the recognizer the codes of the synthesized images "
        "themselves (not in the paper: its swapped codes show what was swapped)")
    add("--pairs_per_image", type=int, default=6, help="neutral targets per training image")
    add("--ablation", default=False, help="use a random third of the synthesized images")
    add("--select_on", choices=("val", "test"), default="val",
        help="images that choose the best recognizer; test is the reference's protocol and flatters")

    add = group("measuring (--mode evaluate)")
    add("--judge", metavar="FILE", help="the independent recognizer that judges the swaps; trained where there is none "
        "yet (default: judge.pth in --checkpoint_dir)")
    add("--judge_epochs", type=int, default=25, help="epochs of its training on the real training images")

    add = group("swap (--mode test)")
    add("--swap_list", type=int, nargs="+", metavar=("I", "T"),
        help="expressions of --input and of each --target: positions in -a, from 0")
    add("-i", "--input", nargs="+", metavar="FILE", help="face with the first expression; for --mode recognize "
        "pictures, directories, patterns or a video")
    add("-t", "--target", nargs="+", metavar="FILE", help="face with the second expression; several with --steps")
    add("--steps", type=int, metavar="K",
        help="the way from no swap to full swap in K steps instead: a strip per target")
    add("--matrix", default=False,
        help="with --steps and two targets: both expressions at once, one down, one to the right")
    add("--align", metavar="MODEL", help="find and align the faces first, with YuNet's ONNX file (see datasets.align)")
    add("--margin", type=float, default=0.0, help="margin of the alignment, as it was for the training images")
    add("--paste", default=False, help="also put the swapped faces back into the whole photographs: "
        "result_input.jpg, result_target.jpg")

    add = group("recognize and export (--mode recognize, export)")
    add("--every", type=int, default=1, metavar="N", help="recognize every N-th frame of a video")
    add("--which", choices=("recognizer", "swap"), default="recognizer", help="what to export: image to probabilities, "
        "or two faces and their labels to both swaps")

    add = group("pictures and images to write")
    add("-o", "--output", metavar="FILE", help="the picture of --mode test, grid and recognize, the file of export "
        "(default: result.jpg, grid.jpg, recognized.jpg, recognizer.onnx or swap.onnx)")
    add("--rows", type=int, default=4, help="persons on the sheet of --mode grid")
    add("--out", metavar="DIR", help="the data directory that --mode generate writes")
    return parser


# What says what to do now, and is never taken over from a run.
MOMENTARY_OPTIONS = {"mode", "gpu", "checkpoint_dir", "restore", "auto_restore", "overwrite", "force", "swap_list",
                     "input", "target", "output", "steps", "matrix", "rows", "out", "align", "margin", "paste", "judge",
                     "judge_epochs", "every", "which"}
# What cannot change even with --force: the tensors would not fit, or the optimizer's state would win.
FIXED_OPTIONS = {"attributes", "image_size", "base_width", "vgg_width", "fc_width", "decoder_label", "label_copy",
                 "exp_label", "ema", "weight_decay", "perceptual_epochs", "data"}
# What may change between a run and its continuation without changing what the rest of the run computes.
FREE_OPTIONS = MOMENTARY_OPTIONS | {"preset", "data_dir", "save_minutes", "log_every", "num_workers", "cache", "epochs"}


def read_options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse and check; where a run is restored, its own options are the defaults. UserError before any work."""
    parser = build_parser()
    options = parser.parse_args(words)
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    given = vars(parser.parse_args(words))
    for name, value in PRESETS[options.preset].items():
        setattr(options, name, given.get(name, value))
    options.checkpoint_dir = options.checkpoint_dir or default_checkpoint_dir(options)
    kept = Path(options.checkpoint_dir) / "options.json"
    if kept.is_file() and (options.mode != "train" or wants_restore(options)):
        adopt_options(options, given, utils.read_json(kept), kept)
    check_options(options, given)
    return options


def default_checkpoint_dir(options: argparse.Namespace) -> str:
    """``checkpoint/checkpoint_multipie`` for ``--data 2``, ``checkpoint/checkpoint_<name>`` for a --data_dir."""
    from datasets.layout import DATA_SETS

    data = DATA_SETS[options.data]
    own = options.data_dir and Path(options.data_dir).resolve() != Path(data.directory).resolve()
    return f"checkpoint/checkpoint_{Path(options.data_dir).resolve().name if own else data.name}"


def wants_restore(options: argparse.Namespace) -> bool:
    """Whether this training is the continuation of a run."""
    return options.restore is not None or options.auto_restore


def adopt_options(options: argparse.Namespace, given: dict[str, Any], kept: Any, path: Path) -> None:
    """Take over a run's options where none are given; UserError names those that were given otherwise."""
    if not isinstance(kept, dict):
        raise UserError(f"{path}: damaged, it holds no options")
    changed = [name for name, value in given.items()
               if name in kept and name not in FREE_OPTIONS and value != kept[name]]
    if "attributes" in changed:
        raise UserError(f"-a {' '.join(given['attributes'])}: the run in {options.checkpoint_dir} was trained with "
                        f"-a {' '.join(kept['attributes'])}, in this order")
    refused = changed if not options.force else [name for name in changed if name in FIXED_OPTIONS]
    if refused and options.mode == "train":
        raise UserError(f"--restore: the run in {options.checkpoint_dir} was started with "
                        + " ".join(f"--{name} {kept[name]}" for name in refused) + "; leave the options as they were"
                        + ("" if options.force else ", or add --force"))
    strange = [name for name, value in kept.items() if value is not None and getattr(options, name, None) is not None
               and not isinstance(value, (type(getattr(options, name)), int))]
    if strange:
        raise UserError(f"{path}: damaged, {strange[0]} is {kept[strange[0]]!r}")
    for name, value in kept.items():
        if name not in given and name in vars(options) and name not in MOMENTARY_OPTIONS:
            setattr(options, name, value)


def check_options(options: argparse.Namespace, given: dict[str, Any]) -> None:
    """UserError for a value that no run can use."""
    if options.image_size < 32 or options.image_size % 32:
        raise UserError(f"--image_size {options.image_size}: must be a multiple of 32 (five halvings), like 64 or 256")
    for name in ("base_width", "vgg_width", "fc_width", "batch_size", "vgg_batch_size", "epochs", "round_every",
                 "lr_decay_steps", "vgg_lr_decay_steps", "pairs_per_image", "label_copy", "log_every",
                 "judge_epochs", "rows"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)}: must be at least 1")
    for name in ("perceptual_epochs", "round_epochs", "gan_raw", "num_workers", "std", "lr", "vgg_lr",
                 "perceptual_lr", "weight_decay", "save_minutes"):
        if not getattr(options, name) >= 0:
            raise UserError(f"--{name} {getattr(options, name)}: must not be negative")
    for name in ("paired", "ema", "gan_until"):
        if not 0 <= getattr(options, name) <= 1:
            raise UserError(f"--{name} {getattr(options, name)}: a share, from 0 to 1")
    if options.vgg_batch_size < 2:
        raise UserError("--vgg_batch_size 1: batch norm needs at least 2 images")
    if options.vgg_width >= 2 * options.base_width:
        raise UserError(f"--vgg_width {options.vgg_width}: must be less than twice --base_width {options.base_width}, "
                        "since one convolution mixes the features of both")
    if options.vgg_init == "imagenet" and options.vgg_width != 64:
        if given.get("vgg_init") == "imagenet":
            raise UserError(f"--vgg_width {options.vgg_width}: there are ImageNet weights for --vgg_width 64 alone; "
                            "add --vgg_init none")
        options.vgg_init = "none"
    if options.output is None:
        options.output = {"grid": "grid.jpg", "recognize": "recognized.jpg",
                          "export": f"{options.which}.onnx"}.get(options.mode, "result.jpg")
    if options.mode != "export":
        utils.check_picture_name(options.output)
    for name in ("perceptual", "vgg_init") if options.mode == "train" and not wants_restore(options) else ():
        path = getattr(options, name)
        if path and path not in ("imagenet", "none", "stage0") and not Path(path).is_file():
            raise UserError(f"--{name} {path}: no such file")
    if options.mode == "generate" and not options.out:
        raise UserError("--mode generate: --out DIR is missing, the data directory to write")
    if options.mode in ("recognize", "export"):
        check_use_options(options)
    elif options.mode == "test":
        check_swap_options(options)
    elif options.mode == "train" and options.restore is not None and options.overwrite:
        raise UserError("--restore and --overwrite: choose one, go on or start anew")


def check_use_options(options: argparse.Namespace) -> None:
    """UserError where there is nothing to recognize, or where an export could not be written under its name."""
    if options.mode == "recognize" and not options.input:
        raise UserError("--mode recognize: --input is missing; name pictures, a directory, a pattern or a video")
    if options.every < 1:
        raise UserError(f"--every {options.every}: must be at least 1")
    if options.mode == "export" and Path(options.output).suffix.lower() != ".onnx":
        raise UserError(f"--output {options.output}: the name of an export must end in .onnx")


def check_swap_options(options: argparse.Namespace) -> None:
    """UserError for a swap that says too little or two things at once."""
    for name in ("swap_list", "input", "target"):
        if getattr(options, name) is None:
            raise UserError(f"--mode test: --{name} is missing; it needs --swap_list I T, --input FILE and "
                            "--target FILE")
    if len(options.input) > 1:
        raise UserError(f"--input {' '.join(options.input)}: a swap needs one face here; further ones are for --target")
    options.input, = options.input
    if len(options.swap_list) != 1 + len(options.target):
        raise UserError(f"--swap_list {' '.join(map(str, options.swap_list))}: needs the expressions of --input and of "
                        f"each --target, {1 + len(options.target)} numbers")
    if len(options.target) > 1 and not options.steps:
        raise UserError("--target: several targets are for a strip or a matrix; add --steps K")
    if options.matrix and (len(options.target) != 2 or not options.steps):
        raise UserError("--matrix: needs two targets and --steps K")
    if options.paste and (not options.align or options.steps):
        raise UserError("--paste puts aligned faces back: it needs --align MODEL, and no --steps")
    if options.steps is not None and not 2 <= options.steps <= (20 if options.matrix else 100):
        raise UserError(f"--steps {options.steps}: from 2 to 100 for a strip, to 20 for a matrix")
