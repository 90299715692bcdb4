"""All options of train.py as typed, frozen values: one dataclass for each part of the program that needs them.

An option's line gives its name, default, meaning, range and effect on a run that is resumed. The parser, ``--help``
and the checks of the command line and of ``options.json`` are all derived from it. torch is not imported here, since
the command reads its options before all heavy imports.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, Mapping, NamedTuple, NoReturn, Sequence, get_type_hints

from datasets.augmentations import AUGMENTATION_HELP
from utils import UserError, usable_cores

PathName = str  # the type of an option that names a file or directory
LARGEST = 10 ** 9
TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


class OneLineParser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line.

    ``published`` are names of flags of the published code: what abbreviates a single one of them means it, as it did
    there, whatever other flags begin like that.
    """

    def __init__(self, *args: Any, published: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.published = published

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse the arguments with abbreviations of published flags written out."""
        typed = sys.argv[1:] if args is None else args
        return super().parse_known_args([self.whole(text) for text in typed], namespace)

    def whole(self, text: str) -> str:
        """Return an argument, with the published flag that it abbreviates if there is exactly one."""
        flag, equals, value = text.partition("=")
        meant = [f"--{name}" for name in self.published if len(flag) > 2 and f"--{name}".startswith(flag)]
        return meant[0] + equals + value if len(meant) == 1 and flag not in self._option_string_actions else text

    def error(self, message: str) -> NoReturn:
        """Raise UserError instead of printing the usage and exiting."""
        unknown = message.partition("unrecognized arguments: ")[2].split()
        near = unknown and get_close_matches(unknown[0].partition("=")[0], self._option_string_actions, 1)
        raise UserError(message + (f"; did you mean {near[0]}?" if near else "") + " (see --help)")


@dataclass(frozen=True)
class Option:
    """The meaning of an option and the values that it accepts; name, type and default are those of its dataclass field.

    ``restore`` says what another value does to a run that is resumed: it "changes" the run (refused without --force),
    it can have no effect any more ("fixed"), it does not matter ("free"), or it belongs to a single command
    ("momentary"). ``name`` is the ``flag`` if there is one. ``--help`` shows no option without ``help``. In a path,
    the type of whose field is PathName, ``~`` is expanded.
    """

    help: str
    least: float | None = None
    most: float | None = None
    choices: tuple | None = None
    flag: str | None = None
    short: str | None = None
    nargs: str | None = None
    const: Any = None
    metavar: str | tuple[str, ...] | None = None
    group: str | None = None
    restore: str = "changes"
    is_path: bool = False
    field: str = ""
    name: str = ""
    type: type = str
    default: Any = None

    def fault(self, value: Any) -> str | None:
        """Return what is wrong with a value of any type, or None: of another type, not finite, out of range."""
        if self.nargs == "+" and value is not None:
            if not isinstance(value, (list, tuple)) or not value:
                return "is no list"
            return next(filter(None, map(self.fault_of_one, value)), None)
        return None if value is None and self.default is None else self.fault_of_one(value)

    def fault_of_one(self, value: Any) -> str | None:
        """Return what is wrong with a single value, or with one of a list."""
        allowed = (int, float) if self.type is float else self.type
        if not isinstance(value, allowed) or isinstance(value, bool) != (self.type is bool):
            return f"must be {TYPE_NAMES[self.type]}"
        if self.choices and value not in self.choices:
            return "must be one of " + ", ".join(map(str, self.choices))
        if self.type in (int, float):
            least = -LARGEST if self.least is None else self.least
            most = LARGEST if self.most is None else self.most
            return None if least <= value <= most else f"must be from {least:g} to {most:g}"
        if self.type is str and (not value.strip() or "\0" in value):
            return "must not be empty" if not value.strip() else "must not hold a zero byte"
        return None


def option(default: Any, help: str, **settings: Any) -> Any:
    """Return a dataclass field that is also an option of a command; ``settings`` are fields of :class:`Option`."""
    return dataclasses.field(default=default, metadata={"option": Option(help, **settings)})


@cache
def options_of(part: type) -> list[Option]:
    """Return the options of a dataclass, in order."""
    types = {"int": int, "float": float, "bool": bool, "tuple[int, ...]": int}
    return [dataclasses.replace(entry, field=field.name, name=entry.flag or field.name, default=field.default,
                                type=types.get(field.type.split(" |")[0], str), is_path="PathName" in field.type)
            for field in dataclasses.fields(part) if (entry := field.metadata.get("option"))]


def numbers(text: str) -> list[int]:
    """Return whole numbers that are separated by commas, such as the GPUs 0,1 of the published commands."""
    return [int(word) for word in text.split(",")]


class Joined(argparse.Action):
    """An option of which each argument is a list, such as the result of :func:`numbers`."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        setattr(namespace, self.dest, [item for values_of_one in values for item in values_of_one])


def check_ranges(options: argparse.Namespace, **ranges: tuple[float, float]) -> None:
    """Check that a command's numbers are in their ranges (least, most) or None. Raises UserError if one is not."""
    for name, (least, most) in ranges.items():
        value = getattr(options, name)
        for one in value if isinstance(value, list) else [value]:
            if one is not None and not least <= one <= most:
                raise UserError(f"--{name} {str(one)[:60]}: must be from {least:g} to {most:g}")


# -------------------------------------------------------------------------------------------------------------- presets

SIZES: dict[str, dict[str, Any]] = {  # what --size sets, with any preset; the rates are those that fit the sizes
    "paper": {"image_size": 256, "base_width": 64, "vgg_width": 64, "fc_width": 4096, "batch_size": 10,
              "vgg_batch_size": 12, "lr": 2e-4, "vgg_lr": 1e-3, "perceptual_lr": 1e-4, "vgg_init": "imagenet"},
    "small": {"image_size": 64, "base_width": 16, "vgg_width": 8, "fc_width": 256, "batch_size": 16,
              "vgg_batch_size": 16, "lr": 2e-3, "vgg_lr": 1e-2, "perceptual_lr": 1e-3, "vgg_init": "stage0"},
}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "tuned": {
        "alpha5": False, "lambda_truth_loss": 600.0, "mirror": True, "mismatched": True, "lambda_vgg_loss": 16.0,
        "lambda_coarse_loss": 50.0, "lambda_gray_loss": 500.0, "G_max": 1000.0, "even_phases": 2, "ema": 0.998,
        "zero_biases": True, "lazy": 4, "d_gain": 8.0, "d_lr_ratio": 0.25, "perceptual_epochs": 18, "epochs": 28,
        "round_every": 28, "round_epochs": 6, "lr": 1e-3, "mix": 1.0, "guided": True, "balanced": True,
        "encode_synthesized": True, "targets": "any", "vgg_schedule": "cosine", "gate": 0.5,
    },
    "demo": {
        "data_dir": "datasets/demo", "checkpoint_dir": "checkpoint/checkpoint_demo", "image_size": 64,
        "base_width": 16, "vgg_width": 8, "fc_width": 256, "vgg_init": "stage0", "perceptual_epochs": 8,
        "perceptual_lr": 1e-3, "epochs": 20, "batch_size": 12, "lr": 2e-3, "lr_decay_steps": 300, "alpha5": False,
        "G_max": 1000.0, "lambda_truth_loss": 600.0, "mirror": True, "mismatched": True, "zero_biases": True, "lazy": 4,
        "ema": 0.995, "d_lr_ratio": 0.25, "d_gain": 8.0,
        "lambda_adv_loss": 0.15, "lambda_vgg_loss": 0.0, "lambda_l2_loss": 60.0, "vgg_lr": 1e-2, "vgg_batch_size": 16,
        "round_every": 20, "round_epochs": 10, "mix": 1.0, "vgg_schedule": "cosine", "gate": 0.25,
    },
}


