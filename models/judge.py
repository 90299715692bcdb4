"""ExpressionJudge: an independent recognizer, which tells the expression that a synthesized face shows.

A generator can learn to fool a network that took part in its training. The judge has another architecture and seed than
all networks that are trained jointly. It is trained on real images alone, which are shifted, blurred and made noisy so
that faint high-frequency patterns do not convince it.
"""

from pathlib import Path
from typing import Any, Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from models.checkpoints import built_from, load_checkpoint, naming, on_cpu, plain, save_checkpoint
from models.recognizer import Examples, Recognizer
from options.config import RecognizerRecipe
from utils import UserError, to_device

WIDTHS = (16, 32, 64, 128)
LEARNING_RATE = 2e-3
NOISE, BLUR, SHIFT = 0.1, 1.0, 1 / 16  # at most: for images in [-1, 1]; pixels at a side of 64; share of the side


class ExpressionJudge(nn.Module):
    """A small residual network of torchvision's basic blocks, which halve the side of the image until it is 4.

    ``image_size`` is a multiple of 32. The Fréchet distance is computed on the features before its last layer.
    """

    def __init__(self, num_classes: int, image_size: int) -> None:
        super().__init__()
        halvings = max(1, (image_size // 8).bit_length() - 1)
        chans = [WIDTHS[min(i, len(WIDTHS) - 1)] for i in range(halvings + 1)]
        stem = [nn.Conv2d(3, chans[0], 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(chans[0]),
                nn.ReLU(inplace=True), BasicBlock(chans[0], chans[0])]
        self.main = nn.Sequential(*stem, *(_halving_block(a, b) for a, b in zip(chans, chans[1:])))
        self.head = nn.Linear(chans[-1], num_classes)

    def features(self, image: Tensor) -> Tensor:
        """Return the features (N, F) of images (N, 3, S, S) in [-1, 1], averaged over the positions."""
        return self.main(image).mean((2, 3))

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits (N, n) of images (N, 3, S, S) in [-1, 1]."""
        return self.head(self.features(image))

    @torch.inference_mode()
    def describe(self, image: Tensor) -> np.ndarray:
        """Return the features (N, F) of images (N, 3, S, S) in [-1, 1] in eval mode, as an array."""
        return self.eval().features(image).float().cpu().numpy()


def _halving_block(in_chans: int, out_chans: int) -> BasicBlock:
    shortcut = nn.Sequential(nn.Conv2d(in_chans, out_chans, 1, stride=2, bias=False), nn.BatchNorm2d(out_chans))
    return BasicBlock(in_chans, out_chans, stride=2, downsample=shortcut)


def train_judge(judge: ExpressionJudge, batches: Iterable[tuple[Tensor, Tensor]], steps: int, random: torch.Generator,
                device: torch.device | str = "cpu") -> None:
    """Train a judge on ``steps`` batches of real images (N, 3, S, S) in [-1, 1], which are disturbed, and labels (N,).
    """
    recognizer = Recognizer(judge, RecognizerRecipe(lr=LEARNING_RATE, adam=True, falling_steps=steps), device)
    for image, label in batches:
        recognizer.step(Examples(label, (disturbed(image, random),)))


def save_judge(path: Path, judge: ExpressionJudge, config: dict[str, Any]) -> None:
    """Write a judge's weights, with ``config``: what it was trained on."""
    save_checkpoint(path, {"net": on_cpu(judge), "config": config})


def load_judge(path: Path, config: dict[str, Any]) -> ExpressionJudge:
    """Load a judge in eval mode.

    Raises UserError if the file is damaged, or if the judge was not trained on what ``config`` describes.
    """
    checkpoint = load_checkpoint(path)
    trained_on = checkpoint.get("config") if isinstance(checkpoint, dict) else None
    if not isinstance(trained_on, dict):
        raise UserError(f"{path}: damaged, it holds no judge; delete it, or name another with --judge")
    if {**trained_on, "content": trained_on.get("content", config["content"])} != config:
        raise UserError(f"{path}: this judge was not trained on these training images, expressions and size; delete "
                        "it, or name another with --judge")
    with naming(path):
        judge = built_from(plain(checkpoint.get("net")), ExpressionJudge, len(config["expressions"]),
                           config["image_size"])
    return judge.eval()


def disturbed(image: Tensor, random: torch.Generator) -> Tensor:
    """Return images (N, 3, S, S) in [-1, 1] shifted, blurred and with noise, each to a random extent."""
    n, side = image.shape[0], image.shape[-1]
    shift, blur, noise = torch.rand(3, n, 2, generator=random).unbind()
    image = blurred(shifted(image, SHIFT * (2 * shift - 1)), BLUR * side / 64 * blur[:, 0])
    deviation = to_device(NOISE * noise[:, :1, None, None], image.device)
    return image + deviation * to_device(torch.randn(image.shape, generator=random), image.device)


def shifted(image: Tensor, share: Tensor) -> Tensor:
    """Return images (N, 3, S, S) shifted by shares (N, 2) of their side in x and y; the border is repeated."""
    theta = torch.eye(2, 3).repeat(len(image), 1, 1)
    theta[:, :, 2] = 2 * share
    grid = to_device(F.affine_grid(theta, list(image.shape), align_corners=False), image.device)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)


def blurred(image: Tensor, sigma: Tensor) -> Tensor:
    """Return images (N, 3, S, S) blurred by Gaussians of standard deviations ``sigma`` (N,) in pixels."""
    n, side = image.shape[0], image.shape[-1]
    radius = max(1, round(2 * float(sigma.max())))
    offset = torch.arange(-radius, radius + 1)
    window = torch.exp(-offset ** 2 / (2 * sigma[:, None].clamp(min=1e-3) ** 2))
    window = to_device((window / window.sum(1, keepdim=True)).repeat_interleave(3, 0), image.device)
    planes = F.pad(image.reshape(1, 3 * n, side, side), (radius,) * 4, mode="replicate")
    planes = F.conv2d(planes, window[:, None, :, None], groups=3 * n)
    return F.conv2d(planes, window[:, None, None, :], groups=3 * n).reshape(image.shape)
