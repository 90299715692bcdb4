"""How much memory a training needs at least, from shapes alone: it is asked before the first image is read.

A lower estimate: float32 weights with their gradients and optimizer moments (four times the weights for Adam, three
times for SGD), and the maps that a step keeps for its gradients, those of convolutions alone. A network of width w at
side S keeps 0.48·w·S² floats an image in encoder, decoder and discriminators each, and 4.6·v·S² in a VGG of width v;
mixed precision halves the maps.
"""

from __future__ import annotations

import argparse

import torch

import utils
from datasets.layout import Layout
from options.option import picked
from models.discriminator import Discriminators
from models.generator import Generator
from options.recipes import GANShape
from models.vgg import VGG, VGG_fx
from training.phases import TOGETHER, further_batches
from utils import UserError

GIB = 2 ** 30


def check_memory(options: argparse.Namespace, layout: Layout, mixed: bool, world: int) -> None:
    """UserError with the figures where networks and a batch cannot fit into the memory that a CPU's processes share.

    On a GPU nothing is asked: what autograd keeps there is several times what these shapes tell.
    """
    weights, maps, images = needed(options, layout, mixed, world)
    here, there = utils.processes_here(), utils.installed_memory()
    parts = {"networks": weights * here, "batches": maps * here, "images": images * here}
    total = sum(parts.values())
    if there and total > there:
        largest = max(parts, key=parts.get)
        advice = {"networks": "--base_width, --vgg_width or --fc_width", "images": "--image_size, or leave out --cache",
                  "batches": "--batch_size, --vgg_batch_size, --gan_raw or --image_size"}[largest]
        raise UserError(f"at least {total / GIB:.1f} GiB of memory are needed (" + ", ".join(
            f"{name} {size / GIB:.1f}" for name, size in parts.items()) + f") and there are {there / GIB:.1f}; "
            f"take a smaller {advice}")


def needed(options: argparse.Namespace, layout: Layout, mixed: bool = False, world: int = 1) -> tuple[int, int, int]:
    """Bytes for networks with optimizers, for the largest batch of a process, and for the images in memory."""
    n, width, vgg, side = len(layout.expressions), options.base_width, options.vgg_width, options.image_size
    with torch.device("meta"):
        shape = picked(GANShape, options, num_classes=n)
        gan = count(Generator(shape)) + count(Discriminators(shape))
        recognizer = count(VGG_fx(n, vgg, options.fc_width, width))
        perceptual = count(VGG(n, vgg, options.fc_width))
    trained = 4 if options.vgg_adam else 3
    weights = 4 * max(4 * gan + recognizer, 3 * gan + trained * recognizer, gan + recognizer + 4 * perceptual
                      * bool(options.perceptual_epochs and options.vgg_loss and not options.perceptual))
    edits, pixels = 6 if options.alpha5 else 4, side ** 2
    of_gan = 0.48 * width * (2 + edits + 2 + edits) + 4.6 * vgg * 2 * options.vgg_loss
    group = TOGETHER if options.mix else 1 + further_batches(10 ** 6, options)[0]
    of_recognizer = 4.6 * vgg + group * (9 + 16 * width / 1024)
    maps = pixels * max(options.batch_size * of_gan, options.vgg_batch_size * of_recognizer) * (2 if mixed else 4)
    images = 3 * pixels * len(layout.train + layout.val + layout.target_only) if options.cache == "ram" else 0
    return int(weights), int(maps / world), images


def count(network: torch.nn.Module) -> int:
    """The number of a network's weights."""
    return sum(parameter.numel() for parameter in network.parameters())
