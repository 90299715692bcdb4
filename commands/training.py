"""What surrounds a training: its estimated time and the demo's faces; test, sheet and report, and pooled results."""

import contextlib
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Sequence

import numpy
import torch

import utils
from commands.grid import save_sheet
from commands.matrix import RESULTS, check_results, evaluate_split, write_pooled, write_report
from commands.report import save_report
from commands.swap import swap
from datasets.drawing.data_set import make_dataset
from datasets.files import check_figure, check_output
from datasets.layout import Layout
from datasets.loading import Images
from evaluation.comparison import Pooled
from evaluation.metrics import Report
from models.checkpoints import load_recognizer
from models.distributed import Processes
from options.command_line import same_directory, series_members
from options.config import PRESETS, Config
from training.phases import batches_per_synthesis
from training.start import build_run, check_gan_run, print_unused_epochs, read_training_data, selection, split_data
from training.trainer import Clock, Phase, Run, Stage, duration
from utils import UserError, pick_device, synchronize

PICTURES = Path(__file__).resolve().parents[1] / "images"


def draws_demo(config: Config) -> bool:
    """Return whether the training is on the demo's data directory, which this command may draw."""
    return config.task.preset == "demo" and same_directory(config.data.data_dir, PRESETS["demo"]["data_dir"])


def is_demo(config: Config) -> bool:
    """Return whether this is the demo, which copies its results to the current directory, not just its preset."""
    return draws_demo(config) and same_directory(config.run.checkpoint_dir, PRESETS["demo"]["checkpoint_dir"])


def prepare_demo(config: Config, processes: Processes) -> None:
    """Check that the demo can write its results, and draw the faces into its data directory if they are absent."""
    def draw() -> None:
        if not (Path(config.data.data_dir) / "images.list").is_file():
            print(f"drawing the built-in faces into {config.data.data_dir}")
            make_dataset(config.data.data_dir, image_size=config.shape.image_size)

    if is_demo(config):
        check_output(".", "the current directory", directory=True)
        check_results(".", "the current directory")
        for name in ("grid.jpg", "result.jpg"):
            check_figure(name, "the current directory")
    if draws_demo(config):
        processes.run_on_main(draw)
        processes.run_on_each_machine(draw)  # on machines that do not see the main process's files


def finish_run(run: Run, decoded: Images | None = None) -> None:
    """Draw the sheet of swaps, evaluate the recognizer on the test list, and write the report.

    ``decoded`` are the images of a series. The demo also swaps two faces, and prints further commands.
    """
    config, layout, gan = run.config, run.context.layout, run.phases["gan"].gan
    folder = run.context.folder
    results, resume_dir = folder / "test_result", folder / "VGG"
    if config.trains_gan or config.run.gan_from:
        save_sheet(gan, layout, config.run.seed, results / "grid.jpg")
    if not (resume_dir / "max_ckpt.t7").is_file():
        print(f"no recognizer round in {config.gan.epochs} epochs (--round_every {config.recognizer.round_every} "
              f"--round_epochs {config.recognizer.round_epochs}): no test")
        return save_report(folder)
    result = evaluate_split(load_recognizer(resume_dir, gan.device), layout, "test", config.shape.image_size, 64,
                            config.loading.num_workers, decoded)
    write_report(result, layout.expressions, f"recognizer of {folder} on {layout.root}, test images", results)
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
            frames=None, matrix=False, align=None))
    print("\ngo on with\n"
          "  python train.py --preset demo --mode test --restore --swap_list 2 5 --input images/smile.jpg "
          "--target images/neutral.jpg\n"
          f"  python test_matrix_multi.py --resume_dir {resume_dir}")


def write_pooled_results(config: Config, members: Sequence[Config], layout: Layout) -> None:
    """Write the pooled confusion matrix and the metrics of all runs, given the matrices that the runs have written."""
    folder, names, series = Path(config.run.checkpoint_dir), layout.expressions, config.series
    paths = [Path(member.run.checkpoint_dir) / "test_result" / "confusion_matrix.json" for member in members]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        print(f"no pooled results: {len(missing)} of {len(members)} runs have evaluated no recognizer (no recognizer "
              f"round in {config.gan.epochs} epochs with --round_every {config.recognizer.round_every} --round_epochs "
              f"{config.recognizer.round_epochs})")
        return
    pooled = Pooled([path.parents[1].name for path in paths], [read_report(path, len(names)) for path in paths])
    found = dict.fromkeys(f"in {path.parents[1].name}, {finding}" for path in paths
                          for finding in utils.read_json(path).get("verdict", []))
    kind = f"{series.folds} folds" if series.folds else f"{series.seeds} seeds"
    print()
    write_pooled(pooled, names, f"{kind} of {folder} on {layout.root}, test images", folder / "test_result",
                 list(found), [(path.parent / "predictions.csv").read_text(encoding="utf-8") for path in paths])
    save_report(folder)


