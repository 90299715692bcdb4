"""Nothing of the user's is lost in a run's directory: other files, results, killed runs and two at once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import training.run
from conftest import (EXPRESSIONS, TINY, fill, first_layer, keep_networks, locked, refused, snapshot, train_command,
                      trained)
from datasets.layout import read_layout
from models.checkpoints import load_swap_gan
from models.swap_gan import SwapGAN
from options.command_line import read_config
from options.presets import PRESETS
from training.run_directory import RunDirectory
from training.state import StateStore
from training.trainer import Run
from utils import UserError


def refused_run(data: Path, folder: Path, *more: object) -> str:
    return refused(train_command("--data_dir", data, "--checkpoint_dir", folder, *TINY, *more))


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
def test_overwrite_moves_everything_aside(faces, own, tmp_path, claimed):
    fill(own, "notes.txt", "model/mine.pth", "img/.hidden.jpg.ab12_xyz.part", "splits/x/y/z")
    if not claimed:  # as the published code leaves it
        for name in ("run.json", "run.lock", "options.json"):
            (own / name).unlink()
    before = snapshot(own)
    output = trained(faces, own, "--overwrite")
    moved = next(tmp_path.glob("own.old-*"))
    assert {**snapshot(moved), "run.lock": b""} == {**before, "run.lock": b""}
    assert f"moved what was in {own} to {moved}\n" in output and not (own / "notes.txt").exists()
    assert StateStore(own / "state").load()["stage"] == 3
    RunDirectory(own).move_aside()
    assert len(list(tmp_path.glob("own.old-*"))) == 2 and not own.exists()


@pytest.mark.parametrize("flag, name", [("--perceptual", "VGG_loss/6_max_ckpt.t7"), ("--data_dir", "faces"),
                                        ("--vgg_init", "VGG_loss/6_max_ckpt.t7")])
def test_overwrite_does_not_move_what_the_new_run_needs(faces, own, flag, name):
    shutil.copytree(faces, own / "faces")
    before = snapshot(own)
    for more in ([], ["--seeds", 2]):
        assert "would be moved aside" in refused_run(faces, own, "--overwrite", flag, own / name, *more)
    assert snapshot(own) == before


@pytest.mark.parametrize("kept", ["model", "VGG", "state"])
def test_results_alone_are_never_removed(faces, own, kept):
    """States without their manifest are no reason to start anew either."""
    for name in {"model", "VGG", "state"} - {kept}:
        shutil.rmtree(own / name)
    (own / "state" / "manifest.json").unlink(missing_ok=True)
    before = snapshot(own)
    words = ["--data_dir", faces, "--checkpoint_dir", own, "--gpu", -1]
    line = refused(train_command(*words))
    assert "already holds a run" in line and "--restore" in line and "--overwrite" in line
    line = refused(train_command(*words, "--auto_restore"))
    assert ("manifest.json" if kept == "state" else "already holds a run") in line
    assert snapshot(own) == before


def test_a_false_start_is_begun_again(faces, tmp_path):
    """Killed between the first state and its entry in the manifest: nothing is lost, and nothing stands in the way."""
    directory = RunDirectory(tmp_path / "run")
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


def test_two_runs_never_share_a_directory(faces, own):
    with locked(own):
        before = snapshot(own)
        for flags in ([], ["--overwrite"], ["--restore"], ["--auto_restore"]):
            line = refused(train_command("--data_dir", faces, "--checkpoint_dir", own, "--gpu", -1, *flags))
            assert "another run is writing here" in line
        assert snapshot(own) == before
    RunDirectory(own).lock()  # the system has released it


# ------------------------------------------------------------------------------------------ going on with a run

def test_restore_n_saves_the_new_position_first(own, monkeypatch):
    keep_networks(own, 1)
    assert StateStore(own / "state").load()["stage"] == 5

    def killed(*_):
        raise UserError("killed")

    monkeypatch.setattr(Run, "progress", killed)
    line = refused(train_command("--restore", 1, "--checkpoint_dir", own, "--gpu", -1))
    assert line.endswith("killed") and StateStore(own / "state").load()["stage"] == 1  # behind the GAN's first epoch


def test_other_contents_behind_the_same_names_are_noticed(own, broken):
    words = ["--restore", "--checkpoint_dir", own, "--data_dir", broken, "--gpu", -1]
    assert train_command(*words).returncode == 0  # a plain copy is no change
    shutil.copy(broken / "data" / "train_0002.jpg", broken / "data" / "train_0001.jpg")
    assert "other contents" in refused(train_command(*words))
    assert train_command(*words, "--force").returncode == 0


@pytest.mark.parametrize("more, said", [
    (["--image_size", 64], "was trained with image_size 32, not 64"),
    (["--select_on", "none"], "was trained on other images than those of this run")])
def test_another_perceptual_network_is_not_taken_by_accident(faces, finished, tmp_path, more, said):
    shutil.copytree(finished / "VGG_loss", tmp_path / "run" / "VGG_loss")
    line = refused_run(faces, tmp_path / "run", *more)
    assert said in line and "delete it to train another" in line


def test_a_perceptual_network_of_the_same_data_is_used_again(faces, finished, tmp_path):
    network = finished / "VGG_loss" / "6_max_ckpt.t7"
    for flags in ([], ["--perceptual", network]):
        run = tmp_path / f"run{len(flags)}"
        if not flags:
            shutil.copytree(finished / "VGG_loss", run / "VGG_loss")
        output = trained(faces, run, *flags, "--vgg_init", network, "--vgg_lr", 0)
        assert "perceptual epoch" not in output and "gan epoch 1" in output
        assert first_layer(run / "VGG" / "max_ckpt.t7") == first_layer(network)


def test_restored_behind_an_epoch_the_rate_is_that_of_then(faces, tmp_path):
    run, checkpoint = tmp_path / "run", tmp_path / "run" / "VGG" / "max_ckpt.t7"
    trained(faces, run, "--epochs", 2, "--select_on", "none", "--vgg_schedule", "cosine", "--vgg_lr", 0.1)
    keep_networks(run, 2)
    before, weights = torch.load(checkpoint, weights_only=True), first_layer(checkpoint)
    assert train_command("--restore", 2, "--checkpoint_dir", run, "--gpu", -1).returncode == 0  # the second round again
    assert torch.load(checkpoint, weights_only=True)["step"] == before["step"]
    assert first_layer(checkpoint) != weights


def test_restored_before_the_first_round_the_recognizer_starts_as_asked(faces, finished, tmp_path):
    run, network = tmp_path / "run", finished / "VGG_loss" / "6_max_ckpt.t7"
    trained(faces, run, "--round_every", 2, "--vgg_init", network, "--vgg_lr", 0)
    keep_networks(run, 1)
    assert train_command("--restore", 1, "--checkpoint_dir", run, "--gpu", -1, "--epochs", 2).returncode == 0
    assert first_layer(run / "VGG" / "max_ckpt.t7") == first_layer(network)


def test_an_older_run_goes_on_without_what_its_version_had_not(tmp_path):
    words = ["--preset", "tuned", "--checkpoint_dir", str(tmp_path)]
    kept = {**read_config(words).values(), "preset": "tuned"}
    assert kept.pop("even_phases") == 2
    kept["lambda_block_loss"] = 1.0  # and what that version had and this one has not
    (tmp_path / "options.json").write_text(json.dumps(kept))
    recipe = read_config([*words, "--restore"]).gan_recipe
    assert recipe.even_phases == 0 and recipe.ema == 0.999
    assert read_config([*words, "--restore", "--even_phases", "1"]).gan_recipe.even_phases == 1


# --------------------------------------------------------------------------------------- which directory it is

@pytest.mark.parametrize("words, folder", [
    ([], "checkpoint/checkpoint_demo"), (["--data_dir", "datasets/drawn"], "checkpoint/checkpoint_drawn"),
    (["--data_dir", "./datasets/demo/"], "checkpoint/checkpoint_demo"), (["--data", "3"], "checkpoint/checkpoint_raf"),
    (["--data_dir", "datasets/drawn", "--checkpoint_dir", "here"], "here")])
def test_the_demos_recipe_on_other_data_has_another_directory(words, folder):
    assert read_config(["--preset", "demo", *words]).run.checkpoint_dir == folder


def test_a_typed_data_set_takes_its_own_directory_and_not_that_of_preset_or_run(tmp_path):
    assert read_config(["--preset", "demo", "--data", "3"]).data.data_dir is None
    kept = read_config(["--data_dir", "here", "--checkpoint_dir", str(tmp_path)]).values()
    (tmp_path / "options.json").write_text(json.dumps(kept))
    evaluated = ["--mode", "evaluate", "--checkpoint_dir", str(tmp_path)]
    assert Path(read_config(evaluated).data.data_dir).name == "here"
    assert Path(read_config([*evaluated, "--data", "2"]).data.data_dir).name == "here"  # what the run was trained on
    assert read_config([*evaluated, "--data", "3"]).data.data_dir is None


def test_the_demo_draws_into_its_own_directory_alone(tmp_path):
    line = refused(train_command("--preset", "demo", "--data_dir", tmp_path / "mistyped", "--checkpoint_dir",
                                 tmp_path / "run", "--gpu", -1))
    assert "mistyped" in line and "no such" in line and not (tmp_path / "mistyped").exists()


def gan_of(folder: Path) -> SwapGAN:
    return load_swap_gan(folder / "model", None, EXPRESSIONS, 32, torch.device("cpu"))


def test_the_demo_swaps_with_the_newest_networks(faces, finished, tmp_path, monkeypatch):
    """Not with those of epoch N, behind which ``--restore N`` went on."""
    monkeypatch.chdir(tmp_path)
    config = read_config(["--checkpoint_dir", str(finished), "--data_dir", str(faces), "--gpu", "-1", "--restore"])
    seen = []
    monkeypatch.setattr(training.run, "swap", lambda given: seen.append(given.run.restore))
    monkeypatch.setitem(PRESETS["demo"], "checkpoint_dir", f"{finished}/")
    monkeypatch.setitem(PRESETS["demo"], "data_dir", str(faces))
    training.run.report(config.replaced(restore=10, preset="demo"), read_layout(faces), gan_of(finished))
    assert seen == [-1] and (tmp_path / "grid.jpg").is_file()


def test_another_run_of_the_demos_recipe_shows_its_pictures_in_its_own_directory(faces, own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = read_config(["--preset", "demo", "--checkpoint_dir", str(own), "--data_dir", str(faces), "--gpu", "-1",
                          "--image_size", "32"])
    training.run.report(config, read_layout(faces), gan_of(own))
    assert [path.name for path in tmp_path.iterdir()] == ["own"] and (own / "test_result" / "grid.jpg").is_file()
