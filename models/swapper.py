"""Swapper: swap, blend and synthesize expressions with a trained generator (METHOD §2, §4)."""

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
            codes = generator.encode_pair(pair.image_a, pair.image_b, pair.a, pair.b)
            label = generator.label(torch.cat([codes.label, codes.label]))
            residual = generator.residual(torch.cat([codes.code_c, codes.code_d]),
                                          torch.cat([codes.code_a, codes.code_b]), codes.skips, label)
        return *(faces + residual).clamp(-1, 1).chunk(2), *residual.chunk(2)

    @torch.inference_mode()
    def blend(self, face: Tensor, a: Tensor, targets: Tensor, b: Tensor, weights: Tensor) -> Tensor:
        """Return K images (K, 3, S, S) of a face, interpolated towards the expressions of T target faces at once.

        ``face`` (1, 3, S, S) with expression ``a`` (1,), ``targets`` (T, 3, S, S) with ``b`` (T,), ``weights`` (K, T)
        in [0, 1], where 0 is the reconstruction and 1 the swap. Codes and labels are both interpolated.
        """
        generator = self.inference_generator
        with autocast(self.device, self.amp):
            codes = generator.encode_pair(face.expand_as(targets), targets, a.expand_as(b), b)
            code = codes.code_a[:1]
            edited = code + torch.einsum("kt,tchw->kchw", weights.to(code), codes.code_c - code)
            planes = generator.label((weights @ codes.label).clamp(max=1), 1 - weights.max(1, keepdim=True).values)
            return generator.edit(face, edited, code, [skip[:1] for skip in codes.skips], planes)

    @torch.no_grad()
    def synthesize(self, source: Tensor, target: Tensor, source_label: Tensor, target_label: Tensor
                   ) -> tuple[Tensor, Tensor]:
        """Return the target persons with the sources' expressions, (N, 3, S, S), and their features fx (METHOD §4).

        ``source``, ``target`` (N, 3, S, S) in [-1, 1] have expressions ``source_label`` (N,) and ``target_label`` (N,),
        which is neutral in METHOD, or ``num_classes`` for targets of no class (METHOD §7, row 15). A source with the
        target's expression gives the target itself. fx = cat(swapped code, target's code) is (N, 16w, S/32, S/32).
        """
        generator = self.inference_generator
        with autocast(self.device, self.amp):
            codes = generator.encode_pair(source, target, source_label, target_label)
            unchanged = (source_label == target_label)[:, None, None, None]
            swapped = torch.where(unchanged, codes.code_b, codes.code_d)
            skips = [skip.chunk(2)[1] for skip in codes.skips]
            image = generator.edit(target, swapped, codes.code_b, skips, generator.label(codes.label))
        return torch.where(unchanged, target, image), torch.cat([swapped, codes.code_b], dim=1).float()
