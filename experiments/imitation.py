"""The published code's way of working, imitated for the benchmark with the same networks.

It uses a pass for each image group where this project batches them, the ordinary memory format, layers in the plain
form of METHOD §1, discriminators that collect gradients in the generator's step, a Python loop over the samples of a
swap, and rounds that write every synthesized image and feature to disk, read them back, and start new worker processes
for every real batch (METHOD §7, rows 8 and 9). At the paper's width a GAN step takes as long as one of the published
classes, within 10 % (experiments/README.md); at smaller widths they were not compared. """

import argparse
import copy
import multiprocessing
import shutil
from pathlib import Path
from typing import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from datasets.layout import Layout, Sample
from datasets.loading import read_image, to_float, to_uint8
from datasets.plans import gan_plan, real_plan, recognizer_plan
from datasets.splits import training_pairs
from models import losses
from models.gan import SwapGAN
from models.networks import (POOLED, TAPS, TAP_WEIGHTS, UP, EditConv, LabelledConv, Normalization, Pair, Perceptual,
                             VGG_fx, block_cuts, constant_planes, one_hot)
from models.recognizer import Examples, Recognizer
from pictures.sheets import to_picture

WORKERS, EVALUATE_EVERY = 4, 200
START = multiprocessing.get_all_start_methods()[0]  # of workers: the system's own, also in a process of another one


class _PlainNormalization(Normalization):
    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x) * self.alpha + self.beta


class _PlainLabelledConv(LabelledConv):
    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        planes = constant_planes(label, image.shape[-2:])
        return F.conv2d(torch.cat([image, planes], 1), self.weight, self.bias, 2, 1)


class _PlainEditConv(EditConv):
    def forward(self, edited: Tensor, source: Tensor, label: Tensor) -> Tensor:
        copies = (self.in_channels - 2 * edited.shape[1]) // label.shape[1]
        planes = constant_planes(label.repeat(1, copies), edited.shape[-2:])
        return F.conv_transpose2d(torch.cat([edited, source, planes], 1), self.weight, self.bias, **UP)


class _PlainPerceptual(Perceptual):
    def __init__(self, features: nn.Sequential) -> None:
        nn.Module.__init__(self)
        self.features = features[:max(TAPS) + 1].eval()


class _PlainRecognition(VGG_fx):
    def forward(self, image: Tensor, fx: Tensor) -> Tensor:
        mixed = self.fx_linear(torch.cat([self.features(image), self.fx_linear(fx)], 1))
        return self.new_fc(self.classifier(F.adaptive_avg_pool2d(mixed, POOLED).flatten(1)))


PLAIN = {kind.__base__: kind for kind in (_PlainNormalization, _PlainLabelledConv, _PlainEditConv, _PlainRecognition)}


def _make_plain(network: nn.Module) -> None:
    """Replace a network's layers by plain ones in the ordinary memory format, with the same weights."""
    network.to(memory_format=torch.contiguous_format)
    for layer in network.modules():
        layer.__class__ = PLAIN.get(type(layer), type(layer))


def imitated_gan(gan: SwapGAN, features: nn.Sequential) -> SwapGAN:
    """Return a copy of a GAN with plain layers; ``features`` are those of its perceptual network."""
    gan = copy.deepcopy(gan)
    gan.perceptual = _PlainPerceptual(copy.deepcopy(features))
    adam = {"lr": gan.recipe.lr, "betas": (0.5, 0.999), "weight_decay": gan.recipe.weight_decay}
    gan.optimizer_g = torch.optim.Adam(gan.generator.parameters(), **adam)
    gan.optimizer_d = torch.optim.Adam(gan.discriminators.parameters(), **adam)
    for network in (gan.generator, gan.discriminators, gan.perceptual):
        _make_plain(network)
    return gan


def imitated_recognizer(recognizer: Recognizer) -> Recognizer:
    """Return a copy of a recognizer with plain layers."""
    recognizer, recipe = copy.deepcopy(recognizer), recognizer.recipe
    _make_plain(recognizer.network)
    recognizer.optimizer = torch.optim.SGD(recognizer.network.parameters(), recipe.lr, recipe.momentum,
                                           weight_decay=recipe.weight_decay)
    return recognizer