# ------------------------------------------------------- shapes of networks and recipes of training (METHOD §1, §3, §5)

BEYOND, BEYOND_RECOGNIZER = "GAN, beyond the paper", "recognizer, beyond the paper"


@dataclass(frozen=True)
class GANShape:
    """The shapes of the GAN's networks; they travel with every checkpoint (METHOD §1)."""

    num_classes: int
    image_size: int = option(256, "image side S, a multiple of 32", least=32, most=2048, restore="fixed")
    base_width: int = option(64, "width w of the GAN's first layer", least=1, most=1024, restore="fixed")
    decoder_label: bool = True  # False in checkpoints whose decoder takes no label
    label_copy: int = 20  # copies of the decoder's label
    exp_label: bool = False  # True in those whose label has an entry for "reconstruct only"

    @property
    def label_chans(self) -> int:
        """The number of label planes that the decoder takes."""
        return self.label_copy * (self.num_classes + self.exp_label) if self.decoder_label else 0


@dataclass(frozen=True)
class RecognizerShape:
    """The recognizer's backbone, and the shapes of the VGG networks (METHOD §1)."""

    backbone: str = option("vgg19_bn", "the recognizer's backbone, which is the paper's; models/README.md says how "
                           "to add another", restore="fixed")
    vgg_width: int = option(64, "width of the backbone's and of VGG's first layer, less than twice --base_width",
                            least=1, most=1024, restore="fixed")
    fc_width: int = option(4096, "width of VGG's two hidden linear layers", least=1, most=65536, restore="fixed")


