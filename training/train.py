"""``--mode train``: check everything, then train, then judge the best recognizer on the test list."""

from __future__ import annotations

import argparse
import copy
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import utils
from datasets.aligning.directory import alignment_of
from datasets.files import check_figure, check_output
from datasets.folds import check_kept_fold, described_fold, fold_list, list_text, with_fold
from datasets.layout import DATA_SETS, Layout, Sample, check_classes, check_images, check_splits, read_layout
from datasets.loading import Images
from datasets.splits import pair_lines, training_pairs, with_validation
from datasets.drawing.data_set import make_dataset
from models.checkpoints import load_recognizer
from models.parallel import Processes
from options.checks import wants_restore
from training.decoding import decoded_images
from commands.grid import save_sheet
from commands.matrix import check_results, judged_split, write_report
from training.memory import check_memory
from options.command_line import PRESETS, on_data_of
from training.parts import is_series, parts_of
from training.phases import GANPhase, PerceptualPhase, RecognizerPhase, schedule
from training.records import StateStore
from training.trainer import Run, Setting, Stage
from training.run_directory import RunDirectory
from commands.swap import swap
from commands.trained import neutral_of
from utils import UserError, fingerprint

PICTURES = Path(__file__).resolve().parents[1] / "images"


@dataclass(frozen=True)
class Data:
    """What several runs on one data directory share: its lists, and its images, decoded once if memory allows."""

    layout: Layout
    images: Images


def train(options: argparse.Namespace) -> None:
    """The mode: a whole run, or what is left of one."""
    device, processes = begin(options)
    with processes:
        train_run(options, device, processes)


def begin(options: argparse.Namespace) -> tuple[torch.device, Processes]:
    """What comes once before all runs of a command: the device of this process, and the others."""
    utils.number_of_processes()
    check_places(options)
    start_processes(options)
    device = utils.pick_device(options.gpu)
    set_backends(options.deterministic)
    if options.compile:
        check_compiler(device)
    return device, Processes.join(device)


def train_run(options: argparse.Namespace, device: torch.device, processes: Processes, data: Data | None = None
              ) -> None:
    """One run, or what is left of it. ``data`` are those of all runs, where there are several."""
    directory = RunDirectory(options.checkpoint_dir)
    processes.first(directory.lock_if_there)
    draw_demo(options, processes)
    restoring = goes_on(options, directory)
    layout = split_for(options, data.layout if data else checked_data(options, processes.world))
    if restoring:
        check_fold(options, layout)
    check_memory(options, layout, device, amp_dtype(options.amp, device) is not None, processes.world)
    everyone = layout.train + layout.target_only + selection(layout, options)
    images = data.images.of(everyone) if data else decoded_images(options, everyone, directory, not restoring, device,
                                                                   processes)
    run, phases = built(options, layout, images, device, processes, restoring)
    processes.first(lambda: take(directory, options, restoring, images.file))
    if restoring and options.restore is not None and options.restore >= 0:
        restore_networks(run, *phases[1:], options.restore)
    elif restoring:
        run.restore()
    processes.first(lambda: describe(run, phases[2].pairs))
    with utils.noted_signals() as run.stop_signal:
        run.run()
    processes.first(lambda: finish(options, layout, phases[1].gan, data))


def take(directory: RunDirectory, options: argparse.Namespace, restoring: bool, cache: Path | None) -> None:
    """Make the directory this run's own; what an earlier run has left there goes, unless this one goes on with it.

    ``cache`` is the file that holds the decoded images, if any.
    """
    directory.lock()
    if goes_on(options, directory) != restoring:
        raise UserError(f"{directory.folder}: another run has been here meanwhile; start again")
    directory.claim()
    directory.clear_parts()
    if not restoring:
        directory.clear(but=cache)
        StateStore(directory.folder / "state").begin()


