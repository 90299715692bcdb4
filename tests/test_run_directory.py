"""A run's directory: no file of the user's and no result is lost, and two runs never share one."""

import errno
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

import commands.training
from conftest import (EXPRESSIONS, TINY, fill, first_layer, keep_networks, locked, refused, restored,
                      snapshot, succeeds, train_command, trained)
from datasets.layout import read_layout
from models.checkpoints import load_swap_gan
from options.command_line import resolve
from options.config import PRESETS, Config
from training.run_directory import RunDirectory, StateStore
from training.trainer import Run
from utils import UserError


def refused_run(data: Path, folder: Path, *flags: object) -> str:
    return refused(train_command("--data_dir", data, "--checkpoint_dir", folder, *TINY, *flags))


# ----------------------------------------------------------------------------------------- starting and replacing

@pytest.mark.parametrize("names", [["img/holiday.jpg", "img/deep/er/x.jpg"], ["model/mine.pth", "state/mine.pth"],
                                   ["options.json"], ["img/epoch_001.jpg"], ["state/manifest.json"], ["run.json"],
                                   ["fold_02/options.json"]])
def test_foreign_files_are_refused_and_stay(faces, tmp_path, names):
    fill(tmp_path / "mine", *names)
    if names == ["options.json"]:
        (tmp_path / "mine" / "options.json").write_text('{"lr": 1, "theirs": true}')
    before = snapshot(tmp_path / "mine")
    for flags in ([], ["--overwrite"], ["--auto_restore"], ["--folds", 2], ["--folds", 2, "--overwrite"]):
        refused_run(faces, tmp_path / "mine", *flags)
    assert snapshot(tmp_path / "mine") == before


@pytest.mark.parametrize("claimed", [True, False])
def test_overwrite_moves_everything_aside(faces, finished_copy, tmp_path, claimed):
    run = finished_copy
    fill(run, "notes.txt", "model/mine.pth", "img/.hidden.jpg.ab12_xyz.part", "splits/x/y/z")
    if not claimed:  # like a run of the published code
        for name in ("run.json", "run.lock", "options.json"):
            (run / name).unlink()
    before = snapshot(run)
    output = trained(faces, run, "--overwrite")
    moved = next(tmp_path.glob("finished.old-*"))
    assert {**snapshot(moved), "run.lock": b""} == {**before, "run.lock": b""}
    assert f"moved what was in {run} to {moved}\n" in output and not (run / "notes.txt").exists()
    assert StateStore(run / "state").load()["stage"] == 3
    RunDirectory(run).move_aside()
    assert len(list(tmp_path.glob("finished.old-*"))) == 2 and not run.exists()


@pytest.mark.parametrize("flag, name", [("--perceptual", "VGG_loss/6_max_ckpt.t7"), ("--data_dir", "faces"),
                                        ("--vgg_init", "VGG_loss/6_max_ckpt.t7")])
def test_overwrite_does_not_move_inputs_of_the_new_run(faces, finished_copy, flag, name):
    shutil.copytree(faces, finished_copy / "faces")
    before = snapshot(finished_copy)
    for series in ([], ["--seeds", 2]):
        line = refused_run(faces, finished_copy, "--overwrite", flag, finished_copy / name, *series)
        assert "would be moved aside" in line
    assert snapshot(finished_copy) == before


@pytest.mark.parametrize("result", ["model", "VGG", "state"])
def test_a_run_with_any_results_is_never_replaced(faces, finished_copy, result):
    """Nor is one whose states have lost their manifest."""
    for name in {"model", "VGG", "state"} - {result}:
        shutil.rmtree(finished_copy / name)
    (finished_copy / "state" / "manifest.json").unlink(missing_ok=True)
    before = snapshot(finished_copy)
    line = refused_run(faces, finished_copy)
    assert "already holds a run" in line and "--restore" in line and "--overwrite" in line
    line = refused(train_command("--data_dir", faces, "--checkpoint_dir", finished_copy, "--gpu", -1, "--auto_restore"))
    assert ("manifest.json" if result == "state" else "already holds a run") in line
    assert snapshot(finished_copy) == before


def test_a_run_that_was_killed_before_its_first_state_starts_anew(faces, tmp_path):
    """Killed between writing the state and its entry in the manifest."""
    with RunDirectory(tmp_path / "run") as directory:
        directory.claim()
    StateStore(tmp_path / "run" / "state").begin()
    fill(tmp_path / "run", "state/state_000001.pth", "log/metrics.csv")
    trained(faces, tmp_path / "run", "--auto_restore")
    assert StateStore(tmp_path / "run" / "state").load()["stage"] == 3


