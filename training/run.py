"""One run from its configuration to its report: check everything, train, evaluate the best recognizer."""

from pathlib import Path
from typing import Any

import numpy
import torch

import utils
from commands.grid import save_sheet
from commands.matrix import RESULTS, evaluate_split, write_report
from commands.report import save_report
from commands.swap import swap
from datasets.exemplars import typical_images
from datasets.folds import fold_list
from datasets.layout import Layout, list_text
from datasets.loading import Images, content_digests
from datasets.splits import pair_lines, training_pairs
from models.checkpoints import gan_config, load_gan_networks, load_recognizer, save_exemplars, save_gan
from models.parallel import Processes
from models.swap_gan import SwapGAN
from options.command_line import read_run_options
from options.config import Config
from system.command import noted_signals
from training.context import TrainingContext
from training.data import (check_fold, check_gan_run, check_overwrite, checkpoint_metadata, decoded_images, draw_demo,
                           is_demo, read_training_data, selection, split_data)
from training.launch import launch
from training.memory import check_memory
from training.phases import GANPhase, PerceptualPhase, RecognizerPhase, all_stages
from training.precision import amp_dtype, with_kept_precision, with_precision
from training.processes import agreed_config, check_agreement, download_imagenet_weights, restore_everywhere
from training.run_directory import RunDirectory
from training.state import StateStore
from training.trainer import Run, Stage, fit
from utils import UserError

PICTURES = Path(__file__).resolve().parents[1] / "images"


def train(config: Config) -> None:
    """Train one run, or the rest of it if it is resumed."""
    device, processes = launch(config)
    with processes:
        train_run(config, device, processes)


def train_run(config: Config, device: torch.device, processes: Processes, all_data: Layout | None = None,
              all_images: Images | None = None) -> None:
    """Train one run, or the rest of it if it is resumed, and write its report.

    ``all_data`` and ``all_images`` are those of a series, whose images are decoded once.
    """
    directory = RunDirectory(config.run.checkpoint_dir)
    processes.run_on_main(directory.lock_if_used)
    draw_demo(config, processes)
    restoring = processes.run_on_main(lambda: should_resume(config, directory))
    config = agreed_config(with_kept_precision(config) if restoring else config, restoring, processes)
    layout = split_data(config, all_data or read_training_data(config, processes.world))
    if restoring:
        check_fold(config, layout)
    else:
        check_gan_run(config, len(layout.expressions))
    config = with_precision(config, len(layout.expressions), device, processes)
    amp = amp_dtype(config.hardware.amp, device)
    if device.type == "cpu":
        check_memory(config, layout, amp is not None, processes.world)
    if config.run.overwrite and not restoring:
        check_overwrite(config, layout)
        processes.run_on_main(directory.move_aside)
        processes.run_on_each_machine(directory.move_aside)
    samples = layout.train + layout.target_only + selection(layout, config.recognizer.select_on)
    images = all_images.subset(samples) if all_images is not None else decoded_images(
        config, samples, directory, not restoring, device, processes)
    config = with_perceptual_of_gan(config, len(layout.expressions))
    run, pairs = build_run(config, layout, images, device, amp, processes, restoring)
    if config.run.gan_from and not restoring:
        load_other_gan(run, Path(config.run.gan_from) / "model")
    processes.run_on_main(lambda: claim_run_directory(directory, config, restoring))
    if restoring:
        restore_everywhere(run, lambda: restore(run, config))
        processes.run_on_main(lambda: print_position(run))
    check_agreement(run)
    processes.run_on_main(lambda: write_run_files(run, config, pairs))
    with noted_signals() as run.stop_signal:
        fit(run)
    processes.run_on_main(lambda: evaluate_and_report(config, layout, run.phases["gan"].gan, all_images))


