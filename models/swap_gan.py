"""SwapGAN: the expression-swap GAN's networks, optimizers and the three things it does: step, swap, synthesize."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple, Sequence

import torch
from torch import Tensor, nn

from models import losses
from models.augment import differently_lit, shifted
from models.discriminator import Discriminator
from models.generator import Decoder, Encoder
from models.layers import add_to_each
from models.parallel import Processes
from models.swap import Pair, decoder_label, half_way, one_hot, swap_codes, swap_label
from models.vgg import Perceptual

R1_EVERY = 8


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

    Not in METHOD, and off there: ``paired``, the share of the pairs that show one person in one scene, and
    ``scene_truth``, whether the true swaps of the other pairs are known as well where the data have them; ``lr_d``, a
    learning rate of the discriminators' own; ``ema``, how much of the averaged generator stays in a step; ``adv_loss``
    "hinge" and R1; the losses ``cycle`` (swapping back) and ``residual`` (change little); ``diff_aug`` in front of the
    discriminators; other weights of the perceptual taps than :data:`models.vgg.TAP_WEIGHTS`.
    """

    alpha5: bool = False
    std: float = 0.2
    G_max: float = 22.0
    vgg_loss: bool = True
    l1_loss: bool = True
    l2_loss: bool = True
    tv_loss: bool = True
    lambda_adv_loss: float = 1.0
    lambda_vgg_loss: float = 15.0
    lambda_l1_loss: float = 5.0
    lambda_l2_loss: float = 10.0
    lambda_tv_loss: float = 5.0
    paired: float = 0.0
    scene_truth: bool = False
    paired_metric: str = "l1"
    lambda_paired_loss: float = 40.0
    lambda_cycle_loss: float = 0.0
    lambda_residual_loss: float = 0.0
    adv_loss: str = "bce"
    lambda_r1_loss: float = 0.0
    diff_aug: bool = False
    mismatched: bool = False
    ema: float = 0.0
    lr: float = 2e-4
    lr_d: float | None = None
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

    def forward(self, pair: Pair, alpha5: bool = False, rebuild: bool = True) -> Edits:
        """A and B → C, D, A', B' (A, B without ``rebuild``) and, with ``alpha5``, the half-way images C5, D5."""
        faces = torch.cat([pair.image_a, pair.image_b])
        code, skips = self.encoder(faces)
        label = swap_label(pair.a, pair.b, self.shape.num_classes)
        swapped = torch.cat(swap_codes(*code.chunk(2), label))
        label = torch.cat([label, label])
        codes, labels = [swapped], [self.label(label)]
        if rebuild:
            codes.append(code)
            labels.append(self.label(torch.zeros_like(label), reconstruct=1.0))
        if alpha5:
            codes.append(half_way(code, swapped))
            labels.append(labels[0])
        images = self.edit(faces, torch.cat(codes), code, skips, torch.cat(labels)).chunk(2 * len(codes))
        return Edits(*images) if rebuild else Edits(*images[:2], pair.image_a, pair.image_b, *images[2:])

    def label(self, multi_hot: Tensor, reconstruct: float | Tensor = 0.0) -> Tensor:
        """(N, n) → the decoder's label (N, n), or (N, n + 1) with ``exp_label``."""
        return decoder_label(multi_hot, self.shape.exp_label, reconstruct)

    def edit(self, faces: Tensor, edited: Tensor, code: Tensor, skips: list[Tensor], label: Tensor) -> Tensor:
        """clamp(face + Dec(edited, code, label, skips of the face), -1, 1), K edits of N faces: (K·N, 3, S, S)."""
        residual = self.residual(edited, code, skips, label)
        return add_to_each(residual, faces).clamp(-1, 1)

    def residual(self, edited: Tensor, code: Tensor, skips: list[Tensor], label: Tensor) -> Tensor:
        """Dec(edited, code, label, skips of the face), K edits of N faces: (K·N, 3, S, S) in [-2, 2]."""
        return self.decoder(edited, code, skips, label if self.shape.decoder_label else None)