def read_report(path: Path, n: int) -> Report:
    """Read the confusion matrix (n, n) that a run has written of its test. Raises UserError if it is damaged."""
    content = utils.read_json(path)
    with contextlib.suppress(KeyError, TypeError, ValueError):  # the file holds something else
        counts = numpy.array(content["counts"])
        if counts.shape == (n, n) and counts.dtype.kind == "i" and counts.min() >= 0:
            return Report(counts)
    raise UserError(f"{path}: damaged, its matrix is not of {n} expressions; restore it from a backup")


# -------------------------------------------------------------------------------------------------------------- dry run

def dry_run(config: Config) -> None:
    """Print schedule, images, sizes and time of a training, whose first steps are done in a temporary directory."""
    members = series_members(config) if config.is_series else [config]
    processes = Processes(device=pick_device(config.hardware.gpu))
    layout = split_data(members[0], read_training_data(members[0], 1))
    for member in () if config.resumes else members:
        check_gan_run(member, len(layout.expressions))
    with tempfile.TemporaryDirectory() as folder:
        vgg_init = config.perceptual.vgg_init
        trial = members[0].replaced(
            checkpoint_dir=folder, restore=None, auto_restore=False, force=True,  # stage 0 may end near chance
            vgg_init="none" if vgg_init == "imagenet" else vgg_init)  # without a download
        samples = layout.train + layout.target_only + selection(layout, trial.recognizer.select_on)
        run, _ = build_run(trial, layout, Images(samples, trial.shape.image_size, "none"), processes, False, None)
        shape, gan, recognizer = trial.shape, trial.gan, trial.recognizer
        print(f"dry run: nothing is written into {config.run.checkpoint_dir}\n"
              f"images    {layout.root}: {len(layout.train)} training, {len(layout.val)} validation and "
              f"{len(layout.test)} test images of {len(layout.expressions)} expressions\n"
              f"sizes     {shape.image_size} px, --base_width {shape.base_width}, --vgg_width "
              f"{trial.recognizer_shape.vgg_width}, --batch_size {gan.batch_size}, --vgg_batch_size "
              f"{recognizer.vgg_batch_size}", flush=True)
        print_unused_epochs(trial)
        stages, clock = run.schedule(), Clock(processes.device)
        for name in dict.fromkeys(stage.phase for stage in stages):
            epochs = [stage for stage in stages if stage.phase == name]
            group = batches_per_synthesis(0, recognizer) if name == "recognizer" else 1
            clock.seconds_per_step[name] = seconds_per_step(run.phases[name], epochs, group, processes.device)
            print(f"schedule  {name}: {len(epochs)} epochs of {run.phases[name].steps(epochs[0].epoch)} steps, "
                  f"{duration(clock.estimate(epochs, run.phases)[0])}", flush=True)
        total, _ = clock.estimate(stages, run.phases)
    print(f"time      about {duration(total)} on {processes.device.type}")
    if len(members) > 1:
        jobs = config.series.jobs
        print(f"in all    {duration(total * len(members) / jobs)} for {len(members)} runs, {jobs} at a time")


def seconds_per_step(phase: Phase, stages: Sequence[Stage], group: int, device: torch.device) -> float:
    """Measure the seconds per step of a phase, with the end of an epoch spread over its steps.

    ``group`` steps share some work. The first steps are slower, so that the time of a training is rather less.
    """
    began = time.perf_counter()
    batches = islice(phase.batches(stages[0].epoch, start=0), max(6, 2 * group))
    done = [phase.step(batch) for batch in batches]
    synchronize(device)
    ended = time.perf_counter()
    phase.end_epoch(stages[-1].epoch, {name: float(value) for name, value in done[-1].items()})
    return (ended - began) / len(done) + (time.perf_counter() - ended) / phase.steps(stages[0].epoch)