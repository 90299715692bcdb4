"""SwapGAN: the expression-swap GAN's networks, optimizers and the three things it does: step, swap, synthesize."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models import losses
from models.discriminator import Discriminator
from models.generator import Decoder, Encoder
from models.parallel import Processes
from models.swap import Pair, decoder_label, half_way, one_hot, swap_codes, swap_label
from models.vgg import Perceptual


@dataclass(frozen=True)
class GANShape:
    """What the networks' tensors depend on; it travels with every checkpoint (METHOD §1)."""

    num_classes: int
    image_size: int = 256
    base_width: int = 64
    decoder_label: bool = True
    label_copy: int = 20
    exp_label: bool = False

    @property
    def label_chans(self) -> int:
        """The number of label planes that the decoder takes."""
        return self.label_copy * (self.num_classes + self.exp_label) if self.decoder_label else 0

    @classmethod
    def of_states(cls, encoder: dict[str, Tensor], decoder: dict[str, Tensor], num_classes: int,
                  image_size: int) -> "GANShape":
        """Read the shape off state dicts that come without one (the reference's checkpoints).

        Raises ValueError where the decoder's label does not fit ``num_classes`` expressions.
        """
        width = encoder["main.0.0.weight"].shape[0]
        planes = decoder["main.0.0.weight"].shape[0] - 16 * width
        if planes == 0:
            return cls(num_classes, image_size, width, decoder_label=False)
        for exp_label in (False, True):
            if planes == cls.label_copy * (num_classes + exp_label):
                return cls(num_classes, image_size, width, exp_label=exp_label)
        raise ValueError(f"its {planes} label planes are not {cls.label_copy} for each of {num_classes} expressions; "
                         "name those that it was trained with, in their order, with -a")


@dataclass(frozen=True)
class GANRecipe:
    """How the GAN is trained: the weights and rates of METHOD §3, each with its switch.

    ``paired`` (not in METHOD, 0 there) is the share of the pairs that show one person in one scene.
    """

    alpha5: bool = False
    std: float = 0.2
    G_max: float = 22.0
    vgg_loss: bool = True
    l1_loss: bool = True
    l2_loss: bool = True
    tv_loss: bool = True
    lambda_vgg_loss: float = 15.0
    lambda_l1_loss: float = 5.0
    lambda_l2_loss: float = 10.0
    lambda_tv_loss: float = 5.0
    paired: float = 0.0
    lambda_paired_loss: float = 40.0
    lr: float = 2e-4
    lr_decay: float = 0.97
    lr_decay_steps: int = 300
    weight_decay: float = 1e-5

    @classmethod
    def of(cls, options: Any) -> "GANRecipe":
        """Pick the recipe out of an object with attributes of these names (parsed options)."""
        return cls(**{f.name: getattr(options, f.name) for f in fields(cls)})


class Edits(NamedTuple):
    """What the generator makes of a :class:`Pair`; images (N, 3, S, S) in [-1, 1], the last two None without alpha5."""

    c: Tensor
    d: Tensor
    a_rebuilt: Tensor
    b_rebuilt: Tensor
    c_half: Tensor | None = None
    d_half: Tensor | None = None