class Discriminators(nn.Module):
    """D1 at the image's size and D2 at half of it, on the same images (METHOD §1)."""

    def __init__(self, shape: GANShape) -> None:
        super().__init__()
        self.d1 = Discriminator(shape.num_classes, shape.image_size, shape.base_width)
        self.d2 = Discriminator(shape.num_classes, shape.image_size // 2, shape.base_width)

    def forward(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, S, S), one-hot (N, n) → the two logits (N,)."""
        return self.d1(image, label), self.d2(image, label)


def discriminator_loss(real: tuple[Tensor, Tensor], fake: tuple[Tensor, Tensor], noise: Tensor, groups: int,
                       adv_loss: str = "bce") -> tuple[Tensor, dict[str, Tensor]]:
    """0.25·(L(D1) + 0.5·L(D2)) from the logits on A, B and on ``groups`` groups of fakes (METHOD §3).

    ``real`` (2N,) and ``fake`` (groups·N,) for D1 and D2; ``noise`` (2, (2 + groups)·N), real first.
    """
    if adv_loss == "hinge":
        parts = [losses.hinge_real(r, 2) + losses.hinge_fake(f, groups) for r, f in zip(real, fake)]
    else:
        parts = [losses.adversarial(r, 1.0, e[:len(r)], 2) + losses.adversarial(f, 0.0, e[len(r):], groups)
                 for r, f, e in zip(real, fake, noise)]
    return 0.25 * (parts[0] + 0.5 * parts[1]), {"D1": parts[0], "D2": parts[1]}


def generator_loss(pair: Pair, edits: Edits, fake: tuple[Tensor, Tensor], noise: Tensor, groups: int,
                   perceptual: Perceptual | None, recipe: GANRecipe, back: Edits | None = None
                   ) -> tuple[Tensor, dict[str, Tensor]]:
    """The generator's total and its named terms, each with its weight (METHOD §3).

    ``fake`` are the logits (groups·N,) of D1 and D2 on the fakes, ``noise`` (2, groups·N), ``back`` the edits of C and
    D for the cycle loss.
    """
    if recipe.adv_loss == "hinge":
        adversarial = [-groups * f.mean() for f in fake]
    else:
        adversarial = [losses.adversarial(f, 1.0, e, groups) for f, e in zip(fake, noise)]
    terms = {"adv": recipe.lambda_adv_loss * (adversarial[0] + 0.5 * adversarial[1])}
    swapped = torch.cat([edits.d, edits.c])
    if recipe.vgg_loss:
        wanted = torch.cat([pair.image_a, pair.image_b])
        terms["vgg"] = recipe.lambda_vgg_loss * 2 * perceptual.distance(swapped, wanted)
    if recipe.l1_loss:
        terms["l1"] = recipe.lambda_l1_loss * losses.swap_consistency(pair.image_a, pair.image_b, edits.c, edits.d)
    if recipe.l2_loss:
        terms["l2"] = recipe.lambda_l2_loss * (losses.reconstruction(edits.a_rebuilt, pair.image_a)
                                               + losses.reconstruction(edits.b_rebuilt, pair.image_b))
    if recipe.tv_loss:
        terms["tv"] = recipe.lambda_tv_loss * 2 * losses.total_variation(swapped)
    share = 1.0 if recipe.scene_truth else recipe.paired
    if share and pair.truth is not None:
        terms["paired"] = recipe.lambda_paired_loss * 2 * losses.paired_swap(
            torch.cat([edits.c, edits.d]), pair.truth, pair.known, share, {"l1": 1, "l2": 2}[recipe.paired_metric])
    if back is not None:
        terms["cycle"] = recipe.lambda_cycle_loss * sum((ours - face).abs().mean() for ours, face in
                                                        ((back.c, pair.image_a), (back.d, pair.image_b)))
    if recipe.lambda_residual_loss:
        terms["residual"] = recipe.lambda_residual_loss * sum((ours - face).abs().mean() for ours, face in
                                                              ((edits.c, pair.image_a), (edits.d, pair.image_b)))
    return sum(terms.values()), terms


class SwapGAN:
    """The GAN with what trains it. ``perceptual`` is needed for :meth:`step` with ``vgg_loss`` only.

    ``amp`` is None (float32), torch.bfloat16 or torch.float16; ``processes`` are those that train it together.
    """

    STATES = {"Enc": "encoder", "Dec": "decoder", "D1": "d1", "D2": "d2"}
    PARTS = ("generator", "discriminators", "optimizer_g", "optimizer_d", "scaler")

    def __init__(self, shape: GANShape, recipe: GANRecipe = GANRecipe(), perceptual: Perceptual | None = None,
                 device: torch.device | str = "cpu", amp: torch.dtype | None = None,
                 processes: Processes = Processes()) -> None:
        self.shape, self.recipe, self.device, self.amp = shape, recipe, torch.device(device), amp
        self.processes = processes
        self.generator = Generator(shape).to(self.device, memory_format=torch.channels_last)
        self.discriminators = Discriminators(shape).to(self.device, memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.generator).requires_grad_(False) if recipe.ema else None
        self._trained_generator = processes.wrap(self.generator)
        self._trained_discriminators = processes.wrap(self.discriminators)
        self.perceptual: Perceptual | None = None
        if perceptual is not None:
            self.set_perceptual(perceptual)
        adam = {"lr": recipe.lr, "betas": (0.5, 0.999), "weight_decay": recipe.weight_decay, "fused": True}
        self.optimizer_g = torch.optim.Adam(self.generator.parameters(), **adam)
        self.optimizer_d = torch.optim.Adam(self.discriminators.parameters(), **adam)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=amp is torch.float16)
        self.steps = 0
        self.last_g_loss = torch.zeros((), device=self.device)
        # Whether the discriminators rest is not asked back from a GPU: the answer would have to be waited for.
        self.rests_on_device = self.device.type == "cuda" and amp is not torch.float16

    @property
    def used(self) -> Generator:
        """The generator for all use but training: the averaged one where there is one."""
        return self.generator if self.averaged is None else self.averaged

    @property
    def encoder(self) -> Encoder:
        """The encoder in use: the recognizer looks at faces through it."""
        return self.used.encoder

    def set_perceptual(self, perceptual: Perceptual) -> None:
        """Give the perceptual network of ``vgg_loss``, which is not part of the GAN's own state."""
        self.perceptual = perceptual.to(self.device, memory_format=torch.channels_last)

    # ------------------------------------------------------------------------------------------- training

    def step(self, pair: Pair, random: torch.Generator, total: int | None = None) -> dict[str, Tensor]:
        """One step of the discriminators and one of the generator on a pair; the losses by name (METHOD §3).

        ``random`` (on the CPU) gives the noise of the targets; ``total`` is the number of pairs in all processes. The
        discriminators rest if the generator's loss of the step before was ``G_max`` or more; their figures are then
        missing, or, where the device decides, those of a step that was not made. Figures stay on the device until
        somebody reads them.
        """
        self._set_learning_rates()
        weight = self.processes.weight(len(pair.a), total)
        with self._autocast():
            edits = self._trained_generator(pair, self.recipe.alpha5)
        fakes = [image for image in (edits.c, edits.d, edits.c_half, edits.d_half) if image is not None]
        a, b = one_hot(pair.a, self.shape.num_classes), one_hot(pair.b, self.shape.num_classes)
        fake, fake_label = torch.cat(fakes), torch.cat([b, a] * (len(fakes) // 2))
        noise = self._noise(len(fakes), total or len(pair.a), random)
        real, real_label = torch.cat([pair.image_a, pair.image_b]), torch.cat([a, b])
        shown = fake
        if self.recipe.diff_aug:
            real, shown = self._augmented(real, fake, total or len(pair.a), random)

        figures, rest = {}, self.last_g_loss >= self.recipe.G_max
        if self.rests_on_device or not rest:
            mismatch = pair.mismatch if self.recipe.mismatched else None
            figures = self._step_discriminators(real, real_label, shown.detach(), fake_label, mismatch, noise[1:],
                                                weight, rest)
        figures.update(self._step_generator(pair, edits, shown, fake_label, noise[0], weight))
        self.scaler.update()
        if self.averaged is not None:
            self._average()
        self.steps += 1
        means = self.processes.mean(figures, weight)
        self.last_g_loss = means["G"]
        return means

    def _step_discriminators(self, real: Tensor, real_label: Tensor, fake: Tensor, fake_label: Tensor,
                             mismatch: Tensor | None, noise: Sequence[Tensor], weight: float, rest: Tensor
                             ) -> dict[str, Tensor]:
        penalized = self.recipe.lambda_r1_loss > 0 and self.steps % R1_EVERY == 0
        if penalized:
            real = real.detach().requires_grad_()
        images, labels = [real, fake], [real_label, fake_label]
        if mismatch is not None:
            images.append(real)
            labels.append(real_label.roll(len(real) // 2, 0))
        with self._autocast():
            logits = self._trained_discriminators(torch.cat(images), torch.cat(labels))
        real_logits, fake_logits, *odd = zip(*(each.split([len(part) for part in images]) for each in logits))
        total, terms = discriminator_loss(real_logits, fake_logits, noise[0], 2 * len(fake) // len(real),
                                          self.recipe.adv_loss)
        if mismatch is not None:
            odd = [losses.mismatched(judged, e, mismatch) for judged, e in zip(odd[0], noise[1])]
            terms["mismatched"] = 0.25 * (odd[0] + 0.5 * odd[1])
            total = total + terms["mismatched"]
        if penalized:
            terms["r1"] = self.recipe.lambda_r1_loss * sum(losses.gradient_penalty(judged, real)
                                                           for judged in real_logits)
            total = total + R1_EVERY * terms["r1"]
        if self.rests_on_device:
            self.optimizer_d.found_inf = rest.float()  # a fused optimizer then leaves everything as it is
        self._update(self.optimizer_d, weight * total)
        return {"D": total, **terms}

    def _step_generator(self, pair: Pair, edits: Edits, fake: Tensor, fake_label: Tensor,
                        noise: Tensor, weight: float) -> dict[str, Tensor]:
        self.discriminators.requires_grad_(False)  # no gradients that nobody uses (METHOD §7, row 8)
        with self._autocast():
            judged = self.discriminators(fake, fake_label)
            back = self._trained_generator(Pair(edits.c, edits.d, pair.b, pair.a), rebuild=False) \
                if self.recipe.lambda_cycle_loss else None
            total, terms = generator_loss(pair, edits, judged, noise, len(fake) // len(pair.a), self.perceptual,
                                          self.recipe, back)
        self._update(self.optimizer_g, weight * total)
        self.discriminators.requires_grad_(True)
        return {"G": total, **terms}

    def _augmented(self, real: Tensor, fake: Tensor, total: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """What the discriminators see with ``diff_aug``; drawn for all ``total`` pairs and shared out."""
        groups = 2 * (len(real) + len(fake)) // len(real)
        draws = torch.rand(groups, total, 5, generator=random)[:, self.processes.share].flatten(0, 1)
        image = shifted(torch.cat([real, fake]), (draws[:, :2] - 0.5) / 4)
        real, fake = differently_lit(image, draws[:, 2:]).split([len(real), len(fake)])
        return real.detach(), fake

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged generator towards the trained one; faster in the first steps, with little to keep."""
        kept = min(self.recipe.ema, self.steps / (9 + self.steps) if self.steps else 0.0)
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.generator.parameters()), 1 - kept)

    def _noise(self, fakes: int, total: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Noise (2, fakes·N) for the generator's loss, (2, (2 + fakes)·N) and (2, 2·N) for the discriminators'.

        It is drawn for all ``total`` pairs and shared out, so that it does not depend on the number of processes.
        """
        noise = torch.cat([torch.randn(2, count, total, generator=random) for count in (2 + 2 * fakes, 2)], 1)
        own = (self.recipe.std * noise[:, :, self.processes.share]).to(self.device)
        of_g, of_d, of_mismatched = own.split([fakes, 2 + fakes, 2], 1)
        return of_g.flatten(1), of_d.flatten(1), of_mismatched.flatten(1)

    def _update(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(optimizer)

    def _set_learning_rates(self) -> None:
        decay = self.recipe.lr_decay ** (self.steps // self.recipe.lr_decay_steps)
        own = self.recipe.lr if self.recipe.lr_d is None else self.recipe.lr_d
        for optimizer, rate in ((self.optimizer_g, self.recipe.lr), (self.optimizer_d, own)):
            for group in optimizer.param_groups:
                group["lr"] = rate * decay

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None)

    # ---------------------------------------------------------------------------------------------- using

    @torch.inference_mode()
    def edits(self, pair: Pair) -> Edits:
        """C, D, A', B' of a pair, without gradients (METHOD §2)."""
        with self._autocast():
            return self.used(pair)

    @torch.inference_mode()
    def swap(self, pair: Pair) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """C and D of a pair, and the residuals behind them (METHOD §2).

        Images are (N, 3, S, S) in [-1, 1], residuals in [-2, 2].
        """
        faces = torch.cat([pair.image_a, pair.image_b])
        with self._autocast():
            code, skips = self.encoder(faces)
            label = swap_label(pair.a, pair.b, self.shape.num_classes)
            swapped = torch.cat(swap_codes(*code.chunk(2), label))
            residual = self.used.residual(swapped, code, skips, self.used.label(torch.cat([label, label])))
        return *(faces + residual).clamp(-1, 1).chunk(2), *residual.chunk(2)

    @torch.inference_mode()
    def blend(self, face: Tensor, a: Tensor, targets: Tensor, b: Tensor, shares: Tensor) -> Tensor:
        """One face with expression a, parts of the way to the expressions of T target faces at once.

        ``face`` (1, 3, S, S), ``a`` (1,), ``targets`` (T, 3, S, S), ``b`` (T,), ``shares`` (K, T) in [0, 1], where 0
        is the reconstruction and 1 the swap → K images (K, 3, S, S). Codes and labels both go part of the way.
        """
        with self._autocast():
            code, skips = self.encoder(torch.cat([face, targets]))
            own, label = code[:1], swap_label(a.expand_as(b), b, self.shape.num_classes)
            swapped, _ = swap_codes(own.expand_as(code[1:]), code[1:], label)
            edited = own + torch.einsum("kt,tchw->kchw", shares.to(code), swapped - own)
            planes = self.used.label((shares @ label).clamp(max=1), 1 - shares.max(1, keepdim=True).values)
            return self.used.edit(face, edited, own, [skip[:1] for skip in skips], planes)

    @torch.no_grad()
    def synthesize(self, source: Tensor, target: Tensor, expression: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """The target persons with the sources' expressions, and their features fx (METHOD §4).

        ``source``, ``target`` (N, 3, S, S) in [-1, 1]; ``expression`` (N,) of the sources and ``shown`` (N,) of the
        targets, neutral in METHOD, or ``num_classes`` where they are in no class (METHOD §7, row 15). A source with the
        target's expression gives the target itself. Returns images (N, 3, S, S) and fx = cat(swapped code, target's
        code) (N, 16w, S/32, S/32).
        """
        with self._autocast():
            code, skips = self.encoder(torch.cat([source, target]))
            code_source, code_target = code.chunk(2)
            label = swap_label(expression, shown, self.shape.num_classes)
            unchanged = (expression == shown)[:, None, None, None]
            _, swapped = swap_codes(code_source, code_target, label)
            swapped = torch.where(unchanged, code_target, swapped)
            skips = [skip.chunk(2)[1] for skip in skips]
            image = self.used.edit(target, swapped, code_target, skips, self.used.label(label))
        return torch.where(unchanged, target, image), torch.cat([swapped, code_target], dim=1).float()

    # --------------------------------------------------------------------------------------------- states

    def network(self, name: str) -> nn.Module:
        """The network behind one of the reference's file names, the one in use: Enc, Dec, D1, D2 (METHOD §6)."""
        owner = self.used if name in ("Enc", "Dec") else self.discriminators
        return getattr(owner, self.STATES[name])

    def start_from_used(self) -> None:
        """Let training go on from the networks in use: the averaged ones, where files give no others."""
        self.generator.load_state_dict(self.used.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Everything that a training needs to go on exactly."""
        return {**{name: getattr(self, name).state_dict() for name in self.PARTS},
                "averaged": None if self.averaged is None else self.averaged.state_dict(), "steps": self.steps,
                "last_g_loss": self.last_g_loss.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        for name in self.PARTS:
            getattr(self, name).load_state_dict(state[name])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"] or state["generator"])
        self.steps, self.last_g_loss = state["steps"], state["last_g_loss"].to(self.device)

    def config(self) -> dict[str, Any]:
        """The shape as plain values, for a checkpoint."""
        return asdict(self.shape)
