"""The commands as a user types them, at tiny sizes: train, restore, matrix; and how they refuse bad input."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import test_matrix_multi
from conftest import command, refused, shared, train_command
from datasets.layout import DATA_SETS
from datasets.synthetic import make_dataset
from options.command_line import build_parser
from utils import UserError

NAMES = ["disgust", "scream", "smile", "squint", "surprise", "neutral"]
TINY = ["--image_size", 32, "--base_width", 4, "--vgg_width", 4, "--fc_width", 16, "--batch_size", 6,
        "--vgg_batch_size", 12, "--round_every", 1, "--round_epochs", 1, "--perceptual_epochs", 1, "--gpu", -1]


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "faces"
    make_dataset(root, image_size=32, subjects_train=8, subjects_test=3, scenes=1)
    return root


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory) -> Path:
    """A finished run of two GAN epochs with a recognizer round each."""
    folder = tmp_path_factory.mktemp("run") / "run"
    before = sorted(path.name for path in faces.rglob("*"))
    result = command("train.py", "-a", *NAMES, "--mode", "train", "--multi_add_gan", "--alpha5", "--data_dir", faces,
                     "--checkpoint_dir", folder, "--epochs", 2, *TINY)
    assert result.returncode == 0, result.stderr
    assert "mean class accuracy" in result.stdout
    assert sorted(path.name for path in faces.rglob("*")) == before  # training only reads the data directory
    return folder


def test_a_run_leaves_the_files_of_the_reference(run):
    for name in ("Enc", "Dec", "D1", "D2"):
        state = torch.load(run / "model" / f"{name}_iter_temp.pth", weights_only=True)
        assert all(isinstance(value, torch.Tensor) and value.device.type == "cpu" for value in state.values())
        assert not any(key.startswith("module.") for key in state)
    checkpoint = torch.load(run / "VGG" / "max_ckpt.t7", weights_only=True)
    assert {"net", "acc", "step", "config"} == checkpoint.keys() and 0 <= checkpoint["acc"] <= 100
    assert checkpoint["config"]["expressions"] == NAMES and checkpoint["config"]["image_size"] == 32
    assert (run / "VGG" / "Enc_max.pth").is_file() and (run / "VGG_loss" / "6_max_ckpt.t7").is_file()
    assert len((run / "splits" / "images_val.list").read_text().splitlines()) == 6


def test_a_run_leaves_grids_and_every_figure(run):
    grid = Image.open(run / "img" / "epoch_002.jpg")
    assert grid.width > 8 * 67 and grid.height > 6 * 67  # A, B, C, D, A', B' of eight pairs
    rows = list(csv.DictReader(open(run / "log" / "metrics.csv")))
    assert {row["phase"] for row in rows} >= {"perceptual", "gan", "recognizer", "gan_epoch", "recognizer_epoch"}
    assert {row["name"] for row in rows if row["phase"] == "gan"} >= {"D", "D1", "G", "adv", "vgg", "l1", "l2", "tv"}
    assert json.loads((run / "options.json").read_text())["alpha5"] is True
    speeds = list(csv.DictReader(open(run / "log" / "speed.csv")))
    assert {row["name"] for row in speeds} == {"images_per_second"}
    assert {row["phase"] for row in speeds} == {"perceptual", "gan", "recognizer"}


def test_matrix_needs_nothing_but_the_directory(run, faces, tmp_path):
    result = command("test_matrix_multi.py", "--resume_dir", run / "VGG", "--gpu", -1, "--output_dir", tmp_path)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "confusion_matrix.json").read_text())
    assert report["images"] == 18 and sum(map(sum, report["counts"])) == 18
    assert f"accuracy {report['accuracy']:.2f} %" in result.stdout
    assert Image.open(tmp_path / "Con_Matrix.png").width > 600
    assert (run / "test_result" / "Con_Matrix.png").is_file()
    ours = json.loads((run / "test_result" / "confusion_matrix.json").read_text())
    assert ours["counts"] == report["counts"]


def test_a_run_knows_its_images_wherever_they_lie(run, faces, tmp_path, monkeypatch):
    options, figures = run / "options.json", run / "synthesis.json"
    shutil.copytree(run, tmp_path / "run")
    moved, other = shutil.copytree(faces, tmp_path / "moved"), tmp_path / "other"
    make_dataset(other, image_size=32, subjects_train=8, subjects_test=3, scenes=1, seed=1)  # the same names
    monkeypatch.chdir(tmp_path)
    assert json.loads(options.read_text())["data_dir"] == str(faces)
    evaluate = ["--mode", "evaluate", "--restore", "--checkpoint_dir", "run", "--judge_epochs", 1, "--gpu", -1]
    assert "training images are not those of the run in run" in refused(train_command(*evaluate, "--data_dir", "other"))
    assert not (tmp_path / "run" / figures.name).exists()
    assert train_command(*evaluate, "--data_dir", "moved").returncode == 0
    assert json.loads((tmp_path / "run" / figures.name).read_text())["data_dir"] == str(moved)
    matrix = ["--resume_dir", str(run / "VGG" / "max_ckpt.t7"), "--gpu", "-1", "--output_dir", str(tmp_path)]
    test_matrix_multi.main(matrix)  # the directory of the file
    faces.rename(tmp_path / "away")
    try:
        with pytest.raises(UserError, match="name the directory that they have moved to with --data_dir"):
            test_matrix_multi.main(matrix)
        other.rename(faces)
        with pytest.raises(UserError, match="testing images are not those of the run"):
            test_matrix_multi.main(matrix)
    finally:
        shutil.rmtree(faces, ignore_errors=True)
        (tmp_path / "away").rename(faces)


def test_matrix_writes_every_answer_and_shows_the_mistakes(run, faces, tmp_path):
    result = command("test_matrix_multi.py", "--resume_dir", run / "VGG", "--gpu", -1, "--output_dir", tmp_path)
    assert result.returncode == 0, result.stderr
    rows = list(csv.DictReader(open(tmp_path / "predictions.csv")))
    report = json.loads((tmp_path / "confusion_matrix.json").read_text())
    assert list(rows[0]) == ["file", "label", "predicted", *NAMES]
    listed = [line.split() for line in (faces / "images_test.list").read_text().splitlines()]
    assert [[row["file"], NAMES.index(row["label"])] for row in rows] == [[name, int(label)] for name, label in listed]
    counts = [[sum(row["label"] == a and row["predicted"] == b for row in rows) for b in NAMES] for a in NAMES]
    assert counts == report["counts"]
    for row in rows:
        shares = [float(row[name]) for name in NAMES]
        assert sum(shares) == pytest.approx(1, abs=1e-5) and NAMES[shares.index(max(shares))] == row["predicted"]
    low, high = report["accuracy_interval"]
    assert low <= report["accuracy"] <= high and report["interval"]["drawn_again"] == "subjects"
    assert 0 <= report["expected_calibration_error"] <= 100 and "calibration error" in result.stdout
    wrong = 18 - sum(report["counts"][i][i] for i in range(6))
    rows_of_cards = -(-wrong // 2)
    assert abs(Image.open(tmp_path / "mistakes.jpg").height - 182 * rows_of_cards) < 120
    assert (run / "test_result" / "mistakes.jpg").is_file() and (run / "test_result" / "predictions.csv").is_file()


@pytest.mark.parametrize("name, content", [("predictions.csv", "file,rater,label\na.png,me,smile\n"),
                                           ("confusion_matrix.json", '{"mine": 1}'), ("mistakes.jpg", "mine")])
def test_the_matrix_overwrites_its_own_results_alone(run, tmp_path, name, content):
    words = ["--resume_dir", run / "VGG", "--gpu", -1, "--output_dir", tmp_path]
    (tmp_path / name).write_text(content)
    line = refused(command("test_matrix_multi.py", *words))
    assert name in line and "--output_dir" in line and ("something else" in line or "move it away" in line)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: content}
    (tmp_path / name).unlink()
    (tmp_path / "mistakes.jpg").mkdir()
    assert "mistakes.jpg: is a directory" in refused(command("test_matrix_multi.py", *words))
    (tmp_path / "mistakes.jpg").rmdir()
    for _ in range(2):
        result = command("test_matrix_multi.py", *words)
        assert result.returncode == 0, result.stderr


def test_a_closed_pipe_is_no_error(run, tmp_path):
    import subprocess
    import sys

    words = [sys.executable, "test_matrix_multi.py", "--resume_dir", str(run / "VGG"), "--gpu", "-1", "--output_dir",
             str(tmp_path)]
    process = subprocess.Popen(words, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 141
    assert (tmp_path / "confusion_matrix.json").is_file()


@pytest.mark.parametrize("split, images", [("val", 6), ("train", 42), ("all", 66)])
def test_matrix_knows_the_validation_split_of_the_run(run, tmp_path, split, images):
    result = command("test_matrix_multi.py", "--resume_dir", run / "VGG", "--gpu", -1, "--output_dir", tmp_path,
                     "--split", split, "--batch_size", 7)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "confusion_matrix.json").read_text())["images"] == images


def test_matrix_reads_the_references_own_files(run, faces, tmp_path):
    """PyTorch 1.0's format, DataParallel's prefix, numpy's accuracy, no config."""
    import numpy

    (tmp_path / "VGG").mkdir()
    checkpoint = torch.load(run / "VGG" / "max_ckpt.t7", weights_only=True)
    old = {"net": {f"module.{key}": value for key, value in checkpoint["net"].items()},
           "acc": numpy.float64(12.5), "step": 7}
    torch.save(old, tmp_path / "VGG" / "max_ckpt.t7", _use_new_zipfile_serialization=False)
    encoder = torch.load(run / "VGG" / "Enc_max.pth", weights_only=True)
    torch.save(encoder, tmp_path / "VGG" / "Enc_max.pth", _use_new_zipfile_serialization=False)
    result = command("test_matrix_multi.py", "--data", 2, "--data_dir", faces, "--resume_dir", tmp_path / "VGG",
                     "--gpu", -1, "--output_dir", tmp_path, "--image_size", 32)
    assert result.returncode == 0, result.stderr
    wanted = json.loads((run / "test_result" / "confusion_matrix.json").read_text())
    assert json.loads((tmp_path / "confusion_matrix.json").read_text())["counts"] == wanted["counts"]


