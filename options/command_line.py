"""Command line → :class:`options.config.Config`, and back."""

import argparse
import os
import sys
from collections import ChainMap
from functools import partial
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

import utils
from datasets.augmentations import read_augmentations
from datasets.files import check_figure
from options.config import (DEFAULTS, OPTIONS, PARTS, PRESETS, RUN_KEYS, SIZES, Config, FaceOptions, Joined,
                            OneLineParser, Option, SwapOptions, UseOptions, grouped_options, member_name, options_of)
from utils import UserError, from_main_process, gpu_index, home_expanded, multiplies_bf16, starting

NOT_OF_GAN = "seeds", "jobs", "vgg_init", "perceptual", "data_dir"
GAN_OPTIONS = ["preset", "size",  # those that --gan_from fixes
               *(option.name for part in ("data", "shape", "perceptual", "gan", "gan_recipe", "series")
                 for option in options_of(PARTS[part]) if option.name not in NOT_OF_GAN)]
PUBLISHED_FLAGS = (  # of the published code's train.py, whose abbreviations keep their meaning
    "attributes", "gpu", "mode", "restore", "swap_list", "input", "target", "vgg_loss", "lambda_vgg_loss", "l1_loss",
    "lambda_l1_loss", "tv_loss", "lambda_tv_loss", "l2_loss", "lambda_l2_loss", "lambda_D", "G_max", "label_copy",
    "decoder_label", "exp_label", "std", "alpha5", "VGG", "resume_dir", "resume", "vgg_mode", "multi_add_gan",
    "ablation")
REPLACED_FLAGS = {  # flags of the published code's train.py → what replaces them here
    "VGG": "the recognizer is trained whenever --round_every and --round_epochs say so",
    "vgg_mode": "--mode train trains the recognizer with the GAN, and test_matrix_multi.py tests it",
    "resume": "--restore resumes GAN and recognizer alike",
    "resume_dir": "--restore finds the recognizer in --checkpoint_dir",
    "decoder_label": "the decoder always takes a label",
    "exp_label": "as in the published code",
    "label_copy": "the decoder takes 20 copies of its label, as in the paper",
    "std": "the noise on the discriminators' targets is the paper's, 0.2",
    **{f"{name}_loss": f"--lambda_{name}_loss is the loss's weight, and 0 switches it off"
       for name in ("vgg", "l1", "l2", "tv")},
}
OLDER_SWITCHES = {"scene_truth": "lambda_truth_loss",  # of older runs → the weights that replace them
                  **{f"{name}_loss": f"lambda_{name}_loss" for name in ("vgg", "l1", "l2", "tv")}}
FORMER_OPTIONS = {"lr_decay": 0.97, "weight_decay": 1e-5, "vgg_lr_decay_steps": 1800, "pairs_per_image": 6,
                  "decoder_label": True, "exp_label": False, "std": 0.2, "label_copy": 20}  # of older runs, fixed now
PASSED_TO_MEMBERS = {"checkpoint_dir", "gpu", "auto_restore", "overwrite", "force"}  # of the "momentary" ones
PICTURES = {"test": "result.jpg", "grid": "grid.jpg", "recognize": "recognized.jpg"}  # a mode → the default of --output
OUTPUTS = {**PICTURES, "export": "recognizer.onnx", "export_swap": "swap.onnx"}
COMMON_OPTIONS = {"mode", "preset", "checkpoint_dir", "restore", "gpu", "attributes", "data", "data_dir", "neutral",
                  "image_size", "folds", "fold", "seeds"}  # of all modes: they find the run and describe its data
VGG_STARTS = "imagenet", "none", "stage0"  # values of --vgg_init that are no files
FACE_OPTIONS = {"input", "align", "output"}
USE_OPTIONS = {option.name for part in (FaceOptions, SwapOptions, UseOptions) for option in options_of(part)}
MODE_OPTIONS = {  # a mode → the further options that it uses
    "train": OPTIONS.keys() - USE_OPTIONS,
    "test": FACE_OPTIONS | {"target", "tile", *(option.name for option in options_of(SwapOptions))},
    "grid": {"output", "tile", "seed", "force"}, "grid of --input": FACE_OPTIONS | {"target", "tile", "swap_list"},
    "evaluate": {"output", "judge", "cache", "force"},
    "generate": {"output", "seed", "targets", "cache", "force"},
    "recognize": FACE_OPTIONS, "export": {"output"}, "export_swap": {"output"}, "report": {"output"},
}


