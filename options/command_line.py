"""The options of train.py: presets, and one dataclass field per knob.

A knob's line gives its name, default, meaning, range and what it does to a run that goes on; parser, checks, the schema
of ``options.json`` and ``--help`` all come from it. An option's value is the one typed, else that of the run
which is restored, else the preset's, else the default. ``--data`` without ``--data_dir`` is that data set's directory.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import utils
from options.option import NamedKnob, OneLineParser, knob, knobs_of
from options.recipes import BEYOND_RECOGNIZER, GANRecipe, GANShape, RecognizerRecipe, RecognizerShape
from options.checks import check_options, wants_restore
from training.parts import fold_directory
from utils import UserError

MODES = ("train", "test", "evaluate", "grid", "generate", "recognize", "export")
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "tuned": {"alpha5": False, "scene_truth": True, "mirror": True, "mismatched": True, "lambda_vgg_loss": 3.0, "G_max": 1000.0,
              "even_phases": 2, "ema": 0.999, "lr": 1e-3, "mix": 1.0, "guided": True, "balanced": True,
              "encode_synthesized": True, "targets": "any", "vgg_schedule": "cosine"},
    "demo": {
        "alpha5": False, "data_dir": "datasets/demo", "checkpoint_dir": "checkpoint/checkpoint_demo", "image_size": 64,
        "base_width": 16, "vgg_width": 8, "fc_width": 256, "vgg_init": "stage0", "perceptual_epochs": 16,
        "perceptual_lr": 1e-3, "epochs": 16, "batch_size": 12, "lr": 2e-3, "lr_decay_steps": 300, "G_max": 1000.0,
        "scene_truth": True, "mirror": True, "mismatched": True, "zero_biases": True, "lazy": 4, "ema": 0.995,
        "d_lr_ratio": 0.25, "d_gain": 8.0,
        "lambda_adv_loss": 0.15, "lambda_vgg_loss": 0.5, "lambda_l2_loss": 60.0, "vgg_lr": 1e-2, "vgg_batch_size": 16,
        "round_every": 16, "round_epochs": 12, "mix": 1.0, "vgg_schedule": "cosine",
    },
}


@dataclass(frozen=True)
class Task:
    """What to do."""

    mode: str = knob("train", "train; test: swap two faces' expressions; evaluate: measure the swaps of the test images; "
                     "grid: draw a sheet of them; generate: write the synthesized training set; recognize: name the "
                     "expressions in any pictures; export: write an ONNX file for other programs", choices=MODES,
                     short="-m", restore="momentary")
    preset: str = knob("paper", "defaults of all other options: the paper's; the joint recipe that helped on photographs; "
                       "a small run on drawn faces", choices=tuple(PRESETS), restore="free")
    attributes: str | None = knob(None, "names of the expressions in the order of the labels (default: the data set's)",
                                  short="-a", nargs="+", metavar="NAME", restore="fixed")
    neutral: str | None = knob(None, "the expression whose faces are targets of synthesis (default: the one called "
                               "neutral; none is needed with --targets any)", metavar="NAME")
    gpu: int | None = knob(None, "GPU to use, several to train on all of them, -1 for the CPU (default: the first GPU, "
                           "if any)", short="-g", nargs="+", least=-1, most=1023, restore="momentary")
    seed: int = knob(0, "seed of everything random", least=0)
    deterministic: bool = knob(False, "the same files again on a GPU too, at some cost in speed")


@dataclass(frozen=True)
class Files:
    """Where things lie."""

    data: int = knob(2, "data set: 1 MMI, 2 Multi-PIE, 3 RAF-DB", choices=(1, 2, 3), restore="fixed")
    data_dir: str | None = knob(None, "any data directory (default: that of --data, like datasets/multiple)",
                                metavar="DIR", restore="free")
    checkpoint_dir: str | None = knob(None, "where the run writes (default: checkpoint/checkpoint_multipie for --data 2, "
                                      "checkpoint/checkpoint_NAME for another data set or directory)", metavar="DIR",
                                      restore="momentary")
    restore: int | None = knob(None, "go on with the run in --checkpoint_dir exactly where it stopped; with N, from the "
                               "networks of epoch N", short="-r", nargs="?", const=-1, least=-1, metavar="N",
                               restore="momentary")
    auto_restore: bool = knob(False, "--restore if there is something to restore, else start", restore="momentary")
    overwrite: bool = knob(False, "start anew where --checkpoint_dir already holds a run, deleting it",
                           restore="momentary")
    force: bool = knob(False, "restore although options differ from the run's", restore="momentary")
    save_minutes: float = knob(10.0, "save the training state at least this often", least=0, restore="free")
    log_every: int = knob(10, "steps between two rows of log/metrics.csv", least=1, restore="free")
    num_workers: int = knob(2, "processes that decode images, or read them from --cache disk", least=0, most=256,
                            restore="free")
    cache: str = knob("auto", "keep decoded images in memory, or in one file in --checkpoint_dir (by training alone); auto "
                      "takes memory or disk, where a third of what is free suffices", restore="free",
                      choices=("auto", "ram", "disk", "none"))


@dataclass(frozen=True)
class Series:
    """Several trainings as one: folds, or seeds."""

    folds: int | None = knob(None, "cross-validation: cut all listed images into K folds with no person in two of them; "
                             "train on the others and test on itself, each in its directory fold_01, fold_02, ...",
                             least=2, most=1000, metavar="K", restore="fixed")
    fold: int | None = knob(None, "only this one of the folds, from 1", least=1, most=1000, metavar="I",
                            restore="fixed")
    folds_by: str = knob("subject", "what folds do not share: persons, or images alone", choices=("subject", "image"),
                         restore="fixed")
    seeds: int | None = knob(None, "the same training with N seeds from --seed on, each in its directory seed_00, "
                             "seed_01, ...", least=2, most=1000, metavar="N", restore="fixed")
    jobs: int = knob(1, "folds or seeds that are trained side by side, with their output in fold_01.txt, ...; several "
                     "of --gpu are dealt out to them", least=1, most=256, restore="momentary")


@dataclass(frozen=True)
class Hardware:
    """How the networks are computed."""

    amp: str = knob("auto", "mixed precision; auto is bf16 on GPUs that have it",
                    choices=("auto", "off", "bf16", "fp16"))
    compile: bool = knob(False, "let torch.compile make the networks faster, after minutes of compiling")


@dataclass(frozen=True)
class PerceptualPlan:
    """Stage 0: the perceptual network (METHOD §1)."""

    perceptual: str | None = knob(None, "take a trained VGG19-bn from here instead of training it", metavar="FILE")
    perceptual_epochs: int = knob(20, "epochs of its training on the real training images", least=0, most=100000,
                                  restore="fixed")
    perceptual_lr: float = knob(1e-4, "AdamW's learning rate there; it falls to zero", least=0, most=1000)
    vgg_init: str = knob("imagenet", "where VGG19-bn starts: torchvision's weights (--vgg_width 64 only), random, a "
                         "state dict; with stage0 the perceptual network at random, and the recognizer from the "
                         "perceptual network", metavar="imagenet|none|stage0|FILE")


@dataclass(frozen=True)
class GANPlan:
    """How long the GAN is trained (METHOD §3)."""

    epochs: int = knob(50, "GAN epochs; one is images / batch size steps", least=1, most=100000, restore="free")
    batch_size: int = knob(10, "pairs per step", least=1, most=65536)


@dataclass(frozen=True)
class RecognizerPlan:
    """When the recognizer is trained, and on which batches (METHOD §5)."""

    round_every: int = knob(5, "GAN epochs between two recognizer rounds", least=1, most=100000)
    round_epochs: int = knob(4, "recognizer epochs in a round", least=0, most=100000)
    vgg_batch_size: int = knob(12, "images per step", least=2, most=65536)
    multi_add_gan: bool = knob(False, "add synthesized batches little by little: 1 real, then 2, 3, 6 ones")
    gan_raw: int = knob(6, "synthesized batches after each real one without --multi_add_gan; 0 puts real images in the "
                        "place of all synthesized ones, also with --mix", least=0, most=1000)
    pairs_per_image: int = knob(6, "targets per training image", least=1, most=1000)
    ablation: bool = knob(False, "use a random third of the synthesized images")
    select_on: str = knob("val", "images that choose the best recognizer; test is the reference's protocol and flatters; "
                          "none cuts no image from training and keeps the last epoch's", choices=("val", "test", "none"))
    mix: float = knob(0.0, "synthesized images per real one in every batch, in place of whole synthesized batches between "
                      "real ones; 0 is the paper's way", least=0, most=100, group=BEYOND_RECOGNIZER)
    balanced: bool = knob(False, "draw all expressions equally often, those of the GAN's partners and stage 0's images "
                          "too, and choose the best recognizer by mean class accuracy", group=BEYOND_RECOGNIZER)
    augment: bool = knob(False, "move, turn, light, blur the recognizer's images and add noise", group=BEYOND_RECOGNIZER)
    vgg_schedule: str = knob("step", "SGD's rate: times 0.97 now and then, or falling to zero over all planned steps, "
                             "along a half cosine", choices=("step", "cosine"), group=BEYOND_RECOGNIZER)
    targets: str = knob("neutral", "whose faces get other expressions", choices=("neutral", "any"),
                        group=BEYOND_RECOGNIZER)
    encode_synthesized: bool = knob(False, "give the recognizer the codes of the synthesized images themselves: their "
                                    "swapped codes show what was swapped", group=BEYOND_RECOGNIZER)


@dataclass(frozen=True)
class Measuring:
    """``--mode evaluate``."""

    judge: str | None = knob(None, "the independent recognizer that judges the swaps; trained where there is none yet "
                             "(default: judge.pth in --checkpoint_dir)", metavar="FILE", restore="momentary")
    judge_epochs: int = knob(25, "epochs of its training on the real training images", least=1, most=100000,
                             restore="momentary")


@dataclass(frozen=True)
class Swap:
    """``--mode test``."""

    swap_list: int | None = knob(None, "expressions of --input and of each --target: positions in -a, from 0",
                                 nargs="+", metavar=("I", "T"), least=-1000, most=1000, restore="momentary")
    input: str | None = knob(None, "face with the first expression; for --mode recognize pictures, directories, "
                             "patterns or a video", short="-i", nargs="+", metavar="FILE", restore="momentary")
    target: str | None = knob(None, "face with the second expression; several with --frames", short="-t", nargs="+",
                              metavar="FILE", restore="momentary")
    frames: int | None = knob(None, "the way from no swap to full swap in K pictures instead: a strip per target",
                              metavar="K", least=2, most=100, restore="momentary")
    matrix: bool = knob(False, "with --frames and two targets: both expressions at once, one down, one to the right",
                        restore="momentary")
    align: str | None = knob(None, "find and align the faces first, with YuNet's ONNX file (see datasets.align)",
                             metavar="MODEL", restore="momentary")
    margin: float = knob(0.0, "margin of the alignment, as it was for the training images", least=-0.4, most=10,
                         restore="momentary")
    paste: bool = knob(False, "also put the swapped faces back into the whole photographs: result_input.jpg, "
                       "result_target.jpg", restore="momentary")


@dataclass(frozen=True)
class Use:
    """``--mode recognize`` and ``--mode export``."""

    every: int = knob(1, "recognize every N-th frame of a video", least=1, metavar="N", restore="momentary")
    which: str = knob("recognizer", "what to export: image to probabilities, or two faces and their labels to both swaps",
                      choices=("recognizer", "swap"), restore="momentary")


@dataclass(frozen=True)
class Output:
    """What is written."""

    output: str | None = knob(None, "the picture of --mode test, grid and recognize, the file of export (default: "
                              "result.jpg, grid.jpg, recognized.jpg, recognizer.onnx or swap.onnx), the data directory "
                              "of generate", short="-o", metavar="PATH", restore="momentary")
    rows: int = knob(4, "persons on the sheet of --mode grid", least=1, most=1000, restore="momentary")


GROUPS: dict[str, tuple[type, ...]] = {
    "what to do": (Task,), "files": (Files,), "folds and seeds": (Series,),
    "networks": (GANShape, RecognizerShape, Hardware),
    "perceptual network (stage 0)": (PerceptualPlan,), "GAN": (GANPlan, GANRecipe),
    "recognizer": (RecognizerPlan, RecognizerRecipe), "measuring (--mode evaluate)": (Measuring,),
    "swap (--mode test)": (Swap,), "use (--mode recognize, export)": (Use,), "what to write": (Output,),
}


def all_knobs() -> dict[str, list[NamedKnob]]:
    """Every knob by the title of its group, in the order of the help."""
    found: dict[str, list[NamedKnob]] = {}
    for title, recipes in GROUPS.items():
        found[title] = []
        for named in (named for recipe in recipes for named in knobs_of(recipe)):
            found.setdefault(named.knob.group or title, []).append(named)
    return found


KNOBS = {named.name: named for group in all_knobs().values() for named in group}
RUN_KEYS = {"checkpoint_dir", "image_size", "batch_size", "epochs"}  # what tells a run's options.json from any other


# ------------------------------------------------------------------------------------------------- parsing

class Parser(OneLineParser):
    """A parser that holds what was typed alone, and whose complaints are one line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(argument_default=argparse.SUPPRESS, **settings)

    def add_knobs(self, title: str, knobs: Sequence[NamedKnob]) -> None:
        """A group of options from knobs."""
        group = self.add_argument_group(title)
        for named in knobs:
            names = [f"--{named.name}", *([named.knob.short] if named.knob.short else [])]
            settings: dict[str, Any] = {"dest": named.name, "help": described(named)}
            if named.kind is bool:
                group.add_argument(*names, action=Switch, **settings)
                continue
            for key in ("nargs", "const", "metavar"):
                if getattr(named.knob, key) is not None:
                    settings[key] = getattr(named.knob, key)
            if named.knob.choices:
                settings["metavar"] = "{" + ",".join(map(str, named.knob.choices)) + "}"
            settings.setdefault("metavar", {int: "N", float: "X", str: "NAME"}[named.kind])
            group.add_argument(*names, type=reader(named), **settings)