def test_train_on_real_photographs_and_use_what_it_leaves(tmp_path):
    root = shared("data/wild_faces")
    names = ["anger", "disgust", "happiness", "sadness", "surprise", "neutral"]
    result = command("train.py", "-a", *names, "--mode", "train", "--multi_add_gan", "--alpha5", "--data_dir", root,
                     "--checkpoint_dir", tmp_path / "run", "--epochs", 1, *TINY)
    assert result.returncode == 0, result.stderr
    result = command("test_matrix_multi.py", "--resume_dir", tmp_path / "run" / "VGG", "--gpu", -1,
                     "--output_dir", tmp_path)
    assert result.returncode == 0 and "140 images" in result.stdout
    result = command("train.py", "-a", *names, "--mode", "test", "--restore", "--checkpoint_dir", tmp_path / "run",
                     "--swap_list", 2, 5, "--input", root / "data" / "test_0001.jpg", "--target",
                     root / "data" / "test_0002.jpg", "--output", tmp_path / "result.jpg", "--gpu", -1)
    assert result.returncode == 0, result.stderr
    assert Image.open(tmp_path / "result.jpg").width == 450


# ----------------------------------------------------------------------------------------------- bad input

@pytest.fixture
def broken(faces, tmp_path) -> Path:
    """A copy of the data set to spoil."""
    shutil.copytree(faces, tmp_path / "broken")
    return tmp_path / "broken"