def resolve(argv: Sequence[str] | None = None) -> Config:
    """Return the configuration of a command line, which is final: nothing changes it afterwards.

    Each value comes from the first of these sources that has it: the command line, the run in ``--checkpoint_dir`` if
    it is resumed or used, the run of ``--gan_from``, ``--data``, ``--size``, ``--preset``, the defaults; rules give
    those that are still open (:func:`open_values`, :func:`precision`). Raises UserError before any work if an option is
    wrong.
    """
    typed = typed_options(argv)
    preset = absolute(PRESETS[typed.get("preset", DEFAULTS["preset"])])
    own_data = {"data_dir": None} if "data" in typed else {}  # --data means its own directory, not the preset's
    sources = [typed, own_data, SIZES.get(typed.get("size"), {}), preset, DEFAULTS]
    new = ChainMap(*sources)
    if new["gan_from"] and new["mode"] == "train":
        sources.insert(1, options_of_gan(new["gan_from"], typed))
        new = ChainMap(*sources)
    folder = run_directory(new, typed, preset)
    path, is_used = folder / "options.json", new["mode"] != "train" or new["restore"] is not None or new["auto_restore"]
    run = from_main_process(lambda: read_run_options(path) if is_used and path.is_file() else {})
    check_unchanged(typed, run, new["force"], new["mode"], folder)
    sources.insert(1, inherited(run, typed))
    values = {**ChainMap(*sources), "checkpoint_dir": str(folder)}
    config = Config.from_values({**values, **open_values(values, typed)}, earlier=run)
    check_config(config, frozenset(typed))
    if config.is_series:  # what hardware and GAN decide is each run's own (:func:`series_members`)
        return config
    return config.replaced(amp=precision(config), perceptual=perceptual_file(config))


def typed_options(argv: Sequence[str] | None) -> dict[str, Any]:
    """Return the options on the command line by name; paths of what a run reads are absolute.

    ``--amp auto`` is no choice, and ``--fold`` with the series of ``--gan_from`` means its run of this fold.
    """
    typed = absolute(vars(build_parser().parse_args(argv)))
    for name in REPLACED_FLAGS.keys() & typed.keys():
        if typed.pop(name) is False and name.endswith("_loss"):
            typed[f"lambda_{name}"] = 0.0  # --no_vgg_loss
        else:
            print(f"note: --{name} has no effect here: {REPLACED_FLAGS[name]}", file=sys.stderr)
    if typed.get("amp") == "auto" and not typed.get("force"):
        del typed["amp"]
    if {"gan_from", "fold"} <= typed.keys():
        source = Path(typed["gan_from"]) / member_name("fold", typed["fold"])
        typed["gan_from"] = str(source) if source.is_dir() else typed["gan_from"]
    return typed


