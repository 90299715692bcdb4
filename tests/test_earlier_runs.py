"""What a run finds of earlier ones: networks, rounds, copies and series that are not its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conftest import REPOSITORY, refused, train_command
from datasets.layout import Sample
from datasets.synthetic import make_dataset
from hostile import LOCK_HOLDER, snapshot
from commands.generate import copied
from options.command_line import read_config

TINY = ["--image_size", 32, "--base_width", 2, "--vgg_width", 2, "--fc_width", 4, "--batch_size", 6, "--vgg_init",
        "none", "--gan_raw", 1, "--round_every", 1, "--round_epochs", 1, "--perceptual_epochs", 1, "--label_copy", 1,
        "--rows", 1, "--gpu", -1]


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "faces"
    make_dataset(root, image_size=32, subjects_train=8, subjects_test=3, scenes=1)
    return root


def trained(*words: object) -> str:
    result = train_command(*words)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_perceptual_network_of_other_training_images_is_trained_anew(faces, tmp_path):
    words = "--data_dir", faces, "--checkpoint_dir", tmp_path / "run", "--epochs", 1, *TINY
    trained(*words, "--select_on", "none")  # it learns from all images
    assert "perceptual epoch 1" in trained(*words, "--overwrite")
    assert "perceptual epoch 1" not in trained(*words, "--overwrite")
    assert "perceptual epoch 1" in trained(*words, "--overwrite", "--seed", 3)


def test_restored_behind_an_epoch_the_rate_is_that_of_then(faces, tmp_path):
    run = tmp_path / "run"
    trained("--data_dir", faces, "--checkpoint_dir", run, "--epochs", 2, *TINY, "--select_on", "none", "--vgg_schedule",
            "cosine", "--vgg_lr", 0.1)
    for name in ("Enc", "Dec", "D1", "D2"):
        shutil.copy(run / "model" / f"{name}_iter_temp.pth", run / "model" / f"{name}_iter_002.pth")
    before = torch.load(run / "VGG" / "max_ckpt.t7", weights_only=True)
    trained("--restore", 2, "--checkpoint_dir", run, "--gpu", -1)  # the second round once more
    after = torch.load(run / "VGG" / "max_ckpt.t7", weights_only=True)
    assert after["step"] == before["step"]
    assert any(not torch.equal(value, before["net"][key]) for key, value in after["net"].items() if "weight" in key)


def test_restored_before_the_first_round_the_recognizer_starts_as_asked(faces, tmp_path):
    run, file = tmp_path / "run", tmp_path / "first" / "VGG_loss" / "6_max_ckpt.t7"
    trained("--data_dir", faces, "--checkpoint_dir", tmp_path / "first", "--epochs", 1, *TINY)
    trained("--data_dir", faces, "--checkpoint_dir", run, "--epochs", 1, *TINY, "--round_every", 2, "--vgg_init", file,
            "--vgg_lr", 0)
    for name in ("Enc", "Dec", "D1", "D2"):
        shutil.copy(run / "model" / f"{name}_iter_temp.pth", run / "model" / f"{name}_iter_001.pth")
    trained("--restore", 1, "--checkpoint_dir", run, "--gpu", -1, "--epochs", 2)
    net = torch.load(run / "VGG" / "max_ckpt.t7", weights_only=True)["net"]
    first = torch.load(file, weights_only=True)["net"]
    assert torch.equal(net["features.0.weight"], first["features.0.weight"])


def test_without_a_test_image_of_these_expressions_nothing_is_trained(faces, tmp_path):
    root = shutil.copytree(faces, tmp_path / "faces")
    lines = (root / "images_test.list").read_text().splitlines(keepends=True)
    (root / "images_test.list").write_text("".join(line for line in lines if int(line.split()[1]) > 2))
    for more in ([], ["--select_on", "test"], ["--seeds", 2]):
        said = refused(train_command("-a", "disgust", "scream", "smile", "--targets", "any", "--data_dir", root,
                                     "--checkpoint_dir", tmp_path / "run", "--epochs", 1, *TINY, *more))
        assert "no test image of these expressions" in said and not (tmp_path / "run").exists()


def test_another_series_is_neither_replaced_by_accident_nor_while_it_is_written(faces, tmp_path):
    folder = tmp_path / "series"
    words = "--data_dir", faces, "--checkpoint_dir", folder, "--epochs", 1, *TINY
    trained(*words, "--folds", 2)
    before = snapshot(folder)
    assert "holds the runs of another series" in refused(train_command(*words, "--seeds", 2))
    assert snapshot(folder) == before
    program = LOCK_HOLDER.format(repository=str(REPOSITORY), folder=str(folder / "fold_01"))
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "locked\n"
    assert "another run is writing here" in refused(train_command(*words, "--seeds", 2, "--overwrite"))
    holder.kill()
    holder.wait()
    assert snapshot(folder) == before
    trained(*words, "--seeds", 2, "--overwrite")
    assert not (folder / "fold_01" / "model").exists() and (folder / "seed_01" / "model").is_dir()


def test_a_sheet_of_other_data_needs_no_validation_split_of_the_run(faces, tmp_path):
    trained("--data_dir", faces, "--checkpoint_dir", tmp_path / "run", "--epochs", 1, *TINY)
    other = shutil.copytree(faces, tmp_path / "other")
    for path in sorted((other / "data").iterdir()):
        path.rename(path.with_name(f"x{path.name}"))
    for path in other.glob("*.list"):
        path.write_text("".join(f"x{line}" for line in path.read_text().splitlines(keepends=True)))
    trained("--mode", "grid", "--restore", "--checkpoint_dir", tmp_path / "run", "--data_dir", other, "--output",
            tmp_path / "sheet.jpg", "--gpu", -1)
    assert (tmp_path / "sheet.jpg").is_file()


def test_a_copy_of_another_data_set_is_replaced(tmp_path):
    (tmp_path / "out" / "data").mkdir(parents=True)
    (tmp_path / "out" / "data" / "real_a.jpg").write_bytes(b"of another run")
    (tmp_path / "a.jpg").write_bytes(b"an image")
    copied(Sample("a.jpg", 0, tmp_path / "a.jpg"), tmp_path / "out", "real_a.jpg")
    assert (tmp_path / "out" / "data" / "real_a.jpg").read_bytes() == b"an image"


@pytest.mark.parametrize("words, folder", [
    ([], "checkpoint/checkpoint_demo"), (["--data_dir", "datasets/drawn"], "checkpoint/checkpoint_drawn"),
    (["--data_dir", "./datasets/demo/"], "checkpoint/checkpoint_demo"),
    (["--data_dir", "datasets/drawn", "--checkpoint_dir", "here"], "here")])
def test_the_demos_recipe_on_other_data_has_another_directory(words, folder):
    assert read_config(["--preset", "demo", *words]).run.checkpoint_dir == folder


def test_a_typed_data_set_takes_its_own_directory_and_not_that_of_preset_or_run(tmp_path):
    options = read_config(["--preset", "demo", "--data", "3"])
    assert options.data.data_dir is None and options.run.checkpoint_dir == "checkpoint/checkpoint_raf"
    kept = read_config(["--data_dir", "here", "--checkpoint_dir", str(tmp_path)]).values()
    (tmp_path / "options.json").write_text(json.dumps(kept))
    evaluated = ["--mode", "evaluate", "--checkpoint_dir", str(tmp_path)]
    assert read_config(evaluated).data.data_dir == "here"
    assert read_config([*evaluated, "--data", "2"]).data.data_dir == "here"  # what the run was trained on
    assert read_config([*evaluated, "--data", "3"]).data.data_dir is None


def test_the_demo_draws_into_its_own_directory_alone(tmp_path):
    line = refused(train_command("--preset", "demo", "--data_dir", tmp_path / "mistyped", "--checkpoint_dir",
                                 tmp_path / "run", "--gpu", -1))
    assert "mistyped" in line and "no such" in line and not (tmp_path / "mistyped").exists()


def test_an_older_run_goes_on_without_what_its_version_had_not(tmp_path):
    words = ["--preset", "tuned", "--checkpoint_dir", str(tmp_path)]
    kept = {**read_config(words).values(), "preset": "tuned"}
    assert kept.pop("even_phases") == 2
    kept["lambda_block_loss"] = 1.0  # and what that version had and this one has not
    (tmp_path / "options.json").write_text(json.dumps(kept))
    assert read_config([*words, "--restore"]).gan_recipe.even_phases == 0
    assert read_config([*words, "--restore"]).gan_recipe.ema == 0.999
    assert read_config([*words, "--restore", "--even_phases", "1"]).gan_recipe.even_phases == 1