def built(options: argparse.Namespace, layout: Layout, images: Images, device: torch.device, processes: Processes,
          restoring: bool) -> tuple[Run, tuple[PerceptualPhase, GANPhase, RecognizerPhase]]:
    """A run with its phases, at its beginning; ``images`` are those that it learns from and is chosen on."""
    learned, judged_on = map(images.of, (layout.train + layout.target_only, selection(layout, options)))
    pairs = training_pairs(layout, options.seed, options.pairs_per_image, options.targets == "any")
    setting = Setting(options, layout, learned, judged_on, device, amp_dtype(options.amp, device), processes)
    config = described(options, layout)
    perceptual = PerceptualPhase(setting, config, restoring)
    gan = GANPhase(setting, config, perceptual.file)
    recognizer = RecognizerPhase(setting, config, gan.gan, perceptual.file, pairs, restoring)

    def stages() -> list[Stage]:
        return schedule(perceptual.epochs, options.epochs, options.round_every, options.round_epochs)

    splits = ["train", "val", "target_only", *(["test"] if options.select_on == "test" else [])]
    rows = ([split, s.name, s.label, s.subject, s.scene] for split in splits for s in getattr(layout, split))
    neutral = len(layout.expressions) - 1 if layout.neutral is None else layout.neutral  # as in states of before
    lists = fingerprint([neutral, rows, (pair.tolist() for pair in pairs)])
    return Run(setting, [perceptual, gan, recognizer], stages, lists, images.content()), (perceptual, gan, recognizer)


def described(options: argparse.Namespace, layout: Layout) -> dict[str, Any]:
    """What a checkpoint needs to be used alone, beside the GAN's shape."""
    names, neutral = layout.expressions, layout.neutral
    return {"expressions": list(names), "listed": list(layout.listed),
            "neutral_name": dict(enumerate(names)).get(neutral), "image_size": options.image_size,
            "alignment": alignment_of(layout.root), "data_dir": str(layout.root), "selected_on": options.select_on,
            "images": fingerprint([options.select_on, *([s.name, s.label] for s in layout.train), "selection",
                                   *([s.name, s.label] for s in selection(layout, options))]),
            "fold": described_fold(layout.test, options.fold, options.folds, options.folds_by, options.seed)
            if options.fold else None}


def restore_networks(run: Run, gan: GANPhase, recognizer: RecognizerPhase, epoch: int) -> None:
    """Go on behind GAN epoch ``epoch`` (from 1): its networks, the best recognizer if any, new optimizers."""
    gan.load_networks(epoch)
    recognizer.load_networks(epoch)
    run.stage, run.moved = 1 + run.schedule().index(Stage("gan", epoch - 1)), True
    log = run.setting.folder / "log" / "metrics.csv"
    run.log_position = log.stat().st_size if log.is_file() else None


def describe(run: Run, pairs: Any) -> None:
    """Write which options, validation images and pairs the run has, and say so."""
    layout, folder, processes = run.setting.layout, run.setting.folder, run.processes
    everyone, splits = layout.train + layout.target_only, folder / "splits"
    if run.options.fold:
        utils.write_text(splits / fold_list(run.options.fold), list_text(layout.test))
    utils.write_text(splits / "images_val.list", list_text(layout.val))
    utils.write_text(splits / "images_gan_nature.list", pair_lines(everyone, pairs))
    utils.write_json(folder / "options.json", {**vars(run.options), "attributes": list(layout.expressions)})
    print(f"{folder}: {len(layout.train)} training and {len(layout.val)} validation images of "
          f"{len(layout.expressions)} expressions, {len(pairs)} pairs, on {processes.world} x "
          f"{run.setting.device.type}")
    if layout.train[0].path.parent.name == "align_5p" and (layout.root / "data").is_dir():
        print(f"note: the images are those of {layout.root / 'align_5p'}; {layout.root / 'data'} beside it is not used")
    if run.options.select_on == "test":
        print("note: --select_on test chooses the recognizer on the test images, as the reference does; "
              "its test accuracy flatters; no validation split is cut")


# -------------------------------------------------------------------------------------------- before it

