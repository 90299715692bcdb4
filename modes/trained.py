"""A trained GAN as the modes find it: networks, names and data of the run that the options point to."""

from __future__ import annotations

import argparse
from pathlib import Path

import utils
from datasets.layout import DATA_SETS, Layout, check_images, read_layout
from datasets.splits import with_kept_validation
from models import checkpoints
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


def chosen_epoch(options: argparse.Namespace) -> int | None:
    """The epoch that ``--restore N`` names, None for the newest networks."""
    return options.restore if options.restore is not None and options.restore >= 0 else None


def read_data(options: argparse.Namespace, names: list[str]) -> Layout:
    """The data directory of the run, with the validation split that the run has kept; UserError for missing images."""
    data = DATA_SETS[options.data]
    layout = read_layout(options.data_dir or data.directory, names, neutral=options.neutral,
                         known=None if options.data_dir else data.expressions)
    layout = with_kept_validation(layout, Path(options.checkpoint_dir))
    check_images(layout.split("all") + layout.target_only)
    return layout