class Generator(nn.Module):
    """Encoder and Decoder with the swap between them: all edits of a pair in one batched pass (METHOD §2)."""

    def __init__(self, shape: GANShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = Encoder(shape.base_width)
        self.decoder = Decoder(shape.base_width, shape.label_chans)

    def forward(self, pair: Pair, alpha5: bool = False) -> Edits:
        """A and B → C, D, A', B' and, with ``alpha5``, the half-way images C5, D5."""
        faces = torch.cat([pair.image_a, pair.image_b])
        code, skips = self.encoder(faces)
        label = swap_label(pair.a, pair.b, self.shape.num_classes)
        swapped = torch.cat(swap_codes(*code.chunk(2), label))
        label = torch.cat([label, label])
        codes, labels = [swapped, code], [self.label(label), self.label(torch.zeros_like(label), reconstruct=1.0)]
        if alpha5:
            codes.append(half_way(code, swapped))
            labels.append(labels[0])
        images = self.edit(faces, torch.cat(codes), code, skips, torch.cat(labels))
        return Edits(*images.chunk(2 * len(codes)))

    def label(self, multi_hot: Tensor, reconstruct: float = 0.0) -> Tensor:
        """(N, n) → the decoder's label (N, label_chans)."""
        return decoder_label(multi_hot, self.shape.label_copy, self.shape.exp_label, reconstruct)

    def edit(self, faces: Tensor, edited: Tensor, code: Tensor, skips: list[Tensor], label: Tensor) -> Tensor:
        """clamp(face + Dec(edited, code, label, skips of the face), -1, 1), K edits of N faces: (K·N, 3, S, S)."""
        residual = self.decoder(edited, code, skips, label if self.shape.decoder_label else None)
        return (faces.repeat(edited.shape[0] // faces.shape[0], 1, 1, 1) + residual).clamp(-1, 1)


class Discriminators(nn.Module):
    """D1 at the image's size and D2 at half of it, on the same images (METHOD §1)."""

    def __init__(self, shape: GANShape) -> None:
        super().__init__()
        self.d1 = Discriminator(shape.num_classes, shape.image_size, shape.base_width)
        self.d2 = Discriminator(shape.num_classes, shape.image_size // 2, shape.base_width)

    def forward(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, S, S), one-hot (N, n) → the two logits (N,)."""
        return self.d1(image, label), self.d2(image, label)


def discriminator_loss(real: tuple[Tensor, Tensor], fake: tuple[Tensor, Tensor], noise: Tensor,
                       groups: int) -> tuple[Tensor, dict[str, Tensor]]:
    """0.25·(L(D1) + 0.5·L(D2)) from the logits on A, B and on ``groups`` groups of fakes (METHOD §3).

    ``real`` (2N,) and ``fake`` (groups·N,) for D1 and D2; ``noise`` (2, (2 + groups)·N), real first.
    """
    parts = [losses.adversarial(r, 1.0, e[:len(r)], 2) + losses.adversarial(f, 0.0, e[len(r):], groups)
             for r, f, e in zip(real, fake, noise)]
    return 0.25 * (parts[0] + 0.5 * parts[1]), {"D1": parts[0], "D2": parts[1]}


def generator_loss(pair: Pair, edits: Edits, fake: tuple[Tensor, Tensor], noise: Tensor, groups: int,
                   perceptual: Perceptual | None, recipe: GANRecipe) -> tuple[Tensor, dict[str, Tensor]]:
    """The generator's total and its named terms, each with its weight (METHOD §3).

    ``fake`` are the logits (groups·N,) of D1 and D2 on the fakes, ``noise`` (2, groups·N).
    """
    adversarial = [losses.adversarial(f, 1.0, e, groups) for f, e in zip(fake, noise)]
    terms = {"adv": adversarial[0] + 0.5 * adversarial[1]}
    if recipe.vgg_loss:
        swapped, wanted = torch.cat([edits.d, edits.c]), torch.cat([pair.image_a, pair.image_b])
        terms["vgg"] = recipe.lambda_vgg_loss * 2 * perceptual.distance(swapped, wanted)
    if recipe.l1_loss:
        terms["l1"] = recipe.lambda_l1_loss * losses.swap_consistency(pair.image_a, pair.image_b, edits.c, edits.d)
    if recipe.l2_loss:
        terms["l2"] = recipe.lambda_l2_loss * (losses.reconstruction(edits.a_rebuilt, pair.image_a)
                                               + losses.reconstruction(edits.b_rebuilt, pair.image_b))
    if recipe.tv_loss:
        terms["tv"] = recipe.lambda_tv_loss * (losses.total_variation(edits.c) + losses.total_variation(edits.d))
    if recipe.paired and pair.same_scene is not None:
        terms["paired"] = recipe.lambda_paired_loss * sum(
            losses.paired_swap(swapped, truth, pair.same_scene, recipe.paired)
            for swapped, truth in ((edits.c, pair.image_b), (edits.d, pair.image_a)))
    return sum(terms.values()), terms


class SwapGAN:
    """The GAN with what trains it. ``perceptual`` is needed for :meth:`step` with ``vgg_loss`` only.

    ``amp`` is None (float32), torch.bfloat16 or torch.float16; ``processes`` are those that train it together.
    """

    STATES = {"Enc": "encoder", "Dec": "decoder", "D1": "d1", "D2": "d2"}

    def __init__(self, shape: GANShape, recipe: GANRecipe = GANRecipe(), perceptual: Perceptual | None = None,
                 device: torch.device | str = "cpu", amp: torch.dtype | None = None,
                 processes: Processes = Processes()) -> None:
        self.shape, self.recipe, self.device, self.amp = shape, recipe, torch.device(device), amp
        self.processes = processes
        self.generator = Generator(shape).to(self.device, memory_format=torch.channels_last)
        self.discriminators = Discriminators(shape).to(self.device, memory_format=torch.channels_last)
        self._trained_generator = processes.wrap(self.generator)
        self._trained_discriminators = processes.wrap(self.discriminators)
        self.perceptual: Perceptual | None = None
        if perceptual is not None:
            self.set_perceptual(perceptual)
        adam = {"lr": recipe.lr, "betas": (0.5, 0.999), "weight_decay": recipe.weight_decay}
        self.optimizer_g = torch.optim.Adam(self.generator.parameters(), **adam)
        self.optimizer_d = torch.optim.Adam(self.discriminators.parameters(), **adam)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=amp is torch.float16)
        self.steps = 0
        self.last_g_loss = 0.0

    @property
    def encoder(self) -> Encoder:
        """The generator's encoder: the recognizer looks at faces through it."""
        return self.generator.encoder

    def set_perceptual(self, perceptual: Perceptual) -> None:
        """Give the perceptual network of ``vgg_loss``, which is not part of the GAN's own state."""
        self.perceptual = perceptual.to(self.device, memory_format=torch.channels_last)

    # ------------------------------------------------------------------------------------------- training

    def step(self, pair: Pair, random: torch.Generator, total: int | None = None) -> dict[str, float]:
        """One step of the discriminators and one of the generator on a pair; the losses by name (METHOD §3).

        ``random`` (on the CPU) gives the noise of the targets; ``total`` is the number of pairs in all processes. The
        discriminators rest if the generator's loss of the step before was ``G_max`` or more; their figures are then
        missing.
        """
        self._set_learning_rates()
        weight = self.processes.weight(len(pair.a), total)
        with self._autocast():
            edits = self._trained_generator(pair, self.recipe.alpha5)
        fakes = [image for image in (edits.c, edits.d, edits.c_half, edits.d_half) if image is not None]
        a, b = one_hot(pair.a, self.shape.num_classes), one_hot(pair.b, self.shape.num_classes)
        fake, fake_label = torch.cat(fakes), torch.cat([b, a] * (len(fakes) // 2))
        g_noise, d_noise = self._noise(len(fakes), total or len(pair.a), random)

        figures = {}
        if self.last_g_loss < self.recipe.G_max:
            figures = self._step_discriminators(pair, torch.cat([a, b]), fake.detach(), fake_label, d_noise, weight)
        figures.update(self._step_generator(pair, edits, fake, fake_label, g_noise, weight))
        self.scaler.update()
        self.steps += 1
        means = self.processes.mean(figures, weight)
        self.last_g_loss = means["G"]
        return means

    def _step_discriminators(self, pair: Pair, real_label: Tensor, fake: Tensor, fake_label: Tensor,
                             noise: Tensor, weight: float) -> dict[str, Tensor]:
        images = torch.cat([pair.image_a, pair.image_b, fake])
        with self._autocast():
            logits = self._trained_discriminators(images, torch.cat([real_label, fake_label]))
        real, judged = zip(*(each.split([len(real_label), len(fake)]) for each in logits))
        total, terms = discriminator_loss(real, judged, noise, len(fake) // len(pair.a))
        self._update(self.optimizer_d, weight * total)
        return {"D": total, **terms}

    def _step_generator(self, pair: Pair, edits: Edits, fake: Tensor, fake_label: Tensor,
                        noise: Tensor, weight: float) -> dict[str, Tensor]:
        self.discriminators.requires_grad_(False)  # no gradients that nobody uses (METHOD §7, row 8)
        with self._autocast():
            judged = self.discriminators(fake, fake_label)
            total, terms = generator_loss(pair, edits, judged, noise, len(fake) // len(pair.a), self.perceptual,
                                          self.recipe)
        self._update(self.optimizer_g, weight * total)
        self.discriminators.requires_grad_(True)
        return {"G": total, **terms}

    def _noise(self, fakes: int, total: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise (2, fakes·N) for the generator's loss and (2, (2 + fakes)·N) for the discriminators', of N own pairs.

        It is drawn for all ``total`` pairs and shared out, so that it does not depend on the number of processes.
        """
        noise = self.recipe.std * torch.randn(2, 2 + 2 * fakes, total, generator=random)
        own = noise[:, :, self.processes.share].to(self.device)
        return own[:, :fakes].flatten(1), own[:, fakes:].flatten(1)

    def _update(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(optimizer)

    def _set_learning_rates(self) -> None:
        rate = self.recipe.lr * self.recipe.lr_decay ** (self.steps // self.recipe.lr_decay_steps)
        for optimizer in (self.optimizer_g, self.optimizer_d):
            for group in optimizer.param_groups:
                group["lr"] = rate

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None)

    # ---------------------------------------------------------------------------------------------- using

    @torch.inference_mode()
    def edits(self, pair: Pair) -> Edits:
        """C, D, A', B' of a pair, without gradients (METHOD §2)."""
        with self._autocast():
            return self.generator(pair)

    @torch.inference_mode()
    def swap(self, pair: Pair, share: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """C and D of a pair, ``share`` (0..1) of the way, and the residuals behind them (METHOD §2).

        Images are (N, 3, S, S) in [-1, 1], residuals in [-2, 2]. Code and label both go ``share`` of the way, from the
        reconstruction's (0) to the swap's (1).
        """
        faces = torch.cat([pair.image_a, pair.image_b])
        with self._autocast():
            code, skips = self.encoder(faces)
            label = swap_label(pair.a, pair.b, self.shape.num_classes)
            swapped = torch.cat(swap_codes(*code.chunk(2), label))
            label = share * torch.cat([label, label])
            planes = self.generator.label(label, 1 - share) if self.shape.decoder_label else None
            residual = self.generator.decoder(half_way(code, swapped, share), code, skips, planes)
        return *(faces + residual).clamp(-1, 1).chunk(2), *residual.chunk(2)

    @torch.no_grad()
    def synthesize(self, source: Tensor, target: Tensor, expression: Tensor, neutral: int) -> tuple[Tensor, Tensor]:
        """The target persons with the sources' expressions, and their features fx (METHOD §4).

        ``source``, ``target`` (N, 3, S, S) in [-1, 1]; ``expression`` (N,) of the sources; ``neutral`` the targets'
        label, or ``num_classes`` where the targets are in no class (METHOD §7, row 15). A neutral source gives the
        target itself. Returns images (N, 3, S, S) and fx (N, 16w, S/32, S/32).
        """
        with self._autocast():
            code, skips = self.encoder(torch.cat([source, target]))
            code_source, code_target = code.chunk(2)
            label = swap_label(expression, torch.full_like(expression, neutral), self.shape.num_classes)
            unchanged = (expression == neutral)[:, None, None, None]
            _, swapped = swap_codes(code_source, code_target, label)
            swapped = torch.where(unchanged, code_target, swapped)
            skips = [skip.chunk(2)[1] for skip in skips]
            image = self.generator.edit(target, swapped, code_target, skips, self.generator.label(label))
        fx = torch.cat([swapped, code_target], dim=1)
        return torch.where(unchanged, target, image), fx.float()

    # --------------------------------------------------------------------------------------------- states

    def network(self, name: str) -> nn.Module:
        """The network behind one of the reference's file names: Enc, Dec, D1, D2 (METHOD §6)."""
        owner = self.generator if name in ("Enc", "Dec") else self.discriminators
        return getattr(owner, self.STATES[name])

    def state_dict(self) -> dict[str, Any]:
        """Everything that a training needs to go on exactly."""
        return {"networks": {name: self.network(name).state_dict() for name in self.STATES},
                "optimizer_g": self.optimizer_g.state_dict(), "optimizer_d": self.optimizer_d.state_dict(),
                "scaler": self.scaler.state_dict(), "steps": self.steps, "last_g_loss": self.last_g_loss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        for name in self.STATES:
            self.network(name).load_state_dict(state["networks"][name])
        self.optimizer_g.load_state_dict(state["optimizer_g"])
        self.optimizer_d.load_state_dict(state["optimizer_d"])
        self.scaler.load_state_dict(state["scaler"])
        self.steps, self.last_g_loss = state["steps"], state["last_g_loss"]

    def config(self) -> dict[str, Any]:
        """The shape as plain values, for a checkpoint."""
        return asdict(self.shape)