def checked_data(options: argparse.Namespace, world: int) -> Layout:
    """The data as their lists are; UserError for whatever any training on them would stumble over later."""
    if min(options.batch_size, options.vgg_batch_size // 2) < world:
        raise UserError(f"--batch_size {options.batch_size} and --vgg_batch_size {options.vgg_batch_size} are too "
                        f"small for {world} processes: at least {world} and {2 * world}")
    data = DATA_SETS[options.data]
    layout = read_layout(options.data_dir or data.directory, options.attributes,
                         known=None if options.data_dir else data.expressions, need_test=not options.folds,
                         neutral=neutral_of(options) if wants_restore(options) else options.neutral)
    check_output(options.checkpoint_dir, "--checkpoint_dir", trees=[layout.root], directory=True)
    check_splits(layout)
    check_images(layout.split("all") + layout.target_only)
    return layout


def split_for(options: argparse.Namespace, layout: Layout) -> Layout:
    """The data as one run splits them: its fold, if any, and its validation images; UserError where that cannot be."""
    if options.fold:
        layout = with_fold(layout, options.folds, options.fold, options.seed, options.folds_by)
    if not layout.test:
        raise UserError(f"{layout.root}: no test image of these expressions; list some in images_test.list, or train "
                        "with --folds")
    if options.select_on == "val":
        layout = with_validation(layout, options.seed)
    check_classes(layout, options.targets == "any")
    if options.select_on != "none" and not selection(layout, options):
        raise UserError(f"{layout.root}: too few images to cut a validation split from; list some in images_val.list, "
                        "or use --select_on none")
    return layout


def selection(layout: Layout, options: argparse.Namespace) -> list[Sample]:
    """The images on which the networks in training are judged; with ``--select_on none`` they choose nothing."""
    return layout.test if options.select_on == "test" else layout.val


def check_fold(options: argparse.Namespace, layout: Layout) -> None:
    """UserError where a run that goes on would not find the fold again that it was started with."""
    if options.fold:
        check_kept_fold(layout.test, Path(options.checkpoint_dir) / "splits" / fold_list(options.fold))


def amp_dtype(choice: str, device: torch.device) -> torch.dtype | None:
    """``--amp`` → the dtype of autocast, None for float32."""
    if choice == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None
    if choice == "fp16" and device.type == "cpu":
        raise UserError("--amp fp16 needs a GPU; on the CPU there is bf16")
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[choice]


def set_backends(deterministic: bool) -> None:
    """Let cuDNN try which algorithms are fastest, or torch use deterministic ones alone (``--deterministic``)."""
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def check_places(options: argparse.Namespace) -> None:
    """UserError where the results could not be written."""
    for folder in ("", *RunDirectory.folders, *RunDirectory.reused):
        check_output(Path(options.checkpoint_dir) / folder, "--checkpoint_dir", directory=True)
    if is_demo(options):
        check_output(".", "the current directory", directory=True)
        check_results(".", "the current directory")
        for name in ("grid.jpg", "result.jpg"):
            check_figure(name, "the current directory")


def check_compiler(device: torch.device) -> None:
    """UserError where ``torch.compile`` does not work on this machine."""
    try:
        torch.compile(lambda x: torch.relu(x) * 2)(torch.ones(4, device=device))
    except Exception as error:  # a missing compiler, a GPU that is too old, a Python that is too new
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"--compile: torch.compile does not work here ({reason[:200]}); leave it out") from None


def goes_on(options: argparse.Namespace, directory: RunDirectory) -> bool:
    """Whether there is a run to go on with; UserError where that is not what was asked for."""
    folder = directory.folder
    states = StateStore(folder / "state")
    has_state = (options.restore is not None or options.auto_restore) and states.exists()
    if options.restore is not None and options.restore >= 0:
        if not (folder / "model" / f"Enc_iter_{options.restore:03d}.pth").is_file():
            raise UserError(f"--restore {options.restore}: {folder / 'model'} holds no networks of epoch "
                            f"{options.restore} (Enc_iter_{options.restore:03d}.pth)")
        if not 1 <= options.restore <= options.epochs:
            raise UserError(f"--restore {options.restore}: the run has {options.epochs} epochs, raise --epochs")
        return True
    if options.restore is not None and not has_state:
        raise UserError(f"--restore: {folder} holds no training state to go on with; start without --restore, or "
                        "name the run's directory with --checkpoint_dir")
    if options.restore is not None or options.auto_restore and has_state:
        return True
    directory.check_free(options.overwrite)
    found = [] if options.overwrite else directory.results()
    if found and states.is_begun():  # no state was saved to the end: what is there of one is the rest of a false start
        found = [name for name in found if not name.startswith("state/")]
    if found:
        lost = options.auto_restore and any(name.startswith("state/") for name in found)
        raise UserError(f"{folder} already holds a run: go on with --restore, delete it with --overwrite, or choose "
                        "another --checkpoint_dir" if not lost else f"{folder / 'state' / 'manifest.json'}: missing, "
                        "though there are states; put it back from a copy, go on behind an epoch's networks with "
                        "--restore N, or start anew with --overwrite")
    return False


