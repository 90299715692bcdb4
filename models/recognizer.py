"""Recognizer: a network that classifies expressions, with the optimizer that trains it (METHOD §5)."""

from functools import cached_property
from typing import Any, Iterable, Iterator, NamedTuple

import numpy
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.distributed import Processes
from models.networks import Encoder, RecognizerNetwork, autocast, load_state
from options.config import RecognizerRecipe

LEAST_QUALITY = 0.5  # of swaps that a recognizer should learn from, between chance (0) and real images (1)


class Examples(NamedTuple):
    """A batch of the recognizer: labels (N,) and the network's inputs, images (N, 3, S, S) in [-1, 1] and maybe fx.

    The first ``real`` images are real and the others synthesized; all are real if it is None. ``totals`` are the
    numbers of real and synthesized images in the whole batch if this is one process's part of it, else None.
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
        # torch allocates it uninitialized in the first step, and leaves it so if a gradient scaler skips that step
        sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


class Recognizer:
    """A network with its optimizer, on a device: a recognizer of ``models.networks`` (images and fx) or a
    :class:`models.networks.VGG` (images alone)."""

    def __init__(self, network: nn.Module, recipe: RecognizerRecipe = RecognizerRecipe(),
                 device: torch.device | str = "cpu", amp: torch.dtype | None = None,
                 processes: Processes = Processes()) -> None:
        self.recipe, self.device, self.amp, self.processes = recipe, torch.device(device), amp, processes
        network = network.to(self.device, memory_format=torch.channels_last)
        self.network = processes.synchronize_batch_norm(network)
        self._wrapped = processes.wrap(self.network)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=amp is torch.float16)
        self.steps = 0

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer, which takes as much memory as the network; inference does without it."""
        return optimizer(self.recipe, self.network.parameters())

    def step(self, examples: Examples) -> dict[str, Tensor]:
        """Do one step on a batch; return loss and accuracy in percent, which stay on the device until they are read."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.steps)
        self.network.train()
        label = examples.label
        real = len(label) if examples.real is None else examples.real
        total_real, total_synthesized = examples.totals or (real, len(label) - real)
        guided = self.recipe.guided and total_real > 0 and total_synthesized > 0
        with autocast(self.device, self.amp):
            logits = (self.network if guided else self._wrapped)(*examples.inputs)
        per_sample = F.cross_entropy(logits.float(), label, reduction="none")
        weight = self.processes.world / (total_real + total_synthesized)  # of a sample in the mean over all processes
        real_loss, synthetic_loss = weight * per_sample[:real].sum(), weight * per_sample[real:].sum()
        self.optimizer.zero_grad(set_to_none=True)
        if guided:
            self._set_guided_gradients(real_loss, synthetic_loss)
        else:
            self.scaler.scale(real_loss + synthetic_loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.steps += 1
        correct = (logits.argmax(1) == label).sum() * weight
        return self.processes.mean({"loss": real_loss + synthetic_loss, "acc": 100 * correct})

    def _set_guided_gradients(self, real_loss: Tensor, synthetic_loss: Tensor) -> None:
        """Set the sum of both gradients, without the component of the synthetic one that opposes the real one."""
        parameters = list(self.network.parameters())
        real = torch.autograd.grad(self.scaler.scale(real_loss), parameters, retain_graph=True)
        synthetic = torch.autograd.grad(self.scaler.scale(synthetic_loss), parameters)
        real, synthetic = self.processes.average(real), self.processes.average(synthetic)
        product = sum((a * b).sum() for a, b in zip(real, synthetic))
        square = sum(a.square().sum() for a in real)
        factor = 1 - product.clamp(max=0) / square.clamp(min=1e-30)
        for parameter, a, b in zip(parameters, real, synthetic):
            parameter.grad = torch.empty_like(parameter)  # a fused optimizer needs the parameter's memory format
            torch.addcmul(b, a, factor, out=parameter.grad)

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
        """Return everything that training needs to continue exactly."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        for name in ("network", "optimizer", "scaler"):
            load_state(getattr(self, name), state[name])
        self.steps = state["steps"]


@torch.no_grad()
def real_features(encoder: Encoder, image: Tensor, amp: torch.dtype | None = None) -> Tensor:
    """Return fx = cat(z, z) (N, 16w, S/32, S/32) of real images (N, 3, S, S) in [-1, 1], no gradients (METHOD §5).

    ``amp`` is the dtype in which they are encoded, None is float32. It must be that of the synthesized images, since a
    recognizer could tell real from synthesized ones by the dtype's rounding.
    """
    with autocast(image.device, amp):
        code, _ = encoder(image)
    return torch.cat([code, code], dim=1).float()


# ------------------------------------------------------------------------------------------------- evaluation

