"""Swapper and SwapGAN: swap and synthesize expressions with a trained generator, and train one (METHOD §2 to §4)."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

import utils
from models.distributed import Processes
from models.losses import GeneratorStep, compute_d_loss, compute_g_loss
from models.networks import (Discriminators, Edits, Encoder, Generator, Pair, Perceptual, autocast,
                             even_phases, one_hot, load_state, start_with_gain, zero_biases)
from options.config import GANRecipe, GANShape
from utils import to_device


class Swapper:
    """A generator on a device; ``amp`` is None (float32), torch.bfloat16 or torch.float16."""

    def __init__(self, generator: Generator, device: torch.device | str = "cpu",
                 amp: torch.dtype | None = None) -> None:
        self.shape, self.device, self.amp = generator.shape, torch.device(device), amp
        self.generator = generator.to(self.device, memory_format=torch.channels_last)

    @property
    def inference_generator(self) -> Generator:
        """The generator that swaps; a subclass may train another one."""
        return self.generator

    @property
    def encoder(self) -> Encoder:
        """The encoder whose codes the recognizer takes."""
        return self.inference_generator.encoder

    @torch.inference_mode()
    def edits(self, pair: Pair) -> Edits:
        """Return C, D, A', B' of a pair, without gradients (METHOD §2)."""
        with autocast(self.device, self.amp):
            return self.inference_generator(pair)

    @torch.inference_mode()
    def swap(self, pair: Pair) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return C and D of a pair, (N, 3, S, S) in [-1, 1], and their residuals in [-2, 2] (METHOD §2)."""
        generator, faces = self.inference_generator, torch.cat([pair.image_a, pair.image_b])
        with autocast(self.device, self.amp):
            codes, swapped, skips, label = generator.encode_pair(pair.image_a, pair.image_b, pair.a, pair.b)
            planes = generator.label(torch.cat([label, label]))
            residual = generator.residual(torch.cat(swapped), torch.cat(codes), skips, planes)
        return *(faces + residual).clamp(-1, 1).chunk(2), *residual.chunk(2)

    @torch.inference_mode()
    def blend(self, face: Tensor, a: Tensor, targets: Tensor, b: Tensor, weights: Tensor) -> Tensor:
        """Return K images (K, 3, S, S) of a face, interpolated towards the expressions of T target faces at once.

        ``face`` (1, 3, S, S) with expression ``a`` (1,), ``targets`` (T, 3, S, S) with ``b`` (T,), ``weights`` (K, T)
        in [0, 1], where 0 is the reconstruction and 1 the swap. Codes and labels are both interpolated.
        """
        generator = self.inference_generator
        with autocast(self.device, self.amp):
            (code, _), (swapped, _), skips, label = generator.encode_pair(face.expand_as(targets), targets,
                                                                          a.expand_as(b), b)
            code = code[:1]
            edited = code + torch.einsum("kt,tchw->kchw", weights.to(code), swapped - code)
            planes = generator.label((weights @ label).clamp(max=1), 1 - weights.max(1, keepdim=True).values)
            return generator.edit(face, edited, code, [skip[:1] for skip in skips], planes)

    @torch.no_grad()
    def synthesize(self, source: Tensor, target: Tensor, source_label: Tensor, target_label: Tensor
                   ) -> tuple[Tensor, Tensor]:
        """Return the target persons with the sources' expressions, (N, 3, S, S), and their features fx (METHOD §4).

        ``source``, ``target`` (N, 3, S, S) in [-1, 1] have expressions ``source_label`` (N,) and ``target_label`` (N,),
        which is neutral in METHOD, or ``num_classes`` for targets of no class (METHOD §7, row 15). A source with the
        target's expression is what is shown of the target itself, and is returned as it is. fx = cat(swapped code,
        target's code) is (N, 16w, S/32, S/32).
        """
        generator = self.inference_generator
        with autocast(self.device, self.amp):
            (_, code), (_, swapped), skips, label = generator.encode_pair(source, target, source_label, target_label)
            unchanged = (source_label == target_label)[:, None, None, None]
            swapped = torch.where(unchanged, code, swapped)
            skips = [skip.chunk(2)[1] for skip in skips]
            image = generator.edit(target, swapped, code, skips, generator.label(label))
        return torch.where(unchanged, source, image), torch.cat([swapped, code], dim=1).float()


@torch.no_grad()
def move_average(averaged: Generator, trained: Generator, decay: float, step: int) -> None:
    """Update the exponential moving average of a generator in place; the ``decay`` is smaller in the first steps."""
    decay = min(decay, step / (9 + step) if step else 0.0)
    torch._foreach_lerp_(list(averaged.parameters()), list(trained.parameters()), 1 - decay)