class GeneratorLoss(NamedTuple):
    """A loss of the generator: a row of :data:`GENERATOR_LOSSES`, from which flags, help and curves are made.

    Its function is ``<name>_loss`` in models/losses.py. ``--lambda_<name>_loss`` is its weight with a default and a
    help text. ``title`` is that of its curve in the report.
    """

    name: str
    weight: float
    help: str
    title: str
    group: str | None = BEYOND


GENERATOR_LOSSES = (
    GeneratorLoss("adv", 1.0, "weight of the generator's adversarial loss", "adversarial loss"),
    GeneratorLoss("vgg", 15.0, "weight of the perceptual loss", "perceptual loss", None),
    GeneratorLoss("l1", 5.0, "weight of the (A+B) - (C+D) loss", "swap consistency loss", None),
    GeneratorLoss("l2", 10.0, "weight of the reconstruction loss", "reconstruction loss", None),
    GeneratorLoss("tv", 5.0, "weight of the total variation loss", "total variation", None),
    GeneratorLoss("truth", 0.0, "weight of the squared distance of C and D to their ground-truth swaps: the images of "
                  "the same person and scene with the other's expression, if subjects.list names scenes",
                  "loss to ground truth"),
    GeneratorLoss("coarse", 0.0, "weight of the squared distance of C to A, and of D to B, at 8 x 8 pixels, which "
                  "keeps light, hair and glasses", "difference at 8 × 8 pixels"),
    GeneratorLoss("gray", 0.0, "weight of the squared color in the swaps of gray photographs",
                  "color of gray photographs"),
)


LossOptions = dataclasses.make_dataclass("LossOptions", [
    (f"lambda_{loss.name}_loss", "float",
     option(loss.weight, f"{loss.help}; 0 is off", least=0, most=1e6, group=loss.group))
    for loss in GENERATOR_LOSSES], frozen=True)