def spoil(root: Path, kind: str) -> None:
    listed = root / "images.list"
    if kind == "line":
        listed.write_text(listed.read_text().replace("train_0002.jpg 1\n", "train_0002.jpg\n"))
    elif kind == "label":
        listed.write_text(listed.read_text().replace("train_0002.jpg 1\n", "train_0002.jpg 6\n"))
    elif kind == "class":
        listed.write_text("".join(line for line in listed.open() if not line.endswith(" 3\n")))
    elif kind == "missing":
        for i in range(1, 8):
            (root / "data" / f"train_000{i}.jpg").unlink()
    elif kind == "no image":
        (root / "data" / "test_0003.jpg").write_text("no image")
    elif kind == "truncated":
        path = root / "data" / "train_0005.jpg"
        path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize("kind, words", [
    ("line", ["images.list, line 2", "<file name> <label>"]),
    ("label", ["images.list, line 2: label 6 is out of range"]),
    ("class", ["no training image of squint"]),
    ("missing", ["7 of 66 listed images", "train_0001.jpg (missing)", "and 2 more"]),
    ("no image", ["1 of 66 listed images", "test_0003.jpg (no image)"]),
    ("truncated", ["listed images", "train_0005.jpg (cannot be decoded)"])])
def test_bad_data_is_refused_before_training(broken, tmp_path, kind, words):
    spoil(broken, kind)
    line = refused(command("train.py", "-a", *NAMES, "--data_dir", broken, "--checkpoint_dir", tmp_path / "run",
                           "--epochs", 1, *TINY))
    assert all(word in line for word in words), line
    assert not (tmp_path / "run" / "state").exists() and not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("options, words", [
    (["-a", "disgust", "screem", "smile", "squint", "surprise", "neutral"], ["unknown expression screem"]),
    (["--image_size", 48], ["--image_size 48", "multiple of 32"]),
    (["--vgg_width", 8], ["--vgg_width 8", "less than twice"]),
    (["--restore"], ["--restore", "nothing|no training state"]),
    (["--restore", 30], ["--restore 30", "Enc_iter_030.pth"]),
    (["--neutral", "calm"], ["--neutral calm"]),
    (["--perceptual", "nowhere.t7"], ["--perceptual nowhere.t7: no such file"]),
    (["--vgg_init", "imagenet"], ["ImageNet weights for --vgg_width 64 alone", "--vgg_init none"]),
    (["--batch_size", 0], ["--batch_size 0"]),
    (["--checkpoint_dir", ""], ["--checkpoint_dir", "must not be empty"]),
    (["--data_dir", "nowhere"], ["nowhere: no such data directory"])])
