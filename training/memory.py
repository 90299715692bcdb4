"""How much memory a training needs at least, from shapes alone: it is asked before the first image is read.

A lower estimate: float32 weights with their gradients and optimizer moments (four times the weights for Adam, three
times for SGD), and the maps that a step keeps for its gradients, those of convolutions alone. A network of width w at
side S keeps 0.48·w·S² floats an image in encoder, decoder and discriminators each, and 4.6·v·S² in a VGG of width v;
mixed precision halves the maps.
"""

from __future__ import annotations

import torch

from datasets.layout import Layout
from models.backbones import BACKBONES
from models.discriminator import Discriminators
from models.generator import Generator
from models.vgg import VGG
from options.config import Config
from system.devices import installed_memory
from system.processes import processes_here
from training.batches import batches_per_synthesis
from utils import UserError

GIB = 2 ** 30


def check_memory(config: Config, layout: Layout, mixed: bool, world: int) -> None:
    """Raises UserError with the figures if networks and a batch cannot fit into the memory that processes share.

    For GPUs there is no such check: what autograd keeps there is several times what these shapes tell.
    """
    weights, maps, images = needed(config, layout, mixed, world)
    here, there = processes_here(), installed_memory()
    parts = {"networks": weights * here, "batches": maps * here, "images": images * here}
    total = sum(parts.values())
    if there and total > there:
        largest = max(parts, key=parts.get)
        advice = {"networks": "--base_width, --vgg_width or --fc_width", "images": "--image_size, or leave out --cache",
                  "batches": "--batch_size, --vgg_batch_size, --gan_raw or --image_size"}[largest]
        raise UserError(f"at least {total / GIB:.1f} GiB of memory are needed (" + ", ".join(
            f"{name} {size / GIB:.1f}" for name, size in parts.items()) + f") and there are {there / GIB:.1f}; "
            f"take a smaller {advice}")


def needed(config: Config, layout: Layout, mixed: bool = False, world: int = 1) -> tuple[int, int, int]:
    """Return the bytes of networks with optimizers, of a process's largest batch, and of the images in memory."""
    n, width, side = len(layout.expressions), config.shape.base_width, config.shape.image_size
    vgg, fc = config.recognizer_shape.vgg_width, config.recognizer_shape.fc_width
    recipe, batches = config.gan_recipe, config.recognizer
    with torch.device("meta"):
        shape = config.gan_shape(n)
        gan = count(Generator(shape)) + count(Discriminators(shape))
        recognizer = count(BACKBONES[config.recognizer_shape.backbone](n, vgg, fc, width))
        perceptual = count(VGG(n, vgg, fc))
    is_trained = config.perceptual.perceptual_epochs and recipe.vgg_loss and not config.perceptual.perceptual
    weights = 4 * max(4 * gan + recognizer, 3 * gan + 3 * recognizer,
                      gan + recognizer + (4 * perceptual if is_trained else 0))
    edits, pixels = 6 if recipe.alpha5 else 4, side ** 2
    of_gan = 0.48 * width * (2 + edits + 2 + edits) + 4.6 * vgg * 2 * recipe.vgg_loss
    of_recognizer = 4.6 * vgg + batches_per_synthesis(10 ** 6, batches) * (9 + 16 * width / 1024)
    maps = pixels * max(config.gan.batch_size * of_gan, batches.vgg_batch_size * of_recognizer) * (2 if mixed else 4)
    images = 3 * pixels * len(layout.train + layout.val + layout.target_only) if config.loading.cache == "ram" else 0
    return int(weights), int(maps / world), images


def count(network: torch.nn.Module) -> int:
    """Return the number of a network's weights."""
    return sum(parameter.numel() for parameter in network.parameters())