def build_run(config: Config, layout: Layout, images: Images, device: torch.device, amp: torch.dtype | None,
              processes: Processes, restoring: bool) -> tuple[Run, numpy.ndarray]:
    """Return a run at its beginning, and the pairs (P, 2) of images whose swaps its recognizer is trained on."""
    select_on = config.recognizer.select_on
    content = images.content_digest()
    pairs = training_pairs(layout, config.run.seed, config.recognizer.pairs_per_image,
                           config.recognizer.targets == "any")
    if config.perceptual.vgg_init == "imagenet" and not restoring:
        download_imagenet_weights(processes, config.recognizer_shape.backbone)
    metadata = {**checkpoint_metadata(config, layout), "content": content_digests(layout, select_on, images=images)}
    images = images.on(device)
    context = TrainingContext(
        folder=Path(config.run.checkpoint_dir), seed=config.run.seed, layout=layout,
        images=images.subset(layout.train + layout.target_only),
        selection_images=images.subset(selection(layout, select_on)), select_on=select_on,
        balanced=config.recognizer.balanced, num_workers=config.loading.num_workers, device=device, amp=amp,
        processes=processes, compile=config.hardware.compile, restoring=restoring, force=config.run.force,
        metadata=metadata)
    vgg_init, rounds = config.perceptual.vgg_init, config.gan.epochs // config.recognizer.round_every
    perceptual = PerceptualPhase(context, config.perceptual, config.recognizer_shape, config.recognizer.vgg_batch_size,
                                 is_needed=config.gan_recipe.vgg_loss or vgg_init == "stage0")
    gan = GANPhase(context, config.gan_shape(context.num_classes), config.gan_recipe, config.gan, perceptual)
    recognizer = RecognizerPhase(context, config.recognizer, config.recognizer_recipe, config.recognizer_shape, gan.gan,
                                 rounds, vgg_init, perceptual.file, pairs)

    run = Run(context, config.run, [perceptual, gan, recognizer], lambda: schedule_of(config, perceptual.epochs),
              list_fingerprint(layout, select_on, pairs), content)
    return run, pairs


def schedule_of(config: Config, perceptual_epochs: int) -> list[Stage]:
    """Return all stages of a run in order; with ``--gan_from`` those of the recognizer alone."""
    stages = all_stages(perceptual_epochs, config.gan.epochs, config.recognizer.round_every,
                        config.recognizer.round_epochs)
    return [stage for stage in stages if stage.phase == "recognizer" or not config.run.gan_from]


def list_fingerprint(layout: Layout, select_on: str, pairs: numpy.ndarray) -> str:
    """Return a SHA-256 of all values of the lists that a training depends on."""
    splits = ["train", "val", "target_only", *(["test"] if select_on == "test" else [])]
    rows = ([split, s.name, s.label, s.subject, s.scene] for split in splits for s in getattr(layout, split))
    neutral = len(layout.expressions) - 1 if layout.neutral is None else layout.neutral
    return utils.fingerprint([neutral, rows, (pair.tolist() for pair in pairs)])


# ---------------------------------------------------------------------------------------------------- start, resume

def should_resume(config: Config, directory: RunDirectory) -> bool:
    """Return whether there is a run to resume. Raises UserError if that contradicts the options."""
    folder, restore, epoch = directory.folder, config.run.restore, config.restored_epoch
    states = StateStore(folder / "state")
    if epoch is not None:
        if not (folder / "model" / f"Enc_iter_{epoch:03d}.pth").is_file():
            raise UserError(f"--restore {epoch}: {folder / 'model'} holds no networks of epoch {epoch} "
                            f"(Enc_iter_{epoch:03d}.pth)")
        if not 1 <= epoch <= config.gan.epochs:
            raise UserError(f"--restore {epoch}: the run has {config.gan.epochs} epochs, raise --epochs")
        return True
    if config.resumes and states.exists():
        return True
    if config.resumes and states.is_lost():
        raise UserError(f"{folder / 'state' / 'manifest.json'}: missing, though there are states; restore it from a "
                        "backup, go on from the networks of an epoch with --restore N, or start anew with --overwrite")
    if restore is not None:
        raise UserError(f"--restore: {folder} holds no training state to resume; start without --restore, or "
                        "name the run's directory with --checkpoint_dir")
    directory.check_free(config.run.overwrite)
    return False