@pytest.mark.parametrize("place", [".", "data", "run", "data/run"])
def test_a_run_does_not_write_into_its_data(broken, tmp_path, place):
    (tmp_path / "link").symlink_to(broken)
    before = snapshot(tmp_path)
    for root in (broken, tmp_path / "link"):
        refused_run(broken, root / place)
    assert snapshot(tmp_path) == before


def test_two_runs_never_share_a_directory(faces, finished_copy):
    argv = ["--data_dir", faces, "--checkpoint_dir", finished_copy, "--gpu", -1]
    with locked(finished_copy):
        before = snapshot(finished_copy)
        for flags in ([], ["--overwrite"], ["--restore"], ["--auto_restore"]):
            assert "another run is writing here" in refused(train_command(*argv, *flags))
        assert snapshot(finished_copy) == before
    RunDirectory(finished_copy).lock()  # the system has released the other process's lock


@pytest.mark.parametrize("fault", [OSError(errno.ENOLCK, ""), OSError(errno.EOPNOTSUPP, ""), NotImplementedError()])
def test_a_file_system_without_locks_is_used_all_the_same(tmp_path, monkeypatch, fault):
    monkeypatch.setattr("filelock.FileLock.acquire", mock.Mock(side_effect=fault))
    RunDirectory(tmp_path / "run").claim()
    assert (tmp_path / "run" / "run.json").is_file()


# ------------------------------------------------------------------------------------------ resuming a run

def test_restore_n_saves_the_new_position_first(finished_copy, monkeypatch):
    store = StateStore(finished_copy / "state")
    keep_networks(finished_copy, 1)
    assert store.load()["stage"] == 5

    def killed(*_):
        raise UserError("killed")

    monkeypatch.setattr(Run, "progress", killed)
    line = refused(train_command("--restore", 1, "--checkpoint_dir", finished_copy, "--gpu", -1))
    assert line.endswith("killed") and store.load()["stage"] == 1  # after the GAN's first epoch


def test_other_contents_under_the_same_names_are_refused(finished_copy, broken):
    argv = ["--restore", "--checkpoint_dir", finished_copy, "--data_dir", broken, "--gpu", -1]
    succeeds(train_command(*argv))  # a copy of the data is no change
    shutil.copy(broken / "data" / "train_0002.jpg", broken / "data" / "train_0001.jpg")
    assert "other contents" in refused(train_command(*argv))
    succeeds(train_command(*argv, "--force"))


@pytest.mark.parametrize("flags, message", [
    (["--image_size", 64], "was trained with image_size 32, not 64"),
    (["--select_on", "none"], "was trained on other images than those of this run")])
def test_a_perceptual_network_of_other_data_is_refused(faces, finished, tmp_path, flags, message):
    shutil.copytree(finished / "VGG_loss", tmp_path / "run" / "VGG_loss")
    line = refused_run(faces, tmp_path / "run", *flags)
    assert message in line and "delete it to train another" in line


def test_a_perceptual_network_of_the_same_data_is_used_again(faces, finished, tmp_path):
    network = finished / "VGG_loss" / "6_max_ckpt.t7"
    for flags in ([], ["--perceptual", network]):
        run = tmp_path / f"run{len(flags)}"
        if not flags:
            shutil.copytree(finished / "VGG_loss", run / "VGG_loss")
        output = trained(faces, run, *flags, "--vgg_init", network, "--vgg_lr", 0)
        assert "perceptual epoch" not in output and "gan epoch 1" in output
        assert first_layer(run / "VGG" / "max_ckpt.t7") == first_layer(network)


def test_restore_n_continues_with_the_learning_rate_of_that_epoch(faces, tmp_path):
    run, checkpoint = tmp_path / "run", tmp_path / "run" / "VGG" / "max_ckpt.t7"
    trained(faces, run, "--epochs", 2, "--select_on", "none", "--vgg_schedule", "cosine", "--vgg_lr", 0.1)
    keep_networks(run, 2)
    before, weights = torch.load(checkpoint, weights_only=True), first_layer(checkpoint)
    succeeds(train_command("--restore", 2, "--checkpoint_dir", run, "--gpu", -1))  # repeats the second round
    assert torch.load(checkpoint, weights_only=True)["step"] == before["step"]
    assert first_layer(checkpoint) != weights


