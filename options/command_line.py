"""Command line → :class:`options.config.Config`, and back.

An option's value is the typed one, else that of the run which is restored, else the preset's, else the default.
``--data`` without ``--data_dir`` means the directory of that data set.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import AbstractSet, Any, Mapping, Sequence

import utils
from datasets.augmentations import read_augmentations
from options.config import (DEFAULTS, OPTIONS, PARTS, PRESETS, RUN_KEYS, SIZES, Config, FaceOptions, JudgeOptions,
                            OneLineParser, Option, SwapOptions, UseOptions, grouped_options, member_name, options_of)
from utils import UserError

GAN_OPTIONS = ["preset", "size",  # those that --gan_from fixes
               *(option.name for part in ("data", "shape", "perceptual", "gan", "gan_recipe", "series")
                 for option in options_of(PARTS[part]) if option.name not in ("seeds", "jobs", "vgg_init", "data_dir"))]
REPLACED_FLAGS = {  # flags of the published code's train.py → what replaces them here
    "VGG": "the recognizer is trained whenever --round_every and --round_epochs say so",
    "vgg_mode": "--mode train trains the recognizer with the GAN, and test_matrix_multi.py tests it",
    "resume": "--restore resumes GAN and recognizer alike",
    "resume_dir": "--restore finds the recognizer in --checkpoint_dir",
}
PASSED_TO_MEMBERS = {"checkpoint_dir", "gpu", "auto_restore", "overwrite", "force", "rows"}  # of the "momentary" ones
OUTPUTS = {"test": "result.jpg", "grid": "grid.jpg", "recognize": "recognized.jpg"}  # a mode → the default of --output
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


def read_config(argv: Sequence[str] | None = None) -> Config:
    """Parse and check a command line; the options of a run that is restored are the defaults.

    Raises UserError before any work if an option is wrong.
    """
    typed = with_gan_of_fold(absolute(vars(build_parser().parse_args(argv))))
    for name in REPLACED_FLAGS.keys() & typed.keys():
        print(f"note: --{name} has no effect here: {REPLACED_FLAGS[name]}", file=sys.stderr)
        del typed[name]
    values = with_preset(typed)
    if values["gan_from"] and values["mode"] == "train":
        values = with_gan_options(values, typed)
    if values["seeds"] and values["split_seed"] is None:
        values["split_seed"] = values["seed"]
    folder = values["checkpoint_dir"] or default_checkpoint_dir(values)
    values["checkpoint_dir"] = fold_directory(folder, values["fold"])
    path = Path(values["checkpoint_dir"]) / "options.json"
    if path.is_file() and (values["mode"] != "train" or values["restore"] is not None or values["auto_restore"]):
        values = with_run_options(values, typed, path)
    config = Config.from_values(with_dependent_values(values, typed))
    check_config(config, frozenset(typed))
    return config


def with_preset(typed: dict[str, Any]) -> dict[str, Any]:
    """Return the values of all options: the typed ones, else those of --size and --preset, else the defaults."""
    preset = absolute(PRESETS[typed.get("preset", DEFAULTS["preset"])])
    values = {**DEFAULTS, **preset, **SIZES.get(typed.get("size"), {}), **typed}
    if "data" in typed and "data_dir" not in typed:
        values["data_dir"] = None
    has_other_data = "data_dir" in preset and not same_directory(values["data_dir"], preset["data_dir"])
    if has_other_data and "checkpoint_dir" not in typed:
        values["checkpoint_dir"] = None  # the preset's checkpoint directory belongs to the preset's data
    return values


def with_dependent_values(values: dict[str, Any], typed: dict[str, Any]) -> dict[str, Any]:
    """Return the values with those that depend on others: the start of a narrow VGG, and the name of the output."""
    dependent = {}
    if values["vgg_init"] == "imagenet" and values["vgg_width"] != 64 and typed.get("vgg_init") != "imagenet":
        dependent["vgg_init"] = "none"  # ImageNet weights exist only for width 64
    if not values["output"] and values["mode"] != "generate":
        dependent["output"] = f"{values['which']}.onnx" if values["mode"] == "export" \
            else OUTPUTS.get(values["mode"], "result.jpg")
    return {**values, **dependent}


def absolute(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with absolute paths of what a run reads, since it may be used from another directory."""
    keywords, paths = ("imagenet", "none", "stage0"), ("data_dir", "perceptual", "vgg_init", "gan_from")
    return {name: os.path.abspath(value) if name in paths and value and value not in keywords else value
            for name, value in values.items()}


