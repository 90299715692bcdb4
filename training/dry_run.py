"""``--dry_run``: show the plan of a training, and estimate its time from a few steps of each phase."""

import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any, Iterator

import torch

from datasets.cache import GIB
from datasets.loading import Images
from models.parallel import Processes
from options.config import Config
from system.devices import pick_device, synchronize
from training.batches import batches_per_synthesis
from training.data import check_gan_run, draws_demo, read_training_data, selection, split_data
from training.memory import estimate_memory
from training.precision import amp_dtype, with_precision
from training.run import build_run, print_unused_epochs, with_perceptual_of_gan
from training.timing import TimeLeft, duration
from training.trainer import Metrics, Phase, Run, Stage
from utils import UserError

STEPS = 3  # timed steps of a phase, after as many untimed ones


def dry_run(config: Config) -> None:
    """Print schedule, images, sizes, memory and time of a training; files are only written to a temporary directory."""
    members = config.members() if config.is_series else [config]
    device = pick_device(config.hardware.gpu)
    member = members[0]
    if draws_demo(config) and not (Path(config.data.data_dir) / "images.list").is_file():
        raise UserError("--dry_run: the demo's faces are not drawn yet; draw them with python -m datasets.synthetic "
                        f"{config.data.data_dir}")
    layout = split_data(member, read_training_data(member, 1))
    for new in () if config.resumes else members:
        check_gan_run(new, len(layout.expressions))
    member = with_precision(member, len(layout.expressions), device, Processes())
    amp = amp_dtype(member.hardware.amp, device)
    samples = layout.train + layout.target_only + selection(layout, member.recognizer.select_on)
    shape, sizes = member.shape, member.recognizer_shape
    weights, maps, images = estimate_memory(member, layout, amp is not None)
    print(f"dry run: nothing is written into {config.run.checkpoint_dir}\n"
          f"images    {layout.root}: {len(layout.train)} training, {len(layout.val)} validation and {len(layout.test)} "
          f"test images of {len(layout.expressions)} expressions\n"
          f"sizes     {shape.image_size} px, --base_width {shape.base_width}, --vgg_width {sizes.vgg_width}, "
          f"--batch_size {member.gan.batch_size}, --vgg_batch_size {member.recognizer.vgg_batch_size}\n"
          f"memory    at least {(weights + maps + images) / GIB:.1f} GiB", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        vgg_init = "none" if member.perceptual.vgg_init == "imagenet" else member.perceptual.vgg_init  # no download
        trial = member.replaced(checkpoint_dir=folder, restore=None, auto_restore=False, vgg_init=vgg_init,
                                force=True)  # a few steps of stage 0 may end near chance
        trial = with_perceptual_of_gan(trial, len(layout.expressions))
        run, _ = build_run(trial, layout, Images(samples, shape.image_size, "none"), device, amp, Processes(), False)
        print_unused_epochs(trial)
        print("timing a few steps of each phase ...", flush=True)
        seconds = print_schedule(run, trial)
    if len(members) > 1:
        jobs = config.series.jobs
        print(f"in all    {duration(seconds * len(members) / jobs)} for {len(members)} runs, {jobs} at a time")


def print_schedule(run: Run, config: Config) -> float:
    """Print a line per phase with its epochs, steps and time, and the sum; return the seconds of a run."""
    stages, times = run.schedule(), TimeLeft()
    for name in dict.fromkeys(stage.phase for stage in stages):
        of_phase = [stage for stage in stages if stage.phase == name]
        per_step = seconds_per_step(run, of_phase, config)
        steps = run.phases[name].steps(of_phase[0].epoch)
        times.measure(name, per_step * steps, steps)
        print(f"schedule  {name}: {len(of_phase)} epochs of {steps} steps, "
              f"{duration(times.estimate(of_phase, run.phases)[0])} ({1000 * per_step:.0f} ms a step)", flush=True)
    total, _ = times.estimate(stages, run.phases)
    print(f"time      about {duration(total)} on {run.context.device.type}")
    return total


def seconds_per_step(run: Run, stages: list[Stage], config: Config) -> float:
    """Measure the seconds per step of a phase, with the end of an epoch spread over its steps."""
    phase, device = run.phases[stages[0].phase], run.context.device
    group = batches_per_synthesis(0, config.recognizer) if phase.name == "recognizer" else 1
    count = -(-STEPS // group) * group
    batches, steps = phase.batches(stages[0].epoch, start=0), phase.steps(stages[0].epoch)
    began = time.perf_counter()
    metrics = do_steps(phase, batches, count, device)
    timed = min(count, steps - count)
    if timed > 0:  # else the epoch has only the first steps, which are slower
        began = time.perf_counter()
        do_steps(phase, batches, timed, device)
    per_step = (time.perf_counter() - began) / (timed if timed > 0 else steps)
    began = time.perf_counter()
    phase.end_epoch(stages[-1].epoch, {name: float(value) for name, value in metrics.items()})
    return per_step + (time.perf_counter() - began) / steps


def do_steps(phase: Phase, batches: Iterator[Any], count: int, device: torch.device) -> Metrics:
    """Do up to ``count`` steps and wait for the device; return the metrics of the last one."""
    metrics: Metrics = {}
    for batch in islice(batches, count):
        metrics = phase.step(batch)
    synchronize(device)
    return metrics
