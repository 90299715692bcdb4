"""Trained networks as self-contained modules with tensors as inputs and outputs, for export to ONNX."""

import torch
from torch import Tensor, nn

from models.backbones import RecognizerNetwork
from models.generator import Encoder, Generator
from models.swap import swap_codes, swap_label


class PortableRecognizer(nn.Module):
    """An encoder with its recognizer: ``image`` (N, 3, S, S) in [-1, 1] → ``probabilities`` (N, n)."""

    INPUTS, OUTPUTS = ("image",), ("probabilities",)

    def __init__(self, encoder: Encoder, network: RecognizerNetwork) -> None:
        super().__init__()
        self.encoder, self.network = encoder, network
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Return the probabilities (N, n) of images (N, 3, S, S) in [-1, 1]."""
        code, _ = self.encoder(image)
        return self.network(image, torch.cat([code, code], dim=1)).softmax(1)

    def example(self, image_size: int) -> tuple[Tensor, ...]:
        """Return inputs of the right shapes, for tracing."""
        return torch.zeros(3, 3, image_size, image_size),


class PortableSwap(nn.Module):
    """The swap of two faces: ``input``, ``target`` (N, 3, S, S) in [-1, 1] and their expressions (N,) int64 → C and D.

    ``input_swapped`` (C) is the input's person with the target's expression, ``target_swapped`` (D) the other one
    (METHOD §2). Each face is encoded and decoded on its own, since the number of faces is not known in a graph.
    """

    INPUTS = ("input", "target", "input_expression", "target_expression")
    OUTPUTS = ("input_swapped", "target_swapped")

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator
        self.eval()

    def forward(self, input: Tensor, target: Tensor, input_expression: Tensor,
                target_expression: Tensor) -> tuple[Tensor, Tensor]:
        """Return C and D, (N, 3, S, S) in [-1, 1]."""
        generator = self.generator
        (code_a, skips_a), (code_b, skips_b) = (generator.encoder(face) for face in (input, target))
        label = swap_label(input_expression, target_expression, generator.shape.num_classes)
        code_c, code_d = swap_codes(code_a, code_b, label)
        planes = generator.label(label)
        return (generator.edit(input, code_c, code_a, skips_a, planes),
                generator.edit(target, code_d, code_b, skips_b, planes))

    def example(self, image_size: int) -> tuple[Tensor, ...]:
        """Return inputs of the right shapes, for tracing."""
        face = torch.zeros(3, 3, image_size, image_size)
        return face, face.clone(), torch.zeros(3, dtype=torch.long), torch.ones(3, dtype=torch.long)