def same_directory(one: str | None, other: str) -> bool:
    """Return whether two paths lead to the same directory."""
    return one is not None and Path(one).resolve() == Path(other).resolve()


def default_checkpoint_dir(values: dict[str, Any]) -> str:
    """Return ``checkpoint/checkpoint_multipie`` for ``--data 2``, ``checkpoint/checkpoint_<name>`` for a --data_dir."""
    from datasets.layout import DATA_SETS

    data, directory = DATA_SETS[values["data"]], values["data_dir"]
    is_other = directory and not same_directory(directory, data.directory)
    return f"checkpoint/checkpoint_{Path(directory).resolve().name if is_other else data.name}"


def fold_directory(folder: str, fold: int | None) -> str:
    """Return the directory of the run in ``folder``: for fold 3 its ``fold_03``, unless ``folder`` is that already."""
    name = member_name("fold", fold) if fold is not None else ""
    if not name or Path(folder).name == name and (Path(folder) / "options.json").is_file():
        return folder
    return str(Path(folder) / name)


# ------------------------------------------------------------------------------------------------------ a run's options

def with_run_options(values: dict[str, Any], typed: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the values with those of a run's ``options.json`` for all options that were not typed.

    Raises UserError if the file is damaged, or if options were typed that contradict the run.
    """
    saved = read_run_options(path)
    if typed.get("amp") == "auto" and not values["force"]:
        typed = {name: value for name, value in typed.items() if name != "amp"}  # what auto chose when the run began
    changed = [name for name, value in typed.items() if name in saved and value != saved[name]
               and OPTIONS[name].restore in ("changes", "fixed")]
    if "attributes" in changed:
        raise UserError(f"-a {' '.join(typed['attributes'])}: the run in {values['checkpoint_dir']} was trained with "
                        f"-a {' '.join(saved['attributes'])}, in this order")
    refused = [name for name in changed if OPTIONS[name].restore == "fixed" or not values["force"]]
    if refused and values["mode"] == "train":
        raise UserError(f"--restore: the run in {values['checkpoint_dir']} was started with "
                        + " ".join(f"--{name} {saved[name]}" if saved[name] is not None else f"no --{name}"
                                   for name in refused) + "; leave the options as they were"
                        + (", or add --force" if any(OPTIONS[n].restore == "changes" for n in refused) else ""))
    other_data = {"data_dir"} if typed.get("data", saved.get("data")) != saved.get("data") else set()
    return {**values, **_without(saved, typed.keys() | other_data)}


def _without(saved: dict[str, Any], names: AbstractSet[str]) -> dict[str, Any]:
    """Return a run's saved options without some; options that an older run lacks have their defaults."""
    return {name: saved.get(name, option.default) for name, option in OPTIONS.items()
            if name not in names and option.restore != "momentary"}


def with_gan_options(values: dict[str, Any], typed: dict[str, Any]) -> dict[str, Any]:
    """Return the values with those of the run of ``--gan_from`` for all options that were not typed.

    Raises UserError if it is no run, if no directory for the new run was typed, or if options were typed that
    contradict its GAN.
    """
    source = values["gan_from"]
    saved = read_run_options(Path(source) / "options.json")
    if "checkpoint_dir" not in typed:
        raise UserError(f"--gan_from {source}: the recognizer's run needs a directory of its own; name it with "
                        "--checkpoint_dir")
    changed = [name for name in GAN_OPTIONS if name in typed and name in saved and typed[name] != saved[name]]
    if changed:
        value = saved[changed[0]]
        option = f"no --{changed[0]}" if value is None else f"--{changed[0]} {value}"
        raise UserError(f"--gan_from {source}: its GAN was trained with {option}; leave --{changed[0]} out")
    if saved.get("split_seed") is None or saved["split_seed"] == -1 and not saved.get("seeds"):
        saved["split_seed"] = saved["seed"]  # the GAN has seen the training images of this cut
    return {**values, **_without(saved, typed.keys() | {"gan_from"})}


def with_gan_of_fold(typed: dict[str, Any]) -> dict[str, Any]:
    """Return the typed options with the run of --fold in place of a series of --gan_from."""
    if not {"gan_from", "fold"} <= typed.keys():
        return typed
    source = Path(typed["gan_from"]) / member_name("fold", typed["fold"])
    return {**typed, "gan_from": str(source)} if source.is_dir() else typed


def read_run_options(path: Path) -> dict[str, Any]:
    """Return the values of a run's ``options.json`` that this version knows. Raises UserError if it is damaged."""
    saved = utils.read_json(path)
    if not isinstance(saved, dict):
        raise UserError(f"{path}: damaged, it holds no options")
    if not RUN_KEYS <= saved.keys():
        raise UserError(f"{path}: holds no options of a run; choose another --checkpoint_dir")
    saved = {name: value for name, value in saved.items()
             if name in OPTIONS and (name == "checkpoint_dir" or OPTIONS[name].restore != "momentary")}
    for name, value in saved.items():
        if fault := OPTIONS[name].fault(value):
            raise UserError(f"{path}: damaged, {name} {fault}; restore it from a backup")
    return absolute(saved)


# -------------------------------------------------------------------------------------------------------------- parsing

class Switch(argparse.Action):
    """The flags ``--name``, ``--no_name`` and ``--no-name`` of one boolean option."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        negative = [f"--no{mark}{dest}" for mark in "_-"]
        super().__init__([*option_strings, *negative], dest, nargs=0, **settings)

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        setattr(namespace, self.dest, not option_string.startswith(("--no_", "--no-")))


def build_parser() -> OneLineParser:
    """Return the parser with every option of train.py; its result holds only the options that were typed."""
    parser = OneLineParser(description="Train expression synthesis and recognition, or use a trained run.",
                           argument_default=argparse.SUPPRESS)
    for title, options in grouped_options().items():
        group = parser.add_argument_group(title)
        for option in options:
            add_option(group, option)
    group = parser.add_argument_group("flags of the published code that have no effect here")
    for name, replacement in REPLACED_FLAGS.items():
        group.add_argument(f"--{name}", nargs="*", metavar="VALUE", help=replacement)
    return parser


def add_option(group: argparse._ArgumentGroup, option: Option) -> None:
    """Add an option to a group of the parser, with its default in the help unless that is None or off."""
    is_shown = option.default is not None and option.default is not False
    shown = " ".join(option.default) if isinstance(option.default, tuple) else option.default
    default = f" (default: {'on' if option.default is True else shown})" if is_shown else ""
    names = [f"--{option.name}", *([option.short] if option.short else [])]
    settings: dict[str, Any] = {"dest": option.name, "help": (option.help + default).replace("%", "%%")}
    if option.type is bool:
        group.add_argument(*names, action=Switch, **settings)
        return
    choices = "{" + ",".join(map(str, option.choices)) + "}" if option.choices else None
    metavar = choices or option.metavar or {int: "N", float: "X", str: "NAME"}[option.type]
    group.add_argument(*names, type=partial(read_value, option), nargs=option.nargs, const=option.const,
                       metavar=metavar, **settings)


def read_value(option: Option, text: str) -> Any:
    """Return the value of one typed argument. Raises UserError if the option does not accept it."""
    try:
        value = option.type(text) if len(text) <= 4096 else text
    except ValueError:
        value = text
    if fault := option.fault_of_one(value):
        raise UserError(f"--{option.name} {text if len(text) <= 60 else text[:57] + '...'}: {fault}")
    return value


def to_argv(config: Config) -> list[str]:
    """Return the command line of one run of a series, with every option of a training that has a value."""
    argv: list[str] = []
    for name, value in config.values().items():
        if value is None or OPTIONS[name].restore == "momentary" and name not in PASSED_TO_MEMBERS:
            continue
        if name == "checkpoint_dir" and config.series.fold is not None:
            value = str(Path(value).parent)  # --fold adds the fold's directory to it
        if OPTIONS[name].type is bool:
            argv.append(f"--{name}" if value else f"--no_{name}")
        elif isinstance(value, list):
            argv += [f"--{name}", *map(str, value)]
        else:
            argv.append(f"--{name}={value}")  # the value may begin with a dash
    return argv


# ------------------------------------------------------------ checks of options that are each allowed, but not together

def check_config(config: Config, typed: frozenset[str]) -> None:
    """Check that the options fit together. Raises UserError if they do not.

    ``typed`` are the names of the options on the command line.
    """
    mode, output = config.task.mode, config.output.output
    check_uses(config, typed)
    check_series(config)
    check_networks(config)
    read_augmentations(config.recognizer.augment)
    check_gan_from(config)
    if mode == "generate" and not output:
        raise UserError("--mode generate: --output is missing; name the data directory to write")
    if mode == "export" and Path(output).suffix.lower() != ".onnx":
        raise UserError(f"--output {output}: the name of an export must end in .onnx")
    if mode not in ("generate", "export"):
        from datasets.files import check_figure

        if "output" not in typed and mode in ("test", "grid", "recognize"):
            check_figure(output, "--output")
        if mode != "recognize" or Path(output).suffix.lower() != ".mp4":  # an annotated video
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
