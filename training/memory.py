"""A lower estimate of the memory that a training needs, computed from shapes before the first image is read.

It adds the float32 weights with their gradients and optimizer moments (four times the weights for Adam, three times for
SGD) and the maps of convolutions that a step keeps for its gradients. A network of width w at side S keeps 0.48·w·S²
floats an image in encoder, decoder and discriminators each, and 4.6·v·S² in a VGG of width v; mixed precision halves
the maps.
"""

import torch

from datasets.layout import Layout
from datasets.loading import GIB
from models.networks import BACKBONES, VGG, Discriminators, Generator
from options.config import Config
from training.phases import batches_per_synthesis
from utils import UserError, installed_memory, processes_here


def check_memory(config: Config, layout: Layout, mixed: bool, world: int) -> None:
    """Check that networks, batches and images fit into the memory of this machine. Raises UserError if they do not.

    On GPUs there is no such check, since autograd keeps several times as much there as these shapes show.
    """
    processes, installed = processes_here(), installed_memory()
    needs = dict(zip(("networks", "batches", "images"),
                     (processes * size for size in estimate_memory(config, layout, mixed, world))))
    total = sum(needs.values())
    if installed and total > installed:
        advice = {"networks": "--base_width, --vgg_width or --fc_width", "images": "--image_size, or leave out --cache",
                  "batches": "--batch_size, --vgg_batch_size, --gan_raw or --image_size"}[max(needs, key=needs.get)]
        raise UserError(f"at least {total / GIB:.1f} GiB of memory are needed (" + ", ".join(
            f"{name} {size / GIB:.1f}" for name, size in needs.items()) + f") and there are {installed / GIB:.1f}; "
            f"take a smaller {advice}")


def estimate_memory(config: Config, layout: Layout, mixed: bool = False, world: int = 1) -> tuple[int, int, int]:
    """Return the bytes of networks with optimizers, of a process's largest batch, and of the images in memory."""
    n, width, side = len(layout.expressions), config.shape.base_width, config.shape.image_size
    vgg, fc = config.recognizer_shape.vgg_width, config.recognizer_shape.fc_width
    recipe, batches = config.gan_recipe, config.recognizer
    with torch.device("meta"):
        shape = config.gan_shape(n)
        gan = number_of_weights(Generator(shape)) + number_of_weights(Discriminators(shape))
        recognizer = number_of_weights(BACKBONES[config.recognizer_shape.backbone](n, vgg, fc, width))
        perceptual = number_of_weights(VGG(n, vgg, fc))
    is_trained = config.perceptual.perceptual_epochs and recipe.vgg_loss and not config.perceptual.perceptual
    weights = 4 * max(4 * gan + recognizer, 3 * gan + 3 * recognizer,
                      gan + recognizer + (4 * perceptual if is_trained else 0))
    edits, pixels = 6 if recipe.alpha5 else 4, side ** 2
    gan_maps = 0.48 * width * (2 + edits + 2 + edits) + 4.6 * vgg * 2 * recipe.vgg_loss  # floats a pixel of a sample
    recognizer_maps = 4.6 * vgg + batches_per_synthesis(10 ** 6, batches) * (9 + 16 * width / 1024)
    maps = pixels * max(config.gan.batch_size * gan_maps, batches.vgg_batch_size * recognizer_maps) \
        * (2 if mixed else 4)
    images = 3 * pixels * len(layout.train + layout.val + layout.target_only) if config.loading.cache == "ram" else 0
    return int(weights), int(maps / world), images


def number_of_weights(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
