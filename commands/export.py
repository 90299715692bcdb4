"""``--mode export``: write a trained recognizer or generator as an ONNX file, which needs nothing else.

``--which recognizer``: image → probabilities. ``--which swap``: two faces and their expressions → both swaps. What a
program must know to use it (names, size, preparation of the pictures) is in the file's metadata.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator

import torch
from torch import Tensor, nn

import utils
from commands.trained import load_best_recognizer, load_gan
from datasets.files import check_output
from models.networks import Encoder, Generator, RecognizerNetwork, swap_codes, swap_label
from options.config import Config
from utils import UserError

if TYPE_CHECKING:
    import onnx

PREPARATION = ("RGB, resized to {0} x {0} pixels (Pillow: JPEG files are opened with Image.draft('RGB', ({0}, {0})), "
               "then bicubic), channels first, value / 127.5 - 1")


def export(config: Config) -> None:
    """Write ``--output``. Raises UserError if the exporter is not installed or there is nothing to export."""
    check_exporter()
    path = Path(config.output.output)
    check_output(path, "--output")
    network, metadata = portable(config.replaced(gpu=[-1]))  # the file knows no device
    model = to_onnx(network, metadata["image_size"])
    add_metadata(model, metadata)
    with utils.atomic_file(path) as handle:
        handle.write(model.SerializeToString())
    size = path.stat().st_size / 2 ** 20
    print(f"wrote {path} ({size:.1f} MiB): {', '.join(network.INPUTS)} -> {', '.join(network.OUTPUTS)}, for "
          f"{metadata['image_size']} x {metadata['image_size']} pixels and any number of faces; "
          f"metadata: {', '.join(metadata)}")


def check_exporter() -> None:
    """Check that torch's ONNX exporter can be used. Raises UserError if it, or a package that it needs, is missing."""
    missing = []
    for name in ("onnx", "onnxscript"):
        try:
            import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise UserError(f"--mode export needs {' and '.join(missing)}, not installed here; "
                        "pip install -r requirements-optional.txt")
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        raise UserError(f"--mode export needs PyTorch 2.6 or newer, this is {torch.__version__}; "
                        "pip install --upgrade torch torchvision")


def portable(config: Config) -> tuple[PortableRecognizer | PortableSwap, dict[str, Any]]:
    """Return the run's best recognizer with its encoder, or its generator, and the metadata that a program needs."""
    if config.use.which == "recognizer":
        trained = load_best_recognizer(config)
        network, size = PortableRecognizer(trained.encoder, trained.recognizer.network), trained.image_size
    else:
        trained = load_gan(config)
        network, size = PortableSwap(trained.swapper.inference_generator), trained.swapper.shape.image_size
    metadata = {"which": config.use.which, "expressions": trained.names, "image_size": size,
                "preprocessing": PREPARATION.format(size)}
    return network, {**metadata, "alignment": trained.alignment} if trained.alignment else metadata


def to_onnx(network: PortableRecognizer | PortableSwap, image_size: int) -> onnx.ModelProto:
    """Return the network as an ONNX model whose first dimension, the number of faces, is called ``batch``."""
    network.requires_grad_(False)
    batch = torch.export.Dim("batch")
    with _silenced_exporter():
        program = torch.export.export(network, network.example(image_size), strict=False,
                                      dynamic_shapes={name: {0: batch} for name in network.INPUTS})
        model = torch.onnx.export(program, dynamo=True, input_names=list(network.INPUTS),
                                  output_names=list(network.OUTPUTS), verbose=False).model_proto
    symbol = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param  # whatever the exporter has called it
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param == symbol:
                dimension.dim_param = "batch"
    return model


def add_metadata(model: onnx.ModelProto, metadata: dict[str, Any]) -> None:
    """Add metadata to an ONNX model, lists and dictionaries as JSON."""
    import onnx

    onnx.helper.set_model_props(model, {name: value if isinstance(value, str) else json.dumps(value)
                                        for name, value in metadata.items()})
    model.producer_name = "JESRL-FER"


@contextlib.contextmanager
def _silenced_exporter() -> Iterator[None]:
    """Silence the exporter, whose output is meant for its own developers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


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
