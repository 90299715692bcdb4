"""The built-in data: what is drawn, that it can be learned and told apart, and what lies on disk."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import command
from datasets import layout
from datasets.drawing import data_set
from datasets.drawing.data_set import describe, make_dataset, truth
from datasets.drawing.faces import EXPRESSIONS
from datasets.drawing.portrait import draw
from utils import UserError

ROOT = Path(__file__).resolve().parent.parent
SMALL = {"image_size": 32, "subjects_train": 2, "subjects_test": 1, "scenes": 2}


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, dtype=np.float32) / 255


def run_drawing(*arguments: str | Path) -> subprocess.CompletedProcess:
    return command("-m", "datasets.synthetic", *arguments)


def digests(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("drawn") / "demo"
    make_dataset(root, seed=3, **SMALL)
    return root


# ---------------------------------------------------------------------------------------------- the picture

def test_same_arguments_give_the_same_pixels_and_others_do_not():
    first = pixels(draw(1, 2, "smile", 48))
    assert np.array_equal(first, pixels(draw(1, 2, EXPRESSIONS.index("smile"), 48)))
    for other in (draw(3, 2, "smile", 48), draw(1, 4, "smile", 48), draw(1, 2, "neutral", 48)):
        assert np.abs(first - pixels(other)).mean() > 0.01


@pytest.mark.parametrize("size", [32, 33, 100, 512])
def test_any_size(size):
    picture = draw(5, 6, "surprise", size)
    assert picture.mode == "RGB" and picture.size == (size, size)


@pytest.mark.parametrize("size", [64, 96, 256])
def test_another_size_is_the_same_picture(size):
    reduced = pixels(draw(5, 6, "surprise", size).reduce(size // 32))
    same, other = (np.abs(reduced - pixels(draw(5, 6, name, 32))).mean() for name in ("surprise", "neutral"))
    assert same < 0.02 and same < 0.6 * other


def test_expressions_change_eyes_and_mouth_far_more_than_the_rest():
    changes = []
    for seed in range(8):
        neutral = pixels(draw(seed, seed, "neutral", 64))
        changes.append([np.abs(pixels(draw(seed, seed, name, 64)) - neutral).mean(axis=2)
                        for name in EXPRESSIONS[:-1]])
    change = np.mean(changes, axis=0)
    eyes, mouth = (slice(None), slice(20, 36), slice(18, 46)), (slice(None), slice(38, 56), slice(22, 42))
    elsewhere = np.ones_like(change, dtype=bool)
    elsewhere[eyes] = elsewhere[mouth] = False
    rest = np.mean(change, axis=(1, 2), where=elsewhere)
    assert (change[eyes].mean(axis=(1, 2)) > 2.5 * rest).all()
    assert (change[mouth].mean(axis=(1, 2)) > 1.25 * rest).all()
    walls = change[:, :8, [*range(8), *range(-8, 0)]]
    assert walls.max() == 0


def test_a_linear_classifier_learns_the_expressions_from_other_persons():
    def batch(subjects: range) -> tuple[np.ndarray, np.ndarray]:
        shots = [(subject, label) for subject in subjects for label in range(len(EXPRESSIONS))]
        images = np.stack([pixels(draw(subject, subject, label, 32).convert("L"))[8:30, 6:26].ravel()
                           for subject, label in shots])
        images = (images - images.mean(axis=1, keepdims=True)) / images.std(axis=1, keepdims=True)
        return images, np.array([label for _, label in shots])

    (images, labels), (new_images, new_labels) = batch(range(28)), batch(range(1000, 1010))
    gram = images.T @ images + 30 * np.eye(images.shape[1])
    ridge = np.linalg.solve(gram, images.T @ np.eye(len(EXPRESSIONS))[labels])
    accuracy = ((new_images @ ridge).argmax(axis=1) == new_labels).mean()
    assert accuracy > 0.6


@pytest.mark.parametrize("expression", ["anger", "Smile", 6, -1])
def test_unknown_expression(expression):
    with pytest.raises(UserError, match="not one of disgust scream smile squint surprise neutral"):
        draw(0, 0, expression, 32)


@pytest.mark.parametrize("size", [0, 31, 513])
def test_size_out_of_range(size):
    with pytest.raises(UserError, match="from 32 to 512"):
        draw(0, 0, "smile", size)


# --------------------------------------------------------------------------------------------- the data set

def test_layout_reads_back(drawn):
    read = layout.read_layout(drawn)
    assert read.expressions == EXPRESSIONS and read.neutral == EXPRESSIONS.index("neutral")
    assert read.counts("train") == [4] * 6 and read.counts("test") == [2] * 6
    layout.check_images(read.train + read.test)
    assert {sample.subject for sample in read.train} == {"p0001", "p0002"}
    assert {sample.subject for sample in read.test} == {"p0003"}
    scenes: dict[tuple, set] = {}
    for sample in read.train + read.test:
        scenes.setdefault((sample.subject, sample.scene), set()).add(sample.label)
    assert len(scenes) == 6 and all(labels == set(range(6)) for labels in scenes.values())


def test_truth_is_what_lies_on_disk_and_not_another_picture(drawn):
    about = describe(drawn)
    for sample in layout.read_layout(drawn).test:
        stored = pixels(Image.open(sample.path))
        true = pixels(truth(sample.subject, sample.scene, sample.label, about["image_size"], about["seed"]))
        other = pixels(truth(sample.subject, sample.scene, sample.label, about["image_size"], about["seed"] + 1))
        assert np.abs(stored - true).mean() < 0.02 < np.abs(stored - other).mean()


def test_same_seed_same_bytes_other_seed_other_faces(drawn, tmp_path):
    make_dataset(tmp_path / "again", seed=3, **SMALL)
    assert digests(tmp_path / "again") == digests(drawn)
    make_dataset(tmp_path / "again", seed=4, **SMALL)
    first, second = digests(drawn), digests(tmp_path / "again")
    assert first.keys() == second.keys()
    assert not {first[name] for name in first if name.endswith(".jpg")} & set(second.values())


def test_a_smaller_drawing_leaves_nothing_of_a_larger_one(tmp_path):
    make_dataset(tmp_path / "demo", seed=0, **SMALL)
    make_dataset(tmp_path / "demo", seed=0, **{**SMALL, "subjects_train": 1, "scenes": 1})
    assert len(list((tmp_path / "demo/data").iterdir())) == 12
    (tmp_path / "demo" / "images_val.list").write_text("train_0001.jpg 0\n")  # the user's, both of them
    (tmp_path / "demo" / "data" / "train_9999.jpg").write_text("mine")
    make_dataset(tmp_path / "demo", seed=0, **{**SMALL, "subjects_train": 1, "scenes": 1})
    assert (tmp_path / "demo" / "images_val.list").is_file()
    assert (tmp_path / "demo" / "data" / "train_9999.jpg").read_text() == "mine"
    assert describe(tmp_path / "demo")["subjects_train"] == 1


def test_an_interrupted_drawing_is_unfinished_and_can_be_drawn_again(drawn, tmp_path, monkeypatch):
    root = tmp_path / "demo"
    make_dataset(root, seed=3, **SMALL)
    save, saved = data_set.save_picture, []

    def interrupted(picture, path):
        if len(saved) == 5:
            raise KeyboardInterrupt
        saved.append(path)
        save(picture, path)

    monkeypatch.setattr(data_set, "save_picture", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_dataset(root, seed=3, **SMALL)
    assert len(list((root / "data").iterdir())) == 5
    assert describe(root) is None and not (root / "images.list").exists()
    monkeypatch.setattr(data_set, "save_picture", save)
    make_dataset(root, seed=3, **SMALL)
    assert digests(root) == digests(drawn)


def test_describe_knows_its_own(drawn, tmp_path):
    assert describe(drawn) == json.loads((drawn / "synthetic.json").read_text())
    assert describe(drawn)["seed"] == 3 and describe(drawn)["image_size"] == 32
    assert describe(tmp_path) is None and describe(tmp_path / "absent") is None
    (tmp_path / "images.list").write_text("a.jpg 0\n")
    assert describe(tmp_path) is None
    for text in ("no json", "[]", '{"seed": "3", "image_size": 32, "drawing": 1}'):
        (tmp_path / "synthetic.json").write_text(text)
        assert describe(tmp_path) is None


@pytest.mark.parametrize("change, message", [({"image_size": 16}, "from 32 to 512"), ({"scenes": 0}, "scenes 0"),
                                             ({"subjects_train": 0}, "subjects_train 0"),
                                             ({"subjects_test": -1}, "subjects_test -1")])
def test_bad_numbers_write_nothing(change, message, tmp_path):
    with pytest.raises(UserError, match=message):
        make_dataset(tmp_path / "demo", **{**SMALL, **change})
    assert not (tmp_path / "demo").exists()


# ----------------------------------------------------------------------------------------------- the command

def test_command_draws(tmp_path):
    done = run_drawing(tmp_path / "demo", "--image_size", 40, "--subjects_train", 1, "--subjects_test", 1,
                       "--scenes", 1, "--seed", 9)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path / 'demo'}: 12 faces of 1 + 1 persons")
    assert describe(tmp_path / "demo")["seed"] == 9
    assert Image.open(tmp_path / "demo/data/test_0006.jpg").size == (40, 40)


def test_command_leaves_a_directory_of_others_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    done = run_drawing(tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "was not drawn here" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_command_refuses_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is no directory"):
        make_dataset(tmp_path / "file", **SMALL)


# ---------------------------------------------------------------------------------------------- the examples

@pytest.mark.parametrize("name, subject", [("smile", "p0130"), ("neutral", "p0129")])
def test_example_pictures_are_of_the_kind_of_the_demo(name, subject):
    """They show persons of the default seed who are not among the default data set's 100."""
    example = Image.open(ROOT / "images" / f"{name}.jpg")
    assert example.size == (256, 256)
    assert np.abs(pixels(example) - pixels(truth(subject, "c1", name, 256))).mean() < 0.02
