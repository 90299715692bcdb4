"""Swapper: what a trained generator is used for: swap, blend and synthesize expressions (METHOD §2, §4)."""

from __future__ import annotations

import torch
from torch import Tensor

from models.generator import Edits, Encoder, Generator
from models.layers import autocast
from models.swap import Pair


class Swapper:
    """A generator on a device; ``amp`` is None (float32), torch.bfloat16 or torch.float16."""

    def __init__(self, generator: Generator, device: torch.device | str = "cpu",
                 amp: torch.dtype | None = None) -> None:
        self.shape, self.device, self.amp = generator.shape, torch.device(device), amp
        self.generator = generator.to(self.device, memory_format=torch.channels_last)

    @property
    def used(self) -> Generator:
        """The generator that is used."""
        return self.generator

    @property
    def encoder(self) -> Encoder:
        """The encoder that is used: the recognizer sees faces through it."""
        return self.used.encoder

    @torch.inference_mode()
    def edits(self, pair: Pair) -> Edits:
        """C, D, A', B' of a pair, without gradients (METHOD §2)."""
        with autocast(self.device, self.amp):
            return self.used(pair)

    @torch.inference_mode()
    def swap(self, pair: Pair) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """C and D of a pair, and the residuals behind them (METHOD §2).

        Images are (N, 3, S, S) in [-1, 1], residuals in [-2, 2].
        """
        faces = torch.cat([pair.image_a, pair.image_b])
        with autocast(self.device, self.amp):
            coded = self.used.encoded(pair.image_a, pair.image_b, pair.a, pair.b)
            label = self.used.label(torch.cat([coded.label, coded.label]))
            residual = self.used.residual(torch.cat([coded.code_c, coded.code_d]),
                                          torch.cat([coded.code_a, coded.code_b]), coded.skips, label)
        return *(faces + residual).clamp(-1, 1).chunk(2), *residual.chunk(2)

    @torch.inference_mode()
    def blend(self, face: Tensor, a: Tensor, targets: Tensor, b: Tensor, shares: Tensor) -> Tensor:
        """One face with expression a, parts of the way to the expressions of T target faces at once.

        ``face`` (1, 3, S, S), ``a`` (1,), ``targets`` (T, 3, S, S), ``b`` (T,), ``shares`` (K, T) in [0, 1], where 0
        is the reconstruction and 1 the swap → K images (K, 3, S, S). Codes and labels both go part of the way.
        """
        with autocast(self.device, self.amp):
            coded = self.used.encoded(face.expand_as(targets), targets, a.expand_as(b), b)
            own = coded.code_a[:1]
            edited = own + torch.einsum("kt,tchw->kchw", shares.to(own), coded.code_c - own)
            planes = self.used.label((shares @ coded.label).clamp(max=1), 1 - shares.max(1, keepdim=True).values)
            return self.used.edit(face, edited, own, [skip[:1] for skip in coded.skips], planes)

    @torch.no_grad()
    def synthesize(self, source: Tensor, target: Tensor, expression: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """The target persons with the sources' expressions, and their features fx (METHOD §4).

        ``source``, ``target`` (N, 3, S, S) in [-1, 1]; ``expression`` (N,) of the sources and ``shown`` (N,) of the
        targets, neutral in METHOD, or ``num_classes`` where they are in no class (METHOD §7, row 15). A source with the
        target's expression gives the target itself. Returns images (N, 3, S, S) and fx = cat(swapped code, target's
        code) (N, 16w, S/32, S/32).
        """
        with autocast(self.device, self.amp):
            coded = self.used.encoded(source, target, expression, shown)
            unchanged = (expression == shown)[:, None, None, None]
            swapped = torch.where(unchanged, coded.code_b, coded.code_d)
            skips = [skip.chunk(2)[1] for skip in coded.skips]
            image = self.used.edit(target, swapped, coded.code_b, skips, self.used.label(coded.label))
        return torch.where(unchanged, target, image), torch.cat([swapped, coded.code_b], dim=1).float()
