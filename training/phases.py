"""The three phases of a training: perceptual network, GAN and recognizer (METHOD §1, §3, §5)."""

import sys
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Sequence

import numpy
import torch
from PIL import Image
from torch import Tensor

import utils
from datasets.augmentations import read_augmentations
from datasets.loading import Batch, Images, augmenter, load, to_float
from datasets.plans import Plan, gan_plan, mixed_plan, mixed_sizes, real_plan, recognizer_plan, third_of_pairs
from models.checkpoints import (TrainedPerceptual, initialize, load_gan_networks, load_into, load_recognizer, on_cpu,
                                read_classifier, read_perceptual, save_checkpoint, save_gan, save_recognizer,
                                weights_digest)
from models.gan import SwapGAN
from models.judge import ExpressionJudge, train_judge
from models.networks import VGG, Pair, backbone_named
from models.recognizer import (LEAST_QUALITY, Examples, Recognizer, accuracies, chance_level, evaluate, near_chance,
                               real_features)
from options.config import (GANRecipe, GANSchedule, GANShape, PerceptualOptions, RecognizerRecipe, RecognizerSchedule,
                            RecognizerShape)
from training.run_directory import copy_to_machines
from training.facts import Facts
from training.trainer import Metrics, Phase, Stage, TrainingContext
from utils import UserError

Draw = Callable[[list[Tensor], list[str], Sequence[str], str], Image.Image]  # rows of images, heads, notes, title
SAMPLE_ROWS = ("A", "B", "C: A with B's expression", "D: B with A's expression", "A': A rebuilt", "B': B rebuilt")
JUDGE_SEED, JUDGE_BATCH = 20210, 32
GATE_EPOCHS, MOST_GATE_STEPS = 8, 2000  # of the judge that measures the swaps before a recognizer round
BATCHES_PER_EVALUATION = 200  # of a recognizer epoch with --select_on test, each begun by an evaluation (METHOD §5)


def all_stages(perceptual_epochs: int, epochs: int, round_every: int, round_epochs: int) -> list[Stage]:
    """Return stage 0, then GAN epochs with a recognizer round after every ``round_every`` of them (METHOD §5)."""
    stages = [Stage("perceptual", epoch) for epoch in range(perceptual_epochs)]
    for epoch in range(epochs):
        stages.append(Stage("gan", epoch))
        if (epoch + 1) % round_every == 0:
            first = epoch // round_every * round_epochs
            stages += [Stage("recognizer", first + i) for i in range(round_epochs)]
    return stages


# ---------------------------------------------------------------------------------- the perceptual network