def gan_step(gan: SwapGAN, pair: Pair, random: torch.Generator) -> None:
    """Do a step of the discriminators and of the generator, with a pass for each image group (without alpha5)."""
    recipe, n = gan.recipe, gan.shape.num_classes
    image_a, image_b = pair.image_a.contiguous(), pair.image_b.contiguous()
    label_a, label_b = one_hot(pair.a, n), one_hot(pair.b, n)
    (code_a, skips_a), (code_b, skips_b) = gan.generator.encoder(image_a), gan.generator.encoder(image_b)
    code_c, code_d = swapped_one_by_one(code_a, code_b, pair, n)
    swap_label, no_label = gan.generator.label(torch.maximum(label_a, label_b)), gan.generator.label(0 * label_a)
    c, d, a_rebuilt, b_rebuilt = (
        (face + gan.generator.decoder(edited, code, skips, label)).clamp(-1, 1)
        for face, edited, code, skips, label in ((image_a, code_c, code_a, skips_a, swap_label),
                                                 (image_b, code_d, code_b, skips_b, swap_label),
                                                 (image_a, code_a, code_a, skips_a, no_label),
                                                 (image_b, code_b, code_b, skips_b, no_label)))

    def adversarial(discriminator: torch.nn.Module, image: Tensor, label: Tensor, mean: float) -> Tensor:
        logits = discriminator(image, label)
        return losses.soft_bce(logits, mean, recipe.std * torch.randn(len(logits), generator=random).to(logits.device))

    discriminator_losses = [
        adversarial(discriminator, image_a, label_a, 1) + adversarial(discriminator, image_b, label_b, 1)
        + adversarial(discriminator, c.detach(), label_b, 0) + adversarial(discriminator, d.detach(), label_a, 0)
        for discriminator in (gan.discriminators.d1, gan.discriminators.d2)]
    gan.optimizer_d.zero_grad()
    (0.25 * (discriminator_losses[0] + 0.5 * discriminator_losses[1])).backward()
    gan.optimizer_d.step()

    total = sum(weight * (adversarial(discriminator, c, label_b, 1) + adversarial(discriminator, d, label_a, 1))
                for weight, discriminator in ((1.0, gan.discriminators.d1), (0.5, gan.discriminators.d2)))
    for swapped, target in ((d, image_a), (c, image_b)):
        total = total + recipe.lambda_vgg_loss * sum(
            weight * (x - y.detach()).abs().mean()
            for weight, x, y in zip(TAP_WEIGHTS, gan.perceptual(swapped), gan.perceptual(target)))
    total = total + recipe.lambda_l1_loss * ((image_a + image_b) - (c + d)).abs().mean()
    total = total + recipe.lambda_l2_loss * (F.mse_loss(a_rebuilt, image_a) + F.mse_loss(b_rebuilt, image_b))
    for image in (c, d):
        total = total + recipe.lambda_tv_loss / image.shape[-1] * (
            F.mse_loss(image[:, :, 1:], image[:, :, :-1]) + F.mse_loss(image[..., 1:], image[..., :-1]))
    gan.optimizer_g.zero_grad()
    total.backward()
    gan.optimizer_g.step()
    for loss in (*discriminator_losses, total):
        loss.item()


def swapped_one_by_one(code_a: Tensor, code_b: Tensor, pair: Pair, n: int) -> tuple[Tensor, Tensor]:
    """Return the codes of C and D, swapped sample by sample and block by block."""
    cuts, code_c, code_d = block_cuts(code_a.shape[1], n), code_a.clone(), code_b.clone()
    for i in range(len(code_a)):
        for e in (int(pair.a[i]), int(pair.b[i])):
            code_c[i, cuts[e]:cuts[e + 1]] = code_b[i, cuts[e]:cuts[e + 1]]
            code_d[i, cuts[e]:cuts[e + 1]] = code_a[i, cuts[e]:cuts[e + 1]]
    return code_c, code_d


class _Files(Dataset):
    """Images that are decoded at each access: (3, S, S) uint8, label and position."""

    def __init__(self, samples: list[Sample], image_size: int) -> None:
        self.samples, self.image_size = samples, image_size

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> tuple[Tensor, int, int]:
        return to_uint8(read_image(self.samples[i].path, self.image_size)), self.samples[i].label, i


class _Synthesized(Dataset):
    """The files that a round has written: a JPEG and a feature file for each pair."""

    def __init__(self, folder: Path, labels: list[int], image_size: int) -> None:
        self.folder, self.labels, self.image_size = folder, labels, image_size

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int, Tensor]:
        image = to_uint8(read_image(self.folder / f"{i}.jpg", self.image_size))
        return image, self.labels[i], torch.load(self.folder / f"{i}.pth", weights_only=True)


