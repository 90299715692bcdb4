"""The discriminators, which tell real faces of an expression from synthesized ones at two sizes (METHOD §1)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers import average_pool_2x2, constant_planes, down_layers, full_precision, init_weights
from options.config import GANShape


class LabelledConv(nn.Conv2d):
    """The convolution of an image concatenated with a label's constant planes, computed without the planes.

    The response to the planes is constant but for the first row and column, which see the padding.
    """

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        """Return the maps (N, w, S/2, S/2) of images (N, 3, S, S) and labels (N, n)."""
        for_image, for_label = self.weight.split([image.shape[1], label.shape[1]], dim=1)
        corner = F.conv2d(constant_planes(label.to(image.dtype), (4, 4)), for_label, None, 2, padding=1)
        x = F.conv2d(image, for_image, self.bias, 2, padding=1)
        return x + _repeat_last(_repeat_last(corner, 2, x.shape[2]), 3, x.shape[3])


def _repeat_last(maps: Tensor, dim: int, size: int) -> Tensor:
    """Return maps whose last row (``dim`` 2) or column (3) is repeated until there are ``size`` of them."""
    first, last = maps.split([maps.shape[dim] - 1, 1], dim)
    shape = list(last.shape)
    shape[dim] = size - first.shape[dim]
    return torch.cat([first, last.expand(shape)], dim)


class Discriminator(nn.Module):
    """The discriminator of one size: images are average-pooled until their side is ``size`` (METHOD §1)."""

    def __init__(self, num_classes: int, size: int, base_width: int = 64) -> None:
        super().__init__()
        self.size = size
        chans = [3 + num_classes] + [base_width * factor for factor in (1, 2, 4, 8)]
        self.conv = nn.Sequential(*(layer for i, (a, b) in enumerate(zip(chans, chans[1:]))
                                    for layer in down_layers(a, b, LabelledConv if i == 0 else nn.Conv2d)))
        self.linear = nn.Sequential(nn.Linear(chans[-1] * (size // 16) ** 2, 1))
        self.apply(init_weights)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        """Return the logits (N,) of images (N, 3, S, S) in [-1, 1], S = size·2^k, with one-hot labels (N, n)."""
        while image.shape[-1] > self.size:
            image = average_pool_2x2(image)
        maps = self.conv[1:](self.conv[0](image, label))
        return full_precision(self.linear(maps.flatten(1)).squeeze(1))


class Discriminators(nn.Module):
    """D1 at the image's size and D2 at half of it, on the same images (METHOD §1)."""

    def __init__(self, shape: GANShape) -> None:
        super().__init__()
        self.d1 = Discriminator(shape.num_classes, shape.image_size, shape.base_width)
        self.d2 = Discriminator(shape.num_classes, shape.image_size // 2, shape.base_width)

    def forward(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (N,) of both for images (N, 3, S, S) in [-1, 1] with one-hot labels (N, n)."""
        return self.d1(image, label), self.d2(image, label)