class PerceptualPhase(Phase):
    """Stage 0: training of a VGG19-bn on the real images, whose best epoch is the perceptual network (METHOD §1).

    The selection images choose the epoch; with ``--select_on none`` it is the last. ``is_needed`` says whether anything
    uses the network.
    """

    name = "perceptual"

    def __init__(self, context: TrainingContext, options: PerceptualOptions, shape: RecognizerShape, batch_size: int,
                 is_needed: bool) -> None:
        self.context, self.options, self.shape, self.batch_size = context, options, shape, batch_size
        self.is_needed = is_needed
        self.output = context.folder / "VGG_loss" / f"{context.num_classes}_max_ckpt.t7"
        self.file = Path(options.perceptual or self.output)  # where the network is read
        copy_to_machines(self.file, context.processes, context.folder)
        self.epochs = options.perceptual_epochs if is_needed and not self.file.is_file() else 0
        if is_needed and not context.restoring:
            self._check_start()
        self._recognizer: Recognizer | None = None
        self._best: dict[str, Any] = {"acc": -1.0, "step": 0, "net": {}}
        self._best_is_near_chance = False
        self._fingerprint: str | None = None  # of the finished network

    @cached_property
    def trained(self) -> TrainedPerceptual:
        """The finished network, read from its file at the first access."""
        return read_perceptual(self.file)

    def _check_start(self) -> None:
        """Check that a usable perceptual network exists or is to be trained. Raises UserError if not."""
        if self.file.is_file():
            if self.context.processes.is_main:  # its data_dir is that of the main process's machine
                self._check_file()
        elif self.options.perceptual:
            raise UserError(f"--perceptual {self.file}: no such file")
        elif not self.epochs:
            raise UserError("--perceptual_epochs 0: there is no perceptual network yet; train one, take one from "
                            "elsewhere with --perceptual FILE, or do without with --lambda_vgg_loss 0")

    def _check_file(self) -> None:
        """Check the width of the perceptual network and, unless --perceptual names it, on what it was trained.

        Raises UserError if they are not those of this run.
        """
        ours, trained = self.context.metadata, self.trained
        if self.options.vgg_init == "stage0" and trained.width != self.shape.vgg_width:
            raise UserError(f"{self.file}: its width is {trained.width}, and --vgg_init stage0 needs --vgg_width "
                            f"{self.shape.vgg_width}; delete it to train another")
        if self.options.perceptual:
            return
        theirs = {**ours, "fold": None, **trained.metadata} if trained.metadata else ours
        different = [name for name in ("expressions", "image_size") if theirs[name] != ours[name]]
        if different:
            name = different[0]
            raise UserError(f"{self.file}: was trained with {name} {theirs[name]}, not {ours[name]}; delete it to "
                            f"train another, or use it all the same with --perceptual {self.file}")
        facts, other = Facts.of_metadata(ours), Facts.of_metadata(theirs)
        splits = "train", "test" if facts.selected_on == "test" else "val"
        if other.fold != facts.fold or other.selected_on != facts.selected_on \
                or not all(other.has_images_of(facts, split) for split in splits):
            raise UserError(f"{self.file}: was trained on other images than those of this run, perhaps on its test "
                            "images; delete it to train another")

    @property
    def recognizer(self) -> Recognizer:
        """The network in training, built at the first access."""
        if self._recognizer is None:
            context = self.context
            context.seed_torch("init", "perceptual")
            network = initialize(VGG(context.num_classes, self.shape.vgg_width, self.shape.fc_width),
                                 self.options.vgg_init)
            steps = self.epochs * -(-len(context.layout.train) // self.batch_size)
            recipe = RecognizerRecipe(self.options.perceptual_lr, adam=True, falling_steps=steps)
            self._recognizer = Recognizer(network, recipe, context.device, context.amp, context.processes)
        return self._recognizer

    def _plan(self, epoch: int) -> Plan:
        """Return the batches of one pass over the real training images."""
        labels = [sample.label for sample in self.context.layout.train]
        return real_plan(len(labels), self.batch_size, self.context.seed, "stage0", epoch,
                         balanced=labels if self.context.balanced else None)

    def steps(self, epoch: int) -> int:
        """Return the number of steps in an epoch, a pass over the real training images."""
        return len(self._plan(epoch))

    def batches(self, epoch: int, start: int) -> Iterator[Examples]:
        """Yield batches of real images without codes; with ``--balanced`` all expressions equally often."""
        for batch in self.context.load(self._plan(epoch), start):
            batch = batch.to(self.context.device)
            yield Examples(batch.label, (batch.first,), totals=(batch.total, 0))

    def step(self, batch: Examples) -> Metrics:
        return self.recognizer.step(batch)

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Keep the best network so far, and write it after the last epoch.

        Raises UserError if its accuracy is then near chance, unless ``--force`` allows that.
        """
        acc, is_near_chance = self.context.evaluate_for_selection(self.recognizer, None)
        if self.context.is_kept(acc, self._best["acc"]):
            self._best = {"acc": acc, "step": self.recognizer.steps, "net": on_cpu(self.recognizer.network)}
            self._best_is_near_chance = is_near_chance
        if epoch == self.epochs - 1:
            if self._best_is_near_chance and not self.context.force:
                raise UserError(f"the best perceptual network of {self.epochs} epochs is near chance (accuracy "
                                f"{self._best['acc']:.1f} %); start anew with more --perceptual_epochs, another "
                                "--perceptual_lr or --perceptual FILE, or go on with --restore --force")
            if self.context.processes.is_main:
                save_checkpoint(self.output, {**self._best, "config": self.context.metadata}, old_format=True)
            copy_to_machines(self.output, self.context.processes, self.context.folder, trained=True)
            self._recognizer, self._best = None, {"acc": -1.0, "step": 0, "net": {}}
        return self.context.selection_metric(acc)

    def state(self) -> dict[str, Any]:
        """Return the number of epochs, the best and the current network in training, or the finished one's digest."""
        return {"epochs": self.epochs, "best": self._best, "best_is_near_chance": self._best_is_near_chance,
                "used": None if self._recognizer else self._finished_fingerprint(),
                "recognizer": self._recognizer and self._recognizer.state_dict()}

    def _finished_fingerprint(self) -> str | None:
        """Return the fingerprint of the network that the other phases use, None if there is none."""
        if self._fingerprint is None and self.is_needed and self.file.is_file():
            self._fingerprint = weights_digest(self.trained.network)
        return self._fingerprint

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned. Raises UserError if the perceptual network is another one now."""
        self.epochs, self._best = state["epochs"], state["best"]
        self._best_is_near_chance = state.get("best_is_near_chance", False)
        if state["recognizer"] and self.options.perceptual:
            raise UserError(f"--perceptual {self.file}: the run is still training its own; leave the option out")
        used = state.get("used")
        if used and self._finished_fingerprint() not in (None, used) and not self.context.force:
            raise UserError(f"{self.file}: is another perceptual network than the one that this run was trained with; "
                            "restore that one, or add --force")
        if state["recognizer"]:
            self.recognizer.load_state_dict(state["recognizer"])


# ------------------------------------------------------------------------------------------------- the GAN

class GANPhase(Phase):
    """Training of the GAN: an epoch is (training images) / (batch size) steps on random pairs (METHOD §2, §3)."""

    name = "gan"

    def __init__(self, context: TrainingContext, shape: GANShape, recipe: GANRecipe, schedule: GANSchedule,
                 perceptual: PerceptualPhase, draw: Draw | None) -> None:
        self.context, self.recipe, self.schedule, self.perceptual = context, recipe, schedule, perceptual
        self.draw = draw  # of the samples of an epoch
        context.seed_torch("init", "gan")
        self.gan = SwapGAN(shape, recipe, device=context.device, amp=context.amp, processes=context.processes,
                           seed=context.seed)
        self.step = self.gan.step  # one step of D and one of G on a pair

    def _plan(self, epoch: int) -> Plan:
        """Return the pairs of an epoch: A of one expression, B of any other."""
        return gan_plan(self.context.layout.train, self.schedule.batch_size, self.context.seed, epoch,
                        self.recipe.lambda_truth_loss > 0, self.recipe.mirror, self.recipe.mismatched,
                        self.context.balanced)

    def steps(self, epoch: int) -> int:
        """Return the number of steps in an epoch: images / batch size, at least one."""
        return max(1, len(self.context.layout.train) // self.schedule.batch_size)

    def batches(self, epoch: int, start: int) -> Iterator[Pair]:
        """Return the pairs of an epoch on the device, after loading the perceptual network if the GAN has none yet."""
        if self.recipe.lambda_vgg_loss and self.gan.perceptual is None:
            self.gan.set_perceptual(self.perceptual.trained.network)
        return (pair_of(batch.to(self.context.device)) for batch in self.context.load(self._plan(epoch), start))

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Write the networks and a sheet, and warn if most updates of the discriminators were skipped."""
        if not self.context.processes.is_main:
            return {}
        if means["D_updated"] < 0.5:
            print(f"warning: the discriminators were updated in {100 * means['D_updated']:.0f} % of the steps of this "
                  f"epoch, since the generator's loss was {self.recipe.G_max:g} or more; lower --lr if it grows, else "
                  "raise --G_max", file=sys.stderr)
        save_gan(self.context.folder / "model", self.gan, self.context.metadata, epoch + 1)
        if self.draw:
            self._draw_samples(epoch, self.draw)
        return {}

    def _draw_samples(self, epoch: int, draw: Draw) -> None:
        """Draw A, B, C, D, A', B' of eight pairs, the same in every epoch, of selection images if there are any."""
        context, images = self.context, self.context.selection_images
        if not images.samples:
            images = context.images.subset(context.layout.train)
        if len({sample.label for sample in images.samples}) > 1:
            batch = next(load(images, gan_plan(images.samples, 8, context.seed, -1)[:1]))
            pair = pair_of(batch.to(context.device))
            names = context.layout.expressions
            titles = [f"{names[a]} + {names[b]}" for a, b in zip(pair.a.tolist(), pair.b.tolist())]
            utils.save_picture(draw([pair.image_a, pair.image_b, *self.gan.edits(pair)[:4]], titles, SAMPLE_ROWS,
                                    f"GAN epoch {epoch + 1} of {self.schedule.epochs}"),
                               context.folder / "img" / f"epoch_{epoch + 1:03d}.jpg")

    def state(self) -> dict[str, Any]:
        return self.gan.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        self.gan.load_state_dict(state)

    def load_networks(self, epoch: int) -> None:
        """Load the networks of GAN epoch ``epoch`` (from 1); the optimizers start anew.

        Raises UserError if the perceptual network is needed and absent.
        """
        if self.recipe.lambda_vgg_loss and not self.perceptual.file.is_file():
            raise UserError(f"--restore {epoch}: {self.perceptual.file} is not there; give the perceptual network with "
                            "--perceptual FILE, or do without with --lambda_vgg_loss 0")
        load_gan_networks(self.context.folder / "model", self.gan, epoch, tuple(self.gan.NETWORKS))
        self.gan.start_from_average()
        self.gan.steps = epoch * self.steps(0)


def pair_of(batch: Batch) -> Pair:
    """Return a batch on the GAN's device as the pair that the GAN takes."""
    return Pair(batch.first, batch.second, batch.label, batch.second_label, batch.truth, batch.known, batch.mismatch,
                batch.total)


# ------------------------------------------------------------------------------------------ the recognizer

class RecognizerPhase(Phase):
    """Training of the recognizer: an epoch is a pass over the real images with synthesized ones between (METHOD §5).

    ``pairs`` (P, 2) are the sources and targets of the synthesized images, as positions in the images of the context.
    """

    name = "recognizer"

    def __init__(self, context: TrainingContext, schedule: RecognizerSchedule, recipe: RecognizerRecipe,
                 shape: RecognizerShape, gan: SwapGAN, rounds: int, vgg_init: str, perceptual_file: Path,
                 pairs: numpy.ndarray) -> None:
        self.context, self.schedule, self.gan, self.pairs = context, schedule, gan, pairs
        self.vgg_init, self.perceptual_file = vgg_init, perceptual_file
        self.labels = numpy.array([sample.label for sample in context.layout.train])
        self.augmentations = read_augmentations(schedule.augment)
        if schedule.vgg_schedule == "cosine":
            recipe = replace(recipe, falling_steps=max(1, self._steps_of(rounds)))
        context.seed_torch("init", "recognizer")
        backbone = backbone_named(shape.backbone)
        network = initialize(backbone(context.num_classes, shape.vgg_width, shape.fc_width, gan.shape.base_width),
                             "none" if context.restoring else vgg_init)
        self.recognizer = Recognizer(network, recipe, context.device, context.amp, context.processes)
        self.best_acc = -1.0
        self.batch = 0  # the number of the epoch's next batch, from 0
        self.quality: float | None = None  # of the swaps at the beginning of the round

    def _steps_of(self, rounds: int) -> int:
        """Return the number of steps in the first rounds of the run."""
        schedule, count = self.schedule, len(self.labels)
        epochs = rounds * schedule.round_epochs
        if schedule.mix:
            return epochs * mixed_sizes(count, schedule.vgg_batch_size, schedule.mix)[0]
        return sum(1 + further_batches(epoch, schedule)[0] for epoch in range(epochs)) \
            * -(-count // schedule.vgg_batch_size)

    def _plan(self, epoch: int) -> Plan:
        """Return the batches of an epoch: real ones with synthesized ones after each, or mixed ones (``--mix``)."""
        schedule, seed = self.schedule, self.context.seed
        count, synthesized = further_batches(epoch, schedule)
        synthesized = synthesized and (self.quality is None or self.quality >= schedule.gate)
        settings = {"synthesized": synthesized, "seed": seed, "epoch": epoch, "balanced": schedule.balanced,
                    "mirrored": self.augmentations.get("mirror", 0.0)}
        pairs = third_of_pairs(self.pairs, seed, epoch) if schedule.ablation else self.pairs
        if schedule.mix:
            return mixed_plan(self.labels, pairs, schedule.vgg_batch_size, schedule.mix, **settings)
        return recognizer_plan(self.labels, pairs, schedule.vgg_batch_size, count, **settings)

    def steps(self, epoch: int) -> int:
        return len(self._plan(epoch))

    def batches(self, epoch: int, start: int) -> Iterator[Examples]:
        """Return batches of real faces and swaps with their codes, from step ``start`` on.

        The swaps of several batches are computed at once. A resumed epoch computes the whole group of its first batch
        again, to get exactly the same swaps.
        """
        self.batch, group = start, batches_per_synthesis(epoch, self.schedule)
        skipped = start % group
        loaded = self.context.load(self._plan(epoch), start - skipped,
                                   augmenter(self.augmentations, self.context.seed, epoch))
        return islice(with_codes(loaded, self.gan, group, not self.schedule.encode_synthesized), skipped, None)

    def begin_epoch(self, epoch: int) -> None:
        """Start from stage 0 if that is asked for, and measure the swaps before a round that learns from them."""
        if self.vgg_init == "stage0" and self.recognizer.steps == 0:
            self.context.seed_torch("init", "recognizer", "from stage 0")
            initialize(self.recognizer.network, self.perceptual_file)
        number, position = divmod(epoch, self.schedule.round_epochs)
        rest = range(epoch, epoch + self.schedule.round_epochs)
        if position == 0 and any(further_batches(other, self.schedule)[1] for other in rest):
            self._measure_swaps(number + 1)

    def _measure_swaps(self, number: int) -> None:
        """Measure the quality of the swaps before round ``number``, and print what follows if it is low."""
        self.quality = self.context.processes.run_on_main(self._quality_of_swaps)
        if self.quality is not None and self.quality < (self.schedule.gate or LEAST_QUALITY) \
                and self.context.processes.is_main:
            consequence = "the round uses real images in their place" if self.schedule.gate else \
                f"their labels are learned all the same; add --gate {LEAST_QUALITY}, or train the GAN longer"
            print(f"warning: before recognizer round {number}, the quality of the swaps is {self.quality:.2f} (0: "
                  f"their expressions are recognized by chance, 1: as well as real ones): {consequence}",
                  file=sys.stderr)

    def _quality_of_swaps(self) -> float | None:
        """Return the quality of the swaps of selection images, None if there are none, or no classifier of them."""
        context, neutral = self.context, self.context.layout.neutral
        images = context.selection_images
        labels = numpy.array([sample.label for sample in images.samples])
        is_target = labels == neutral if self.schedule.targets == "neutral" and neutral in labels else labels >= 0
        classifier = self._classifier if images.samples else None
        return classifier and swap_quality(self.gan, classifier, images, is_target, context.seed)

    @cached_property
    def _classifier(self) -> Recognizer | None:
        """A classifier of real images from which the GAN has not learned, since it would find all swaps right.

        It is stage 0's network, or with the perceptual loss, which compares that network's features, a small judge that
        is trained here. None if stage 0 has left no classifier.
        """
        context = self.context
        if "vgg" not in self.gan.recipe.loss_weights():
            network = read_classifier(self.perceptual_file, context.num_classes)
            return network and Recognizer(network, device=context.device, amp=context.amp)
        train = context.images.subset(context.layout.train)
        epochs = max(1, min(GATE_EPOCHS, MOST_GATE_STEPS * JUDGE_BATCH // len(train)))
        return Recognizer(new_judge(context.num_classes, train, epochs, context.num_workers, context.device),
                          device=context.device)

    def step(self, batch: Examples) -> Metrics:
        context, steps = self.context, self.recognizer.steps
        if self.schedule.encode_synthesized:
            image, _ = batch.inputs
            batch = batch._replace(inputs=(image, real_features(self.gan.encoder, image, self.gan.amp)))
        context.seed_torch("dropout", "recognizer", steps, context.processes.rank)
        metrics = self.recognizer.step(batch)
        if context.select_on == "test" and self.batch % BATCHES_PER_EVALUATION == 0:
            self._keep_if_better()
        self.batch += 1
        return metrics

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Evaluate the recognizer on the selection images, and write it with its encoder if it is to be kept.

        With ``--select_on test`` :meth:`step` has done this after the batches 1, 201, 401, … of the epoch, as the
        published code does (METHOD §5).
        """
        quality = {} if self.quality is None else {"swap_quality": self.quality}
        if self.context.select_on == "test":
            return {"best_test_acc": self.best_acc, **quality}
        return {**self.context.selection_metric(self._keep_if_better()), **quality}

    def _keep_if_better(self) -> float:
        """Evaluate the recognizer, write it if it is to be kept, and return its accuracy in percent."""
        acc, _ = self.context.evaluate_for_selection(self.recognizer, self.gan.encoder)
        if self.context.is_kept(acc, self.best_acc):
            self.best_acc = acc
            if self.context.processes.is_main:
                save_recognizer(self.context.folder / "VGG", self.recognizer, self.gan.encoder, acc,
                                {**self.context.metadata, "swap_quality": self.quality})
        return acc

    def state(self) -> dict[str, Any]:
        return {"best_acc": self.best_acc, "quality": self.quality, "recognizer": self.recognizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.best_acc, self.quality = state["best_acc"], state.get("quality")
        self.recognizer.load_state_dict(state["recognizer"])

    def load_networks(self, epoch: int) -> None:
        """Load the best recognizer, to continue after GAN epoch ``epoch`` (from 1) with a new optimizer.

        Before the first round, and if there is no best one, the recognizer is initialized as in a new run.
        """
        folder = self.context.folder / "VGG"
        rounds = (epoch - 1) // self.schedule.round_every
        best = load_recognizer(folder, self.context.device) if (folder / "max_ckpt.t7").is_file() else None
        if best is not None:
            self.best_acc = best.acc
        if best is not None and rounds:
            load_into(self.recognizer.network, best.recognizer.network.state_dict())
            self.recognizer.steps = self._steps_of(rounds)
        else:
            initialize(self.recognizer.network, self.vgg_init)


def swap_quality(gan: SwapGAN, classifier: Recognizer, images: Images, is_target: numpy.ndarray, seed: int
                 ) -> float | None:
    """Return how much better than by chance the expressions of swaps are classified, divided by that of real images.

    The swaps give each of ``images`` as a random one of another expression, for which ``is_target`` (N,) is true.
    ``classifier`` takes images alone; its mean class accuracies count. None without images, if no image has such a
    target, or if the classifier is near chance on the real images.
    """
    n, random = gan.shape.num_classes, numpy.random.default_rng(utils.derived_seed(seed, "gate"))
    labels = numpy.array([sample.label for sample in images.samples])
    found = [(source, random.choice(targets)) for source, label in enumerate(labels)
             if len(targets := numpy.flatnonzero(is_target & (labels != label)))]
    real = evaluate(classifier, None, images.evaluation_batches(64, gan.device), n) if found else None
    if real is None or near_chance(real) or accuracies(real)[1] <= chance_level(n):
        return None

    def swaps() -> Iterator[tuple[Tensor, Tensor]]:
        for pairs in torch.tensor(found).split(64):
            (source, label), (target, other) = ((to_float(images[rows], gan.device),
                                                 torch.from_numpy(labels)[rows].to(gan.device)) for rows in pairs.T)
            yield gan.synthesize(source, target, label, other)[0], label

    swapped, chance = accuracies(evaluate(classifier, None, swaps(), n))[1], chance_level(n)
    return float((swapped - chance) / (accuracies(real)[1] - chance))


def new_judge(num_classes: int, train: Images, epochs: int, num_workers: int, device: torch.device) -> ExpressionJudge:
    """Train a judge of expressions on real images, with a fixed seed that is not the run's."""
    torch.manual_seed(utils.derived_seed(JUDGE_SEED, "init"))
    plan = [batch for epoch in range(epochs)
            for batch in real_plan(len(train), JUDGE_BATCH, JUDGE_SEED, "judge", epoch)]
    batches = utils.progress(load(train, plan, num_workers), "training the judge", len(plan))
    judge = ExpressionJudge(num_classes, train.image_size)
    train_judge(judge, ((batch.first, batch.label) for batch in (batch.to(device) for batch in batches)), len(plan),
                utils.generator(JUDGE_SEED, "disturbed"), device)
    return judge


# --------------------------------------------------------------------------------------------- the recognizer's batches

MIXED_PER_SYNTHESIS = 6  # batches with --mix whose synthesized images are computed at once


def further_batches(epoch: int, schedule: RecognizerSchedule) -> tuple[int, bool]:
    """Return the number of batches after each real one in an epoch, and whether they are synthesized (METHOD §5)."""
    count, synthesized = schedule.gan_raw or 6, True
    if schedule.multi_add_gan:
        rounds = epoch / max(1, schedule.round_epochs)
        count, synthesized = (1, False) if rounds < 2.5 else (2, True) if rounds < 5 else (3, True) if rounds < 7.5 \
            else (6, True)
    return count, synthesized and schedule.gan_raw > 0


def batches_per_synthesis(epoch: int, schedule: RecognizerSchedule) -> int:
    """Return the number of batches of an epoch whose synthesized images are computed at once."""
    return MIXED_PER_SYNTHESIS if schedule.mix else 1 + further_batches(epoch, schedule)[0]


def with_codes(batches: Iterable[Batch], gan: SwapGAN, at_once: int, real_codes: bool = True) -> Iterator[Examples]:
    """Yield the recognizer's batches: real faces with their codes, swaps with the swapped codes (METHOD §4, §5).

    The synthesized images of ``at_once`` batches are computed together. Without ``real_codes`` the codes of
    real faces are zeros, which :meth:`RecognizerPhase.step` replaces. """
    side = gan.shape.image_size // 32
    code_shape = 16 * gan.shape.base_width, side, side
    batches = iter(batches)
    while group := [batch.to(gan.device) for batch in islice(batches, at_once)]:
        image, source, source_label, target, target_label = (torch.cat(parts) for parts in zip(*(
            (b.first[:b.alone], b.first[b.alone:], b.label[b.alone:], b.second, b.second_label) for b in group)))
        real, synthesized = ((faces, faces.new_zeros(len(faces), *code_shape)) for faces in (image, source))
        if len(image) and real_codes:
            real = image, real_features(gan.encoder, image, gan.amp)
        if len(source):
            synthesized = gan.synthesize(source, target, source_label, target_label)
        real_parts = (whole.split([batch.alone for batch in group]) for whole in real)
        swap_parts = (whole.split([len(batch.second) for batch in group]) for whole in synthesized)
        for batch, image, fx, swap, swap_fx in zip(group, *real_parts, *swap_parts):
            yield Examples(batch.label, (torch.cat([image, swap]), torch.cat([fx, swap_fx])), batch.alone,
                           (batch.total_alone, batch.total - batch.total_alone))
