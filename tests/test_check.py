"""datasets.check: faults are found, and a directory without faults passes."""

from pathlib import Path

import numpy
import pytest
from PIL import Image

from conftest import command, refused
from datasets import check
from datasets.layout import Sample, write_layout

EXPRESSIONS = ("smile", "surprise", "neutral")


def data_directory(root: Path) -> Path:
    """Write three expressions, four training and two test images each, blurred noise that differs by image."""
    random, splits = numpy.random.default_rng(0), {"train": [], "test": []}
    (root / "data").mkdir(parents=True)
    for split, count in (("train", 4), ("test", 2)):
        for label, expression in enumerate(EXPRESSIONS):
            for number in range(count):
                name = f"{split}_{expression}_{number}.png"
                noise = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=numpy.uint8))
                noise.resize((64, 64), Image.Resampling.BICUBIC).save(root / "data" / name)
                splits[split].append(Sample(name, label, root / "data" / name, f"{split}{number}"))
    write_layout(root, EXPRESSIONS, splits)
    return root


def run(root: Path, *argv) -> tuple[int, str]:
    """Return the exit status of the check, and its output or the line that refuses the input."""
    result = command("-m", "datasets.check", root, *argv)
    return result.returncode, result.stdout if result.returncode < 2 else refused(result)


def test_a_directory_without_faults_passes_and_its_sheet_is_drawn(tmp_path):
    root = data_directory(tmp_path / "d")
    status, output = run(root, "--sheet", tmp_path / "check.jpg")
    assert status == 0 and "nothing found that would spoil a result" in output, output
    for line in ("expression  train  test  all", "smile           4     2    6", "all            12     6   18",
                 "subjects        4     2    6"):
        assert line in output.splitlines()
    with Image.open(tmp_path / "check.jpg") as sheet:
        first_test_image = numpy.asarray(sheet.crop((sheet.width - 400, 28, sheet.width - 304, 124)).convert("L"))
        assert sheet.height == 3 * 100 + 28 and first_test_image.std() > 10


def test_all_faults_are_reported_together(tmp_path):
    root = data_directory(tmp_path / "d")
    data = root / "data"
    (data / "test_smile_0.png").write_bytes((data / "train_smile_0.png").read_bytes())
    with Image.open(data / "train_neutral_1.png") as image:
        image.resize((50, 50)).convert("RGB").save(data / "test_neutral_1.png", format="JPEG", quality=60)
    (data / "train_surprise_2.png").write_bytes(b"broken")
    (data / "train_surprise_3.png").write_bytes((data / "train_surprise_3.png").read_bytes()[:3000])
    (data / "test_surprise_0.png").unlink()
    Image.new("RGB", (20, 20), "red").save(data / "train_smile_3.png")
    with open(root / "images.list", "a") as handle:
        handle.write("train_fear_0.png 7\n")
    (data / "anger").mkdir()
    Image.new("RGB", (64, 64)).save(data / "anger" / "one.png")
    subjects = root / "subjects.list"
    subjects.write_text(subjects.read_text().replace("test_surprise_1.png test1", "test_surprise_1.png TRAIN0"))
    status, output = run(root)
    assert status == 1
    for finding in ("1 pairs of byte-identical images in two splits: "
                    "train_smile_0.png (train) = test_smile_0.png (test)",
                    "1 pairs of nearly identical images in two splits: "
                    "train_neutral_1.png (train) = test_neutral_1.png (test)",
                    "3 images cannot be read: train_surprise_2.png (no image), train_surprise_3.png (damaged), "
                    "test_surprise_0.png (missing)",
                    "1 images are smaller than 32 pixels: train_smile_3.png (20 pixels)",
                    "1 images are nearly one color and show nothing: train_smile_3.png",
                    "label 7 is out of range, the 3 expressions", "unlisted class: none of the 1 images in",
                    "1 subjects are in train and test, e.g. train0", "7 problems that would spoil a result"):
        assert finding in output, (finding, output)


def test_incomplete_lists_and_empty_classes_are_reported(tmp_path):
    root = data_directory(tmp_path / "d")
    (root / "images_test.list").unlink()
    rows = [f"train_{name}_{i}.png" for name in EXPRESSIONS[:2] for i in range(4)]  # no neutral images
    (root / "images.list").write_text("".join(f"{name} {int('surprise' in name)}\n" for name in rows))
    (root / "subjects.list").write_text("".join(f"{name} p1\n" for name in [*rows[1:], "gone.png"]))
    status, output = run(root)
    assert status == 1
    for finding in ("no training image of neutral", "no neutral partners", "only --folds can train",
                    f"10 images in {root / 'data'} are in no list", "2 problems that would spoil a result",
                    "1 lines of subjects.list name no listed image, e.g. gone.png",
                    "1 listed images have no line in subjects.list, e.g. train_smile_0.png"):
        assert finding in output, (finding, output)


@pytest.mark.parametrize("mirrored", [False, True])
def test_near_duplicates_are_those_of_all_pairs(mirrored, monkeypatch):
    monkeypatch.setattr(check, "BLOCK", 64)
    monkeypatch.setattr(check, "TILE", 100)
    random = numpy.random.default_rng(1)
    greys = random.normal(size=(300, 32, 32)) + random.normal(size=(1, 32, 1))
    for i in range(0, 280, 4):  # with noise, which takes the correlation from 1 to 0.98
        greys[i + 5] = greys[i][:, ::-1 if i % 8 else 1] + random.uniform(0, 0.2) * random.normal(size=(32, 32))
    vectors = (greys - greys.mean((1, 2), keepdims=True)) / greys.std((1, 2), keepdims=True) / 32
    partners = (vectors[:, :, ::-1] if mirrored else vectors).reshape(300, -1)
    expected = numpy.argwhere(numpy.triu(vectors.reshape(300, -1) @ partners.T >= 0.995, 1))
    found = check.near_duplicates(greys.reshape(300, -1), mirrored)
    assert 10 < len(expected) < 35 and numpy.array_equal(found, expected)


def test_test_images_of_another_shape_are_reported(tmp_path):
    root = data_directory(tmp_path / "d")
    for path in (root / "data").glob("test*"):
        with Image.open(path) as image:
            image.resize((96, 64)).save(path)
    status, output = run(root)
    assert status == 1 and "the test images have another shape (usually 1.50 : 1) than the training images" in output
    assert "6 of 18 images are no squares" in output and "alignment: not known" in output
