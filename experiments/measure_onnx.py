"""Compare exported networks with torch's: the largest difference, and the time of both on this CPU.

    python experiments/measure_onnx.py --sizes demo
    python experiments/measure_onnx.py --sizes paper --which recognizer

The networks have random weights, since times do not depend on the training; only batch norm has processed images. Both
sides take turns, so that other load on the machine affects both. Needs onnx, onnxscript and onnxruntime.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable

import numpy

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import onnxruntime  # noqa: E402
import torch  # noqa: E402

from utils import keep_freed_memory  # noqa: E402
from commands.export import PortableRecognizer, PortableSwap, onnx_file  # noqa: E402
from models.networks import Generator, VGG_fx  # noqa: E402
from models.recognizer import real_features  # noqa: E402
from options.config import GANShape  # noqa: E402

SIZES = {"paper": (256, 64, 64, 4096), "demo": (64, 16, 8, 256)}
NAMES = 6


def build_network(kind: str, image_size: int, base_width: int, vgg_width: int, fc_width: int
                  ) -> PortableRecognizer | PortableSwap:
    """Return a network of a kind (recognizer or swap) and these sizes."""
    torch.manual_seed(0)
    generator = Generator(GANShape(NAMES, image_size, base_width))
    if kind == "swap":
        return PortableSwap(generator)
    network = VGG_fx(NAMES, vgg_width, fc_width, base_width)
    faces = torch.rand(4, 3, image_size, image_size) * 2 - 1
    with torch.no_grad():
        for _ in range(20):
            network(faces, real_features(generator.encoder, faces))
        network.new_fc.weight.mul_(50)  # so that the probabilities differ between images
    return PortableRecognizer(generator.encoder, network)


def random_inputs(kind: str, image_size: int, count: int) -> dict[str, torch.Tensor]:
    """Return ``count`` random images for each input of a network by its name, and expressions for a swap."""
    face, target = torch.rand(2, count, 3, image_size, image_size) * 2 - 1
    expressions = torch.arange(count) % NAMES
    return {"image": face} if kind == "recognizer" else {
        "input": face, "target": target, "input_expression": expressions,
        "target_expression": (expressions + 1) % NAMES}


def seconds_of(run: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main() -> None:
    """Compare the networks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", choices=tuple(SIZES), default="demo", help="the paper's sizes, or the demo's")
    parser.add_argument("--which", choices=("recognizer", "swap"), nargs="+", default=["recognizer", "swap"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16], help="images at a time")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each side, of which the median counts")
    options = parser.parse_args()
    keep_freed_memory()
    print(f"{options.sizes}: image side, base, VGG and linear width {SIZES[options.sizes]}, "
          f"{torch.get_num_threads()} threads, torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}\n\n"
          "| network | images | largest difference | torch, ms | ONNX Runtime, ms |\n|---|---|---|---|---|")
    side = SIZES[options.sizes][0]
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    for kind in options.which:
        network = build_network(kind, *SIZES[options.sizes]).eval().requires_grad_(False)
        outputs = ["probabilities"] if kind == "recognizer" else ["input_swapped", "target_swapped"]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            path.write_bytes(onnx_file(network, random_inputs(kind, side, 3), outputs, {}))
            session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        for count in options.batches:
            named = random_inputs(kind, side, count)
            arrays = {name: value.numpy() for name, value in named.items()}
            inputs = tuple(value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
                           for value in named.values())
            with torch.inference_mode():
                ours = network(*inputs)
                theirs = session.run(None, arrays)
                ours = ours if isinstance(ours, tuple) else (ours,)
                difference = max(float(abs(a.numpy() - b).max()) for a, b in zip(ours, theirs))
                runs = (lambda: network(*inputs)), (lambda: session.run(None, arrays))
                times = 1e3 * numpy.median([[seconds_of(run) for run in runs] for _ in range(options.repeats)], 0)
            print(f"| {kind} | {count} | {difference:.1e} | {times[0]:.1f} | {times[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