def predictions_of(recognizer: Recognizer, encoder: Encoder | None, batches: Iterable[tuple[Tensor, Tensor]]
                   ) -> Iterator[tuple[numpy.ndarray, numpy.ndarray]]:
    """Yield labels (N,) and predicted probabilities (N, n) of each batch; arguments as in :func:`evaluate`."""
    for image, label in batches:
        with torch.inference_mode():
            inputs = (image,) if encoder is None else (image, real_features(encoder, image, recognizer.amp))
        yield label.cpu().numpy(), recognizer.predict(*inputs).cpu().numpy()


def evaluate(recognizer: Recognizer, encoder: Encoder | None, batches: Iterable[tuple[Tensor, Tensor]],
             num_classes: int) -> numpy.ndarray:
    """Return the confusion matrix of a recognizer on batches of images (N, 3, S, S) in [-1, 1] and labels (N,).

    ``encoder`` computes the features; None for a network that takes images alone. With several processes, each
    evaluates its own batches, and all return the matrix of all batches.
    """
    counts = numpy.zeros((num_classes, num_classes), dtype=numpy.int64)
    for label, probabilities in predictions_of(recognizer, encoder, batches):
        counts += confusion_matrix(label, probabilities.argmax(1), num_classes)
    return recognizer.processes.sum(torch.from_numpy(counts).to(recognizer.device)).cpu().numpy()


def confusion_matrix(truth: numpy.ndarray, predicted: numpy.ndarray, num_classes: int) -> numpy.ndarray:
    """Return the counts (n, n) of two arrays of labels (N,): the rows are true, the columns predicted expressions."""
    index = numpy.asarray(truth) * num_classes + numpy.asarray(predicted)
    return numpy.bincount(index, minlength=num_classes ** 2).reshape(num_classes, num_classes)


def accuracies(counts: numpy.ndarray) -> tuple[float, float]:
    """Return accuracy and mean class accuracy of a confusion matrix (n, n) in percent, NaN without images.

    The mean is that of the recalls of the expressions that have images.
    """
    images = counts.sum(1)
    if not images.any():
        return float("nan"), float("nan")
    recall = numpy.diag(counts)[images > 0] / images[images > 0]
    return float(100 * (numpy.trace(counts) / images.sum())), float(numpy.mean(100 * recall))


def chance_level(num_classes: int) -> float:
    """Return the mean class accuracy in percent of guessing among the expressions that a recognizer knows.

    It is the same whichever of them the images show.
    """
    return 100 / num_classes


def near_chance(counts: numpy.ndarray) -> bool:
    """Return whether the mean class accuracy of a confusion matrix is less than two deviations above that of guessing.

    False if there are so few images that guessing has a standard deviation above 5 points.
    """
    images, chance = counts.sum(1)[counts.sum(1) > 0], chance_level(len(counts)) / 100
    deviation = numpy.sqrt((chance * (1 - chance) / images).sum()) / max(1, len(images))
    return bool(len(images) and deviation <= 0.05 and accuracies(counts)[1] / 100 < chance + 2 * deviation)


# ------------------------------------------------------------------------------------------------- heat maps

FINEST = 16  # positions on a side that the maps of the layer of the heat maps still have, at least


def explained_halvings(image_size: int) -> int:
    """Return how often images of a side in pixels are halved, 0 to 4 times, before the layer of the heat maps."""
    return max(0, min(4, (image_size // FINEST).bit_length() - 1))


def explained_side(image_size: int) -> int:
    """Return the side of that layer's maps for images of a side in pixels."""
    return image_size >> explained_halvings(image_size)


def heat_maps(network: RecognizerNetwork, encoder: Encoder, image: Tensor, expression: Tensor) -> Tensor:
    """Return heat maps (N, S, S) in [0, 1] of the evidence in images (N, 3, S, S) in [-1, 1] for expressions (N,).

    They are those of LayerCAM of the recognizer's backbone (Jiang et al., IEEE TIP 2021): the heat at a position is the
    sum over the channels of a layer's activation times the positive part of the gradient of the expression's logit. The
    layer is the last one whose maps still have :data:`FINEST` positions on a side: with VGG at 256 px that is the end
    of the fifth and last stage, at 64 px that of the third, since the last maps of a 64 px face have 2 × 2 positions
    and say nothing about eyes and brows. The recognizer also gets features of the GAN's encoder: evidence from these is
    not in the map. The maximum of a map is 1, or 0 if there is no evidence. They are computed in eval mode; train mode
    is restored.
    """
    was_training = network.training
    network.eval()
    with torch.inference_mode(False), torch.enable_grad():
        image = image.clone()
        layers = network.layers_before_downsampling(explained_halvings(image.shape[-1]))
        with torch.no_grad():
            maps = network.features[:layers](image)
        maps = maps.detach().requires_grad_()
        logits = network.head(network.features[layers:](maps), real_features(encoder, image))
        gradient, = torch.autograd.grad(logits.gather(1, expression[:, None]).sum(), maps)
        heat = (maps.detach() * gradient.clamp(min=0)).sum(1, keepdim=True).clamp(min=0)
    network.train(was_training)
    heat = F.interpolate(heat.float(), size=image.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    return heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-12)