def draw_demo(options: argparse.Namespace, processes: Processes) -> None:
    """For the demo's own data directory, draw the built-in data if they are absent."""
    def draw() -> None:
        if not (Path(options.data_dir) / "images.list").is_file():
            print(f"drawing the built-in faces into {options.data_dir}")
            make_dataset(options.data_dir, image_size=options.image_size)

    if draws_demo(options):
        processes.first(draw)


def draws_demo(options: argparse.Namespace) -> bool:
    """Whether the demo's own data directory is trained on, which this command may draw."""
    return options.preset == "demo" and on_data_of(PRESETS["demo"], options)


def start_processes(options: argparse.Namespace) -> None:
    """``--gpu 0 1``: become ``torchrun`` with one process per GPU; nothing where it has been done or is in vain."""
    if options.gpu is None or len(options.gpu) < 2 or "WORLD_SIZE" in os.environ or not torch.cuda.is_available():
        return
    if len(set(options.gpu)) < len(options.gpu) or not 0 <= min(options.gpu) <= max(options.gpu) < \
            torch.cuda.device_count():
        raise UserError(f"--gpu {' '.join(map(str, options.gpu))}: different GPUs are needed, this machine has "
                        f"{torch.cuda.device_count()}, numbered from 0")
    if not draws_demo(options):
        layout = checked_data(options, len(options.gpu))  # a mistake in the data is one line here, and many there
        for part in parts_of(options) if is_series(options) else [options]:
            split_for(part, layout)
    os.execv(sys.executable, [sys.executable, "-m", "torch.distributed.run", "--standalone",
                              f"--nproc_per_node={len(options.gpu)}", *sys.argv])


# --------------------------------------------------------------------------------------------- after it

def is_demo(options: argparse.Namespace) -> bool:
    """Whether this is the demo itself, which shows its results where it is started, not another run of its recipe."""
    own = PRESETS["demo"]
    return draws_demo(options) and Path(options.checkpoint_dir).resolve() == Path(own["checkpoint_dir"]).resolve()


def finish(options: argparse.Namespace, layout: Layout, gan: Any, data: Data | None = None) -> None:
    """Draw the sheet and judge the recognizer on the test list; the demo also swaps and says how to go on."""
    folder, demo = Path(options.checkpoint_dir), is_demo(options)
    results = Path(".") if demo else folder / "test_result"
    save_sheet(gan, layout, options.rows, options.seed, results / "grid.jpg")
    resume_dir = folder / "VGG"
    if not (resume_dir / "max_ckpt.t7").is_file():
        print(f"no recognizer round in {options.epochs} epochs (--round_every {options.round_every} --round_epochs "
              f"{options.round_epochs}): no test")
        return
    trained = load_recognizer(resume_dir, gan.device)
    judged = judged_split(trained, layout, "test", options.image_size, 64, options.num_workers,
                          data.images if data else None)
    write_report(judged, layout.expressions, f"recognizer of {folder} on {layout.root}, test images", results)
    if demo:
        names = layout.expressions
        if {"smile", "neutral"} <= set(names):
            options = copy.copy(options)  # the newest networks, whatever --restore N the run went on behind
            options.restore = -1
            options.swap_list = [names.index("smile"), names.index("neutral")]
            options.input, options.target = [PICTURES / "smile.jpg"], [PICTURES / "neutral.jpg"]
            options.output, options.frames, options.matrix = "result.jpg", None, False
            options.align, options.paste = None, False
            swap(options)
        print("\ngo on with\n"
              "  python train.py --preset demo --mode test --restore --swap_list 2 5 --input images/smile.jpg "
              "--target images/neutral.jpg\n"
              f"  python test_matrix_multi.py --resume_dir {resume_dir}")