def open_values(values: dict[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that follow from those of other options where no source gives them."""
    found = {}
    if values["seeds"] and values["split_seed"] is None:
        found["split_seed"] = values["seed"]
    if values["vgg_init"] == "imagenet" and values["vgg_width"] != 64 and typed.get("vgg_init") != "imagenet":
        found["vgg_init"] = "none"  # ImageNet weights exist only for width 64
    if values["vgg_init"] == "stage0" and values["backbone"] != "vgg19_bn" and "vgg_init" not in typed:
        found["vgg_init"] = "none"  # the perceptual network is a VGG
    if values["recognizer_only"]:
        found["gan_raw"] = 0
    if not values["output"]:
        found["output"] = OUTPUTS.get(values["mode"])
    return found


def precision(config: Config) -> str:
    """Return ``--amp``, with bf16 or off in place of auto: bf16 where it is computed by the hardware.

    On a CPU that is at a base width of 32 or more, since narrower networks are slower in it, and without
    ``--deterministic``.
    """
    hardware = config.hardware
    if hardware.amp != "auto" or config.task.mode != "train":
        return hardware.amp
    with starting():
        index = None if hardware.gpu and min(hardware.gpu) < 0 else gpu_index(hardware.gpu)
    if index is None and (config.shape.base_width < 32 or hardware.deterministic):
        return "off"
    return "bf16" if multiplies_bf16(index) else "off"


def perceptual_file(config: Config) -> str | None:
    """Return ``--perceptual``, or the perceptual network of the run of ``--gan_from`` if it has one."""
    named, names = config.perceptual.perceptual, config.data.attributes
    if named or not config.run.gan_from or not names:
        return named
    path = Path(config.run.gan_from) / "VGG_loss" / f"{len(names)}_max_ckpt.t7"
    return str(path) if path.is_file() else None


def series_members(config: Config) -> list[Config]:
    """Return the configuration of each run of a series; with ``--restore`` each is resumed if it has begun."""
    found = []
    for position in range(config.series.folds or config.series.seeds):
        kind, number = ("fold", position + 1) if config.series.folds else ("seed", config.run.seed + position)
        name = member_name(kind, number)
        source = Path(config.run.gan_from or "") / name
        gan_from = str(source) if config.run.gan_from and source.is_dir() else config.run.gan_from
        found.append(resolve(to_argv(config.replaced(
            seeds=None, jobs=1, auto_restore=config.resumes, restore=None, gan_from=gan_from,
            checkpoint_dir=str(Path(config.run.checkpoint_dir) / name), **{kind: number}))))
    return found


def absolute(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with absolute paths of what a run reads, since it may be used from another directory."""
    paths = "data_dir", "perceptual", "vgg_init", "gan_from"
    return {name: os.path.abspath(value) if name in paths and value and value not in VGG_STARTS else value
            for name, value in values.items()}


def same_directory(one: str | None, other: str) -> bool:
    """Return whether two paths lead to the same directory."""
    return one is not None and Path(one).resolve() == Path(other).resolve()


def run_directory(new: Mapping[str, Any], typed: Mapping[str, Any], preset: Mapping[str, Any]) -> Path:
    """Return the directory of the run: ``--checkpoint_dir`` or one with the name of the data, and the fold in it.

    A preset's directory belongs to the preset's data. ``checkpoint/checkpoint_multipie`` is that of ``--data 2``,
    ``checkpoint/checkpoint_<name>`` that of a ``--data_dir``.
    """
    from datasets.layout import DATA_SETS

    data, data_dir, folder = DATA_SETS[new["data"]], new["data_dir"], new["checkpoint_dir"]
    if "checkpoint_dir" not in typed and "data_dir" in preset and not same_directory(data_dir, preset["data_dir"]):
        folder = None
    is_other = data_dir and not same_directory(data_dir, data.directory)
    path = Path(folder or f"checkpoint/checkpoint_{Path(data_dir).resolve().name if is_other else data.name}")
    name = member_name("fold", new["fold"]) if new["fold"] is not None else ""
    is_fold = path.name == name and (path / "options.json").is_file()
    return path / name if name and not is_fold else path


# ------------------------------------------------------------------------------------------------------ a run's options

def check_unchanged(typed: Mapping[str, Any], saved: Mapping[str, Any], force: bool, mode: str, folder: Path) -> None:
    """Check that the typed options do not contradict those of the run in ``folder``. Raises UserError if they do."""
    changed = [name for name, value in typed.items() if name in saved and value != saved[name]
               and OPTIONS[name].restore in ("changes", "fixed")]
    if "attributes" in changed:
        raise UserError(f"-a {' '.join(typed['attributes'])}: the run in {folder} was trained with "
                        f"-a {' '.join(saved['attributes'])}, in this order")
    refused = [name for name in changed if OPTIONS[name].restore == "fixed" or not force]
    if refused and mode == "train":
        raise UserError(f"--restore: the run in {folder} was started with "
                        + " ".join(f"no --{name}" if (value := saved[name]) is None else
                                   f"--{name} {' '.join(map(str, value)) if isinstance(value, list) else value}"
                                   for name in refused) + "; leave the options as they were"
                        + (", or add --force" if any(OPTIONS[n].restore == "changes" for n in refused) else ""))


def inherited(saved: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a command takes over from a run: all its options but those of a single command.

    Options that an older run lacks have their defaults. The run's data directory is not that of another ``--data``.
    """
    if not saved:
        return {}
    found = {name: saved.get(name, option.default) for name, option in OPTIONS.items() if option.restore != "momentary"}
    if typed.get("data", saved.get("data")) != saved.get("data"):
        del found["data_dir"]
    return found


def options_of_gan(source: str, typed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a recognizer's run takes over from the run of ``--gan_from``.

    Raises UserError if it is no run, if no directory for the new run was typed, or if options were typed that
    contradict its GAN.
    """
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
    return {name: value for name, value in inherited(saved, {}).items() if name != "gan_from"}


def read_run_options(path: Path) -> dict[str, Any]:
    """Return the values of a run's ``options.json`` that this version knows. Raises UserError if it is damaged."""
    saved = utils.read_json(path)
    if not isinstance(saved, dict):
        raise UserError(f"{path}: damaged, it holds no options")
    if not RUN_KEYS <= saved.keys():
        raise UserError(f"{path}: holds no options of a run; choose another --checkpoint_dir")
    for name, fixed in FORMER_OPTIONS.items():
        if saved.get(name, fixed) != fixed:
            raise UserError(f"{path}: --{name} {saved[name]} is of an older version; use that one, or train anew")
    saved.update({weight: 0.0 for switch, weight in OLDER_SWITCHES.items() if saved.get(switch) is False})
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
                           epilog="Flags of the published code that have no effect here are accepted: "
                           + ", ".join(f"--{name}" for name in REPLACED_FLAGS) + ".",
                           argument_default=argparse.SUPPRESS, published=PUBLISHED_FLAGS)
    for title, options in grouped_options().items():
        group = parser.add_argument_group(title)
        for option in options:
            add_option(group, option)
    for name in REPLACED_FLAGS:
        settings = {"action": Switch, "dest": name} if name.endswith(("_loss", "_label")) else {"nargs": "*"}
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS, **settings)
    return parser


def add_option(group: argparse._ArgumentGroup, option: Option) -> None:
    """Add an option to a group of the parser, with its default in the help unless that is None or off."""
    is_shown = option.default is not None and option.default is not False
    shown = " ".join(option.default) if isinstance(option.default, tuple) else option.default
    default = f" (default: {'on' if option.default is True else shown})" if is_shown else ""
    names = [f"--{option.name}", *([option.short] if option.short else [])]
    text = (option.help + default).replace("%", "%%") or argparse.SUPPRESS
    settings: dict[str, Any] = {"dest": option.name, "help": text}
    if option.type is bool:
        group.add_argument(*names, action=Switch, **settings)
        return
    choices = "{" + ",".join(map(str, option.choices)) + "}" if option.choices else None
    metavar = choices or option.metavar or {int: "N", float: "X", str: "NAME"}[option.type]
    if option.nargs == "+" and option.type is int:
        settings["action"] = Joined
    group.add_argument(*names, type=partial(read_values if "action" in settings else read_value, option),
                       nargs=option.nargs, const=option.const, metavar=metavar, **settings)


def read_values(option: Option, text: str) -> list[Any]:
    """Return the values of one typed argument, which commas separate."""
    return [read_value(option, word) for word in text.split(",")]


def read_value(option: Option, text: str) -> Any:
    """Return the value of one typed argument. Raises UserError if the option does not accept it."""
    text = home_expanded(text) if option.is_path else text
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
    mode = config.task.mode
    kind = "grid of --input" if mode == "grid" and config.faces.input else mode
    if unused := sorted(typed - COMMON_OPTIONS - MODE_OPTIONS[kind]):
        raise UserError(f"--mode {mode}: --{unused[0]} is not used; leave it out")
    for rules in (series_rules, network_rules, training_rules if mode == "train" else use_rules):
        for is_wrong, message in rules(config):
            if is_wrong:
                raise UserError(message)
    read_augmentations(config.recognizer.augment)
    if mode in PICTURES and "output" not in typed:
        check_figure(config.use.output, "--output")


Rules = Iterator[tuple[Any, str]]  # what is wrong if it is true, and its message; the first one counts


def series_rules(config: Config) -> Rules:
    """Yield the rules of folds, seeds and jobs."""
    series, folder = config.series, Path(config.run.checkpoint_dir)
    yield (series.fold is not None and series.folds is None,
           f"--fold {series.fold}: the number of folds is missing; add --folds K")
    yield (series.fold is not None and series.fold > series.folds,
           f"--fold {series.fold}: there are {series.folds} folds, from 1 to {series.folds}")
    yield (series.folds and series.seeds,
           "--folds and --seeds: choose one; for both, start --folds K with each --seed in a directory of its own, and "
           "pool them with test_matrix_multi.py")
    yield (config.is_series and config.task.mode != "train",
           f"--checkpoint_dir {folder}: holds several runs; name one of them, such as "
           f"{folder / ('fold_01' if series.folds else 'seed_00')}")


def network_rules(config: Config) -> Rules:
    """Yield the rules of the networks' sizes and of the files that they start from."""
    width, base_width = config.recognizer_shape.vgg_width, config.shape.base_width
    backbone, vgg_init = config.recognizer_shape.backbone, config.perceptual.vgg_init
    yield (config.shape.image_size % 32,
           f"--image_size {config.shape.image_size}: must be a multiple of 32 (five halvings), like 64 or 256")
    yield (width >= 2 * base_width,
           f"--vgg_width {width}: must be less than twice --base_width {base_width}, since one convolution mixes the "
           "features of both")
    yield (vgg_init == "imagenet" and width != 64,
           f"--vgg_width {width}: there are ImageNet weights only for --vgg_width 64; add --vgg_init none")
    yield (backbone != "vgg19_bn" and vgg_init == "stage0",
           f"--vgg_init stage0: the perceptual network is a VGG, from which --backbone {backbone} cannot start; use "
           f"{'imagenet, ' * (width == 64)}none or a file of its own")
    if config.task.mode == "train" and config.run.restore is None:
        for name, path in (("perceptual", config.perceptual.perceptual), ("vgg_init", vgg_init)):
            yield (path and path not in VGG_STARTS and not Path(path).is_file(), f"--{name} {path}: no such file")


def training_rules(config: Config) -> Rules:
    """Yield the rules of ``--mode train``."""
    run, jobs = config.run, config.series.jobs
    rounds = config.gan.epochs // config.recognizer.round_every * config.recognizer.round_epochs
    yield (jobs > 1 and not config.is_series,
           f"--jobs {jobs}: a single run is one job; leave it out, or add --folds K or --seeds N")
    yield (jobs > 1 and os.environ.get("WORLD_SIZE", "1") != "1",
           f"--jobs {jobs}: torchrun's processes train together, one fold or seed after the other; leave one of the "
           "two out")
    yield (config.is_series and config.restored_epoch is not None,
           f"--restore {run.restore}: names an epoch of a single run, and there are several; leave the number out, or "
           "name one run with --checkpoint_dir")
    flag = f"--gan_from {run.gan_from}" if run.gan_from else "--recognizer_only"
    yield (not config.trains_gan and not rounds,
           f"{flag}: no recognizer round in {config.gan.epochs} epochs; lower --round_every, or raise --round_epochs")
    yield (not config.trains_gan and config.restored_epoch is not None,
           f"--restore {run.restore}: the run in {run.checkpoint_dir} trains no GAN, of which it could restore an "
           "epoch; leave the number out")
    yield (run.restore is not None and run.overwrite,
           "--restore and --overwrite: choose one, to resume or to start anew")


def use_rules(config: Config) -> Rules:
    """Yield the rules of all modes but that of training."""
    mode, output = config.task.mode, config.use.output
    yield (mode == "generate" and not output,
           "--mode generate: --output is missing; name the data directory to write")
    ending = Path(output or "").suffix.lower()
    yield ("export" in mode and ending != ".onnx", f"--output {output}: the name of an export must end in .onnx")
    yield (mode in PICTURES and ending not in utils.PICTURE_FORMATS and (mode, ending) != ("recognize", ".mp4"),
           f"{output}: a picture's name must end in .png, .jpg or .pdf")
    yield (mode == "recognize" and not config.faces.input,
           "--mode recognize: --input is missing; name pictures, a directory, a pattern or a video")
    if mode == "test":
        yield from swap_rules(config.faces, config.swap)


def swap_rules(faces: FaceOptions, swap: SwapOptions) -> Rules:
    """Yield the rules of ``--mode test``."""
    for name, value in (("swap_list", swap.swap_list), ("input", faces.input), ("target", faces.target)):
        yield (value is None,
               f"--mode test: --{name} is missing; it needs --swap_list I T, --input FILE and --target FILE")
    count = len(faces.target)
    yield (len(faces.input) > 1,
           f"--input {' '.join(faces.input)}: a swap needs one face here; name further ones with --target")
    yield (len(swap.swap_list) != 1 + count,
           f"--swap_list {' '.join(map(str, swap.swap_list))}: needs the expressions of --input and of each --target, "
           f"{1 + count} names or positions in -a")
    yield (count > 1 and not swap.frames, "--target: several targets need a strip or a matrix; add --frames K")
    yield (swap.matrix and (count != 2 or not swap.frames), "--matrix: needs two targets and --frames K")
    yield (swap.matrix and swap.frames > 20, f"--frames {swap.frames}: at most 20 for a matrix")
