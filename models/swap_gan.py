"""SwapGAN: the networks of the expression-swap GAN, their losses, optimizers and training step (METHOD §3)."""

import copy
from typing import Any, Sequence

import torch
from torch import Tensor, nn

from models import beyond, losses
from models.compiling import compile_networks
from models.discriminator import Discriminators
from models.generator import Edits, Generator
from models.layers import autocast, every_nth
from models.parallel import Processes
from models.swap import Pair, one_hot
from models.swapper import Swapper
from models.vgg import Perceptual
from options.config import GANRecipe, GANShape
from utils import to_device


def discriminator_loss(real: tuple[Tensor, Tensor], fake: tuple[Tensor, Tensor], noise: Tensor, groups: int,
                       weight: float = 0.25) -> tuple[Tensor, dict[str, Tensor]]:
    """Return weight·(L(D1) + 0.5·L(D2)) and both losses by name (METHOD §3).

    ``real`` are the logits (2N,) of D1 and D2 on A and B, ``fake`` those (groups·N,) on ``groups`` groups of fakes;
    ``noise`` (2, (2 + groups)·N), real first.
    """
    d1, d2 = (losses.adversarial(r, 1.0, e[:len(r)], 2) + losses.adversarial(f, 0.0, e[len(r):], groups)
              for r, f, e in zip(real, fake, noise))
    return weight * (d1 + 0.5 * d2), {"D1": d1, "D2": d2}


