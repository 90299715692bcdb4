"""All options of train.py as typed, frozen values: one dataclass for each part of the program that needs them.

An option's line gives its name, default, meaning, range and effect on a run that is resumed. The parser, the checks,
the schema of ``options.json`` and ``--help`` are all derived from it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, get_type_hints

from options.option import Option, from_options, option, options_of, to_options
from options.presets import PRESETS, SIZES
from options.recipes import BEYOND_RECOGNIZER, GANRecipe, GANShape, RecognizerRecipe, RecognizerShape

MODES = ("train", "test", "evaluate", "grid", "generate", "recognize", "export", "report")


@dataclass(frozen=True)
class Task:
    """The mode of the command, and its presets."""

    mode: str = option("train", "train; test: swap two faces' expressions; evaluate: measure the swaps of the test "
                       "images; grid: draw a sheet of them; generate: write the synthesized training set; recognize: "
                       "name the expressions in any pictures; export: write an ONNX file for other programs; report: "
                       "write report.html", choices=MODES, short="-m", restore="momentary")
    preset: str = option("paper", "defaults of all other options; paper: the paper's; tuned: the joint recipe that "
                         "helped on photographs; demo: a small run on drawn faces", choices=tuple(PRESETS),
                         restore="fixed")
    size: str | None = option(None, "image size, widths, batch sizes and learning rates; paper: the paper's; small: "
                              "for a few CPU cores (default: the preset's)", choices=tuple(SIZES),
                              restore="fixed")
    dry_run: bool = option(False, "print schedule, images, sizes and memory of a training, and estimate its time from "
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
    data_dir: str | None = option(None, "the data directory (default: that of --data, such as datasets/multiple)",
                                  metavar="DIR", restore="free")


@dataclass(frozen=True)
class RunOptions:
    """The directory of a training, and whether it is started or resumed."""

    checkpoint_dir: str | None = option(None, "where the run writes (default: checkpoint/checkpoint_multipie for "
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
    split_seed: int | None = option(None, "seed that chooses the validation images; -1: the seed of each run of --seeds"
                                    " (default: --seed, so that all of --seeds have the same validation images)",
                                    least=-1, restore="fixed")
    gan_from: str | None = option(None, "train only a recognizer, with the GAN of the run in this directory, whose "
                                  "options are the defaults; in a series, each run with the GAN of its own seed or "
                                  "fold, if there is one", metavar="RUN", restore="fixed")
    save_minutes: float = option(10.0, "save the training state at least this often", least=0, restore="free")
    log_every: int = option(10, "steps between two rows of log/metrics.csv", least=1, restore="free")


@dataclass(frozen=True)
class LoadingOptions:
    """The decoding and caching of images."""

    num_workers: int = option(2, "threads that decode images, or read them from --cache disk", least=0, most=256,
                              restore="free")
    cache: str = option("auto", "where decoded images are kept; disk: in one file in --checkpoint_dir (only --mode "
                        "train); auto: ram or else disk, if a third of its free space suffices", restore="free",
                        choices=("auto", "ram", "disk", "none"))


@dataclass(frozen=True)
class HardwareOptions:
    """The device that computes the networks, and its precision."""

    gpu: tuple[int, ...] | None = option(None, "GPU to use, several to train on all of them, -1 for the CPU "
                                         "(default: the first GPU, if any)", short="-g", nargs="+", least=-1, most=1023,
                                         restore="momentary")
    amp: str = option("auto", "mixed precision; auto is bf16 on GPUs that have it, and on CPUs that have it if it is "
                      "faster there; a run keeps what was chosen at its start", choices=("auto", "off", "bf16", "fp16"))
    compile: bool = option(False, "speed the networks up with torch.compile, which compiles for minutes at the start")
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

    perceptual: str | None = option(None, "use the trained VGG19-bn in this file instead of training one",
                                    metavar="FILE")
    perceptual_epochs: int = option(20, "epochs of its training on the real training images", least=0, most=100000,
                                    restore="fixed")
    perceptual_lr: float = option(1e-4, "AdamW's initial learning rate in stage 0; it falls to zero", least=0,
                                  most=1000)
    vgg_init: str = option("imagenet", "initial weights of VGG19-bn: torchvision's (--vgg_width 64 only), random ones, "
                           "or a state dict; stage0: random ones for the perceptual network, and those of the trained "
                           "perceptual network for the recognizer", metavar="imagenet|none|stage0|FILE")


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
    pairs_per_image: int = option(6, "targets of synthesis for each training image", least=1, most=1000)
    ablation: bool = option(False, "use a random third of the synthesized images, another in every recognizer epoch")
    select_on: str = option("val", "images that choose the best recognizer; test: the published code's protocol, whose "
                            "test accuracy is too high; none: cut no validation split, keep the last",
                            choices=("val", "test", "none"))
    mix: float = option(0.0, "synthesized images per real one in every batch, in place of whole synthesized batches "
                        "between real ones; 0 is the paper's way", least=0, most=100, group=BEYOND_RECOGNIZER)
    balanced: bool = option(False, "draw all expressions equally often, also as B in the GAN's pairs and in stage 0, "
                            "and choose the best recognizer by mean class accuracy", group=BEYOND_RECOGNIZER)
    vgg_schedule: str = option("step", "SGD's learning rate: multiplied by 0.97 every --vgg_lr_decay_steps, or falling "
                               "to zero over all planned steps along a half cosine", choices=("step", "cosine"),
                               group=BEYOND_RECOGNIZER)
    targets: str = option("neutral", "the faces that synthesis gives other expressions: neutral ones, or any",
                          choices=("neutral", "any"), group=BEYOND_RECOGNIZER)
    encode_synthesized: bool = option(False, "give the recognizer the codes of the synthesized images themselves, "
                                      "since the swapped codes reveal that they were swapped", group=BEYOND_RECOGNIZER)


@dataclass(frozen=True)
class JudgeOptions:
    """The independent recognizer of ``--mode evaluate``."""

    judge: str | None = option(None, "the independent recognizer that judges the swaps; trained if there is none yet "
                               "(default: judge.pth in --checkpoint_dir)", metavar="FILE", restore="momentary")
    judge_epochs: int = option(25, "epochs of its training on the real training images", least=1, most=100000,
                               restore="momentary")


@dataclass(frozen=True)
class FaceOptions:
    """The pictures that a command is given, and the alignment of the faces in them."""

    input: tuple[str, ...] | None = option(None, "test: the first face; grid: faces that get every expression; "
                                           "recognize: pictures, directories, patterns or videos",
                                           short="-i", nargs="+", metavar="FILE", restore="momentary")
    target: tuple[str, ...] | None = option(None, "test: the second face, several with --frames; grid: faces that show "
                                            "the expressions, in place of the run's own examples", short="-t",
                                            nargs="+", metavar="FILE", restore="momentary")
    align: str | None = option(None, "find and align the faces first, with YuNet's ONNX file (see datasets.align)",
                               metavar="MODEL", restore="momentary")
    margin: float = option(0.0, "margin of the alignment, as it was for the training images", least=-0.4, most=10,
                           restore="momentary")


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
    paste: bool = option(False, "also put the swapped faces back into the whole photographs: result_input.jpg, "
                         "result_target.jpg", restore="momentary")


@dataclass(frozen=True)
class UseOptions:
    """The options of ``--mode recognize`` and ``--mode export``."""

    every: int = option(1, "recognize every N-th frame of a video", least=1, metavar="N", restore="momentary")
    which: str = option("recognizer", "what to export; recognizer: an image to probabilities; swap: two faces and "
                        "their labels to both swaps", choices=("recognizer", "swap"), restore="momentary")


@dataclass(frozen=True)
class OutputOptions:
    """The path and the size of what is written."""

    output: str | None = option(None, "the picture of --mode test, grid and recognize, the file of export (default: "
                                "result.jpg, grid.jpg, recognized.jpg, recognizer.onnx or swap.onnx), the data "
                                "directory of generate", short="-o", metavar="PATH", restore="momentary")
    rows: int = option(4, "persons on the sheet of --mode grid", least=1, most=1000, restore="momentary")


@dataclass(frozen=True)
class Config:
    """All options of one command. A function takes the parts that it needs.

    ``shape.num_classes`` is 0 here, since only the data tell it (:meth:`gan_shape`).
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
    judge: JudgeOptions
    faces: FaceOptions
    swap: SwapOptions
    use: UseOptions
    output: OutputOptions

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "Config":
        """Return the configuration with these values by option name; every option must be there."""
        return cls(**{name: from_options(part, values, **({"num_classes": 0} if part is GANShape else {}))
                      for name, part in PARTS.items()})

    def values(self) -> dict[str, Any]:
        """Return all values by option name, as ``options.json`` holds them."""
        return {name: value for part in PARTS for name, value in to_options(getattr(self, part)).items()}

    def replaced(self, **values: Any) -> "Config":
        """Return the configuration with other values for some options."""
        return Config.from_values({**self.values(), **values})

    def gan_shape(self, num_classes: int) -> GANShape:
        """Return the shape of the GAN for this number of expressions."""
        return dataclasses.replace(self.shape, num_classes=num_classes)

    def members(self) -> list["Config"]:
        """Return the configuration of each run of a series; with ``--restore`` each is resumed if it has begun."""
        members = []
        for position in range(self.series.folds or self.series.seeds):
            kind, number = ("fold", position + 1) if self.series.folds else ("seed", self.run.seed + position)
            name = member_name(kind, number)
            source = Path(self.run.gan_from or "") / name
            gan_from = str(source) if self.run.gan_from and source.is_dir() else self.run.gan_from
            members.append(self.replaced(seeds=None, jobs=1, auto_restore=self.resumes, restore=None, gan_from=gan_from,
                                         checkpoint_dir=str(Path(self.run.checkpoint_dir) / name), **{kind: number}))
        return members

    @property
    def is_series(self) -> bool:
        """True for several runs: all folds, or several seeds."""
        return bool(self.series.folds) and self.series.fold is None or bool(self.series.seeds)

    @property
    def validation_seed(self) -> int:
        """The seed of the cut of the validation images."""
        return self.run.seed if self.run.split_seed in (None, -1) else self.run.split_seed

    @property
    def resumes(self) -> bool:
        """True if this training resumes a run, as far as there is one, rather than starts one."""
        return self.run.restore is not None or self.run.auto_restore

    @property
    def restored_epoch(self) -> int | None:
        """The GAN epoch that ``--restore N`` names, from 1; None for the newest networks."""
        return self.run.restore if self.run.restore is not None and self.run.restore >= 0 else None


PARTS: dict[str, type] = get_type_hints(Config)  # the dataclasses by their names in Config
GROUPS = {  # the titles of --help → the parts below them
    "what to do": ("task",), "data": ("data", "loading"), "run": ("run",), "folds and seeds": ("series",),
    "networks": ("shape", "recognizer_shape", "hardware"), "perceptual network (stage 0)": ("perceptual",),
    "GAN": ("gan", "gan_recipe"), "recognizer": ("recognizer", "recognizer_recipe"),
    "measuring (--mode evaluate)": ("judge",), "faces (--mode test, grid, recognize)": ("faces",),
    "swap (--mode test)": ("swap",), "use (--mode recognize, export)": ("use",), "what to write": ("output",),
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