@dataclass(frozen=True)
class GANRecipe(LossOptions):
    """The recipe of the GAN's training: the weights and rates of METHOD §3, each with its switch.

    What METHOD does not have stands in the group :data:`BEYOND` and is off by default.
    """

    lr: float = option(2e-4, "Adam's learning rate, for generator and discriminators", least=0, most=1000)
    lr_decay_steps: int = option(300, "steps after which the learning rate is multiplied by 0.97", least=1)
    lr_decay: float = 0.97
    weight_decay: float = 1e-5
    alpha5: bool = option(True, "the discriminators also see the interpolated images C5 and D5")
    std: float = 0.2  # standard deviation of the noise on the targets of the adversarial loss
    lambda_D: float = option(0.25, "weight of the discriminators' loss", least=0, most=1e6)
    G_max: float = option(22.0, "skip the discriminators' update after a generator loss of this or more; each epoch's "
                          "D_updated is the fraction of its steps with an update", least=0, most=1e9)
    mismatched: bool = option(False, "the discriminators also see real faces with a wrong label, as fakes, except "
                              "those of persons of whom several images show a single expression", group=BEYOND)
    d_augment: bool = option(False, "the discriminators see all faces, real and swapped, shifted at random by up to an "
                             "eighth of their side, and with another brightness and contrast", group=BEYOND)
    vgg_blur: float = option(0.0, "blur faces by a Gaussian of this standard deviation in pixels before the perceptual "
                             "loss compares them; 0 is off", least=0, most=8, metavar="PIXELS", group=BEYOND)
    lazy: int = option(1, "compute the perceptual and the reconstruction loss only for every Nth pair of a batch",
                       least=1, most=100, metavar="N", group=BEYOND)
    zero_biases: bool = option(False, "start the GAN's convolutions with zero biases, since random ones hide the faces "
                               "at first", group=BEYOND, restore="fixed")
    d_lr_ratio: float = option(1.0, "the discriminators' learning rate, as a multiple of the generator's", least=0,
                               most=1000, group=BEYOND)
    d_gain: float = option(1.0, "initial gain of the discriminators' last normalization; at small sizes, 1 keeps their "
                           "logits small for hundreds of steps", least=0.001, most=1000, group=BEYOND,
                           restore="fixed")
    even_phases: int = option(0, "avoid a grid of dots in uniform areas, in the decoder's last N layers",
                              least=0, most=5, metavar="N", group=BEYOND)
    mirror: bool = option(False, "mirror a random half of the pairs", group=BEYOND)
    ema: float = option(0.0, "use a moving average of the generator, with this decay in every step; 0 is off", least=0,
                        most=1, group=BEYOND, restore="fixed")

    def loss_weights(self) -> dict[str, float]:
        """Return the weights of the generator's losses that are in use, by name."""
        weights = {loss.name: getattr(self, f"lambda_{loss.name}_loss") for loss in GENERATOR_LOSSES}
        return {name: weight for name, weight in weights.items() if weight}

    def rate(self, step: int) -> float:
        """Return the generator's learning rate in a step, counted from 0 (METHOD §3)."""
        return self.lr * self.lr_decay ** (step // self.lr_decay_steps)


@dataclass(frozen=True)
class RecognizerRecipe:
    """The recipe of a recognizer's training: SGD with stepwise decay (METHOD §5).

    Not in METHOD: ``falling_steps`` lets the rate fall to zero over so many steps along a half cosine instead; ``adam``
    uses AdamW, with which a deep network learns from random weights (METHOD leaves open how the perceptual network is
    trained); ``guided`` is for batches of real and synthesized images.
    """

    lr: float = option(1e-3, "SGD's learning rate", flag="vgg_lr", least=0, most=1000)
    lr_decay_steps: int = 1800
    guided: bool = option(False, "remove the part of the synthesized images' gradient that opposes the real ones' "
                          "(gradient projection)", group=BEYOND_RECOGNIZER)
    momentum: float = 0.9
    weight_decay: float = 5e-4
    lr_decay: float = 0.97
    falling_steps: int | None = None
    adam: bool = False

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if self.falling_steps is not None:
            return self.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.falling_steps)))
        return self.lr * self.lr_decay ** (step // self.lr_decay_steps)


# ---------------------------------------------------------------------------------------------------------- all options

MODES = ("train", "test", "evaluate", "grid", "generate", "recognize", "export", "export_swap", "report")


@dataclass(frozen=True)
class Task:
    """The mode of the command, and its presets."""

    mode: str = option("train", "train; test: swap two faces' expressions; evaluate: measure the swaps of the test "
                       "images; grid: draw a sheet of them; generate: write the synthesized training set; recognize: "
                       "name the expressions in any pictures; export: write the recognizer as an ONNX file for other "
                       "programs; export_swap: the same for the swap of two faces; report: "
                       "write report.html", choices=MODES, short="-m", restore="momentary")
    preset: str = option("paper", "defaults of all other options; paper: the paper's; tuned: the joint recipe that "
                         "helped on photographs; demo: a small run on drawn faces", choices=tuple(PRESETS),
                         restore="fixed")
    size: str | None = option(None, "image size, widths, batch sizes and learning rates; paper: the paper's; small: "
                              "for a few CPU cores (default: the preset's)", choices=tuple(SIZES),
                              restore="fixed")
    dry_run: bool = option(False, "print schedule, images and sizes of a training, and estimate its time from "
                           "a few steps; write nothing", restore="momentary")


@dataclass(frozen=True)
class DataOptions:
    """The images, and the meaning of their labels."""

    attributes: tuple[str, ...] | None = option(None, "names of the expressions in the order of the labels (default: "
                                                "the data set's)", short="-a", nargs="+", metavar="NAME",
                                                restore="fixed")
    neutral: str | None = option(None, "the neutral expression, whose faces are the targets of synthesis (default: the "
                                 "one called neutral; none is needed with --targets any)", metavar="NAME")
    data: int = option(2, "data set: 1 MMI, 2 Multi-PIE, 3 RAF-DB", choices=(1, 2, 3), restore="fixed")
    data_dir: PathName | None = option(None, "the data directory (default: that of --data, such as datasets/multiple)",
                                  metavar="DIR", restore="free")


@dataclass(frozen=True)
class RunOptions:
    """The directory of a training, and whether it is started or resumed."""

    checkpoint_dir: PathName | None = option(None, "where the run writes (default: checkpoint/checkpoint_multipie for "
                                        "--data 2, checkpoint/checkpoint_NAME for another data set or directory)",
                                        metavar="DIR", restore="momentary")
    restore: int | None = option(None, "resume the run in --checkpoint_dir exactly where it stopped; with N, use the "
                                 "networks of GAN epoch N", short="-r", nargs="?", const=-1, least=-1, metavar="N",
                                 restore="momentary")
    auto_restore: bool = option(False, "resume the run in --checkpoint_dir if there is one, else start it",
                                restore="momentary")
    overwrite: bool = option(False, "start anew although --checkpoint_dir already holds a run, which is moved aside",
                             restore="momentary")
    force: bool = option(False, "accept options or data that differ from those of the run", restore="momentary")
    seed: int = option(0, "seed of everything random", least=0)
    split_seed: int | None = option(None, "", least=-1, restore="fixed")  # a series tells its runs; -1 in older ones
    gan_from: PathName | None = option(None, "train only a recognizer, with the GAN of the run in this directory, "
                                  "whose options are the defaults; in a series, each run with the GAN of its own seed "
                                  "or fold, if there is one", metavar="RUN", restore="fixed")


@dataclass(frozen=True)
class LoadingOptions:
    """The decoding and caching of images."""

    cache: str = option("auto", "where decoded images are kept; disk: in one file in --checkpoint_dir (only --mode "
                        "train); auto: ram or else disk, if a third of its free space suffices", restore="free",
                        choices=("auto", "ram", "disk", "none"))

    @property
    def num_workers(self) -> int:
        """The number of threads that decode images, or read them from ``--cache disk``."""
        return min(8, usable_cores())


@dataclass(frozen=True)
class HardwareOptions:
    """The device that computes the networks, and its precision."""

    gpu: tuple[int, ...] | None = option(None, "GPU to use, several to train on all of them, -1 for the CPU "
                                         "(default: the first GPU, if any)", short="-g", nargs="+", least=-1, most=1023,
                                         restore="momentary")
    amp: str = option("auto", "mixed precision; auto is bf16 on GPUs that have it, and on CPUs that have it at a "
                      "--base_width of 32 or more; a run keeps what was chosen at its start",
                      choices=("auto", "off", "bf16", "fp16"))
    deterministic: bool = option(False, "use only deterministic algorithms, so that trainings on a GPU can be repeated "
                                "exactly; slower")


@dataclass(frozen=True)
class SeriesOptions:
    """Several trainings as one: folds, or seeds."""

    folds: int | None = option(None, "cross-validation: cut all listed images into K folds that share no person, and "
                               "train a run for each, which is tested on this fold and trained on the others, in "
                               "fold_01, fold_02, ...", least=2, most=1000, metavar="K", restore="fixed")
    fold: int | None = option(None, "train only this fold, from 1", least=1, most=1000, metavar="I",
                              restore="fixed")
    folds_by: str = option("subject", "what is never in two folds: a person, or only an image",
                           choices=("subject", "image"), restore="fixed")
    seeds: int | None = option(None, "repeat the training with N seeds from --seed on, in seed_00, seed_01, ...",
                               least=2, most=1000, metavar="N", restore="fixed")
    jobs: int = option(1, "number of folds or seeds that are trained side by side, with their output in fold_01.txt, "
                       "...; several GPUs of --gpu are distributed among them", least=1, most=256, restore="momentary")


@dataclass(frozen=True)
class PerceptualOptions:
    """Stage 0: the perceptual network (METHOD §1)."""

    perceptual: PathName | None = option(None, "use the trained VGG19-bn in this file instead of training one",
                                    metavar="FILE")
    perceptual_epochs: int = option(20, "epochs of its training on the real training images", least=0, most=100000,
                                    restore="fixed")
    perceptual_lr: float = option(1e-4, "AdamW's initial learning rate in stage 0; it falls to zero", least=0,
                                  most=1000)
    vgg_init: PathName = option("imagenet", "initial weights of VGG19-bn: torchvision's (--vgg_width 64 only), random "
                           "ones, or a state dict; stage0: random ones for the perceptual network, and those of the "
                           "trained perceptual network for the recognizer", metavar="imagenet|none|stage0|FILE")


@dataclass(frozen=True)
class GANSchedule:
    """The length of the GAN's training (METHOD §3)."""

    epochs: int = option(50, "GAN epochs, each of images / batch size steps", least=1, most=100000, restore="free")
    batch_size: int = option(10, "pairs per step", least=1, most=65536)


@dataclass(frozen=True)
class RecognizerSchedule:
    """The rounds of the recognizer's training, and its batches (METHOD §5)."""

    round_every: int = option(5, "GAN epochs between two recognizer rounds", least=1, most=100000)
    round_epochs: int = option(4, "recognizer epochs in a round", least=0, most=100000)
    vgg_batch_size: int = option(12, "images per step", least=2, most=65536)
    multi_add_gan: bool = option(False, "increase the number of batches after each real one: for ten recognizer "
                                 "epochs each 1 further real one, then 2, 3 and 6 synthesized ones")
    gan_raw: int = option(6, "synthesized batches after each real one without --multi_add_gan; 0 replaces all "
                          "synthesized images by real ones, also with --mix", least=0, most=1000)
    recognizer_only: bool = option(False, "train the recognizer alone on real images, as the baseline of joint "
                                   "training: no GAN is trained, and codes are zeros, or those of --gan_from; with "
                                   "--vgg_init stage0 it starts from stage 0's network",
                                   restore="fixed")
    pairs_per_image: int = 6  # targets of synthesis for each training image
    augment: tuple[str, ...] = option(("mirror",), "none, or changes of the recognizer's real images: "
                                      f"{AUGMENTATION_HELP}",
                                      nargs="+", metavar="NAME[:STRENGTH]")
    ablation: bool = option(False, "use a random third of the synthesized images, another in every recognizer epoch")
    select_on: str = option("val", "images that choose the best recognizer; test: the published code's protocol, whose "
                            "test accuracy is too high; none: cut no validation split, keep the last",
                            choices=("val", "test", "none"))
    mix: float = option(0.0, "synthesized images per real one in every batch, in place of whole synthesized batches "
                        "between real ones; 0 is the paper's way", least=0, most=100, group=BEYOND_RECOGNIZER)
    balanced: bool = option(False, "draw all expressions equally often, also as B in the GAN's pairs and in stage 0, "
                            "and choose the best recognizer by mean class accuracy", group=BEYOND_RECOGNIZER)
    vgg_schedule: str = option("step", "SGD's learning rate: multiplied by 0.97 every 1800 steps, or falling "
                               "to zero over all planned steps along a half cosine", choices=("step", "cosine"),
                               group=BEYOND_RECOGNIZER)
    gate: float = option(0.0, "least quality of the swaps for a recognizer round: before it, a network from which the "
                         "GAN has not learned classifies swaps of selection images, 0 is chance, 1 as often right as "
                         "on the real images; below the value the round uses real images in their place; 0 only warns",
                         least=0, most=1, group=BEYOND_RECOGNIZER)
    targets: str = option("neutral", "the faces that synthesis gives other expressions: neutral ones, or any",
                          choices=("neutral", "any"), group=BEYOND_RECOGNIZER)
    encode_synthesized: bool = option(False, "give the recognizer the codes of the synthesized images themselves, "
                                      "since the swapped codes reveal that they were swapped", group=BEYOND_RECOGNIZER)


@dataclass(frozen=True)
class FaceOptions:
    """The pictures that a command is given, and the alignment of the faces in them."""

    input: tuple[PathName, ...] | None = option(None, "test: the first face; grid: faces that get every expression; "
                                           "recognize: pictures, directories, patterns or videos",
                                           short="-i", nargs="+", metavar="FILE", restore="momentary")
    target: tuple[PathName, ...] | None = option(None, "test: the second face, several with --frames; grid: faces that "
                                            "show the expressions, in place of the run's own examples", short="-t",
                                            nargs="+", metavar="FILE", restore="momentary")
    align: PathName | None = option(None, "find and align the faces first, with YuNet's ONNX file (see datasets.align)",
                               metavar="MODEL", restore="momentary")


@dataclass(frozen=True)
class SwapOptions:
    """The options of ``--mode test``."""

    swap_list: tuple[str, ...] | None = option(None, "expressions of --input and of each --target: names, or "
                                               "positions in -a from 0; for --mode grid that of --input alone "
                                               "suffices", nargs="+", metavar=("I", "T"), restore="momentary")
    frames: int | None = option(None, "draw K steps from no swap to a full swap, in a strip for each target",
                                metavar="K", least=2, most=100, restore="momentary")
    matrix: bool = option(False, "with --frames and two targets: draw both expressions in one matrix, one increasing "
                          "downwards, one to the right", restore="momentary")


@dataclass(frozen=True)
class UseOptions:
    """The other options of what is done with a trained run, and the path of what is written."""

    judge: PathName | None = option(None, "the independent recognizer that judges the swaps; trained if there is none "
                               "yet (default: judge.pth in --checkpoint_dir)", metavar="FILE", restore="momentary")
    output: PathName | None = option(None, "the picture of --mode test, grid and recognize (with .mp4: the video with "
                                "boxes), the file of export (default: result.jpg, grid.jpg, recognized.jpg, "
                                "recognizer.onnx or swap.onnx), the data directory of generate, the directory in "
                                "which evaluate and report write (default: the run's)", short="-o",
                                metavar="PATH", restore="momentary")
    tile: int | None = option(None, "side of the faces in the picture of --mode test and grid, in pixels (default: as "
                              "they are, twice as large below 64)", least=16, most=1024, restore="momentary")


@dataclass(frozen=True)
class Config:
    """All options of one command. A function takes the parts that it needs.

    ``shape.num_classes`` is 0 here, since only the data tell it (:meth:`gan_shape`). ``earlier`` holds the options that
    a resumed run has had up to now, by name.
    """

    task: Task
    data: DataOptions
    run: RunOptions
    loading: LoadingOptions
    hardware: HardwareOptions
    series: SeriesOptions
    shape: GANShape
    recognizer_shape: RecognizerShape
    perceptual: PerceptualOptions
    gan: GANSchedule
    gan_recipe: GANRecipe
    recognizer: RecognizerSchedule
    recognizer_recipe: RecognizerRecipe
    faces: FaceOptions
    swap: SwapOptions
    use: UseOptions
    earlier: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], earlier: Mapping[str, Any] | None = None) -> "Config":
        """Return the configuration with these values by option name; every option must be there, lists become tuples.
        """
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        fields = {name: {entry.field: values[entry.name] for entry in options_of(part)} for name, part in PARTS.items()}
        fields["shape"]["num_classes"] = 0
        return cls(**{name: part(**fields[name]) for name, part in PARTS.items()}, earlier=earlier or {})

    def values(self) -> dict[str, Any]:
        """Return all values by option name, as ``options.json`` holds them: the inverse of :meth:`from_values`."""
        values = {entry.name: getattr(getattr(self, name), entry.field) for name, part in PARTS.items()
                  for entry in options_of(part)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def replaced(self, **values: Any) -> "Config":
        """Return the configuration with other values for some options."""
        return Config.from_values({**self.values(), **values}, self.earlier)

    def gan_shape(self, num_classes: int) -> GANShape:
        """Return the shape of the GAN for this number of expressions."""
        return dataclasses.replace(self.shape, num_classes=num_classes)

    @property
    def is_series(self) -> bool:
        """True for several runs: all folds, or several seeds."""
        return bool(self.series.folds) and self.series.fold is None or bool(self.series.seeds)

    @property
    def validation_seed(self) -> int:
        """The seed of the cut of the validation images: ``--seed``, or that of the first run of ``--seeds``."""
        return self.run.seed if self.run.split_seed in (None, -1) else self.run.split_seed

    @property
    def trains_gan(self) -> bool:
        """True unless the recognizer is trained alone, or with the GAN of another run."""
        return not (self.run.gan_from or self.recognizer.recognizer_only)

    @property
    def resumes(self) -> bool:
        """True if this training resumes a run, as far as there is one, rather than starts one."""
        return self.run.restore is not None or self.run.auto_restore

    @property
    def restored_epoch(self) -> int | None:
        """The GAN epoch that ``--restore N`` names, from 1; None for the newest networks."""
        return self.run.restore if self.run.restore is not None and self.run.restore >= 0 else None


PARTS: dict[str, type] = {name: part for name, part in get_type_hints(Config).items()  # the dataclasses of options
                          if dataclasses.is_dataclass(part)}
GROUPS = {  # the titles of --help → the parts below them
    "what to do": ("task",), "data": ("data", "loading"), "run": ("run",), "folds and seeds": ("series",),
    "networks": ("shape", "recognizer_shape", "hardware"), "perceptual network (stage 0)": ("perceptual",),
    "GAN": ("gan", "gan_recipe"), "recognizer": ("recognizer", "recognizer_recipe"),
    "faces (--mode test, grid, recognize)": ("faces",), "swap (--mode test)": ("swap",),
    "use of a trained run": ("use",),
}


def member_name(kind: str, number: int) -> str:
    """Return the directory of a run in its series: fold, 3 → ``fold_03``."""
    return f"{kind}_{number:02d}"


def grouped_options() -> dict[str, list[Option]]:
    """Return the options of each group by its title, in the order of the help."""
    groups: dict[str, list[Option]] = {}
    for title, parts in GROUPS.items():
        groups.setdefault(title, [])
        for part in parts:
            for entry in options_of(PARTS[part]):
                groups.setdefault(entry.group or title, []).append(entry)
    return groups


OPTIONS = {entry.name: entry for group in grouped_options().values() for entry in group}
DEFAULTS = {name: entry.default for name, entry in OPTIONS.items()}
RUN_KEYS = {"checkpoint_dir", "image_size", "batch_size", "epochs"}  # by which a run's options.json is recognized
