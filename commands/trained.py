"""What was trained, as the modes find it: networks, names and data of the run that the options point to."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Sequence

import utils
from datasets.aligning.directory import alignment_of
from datasets.crops import Preparation
from datasets.folds import with_kept_fold
from datasets.layout import DATA_SETS, Layout, check_images, image_directory, read_layout
from datasets.splits import with_kept_validation
from models import checkpoints
from models.checkpoints import Trained, load_recognizer
from models.swap_gan import SwapGAN
from utils import UserError


def load_gan(options: argparse.Namespace) -> tuple[SwapGAN, list[str]]:
    """The encoder and decoder of a run and the names of its expressions; UserError where they do not fit -a."""
    folder, epoch = Path(options.checkpoint_dir) / "model", chosen_epoch(options)
    if not checkpoints.gan_file(folder, "Enc", epoch).is_file():
        raise UserError(f"--restore: {checkpoints.gan_file(folder, 'Enc', epoch)} is not there; train first, or name "
                        "the run's directory with --checkpoint_dir (or its --data_dir or --preset)")
    names = checkpoints.gan_config(folder).get("expressions") or options.attributes \
        or list(DATA_SETS[options.data].expressions)
    if options.attributes and list(options.attributes) != list(names):
        raise UserError(f"-a {' '.join(options.attributes)}: the run in {options.checkpoint_dir} was trained with "
                        f"-a {' '.join(names)}, in this order")
    device = utils.pick_device(options.gpu)
    return checkpoints.load_swap_gan(folder, epoch, names, options.image_size, device), names


def load_trained(options: argparse.Namespace) -> Trained:
    """The best recognizer of a run, with names and image size also where its files carry none (the reference's own).

    ``--checkpoint_dir`` is the run's directory, or its ``VGG``. UserError where there is none or ``-a`` does not fit.
    """
    if chosen_epoch(options) is not None:
        raise UserError(f"--restore {options.restore}: a run keeps its best recognizer alone; leave the number out")
    run = Path(options.checkpoint_dir)
    if not run.is_dir():
        raise UserError(f"--checkpoint_dir {run}: no such directory; name the run's, or train first")
    folder = run if (run / "max_ckpt.t7").is_file() else run / "VGG"
    trained = load_recognizer(folder, utils.pick_device(options.gpu))
    names = names_of(trained, options.attributes, options.data, folder)
    return replace(trained, config={"image_size": options.image_size, **trained.config, "expressions": names})


def names_of(trained: Trained, attributes: Sequence[str] | None, data: int, where: object) -> list[str]:
    """The names of a recognizer's expressions: its own, else ``-a``, else those of ``--data``; UserError for others."""
    names = trained.names or list(attributes or DATA_SETS[data].expressions)
    if attributes and list(attributes) != names:
        raise UserError(f"-a {' '.join(attributes)}: the recognizer was trained with -a {' '.join(names)}, in this "
                        "order")
    if len(names) != trained.num_classes:
        raise UserError(f"{where}: the recognizer tells {trained.num_classes} expressions apart, not the {len(names)} "
                        f"of {' '.join(names)}; name them with -a, or the data set with --data")
    return names


def chosen_epoch(options: argparse.Namespace) -> int | None:
    """The epoch that ``--restore N`` names, None for the newest networks."""
    return options.restore if options.restore is not None and options.restore >= 0 else None


def read_data(options: argparse.Namespace, names: list[str]) -> Layout:
    """The data directory of the run, with the fold and the validation split that the run has kept.

    UserError for missing images.
    """
    data, run = DATA_SETS[options.data], Path(options.checkpoint_dir)
    config = checkpoints.gan_config(run / "model")
    fold = config.get("fold")
    layout = read_layout(options.data_dir or data.directory, names, neutral=neutral_of(options),
                         known=None if options.data_dir else data.expressions, need_test=not fold)
    if fold:
        layout = with_kept_fold(layout, run, fold)
    try:
        layout = with_kept_validation(layout, run)
    except UserError:  # of other data than the run's, the run has kept nothing
        if Path(config.get("data_dir", layout.root)).resolve() == layout.root.resolve():
            raise
    check_images(layout.split("all") + layout.target_only)
    return layout


def neutral_of(options: argparse.Namespace) -> str | None:
    """The expression that serves as neutral: ``--neutral``, else the one of the run in ``--checkpoint_dir``, if any."""
    return options.neutral or checkpoints.gan_config(Path(options.checkpoint_dir) / "model").get("neutral_name")


def images_of(config: dict[str, Any]) -> list[Path]:
    """The directory with the images that a run was trained on, as its checkpoint tells: nothing is written there."""
    return [image_directory(Path(config["data_dir"]))] if "data_dir" in config else []


def preparation(options: argparse.Namespace, image_size: int, aligned: dict[str, Any] | None,
                paths: Sequence[str | Path]) -> Preparation:
    """What was done to the training pictures; UserError where ``--margin`` says something else.

    ``aligned`` is the alignment that the run's checkpoints tell of. A warning where the training faces were aligned and
    those in ``paths`` are not known to be.
    """
    if aligned is None:
        return Preparation(image_size, options.align, None, options.margin)
    if options.margin not in (0.0, aligned["margin"]):
        raise UserError(f"--margin {options.margin}: the training faces were aligned with --margin "
                        f"{aligned['margin']}, which is used anyway; leave it out")
    if not options.align and not all(alignment_of(folder) == aligned for folder in folders_of(paths)):
        print("warning: the training faces were aligned, and these pictures are not known to be; find and align their "
              "faces with --align MODEL", file=sys.stderr)
    return Preparation(image_size, options.align, aligned["size"], aligned["margin"])


def folders_of(paths: Sequence[str | Path]) -> set[Path]:
    """The directories of these images; of a data directory itself where they lie in its ``data``."""
    folders = {Path(path).parent for path in paths}
    return {folder.parent if folder.name == "data" else folder for folder in folders}
