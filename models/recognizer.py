"""Recognizer: a network that names expressions, with the optimizer that trains it (METHOD §5)."""

from __future__ import annotations

from typing import Any, Iterable, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.compiling import compile_networks
from models.generator import Encoder
from models.layers import autocast
from models.parallel import Processes
from options.recipes import RecognizerRecipe


class Examples(NamedTuple):
    """What a recognizer learns from in one step: labels (N,) and the network's inputs, (N, 3, S, S) in [-1, 1][, fx].

    The first ``real`` images are real and the others synthesized; None: all are real. ``totals`` are the numbers of
    both in the whole batch, of which this may be one process's part; None where it is the whole.
    """

    label: Tensor
    inputs: tuple[Tensor, ...]
    real: int | None = None
    totals: tuple[int, int] | None = None


def optimizer(recipe: RecognizerRecipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimizer of a recipe: SGD with momentum (METHOD §5), or AdamW."""
    if recipe.adam:
        return torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    sgd = torch.optim.SGD(parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay,
                          fused=True)
    for parameter in sgd.param_groups[0]["params"]:
        # torch makes it uninitialized in the first step, and leaves it so where a gradient scaler skips that step
        sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


class Recognizer:
    """Trains and uses :class:`models.backbones.VGG_fx` (images and fx) or :class:`models.vgg.VGG` (images alone)."""

    def __init__(self, network: nn.Module, recipe: RecognizerRecipe = RecognizerRecipe(),
                 device: torch.device | str = "cpu", amp: torch.dtype | None = None,
                 processes: Processes = Processes()) -> None:
        self.recipe, self.device, self.amp, self.processes = recipe, torch.device(device), amp, processes
        network = network.to(self.device, memory_format=torch.channels_last)
        self.network = processes.synchronize_batch_norm(network)
        self._trained = processes.wrap(self.network)
        self.optimizer = optimizer(recipe, self.network.parameters())
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=amp is torch.float16)
        self.steps = 0

    def step(self, examples: Examples) -> dict[str, Tensor]:
        """Do one step on a batch; return loss and accuracy in %, which stay on the device until they are read."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.steps)
        self.network.train()
        label = examples.label
        own = len(label) if examples.real is None else examples.real
        real, synthesized = examples.totals or (own, len(label) - own)
        guided = self.recipe.guided and real > 0 and synthesized > 0
        with autocast(self.device, self.amp):
            logits = (self.network if guided else self._trained)(*examples.inputs)
        each = F.cross_entropy(logits.float(), label, reduction="none")
        share = self.processes.world / (real + synthesized)
        real_loss, synthetic_loss = share * each[:own].sum(), share * each[own:].sum()
        self.optimizer.zero_grad(set_to_none=True)
        if guided:
            self._set_guided_gradients(real_loss, synthetic_loss)
        else:
            self.scaler.scale(real_loss + synthetic_loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.steps += 1
        correct = (logits.argmax(1) == label).sum() * share
        return self.processes.mean({"loss": real_loss + synthetic_loss, "acc": 100 * correct})

    def _set_guided_gradients(self, real_loss: Tensor, synthetic_loss: Tensor) -> None:
        """Set the gradients of both losses, without the part of the second that points against the first."""
        parameters = list(self.network.parameters())
        real = torch.autograd.grad(self.scaler.scale(real_loss), parameters, retain_graph=True)
        synthetic = torch.autograd.grad(self.scaler.scale(synthetic_loss), parameters)
        real, synthetic = self.processes.average(real), self.processes.average(synthetic)
        along = sum((a * b).sum() for a, b in zip(real, synthetic))
        square = sum(a.square().sum() for a in real)
        kept = 1 - along.clamp(max=0) / square.clamp(min=1e-30)
        for parameter, a, b in zip(parameters, real, synthetic):
            parameter.grad = torch.empty_like(parameter)  # a fused optimizer needs the parameter's memory format
            torch.addcmul(b, a, kept, out=parameter.grad)

    def compile(self) -> None:
        """Let torch.compile make the network faster, when it is first called."""
        compile_networks(self.network)

    @torch.inference_mode()
    def predict(self, *inputs: Tensor) -> Tensor:
        """Return probabilities (N, n) for the network's inputs, in eval mode; restore train mode (METHOD §7, row 4)."""
        was_training = self.network.training
        self.network.eval()
        with autocast(self.device, self.amp):
            logits = self.network(*inputs)
        self.network.train(was_training)
        return logits.float().softmax(1)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a training needs to go on exactly."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        for name in ("network", "optimizer", "scaler"):
            getattr(self, name).load_state_dict(state[name])
        self.steps = state["steps"]


@torch.no_grad()
def real_features(encoder: Encoder, image: Tensor, amp: torch.dtype | None = None) -> Tensor:
    """fx = cat(z, z) of real images: (N, 3, S, S) in [-1, 1] → (N, 16w, S/32, S/32), without gradients (METHOD §5).

    ``amp`` is the dtype in which they are encoded, as those of synthesized images are: another one would be a
    signature that tells both apart. None is float32.
    """
    with autocast(image.device, amp):
        code, _ = encoder(image)
    return torch.cat([code, code], dim=1).float()
