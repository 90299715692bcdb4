"""Which recognizer is kept: here without a choice, ``--select_on none``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from conftest import train_command
from datasets.synthetic import make_dataset

TINY = ["--image_size", 32, "--base_width", 2, "--vgg_width", 2, "--fc_width", 4, "--batch_size", 6, "--vgg_init",
        "none", "--round_every", 1, "--round_epochs", 1, "--perceptual_epochs", 1, "--gpu", -1]


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "faces"
    make_dataset(root, image_size=32, subjects_train=8, subjects_test=3, scenes=1)
    return root


def test_without_a_choice_every_image_trains_and_the_last_recognizer_is_kept(faces, tmp_path):
    result = train_command("--data_dir", faces, "--checkpoint_dir", tmp_path / "run", "--epochs", 2,
                           *TINY, "--select_on", "none")
    assert result.returncode == 0 and "48 training and 0 validation images" in result.stdout, result.stderr
    kept = torch.load(tmp_path / "run" / "VGG" / "max_ckpt.t7", weights_only=True)
    last = torch.load(max((tmp_path / "run" / "state").glob("*.pth")), weights_only=True)["phases"]["recognizer"]
    assert kept["step"] == last["recognizer"]["steps"] and kept["config"]["selected_on"] == "none"
    assert all(torch.equal(value, last["recognizer"]["network"][key]) for key, value in kept["net"].items())
    assert "val_acc" not in (tmp_path / "run" / "log" / "metrics.csv").read_text()
    assert Image.open(tmp_path / "run" / "img" / "epoch_002.jpg").height > 6 * 67


def test_listed_validation_images_are_judged_without_a_choice(faces, tmp_path):
    root = tmp_path / "faces"
    shutil.copytree(faces, root)
    lines = (root / "images.list").read_text().splitlines(keepends=True)
    (root / "images_val.list").write_text("".join(lines[:6]))
    (root / "images.list").write_text("".join(lines[6:]))
    result = train_command("--data_dir", root, "--checkpoint_dir", tmp_path / "run", "--epochs", 1,
                           *TINY, "--select_on", "none")
    assert result.returncode == 0 and "42 training and 6 validation images" in result.stdout, result.stderr
    assert "val_acc" in (tmp_path / "run" / "log" / "metrics.csv").read_text()