def claim_run_directory(directory: RunDirectory, config: Config, restoring: bool) -> None:
    """Lock and mark the directory for this run. Raises UserError if another run has changed it meanwhile."""
    directory.lock()
    if should_resume(config, directory) != restoring:
        raise UserError(f"{directory.folder}: another run has written here meanwhile; start again")
    directory.claim()
    if not restoring:
        StateStore(directory.folder / "state").begin()


def restore(run: Run, config: Config) -> None:
    """Load the newest state, or the networks of a GAN epoch (from 1) with new optimizers."""
    epoch = config.restored_epoch
    if epoch is None:
        earlier = with_kept_rounds(config)
        return run.restore(lambda: schedule_of(earlier, run.phases["perceptual"].epochs))
    for phase in run.phases.values():
        phase.load_networks(epoch)
    run.move_after(epoch)


def with_kept_rounds(config: Config) -> Config:
    """Return the options with the recognizer rounds that a resumed run has had up to now, which --force can change."""
    path = Path(config.run.checkpoint_dir) / "options.json"
    saved = read_run_options(path) if path.is_file() else {}
    return config.replaced(**{name: saved[name] for name in ("round_every", "round_epochs") if name in saved})


def print_position(run: Run) -> None:
    """Print at which step a resumed run continues, or that it is complete."""
    stages, folder = run.schedule(), run.context.folder
    if run.stage == len(stages):
        print(f"{folder}: the run is complete, its {len(stages)} epochs are trained; raise --epochs to train on")
        return
    stage = run.current_stage()
    count = sum(other.phase == stage.phase for other in stages)
    print(f"{folder}: resuming in {stage.phase} epoch {stage.epoch + 1} of {count}, after {run.step} of its "
          f"{run.phases[stage.phase].steps(stage.epoch)} steps")


def with_perceptual_of_gan(config: Config, num_classes: int) -> Config:
    """Return the options with the perceptual network of the ``--gan_from`` run, if it has one and none is named."""
    path = Path(config.run.gan_from or "") / "VGG_loss" / f"{num_classes}_max_ckpt.t7"
    is_used = config.run.gan_from and not config.perceptual.perceptual and path.is_file()
    return config.replaced(perceptual=str(path)) if is_used else config


def load_other_gan(run: Run, model: Path) -> None:
    """Load the GAN of another run (``--gan_from``).

    Raises UserError if it has another shape, other expressions or other images.
    """
    gan, theirs, ours = run.phases["gan"].gan, gan_config(model), run.context.metadata
    for key, label in (("expressions", "expressions"), ("gan", "sizes")):
        if theirs.get(key) != ours[key]:
            raise UserError(f"--gan_from: {model} holds a GAN with other {label} ({theirs.get(key)}) than {ours[key]}")
    check_gan_images(run.context, theirs, model.parent)
    load_gan_networks(model, gan, None, tuple(gan.NETWORKS))
    gan.start_from_average()


def check_gan_images(context: TrainingContext, theirs: dict[str, Any], source: Path) -> None:
    """Check that the GAN of the run in ``source`` was trained on this run's images.

    ``theirs`` is its metadata, which tells nothing in runs of older versions. Raises UserError if it was not, unless
    ``--force`` allows that.
    """
    ours, selected_on = context.metadata["content"], theirs.get("selected_on", "val")
    if (selected_on == "test") != (context.select_on == "test"):  # "val" and "none" count the same images
        ours = content_digests(context.layout, selected_on, ["train"])
    if theirs.get("content") and theirs["content"]["train"] != ours["train"] and not context.force:
        raise UserError(f"--gan_from {source}: its GAN was trained on other images than those of "
                        f"{context.layout.root}, perhaps on test images; restore them or their lists, or add --force")


