"""The three phases of a training, each of which reads like its section of the paper (METHOD §1, §3, §5)."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Any, Iterable, Iterator

import numpy
import torch

import utils
from datasets.loading import Loaded, load
from datasets.plans import Plan, gan_plan, mixed_plan, mixed_sizes, real_plan, recognizer_plan, third_of_pairs
from options.option import picked
from models.augment import augmented
from models.checkpoints import (initialize, load_gan_networks, load_into, load_perceptual, load_recognizer, on_cpu,
                                perceptual_config, perceptual_fingerprint, save_gan, save_recognizer)
from pictures.figures import grid
from models.generator import Encoder
from options.recipes import GANRecipe, GANShape, RecognizerRecipe
from evaluation.metrics import Report
from models.recognizer import Examples, Recognizer, evaluate, real_features
from models.swap import Pair
from models.swap_gan import SwapGAN
from models.vgg import VGG, VGG_fx
from training.trainer import Figures, Setting, Stage
from utils import UserError

TOGETHER = 6  # mixed batches whose synthesized images are made at once
STEPS_BETWEEN_TESTS = 200  # the recognizer's batches between two judgments with --select_on test (METHOD §5)


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


# ---------------------------------------------------------------------------------- the perceptual network

class PerceptualPhase:
    """Stage 0: a plain VGG19-bn on the real training images, the best on the selection images kept (METHOD §1).

    Or the last, with ``--select_on none``.
    """

    name = "perceptual"

    def __init__(self, setting: Setting, config: dict[str, Any], restoring: bool) -> None:
        self.setting, self.config = setting, config
        options, n = setting.options, len(setting.layout.expressions)
        self.own_file = setting.folder / "VGG_loss" / f"{n}_max_ckpt.t7"  # the only one that is ever written
        self.file = Path(options.perceptual or self.own_file)
        wanted, there = options.vgg_loss or options.vgg_init == "stage0", self.file.is_file()
        if there and not restoring and options.overwrite and self._of_other_images():
            there = False
        self.epochs = options.perceptual_epochs if wanted and not there else 0
        if not restoring and wanted and there:
            self._check_file()
        elif not restoring and options.perceptual and not there:
            raise UserError(f"--perceptual {self.file}: no such file")
        elif not restoring and wanted and not self.epochs:
            raise UserError("--perceptual_epochs 0: there is no perceptual network yet; train one, take one from "
                            "elsewhere with --perceptual FILE, or do without with --no_vgg_loss")
        self._recognizer: Recognizer | None = None
        self._best: dict[str, Any] = {"acc": -1.0, "step": 0, "net": {}}
        self._found: str | None = None  # the fingerprint of the finished network, once it has been asked for

    def _check_file(self) -> None:
        """UserError where the perceptual network at hand is none, or was trained for something else."""
        options, ours = self.setting.options, self.config
        width = load_perceptual(self.file).features[0].out_channels
        if options.vgg_init == "stage0" and width != options.vgg_width:
            raise UserError(f"{self.file}: its width is {width}, and --vgg_init stage0 needs --vgg_width "
                            f"{options.vgg_width}; delete it to train another")
        known = perceptual_config(self.file)
        other = [name for name in ("expressions", "image_size") if known.get(name, ours[name]) != ours[name]]
        if Path(known.get("data_dir", ours["data_dir"])).resolve() != Path(ours["data_dir"]).resolve():
            other.append("data_dir")
        if other and not options.perceptual:
            raise UserError(f"{self.file}: was trained with {other[0]} {known[other[0]]}, not {ours[other[0]]}; delete "
                            f"it to train another, or take it nevertheless with --perceptual {self.file}")
        if self._of_other_images():
            raise UserError(f"{self.file}: was trained on other images than those of this run, perhaps on some that "
                            "judge it; delete it to train another")

    def _of_other_images(self) -> bool:
        """Whether the perceptual network at hand was trained or chosen on other images; older ones tell the fold alone."""
        known, ours = {} if self.setting.options.perceptual else perceptual_config(self.file), self.config
        return bool(known) and (known.get("fold") != ours["fold"]
                                or known.get("images", ours["images"]) != ours["images"])

    @property
    def recognizer(self) -> Recognizer:
        """The network in training, made when it is first needed."""
        if self._recognizer is None:
            setting, options = self.setting, self.setting.options
            setting.seed_torch("init", "perceptual")
            network = initialize(VGG(len(setting.layout.expressions), options.vgg_width, options.fc_width),
                                 options.vgg_init)
            steps = self.epochs * -(-len(setting.layout.train) // options.vgg_batch_size)
            recipe = RecognizerRecipe(options.perceptual_lr, adam=True, falling_steps=steps)
            self._recognizer = Recognizer(network, recipe, setting.device, setting.amp, setting.processes)
        return self._recognizer

    def plan(self, epoch: int) -> Plan:
        """One pass over the real training images; with ``--balanced`` all expressions equally often."""
        options, labels = self.setting.options, [sample.label for sample in self.setting.layout.train]
        return real_plan(len(labels), options.vgg_batch_size, options.seed, "stage0", epoch,
                         balanced=labels if options.balanced else None)

    def group(self, epoch: int) -> int:
        """Batches are prepared one by one."""
        return 1

    def prepared(self, epoch: int, batches: Iterator[Loaded]) -> Iterator[Examples]:
        """Real images alone, without codes."""
        for batch in batches:
            batch = batch.to(self.setting.device)
            yield Examples(batch.label, (batch.first,), totals=(batch.total, 0))

    def step(self, batch: Examples) -> Figures:
        """One step on real images."""
        self.setting.seed_torch("dropout", "perceptual", self.recognizer.steps, self.setting.processes.rank)
        return self.recognizer.step(batch)

    def close(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Keep the best so far; after the last epoch, write it."""
        acc, kept, report = judged(self.setting, self.recognizer, None, self._best["acc"])
        if kept:
            self._best = {"acc": acc, "step": self.recognizer.steps, "net": on_cpu(self.recognizer.network)}
        if epoch == self.epochs - 1:
            if report and report.near_chance and not self.setting.options.force:
                raise UserError(f"the perceptual network is near chance after {self.epochs} epochs (mean class "
                                f"accuracy {report.mean_class_accuracy:.1f} %); start anew with more "
                                "--perceptual_epochs, another --perceptual_lr or --perceptual FILE, or go on with "
                                "--restore --force")
            if self.setting.processes.main:
                utils.save_checkpoint(self.own_file, {**self._best, "config": self.config})
            self.setting.processes.wait()
            self._recognizer, self._best = None, {"acc": -1.0, "step": 0, "net": {}}
        return {**means, **selection_figure(self.setting, acc)}

    def state(self) -> dict[str, Any]:
        """Its epochs, and the networks while they are in training, or which one came out."""
        return {"epochs": self.epochs, "best": self._best, "used": None if self._recognizer else self._used(),
                "recognizer": self._recognizer and self._recognizer.state_dict()}

    def _used(self) -> str | None:
        """The fingerprint of the network that the other phases use, None where there is none."""
        options = self.setting.options
        if self._found is None and (options.vgg_loss or options.vgg_init == "stage0") and self.file.is_file():
            self._found = perceptual_fingerprint(self.file)
        return self._found

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""
        self.epochs, self._best = state["epochs"], state["best"]
        if state["recognizer"] and self.setting.options.perceptual:
            raise UserError(f"--perceptual {self.file}: the run is in the middle of training its own; leave it out")
        used = state.get("used")  # older states do not tell
        if used and self._used() not in (None, used) and not self.setting.options.force:
            raise UserError(f"{self.file}: is another perceptual network than the one that this run was trained with; put "
                            "that back, or add --force")
        if state["recognizer"]:
            self.recognizer.load_state_dict(state["recognizer"])


