"""Sets without neutral faces, as a user types the commands: all targets, a named one, and runs of before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from conftest import command, refused, train_command
from datasets.drawing.data_set import make_dataset
from datasets.layout import read_layout, write_layout
from hostile import TINY
from utils import read_json, write_json

NAMES = ["disgust", "scream", "smile", "squint", "surprise"]


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """Drawn faces without their neutral ones: 4 persons to train on and 2 to test on, with 5 expressions each."""
    root = tmp_path_factory.mktemp("data") / "faces"
    make_dataset(root, image_size=32, subjects_train=4, subjects_test=2, scenes=1)
    layout = read_layout(root, NAMES)
    write_layout(root, NAMES, {"train": layout.train, "test": [s for s in layout.test if 0 <= s.label < 5]})
    for path in (root / "data").glob("*neutral*"):
        path.unlink()
    return root


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory) -> Path:
    """A finished run with ``--targets any``."""
    folder = tmp_path_factory.mktemp("any") / "run"
    result = command("train.py", "--mode", "train", "-a", *NAMES, "--data_dir", faces, "--checkpoint_dir", folder,
                     "--targets", "any", *TINY)
    assert result.returncode == 0, result.stderr
    return folder


def labels_of_targets(made: Path, faces: Path) -> set[int]:
    by_name = {sample.name: sample.label for sample in read_layout(faces).train}
    return {by_name[line.split()[2]] for line in (made / "made_from.list").read_text().splitlines()}


def test_training_offers_both_ways_in_one_line(faces, tmp_path):
    line = refused(command("train.py", "--data_dir", faces, "--checkpoint_dir", tmp_path / "run", *TINY))
    assert line == (f"train.py: {faces}: no expression is called neutral (disgust scream smile squint surprise) and "
                    "none is named; name the one whose faces are targets of synthesis with --neutral NAME, or take the "
                    "faces of all with --targets any")
    assert not (tmp_path / "run").exists()


def test_an_expression_left_out_of_a_is_not_neutral(faces, tmp_path):
    root = Path(shutil.copytree(faces, tmp_path / "faces"))
    (root / "expressions.txt").write_text("disgust scream smile squint neutral\n")
    line = refused(train_command("--data_dir", root, "-a", "smile", "scream", "--checkpoint_dir", tmp_path / "run",
                                 *TINY))
    assert "no expression is called neutral (smile scream)" in line


def test_a_run_with_all_targets_names_no_neutral_expression(run):
    for config in (read_json(run / "model" / "config.json"),
                   torch.load(run / "VGG" / "max_ckpt.t7", weights_only=True)["config"]):
        assert config["neutral_name"] is None and config["expressions"] == NAMES
    assert (run / "test_result" / "grid.jpg").is_file()


def test_generate_evaluate_grid_swap_and_matrix_need_no_neutral(run, faces, tmp_path):
    made = tmp_path / "made"
    generated = command("train.py", "--mode", "generate", "--checkpoint_dir", run, "--output", made)
    assert generated.returncode == 0, generated.stderr
    layout = read_layout(made)
    assert (list(layout.expressions), layout.neutral, layout.counts("test")) == (NAMES, None, [2] * 5)
    assert labels_of_targets(made, faces) == set(range(5))

    measured = train_command("--mode", "evaluate", "--checkpoint_dir", run, "--judge_epochs", 1)
    assert measured.returncode == 0, measured.stderr
    assert read_json(run / "synthesis.json")["data_dir"] == str(faces)

    test = [sample.path for sample in read_layout(faces).test[:2]]
    for words in (["--mode", "grid", "--output", tmp_path / "grid.png"],
                  ["--mode", "test", "--swap_list", 0, 1, "--input", test[0], "--target", test[1], "--output",
                   tmp_path / "swap.png"]):
        result = train_command("--checkpoint_dir", run, *words)
        assert result.returncode == 0, result.stderr
    assert Image.open(tmp_path / "swap.png").height >= 32 and Image.open(tmp_path / "grid.png").width > 5 * 32

    matrix = command("test_matrix_multi.py", "--resume_dir", run / "VGG", "--output_dir", tmp_path, "--gpu", -1)
    assert matrix.returncode == 0 and read_json(tmp_path / "confusion_matrix.json")["images"] == 10


def test_a_run_with_all_targets_goes_on(run, tmp_path):
    own = Path(shutil.copytree(run, tmp_path / "run"))
    result = train_command("--checkpoint_dir", own, "--restore", "--epochs", 2)
    assert result.returncode == 0, result.stderr
    assert (own / "img" / "epoch_002.jpg").is_file()


def test_a_run_of_before_keeps_the_last_expression_as_neutral(faces, tmp_path):
    folder, made = tmp_path / "run", tmp_path / "made"
    trained = train_command("--mode", "train", "--data_dir", faces, "--checkpoint_dir", folder, "--neutral", "surprise",
                            *TINY)
    assert trained.returncode == 0, trained.stderr
    options = json.loads((folder / "options.json").read_text())
    write_json(folder / "options.json", {**options, "neutral": None})   # the last of -a was taken without a word

    generated = train_command("--mode", "generate", "--checkpoint_dir", folder, "--output", made)
    assert generated.returncode == 0, generated.stderr
    assert labels_of_targets(made, faces) == {NAMES.index("surprise")}
    restored = train_command("--checkpoint_dir", folder, "--restore", "--epochs", 2)
    assert restored.returncode == 0, restored.stderr
    assert (folder / "img" / "epoch_002.jpg").is_file()


def test_generating_refuses_where_nothing_tells_the_targets(run, tmp_path):
    line = refused(train_command("--mode", "generate", "--checkpoint_dir", run, "--targets", "neutral", "--output",
                                 tmp_path / "made"))
    assert "no expression is called neutral" in line and "--targets any" in line


def test_target_only_faces_need_no_neutral_expression(faces, tmp_path):
    root = Path(shutil.copytree(faces, tmp_path / "faces"))
    (root / "expressions.txt").write_text("disgust scream smile squint\n")      # surprise, label 4, is in no class now
    for words in ([], ["--targets", "any"]):
        result = train_command("--mode", "train", "--data_dir", root, "--checkpoint_dir", tmp_path / f"run{len(words)}",
                               *words, *TINY)
        assert result.returncode == 0, result.stderr


def test_the_check_notes_it_and_finds_nothing_wrong(faces):
    result = command("-m", "datasets.check", faces)
    assert result.returncode == 0, result.stdout
    assert "note: no expression is called neutral: training needs --neutral NAME or --targets any" in result.stdout
