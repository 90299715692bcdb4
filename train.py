"""Joint expression synthesis and representation learning: train, or swap the expressions of two faces.

    python train.py -a disgust scream smile squint surprise neutral --mode train --multi_add_gan --alpha5 --gpu 0
    python train.py -a disgust scream smile squint surprise neutral --swap_list 2 5 --input ./images/smile.jpg \\
        --target ./images/neutral.jpg --mode test --restore --gpu 0
    python train.py --preset demo
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Sequence

import utils
from modes.evaluate import evaluate_swaps
from modes.export import export
from modes.generate import generate
from modes.grid import draw_grid, save_sheet
from modes.recognize import recognize
from modes.swap import swap
from options import read_options
from utils import UserError

if TYPE_CHECKING:
    import torch

    from datasets.layout import Layout
    from datasets.loading import Batch, Loaded
    from models.recognizer import Examples
    from models.generator import Encoder
    from models.parallel import Processes
    from models.recognizer import Recognizer
    from models.swap import Pair
    from models.swap_gan import SwapGAN

    Figures = dict[str, "torch.Tensor"]

# ------------------------------------------------------------------------------------------ joint training

STATE_FORMAT = 1  # to be raised whenever older training states can no longer be taken up


@dataclass(frozen=True)
class Stage:
    """One epoch of one kind: ``perceptual``, ``gan`` or ``recognizer``."""

    phase: str
    epoch: int


def schedule(perceptual_epochs: int, epochs: int, round_every: int, round_epochs: int) -> list[Stage]:
    """Stage 0, then GAN epochs with a recognizer round after every ``round_every`` of them (METHOD §5)."""
    stages = [Stage("perceptual", epoch) for epoch in range(perceptual_epochs)]
    recognizer_epoch = 0
    for epoch in range(epochs):
        stages.append(Stage("gan", epoch))
        if (epoch + 1) % round_every == 0:
            stages += [Stage("recognizer", recognizer_epoch + i) for i in range(round_epochs)]
            recognizer_epoch += round_epochs
    return stages


def further_batches(epoch: int, options: argparse.Namespace) -> tuple[int, bool]:
    """How many batches follow each real one in a recognizer epoch, and whether they are synthesized (METHOD §5)."""
    count, synthesized = options.gan_raw or 6, True
    if options.multi_add_gan:
        rounds = epoch / options.round_epochs
        count, synthesized = (1, False) if rounds < 2.5 else (2, True) if rounds < 5 else (3, True) if rounds < 7.5 \
            else (6, True)
    planned = options.epochs // options.round_every * options.round_epochs
    return count, synthesized and options.gan_raw > 0 and epoch < options.gan_until * planned


def examples_of(batches: Iterable["Loaded"], gan: "SwapGAN", group: int) -> Iterator["Examples"]:
    """What the recognizer learns from: real faces with their codes, and swaps with the swapped ones (METHOD §4, §5).

    The synthesized images of ``group`` batches are made at once.
    """
    import torch
    from datasets.loading import to_float
    from models.recognizer import Examples, real_features

    batches = iter(batches)
    while some := list(islice(batches, group)):
        image = to_float(torch.cat([batch.first for batch in some]), gan.device)
        label, shown, paired = (torch.cat(parts).to(gan.device) for parts in zip(*(
            (batch.label, batch.second_label, batch.paired) for batch in some)))
        target = to_float(torch.cat([batch.second for batch in some]), gan.device)
        fx = image.new_empty(len(image), 16 * gan.shape.base_width, *[gan.shape.image_size // 32] * 2)
        if not paired.all():
            fx[~paired] = real_features(gan.encoder, image[~paired])
        if paired.any():
            image[paired], fx[paired] = gan.synthesize(image[paired], target, label[paired], shown)
        parts = (whole.split([len(batch.label) for batch in some]) for whole in (label, image, fx, paired))
        yield from (Examples(label, (image, fx), made, (batch.total - batch.total_paired, batch.total_paired))
                    for label, image, fx, made, batch in zip(*parts, some))


class JointTraining:
    """One run: stage 0, GAN epochs, and the recognizer rounds between them (METHOD §3–5).

    Where it stands is the position (stage, step); with the networks, optimizers and running means it makes the whole
    state, since every random draw is a function of the seed and the position.
    """

    def __init__(self, options: argparse.Namespace, layout: "Layout", device: "torch.device",
                 processes: "Processes", restoring: bool = False) -> None:
        import torch
        from datasets.loading import Images, third_of_pairs
        from datasets.splits import training_pairs
        from models.checkpoints import initialize
        from models.recognizer import Recognizer, RecognizerRecipe
        from models.speed import Speedometer
        from models.swap_gan import GANRecipe, GANShape, SwapGAN
        from models.vgg import VGG_fx

        self.options, self.layout, self.device, self.processes = options, layout, device, processes
        self.n = len(layout.expressions)
        self.folder = Path(options.checkpoint_dir)
        self.states = utils.StateStore(self.folder / "state")
        self.stop_signal: Callable[[], int] = lambda: 0

        self.images = Images(layout.train + layout.target_only, options.image_size, options.cache)
        self.selection_images = Images(layout.split(options.select_on), options.image_size, options.cache)
        self.pairs = training_pairs(layout, options.seed, options.pairs_per_image, options.targets == "any")
        if options.ablation:
            self.pairs = third_of_pairs(self.pairs, options.seed)

        amp = amp_dtype(options.amp, device)
        shape = GANShape(self.n, options.image_size, options.base_width, options.decoder_label, options.label_copy,
                         options.exp_label)
        recipe = RecognizerRecipe(lr=options.vgg_lr, lr_decay_steps=options.vgg_lr_decay_steps,
                                  falling_steps=self._recognizer_steps() if options.vgg_schedule == "cosine" else None,
                                  synthesized_weight=options.synthesized_weight, guided=options.guided)
        with self._seeded("init", "gan"):
            self.gan = SwapGAN(shape, GANRecipe.of(options), device=device, amp=amp, processes=processes)
        with self._seeded("init", "recognizer"):
            network = VGG_fx(self.n, options.vgg_width, options.fc_width, options.base_width)
        start = "none" if restoring else options.vgg_init
        self.recognizer = Recognizer(initialize(network, start), recipe, device, amp, processes)
        if options.compile:
            for part in (self.gan.generator, self.gan.discriminators, self.recognizer.network):
                part.compile()
        self.best_acc = -1.0

        self.perceptual_file = Path(options.perceptual or self.folder / "VGG_loss" / f"{self.n}_max_ckpt.t7")
        wanted = options.vgg_loss or options.vgg_init == "stage0"
        needs_stage0 = wanted and not self.perceptual_file.is_file()
        self.perceptual_epochs = options.perceptual_epochs if needs_stage0 else 0
        if needs_stage0 and not restoring and not self.perceptual_epochs:
            raise UserError("--perceptual_epochs 0: there is no perceptual network yet; train one, take one from "
                            "elsewhere with --perceptual FILE, or do without with --no_vgg_loss")
        if wanted and not needs_stage0 and not restoring:
            self._check_perceptual()
        self.stage0, self.best_stage0 = None, {"acc": -1.0, "step": 0, "net": {}}
        self._amp = amp

        self.stage, self.step = 0, 0
        self.sums: dict[str, tuple["torch.Tensor", int]] = {}
        self.speed, self.rates = Speedometer(device, amp or torch.float32, options.compile), {}
        self.log: utils.RunLog | None = None
        self.log_position: int | None = None
        self._saved_at = time.monotonic()

    # --------------------------------------------------------------------------------------- the schedule

    def run(self) -> None:
        """Train from the position on to the end; Stopped after SIGINT or SIGTERM, with the state saved."""
        if self.processes.main:
            self._start_folder()
        if not self.states.exists():
            self.save()
        epoch_of = {"perceptual": self._perceptual_epoch, "gan": self._gan_epoch, "recognizer": self._recognizer_epoch}
        while self.stage < len(self.stages):
            epoch_of[self.stages[self.stage].phase](self.stages[self.stage])
            self.stage, self.step, self.sums = self.stage + 1, 0, {}
            self._save_if_due(end_of_stage=True)

    @property
    def stages(self) -> list[Stage]:
        """The whole schedule of this run."""
        return schedule(self.perceptual_epochs, self.options.epochs, self.options.round_every,
                        self.options.round_epochs)

    def _perceptual_epoch(self, stage: Stage) -> None:
        """Stage 0: a plain VGG19-bn on the real training images, the best on the selection images kept (METHOD §1)."""
        from datasets.loading import real_plan, to_float
        from models.augment import disturbed
        from models.checkpoints import on_cpu
        from models.recognizer import Examples

        network, options = self._stage0(), self.options

        def step(batch: "Loaded") -> "Figures":
            image, label = to_float(batch.first, self.device), batch.label.to(self.device)
            if options.perceptual_disturbed:
                image = disturbed(image, utils.generator(options.seed, "disturbed", network.steps, self.processes.rank))
            with self._seeded("dropout", "perceptual", network.steps, self.processes.rank):
                return network.step(Examples(label, (image,), totals=(batch.total, 0)))

        means = self._steps(stage, real_plan(len(self.layout.train), options.vgg_batch_size, options.seed, "stage0",
                                             stage.epoch), step)
        acc = self._selection_accuracy(network, None)
        self._summarize(stage, {**means, f"{options.select_on}_acc": acc})
        if acc >= self.best_stage0["acc"]:
            self.best_stage0 = {"acc": acc, "step": network.steps, "net": on_cpu(network.network)}
        if stage.epoch == self.perceptual_epochs - 1:
            if self.processes.main:
                utils.save_checkpoint(self.perceptual_file, {**self.best_stage0, "config": self.config()})
            self.processes.wait()
            self.stage0, self.best_stage0 = None, {"acc": -1.0, "step": 0, "net": {}}

    def _check_perceptual(self) -> None:
        """UserError where the perceptual network at hand is none, or was trained for something else."""
        from models.checkpoints import load_perceptual, perceptual_config

        features = load_perceptual(self.perceptual_file).features
        width = features[0].out_channels
        if self.options.vgg_init == "stage0" and width != self.options.vgg_width:
            raise UserError(f"{self.perceptual_file}: its width is {width}, and --vgg_init stage0 needs --vgg_width "
                            f"{self.options.vgg_width}; delete it to train another")
        known, ours = perceptual_config(self.perceptual_file), self.config()
        other = [name for name in ("expressions", "image_size") if known.get(name, ours[name]) != ours[name]]
        if Path(known.get("data_dir", ours["data_dir"])).resolve() != Path(ours["data_dir"]).resolve():
            other.append("data_dir")
        if other and not self.options.perceptual:
            raise UserError(f"{self.perceptual_file}: was trained with {other[0]} {known[other[0]]}, not "
                            f"{ours[other[0]]}; delete it to train another, or take it nevertheless with "
                            f"--perceptual {self.perceptual_file}")

    def _gan_epoch(self, stage: Stage) -> None:
        """(training images) / (batch size) steps on random pairs (METHOD §2, §3)."""
        from datasets.loading import gan_plan
        from models.checkpoints import load_perceptual, save_gan

        options = self.options
        if options.vgg_loss and self.gan.perceptual is None:
            self.gan.set_perceptual(load_perceptual(self.perceptual_file, tuple(options.vgg_taps)))

        def step(batch: "Loaded") -> "Figures":
            noise = utils.generator(options.seed, "noise", self.gan.steps)
            return self.gan.step(self._pair(batch), noise, batch.total)

        means = self._steps(stage, gan_plan(self.layout.train, options.batch_size, options.seed, stage.epoch,
                                            options.paired, options.scene_truth, options.mirror,
                                            options.mismatched), step)
        self._summarize(stage, means)
        if self.processes.main:
            save_gan(self.folder / "model", self.gan, self.config(), stage.epoch + 1)
            self._save_grid(stage.epoch + 1)

    def _recognizer_epoch(self, stage: Stage) -> None:
        """A pass over the real images with synthesized ones between them, then the choice of the best (METHOD §5)."""
        import torch
        from models.augment import augmented
        from models.checkpoints import initialize, save_recognizer
        from models.recognizer import real_features

        options, recognizer = self.options, self.recognizer
        if options.vgg_init == "stage0" and recognizer.steps == 0:
            initialize(recognizer.network, self.perceptual_file)
        plan, group = self._recognizer_plan(stage.epoch)

        def step(examples: "Examples") -> "Figures":
            image, fx = examples.inputs
            if options.augment:
                image = augmented(image, utils.generator(options.seed, "augment", recognizer.steps,
                                                         self.processes.rank))
            if options.augment or options.encode_synthesized:
                own = torch.ones_like(examples.synthesized) if options.encode_synthesized else ~examples.synthesized
                if own.any():
                    fx = fx.index_put((own,), real_features(self.gan.encoder, image[own]))
            with self._seeded("dropout", "recognizer", recognizer.steps, self.processes.rank):
                return recognizer.step(examples._replace(inputs=(image, fx)))

        def with_features(batches: Iterator["Loaded"]) -> Iterator["Examples"]:
            return examples_of(batches, self.gan, group)

        means = self._steps(stage, plan, step, with_features, group)
        acc = self._selection_accuracy(recognizer, self.gan.encoder)
        self._summarize(stage, {**means, f"{options.select_on}_acc": acc})
        if acc >= self.best_acc:
            self.best_acc = acc
            if self.processes.main:
                save_recognizer(self.folder / "VGG", recognizer, self.gan.encoder, acc, self.config())

    def _recognizer_plan(self, epoch: int) -> tuple[list["Batch"], int]:
        """The batches of a recognizer epoch, and how many of them are prepared at once."""
        import numpy
        from datasets.loading import mixed_plan, recognizer_plan

        options = self.options
        labels = numpy.array([sample.label for sample in self.layout.train])
        extra, synthesized = further_batches(epoch, options)
        if options.mix:
            return mixed_plan(labels, self.pairs, options.vgg_batch_size, options.mix, synthesized, options.seed,
                              epoch, options.balanced), 6
        return recognizer_plan(labels, self.pairs, options.vgg_batch_size, extra, synthesized, options.seed, epoch,
                               options.balanced), 1 + extra

    def _recognizer_steps(self) -> int:
        """The steps of all recognizer epochs that are planned."""
        epochs = self.options.epochs // self.options.round_every * self.options.round_epochs
        return max(1, sum(len(self._recognizer_plan(epoch)[0]) for epoch in range(epochs)))

    # ------------------------------------------------------------------------------------- steps and state

    def _steps(self, stage: Stage, plan: list["Batch"], step: Callable[[Any], "Figures"],
               prepared: Callable[[Iterator["Loaded"]], Iterator[Any]] = iter, group: int = 1) -> dict[str, float]:
        """Do the steps of a stage that are still to do; the means of their figures over the whole stage.

        ``step`` gets the batches as ``prepared`` makes them, which may work on ``group`` of them at once: a resumed
        stage begins with the whole group. A GPU's figures are read when they are shown, and not waited for in between.
        """
        from datasets.loading import load

        done = self.step % group
        batches = prepared(load(self.images, plan[self.step - done:], self.options.num_workers,
                                self.device.type == "cuda", self.processes.share))
        bar = utils.progress(islice(batches, done, None), f"{stage.phase} {stage.epoch + 1}", len(plan),
                             initial=self.step, disable=None if self.processes.main else True)
        self.speed.start()
        for batch in bar:
            figures = self.speed.step(stage.phase, len(batch.label), lambda: step(batch))
            for name, value in figures.items():
                total, count = self.sums.get(name, (0.0, 0))
                self.sums[name] = (total + value.double(), count + 1)
            shown = self.step % self.options.log_every == 0
            if shown or self.device.type == "cpu":
                read = {name: float(value) for name, value in figures.items()}
                self._check_finite(read)
                if shown and self.log:
                    self.log.write(stage.phase, stage.epoch, stage.epoch * len(plan) + self.step, read)
                    bar.set_postfix({name: f"{value:.3g}" for name, value in read.items()})
            self.step += 1
            self._save_if_due()
        self.rates = self.speed.figures(stage.phase, self.processes.world)
        return {name: float(total) / count for name, (total, count) in self.sums.items()}

    def _check_finite(self, figures: dict[str, float]) -> None:
        broken = [name for name, value in figures.items() if value != value or abs(value) == float("inf")]
        if broken:
            stage = self.stages[self.stage]
            raise UserError(f"the loss {broken[0]} is {figures[broken[0]]} in {stage.phase} epoch {stage.epoch + 1}, "
                            f"step {self.step + 1} or before; the last good state is "
                            f"{self.states.newest() or 'not yet saved'}: go on "
                            "from there with a lower learning rate (--restore --force --lr ...)")

    def _save_if_due(self, end_of_stage: bool = False) -> None:
        """Save every few minutes, after each stage and before stopping; what one process decides, all do."""
        import torch

        overdue = self.processes.main and time.monotonic() - self._saved_at > 60 * self.options.save_minutes
        device = self.device if self.processes.world > 1 else "cpu"  # no wait for a GPU where nobody else is asked
        signum, due = self.processes.max(torch.tensor([self.stop_signal(), overdue], device=device)).tolist()
        if signum or due or end_of_stage:
            self.save()
        if signum:
            raise utils.Stopped(signum, f"stopped by signal {signum}, the state is saved; go on with --restore "
                                f"--checkpoint_dir {self.folder}")

    def save(self) -> None:
        """Save everything that the rest of the run depends on; UserError for a loss that is no number."""
        sums = {name: (float(total), count) for name, (total, count) in self.sums.items()}
        self._check_finite({name: total for name, (total, _) in sums.items()})
        if self.processes.main:
            self.states.save({"format": STATE_FORMAT, "stage": self.stage, "step": self.step, "sums": sums,
                              "best_acc": self.best_acc, "perceptual_epochs": self.perceptual_epochs,
                              "data": self._fingerprint(),
                              "log_position": self.log.position, "gan": self.gan.state_dict(),
                              "recognizer": self.recognizer.state_dict(), "best_stage0": self.best_stage0,
                              "stage0": self.stage0 and self.stage0.state_dict()})
        self._saved_at = time.monotonic()

    def restore(self) -> None:
        """Take up the newest undamaged state; UserError where there is none or the data have changed."""
        import torch

        state = self.states.load()
        if state.get("format") != STATE_FORMAT:
            raise UserError(f"--restore: the training state in {self.folder / 'state'} was written by another version "
                            "of this program; go on with that one, or behind an epoch's networks with --restore N")
        if state["data"] != self._fingerprint() and not self.options.force:
            raise UserError(f"--restore: the lists in {self.layout.root} have changed since the run was started; "
                            "put them back, or add --force")
        self.stage, self.step = state["stage"], state["step"]
        self.sums = {name: (torch.tensor(total, dtype=torch.float64, device=self.device), count)
                     for name, (total, count) in state["sums"].items()}
        self.best_acc, self.perceptual_epochs = state["best_acc"], state["perceptual_epochs"]
        self.gan.load_state_dict(state["gan"])
        self.recognizer.load_state_dict(state["recognizer"])
        self.best_stage0 = state["best_stage0"]
        if state["stage0"]:
            self._stage0().load_state_dict(state["stage0"])
        self.log_position = state["log_position"]

    def restore_networks(self, epoch: int) -> None:
        """Go on behind GAN epoch ``epoch`` (from 1): its networks, the best recognizer if any, new optimizers."""
        from models.checkpoints import load_gan_networks, load_into, load_recognizer

        if self.options.vgg_loss and not self.perceptual_file.is_file():
            raise UserError(f"--restore {epoch}: {self.perceptual_file} is not there; give the perceptual network with "
                            "--perceptual FILE, or do without with --no_vgg_loss")
        load_gan_networks(self.folder / "model", self.gan, epoch, tuple(self.gan.STATES))
        self.gan.start_from_used()
        if (self.folder / "VGG" / "max_ckpt.t7").is_file():
            best = load_recognizer(self.folder / "VGG", self.device)
            load_into(self.recognizer.network, best.recognizer.network.state_dict())
            self.best_acc, self.recognizer.steps = best.acc, best.step
        self.gan.steps = epoch * max(1, len(self.layout.train) // self.options.batch_size)
        self.stage = 1 + self.stages.index(Stage("gan", epoch - 1))
        log = self.folder / "log" / "metrics.csv"
        self.log_position = log.stat().st_size if log.is_file() else None

    # ---------------------------------------------------------------------------------------- what it writes

    def _start_folder(self) -> None:
        from datasets.splits import pair_lines

        everyone, splits = self.layout.train + self.layout.target_only, self.folder / "splits"
        utils.write_text(splits / "images_val.list", "".join(f"{s.name} {s.label}\n" for s in self.layout.val))
        utils.write_text(splits / "images_gan_nature.list",
                         pair_lines((everyone[source], everyone[target]) for source, target in self.pairs))
        utils.write_json(self.folder / "options.json",
                         {**vars(self.options), "attributes": list(self.layout.expressions)})
        self.log = utils.RunLog(self.folder / "log", self.log_position)
        self.speed_log = utils.RunLog(self.folder / "log", sys.maxsize, "speed.csv")
        print(f"{self.folder}: {len(self.layout.train)} training and {len(self.layout.val)} validation images of "
              f"{self.n} expressions, {len(self.pairs)} pairs, on {self.processes.world} x {self.device.type}")

    def config(self) -> dict[str, Any]:
        """What a checkpoint needs to be used alone."""
        from datasets.align import alignment_of

        names, neutral = self.layout.expressions, self.layout.neutral
        return {"expressions": list(names), "listed": list(self.layout.listed),
                "neutral_name": names[neutral] if neutral < self.n else None,
                "image_size": self.options.image_size, "alignment": alignment_of(self.layout.root),
                "data_dir": str(self.layout.root),
                "selected_on": self.options.select_on, "gan": self.gan.config()}

    def _save_grid(self, epochs_done: int) -> None:
        """Rows A, B, C, D, A', B' of eight pairs of selection images, the same at every epoch."""
        from datasets.loading import Images, gan_plan, load
        from models.figures import grid

        images: Images = self.selection_images
        if len({sample.label for sample in images.samples}) < 2:
            return
        batch = next(load(images, gan_plan(images.samples, 8, self.options.seed, -1)[:1]))
        pair = self._pair(batch)
        utils.save_picture(grid([pair.image_a, pair.image_b, *self.gan.edits(pair)[:4]]),
                           self.folder / "img" / f"epoch_{epochs_done:03d}.jpg")

    def _summarize(self, stage: Stage, figures: dict[str, float]) -> None:
        if not self.processes.main:
            return
        self.log.write(f"{stage.phase}_epoch", stage.epoch, stage.epoch, figures)
        self.speed_log.write(stage.phase, stage.epoch, stage.epoch, self.rates)
        print(f"{stage.phase} epoch {stage.epoch + 1}: "
              + "  ".join(f"{name} {value:.4g}" for name, value in {**figures, **self.rates}.items()), flush=True)

    # ---------------------------------------------------------------------------------------------- helpers

    def _fingerprint(self) -> str:
        """A hash of all that a training sees of its lists."""
        layout = self.layout
        rows = [[split, s.name, s.label, s.subject, s.scene] for split in ("train", "val", "target_only")
                for s in getattr(layout, split)]
        return utils.fingerprint([layout.neutral, rows, self.pairs.tolist()])

    def _pair(self, batch: "Loaded") -> "Pair":
        from datasets.loading import to_float
        from models.swap import Pair

        pair = Pair(to_float(batch.first, self.device), to_float(batch.second, self.device),
                    batch.label.to(self.device), batch.second_label.to(self.device),
                    mismatch=batch.mismatch.to(self.device))
        return pair if batch.truth is None else pair._replace(truth=to_float(batch.truth, self.device),
                                                              known=batch.known.to(self.device))

    def _stage0(self) -> "Recognizer":
        from models.checkpoints import initialize
        from models.recognizer import Recognizer, RecognizerRecipe
        from models.vgg import VGG

        options = self.options
        if self.stage0 is None:
            with self._seeded("init", "perceptual"):
                network = VGG(self.n, options.vgg_width, options.fc_width)
            steps = self.perceptual_epochs * -(-len(self.layout.train) // options.vgg_batch_size)
            self.stage0 = Recognizer(initialize(network, options.vgg_init),
                                     RecognizerRecipe(options.perceptual_lr, adam=True, falling_steps=steps), self.device,
                                     self._amp, self.processes)
        return self.stage0

    def _selection_accuracy(self, recognizer: "Recognizer", encoder: "Encoder | None") -> float:
        """Accuracy in % on the images that choose the best network (with --balanced the mean of the classes')."""
        from models.recognizer import evaluate

        batches = self.selection_images.evaluation_batches(64, self.device, self.options.num_workers,
                                                           self.processes.share)
        report = evaluate(recognizer, encoder, batches, self.n)
        return report.mean_class_accuracy if self.options.balanced else report.accuracy

    @contextmanager
    def _seeded(self, *stream: int | str) -> Iterator[None]:
        """Dropout and initialization draw from torch's global generators: seed these for one stream."""
        import torch

        torch.manual_seed(utils.derived_seed(self.options.seed, *stream))
        yield


def amp_dtype(choice: str, device: "torch.device") -> "torch.dtype | None":
    """``--amp`` → the dtype of autocast, None for float32."""
    import torch

    if choice == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None
    if choice == "fp16" and device.type == "cpu":
        raise UserError("--amp fp16 needs a GPU; on the CPU there is bf16")
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[choice]


# ------------------------------------------------------------------------------------------------ the modes

def train(options: argparse.Namespace) -> None:
    """``--mode train``: check everything, then train, then judge the best recognizer on the test list."""
    from models.parallel import Processes

    device = utils.pick_device(options.gpu)
    set_backends(options.deterministic)
    processes = Processes.join(device)
    if options.preset == "demo":
        if processes.main:
            draw_demo(options)
        processes.wait()
    restoring, layout = goes_on(options), checked_layout(options, processes.world)
    training = JointTraining(options, layout, device, processes, restoring)
    if not restoring and processes.main:
        clear_run(training.folder)
    elif restoring and options.restore is not None and options.restore >= 0:
        training.restore_networks(options.restore)
    elif restoring:
        training.restore()
    with utils.noted_signals() as training.stop_signal:
        training.run()
    if processes.main:
        finish(options, training)
    processes.leave()


def checked_layout(options: argparse.Namespace, world: int) -> "Layout":
    """The data with its validation split; UserError for whatever training would stumble over later."""
    from datasets.layout import DATA_SETS, check_classes, check_images, read_layout
    from datasets.splits import with_validation

    if min(options.batch_size, options.vgg_batch_size // 2) < world:
        raise UserError(f"--batch_size {options.batch_size} and --vgg_batch_size {options.vgg_batch_size} are too "
                        f"small for {world} processes: at least {world} and {2 * world}")
    data = DATA_SETS[options.data]
    layout = read_layout(options.data_dir or data.directory, options.attributes,
                         known=None if options.data_dir else data.expressions, neutral=options.neutral)
    layout = with_validation(layout, options.seed)
    check_classes(layout)
    if not layout.split(options.select_on):
        raise UserError(f"{layout.root}: too few images to cut a validation split from; list some in images_val.list, "
                        "or use --select_on test")
    check_images(layout.split("all") + layout.target_only)
    if options.select_on == "test" and utils.main_process():
        print("note: --select_on test chooses the recognizer on the test images, as the reference does; "
              "its test accuracy flatters")
    return layout


def set_backends(deterministic: bool) -> None:
    """Let cuDNN try which algorithms are fastest, or torch use deterministic ones alone (``--deterministic``)."""
    import torch

    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def clear_run(folder: Path) -> None:
    """Delete what an earlier run has left, but for its perceptual network."""
    for name in ("state", "model", "VGG", "img", "log", "test_result", "splits"):
        shutil.rmtree(folder / name, ignore_errors=True)


def goes_on(options: argparse.Namespace) -> bool:
    """Whether there is a run to go on with; UserError where that is not what was asked for."""
    folder = Path(options.checkpoint_dir)
    has_state = utils.StateStore(folder / "state").exists()
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
    own_false_start = options.auto_restore and (folder / "options.json").is_file() and not (folder / "VGG").exists()
    if not options.overwrite and not own_false_start \
            and any((folder / name).exists() for name in ("state", "model", "VGG")):
        raise UserError(f"{folder} already holds a run: go on with --restore, delete it with --overwrite, or choose "
                        "another --checkpoint_dir")
    return False


def finish(options: argparse.Namespace, training: JointTraining) -> None:
    """Draw the sheet and judge the best recognizer on the test list; the demo also swaps and says how to go on."""
    from models.checkpoints import load_recognizer
    from test_matrix_multi import judge, write_report

    demo = options.preset == "demo"
    results = Path(".") if demo else training.folder / "test_result"
    save_sheet(training.gan, training.layout, options.rows, options.seed, results / "grid.jpg")
    resume_dir = training.folder / "VGG"
    if not (resume_dir / "max_ckpt.t7").is_file():
        print(f"no recognizer round in {options.epochs} epochs (--round_every {options.round_every}): no test")
        return
    report = judge(load_recognizer(resume_dir, training.device), training.layout, "test", options.image_size, 64,
                   options.num_workers)
    write_report(report, training.layout.expressions, f"best recognizer of {training.folder} on "
                 f"{training.layout.root}, test images", results)
    if demo:
        names, pictures = training.layout.expressions, Path(__file__).parent / "images"
        if {"smile", "neutral"} <= set(names):
            options.swap_list = [names.index("smile"), names.index("neutral")]
            options.input, options.target = pictures / "smile.jpg", [pictures / "neutral.jpg"]
            options.output = "result.jpg"
            swap(options)
        print("\ngo on with\n"
              "  python train.py --preset demo --mode test --restore --swap_list 2 5 --input images/smile.jpg "
              "--target images/neutral.jpg\n"
              f"  python test_matrix_multi.py --resume_dir {resume_dir}")


def draw_demo(options: argparse.Namespace) -> None:
    """Draw the built-in data into the demo's directory if it is absent."""
    from datasets.synthetic import make_dataset

    if not (Path(options.data_dir) / "images.list").is_file():
        print(f"drawing the built-in faces into {options.data_dir}")
        make_dataset(options.data_dir, image_size=options.image_size)


def start_processes(options: argparse.Namespace) -> None:
    """``--gpu 0 1``: become ``torchrun`` with one process per GPU; nothing where it has been done or is in vain."""
    if options.gpu is None or len(options.gpu) < 2 or "WORLD_SIZE" in os.environ:
        return
    import torch

    if torch.cuda.is_available():
        if len(set(options.gpu)) < len(options.gpu) or not 0 <= min(options.gpu) <= max(options.gpu) < \
                torch.cuda.device_count():
            raise UserError(f"--gpu {' '.join(map(str, options.gpu))}: different GPUs are needed, this machine has "
                            f"{torch.cuda.device_count()}, numbered from 0")
        if options.preset != "demo":
            checked_layout(options, len(options.gpu))  # a mistake in the data is one line here, and many there
        os.execv(sys.executable, [sys.executable, "-m", "torch.distributed.run", "--standalone",
                                  f"--nproc_per_node={len(options.gpu)}", *sys.argv])


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    options = read_options(words)
    if options.mode == "train":
        start_processes(options)
    work = {"train": train, "test": swap, "evaluate": evaluate_swaps, "grid": draw_grid, "generate": generate,
            "recognize": recognize, "export": export}
    work[options.mode](options)


if __name__ == "__main__":
    utils.run_command(main)
