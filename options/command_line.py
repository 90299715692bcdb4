"""Command line → :class:`options.config.Config`, and back.

An option's value is the one typed, else that of the run which is restored, else the preset's, else the default.
``--data`` without ``--data_dir`` is that data set's directory.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import AbstractSet, Any, Mapping, Sequence

import utils
from options.checks import check_config
from options.config import DEFAULTS, OPTIONS, PARTS, RUN_KEYS, Config, grouped_options, member_name
from options.option import OneLineParser, Option, options_of
from options.presets import PRESETS, SIZES
from utils import UserError

OF_GAN = ["preset", "size", *(own.name for part in ("data", "shape", "perceptual", "gan", "gan_recipe", "series")
                              for own in options_of(PARTS[part])
                              if own.name not in ("seeds", "jobs", "vgg_init"))]  # with --gan_from
REPLACED = {  # flags of the published code's train.py → what does their work here
    "VGG": "the recognizer is trained whenever --round_every and --round_epochs say so",
    "vgg_mode": "--mode train trains the recognizer with the GAN, and test_matrix_multi.py tests it",
    "resume": "--restore resumes GAN and recognizer alike",
    "resume_dir": "--restore finds the recognizer in --checkpoint_dir",
}
PASSED_ON = {"checkpoint_dir", "gpu", "auto_restore", "overwrite", "force", "rows"}  # "momentary", and used in training
OUTPUTS = {"test": "result.jpg", "grid": "grid.jpg", "recognize": "recognized.jpg"}  # where nothing else is typed


def read_config(argv: Sequence[str] | None = None) -> Config:
    """Parse and check a command line; the options of a run that is restored are the defaults.

    Raises UserError before any work if something cannot be.
    """
    typed = absolute(vars(build_parser().parse_args(argv)))
    for name in REPLACED.keys() & typed.keys():
        print(f"note: --{name} has no effect here: {REPLACED[name]}", file=sys.stderr)
        del typed[name]
    preset = absolute(PRESETS[typed.get("preset", DEFAULTS["preset"])])
    values = {**DEFAULTS, **preset, **SIZES.get(typed.get("size"), {}), **typed}
    if "data" in typed and "data_dir" not in typed:
        values["data_dir"] = None
    if "checkpoint_dir" not in typed and "data_dir" in preset and not same_directory(values["data_dir"],
                                                                                     preset["data_dir"]):
        values["checkpoint_dir"] = None  # the preset's is that of its own data
    if values["gan_from"] and values["mode"] == "train":
        values = with_options_of_gan(values, typed)
    if values["seeds"] and values["split_seed"] is None:
        values["split_seed"] = values["seed"]
    folder = values["checkpoint_dir"] or default_checkpoint_dir(values)
    values["checkpoint_dir"] = fold_directory(folder, values["fold"])
    kept = Path(values["checkpoint_dir"]) / "options.json"
    if kept.is_file() and (values["mode"] != "train" or values["restore"] is not None or values["auto_restore"]):
        values = adopted(values, typed, kept)
    config = Config.of(derived(values, typed))
    check_config(config, frozenset(typed))
    return config


def derived(values: dict[str, Any], typed: dict[str, Any]) -> dict[str, Any]:
    """Return the values with what follows from others: the start of a narrow VGG, and the name of the output."""
    found = dict(values)
    if values["vgg_init"] == "imagenet" and values["vgg_width"] != 64 and typed.get("vgg_init") != "imagenet":
        found["vgg_init"] = "none"  # ImageNet weights exist for width 64 alone
    if not values["output"] and values["mode"] != "generate":
        found["output"] = f"{values['which']}.onnx" if values["mode"] == "export" \
            else OUTPUTS.get(values["mode"], "result.jpg")
    return found


def absolute(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with absolute paths of what a run reads: it may be resumed and evaluated from elsewhere."""
    words, paths = ("imagenet", "none", "stage0"), ("data_dir", "perceptual", "vgg_init", "gan_from")
    return {name: os.path.abspath(value) if name in paths and value and value not in words else value
            for name, value in values.items()}


def same_directory(one: str | None, other: str) -> bool:
    """Whether two paths lead to the same directory."""
    return one is not None and Path(one).resolve() == Path(other).resolve()


def default_checkpoint_dir(values: dict[str, Any]) -> str:
    """Return ``checkpoint/checkpoint_multipie`` for ``--data 2``, ``checkpoint/checkpoint_<name>`` for a --data_dir."""
    from datasets.layout import DATA_SETS

    data, directory = DATA_SETS[values["data"]], values["data_dir"]
    own = directory and not same_directory(directory, data.directory)
    return f"checkpoint/checkpoint_{Path(directory).resolve().name if own else data.name}"


def fold_directory(folder: str, fold: int | None) -> str:
    """Return the directory of the run in ``folder``: for fold 3 its ``fold_03``, unless ``folder`` is that already."""
    name = member_name("fold", fold) if fold is not None else ""
    if not name or Path(folder).name == name and (Path(folder) / "options.json").is_file():
        return folder
    return str(Path(folder) / name)


# ------------------------------------------------------------------------------------------- a run's options