def test_bad_training_options_are_refused(faces, tmp_path, options, words):
    line = refused(command("train.py", "--data_dir", faces, "--checkpoint_dir", tmp_path / "run", *TINY, *options))
    assert all(any(choice in line for choice in word.split("|")) for word in words), line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name, words", [("nowhere", ["no such directory"]), ("model", ["holds no max_ckpt.t7"])])
def test_a_wrong_resume_dir_is_refused(run, name, words):
    line = refused(command("test_matrix_multi.py", "--resume_dir", run / name, "--gpu", -1))
    assert all(word in line for word in words), line


def test_a_finished_run_is_not_overwritten_by_accident(run, faces):
    before = (run / "VGG" / "max_ckpt.t7").stat().st_mtime_ns
    line = refused(command("train.py", "--data_dir", faces, "--checkpoint_dir", run, "--epochs", 2, *TINY))
    assert "already holds a run" in line and "--restore" in line and "--overwrite" in line
    assert (run / "VGG" / "max_ckpt.t7").stat().st_mtime_ns == before


def test_changed_options_are_refused_by_name(run, faces):
    line = refused(command("train.py", "--data_dir", faces, "--checkpoint_dir", run, "--restore", "--lr", 0.5,
                           "--gpu", -1))
    assert "--lr 0.0002" in line and "--force" in line


def test_a_perceptual_network_from_elsewhere_replaces_stage_0(run, faces, tmp_path):
    result = command("train.py", "--data_dir", faces, "--checkpoint_dir", tmp_path / "run", "--epochs", 1, *TINY,
                     "--perceptual", run / "VGG_loss" / "6_max_ckpt.t7")
    assert result.returncode == 0 and "perceptual epoch" not in result.stdout, result.stderr
    assert "gan epoch 1" in result.stdout


def test_vgg_starts_from_a_local_file(run, faces, tmp_path):
    result = command("train.py", "--data_dir", faces, "--checkpoint_dir", tmp_path / "run", "--epochs", 1, *TINY,
                     "--vgg_init", run / "VGG_loss" / "6_max_ckpt.t7", "--vgg_lr", 0, "--no_vgg_loss")
    assert result.returncode == 0, result.stderr
    given = torch.load(run / "VGG_loss" / "6_max_ckpt.t7", weights_only=True)["net"]
    started = torch.load(tmp_path / "run" / "VGG" / "max_ckpt.t7", weights_only=True)["net"]
    assert torch.equal(given["features.0.weight"], started["features.0.weight"])


def test_switches_take_both_spellings_of_no():
    for word in ("--no_vgg_loss", "--no-vgg_loss"):
        assert build_parser().parse_args([word]).vgg_loss is False
    assert build_parser().parse_args(["--vgg_loss"]).vgg_loss is True
    assert build_parser().parse_args(["--restore"]).restore == -1
    assert build_parser().parse_args(["--restore", "10"]).restore == 10