def described(named: NamedKnob) -> str:
    """A knob's line of the help."""
    told = named.default is None or named.kind is bool and not named.default
    shown = "" if told else f" (default: {'on' if named.default is True else named.default})"
    return (named.knob.help + shown).replace("%", "%%")


def reader(named: NamedKnob):
    """What turns one typed word into a knob's value; UserError where it is none."""
    def read(word: str) -> Any:
        try:
            value = named.kind(word) if len(word) <= 4096 else word
        except ValueError:
            value = word
        fault = named.fault_of_one(value)
        if fault:
            shown = word if len(word) <= 60 else word[:57] + "..."
            raise UserError(f"--{named.name} {shown}: {fault}")
        return value
    return read


class Switch(argparse.Action):
    """``--name``, ``--no_name`` and ``--no-name`` for one boolean option."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        negative = [f"--no{mark}{dest}" for mark in "_-"]
        super().__init__([*option_strings, *negative], dest, nargs=0, **settings)

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        setattr(namespace, self.dest, not option_string.startswith(("--no_", "--no-")))


REPLACED = {  # flags of the published code's train.py → what does their work here
    "VGG": "the recognizer is trained whenever --round_every and --round_epochs say so",
    "vgg_mode": "--mode train trains the recognizer with the GAN, and test_matrix_multi.py tests it",
    "resume": "--restore goes on with GAN and recognizer alike",
    "resume_dir": "--restore finds the recognizer in --checkpoint_dir",
}


def build_parser() -> Parser:
    """Every option of train.py."""
    parser = Parser(description="Train, or swap the expressions of two faces.")
    for title, knobs in all_knobs().items():
        parser.add_knobs(title, knobs)
    group = parser.add_argument_group("flags of the published code that have no effect here")
    for name, instead in REPLACED.items():
        group.add_argument(f"--{name}", nargs="*", metavar="VALUE", help=instead)
    return parser


def defaults() -> argparse.Namespace:
    """Every option at its default."""
    return argparse.Namespace(**{name: named.default for name, named in KNOBS.items()})


def read_options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse and check; where a run is restored, its own options are the defaults. UserError before any work."""
    given = vars(build_parser().parse_args(words))
    for name in REPLACED.keys() & given.keys():
        print(f"note: --{name} has no effect here: {REPLACED[name]}", file=sys.stderr)
        del given[name]
    options = defaults()
    preset = PRESETS[given.get("preset", options.preset)]
    vars(options).update({**preset, **given})
    if "data" in given and "data_dir" not in given:
        options.data_dir = None
    if "checkpoint_dir" not in given and "data_dir" in preset and not on_data_of(preset, options):
        options.checkpoint_dir = None  # the preset's is that of its own data
    options.checkpoint_dir = fold_directory(options.checkpoint_dir or default_checkpoint_dir(options), options.fold)
    kept = Path(options.checkpoint_dir) / "options.json"
    if kept.is_file() and (options.mode != "train" or wants_restore(options)):
        adopt_options(options, given, kept)
    check_options(options, given)
    return options