def write_run_files(run: Run, config: Config, pairs: numpy.ndarray) -> None:
    """Write the run's options, lists of images and pairs, and exemplars, and print a summary."""
    layout, folder, processes = run.context.layout, run.context.folder, run.processes
    splits, fold = folder / "splits", config.series.fold
    if fold:
        utils.write_text(splits / fold_list(fold), list_text(layout.test))
    utils.write_text(splits / "images_val.list", list_text(layout.val))
    utils.write_text(splits / "images_gan_nature.list", pair_lines(layout.train + layout.target_only, pairs))
    save_exemplars(folder / "model", *typical_images(run.context.images.subset(layout.train), run.context.num_classes))
    if config.run.gan_from and not run.context.restoring:
        save_gan(folder / "model", run.phases["gan"].gan, run.context.metadata, config.gan.epochs)
    utils.write_json(folder / "options.json", {**config.values(), "attributes": list(layout.expressions)})
    print(f"{folder}: {len(layout.train)} training and {len(layout.val)} validation images of "
          f"{len(layout.expressions)} expressions, {len(pairs)} pairs, on {processes.world} x "
          f"{run.context.device.type}")
    if layout.train[0].path.parent.name == "align_5p" and (layout.root / "data").is_dir():
        print(f"note: the images are those of {layout.root / 'align_5p'}; {layout.root / 'data'} beside it is not used")
    print_unused_epochs(config)
    if run.context.select_on == "test":
        print("note: --select_on test chooses the recognizer on the test images, as the published code does; its test "
              "accuracy is therefore too high; no validation split is cut")


def print_unused_epochs(config: Config) -> None:
    """Print a note if GAN epochs are followed by no recognizer round."""
    epochs, every = config.gan.epochs, config.recognizer.round_every
    if not epochs % every or not config.recognizer.round_epochs or config.run.gan_from:
        return
    print(f"note: no recognizer is trained, since --round_every {every} is more than --epochs {epochs}"
          if epochs < every else
          f"note: no recognizer round follows the last {epochs % every} of {epochs} GAN epochs (--round_every {every})")


# ---------------------------------------------------------------------------------------------------------- report

def evaluate_and_report(config: Config, layout: Layout, gan: SwapGAN, all_images: Images | None) -> None:
    """Draw the sheet and evaluate the recognizer on the test list; the demo also swaps, and prints further commands."""
    folder = Path(config.run.checkpoint_dir)
    results, resume_dir = folder / "test_result", folder / "VGG"
    save_sheet(gan, layout, config.output.rows, config.run.seed, results / "grid.jpg")
    if not (resume_dir / "max_ckpt.t7").is_file():
        print(f"no recognizer round in {config.gan.epochs} epochs (--round_every {config.recognizer.round_every} "
              f"--round_epochs {config.recognizer.round_epochs}): no test")
        return save_report(folder)
    result = evaluate_split(load_recognizer(resume_dir, gan.device), layout, "test", config.shape.image_size, 64,
                            config.loading.num_workers, all_images)
    write_report(result, layout.expressions, f"recognizer of {folder} on {layout.root}, test images", results, folder)
    save_report(folder)
    if is_demo(config):
        copy_results(results)
        show_demo(config, layout, resume_dir)


def copy_results(results: Path) -> None:
    """Copy the demo's sheet and the results of its test to the current directory, where a user looks first."""
    names = "grid.jpg", *RESULTS
    for name in names:
        with utils.atomic_file(name) as handle:
            handle.write((results / name).read_bytes())
    print(f"copied {', '.join(names)} to the current directory")


def show_demo(config: Config, layout: Layout, resume_dir: Path) -> None:
    """Swap the expressions of two of the project's pictures into ``result.jpg``, and print further commands."""
    names = layout.expressions
    if {"smile", "neutral"} <= set(names):
        swap(config.replaced(
            mode="test", restore=-1, swap_list=["smile", "neutral"],
            input=[str(PICTURES / "smile.jpg")], target=[str(PICTURES / "neutral.jpg")], output="result.jpg",
            frames=None, matrix=False, align=None, paste=False))
    print("\ngo on with\n"
          "  python train.py --preset demo --mode test --restore --swap_list 2 5 --input images/smile.jpg "
          "--target images/neutral.jpg\n"
          f"  python test_matrix_multi.py --resume_dir {resume_dir}")
