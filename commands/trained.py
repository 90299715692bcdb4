"""What was trained, as the commands find it: networks, names and data of the run that the options name."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Sequence

import torch

from datasets.aligning.directory import alignment_of
from datasets.crops import Preparation
from datasets.folds import with_kept_fold
from datasets.layout import DATA_SETS, Layout, check_images, check_not_moved, image_directory, read_layout
from datasets.loading import content_digests
from datasets.splits import with_kept_validation
from models import checkpoints
from models.checkpoints import TrainedRecognizer, TrainedSwap, load_recognizer
from options.config import Config, FaceOptions
from system.devices import pick_device
from utils import UserError


def load_gan(config: Config) -> TrainedSwap:
    """Load the encoder and decoder of a run, with its names and metadata. Raises UserError if they do not fit -a."""
    run, attributes = config.run.checkpoint_dir, config.data.attributes
    folder, epoch = Path(run) / "model", config.restored_epoch
    if not checkpoints.gan_file(folder, "Enc", epoch).is_file():
        raise UserError(f"--restore: {checkpoints.gan_file(folder, 'Enc', epoch)} is not there; train first, or name "
                        "the run's directory with --checkpoint_dir (or its --data_dir or --preset)")
    trained = checkpoints.load_trained_swap(folder, epoch, attributes or DATA_SETS[config.data.data].expressions,
                                            config.shape.image_size, pick_device(config.hardware.gpu))
    if attributes and list(attributes) != trained.names:
        raise UserError(f"-a {' '.join(attributes)}: the run in {run} was trained with -a {' '.join(trained.names)}, "
                        "in this order")
    return trained


def load_trained(config: Config, device: torch.device | None = None) -> TrainedRecognizer:
    """Load the best recognizer of a run, with names and image size also if its files hold none (the published code's).

    ``--checkpoint_dir`` is the run's directory, or its ``VGG``. Raises UserError if there is none, or for another -a.
    """
    if config.restored_epoch is not None:
        raise UserError(f"--restore {config.run.restore}: a run keeps only its best recognizer; leave the number out")
    run = Path(config.run.checkpoint_dir)
    run = run.parent if run.is_file() else run
    if not run.is_dir():
        raise UserError(f"--checkpoint_dir {run}: no such directory; name the run's, or train first")
    folder = run if (run / "max_ckpt.t7").is_file() else run / "VGG"
    trained = load_recognizer(folder, device or pick_device(config.hardware.gpu))
    names = names_of(trained, config.data.attributes, config.data.data, folder)
    return replace(trained, config={"image_size": config.shape.image_size, **trained.config, "expressions": names})


def recognizer_of(config: Config, device: torch.device) -> TrainedRecognizer | None:
    """Load the best recognizer of a run if it has one and its newest networks are used."""
    files = [Path(config.run.checkpoint_dir) / "VGG" / name for name in ("max_ckpt.t7", "Enc_max.pth")]
    is_there = config.restored_epoch is None and all(file.is_file() for file in files)
    return load_trained(config, device) if is_there else None


def names_of(trained: TrainedRecognizer, attributes: Sequence[str] | None, data: int, where: object) -> list[str]:
    """The names of a recognizer's expressions: its own, else ``-a``, else ``--data``'s. Raises UserError for others."""
    names = trained.names or list(attributes or DATA_SETS[data].expressions)
    if attributes and list(attributes) != names:
        raise UserError(f"-a {' '.join(attributes)}: the recognizer was trained with -a {' '.join(names)}, in this "
                        "order")
    if len(names) != trained.num_classes:
        raise UserError(f"{where}: the recognizer tells {trained.num_classes} expressions apart, not the {len(names)} "
                        f"of {' '.join(names)}; name them with -a, or the data set with --data")
    return names


def read_data(config: Config, trained: TrainedSwap, used: Sequence[str] = ("train", "test")) -> Layout:
    """Read the data directory of the run, with the fold and the validation split that the run has kept.

    Raises UserError for missing images, and unless ``--force`` is given for others than those of the run among the
    ``used`` ones.
    """
    data_set, run, data_dir = DATA_SETS[config.data.data], Path(config.run.checkpoint_dir), config.data.data_dir
    metadata = trained.metadata
    fold, own = metadata.get("fold"), Path(metadata.get("data_dir") or "")
    root = data_dir or data_set.directory
    if not data_dir and own.is_absolute() and own.parts[-2:] == Path(root).parts:
        root = str(own)  # wherever the command is started
    check_not_moved(root, metadata.get("data_dir"))
    layout = read_layout(root, trained.names,
                         neutral=config.data.neutral or metadata.get("neutral_name"),
                         known=None if data_dir else data_set.expressions, need_test=not fold)
    if fold:
        layout = with_kept_fold(layout, run, fold)
    try:
        layout = with_kept_validation(layout, run)
    except UserError:  # of other data than the run's, the run has kept nothing
        if Path(metadata.get("data_dir", layout.root)).resolve() == layout.root.resolve():
            raise
    check_images(layout.split("all") + layout.target_only)
    if not config.run.force:
        check_contents(layout, metadata, run, "name the directory that they have moved to with --data_dir, or use "
                       "these with --force", used)
    return layout


def check_contents(layout: Layout, metadata: dict[str, Any], run: Path, advice: str,
                   parts: Sequence[str] = ("train", "test")) -> None:
    """Raise UserError if images are others than those of a run; an older run's are not known."""
    known = metadata.get("content")
    found = content_digests(layout, metadata.get("selected_on", "val"), parts) if known else {}
    for part in found:
        if found[part] != known[part]:
            raise UserError(f"{layout.root}: its {part}ing images are not those of the run in {run}; {advice}")


def images_of(metadata: dict[str, Any]) -> list[Path]:
    """Return the directory with a run's training images, as its checkpoint tells: nothing is written there."""
    return [image_directory(Path(metadata["data_dir"]))] if metadata.get("data_dir") else []


def preparation(options: FaceOptions, image_size: int, aligned: dict[str, Any] | None,
                paths: Sequence[str | Path]) -> Preparation:
    """What was done to the training pictures. Raises UserError if ``--margin`` says something else.

    ``aligned`` is the alignment that the run's checkpoints tell of. A warning where the training faces were aligned and
    those in ``paths`` are not known to be.
    """
    if aligned is None:
        return Preparation(image_size, options.align, None, options.margin)
    if options.margin not in (0.0, aligned["margin"]):
        raise UserError(f"--margin {options.margin}: the training faces were aligned with --margin "
                        f"{aligned['margin']}, which is used anyway; leave it out")
    folders = {Path(path).parent for path in paths}
    folders = {folder.parent if folder.name == "data" else folder for folder in folders}  # a data directory's own
    if not options.align and not all(alignment_of(folder) == aligned for folder in folders):
        print("warning: the training faces were aligned, and these pictures are not known to be; find and align their "
              "faces with --align MODEL", file=sys.stderr)
    return Preparation(image_size, options.align, aligned["size"], aligned["margin"])