def on_data_of(preset: dict[str, Any], options: argparse.Namespace) -> bool:
    """Whether the data directory is the one that a preset names."""
    return options.data_dir is not None and Path(options.data_dir).resolve() == Path(preset["data_dir"]).resolve()


def default_checkpoint_dir(options: argparse.Namespace) -> str:
    """``checkpoint/checkpoint_multipie`` for ``--data 2``, ``checkpoint/checkpoint_<name>`` for a --data_dir."""
    from datasets.layout import DATA_SETS

    data = DATA_SETS[options.data]
    own = options.data_dir and Path(options.data_dir).resolve() != Path(data.directory).resolve()
    return f"checkpoint/checkpoint_{Path(options.data_dir).resolve().name if own else data.name}"


# ------------------------------------------------------------------------------------------- a run's options

def adopt_options(options: argparse.Namespace, given: dict[str, Any], path: Path) -> None:
    """Take over a run's options where none are given; UserError names those that were given otherwise."""
    kept = utils.read_json(path)
    if not isinstance(kept, dict):
        raise UserError(f"{path}: damaged, it holds no options")
    if not RUN_KEYS <= kept.keys():
        raise UserError(f"{path}: holds no options of a run; choose another --checkpoint_dir")
    kept = {name: value for name, value in kept.items() if name in KNOBS}  # an older version's may be more
    for name, value in kept.items():
        fault = KNOBS[name].fault(value)
        if fault:
            raise UserError(f"{path}: damaged, {name} {fault}; put it back from a copy")
    changed = [name for name, value in given.items() if name in kept and value != kept[name]
               and KNOBS[name].knob.restore in ("changes", "fixed")]
    if "attributes" in changed:
        raise UserError(f"-a {' '.join(given['attributes'])}: the run in {options.checkpoint_dir} was trained with "
                        f"-a {' '.join(kept['attributes'])}, in this order")
    refused = changed if not options.force else [n for n in changed if KNOBS[n].knob.restore == "fixed"]
    if refused and options.mode == "train":
        raise UserError(f"--restore: the run in {options.checkpoint_dir} was started with "
                        + " ".join(f"--{name} {kept[name]}" if kept[name] is not None else f"no --{name}"
                                   for name in refused) + "; leave the options as they were"
                        + (", or add --force" if any(KNOBS[n].knob.restore == "changes" for n in refused) else ""))
    kept_data = kept.get("data", options.data)
    own_directory = {"data_dir"} if given.get("data", kept_data) != kept_data else set()  # not that of the run's data
    for name, named in KNOBS.items():
        if name not in given and name not in own_directory and named.knob.restore != "momentary":
            setattr(options, name, kept.get(name, named.default))  # an older run is without what its version had not