def generator_loss(pair: Pair, edits: Edits, fake: tuple[Tensor, Tensor], noise: Tensor, groups: int,
                   perceptual: Perceptual | None, recipe: GANRecipe) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the generator's total loss and its named terms, each with its weight (METHOD §3).

    ``fake`` are the logits (groups·N,) of D1 and D2 on the fakes, ``noise`` (2, groups·N).
    """
    d1, d2 = (losses.adversarial(f, 1.0, e, groups) for f, e in zip(fake, noise))
    terms = {"adv": recipe.lambda_adv_loss * (d1 + 0.5 * d2)}
    same_expressions = torch.cat([edits.d, edits.c])  # as A and B: D shows A's expression, and C that of B
    if recipe.vgg_loss and recipe.lambda_vgg_loss:
        target = torch.cat([pair.image_a, pair.image_b])
        distance = perceptual.distance(every_nth(same_expressions, recipe.lazy), every_nth(target, recipe.lazy))
        terms["vgg"] = recipe.lambda_vgg_loss * 2 * distance
    if recipe.l1_loss:
        terms["l1"] = recipe.lambda_l1_loss * losses.swap_consistency(pair.image_a, pair.image_b, edits.c, edits.d)
    if recipe.l2_loss:
        terms["l2"] = recipe.lambda_l2_loss * (losses.reconstruction(edits.a_rebuilt, pair.image_a[::recipe.lazy])
                                               + losses.reconstruction(edits.b_rebuilt, pair.image_b[::recipe.lazy]))
    if recipe.tv_loss:
        terms["tv"] = recipe.lambda_tv_loss * 2 * losses.total_variation(same_expressions)
    terms.update(beyond.generator_terms(pair, edits, recipe))
    return sum(terms.values()), terms


class SwapGAN(Swapper):
    """The GAN with its optimizers. ``perceptual`` is needed only for :meth:`step` with ``vgg_loss``.

    ``amp`` is None (float32), torch.bfloat16 or torch.float16; ``processes`` are those that train it together.
    """

    NETWORKS = {"Enc": "encoder", "Dec": "decoder", "D1": "d1", "D2": "d2"}  # the names in files → attributes
    WITH_STATE = ("generator", "discriminators", "optimizer_g", "optimizer_d", "scaler")

    def __init__(self, shape: GANShape, recipe: GANRecipe = GANRecipe(), perceptual: Perceptual | None = None,
                 device: torch.device | str = "cpu", amp: torch.dtype | None = None,
                 processes: Processes = Processes()) -> None:
        super().__init__(Generator(shape), device, amp)
        self.recipe, self.processes = recipe, processes
        self.discriminators = Discriminators(shape).to(self.device, memory_format=torch.channels_last)
        if recipe.zero_biases:
            beyond.zero_biases(self.generator)
            beyond.zero_biases(self.discriminators)
        beyond.start_with_gain(self.discriminators, recipe.d_gain)
        self._even_phases()
        self.averaged = copy.deepcopy(self.generator).requires_grad_(False) if recipe.ema else None
        self._wrapped_generator = processes.wrap(self.generator)
        self._wrapped_discriminators = processes.wrap(self.discriminators)
        self.perceptual: Perceptual | None = None
        self.compiled = False
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
        """Set the perceptual network of ``vgg_loss``, which is not part of the GAN's own state."""
        self.perceptual = perceptual.to(self.device, memory_format=torch.channels_last)
        if self.compiled:
            compile_networks(self.perceptual)

    def compile(self) -> None:
        """Compile all networks with ``torch.compile``, each at its first call, for training and inference."""
        self.compiled = True
        for generator in filter(None, (self.generator, self.averaged)):
            compile_networks(generator.encoder, generator.decoder)
        compile_networks(self.discriminators, *filter(None, [self.perceptual]))

    # ------------------------------------------------------------------------------------------- training

    def step(self, pair: Pair, random: torch.Generator, total: int | None = None) -> dict[str, Tensor]:
        """Do one step of the discriminators and one of the generator on a pair; return the losses by name (METHOD §3).

        ``random`` (on the CPU) draws the noise of the targets; ``total`` is the number of pairs in all processes. The
        discriminators' update is skipped if the generator's loss of the step before was ``G_max`` or more; their losses
        are then missing, or computed without an update if ``device_decides``. Losses stay on the device.
        """
        self._set_learning_rates()
        weight = self.processes.weight(len(pair.a), total)
        with autocast(self.device, self.amp):
            edits = self._wrapped_generator(pair, self.recipe.alpha5, self.recipe.lazy if self.recipe.l2_loss else 0)
        fakes = [image for image in (edits.c, edits.d, edits.c_interpolated, edits.d_interpolated) if image is not None]
        a, b = one_hot(pair.a, self.shape.num_classes), one_hot(pair.b, self.shape.num_classes)
        real, real_label = torch.cat([pair.image_a, pair.image_b]), torch.cat([a, b])
        fake, fake_label = torch.cat(fakes), torch.cat([b, a] * (len(fakes) // 2))
        noise = self._noise(len(fakes), total or len(pair.a), random)

        losses_by_name, skip = {}, self.last_g_loss >= self.recipe.G_max
        if self.device_decides or not skip:
            mismatch = pair.extras.mismatch if self.recipe.mismatched else None
            losses_by_name = self._step_discriminators(real, real_label, fake.detach(), fake_label, mismatch, noise[1:],
                                                       weight, skip)
        losses_by_name["D_updated"] = 1 - torch.as_tensor(skip, dtype=torch.float32, device=self.device)
        losses_by_name.update(self._step_generator(pair, edits, fake, fake_label, noise[0], weight))
        self.scaler.update()
        if self.averaged is not None:
            beyond.move_average(self.averaged, self.generator, self.recipe.ema, self.steps)
        self.steps += 1
        means = self.processes.mean(losses_by_name, weight)
        self.last_g_loss = means["G"]
        return means

    def _step_discriminators(self, real: Tensor, real_label: Tensor, fake: Tensor, fake_label: Tensor,
                             mismatch: Tensor | None, noise: Sequence[Tensor], weight: float, skip: Tensor
                             ) -> dict[str, Tensor]:
        images, labels = [real, fake], [real_label, fake_label]
        if mismatch is not None:
            images.append(real)
            labels.append(real_label.roll(len(real) // 2, 0))
        with autocast(self.device, self.amp):
            logits = self._wrapped_discriminators(torch.cat(images), torch.cat(labels))
        sizes = [len(group) for group in images]
        real_logits, fake_logits, *mismatched_logits = zip(*(logits_of_one.split(sizes) for logits_of_one in logits))
        total, terms = discriminator_loss(real_logits, fake_logits, noise[0], 2 * len(fake) // len(real),
                                          self.recipe.lambda_D)
        if mismatch is not None:
            further = beyond.discriminator_term(mismatched_logits[0], noise[1], mismatch)
            terms["mismatched"] = self.recipe.lambda_D * further
            total = total + terms["mismatched"]
        if self.device_decides:
            self.optimizer_d.found_inf = skip.float()  # a fused optimizer then changes nothing
        self._update(self.optimizer_d, weight * total)
        return {"D": total, **terms}

    def _step_generator(self, pair: Pair, edits: Edits, fake: Tensor, fake_label: Tensor,
                        noise: Tensor, weight: float) -> dict[str, Tensor]:
        self.discriminators.requires_grad_(False)  # without unused gradients (METHOD §7, row 8)
        with autocast(self.device, self.amp):
            fake_logits = self.discriminators(fake, fake_label)
            total, terms = generator_loss(pair, edits, fake_logits, noise, len(fake) // len(pair.a), self.perceptual,
                                          self.recipe)
        self._update(self.optimizer_g, weight * total)
        self._even_phases()
        self.discriminators.requires_grad_(True)
        return {"G": total, **terms}

    def _even_phases(self) -> None:
        if self.recipe.even_phases:
            beyond.even_phases(self.generator.decoder.main[-self.recipe.even_phases:])

    def _noise(self, fakes: int, total: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return noise (2, fakes·N) of the generator's loss, (2, (2 + fakes)·N) and (2, 2·N) of the discriminators'.

        It is drawn for all ``total`` pairs and then sliced, so that it does not depend on the number of processes.
        """
        noise = torch.cat([torch.randn(2, count, total, generator=random) for count in (2 + 2 * fakes, 2)], 1)
        noise = to_device(self.recipe.std * noise[:, :, self.processes.rank_slice], self.device)
        return tuple(part.flatten(1) for part in noise.split([fakes, 2 + fakes, 2], 1))

    def _update(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(optimizer)

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
            getattr(self, name).load_state_dict(state[name])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.steps, self.last_g_loss = state["steps"], state["last_g_loss"].to(self.device)
