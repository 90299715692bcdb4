"""The built-in data: the pictures, what can be learned from them, and the files on disk."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import command, fill, refused, snapshot, succeeds
from datasets import layout
from datasets.drawing.data_set import describe, make_dataset, truth
from datasets.drawing.faces import EXPRESSIONS
from datasets.drawing.portrait import draw

SMALL = {"image_size": 32, "subjects_train": 2, "subjects_test": 1, "scenes": 2}


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, dtype=np.float32) / 255


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("drawn") / "demo"
    make_dataset(root, seed=3, **SMALL)
    return root


# ---------------------------------------------------------------------------------------------- the picture

def test_another_size_is_the_same_picture():
    reduced = pixels(draw(5, 6, "surprise", 96).reduce(3))
    same, other = (np.abs(reduced - pixels(draw(5, 6, name, 32))).mean() for name in ("surprise", "neutral"))
    assert same < 0.02 and same < 0.6 * other


def test_a_linear_classifier_learns_the_expressions_from_other_persons():
    def faces_of(subjects: range) -> np.ndarray:
        images = np.stack([pixels(draw(subject, subject, label, 32).convert("L"))[8:30, 6:26].ravel()
                           for subject in subjects for label in range(6)])
        return (images - images.mean(axis=1, keepdims=True)) / images.std(axis=1, keepdims=True)

    images, others = faces_of(range(28)), faces_of(range(1000, 1010))
    gram = images.T @ images + 30 * np.eye(images.shape[1])
    ridge = np.linalg.solve(gram, images.T @ np.tile(np.eye(6), (28, 1)))
    assert ((others @ ridge).argmax(axis=1) == np.arange(60) % 6).mean() > 0.6


# --------------------------------------------------------------------------------------------- the data set

def test_layout_reads_back(drawn):
    read = layout.read_layout(drawn)
    assert read.expressions == EXPRESSIONS and read.neutral == EXPRESSIONS.index("neutral")
    assert read.counts("train") == [4] * 6 and read.counts("test") == [2] * 6
    layout.check_images(read.train + read.test)
    assert {sample.subject for sample in read.train} == {"p0001", "p0002"}
    assert {sample.subject for sample in read.test} == {"p0003"}
    pictures = {(sample.subject, sample.scene, sample.label) for sample in read.train + read.test}
    assert len(pictures) == 3 * 2 * 6 == 6 * len({picture[:2] for picture in pictures})  # all expressions of each scene


def test_truth_is_what_lies_on_disk_and_not_another_picture(drawn):
    for sample in layout.read_layout(drawn).test:
        stored = pixels(Image.open(sample.path))
        same, other = (pixels(truth(sample.subject, sample.scene, sample.label, 32, seed)) for seed in (3, 4))
        assert np.abs(stored - same).mean() < 0.02 < np.abs(stored - other).mean()


def test_same_seed_same_bytes_other_seed_other_faces(drawn, tmp_path):
    first = snapshot(drawn)
    make_dataset(tmp_path / "again", seed=3, **SMALL)
    assert snapshot(tmp_path / "again") == first
    make_dataset(tmp_path / "again", seed=4, **SMALL)
    second = snapshot(tmp_path / "again")
    assert first.keys() == second.keys()
    assert not any(first[name] in second.values() for name in first if name.endswith(".jpg"))


def test_a_smaller_drawing_leaves_nothing_of_a_larger_one(tmp_path):
    root, smaller = tmp_path / "demo", {**SMALL, "subjects_train": 1, "scenes": 1}
    make_dataset(root, seed=0, **SMALL)
    make_dataset(root, seed=0, **smaller)
    assert len(list((root / "data").iterdir())) == 12 and describe(root)["subjects_train"] == 1
    mine = fill(root, "images_val.list", "data/train_9999.jpg")
    make_dataset(root, seed=0, **smaller)
    assert mine.items() < snapshot(root).items()


def test_describe_knows_its_own(drawn, tmp_path):
    assert describe(drawn) == json.loads((drawn / "synthetic.json").read_text())
    assert describe(drawn)["seed"] == 3 and describe(drawn)["image_size"] == 32
    assert describe(tmp_path / "absent") is None
    (tmp_path / "images.list").write_text("a.jpg 0\n")
    for text in ("", "no json", '{"seed": 3, "image_size": 32, "drawing": 1}'):
        (tmp_path / "synthetic.json").write_text(text)
        assert describe(tmp_path) is None
        assert "was not drawn here" in refused(lambda: make_dataset(tmp_path))


def test_the_command_draws_and_leaves_files_and_directories_of_others_alone(tmp_path):
    argv = ["-m", "datasets.synthetic"]
    output = succeeds(command(*argv, tmp_path / "demo", "--image_size", 40, "--subjects_train", 1,
                              "--subjects_test", 1, "--scenes", 1, "--seed", 9))
    assert output.startswith(f"{tmp_path / 'demo'}: 12 faces of 1 + 1 persons")
    assert describe(tmp_path / "demo")["seed"] == 9
    assert Image.open(tmp_path / "demo/data/test_0006.jpg").size == (40, 40)
    mine = fill(tmp_path / "mine", "precious.txt")
    assert "image size 16: " in refused(command(*argv, tmp_path / "new", "--image_size", 16))
    assert "was not drawn here" in refused(command(*argv, tmp_path / "mine"))
    assert snapshot(tmp_path / "mine") == mine and not (tmp_path / "new").exists()
