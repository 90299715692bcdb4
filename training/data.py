"""The data of a training: read, check, split and decode them."""

import os
from pathlib import Path
from typing import Any, Sequence

import torch

from datasets.aligning.directory import alignment_of
from datasets.cache import DiskCache, bytes_of, chosen_cache
from datasets.drawing.data_set import make_dataset
from datasets.files import check_output
from datasets.folds import check_kept_fold, fold_list, fold_metadata, with_fold
from datasets.layout import (DATA_SETS, Layout, Sample, check_classes, check_images, check_not_moved, check_splits,
                             read_layout)
from datasets.loading import Images
from datasets.splits import with_validation
from models.checkpoints import gan_config, gan_file
from models.parallel import Processes
from options.command_line import same_directory
from options.config import Config
from options.presets import PRESETS
from training.run_directory import RunDirectory
from utils import UserError, fingerprint

CACHES = ("ram", "disk", "none")  # by falling need of memory


def read_training_data(config: Config, world: int) -> Layout:
    """Return the data's lists for a training by ``world`` processes.

    Raises UserError for every fault that would stop the training later.
    """
    batch_size, vgg_batch_size = config.gan.batch_size, config.recognizer.vgg_batch_size
    if min(batch_size, vgg_batch_size // 2) < world:
        raise UserError(f"--batch_size {batch_size} and --vgg_batch_size {vgg_batch_size} are too small for {world} "
                        f"processes: at least {world} and {2 * world}")
    data_set, options = DATA_SETS[config.data.data], config.data
    run = config.run.checkpoint_dir if config.resumes else config.run.gan_from
    metadata = gan_config(Path(run) / "model") if run else {}
    neutral = options.neutral or metadata.get("neutral_name")
    root = options.data_dir or default_directory(data_set.directory, metadata.get("data_dir") or "")
    check_not_moved(root, metadata.get("data_dir"))
    layout = read_layout(root, options.attributes,
                         known=metadata.get("listed") if options.data_dir else data_set.expressions,
                         need_test=not config.series.folds, neutral=neutral)
    check_output(config.run.checkpoint_dir, "--checkpoint_dir", trees=[layout.root], directory=True)
    check_splits(layout)
    check_images(layout.split("all") + layout.target_only)
    return layout


def default_directory(directory: str, known: str) -> str:
    """Return the directory of --data, or where a run knows it if there is none in the current directory."""
    is_elsewhere = not Path(directory).is_dir() and Path(known).parts[-2:] == Path(directory).parts
    return known if is_elsewhere else directory


def split_data(config: Config, layout: Layout) -> Layout:
    """Return the data with a run's test images, those of its fold if it has one, and its validation images.

    Raises UserError if they cannot be split.
    """
    series, select_on = config.series, config.recognizer.select_on
    if series.fold:
        layout = with_fold(layout, series.folds, series.fold, config.run.seed, series.folds_by)
    if not layout.test:
        raise UserError(f"{layout.root}: no test image of these expressions; list some in images_test.list, or train "
                        "with --folds")
    if select_on == "val":
        layout = with_validation(layout, config.validation_seed)
    check_classes(layout, config.recognizer.targets == "any")
    if select_on != "none" and not selection(layout, select_on):
        raise UserError(f"{layout.root}: too few images to cut a validation split from; list some in images_val.list, "
                        "or use --select_on none")
    return layout


def selection(layout: Layout, select_on: str) -> list[Sample]:
    """Return the samples on which networks in training are evaluated; ``none`` evaluates, but chooses nothing."""
    return layout.test if select_on == "test" else layout.val


def check_fold(config: Config, layout: Layout) -> None:
    """Check that a resumed run has the fold with which it was started. Raises UserError if it has not."""
    if config.series.fold:
        check_kept_fold(layout.test, Path(config.run.checkpoint_dir) / "splits" / fold_list(config.series.fold))


def check_gan_run(config: Config, num_classes: int) -> None:
    """Check that the run of ``--gan_from`` has what a new run takes from it. Raises UserError if it has not.

    That is its GAN, and its perceptual network if the recognizer starts from it and ``--checkpoint_dir`` has none.
    """
    source, name = config.run.gan_from, f"VGG_loss/{num_classes}_max_ckpt.t7"
    if not source:
        return
    file = gan_file(Path(source) / "model", "Enc", None)
    if not file.is_file():
        raise UserError(f"--gan_from {source}: holds no GAN for {config.run.checkpoint_dir} ({file} is not there); "
                        "train it first, or name another run")
    folders = Path(source), Path(config.run.checkpoint_dir)
    if config.perceptual.vgg_init == "stage0" and not config.perceptual.perceptual \
            and not any((folder / name).is_file() for folder in folders):
        raise UserError(f"--vgg_init stage0: the run of --gan_from {source} has no perceptual network ({name}); use "
                        "imagenet, none or a file")


def check_overwrite(config: Config, layout: Layout) -> None:
    """Check that ``--overwrite`` moves no input of the new run aside. Raises UserError if it does."""
    folder, perceptual = Path(config.run.checkpoint_dir).resolve(), config.perceptual
    for flag, path in (("data_dir", layout.root), ("perceptual", perceptual.perceptual),
                       ("vgg_init", perceptual.vgg_init), ("gan_from", config.run.gan_from)):
        if path and Path(path).exists() and Path(path).resolve().is_relative_to(folder):
            raise UserError(f"--overwrite: --{flag} {path} lies in {folder}, which would be moved aside; copy it to "
                            "another place, or choose another --checkpoint_dir")


def checkpoint_metadata(config: Config, layout: Layout) -> dict[str, Any]:
    """Return the metadata with which a checkpoint's weights can be used alone."""
    names, select_on, series = layout.expressions, config.recognizer.select_on, config.series
    fold = fold_metadata(layout.test, series.fold, series.folds, series.folds_by, config.run.seed) \
        if series.fold else None
    return {"expressions": list(names), "listed": list(layout.listed),
            "neutral_name": dict(enumerate(names)).get(layout.neutral), "image_size": config.shape.image_size,
            "alignment": alignment_of(layout.root), "data_dir": os.path.abspath(layout.root), "selected_on": select_on,
            "images": fingerprint([select_on, *([s.name, s.label] for s in layout.train), "selection",
                                   *([s.name, s.label] for s in selection(layout, select_on))]),
            "fold": fold, "backbone": config.recognizer_shape.backbone,
            "gan": vars(config.gan_shape(len(names))).copy()}


# ------------------------------------------------------------------------------------------------ decoded images

def decoded_images(config: Config, samples: Sequence[Sample], directory: RunDirectory, anew: bool,
                   device: torch.device, processes: Processes) -> Images:
    """Return the images of samples, decoded once if ``--cache`` asks for it.

    With ``--cache disk`` the main process claims the directory and writes a file there while the others wait. A file
    of an earlier start is used again unless ``anew``. Raises UserError if there is no room.
    """
    size, folder = config.shape.image_size, directory.folder / "cache"
    choice = CACHES.index(chosen_cache(config.loading.cache, bytes_of(samples, size), folder))
    choice = CACHES[int(processes.max(torch.tensor(choice, device=device)))]  # all make the thriftiest choice
    if choice != "disk":
        return Images(samples, size, choice)
    store = DiskCache(folder, samples, size)

    def write() -> None:
        directory.claim()
        if anew or not store.is_complete():
            store.write()

    processes.run_on_main(write)
    if processes.any(not store.is_complete()):  # a machine does not see the main process's files
        if config.loading.cache == "auto":
            return Images(samples, size, "none")
        raise UserError(f"{store.path}: not there; several machines need a --checkpoint_dir that all of them see, or "
                        "--cache none")
    return Images(samples, size, "none", store)


# ------------------------------------------------------------------------------------------------------ the demo

def draws_demo(config: Config) -> bool:
    """Return whether the training is on the demo's data directory, which this command may draw."""
    return config.task.preset == "demo" and same_directory(config.data.data_dir, PRESETS["demo"]["data_dir"])


def is_demo(config: Config) -> bool:
    """Return whether this is the demo, which copies its results to the current directory, not just its preset."""
    return draws_demo(config) and same_directory(config.run.checkpoint_dir, PRESETS["demo"]["checkpoint_dir"])


def draw_demo(config: Config, processes: Processes) -> None:
    """Draw the built-in faces into the demo's own data directory if they are absent."""
    def draw() -> None:
        if not (Path(config.data.data_dir) / "images.list").is_file():
            print(f"drawing the built-in faces into {config.data.data_dir}")
            make_dataset(config.data.data_dir, image_size=config.shape.image_size)

    if draws_demo(config):
        processes.run_on_main(draw)
        processes.run_on_each_machine(draw)  # on machines that do not see the main process's files
