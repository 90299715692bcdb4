"""``--mode export``: a trained recognizer or swap as one ONNX file that other programs run without this project.

``--which recognizer``: image → probabilities. ``--which swap``: two faces and their expressions → both swaps. What a
program must know to use it (names, size, how pictures are prepared) is in the file's metadata.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import utils
from commands.trained import load_gan, load_trained
from datasets.files import check_output
from models.portable import PortableRecognizer, PortableSwap
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
    network, about = portable(config.replaced(gpu=[-1]))  # the file knows no device
    model = to_onnx(network, about["image_size"])
    describe(model, about)
    with utils.atomic_file(path) as handle:
        handle.write(model.SerializeToString())
    size = path.stat().st_size / 2 ** 20
    print(f"wrote {path} ({size:.1f} MiB): {', '.join(network.INPUTS)} -> {', '.join(network.OUTPUTS)}, for "
          f"{about['image_size']} x {about['image_size']} pixels and any number of faces; "
          f"its metadata say: {', '.join(about)}")


def check_exporter() -> None:
    """Raises UserError if ``onnx`` or what torch's exporter needs is not installed."""
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
    """The run's best recognizer with its encoder, or its generator, and what a program must know to use it."""
    if config.use.which == "recognizer":
        trained = load_trained(config)
        network, size = PortableRecognizer(trained.encoder, trained.recognizer.network), trained.image_size
    else:
        trained = load_gan(config)
        network, size = PortableSwap(trained.swapper.inference_generator), trained.swapper.shape.image_size
    about = {"which": config.use.which, "expressions": trained.names, "image_size": size,
             "preprocessing": PREPARATION.format(size)}
    return network, {**about, "alignment": trained.alignment} if trained.alignment else about


def to_onnx(network: PortableRecognizer | PortableSwap, image_size: int) -> "onnx.ModelProto":
    """The network as an ONNX model whose first dimension, the number of faces, is called ``batch``."""
    network.requires_grad_(False)
    batch = torch.export.Dim("batch")
    with _quiet():
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


def describe(model: "onnx.ModelProto", about: dict[str, Any]) -> None:
    """Write what a program must know into the model's metadata, lists and dictionaries as JSON."""
    import onnx

    onnx.helper.set_model_props(model, {name: value if isinstance(value, str) else json.dumps(value)
                                        for name, value in about.items()})
    model.producer_name = "JESRL-FER"


@contextlib.contextmanager
def _quiet():
    """Without what the exporter has to say to its own developers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
