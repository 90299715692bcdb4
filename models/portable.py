"""Trained networks as single modules that need nothing of this project around them: what goes into one ONNX graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.generator import Encoder, Generator
from models.swap import swap_codes, swap_label
from models.backbones import RecognizerNetwork


class PortableRecognizer(nn.Module):
    """Encoder and recognizer: ``image`` (N, 3, S, S) in [-1, 1] → ``probabilities`` (N, n)."""

    INPUTS, OUTPUTS = ("image",), ("probabilities",)

    def __init__(self, encoder: Encoder, network: RecognizerNetwork) -> None:
        super().__init__()
        self.encoder, self.network = encoder, network
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, S, S) in [-1, 1] → (N, n)."""
        code, _ = self.encoder(image)
        return self.network(image, torch.cat([code, code], dim=1)).softmax(1)

    def example(self, image_size: int) -> tuple[Tensor, ...]:
        """Inputs of the right shapes."""
        return torch.zeros(3, 3, image_size, image_size),


class PortableSwap(nn.Module):
    """The swap of two faces: ``input``, ``target`` (N, 3, S, S) in [-1, 1] and their expressions (N,) int64 → both.

    ``input_swapped`` is the input's person with the target's expression, ``target_swapped`` the other one (METHOD §2:
    C and D). Each face is encoded and decoded on its own: in a graph the number of faces is not known.
    """

    INPUTS = ("input", "target", "input_expression", "target_expression")
    OUTPUTS = ("input_swapped", "target_swapped")

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator
        self.eval()

    def forward(self, input: Tensor, target: Tensor, input_expression: Tensor,
                target_expression: Tensor) -> tuple[Tensor, Tensor]:
        """Faces (N, 3, S, S) in [-1, 1] and expressions (N,) → C and D, (N, 3, S, S) in [-1, 1]."""
        generator = self.generator
        (code, skips), (other, other_skips) = (generator.encoder(face) for face in (input, target))
        label = swap_label(input_expression, target_expression, generator.shape.num_classes)
        swapped, other_swapped = swap_codes(code, other, label)
        planes = generator.label(label)
        return (generator.edit(input, swapped, code, skips, planes),
                generator.edit(target, other_swapped, other, other_skips, planes))

    def example(self, image_size: int) -> tuple[Tensor, ...]:
        """Inputs of the right shapes."""
        face = torch.zeros(3, 3, image_size, image_size)
        return face, face.clone(), torch.zeros(3, dtype=torch.long), torch.ones(3, dtype=torch.long)
