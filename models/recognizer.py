"""Recognizer: a network that names expressions, with the optimizer that trains it (METHOD §5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.generator import Encoder
from models.metrics import Report, confusion_matrix
from models.parallel import Processes


@dataclass(frozen=True)
class RecognizerRecipe:
    """How a recognizer is trained: SGD with stepwise decay (METHOD §5), or Adam with a rate that falls to zero.

    ``adam_steps`` chooses Adam and says over how many steps its rate falls, along a half cosine; METHOD leaves open
    how the perceptual network is trained, and this gets a deep network with random weights going.
    """

    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    lr_decay: float = 0.97
    lr_decay_steps: int = 1800
    adam_steps: int | None = None

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of this recipe."""
        if self.adam_steps is not None:
            return torch.optim.AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay, fused=True)
        return torch.optim.SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay,
                               fused=True)

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if self.adam_steps is not None:
            return self.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.adam_steps)))
        return self.lr * self.lr_decay ** (step // self.lr_decay_steps)


class Recognizer:
    """Trains and uses :class:`models.vgg.VGG_fx` (images and fx) or :class:`models.vgg.VGG` (images alone)."""

    def __init__(self, network: nn.Module, recipe: RecognizerRecipe = RecognizerRecipe(),
                 device: torch.device | str = "cpu", amp: torch.dtype | None = None,
                 processes: Processes = Processes()) -> None:
        self.recipe, self.device, self.amp, self.processes = recipe, torch.device(device), amp, processes
        network = network.to(self.device, memory_format=torch.channels_last)
        self.network = processes.synchronize_batch_norm(network)
        self._trained = processes.wrap(self.network)
        self.optimizer = recipe.optimizer(self.network.parameters())
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=amp is torch.float16)
        self.steps = 0

    def step(self, label: Tensor, *inputs: Tensor, total: int | None = None) -> dict[str, Tensor]:
        """One step on labels (N,) and the network's inputs: image (N, 3, S, S)[, fx]; loss and accuracy in %.

        The figures stay on the device until somebody reads them. ``total`` is the number of samples in all processes.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.steps)
        self.network.train()
        weight = self.processes.weight(len(label), total)
        with self._autocast():
            logits = self._trained(*inputs)
        loss = F.cross_entropy(logits.float(), label)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(weight * loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.steps += 1
        return self.processes.mean({"loss": loss, "acc": 100 * (logits.argmax(1) == label).float().mean()}, weight)

    @torch.inference_mode()
    def predict(self, *inputs: Tensor) -> Tensor:
        """The network's inputs → probabilities (N, n), in eval mode; train mode is put back (METHOD §7, row 4)."""
        was_training = self.network.training
        self.network.eval()
        with self._autocast():
            logits = self.network(*inputs)
        self.network.train(was_training)
        return logits.float().softmax(1)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a training needs to go on exactly."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.steps = state["steps"]


@torch.no_grad()
def real_features(encoder: Encoder, image: Tensor) -> Tensor:
    """fx = cat(z, z) of real images: (N, 3, S, S) in [-1, 1] → (N, 16w, S/32, S/32), without gradients (METHOD §5)."""
    code, _ = encoder(image)
    return torch.cat([code, code], dim=1)


def evaluate(recognizer: Recognizer, encoder: Encoder | None, batches: Iterable[tuple[Tensor, Tensor]],
             num_classes: int) -> Report:
    """Judge a recognizer on batches of images (N, 3, S, S) in [-1, 1] and labels (N,).

    ``encoder`` gives the features; None for a network that takes images alone. With several processes, each brings
    its own batches and all get the figures of them together.
    """
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    for image, label in batches:
        with torch.inference_mode():
            inputs = (image,) if encoder is None else (image, real_features(encoder, image))
        predicted = recognizer.predict(*inputs).argmax(1)
        counts += confusion_matrix(label.cpu().numpy(), predicted.cpu().numpy(), num_classes)
    return Report(recognizer.processes.sum(torch.from_numpy(counts).to(recognizer.device)).cpu().numpy())