# -------------------------------------------------------------------------------------- restoring with a number

def test_restore_n_goes_on_behind_epoch_n_with_the_networks_of_then(run, faces, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    for name in ("Enc", "Dec", "D1", "D2"):
        (folder / "model" / f"{name}_iter_temp.pth").rename(folder / "model" / f"{name}_iter_001.pth")
    shutil.rmtree(folder / "state")
    rows = len((folder / "log" / "metrics.csv").read_text().splitlines())
    best = torch.load(folder / "VGG" / "max_ckpt.t7", weights_only=True)
    result = command("train.py", "--restore", 1, "--checkpoint_dir", folder, "--data_dir", faces, "--gpu", -1)
    assert result.returncode == 0, result.stderr
    assert "gan epoch 1" not in result.stdout and "gan epoch 2" in result.stdout
    assert "recognizer epoch 1" in result.stdout  # the round that is due behind epoch 1 comes first
    after = torch.load(folder / "VGG" / "max_ckpt.t7", weights_only=True)
    assert after["acc"] >= best["acc"] and (after["step"] > best["step"] or after["acc"] == best["acc"])
    assert len((folder / "log" / "metrics.csv").read_text().splitlines()) > rows
    assert "images" in result.stdout


def test_the_matrix_of_reordered_expressions_is_that_of_the_run(faces, tmp_path):
    """images.list numbers the labels; a run with another order of -a must be judged in its own."""
    root = tmp_path / "multiple"
    shutil.copytree(faces, root)
    (root / "expressions.txt").unlink()
    (root / "list_attr_x_train.txt").write_text("0\n" + " ".join(NAMES) + "\n")  # names the labels, lists nothing
    order = ["neutral", "smile", "disgust"]
    result = command("train.py", "-a", *order, "--data_dir", root, "--checkpoint_dir", tmp_path / "run", *TINY,
                     "--epochs", 1)
    assert result.returncode == 0, result.stderr
    (root / "list_attr_x_train.txt").unlink()
    result = command("test_matrix_multi.py", "--resume_dir", tmp_path / "run" / "VGG", "--gpu", -1, "--output_dir",
                     tmp_path)
    assert result.returncode == 0, result.stderr
    ours, theirs = (json.loads((folder / "confusion_matrix.json").read_text())
                    for folder in (tmp_path, tmp_path / "run" / "test_result"))
    assert ours["counts"] == theirs["counts"] and ours["expressions"] == order and ours["images"] == 9


def test_the_matrix_on_another_data_set_reads_that_ones_labels(tmp_path, monkeypatch):
    """RAF-DB's lists number surprise 0, an MMI recognizer has it last."""
    mmi, raf = DATA_SETS[1].expressions, DATA_SETS[3].expressions
    trained = SimpleNamespace(config={"listed": list(mmi), "data_dir": str(tmp_path)}, names=list(mmi), num_classes=6)
    root = tmp_path / "datasets" / "RAF"
    root.mkdir(parents=True)
    for name in ("images.list", "images_test.list"):
        (root / name).write_text("".join(f"{name}_{raf[label]}.jpg {label}\n" for label in range(6)))
    options = test_matrix_multi.build_parser().parse_args(["--data", "3"])
    monkeypatch.chdir(tmp_path)
    layout = test_matrix_multi.find_layout(options, trained, tmp_path)
    assert sorted((sample.name, mmi[sample.label]) for sample in layout.test) == \
        sorted((f"images_test.list_{name}.jpg", name) for name in mmi)


def test_a_pair_list_with_targets_that_are_not_neutral_is_refused(broken, tmp_path):
    (broken / "images_gan_nature.list").write_text("train_0001_train_0003.jpg 0\n")
    line = refused(command("train.py", "--data_dir", broken, "--checkpoint_dir", tmp_path / "run", *TINY))
    assert "train_0003.jpg is smile" in line and "--neutral" in line


def test_another_perceptual_network_is_not_taken_by_accident(run, faces, tmp_path):
    shutil.copytree(run / "VGG_loss", tmp_path / "run" / "VGG_loss")
    line = refused(command("train.py", "--data_dir", faces, "--checkpoint_dir", tmp_path / "run", *TINY,
                           "--image_size", 64))
    assert "was trained with image_size 32, not 64" in line and "--perceptual" in line