def gan_epoch(gan: SwapGAN, layout: Layout, options: argparse.Namespace) -> None:
    """Train one GAN epoch."""
    device = gan.device
    files = _Files(layout.train, options.image_size)
    order = [position for batch in gan_plan(layout.train, options.batch_size, 0, 0)
             for position in np.concatenate([batch.first, batch.second])]
    loader = DataLoader(files, 2 * options.batch_size, sampler=order, num_workers=WORKERS,
                        multiprocessing_context=START)
    for step, (pixels, label, _) in enumerate(loader):
        half = len(label) // 2
        image, label = to_float(pixels, device).contiguous(), label.to(device)
        gan_step(gan, Pair(image[:half], image[half:], label[:half], label[half:]), torch.Generator().manual_seed(step))


def recognizer_epoch(gan: SwapGAN, recognizer: Recognizer, layout: Layout, options: argparse.Namespace,
                     folder: Path) -> None:
    """Write the synthesized set to disk, and train one recognizer epoch with evaluations in between."""
    device, files = gan.device, _Files(layout.train, options.image_size)
    pairs = training_pairs(layout, 0, 6)
    write_synthesized(gan, files, pairs, layout.neutral, options, folder)
    labels = [layout.train[source].label for source in pairs[:, 0]]
    real = np.array([sample.label for sample in layout.train])
    plan = recognizer_plan(real, pairs, options.vgg_batch_size, 6, True, 0, 0)
    order = [i for _ in range(2) for i in np.random.default_rng(0).permutation(len(pairs))]
    synthesized = iter(DataLoader(_Synthesized(folder, labels, options.image_size), options.vgg_batch_size,
                                  sampler=order, num_workers=WORKERS, multiprocessing_context=START))
    real = iter(real_plan(len(layout.train), options.vgg_batch_size, 0, "recognizer", 0))
    for step, batch in enumerate(plan):
        if (batch.second >= 0).all():
            pixels, label, fx = next(synthesized)
            fx = fx.to(device)
        else:  # a new loader with new workers for every real batch
            pixels, label, _ = next(iter(DataLoader(torch.utils.data.Subset(files, next(real).first),
                                                    options.vgg_batch_size, num_workers=WORKERS,
                                                    multiprocessing_context=START)))
            code, _ = gan.generator.encoder(to_float(pixels, device).contiguous())  # with its graph
            fx = torch.cat([code, code], 1).detach()
        recognizer.step(Examples(label.to(device), (to_float(pixels, device).contiguous(), fx)))
        if step % EVALUATE_EVERY == 0:
            for pixels, label, _ in DataLoader(_Files(layout.test, options.image_size), options.vgg_batch_size,
                                               num_workers=WORKERS, multiprocessing_context=START):
                image = to_float(pixels, device).contiguous()
                code, _ = gan.generator.encoder(image)
                recognizer.predict(image, torch.cat([code, code], 1).detach()).argmax(1).tolist()
    shutil.rmtree(folder)


@torch.no_grad()
def write_synthesized(gan: SwapGAN, files: _Files, pairs: np.ndarray, neutral: int, options: argparse.Namespace,
                      folder: Path) -> None:
    """Write every pair's image and feature file; of six decodings one is used."""
    folder.mkdir()
    decoder, n, count = gan.generator.decoder, gan.shape.num_classes, 0
    for source, target in two_by_two(files, pairs, options.batch_size, gan.device):
        a, b = source[1], torch.full_like(source[1], neutral)
        (code_a, skips_a), (code_b, skips_b) = gan.generator.encoder(source[0]), gan.generator.encoder(target[0])
        code_c, code_d = swapped_one_by_one(code_a, code_b, Pair(source[0], target[0], a, b), n)
        label = gan.generator.label(torch.maximum(one_hot(a, n), one_hot(b, n)))
        for edited, code, skips in ((code_c, code_a, skips_a), (code_a, code_a, skips_a), (code_b, code_b, skips_b),
                                    ((code_a + code_c) / 2, code_a, skips_a), ((code_b + code_d) / 2, code_b, skips_b)):
            decoder(edited, code, skips, label)
        image = (target[0] + decoder(code_d, code_b, skips_b, label)).clamp(-1, 1)
        fx = torch.cat([code_d, code_b], 1)
        for picture, features in zip(image.cpu(), fx.cpu()):
            Image.Image.save(to_picture(picture), folder / f"{count}.jpg")
            torch.save(features.clone(), folder / f"{count}.pth")
            count += 1


def two_by_two(files: _Files, pairs: np.ndarray, batch_size: int, device: torch.device
               ) -> Iterator[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]:
    """Yield sources and targets of the pairs in batches, each with images (N, 3, S, S) and labels (N,)."""
    loaders = [DataLoader(files, batch_size, sampler=column.tolist(), num_workers=WORKERS // 2,
                          multiprocessing_context=START) for column in pairs.T]
    for batch in zip(*loaders):
        yield tuple((to_float(pixels, device).contiguous(), label.to(device)) for pixels, label, _ in batch)