# ------------------------------------------------------------------------------------------------- the GAN

class GANPhase:
    """(training images) / (batch size) steps on random pairs (METHOD §2, §3)."""

    name = "gan"

    def __init__(self, setting: Setting, config: dict[str, Any], perceptual_file: Path) -> None:
        self.setting, self.config, self.perceptual_file = setting, config, perceptual_file
        options = setting.options
        setting.seed_torch("init", "gan")
        shape = picked(GANShape, options, num_classes=len(setting.layout.expressions))
        steps = options.epochs * max(1, len(setting.layout.train) // options.batch_size)
        recipe = picked(GANRecipe, options, planned_steps=steps)
        self.gan = SwapGAN(shape, recipe, device=setting.device, amp=setting.amp,
                           processes=setting.processes)
        config["gan"] = self.gan.config()
        if options.compile:
            self.gan.compile()

    def plan(self, epoch: int) -> Plan:
        """A of one expression, B of any others."""
        options = self.setting.options
        return gan_plan(self.setting.layout.train, options.batch_size, options.seed, epoch, options.scene_truth,
                        options.mirror, options.mismatched, options.balanced)

    def group(self, epoch: int) -> int:
        """Batches are prepared one by one."""
        return 1

    def prepared(self, epoch: int, batches: Iterator[Loaded]) -> Iterator[Loaded]:
        """The batches on the device; the perceptual network is there from now on."""
        if self.setting.options.vgg_loss and self.gan.perceptual is None:
            self.gan.set_perceptual(load_perceptual(self.perceptual_file))
        return (batch.to(self.setting.device) for batch in batches)

    def step(self, batch: Loaded) -> Figures:
        """One step of the discriminators and one of the generator."""
        noise = utils.generator(self.setting.options.seed, "noise", self.gan.steps)
        return self.gan.step(pair_of(batch), noise, batch.total)

    def close(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Write the networks, and rows A, B, C, D, A', B' of eight pairs, always the same, of selection images if any."""
        setting = self.setting
        if not setting.processes.main:
            return means
        if means["D_updated"] < 0.5:
            print(f"warning: the discriminators were updated in {100 * means['D_updated']:.0f} % of the steps of this "
                  f"epoch, since the generator's loss was {setting.options.G_max:g} or more; raise --G_max",
                  file=sys.stderr)
        images = setting.selection_images
        if not images.samples:
            images = setting.images.of(setting.layout.train)
        save_gan(setting.folder / "model", self.gan, self.config, epoch + 1)
        if len({sample.label for sample in images.samples}) > 1:
            batch = next(load(images, gan_plan(images.samples, 8, setting.options.seed, -1)[:1]))
            pair = pair_of(batch.to(setting.device))
            utils.save_picture(grid([pair.image_a, pair.image_b, *self.gan.edits(pair)[:4]]),
                               setting.folder / "img" / f"epoch_{epoch + 1:03d}.jpg")
        return means

    def state(self) -> dict[str, Any]:
        """That of the GAN."""
        return self.gan.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""
        self.gan.load_state_dict(state)

    def load_networks(self, epoch: int) -> None:
        """Go on behind GAN epoch ``epoch`` (from 1), with its networks and new optimizers."""
        options = self.setting.options
        if options.vgg_loss and not self.perceptual_file.is_file():
            raise UserError(f"--restore {epoch}: {self.perceptual_file} is not there; give the perceptual network with "
                            "--perceptual FILE, or do without with --no_vgg_loss")
        load_gan_networks(self.setting.folder / "model", self.gan, epoch, tuple(self.gan.STATES))
        self.gan.start_from_used()
        self.gan.steps = epoch * max(1, len(self.setting.layout.train) // options.batch_size)


def pair_of(batch: Loaded) -> Pair:
    """What the GAN takes, from a batch on its device."""
    return Pair(batch.first, batch.second, batch.label, batch.second_label, batch.truth, batch.known, batch.mismatch)


# ------------------------------------------------------------------------------------------ the recognizer

class RecognizerPhase:
    """A pass over the real images with synthesized ones among them, then the choice of the best (METHOD §5)."""

    name = "recognizer"

    def __init__(self, setting: Setting, config: dict[str, Any], gan: SwapGAN, perceptual_file: Path,
                 pairs: numpy.ndarray, restoring: bool) -> None:
        self.setting, self.config, self.gan, self.perceptual_file = setting, config, gan, perceptual_file
        self.pairs, options, n = pairs, setting.options, len(setting.layout.expressions)
        self.labels = numpy.array([sample.label for sample in setting.layout.train])
        recipe = picked(RecognizerRecipe, options,
                        falling_steps=max(1, self._steps_of(options.epochs // options.round_every))
                        if options.vgg_schedule == "cosine" else None)
        setting.seed_torch("init", "recognizer")
        network = initialize(VGG_fx(n, options.vgg_width, options.fc_width, options.base_width),
                             "none" if restoring else options.vgg_init)
        self.recognizer = Recognizer(network, recipe, setting.device, setting.amp, setting.processes)
        if options.compile:
            self.recognizer.compile()
        self.best_acc = -1.0

    def _steps_of(self, rounds: int) -> int:
        """The steps of the first rounds of the run."""
        options, count = self.setting.options, len(self.labels)
        epochs = rounds * options.round_epochs
        if options.mix:
            return epochs * mixed_sizes(count, options.vgg_batch_size, options.mix)[0]
        return sum(self.group(epoch) for epoch in range(epochs)) * -(-count // options.vgg_batch_size)

    def plan(self, epoch: int) -> Plan:
        """Real batches with synthesized ones after each, or batches of both (``--mix``)."""
        options = self.setting.options
        extra, synthesized = further_batches(epoch, options)
        settings = {"synthesized": synthesized, "seed": options.seed, "epoch": epoch, "balanced": options.balanced}
        pairs = third_of_pairs(self.pairs, options.seed, epoch) if options.ablation else self.pairs
        if options.mix:
            return mixed_plan(self.labels, pairs, options.vgg_batch_size, options.mix, **settings)
        return recognizer_plan(self.labels, pairs, options.vgg_batch_size, extra, **settings)

    def group(self, epoch: int) -> int:
        """The synthesized images of some mixed batches, or of those behind a real one, are made at once."""
        return TOGETHER if self.setting.options.mix else 1 + further_batches(epoch, self.setting.options)[0]

    def prepared(self, epoch: int, batches: Iterator[Loaded]) -> Iterator[Examples]:
        """Real faces and swaps with their codes; real ones that are still to be augmented have none yet."""
        options = self.setting.options
        if options.vgg_init == "stage0" and self.recognizer.steps == 0:
            initialize(self.recognizer.network, self.perceptual_file)
        return examples_of(batches, self.gan, self.group(epoch),
                           real_codes=not (options.augment or options.encode_synthesized))

    def step(self, batch: Examples) -> Figures:
        """One step on real and synthesized images."""
        options, rank, steps = self.setting.options, self.setting.processes.rank, self.recognizer.steps
        image, fx = batch.inputs
        if options.augment:
            image = augmented(image, utils.generator(options.seed, "augment", steps, rank))
        if options.augment or options.encode_synthesized:  # codes are those of the image that is seen
            own = len(image) if options.encode_synthesized else batch.real
            fx = torch.cat([real_features(self.gan.encoder, image[:own], self.gan.amp), fx[own:]])
        self.setting.seed_torch("dropout", "recognizer", steps, rank)
        figures = self.recognizer.step(batch._replace(inputs=(image, fx)))
        if options.select_on == "test" and self.recognizer.steps % STEPS_BETWEEN_TESTS == 0:
            self._keep_if_better()
        return figures

    def close(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Judge it on the selection images, and write it with its encoder if it is to be kept.

        With ``--select_on test`` it was judged every ``STEPS_BETWEEN_TESTS`` batches, as in the published code, and is
        judged here only if the epoch had too few batches for that.
        """
        before = self.recognizer.steps - len(self.plan(epoch))
        was_tested = self.recognizer.steps // STEPS_BETWEEN_TESTS > before // STEPS_BETWEEN_TESTS
        if self.setting.options.select_on == "test" and was_tested:
            return {**means, "best_test_acc": self.best_acc}
        return {**means, **selection_figure(self.setting, self._keep_if_better())}

    def _keep_if_better(self) -> float:
        """Judge the recognizer on the selection images and keep it if it is to be kept; return its accuracy in percent."""
        acc, kept, _ = judged(self.setting, self.recognizer, self.gan.encoder, self.best_acc)
        if kept:
            self.best_acc = acc
            if self.setting.processes.main:
                save_recognizer(self.setting.folder / "VGG", self.recognizer, self.gan.encoder, acc, self.config)
        return acc

    def state(self) -> dict[str, Any]:
        """The recognizer, and how good the best was."""
        return {"best_acc": self.best_acc, "recognizer": self.recognizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""
        self.best_acc = state["best_acc"]
        self.recognizer.load_state_dict(state["recognizer"])

    def load_networks(self, epoch: int) -> None:
        """Go on behind GAN epoch ``epoch`` (from 1) with a new optimizer: from the best recognizer, if there is one.

        Before the first round, and where there is none, it starts as it does in a new run.
        """
        options, folder = self.setting.options, self.setting.folder / "VGG"
        rounds = (epoch - 1) // options.round_every
        best = load_recognizer(folder, self.setting.device) if (folder / "max_ckpt.t7").is_file() else None
        if best is not None:
            self.best_acc = best.acc
        if best is not None and rounds:
            load_into(self.recognizer.network, best.recognizer.network.state_dict())
            self.recognizer.steps = self._steps_of(rounds)
        else:
            initialize(self.recognizer.network, options.vgg_init)


def further_batches(epoch: int, options: Any) -> tuple[int, bool]:
    """How many batches follow each real one in a recognizer epoch, and whether they are synthesized (METHOD §5)."""
    count, synthesized = options.gan_raw or 6, True
    if options.multi_add_gan:
        rounds = epoch / max(1, options.round_epochs)
        count, synthesized = (1, False) if rounds < 2.5 else (2, True) if rounds < 5 else (3, True) if rounds < 7.5 \
            else (6, True)
    return count, synthesized and options.gan_raw > 0


def examples_of(batches: Iterable[Loaded], gan: SwapGAN, group: int, real_codes: bool = True) -> Iterator[Examples]:
    """What the recognizer learns from: real faces with their codes, and swaps with the swapped ones (METHOD §4, §5).

    The synthesized images of ``group`` batches are made at once. Without ``real_codes`` those of real faces are zeros,
    to be filled in once the faces look as they will be seen.
    """
    side = gan.shape.image_size // 32
    fx_shape = 16 * gan.shape.base_width, side, side
    batches = iter(batches)
    while some := [batch.to(gan.device) for batch in islice(batches, group)]:
        image, source, source_label, target, target_label = (torch.cat(parts) for parts in zip(*(
            (b.first[:b.alone], b.first[b.alone:], b.label[b.alone:], b.second, b.second_label) for b in some)))
        real, made = ((faces, faces.new_zeros(len(faces), *fx_shape)) for faces in (image, source))
        if len(image) and real_codes:
            real = image, real_features(gan.encoder, image, gan.amp)
        if len(source):
            made = gan.synthesize(source, target, source_label, target_label)
        of_real = (whole.split([batch.alone for batch in some]) for whole in real)
        of_made = (whole.split([len(batch.second) for batch in some]) for whole in made)
        for batch, image, fx, swap, swap_fx in zip(some, *of_real, *of_made):
            yield Examples(batch.label, (torch.cat([image, swap]), torch.cat([fx, swap_fx])), batch.alone,
                           (batch.total_alone, batch.total - batch.total_alone))


def judged(setting: Setting, recognizer: Recognizer, encoder: Encoder | None, best: float
           ) -> tuple[float, bool, Report | None]:
    """Accuracy in % on the selection images, whether to keep the network, and all figures, None without images.

    The best network so far had an accuracy of ``best``. Each image is judged by one of the processes. With
    ``--balanced`` it is the mean of the expressions' accuracies; -1 where there are no images. With ``--select_on none`` every network is kept in place of the one before, and with
    ``test`` only a strictly better one, as in the published code.
    """
    last, strict = setting.options.select_on == "none", setting.options.select_on == "test"
    if not setting.selection_images.samples:
        return -1.0, last, None
    batches = setting.selection_images.evaluation_batches(64, setting.device, setting.options.num_workers,
                                                          setting.processes.share)
    report = evaluate(recognizer, encoder, batches, len(setting.layout.expressions))
    acc = report.mean_class_accuracy if setting.options.balanced else report.accuracy
    return acc, last or acc > best or acc == best and not strict, report


def selection_figure(setting: Setting, acc: float) -> dict[str, float]:
    """What the log calls an accuracy on the selection images; nothing where there are none."""
    return {f"{'test' if setting.options.select_on == 'test' else 'val'}_acc": acc} if acc >= 0 else {}