def adopted(values: dict[str, Any], typed: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the values of a run's ``options.json`` for all options that were not typed.

    Raises UserError if the file is damaged, or if options were typed that contradict the run.
    """
    kept = kept_options(path)
    if typed.get("amp") == "auto" and not values["force"]:
        typed = {name: value for name, value in typed.items() if name != "amp"}  # what auto chose when the run began
    changed = [name for name, value in typed.items() if name in kept and value != kept[name]
               and OPTIONS[name].restore in ("changes", "fixed")]
    if "attributes" in changed:
        raise UserError(f"-a {' '.join(typed['attributes'])}: the run in {values['checkpoint_dir']} was trained with "
                        f"-a {' '.join(kept['attributes'])}, in this order")
    refused = [name for name in changed if OPTIONS[name].restore == "fixed" or not values["force"]]
    if refused and values["mode"] == "train":
        raise UserError(f"--restore: the run in {values['checkpoint_dir']} was started with "
                        + " ".join(f"--{name} {kept[name]}" if kept[name] is not None else f"no --{name}"
                                   for name in refused) + "; leave the options as they were"
                        + (", or add --force" if any(OPTIONS[n].restore == "changes" for n in refused) else ""))
    own = {"data_dir"} if typed.get("data", kept.get("data")) != kept.get("data") else set()
    return {**values, **taken_over(kept, typed.keys() | own)}


def taken_over(kept: dict[str, Any], without: AbstractSet[str]) -> dict[str, Any]:
    """Return a run's options ``without`` some; what an older run lacks has its default."""
    return {name: kept.get(name, option.default) for name, option in OPTIONS.items()
            if name not in without and option.restore != "momentary"}


def with_options_of_gan(values: dict[str, Any], typed: dict[str, Any]) -> dict[str, Any]:
    """Return the values of the run of ``--gan_from`` for all options that were not typed.

    Raises UserError if it is no run, if no directory for the new run was typed, or if options were typed that its GAN
    contradicts.
    """
    source = values["gan_from"]
    kept = kept_options(Path(source) / "options.json")
    if "checkpoint_dir" not in typed:
        raise UserError(f"--gan_from {source}: name a directory of its own for the recognizer's run with "
                        "--checkpoint_dir")
    changed = [name for name in OF_GAN if name in typed and name in kept and typed[name] != kept[name]]
    if changed:
        raise UserError(f"--gan_from {source}: its GAN was trained with --{changed[0]} {kept[changed[0]]}; leave "
                        f"--{changed[0]} out")
    if kept.get("split_seed") is None:
        kept["split_seed"] = kept["seed"]  # the GAN has seen the training images of this cut
    return {**values, **taken_over(kept, typed.keys() | {"gan_from"})}


def kept_options(path: Path) -> dict[str, Any]:
    """Return the values of a run's ``options.json`` that this version knows. Raises UserError if it is damaged."""
    kept = utils.read_json(path)
    if not isinstance(kept, dict):
        raise UserError(f"{path}: damaged, it holds no options")
    if not RUN_KEYS <= kept.keys():
        raise UserError(f"{path}: holds no options of a run; choose another --checkpoint_dir")
    kept = {name: value for name, value in kept.items()
            if name in OPTIONS and (name == "checkpoint_dir" or OPTIONS[name].restore != "momentary")}
    for name, value in kept.items():
        if fault := OPTIONS[name].fault(value):
            raise UserError(f"{path}: damaged, {name} {fault}; restore it from a backup")
    return absolute(kept)


# ------------------------------------------------------------------------------------------------- parsing

class Switch(argparse.Action):
    """``--name``, ``--no_name`` and ``--no-name`` for one boolean option."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        negative = [f"--no{mark}{dest}" for mark in "_-"]
        super().__init__([*option_strings, *negative], dest, nargs=0, **settings)

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        setattr(namespace, self.dest, not option_string.startswith(("--no_", "--no-")))


def build_parser() -> OneLineParser:
    """Return the parser with every option of train.py, which keeps only what was typed."""
    parser = OneLineParser(description="Train, or swap the expressions of two faces.",
                           argument_default=argparse.SUPPRESS)
    for title, options in grouped_options().items():
        group = parser.add_argument_group(title)
        for option in options:
            add_option(group, option)
    group = parser.add_argument_group("flags of the published code that have no effect here")
    for name, instead in REPLACED.items():
        group.add_argument(f"--{name}", nargs="*", metavar="VALUE", help=instead)
    return parser


def add_option(group: argparse._ArgumentGroup, option: Option) -> None:
    """Add an option to a group of the parser, with its default in the help unless that is none or off."""
    has_none = option.default is None or option.default is False
    default = "" if has_none else f" (default: {'on' if option.default is True else option.default})"
    names = [f"--{option.name}", *([option.short] if option.short else [])]
    settings: dict[str, Any] = {"dest": option.name, "help": (option.help + default).replace("%", "%%")}
    if option.type is bool:
        group.add_argument(*names, action=Switch, **settings)
        return
    choices = "{" + ",".join(map(str, option.choices)) + "}" if option.choices else None
    metavar = choices or option.metavar or {int: "N", float: "X", str: "NAME"}[option.type]
    group.add_argument(*names, type=partial(read_value, option), nargs=option.nargs, const=option.const,
                       metavar=metavar, **settings)


def read_value(option: Option, word: str) -> Any:
    """Return the value of one typed word. Raises UserError if it is none of the option's."""
    try:
        value = option.type(word) if len(word) <= 4096 else word
    except ValueError:
        value = word
    if fault := option.fault_of_one(value):
        raise UserError(f"--{option.name} {word if len(word) <= 60 else word[:57] + '...'}: {fault}")
    return value


def to_argv(config: Config) -> list[str]:
    """Return the command line of one run of a series: every option of a training that has a value."""
    argv: list[str] = []
    for name, value in config.values().items():
        if value is None or OPTIONS[name].restore == "momentary" and name not in PASSED_ON:
            continue
        if name == "checkpoint_dir" and config.series.fold is not None:
            value = str(Path(value).parent)  # --fold writes into its own directory there
        if OPTIONS[name].type is bool:
            argv.append(f"--{name}" if value else f"--no_{name}")
        elif isinstance(value, list):
            argv += [f"--{name}", *map(str, value)]
        else:
            argv.append(f"--{name}={value}")  # the value may begin with a dash
    return argv
