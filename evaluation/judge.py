"""Judge: an independent recognizer, which says what expression a synthesized face shows.

A network that took part in a training can be fooled by what came out of it. The judge has another architecture and
another seed than anything that is trained jointly, sees real training images alone, and learns on noisy, blurred and
shifted ones, so that faint high-frequency patterns do not convince it.
"""

from __future__ import annotations

from typing import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from models.augment import disturbed
from options.recipes import RecognizerRecipe
from models.recognizer import Examples, Recognizer

WIDTHS = (16, 32, 64, 128)
LEARNING_RATE = 2e-3


class Judge(nn.Module):
    """A small residual network: torchvision's basic blocks, halving the side until it is 4.

    ``image_size`` is a multiple of 32. The features before the last layer are those of the Fréchet distance.
    """

    def __init__(self, num_classes: int, image_size: int) -> None:
        super().__init__()
        halvings = max(1, (image_size // 8).bit_length() - 1)
        chans = [WIDTHS[min(i, len(WIDTHS) - 1)] for i in range(halvings + 1)]
        stem = [nn.Conv2d(3, chans[0], 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(chans[0]),
                nn.ReLU(inplace=True), BasicBlock(chans[0], chans[0])]
        self.main = nn.Sequential(*stem, *(_halving(a, b) for a, b in zip(chans, chans[1:])))
        self.head = nn.Linear(chans[-1], num_classes)

    def features(self, image: Tensor) -> Tensor:
        """(N, 3, S, S) in [-1, 1] → (N, F), averaged over the positions."""
        return self.main(image).mean((2, 3))

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, S, S) in [-1, 1] → (N, n) logits."""
        return self.head(self.features(image))

    @torch.inference_mode()
    def describe(self, image: Tensor) -> np.ndarray:
        """The features in eval mode as an array, images (N, 3, S, S) in [-1, 1] → (N, F)."""
        return self.eval().features(image).float().cpu().numpy()


def _halving(in_chans: int, out_chans: int) -> BasicBlock:
    shortcut = nn.Sequential(nn.Conv2d(in_chans, out_chans, 1, stride=2, bias=False), nn.BatchNorm2d(out_chans))
    return BasicBlock(in_chans, out_chans, stride=2, downsample=shortcut)


def train_judge(judge: Judge, batches: Iterable[tuple[Tensor, Tensor]], steps: int, random: torch.Generator,
                device: torch.device | str = "cpu") -> Recognizer:
    """Train on ``steps`` batches of real images (N, 3, S, S) in [-1, 1] and labels (N,), disturbed on the way."""
    recognizer = Recognizer(judge, RecognizerRecipe(lr=LEARNING_RATE, adam=True, falling_steps=steps), device)
    for image, label in batches:
        recognizer.step(Examples(label, (disturbed(image, random),)))
    return recognizer
