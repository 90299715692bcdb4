"""--mode export: the ONNX file computes what the networks compute, tells how to use it, or the export is refused."""

import json
import sys
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from conftest import EXPRESSIONS, REPOSITORY, refused, succeeds, train_command, untrained_run
from datasets.crops import load_faces
from models.checkpoints import load_recognizer, load_swap_gan
from models.networks import Pair


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run with networks of the demo's widths and size."""
    return untrained_run(tmp_path_factory.mktemp("export") / "run", image_size=64, widths=(16, 8, 256),
                         alignment={"size": 128, "margin": 0.1})


def exported(run: Path, path: Path, mode: str):
    """Return the exported file as ONNX Runtime opens it."""
    pytest.importorskip("torch", "2.6")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    result = train_command("--mode", mode, "--restore", "--checkpoint_dir", run, "--output", path)
    assert f"wrote {path}" in succeeds(result) and not result.stderr
    return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def images(count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_exported_recognizer_gives_the_same_probabilities(run, tmp_path):
    session = exported(run, tmp_path / "recognizer.onnx", "export")
    trained = load_recognizer(run / "VGG", torch.device("cpu"))
    assert [(i.name, i.shape) for i in session.get_inputs()] == [("image", ["batch", 3, 64, 64])]
    assert [(o.name, o.shape) for o in session.get_outputs()] == [("probabilities", ["batch", 6])]
    for count in (1, 2, 7):
        image = images(count, count)
        probabilities, = session.run(None, {"image": image.numpy()})
        assert abs(probabilities - trained.recognize(image).numpy()).max() < 1e-4
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["expressions"]) == EXPRESSIONS and json.loads(metadata["image_size"]) == 64
    assert json.loads(metadata["alignment"]) == {"size": 128, "margin": 0.1} and "127.5" in metadata["preprocessing"]
    # As a program that has nothing but the file follows its metadata, with Pillow and numpy:
    picture = Image.open(REPOSITORY / "images" / "smile.jpg").convert("RGB")
    pixels = numpy.asarray(picture.resize((64, 64), Image.Resampling.BICUBIC), numpy.float32)
    pixels = pixels.transpose(2, 0, 1)[None] / 127.5 - 1
    probabilities, = session.run(None, {"image": pixels})
    expected = trained.recognize(load_faces([REPOSITORY / "images" / "smile.jpg"], 64)).numpy()
    assert abs(probabilities - expected).max() < 1e-4


def test_the_exported_swap_gives_the_same_faces(run, tmp_path):
    session = exported(run, tmp_path / "swap.onnx", "export_swap")
    gan = load_swap_gan(run / "model", None, EXPRESSIONS, 64, torch.device("cpu"))
    assert [o.shape for o in session.get_outputs()] == [["batch", 3, 64, 64]] * 2
    face, target, a, b = images(4, 1), images(4, 2), torch.arange(4), torch.arange(2, 6)
    swapped = session.run(["input_swapped", "target_swapped"], {
        "input": face.numpy(), "target": target.numpy(), "input_expression": a.numpy(), "target_expression": b.numpy()})
    for ours, theirs in zip(swapped, gan.swap(Pair(face, target, a, b))):
        assert abs(ours - theirs.numpy()).max() < 1e-4
    assert abs(swapped[0] - face.numpy()).max() > 1e-3
    assert json.loads(session.get_modelmeta().custom_metadata_map["expressions"]) == EXPRESSIONS


def test_without_onnx_the_export_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    line = refused(train_command("--mode", "export", "--restore", "--checkpoint_dir", run, "-o", tmp_path / "a.onnx"))
    assert "--mode export needs onnx" in line and "requirements-optional.txt" in line
    assert not (tmp_path / "a.onnx").exists()
