"""``--mode export`` and ``export_swap``: write a trained recognizer or generator as one ONNX file.

``--mode export``: image → probabilities. ``--mode export_swap``: two faces and their expressions → both swaps. What a
program must know to use it (names, size, preparation of the pictures) is in the file's metadata.
"""

import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import utils
from commands.trained import load_best_recognizer, load_gan
from datasets.files import check_output
from models.networks import Encoder, Generator, RecognizerNetwork, swap_codes, swap_label
from options.config import Config
from utils import UserError

PREPARATION = "RGB, resized to {0} x {0} pixels (Pillow's bicubic filter), channels first, value / 127.5 - 1"


def export(config: Config) -> None:
    """Write ``--output``. Raises UserError if the exporter is not installed or there is nothing to export."""
    path, which = Path(config.use.output), "recognizer" if config.task.mode == "export" else "swap"
    missing = [name for name in ("onnx", "onnxscript") if not find_spec(name)]
    if missing:
        raise UserError(f"--mode export needs {' and '.join(missing)}, not installed here; "
                        "pip install -r requirements-optional.txt")
    if torch.torch_version.TorchVersion(torch.__version__) < "2.6":
        raise UserError(f"--mode export needs PyTorch 2.6 or newer, this is {torch.__version__}; "
                        "pip install --upgrade torch torchvision")
    check_output(path, "--output")
    config = config.replaced(gpu=[-1])  # the file knows no device
    trained = load_best_recognizer(config) if which == "recognizer" else load_gan(config)
    size = trained.image_size if which == "recognizer" else trained.swapper.shape.image_size
    metadata = {"which": which, "expressions": trained.names, "image_size": size,
                "preprocessing": PREPARATION.format(size)}
    if trained.alignment:
        metadata["alignment"] = trained.alignment
    face, label = torch.zeros(3, 3, size, size), torch.tensor([0, 0, 0])
    if which == "recognizer":
        network = PortableRecognizer(trained.encoder, trained.recognizer.network)
        inputs, outputs = {"image": face}, ["probabilities"]
    else:
        network = PortableSwap(trained.swapper.inference_generator)
        inputs = {"input": face, "target": face.clone(), "input_expression": label, "target_expression": label + 1}
        outputs = ["input_swapped", "target_swapped"]
    content = onnx_file(network.eval().requires_grad_(False), inputs, outputs, metadata)
    with utils.atomic_file(path) as handle:
        handle.write(content)
    print(f"wrote {path} ({len(content) / 2 ** 20:.1f} MiB): {', '.join(inputs)} -> {', '.join(outputs)}, for {size} x "
          f"{size} pixels and any number of faces; metadata: {', '.join(metadata)}")


def onnx_file(network: nn.Module, inputs: dict[str, Tensor], outputs: list[str], metadata: dict[str, Any]) -> bytes:
    """Return a network as an ONNX file, with metadata in it: texts, and other values as JSON.

    ``inputs`` are examples by name. Their first dimension, the number of faces, is called ``batch``.
    """
    import onnx

    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # several inputs have the one dimension
        model = torch.onnx.export(network, kwargs=inputs, dynamo=True, verbose=False, input_names=list(inputs),
                                  output_names=outputs, dynamic_shapes={name: {0: batch} for name in inputs}
                                  ).model_proto
    onnx.helper.set_model_props(model, {name: value if isinstance(value, str) else json.dumps(value)
                                        for name, value in metadata.items()})
    model.producer_name = "JESRL-FER"
    return model.SerializeToString()


class PortableRecognizer(nn.Module):
    """An encoder with its recognizer: ``image`` (N, 3, S, S) in [-1, 1] → ``probabilities`` (N, n)."""

    def __init__(self, encoder: Encoder, network: RecognizerNetwork) -> None:
        super().__init__()
        self.encoder, self.network = encoder, network

    def forward(self, image: Tensor) -> Tensor:
        """Return the probabilities (N, n) of images (N, 3, S, S) in [-1, 1]."""
        code, _ = self.encoder(image)
        return self.network(image, torch.cat([code, code], dim=1)).softmax(1)


class PortableSwap(nn.Module):
    """The swap of two faces: ``input``, ``target`` (N, 3, S, S) in [-1, 1] and their expressions (N,) int64 → C and D.

    ``input_swapped`` (C) is the input's person with the target's expression, ``target_swapped`` (D) the other one
    (METHOD §2). Each face is encoded and decoded on its own, since the number of faces is not known in a graph.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

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