def test_restore_n_before_the_first_round_initializes_the_recognizer(faces, finished, tmp_path):
    run, network = tmp_path / "run", finished / "VGG_loss" / "6_max_ckpt.t7"
    trained(faces, run, "--round_every", 2, "--vgg_init", network, "--vgg_lr", 0)
    keep_networks(run, 1)
    succeeds(train_command("--restore", 1, "--checkpoint_dir", run, "--gpu", -1, "--epochs", 2))
    assert first_layer(run / "VGG" / "max_ckpt.t7") == first_layer(network)


def test_a_run_of_an_older_version_continues_without_newer_options(tmp_path):
    argv = ["--preset", "tuned", "--checkpoint_dir", str(tmp_path)]
    options = {**resolve(argv).values(), "preset": "tuned", "lambda_block_loss": 1.0}  # a former option
    assert options.pop("even_phases") == 2
    (tmp_path / "options.json").write_text(json.dumps(options))
    recipe = resolve([*argv, "--restore"]).gan_recipe
    assert recipe.even_phases == 0 and recipe.ema == 0.998
    assert resolve([*argv, "--restore", "--even_phases", "1"]).gan_recipe.even_phases == 1


# --------------------------------------------------------------------------------------- which directory it is

@pytest.mark.parametrize("argv, folder", [
    ([], "checkpoint/checkpoint_demo"), (["--data_dir", "datasets/drawn"], "checkpoint/checkpoint_drawn"),
    (["--data_dir", "./datasets/demo/"], "checkpoint/checkpoint_demo"), (["--data", "3"], "checkpoint/checkpoint_raf"),
    (["--data_dir", "datasets/drawn", "--checkpoint_dir", "here"], "here")])
def test_the_demos_preset_on_other_data_has_another_directory(argv, folder):
    assert resolve(["--preset", "demo", *argv]).run.checkpoint_dir == folder


def test_a_typed_data_set_has_precedence_over_the_directory_of_preset_and_run(tmp_path):
    assert resolve(["--preset", "demo", "--data", "3"]).data.data_dir is None
    options = resolve(["--data_dir", "here", "--checkpoint_dir", str(tmp_path)]).values()
    (tmp_path / "options.json").write_text(json.dumps(options))
    argv = ["--mode", "evaluate", "--checkpoint_dir", str(tmp_path)]
    assert Path(resolve(argv).data.data_dir).name == "here"
    assert Path(resolve([*argv, "--data", "2"]).data.data_dir).name == "here"  # the run's data set
    assert resolve([*argv, "--data", "3"]).data.data_dir is None


def test_the_demo_draws_only_into_its_own_directory(tmp_path):
    line = refused(train_command("--preset", "demo", "--data_dir", tmp_path / "mistyped", "--checkpoint_dir",
                                 tmp_path / "run", "--gpu", -1))
    assert "mistyped" in line and "no such" in line and not (tmp_path / "mistyped").exists()


def report(config: Config, run: Path, faces: Path) -> None:
    gan = load_swap_gan(run / "model", None, EXPRESSIONS, 32, torch.device("cpu"))
    commands.training.finish_run(SimpleNamespace(
        config=config, context=SimpleNamespace(layout=read_layout(faces), folder=run),
        phases={"gan": SimpleNamespace(gan=gan)}))


def test_the_demo_swaps_with_the_newest_networks(faces, finished, tmp_path, monkeypatch):
    """Even if ``--restore N`` has continued after epoch N."""
    monkeypatch.chdir(tmp_path)
    config = resolve(["--checkpoint_dir", str(finished), "--data_dir", str(faces), "--gpu", "-1", "--restore"])
    restored = []
    monkeypatch.setattr(commands.training, "swap", lambda swap_config: restored.append(swap_config.run.restore))
    monkeypatch.setitem(PRESETS["demo"], "checkpoint_dir", f"{finished}/")
    monkeypatch.setitem(PRESETS["demo"], "data_dir", str(faces))
    report(config.replaced(restore=10, preset="demo"), finished, faces)
    assert restored == [-1]
    for name in ("grid.jpg", "Con_Matrix.png", "predictions.csv"):  # where --mode report finds them again
        assert (tmp_path / name).read_bytes() == (finished / "test_result" / name).read_bytes()


def test_other_runs_of_the_demos_preset_write_into_their_directory(faces, finished_copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = resolve(["--preset", "demo", "--checkpoint_dir", str(finished_copy), "--data_dir", str(faces),
                          "--gpu", "-1", "--image_size", "32"])
    report(config, finished_copy, faces)
    assert list(tmp_path.iterdir()) == [finished_copy] and (finished_copy / "test_result" / "grid.jpg").is_file()
