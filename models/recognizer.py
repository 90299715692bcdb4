"""Recognizer: a network that names expressions, with the optimizer that trains it (METHOD §5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Iterable, Iterator, NamedTuple, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.generator import Encoder
from models.metrics import Report, confusion_matrix
from models.parallel import Processes


@dataclass(frozen=True)
class RecognizerRecipe:
    """How a recognizer is trained: SGD with stepwise decay (METHOD §5).

    Not in METHOD: ``falling_steps`` lets the rate fall to zero over so many steps, along a half cosine, instead;
    ``adam`` takes AdamW, which gets a deep network with random weights going (METHOD leaves open how the perceptual
    network is trained); ``synthesized_weight`` is what a synthesized image counts beside a real one in a batch;
    ``guided`` takes that part out of the synthesized images' gradient which points against the real ones' (gradient
    projection, Yu et al., 2020).
    """

    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    lr_decay: float = 0.97
    lr_decay_steps: int = 1800
    falling_steps: int | None = None
    adam: bool = False
    synthesized_weight: float = 1.0
    guided: bool = False

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of this recipe."""
        if self.adam:
            return torch.optim.AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay, fused=True)
        return torch.optim.SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay,
                               fused=True)

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if self.falling_steps is not None:
            return self.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.falling_steps)))
        return self.lr * self.lr_decay ** (step // self.lr_decay_steps)


class Examples(NamedTuple):
    """What a recognizer learns from in one step: labels (N,) and the network's inputs, (N, 3, S, S) in [-1, 1][, fx].

    ``synthesized`` (N,) boolean says which images are; None for none. ``totals`` are the numbers of real and of
    synthesized images in the whole batch, of which this may be one process's part; None where it is the whole.
    """

    label: Tensor
    inputs: tuple[Tensor, ...]
    synthesized: Tensor | None = None
    totals: tuple[int, int] | None = None


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

    def step(self, examples: Examples) -> dict[str, Tensor]:
        """One step on a batch; loss and accuracy in %, which stay on the device until somebody reads them."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.steps)
        self.network.train()
        label, synthesized = examples.label, examples.synthesized
        real, made = examples.totals or (len(label), 0)
        guided = self.recipe.guided and real > 0 and made > 0
        with self._autocast():
            logits = (self.network if guided else self._trained)(*examples.inputs)
        each = F.cross_entropy(logits.float(), label, reduction="none")
        whole, weight = real + made, torch.ones_like(each)
        if real and made:
            whole = real + self.recipe.synthesized_weight * made
            weight = torch.where(synthesized, self.recipe.synthesized_weight, 1.0)
        share = self.processes.world / whole
        self.optimizer.zero_grad(set_to_none=True)
        if guided:
            self._set_guided_gradients(share * each[~synthesized].sum(), share * (weight * each)[synthesized].sum())
        else:
            self.scaler.scale(share * (weight * each).sum()).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.steps += 1
        figures = {"loss": (weight * each).sum() * share, "acc": 100 * (logits.argmax(1) == label).sum()
                   * self.processes.world / (real + made)}
        return self.processes.mean(figures)

    def _set_guided_gradients(self, real: Tensor, synthesized: Tensor) -> None:
        """Gradients of both losses, without the part of the second that undoes the first."""
        parameters = list(self.network.parameters())
        of_real = torch.autograd.grad(self.scaler.scale(real), parameters, retain_graph=True)
        of_made = torch.autograd.grad(self.scaler.scale(synthesized), parameters)
        of_real, of_made = self.processes.average(of_real), self.processes.average(of_made)
        along = sum((a * b).sum() for a, b in zip(of_real, of_made))
        square = sum(a.square().sum() for a in of_real)
        kept = 1 - along.clamp(max=0) / square.clamp(min=1e-30)
        for parameter, a, b in zip(parameters, of_real, of_made):
            parameter.grad = torch.empty_like(parameter)  # a fused optimizer wants the parameter's memory format
            torch.addcmul(b, a, kept, out=parameter.grad)

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


def answers(recognizer: Recognizer, encoder: Encoder | None,
            batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Labels (N,) and what the recognizer says, probabilities (N, n), of each batch; arguments as in :func:`evaluate`.
    """
    for image, label in batches:
        with torch.inference_mode():
            inputs = (image,) if encoder is None else (image, real_features(encoder, image))
        yield label.cpu().numpy(), recognizer.predict(*inputs).cpu().numpy()


def evaluate(recognizer: Recognizer, encoder: Encoder | None, batches: Iterable[tuple[Tensor, Tensor]],
             num_classes: int) -> Report:
    """Judge a recognizer on batches of images (N, 3, S, S) in [-1, 1] and labels (N,).

    ``encoder`` gives the features; None for a network that takes images alone. With several processes, each brings
    its own batches and all get the figures of them together.
    """
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    for label, probabilities in answers(recognizer, encoder, batches):
        counts += confusion_matrix(label, probabilities.argmax(1), num_classes)
    return Report(recognizer.processes.sum(torch.from_numpy(counts).to(recognizer.device)).cpu().numpy())