def augmented(image: Tensor, draws: Tensor) -> Tensor:
    """Return images (N, 3, S, S) shifted, and with another brightness and contrast, by ``draws`` (4, N) in [0, 1).

    The draws are those of the shifts in y and x, up to an eighth of the side, where the border is repeated; of the
    brightness, up to ±0.5; and of the contrast, a factor from 0.5 to 1.5. 0.5 changes nothing. (Differentiable
    augmentation: Zhao et al., 2020.)
    """
    side, (y, x, brightness, contrast) = image.shape[-1], draws - 0.5
    at = torch.arange(side, device=image.device)
    rows, columns = ((at + (shift * side / 4).round().long()[:, None]).clamp(0, side - 1) for shift in (y, x))
    each = torch.arange(len(image), device=image.device)[:, None, None]
    image = image[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    brightness, contrast = (value[:, None, None, None] for value in (brightness, contrast))
    mean = image.mean((1, 2, 3), keepdim=True)
    return (image - mean) * (1 + contrast) + mean + brightness


class SwapGAN(Swapper):
    """The GAN with its optimizers. ``perceptual`` is needed only for :meth:`step` with a perceptual loss.

    ``amp`` is None (float32), torch.bfloat16 or torch.float16; ``processes`` are those that train it together. The
    noise of a step's targets is a function of ``seed`` and the step's number.
    """

    NETWORKS = {"Enc": "encoder", "Dec": "decoder", "D1": "d1", "D2": "d2"}  # the names in files → attributes
    WITH_STATE = ("generator", "discriminators", "optimizer_g", "optimizer_d", "scaler")

    def __init__(self, shape: GANShape, recipe: GANRecipe = GANRecipe(), perceptual: Perceptual | None = None,
                 device: torch.device | str = "cpu", amp: torch.dtype | None = None,
                 processes: Processes = Processes(), seed: int = 0) -> None:
        super().__init__(Generator(shape), device, amp)
        self.recipe, self.processes, self.seed = recipe, processes, seed
        self.rebuilds = "l2" in recipe.loss_weights()  # whether a loss needs A' and B'
        self.discriminators = Discriminators(shape).to(self.device, memory_format=torch.channels_last)
        if recipe.zero_biases:
            zero_biases(self.generator)
            zero_biases(self.discriminators)
        start_with_gain(self.discriminators, recipe.d_gain)
        self._even_phases()
        self.averaged = copy.deepcopy(self.generator).requires_grad_(False) if recipe.ema else None
        self._wrapped_generator = processes.wrap(self.generator)
        self._wrapped_discriminators = processes.wrap(self.discriminators)
        self.perceptual: Perceptual | None = None
        if perceptual is not None:
            self.set_perceptual(perceptual)
        adam = {"lr": recipe.lr, "betas": (0.5, 0.999), "weight_decay": recipe.weight_decay, "fused": True}
        self.optimizer_g = torch.optim.Adam(self.generator.parameters(), **adam)
        self.optimizer_d = torch.optim.Adam(self.discriminators.parameters(), **adam)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=amp is torch.float16)
        self.steps = 0
        self.last_g_loss = torch.zeros((), device=self.device)
        # On a GPU, reading whether the discriminators' update is skipped would make the host wait for the device.
        self.device_decides = self.device.type == "cuda" and amp is not torch.float16

    @property
    def inference_generator(self) -> Generator:
        """The generator for all use but training: the averaged one if there is one."""
        return self.generator if self.averaged is None else self.averaged

    def set_perceptual(self, perceptual: Perceptual) -> None:
        """Set the perceptual network of the perceptual loss, which is not part of the GAN's own state."""
        self.perceptual = perceptual.to(self.device, memory_format=torch.channels_last)

    # ------------------------------------------------------------------------------------------- training

    def step(self, pair: Pair) -> dict[str, Tensor]:
        """Do one step of the discriminators and one of the generator on a pair; return the losses by name (METHOD §3).

        The discriminators' update is skipped if the generator's loss of the step before was ``G_max`` or more; their
        losses are then missing, or computed without an update if ``device_decides``. Losses stay on the device.
        """
        self._set_learning_rates()
        weight, rebuild = self.processes.weight(len(pair.a), pair.total), self.recipe.lazy if self.rebuilds else 0
        with autocast(self.device, self.amp):
            edits = self._wrapped_generator(pair, self.recipe.alpha5, rebuild)
        fakes = [image for image in (edits.c, edits.d, edits.c_interpolated, edits.d_interpolated) if image is not None]
        a, b = one_hot(pair.a, self.shape.num_classes), one_hot(pair.b, self.shape.num_classes)
        real = torch.cat([pair.image_a, pair.image_b]), torch.cat([a, b])
        fake = torch.cat(fakes), torch.cat([b, a] * (len(fakes) // 2))
        noise_g, noise_d = self._noise(len(fakes), pair.total or len(pair.a))

        metrics, skip = {}, self.last_g_loss >= self.recipe.G_max
        if self.device_decides or not skip:
            metrics = self._update_discriminators(pair, real, fake, noise_d, weight, skip)
        metrics["D_updated"] = 1 - torch.as_tensor(skip, dtype=torch.float32, device=self.device)
        metrics.update(self._update_generator(pair, edits, fake, noise_g, weight))
        self.scaler.update()
        if self.averaged is not None:
            move_average(self.averaged, self.generator, self.recipe.ema, self.steps)
        self.steps += 1
        means = self.processes.mean(metrics, weight)
        self.last_g_loss = means["G"]
        return means

    def _update_discriminators(self, pair: Pair, real: tuple[Tensor, Tensor], fake: tuple[Tensor, Tensor],
                               noise: Tensor, weight: float, skip: Tensor) -> dict[str, Tensor]:
        """Do a step of D1 and D2 on real and fake images with their labels, and return their losses by name."""
        groups = [real, (fake[0].detach(), fake[1])]
        if self.recipe.mismatched and pair.mismatch is not None:
            groups.append((real[0], real[1].roll(len(real[1]) // 2, 0)))
        images, labels = (torch.cat(tensors) for tensors in zip(*groups))
        with autocast(self.device, self.amp):
            logits = self._wrapped_discriminators(self._seen(images, pair, "d"), labels)
        logits = zip(*(logits_of_one.split([len(label) for _, label in groups]) for logits_of_one in logits))
        d_loss, terms = compute_d_loss(*logits, noise=noise, weight=self.recipe.lambda_D, mask=pair.mismatch)
        if self.device_decides:
            self.optimizer_d.found_inf = skip.float()  # a fused optimizer then changes nothing
        self.optimizer_d.zero_grad(set_to_none=True)
        self.scaler.scale(weight * d_loss).backward()
        self.scaler.step(self.optimizer_d)
        return {"D": d_loss, **terms}

    def _update_generator(self, pair: Pair, edits: Edits, fake: tuple[Tensor, Tensor], noise: Tensor, weight: float
                          ) -> dict[str, Tensor]:
        """Do a step of the generator, and return its losses by name."""
        self.discriminators.requires_grad_(False)  # without unused gradients (METHOD §7, row 8)
        with autocast(self.device, self.amp):
            logits = self.discriminators(self._seen(fake[0], pair, "g"), fake[1])
            step = GeneratorStep(pair, edits, logits, noise, self.generator, self.discriminators, self.perceptual,
                                 self.recipe.lazy, self.recipe.vgg_blur)
            g_loss, terms = compute_g_loss(step, self.recipe)
        self.optimizer_g.zero_grad(set_to_none=True)
        self.scaler.scale(weight * g_loss).backward()
        self.scaler.step(self.optimizer_g)
        self._even_phases()
        self.discriminators.requires_grad_(True)
        return {"G": g_loss, **terms}

    def _seen(self, images: Tensor, pair: Pair, update: str) -> Tensor:
        """Return images (K·N, 3, S, S) as the discriminators see them in an ``update``: augmented with ``d_augment``.

        As for the noise, the draws are those of all processes' pairs.
        """
        if not self.recipe.d_augment:
            return images
        random = utils.generator(self.seed, "augment", update, self.steps)
        draws = torch.rand(4, len(images) // len(pair.a), pair.total or len(pair.a), generator=random)
        return augmented(images, to_device(draws[:, :, self.processes.rank_slice].flatten(1), self.device))

    def _even_phases(self) -> None:
        if self.recipe.even_phases:
            even_phases(self.generator.decoder.main[-self.recipe.even_phases:])

    def _noise(self, fakes: int, total: int) -> tuple[Tensor, Tensor]:
        """Return noise (2, fakes·N) of the generator's targets, and (2, (2 + fakes + 2)·N) of the discriminators'.

        It is drawn for all ``total`` pairs and then sliced, so that it does not depend on the number of processes.
        """
        random = utils.generator(self.seed, "noise", self.steps)
        noise = torch.cat([torch.randn(2, count, total, generator=random) for count in (2 + 2 * fakes, 2)], 1)
        noise = to_device(self.recipe.std * noise[:, :, self.processes.rank_slice], self.device)
        return tuple(part.flatten(1) for part in noise.split([fakes, 2 + fakes + 2], 1))

    def _set_learning_rates(self) -> None:
        rate = self.recipe.rate(self.steps)
        for optimizer, factor in ((self.optimizer_g, 1.0), (self.optimizer_d, self.recipe.d_lr_ratio)):
            for group in optimizer.param_groups:
                group["lr"] = factor * rate

    # --------------------------------------------------------------------------------------------- states

    def network(self, name: str) -> nn.Module:
        """Return a network for inference by its name in files: Enc, Dec, D1, D2 (METHOD §6)."""
        owner = self.inference_generator if name in ("Enc", "Dec") else self.discriminators
        return getattr(owner, self.NETWORKS[name])

    @torch.no_grad()
    def clear_encoder(self) -> None:
        """Set all weights of the encoder to zero, so that every image has a code of zeros (``--recognizer_only``)."""
        for parameter in self.encoder.parameters():
            parameter.zero_()

    def start_from_average(self) -> None:
        """Copy the averaged generator into the trained one, after it was loaded from files, which hold no other."""
        self.generator.load_state_dict(self.inference_generator.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return everything that training needs to continue exactly."""
        return {**{name: getattr(self, name).state_dict() for name in self.WITH_STATE},
                "averaged": None if self.averaged is None else self.averaged.state_dict(), "steps": self.steps,
                "last_g_loss": self.last_g_loss.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        for name in self.WITH_STATE:
            load_state(getattr(self, name), state[name])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.steps, self.last_g_loss = state["steps"], state["last_g_loss"].to(self.device)
