"""The networks, names and data of the run that the options name, as the commands load them."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Sequence

import numpy
import torch

from datasets.crops import Preparation
from datasets.layout import DATA_SETS, Layout, Sample, alignment_of, check_images, check_not_moved, read_layout
from datasets.lists import image_directory, read_lists
from datasets.loading import Images
from datasets.splits import with_kept_fold, with_kept_validation
from models import checkpoints
from models.checkpoints import TrainedRecognizer, TrainedSwap, load_recognizer, weights_digest
from options.command_line import read_run_options
from options.config import Config, FaceOptions
from training.facts import Facts, alignment_text, findings
from utils import UserError, pick_device


def load_gan(config: Config) -> TrainedSwap:
    """Load the encoder and decoder of a run, with its names and metadata.

    Raises UserError if they are not there, or if ``-a`` names other expressions.
    """
    run, attributes = config.run.checkpoint_dir, config.data.attributes
    folder, epoch = Path(run) / "model", config.restored_epoch
    if not checkpoints.gan_file(folder, "Enc", epoch).is_file():
        options = Path(run) / "options.json"
        if options.is_file() and read_run_options(options).get("recognizer_only"):
            raise UserError(f"--checkpoint_dir {run}: this run has no GAN (--recognizer_only); name one that has")
        raise UserError(f"--restore: {checkpoints.gan_file(folder, 'Enc', epoch)} is not there; train first, or name "
                        "the run's directory with --checkpoint_dir (or its --data_dir or --preset)")
    trained = checkpoints.load_trained_swap(folder, epoch, attributes or DATA_SETS[config.data.data].expressions,
                                            config.shape.image_size, pick_device(config.hardware.gpu))
    check_attributes(attributes, trained.names, folder)
    return trained


def check_attributes(attributes: Sequence[str] | None, names: Sequence[str], folder: Path) -> None:
    """Check that ``-a``, if it is given, names the expressions of a network. Raises UserError if it does not."""
    if attributes and list(attributes) != list(names):
        raise UserError(f"-a {' '.join(attributes)}: the network in {folder} was trained with -a {' '.join(names)}, in "
                        "this order")


def load_best_recognizer(config: Config, device: torch.device | None = None) -> TrainedRecognizer:
    """Load the best recognizer of a run; names and size come from the options if its files hold none.

    Files of the published code hold none. ``--checkpoint_dir`` is the run's directory, or its ``VGG``. Prints a warning
    if its encoder is not the one that it was trained with. Raises UserError if there is no recognizer, or if ``-a``
    names other expressions.
    """
    if config.restored_epoch is not None:
        raise UserError(f"--restore {config.run.restore}: a run keeps only its best recognizer; leave the number out")
    run = Path(config.run.checkpoint_dir)
    run = run.parent if run.is_file() else run
    if not run.is_dir():
        raise UserError(f"--checkpoint_dir {run}: no such directory; name the run's, or train first")
    folder = run if (run / "max_ckpt.t7").is_file() else run / "VGG"
    trained = load_recognizer(folder, device or pick_device(config.hardware.gpu))
    for finding in findings(Facts(encoder=trained.config.get("encoder")),
                            Facts(encoder=weights_digest(trained.encoder))):
        print(f"warning: {finding}", file=sys.stderr)
    names = names_of(trained, config.data.attributes, config.data.data, folder)
    return replace(trained, config={"image_size": config.shape.image_size, **trained.config, "expressions": names})


def recognizer_if_there(config: Config, device: torch.device) -> TrainedRecognizer | None:
    """Load the best recognizer of a run; return None if it has none, or if ``--restore N`` chooses older networks."""
    files = [Path(config.run.checkpoint_dir) / "VGG" / name for name in ("max_ckpt.t7", "Enc_max.pth")]
    is_there = config.restored_epoch is None and all(file.is_file() for file in files)
    return load_best_recognizer(config, device) if is_there else None


def facts_of(folder: Path) -> Facts:
    """Return the facts of the recognizer in a directory, whose options those of an older version have beside them.

    Raises UserError if its file is missing or damaged.
    """
    path, options = folder / "max_ckpt.t7", folder.parent / "options.json"
    checkpoint = checkpoints.load_checkpoint(path)
    facts = Facts.of_metadata(checkpoints.config_in(checkpoint, path) if isinstance(checkpoint, dict) else {})
    return facts if facts.options or not options.is_file() else replace(facts, options=read_run_options(options))


def names_of(trained: TrainedRecognizer, attributes: Sequence[str] | None, data: int, folder: Path) -> list[str]:
    """Return the names of a recognizer's expressions: its own, else those of ``-a``, else those of ``--data``.

    Raises UserError if ``-a`` differs from its own names, or their number from that of its classes.
    """
    names = trained.names or list(attributes or DATA_SETS[data].expressions)
    check_attributes(attributes, names, folder)
    if len(names) != trained.num_classes:
        raise UserError(f"{folder}: the recognizer has {trained.num_classes} classes, not the {len(names)} expressions "
                        f"{' '.join(names)}; name them with -a, or the data set with --data")
    return names


def read_data(config: Config, trained: TrainedSwap, splits: Sequence[str] = ("train", "test")) -> Layout:
    """Read the data directory of the run, with the fold and the validation split that the run has kept.

    Raises UserError if images are missing or, without ``--force``, if the images of the ``splits`` that are used differ
    from those of the run.
    """
    data_set, run, data_dir = DATA_SETS[config.data.data], Path(config.run.checkpoint_dir), config.data.data_dir
    metadata = trained.metadata
    trained_on, root = Path(metadata.get("data_dir") or ""), data_dir or data_set.directory
    if not data_dir and trained_on.is_absolute() and trained_on.parts[-2:] == Path(root).parts:
        root = str(trained_on)  # absolute, so that the command can be started in any directory
    layout = read_run_data(root, metadata, trained.names, metadata.get("listed") if data_dir else data_set.expressions,
                           run, config.data.neutral)
    check_images(layout.split("all") + layout.target_only)
    if not config.run.force:
        check_contents(layout, metadata, run, "name the directory that they have moved to with --data_dir, or use "
                       "these with --force", splits)
    return layout


def read_run_data(root: str | Path, metadata: dict[str, Any], names: Sequence[str], known: Sequence[str] | None,
                  run: Path, neutral: str | None = None, split: str = "all") -> Layout:
    """Read a data directory with the expressions of a run, and with its fold and validation split if it has kept them.

    ``names`` are the run's expressions, and ``known`` those of the labels of a directory that names none. For the test
    split alone the test list is enough. Raises UserError if lists of the ``split`` are missing, or do not fit the run.
    """
    check_not_moved(root, metadata.get("data_dir"))
    own = Path(metadata.get("data_dir") or "").resolve() == Path(root).resolve()
    layout = read_layout(root, names, known=known, neutral=neutral or metadata.get("neutral_name"), need_test=False,
                         complete=split != "test", user=None if own else f"the run in {run}")
    if split == "test" and not layout.test and not metadata.get("fold"):
        read_lists(Path(root))  # says which list is missing
    if metadata.get("fold"):
        layout = with_kept_fold(layout, run, metadata["fold"])
    try:
        return with_kept_validation(layout, run) if split != "test" else layout
    except UserError:  # the run has kept no validation split of other data
        if own:
            raise
    return layout


def check_contents(layout: Layout, metadata: dict[str, Any], run: Path, advice: str, splits: Sequence[str]) -> None:
    """Check that the images of the splits are those of a run. Raises UserError with the advice if they are not.

    Nothing is checked for runs of other programs and older versions, whose checkpoints do not tell.
    """
    facts = Facts.of_metadata(metadata)
    for split in splits if facts.images else ():
        parts = {"train": layout.train + layout.target_only, "val": layout.val} if split == "train" \
            else {split: layout.split(split)}
        ours = Facts.of_images(layout, {part: Images(samples, 0, "none") for part, samples in parts.items()})
        if not ours.has_images_of(facts, *parts):
            raise UserError(f"{layout.root}: its {split}ing images are not those of the run in {run}; {advice}")


def subject_numbers(samples: Sequence[Sample]) -> numpy.ndarray:
    """Return a number for the subject of each sample (N,); an image without a subject counts as a person of its own."""
    return numpy.unique([sample.subject or f"/{sample.name}" for sample in samples], return_inverse=True)[1]


def image_directories(metadata: dict[str, Any]) -> list[Path]:
    """Return the directory with a run's training images, where nothing may be written; empty if it is not known."""
    return [image_directory(Path(metadata["data_dir"]))] if metadata.get("data_dir") else []


def preparation_for(options: FaceOptions, image_size: int, alignment: dict[str, Any] | None,
                    paths: Sequence[str | Path]) -> Preparation:
    """Return how to prepare the pictures in ``paths``: as the training pictures, whose ``alignment`` the run tells.

    Prints a warning if these faces are aligned in another way than those of the training, as far as it is known.
    """
    if options.align:
        found = [alignment or {"size": image_size, "margin": 0.0}]
    else:  # the record lies in the directory of a picture or above it
        folders = {Path(path).absolute().parent for path in paths}
        found = [next(filter(None, map(alignment_of, (folder, *folder.parents))), None) for folder in folders]
    differing = [of_pictures for of_pictures in found if of_pictures != alignment]
    if differing:
        advice = "find and align their faces with --align MODEL" if alignment else "prepare them as in training"
        print(f"warning: the training faces were {alignment_text(alignment)} and these pictures are "
              f"{alignment_text(differing[0])}, as far as it is known; {advice}", file=sys.stderr)
    size, margin = (alignment["size"], alignment["margin"]) if alignment else (None, 0.0)
    return Preparation(image_size, options.align, size, margin)
