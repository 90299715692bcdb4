"""Runs and their directories: no file is lost, none is shared; options, time, other runs' GANs."""

import itertools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from conftest import (TINY, fill, first_layer, keep_networks, networks, refused, restored, snapshot,
                      succeeds, tiny, train_command, trained)
from datasets.lists import read_label_list
from models.checkpoints import load_checkpoint
from options.command_line import resolve, series_members
from options.config import DEFAULTS, PRESETS, SIZES
from training.phases import all_stages
from training.run_directory import RunDirectory, StateStore
from training.start import warn_of_busy_cores
from training.trainer import Clock, Stage, duration, epoch_line
from utils import read_json, write_json


def new_run(data: Path, folder: Path, *flags: object):
    return train_command(*tiny(data, folder, *flags))


def test_foreign_files_are_refused_and_stay(faces, tmp_path):
    for names in (["img/holiday.jpg", "img/deep/er/x.jpg"], ["model/mine.pth", "state/mine.pth"],
                  ["img/epoch_001.jpg"], ["state/manifest.json"], ["run.json"], ["options.json"],
                  ["fold_02/options.json"]):
        mine = tmp_path / names[0].replace("/", "_")
        fill(mine, *names)
        if names == ["options.json"]:
            (mine / "options.json").write_text('{"lr": 1, "theirs": true}')
        before = snapshot(mine)
        for flags in ([], ["--overwrite"], ["--auto_restore"], ["--folds", 2, "--overwrite"]):
            refused(new_run(faces, mine, *flags))
        assert snapshot(mine) == before


@pytest.mark.parametrize("claimed", [True, False])
def test_overwrite_moves_everything_aside(faces, finished_copy, tmp_path, claimed):
    fill(finished_copy, "notes.txt", "model/mine.pth", "img/.a.jpg.ab12_xyz.part", "splits/x/y")
    if not claimed:  # like a run of the published code
        for name in ("run.json", "run.lock", "options.json"):
            (finished_copy / name).unlink()
    before = snapshot(finished_copy)
    output = trained(faces, finished_copy, "--overwrite")
    moved = next(tmp_path.glob("finished.old-*"))
    assert {**snapshot(moved), "run.lock": b""} == {**before, "run.lock": b""}
    assert f"moved what was in {finished_copy} to {moved}\n" in output
    assert not (finished_copy / "notes.txt").exists()
    RunDirectory(finished_copy).move_aside()
    assert len(list(tmp_path.glob("finished.old-*"))) == 2 and not finished_copy.exists()


@pytest.mark.parametrize("flag, name", [
    ("--perceptual", "VGG_loss/6_max_ckpt.t7"), ("--vgg_init", "VGG_loss/6_max_ckpt.t7"),
    ("--data_dir", "faces"), ("--gan_from", ".")])
def test_overwrite_does_not_move_inputs_of_the_new_run(faces, finished_copy, flag, name):
    shutil.copytree(faces, finished_copy / "faces")
    before = snapshot(finished_copy)
    argv = ["--checkpoint_dir", finished_copy, "--gpu", -1, "--overwrite"]
    if flag != "--gan_from":
        argv += [*TINY, "--data_dir", faces]
    for series in ([], ["--seeds", 2]):
        refused(train_command(*argv, flag, finished_copy / name, *series), "would be moved aside")
    assert snapshot(finished_copy) == before


@pytest.mark.parametrize("result", ["model", "VGG", "state"])
def test_a_run_with_any_results_is_never_replaced(faces, finished_copy, result):
    """Nor is one whose states have lost their manifest."""
    for name in {"model", "VGG", "state"} - {result}:
        shutil.rmtree(finished_copy / name)
    (finished_copy / "state" / "manifest.json").unlink(missing_ok=True)
    before = snapshot(finished_copy)
    refused(new_run(faces, finished_copy), "already holds a run", "--restore", "--overwrite")
    line = refused(train_command("--checkpoint_dir", finished_copy, "--gpu", -1, "--auto_restore"))
    assert ("manifest.json" if result == "state" else "already holds a run") in line
    assert snapshot(finished_copy) == before


@pytest.mark.parametrize("place", [".", "data", "run", "data/run"])
def test_a_run_does_not_write_into_its_data(broken, tmp_path, place):
    (tmp_path / "link").symlink_to(broken)
    before = snapshot(tmp_path)
    for root in (broken, tmp_path / "link"):
        refused(new_run(broken, root / place))
    assert snapshot(tmp_path) == before


def test_two_runs_never_share_a_directory(finished_copy):
    with RunDirectory(finished_copy) as directory:
        directory.lock()
        before = snapshot(finished_copy)
        for flag in ("--overwrite", "--restore", "--auto_restore"):
            line = refused(train_command("--checkpoint_dir", finished_copy, "--gpu", -1, flag))
            assert "another run is writing here" in line
        assert snapshot(finished_copy) == before


def test_a_resumed_run_prints_its_position_and_keeps_its_options(finished_copy):
    for wrong, *messages in ((["--preset", "tuned"], "--preset paper"),
                             (["--epochs", 1], "already trained more"),
                             (["--lr", 0.5], "--lr 0.0002", "--force")):
        refused(restored(finished_copy, *wrong), *messages)
    assert read_json(finished_copy / "options.json")["epochs"] == 2
    assert "the run is complete, its 5 epochs are trained" in succeeds(restored(finished_copy))
    output = succeeds(restored(finished_copy, "--epochs", 3))
    assert "resuming in gan epoch 3 of 3, after 0 of its 5 steps" in output
    assert read_json(finished_copy / "options.json")["epochs"] == 3


def test_more_epochs_than_before_say_that_a_cosine_rate_rises_again(faces, tmp_path):
    rises = "with --epochs 2 in place of 1, the recognizer's rate rises again"
    for schedule, note in (("cosine", rises), ("step", "")):
        trained(faces, tmp_path / schedule, "--vgg_schedule", schedule)
        output = succeeds(restored(tmp_path / schedule, "--epochs", 2))
        assert note in output and ("rises again" in output) == bool(note)
        assert "rises again" not in succeeds(restored(tmp_path / schedule))


def test_a_log_file_gets_a_line_before_the_first_epoch_ends(faces, tmp_path, monkeypatch):
    assert "step 1 of" not in trained(faces, tmp_path / "quick")
    monkeypatch.setattr("training.trainer.FIRST_LINE", -1.0)
    lines = trained(faces, tmp_path / "slow").splitlines()
    line, = (i for i, line in enumerate(lines) if line.startswith("perceptual epoch 1: step 1 of "))
    assert "perceptual epoch 1 of 1" in lines[line + 1]


@pytest.mark.parametrize("load, threads, is_said", [
    ("2.05 1 1 3/210 47", 2, True), ("0.10 1 1 3/210 47", 2, False), ("2.05 1 1 3/210 47", 1, False),
    ("2.05 1 1 1/210 47", 2, False), (None, 2, False)])  # the load of an earlier command; another system
def test_a_training_says_that_other_programs_keep_the_cores_busy(
        capsys, tmp_path, monkeypatch, load, threads, is_said):
    if load:
        (tmp_path / "loadavg").write_text(f"{load}\n")
    monkeypatch.setattr("training.start.LOAD", tmp_path / "loadavg")
    monkeypatch.setattr("training.start.usable_cores", lambda: 2)
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    warn_of_busy_cores()
    assert ("OMP_NUM_THREADS=1" in capsys.readouterr().err) == is_said


def test_states_are_saved_at_the_end_of_phases_and_of_stages_that_take_minutes(faces, tmp_path, monkeypatch):
    saved, save = [], StateStore.save
    monkeypatch.setattr(StateStore, "save", lambda self, state: saved.append(state["stage"]) or save(self, state))
    for folder, seconds in (("quick", 0), ("slow", 40)):  # between two calls of the clock
        monkeypatch.setattr("time.monotonic", itertools.count(0, seconds).__next__)
        trained(faces, tmp_path / folder, "--perceptual_epochs", 3, "--epochs", 2, "--round_every", 2)
    assert saved == [0, 3, 5, 6, *range(7)]


def test_other_contents_under_the_same_names_are_refused(finished_copy, broken):
    argv = [finished_copy, "--data_dir", broken]
    succeeds(restored(*argv))  # a copy of the data is no change
    shutil.copy(broken / "data" / "train_0002.jpg", broken / "data" / "train_0001.jpg")
    refused(restored(*argv), "other contents")
    succeeds(restored(*argv, "--force"))


def test_a_perceptual_network_is_used_for_the_same_data_alone(faces, finished, tmp_path):
    network = finished / "VGG_loss" / "6_max_ckpt.t7"
    for folder in ("run", "other"):
        shutil.copytree(network.parent, tmp_path / folder / "VGG_loss")
    for flags, message in ((["--image_size", 64], "was trained with image_size 32, not 64"),
                           (["--select_on", "none"], "was trained on other images than those of")):
        refused(new_run(faces, tmp_path / "other", *flags), message, "delete it to train another")
    for argv in ([tmp_path / "run"], [tmp_path / "new", "--perceptual", network]):
        output = trained(faces, *argv, "--vgg_init", network, "--vgg_lr", 0)
        assert "perceptual epoch" not in output and "gan epoch 1" in output
        assert first_layer(argv[0] / "VGG" / "max_ckpt.t7") == first_layer(network)


def test_a_run_of_an_older_version_continues_without_newer_options_and_those_that_are_gone(tmp_path):
    argv = ["--preset", "tuned", "--checkpoint_dir", str(tmp_path)]
    options = {**resolve(argv).values(), "preset": "tuned", "lambda_block_loss": 1.0, "compile": True}
    assert options.pop("even_phases") == 2
    (tmp_path / "options.json").write_text(json.dumps(options))
    recipe = resolve([*argv, "--restore"]).gan_recipe
    assert recipe.even_phases == 0 and recipe.ema == 0.998
    assert resolve([*argv, "--restore", "--even_phases", "1"]).gan_recipe.even_phases == 1
    (tmp_path / "options.json").write_text(json.dumps({**options, "std": 0.3}))
    assert "--std 0.3 is of an older version" in refused(lambda: resolve([*argv, "--restore"]))


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """Work in an empty directory, where presets and sizes find no run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_typed_options_override_a_size_and_a_size_overrides_a_preset(here):
    values = resolve("--preset tuned --size small --data_dir d --batch_size 5".split()).values()
    assert {name: values[name] for name in SIZES["small"]} == {**SIZES["small"], "batch_size": 5} and values["mix"] == 1
    assert all(DEFAULTS[name] == value for name, value in SIZES["paper"].items())


def test_the_readmes_command_for_photographs_is_what_experiments_measured(here):
    measured = """--preset tuned --data_dir d --image_size 64 --base_width 16 --vgg_width 8
        --fc_width 256 --vgg_init stage0 --perceptual_lr 1e-3 --perceptual_epochs 18
        --vgg_batch_size 16 --batch_size 16 --lr 2e-3 --ema 0.998 --zero_biases --lazy 4 --d_gain 8
        --d_lr_ratio 0.25 --epochs 28 --round_every 28 --round_epochs 6 --vgg_lr 1e-2
        --lambda_vgg_loss 16 --lambda_coarse_loss 50 --lambda_gray_loss 500 --even_phases 2"""
    values = resolve(measured.split()).values()
    assert values == {**resolve("--preset tuned --size small --data_dir d".split()).values(), "size": None}
    assert values["mix"] == 1 and values["guided"] and values["balanced"] and values["encode_synthesized"]


def test_seeds_share_a_validation_cut_but_for_an_older_series(here):
    """All seeds on one GAN have its validation images. An older series could cut others for each seed."""
    argv = ["--seeds", "3", "--seed", "5", "--data_dir", "d"]
    shared, separate = (series_members(resolve([*argv, *flags]))
                        for flags in ([], ["--split_seed=-1"]))
    assert [member.run.seed for member in shared] == [5, 6, 7]
    assert [member.validation_seed for member in separate] == [5, 6, 7]
    assert [member.validation_seed for member in shared] == [5, 5, 5]
    values = resolve(["--seed", "4", "--split_seed=-1"]).values()
    for name, seeds, cuts in (("one", None, [4, 4]), ("several", 2, [4, 5])):
        write_json(here / name / "options.json", {**values, "seeds": seeds})
        argv = ["--seeds", "2", "--checkpoint_dir", "run", "--gan_from", str(here / name)]
        assert [member.validation_seed for member in series_members(resolve(argv))] == cuts


@pytest.mark.parametrize("argv, folder", [
    ([], "checkpoint/checkpoint_demo"), (["--data_dir", "datasets/drawn"], "checkpoint/checkpoint_drawn"),
    (["--data_dir", "./datasets/demo/"], "checkpoint/checkpoint_demo"), (["--data", "3"], "checkpoint/checkpoint_raf"),
    (["--data_dir", "datasets/drawn", "--checkpoint_dir", "here"], "here")])
def test_the_demos_preset_on_other_data_has_another_directory(argv, folder):
    config = resolve(["--preset", "demo", *argv])
    assert config.run.checkpoint_dir == folder
    assert (config.data.data_dir is None) == ("--data" in argv)


def test_a_typed_data_set_has_precedence_over_the_directory_of_the_run(tmp_path):
    argv = ["--mode", "evaluate", "--checkpoint_dir", str(tmp_path)]
    write_json(tmp_path / "options.json", resolve(["--data_dir", "here", *argv[2:]]).values())
    for more, name in (([], "here"), (["--data", "2"], "here"), (["--data", "3"], "")):
        assert Path(resolve([*argv, *more]).data.data_dir or "").name == name


def test_the_demo_writes_its_results_here_and_draws_only_into_its_own_directory(
        faces, here, monkeypatch):
    argv = ["--preset", "demo", *TINY]
    line = refused(train_command(*argv, "--data_dir", "mistyped", "--checkpoint_dir", "run"))
    assert "mistyped" in line and "no such" in line and not any(here.iterdir())
    for name, value in (("data_dir", faces), ("checkpoint_dir", here / "run")):
        monkeypatch.setitem(PRESETS["demo"], name, str(value))
    succeeds(train_command(*argv))
    assert {path.name for path in here.iterdir()} > {"grid.jpg", "result.jpg", "Con_Matrix.png"}
    assert "the run is complete" in succeeds(train_command(*argv, "--restore"))


PHASES = {name: SimpleNamespace(steps=lambda epoch, count=count: count * (epoch + 1))
          for name, count in (("perceptual", 5), ("gan", 10), ("recognizer", 2))}


def test_the_line_of_an_epoch_names_stage_metrics_and_the_time_left_of_timed_phases():
    clock, stages = Clock(torch.device("cpu")), all_stages(3, 4, 2, 1)
    clock.seconds_per_step["perceptual"] = 2.0
    assert clock.estimate(stages, PHASES) == (2 * 5 * (1 + 2 + 3), ["gan", "recognizer"])
    clock.seconds_per_step["gan"] = 3.0
    assert clock.time_left(stages[3:], PHASES) == "5 min + recognizer left"
    assert clock.time_left([], PHASES) == "training done"
    durations = [duration(seconds) for seconds in (0.4, 89, 91, 5400, 36240)]
    assert durations == ["0 s", "89 s", "2 min", "1 h 30 min", "10 h 4 min"]
    metrics = {"G": 123.456, "D": 0.98765, "adv": 1.0, "val_acc": 66.6667}
    left, stages = "10 h 4 min + recognizer left", all_stages(3, 120, 2, 1)
    line = epoch_line(Stage("gan", 98), stages, metrics, {"images_per_second": 123.45}, left)
    assert line.startswith("stage 2 of 3, gan epoch 99 of 120:") and "G 123.5  D 0.9877  val_acc 66.67" in line
    assert "adv" not in line and 90 < len(line) <= 100 and line.endswith(left)


def test_a_dry_run_prints_the_time_and_writes_nothing(faces, here, monkeypatch):
    monkeypatch.setattr("training.trainer.near_chance", lambda counts: True)  # as after a few steps of stage 0
    before = snapshot(faces)
    output = succeeds(new_run(faces, here / "run", "--epochs", 3, "--seeds", 2, "--dry_run"))
    assert "30 training, 6 validation and 18 test images" in output and "for 2 runs" in output
    lines = "perceptual: 1 epochs", "gan: 3 epochs of 5 steps", "recognizer: 3 epochs"
    assert all(line in output for line in lines)
    line = refused(train_command("--preset", "demo", "--dry_run"))
    assert "see it work with: python train.py --preset demo" in line
    assert list(here.iterdir()) == [] and snapshot(faces) == before


def test_a_recognizer_is_trained_alone_on_the_gan_of_another_run(finished, tmp_path):
    argv, run = ["--gan_from", finished, "--gan_raw", 0, "--gpu", -1], tmp_path / "run"
    output = succeeds(train_command(*argv, "--checkpoint_dir", run, "--seed", 3, "--vgg_init", "stage0"))
    assert "gan epoch" not in output and "stage 1 of 1, recognizer epoch 2 of 2" in output
    assert networks(run, "model/*_temp.pth") == networks(finished, "model/*_temp.pth")
    options = read_json(run / "options.json")
    assert options.items() > {"gan_from": str(finished), "base_width": 2, "seed": 3, "vgg_init": "stage0"}.items()
    cuts = [read_label_list(folder / "splits" / "images_val.list").keys() for folder in (run, finished)]
    assert cuts[0] == cuts[1]  # the GAN was not trained on these images
    keep_networks(run, 1)
    refused(restored(run, "--restore", 1), "trains no GAN")
    line = refused(train_command(*argv, "--checkpoint_dir", tmp_path / "other", "--lr", 5))
    assert "its GAN was trained with --lr 0.0002" in line and not (tmp_path / "other").exists()
    refused(train_command(*argv), "--checkpoint_dir")
    argv[1] = tmp_path
    refused(train_command(*argv, "--checkpoint_dir", "x"), "options.json: no such file")


def test_a_run_that_lacks_what_is_taken_from_it_is_refused_before_any_work(finished_copy, tmp_path):
    argv = ["--gan_from", finished_copy, "--checkpoint_dir", tmp_path / "new", "--gpu", -1]
    shutil.rmtree(finished_copy / "VGG_loss")
    line = refused(train_command(*argv, "--vgg_init", "stage0"))
    assert "has no perceptual network (VGG_loss/6_max_ckpt.t7)" in line
    shutil.rmtree(finished_copy / "model")
    for flags in ([], ["--seeds", 2], ["--seeds", 2, "--dry_run"], ["--seeds", 2, "--jobs", 2]):
        line = refused(train_command(*argv, *flags))
        assert f"{finished_copy / 'model' / 'Enc_iter_temp.pth'} is not there" in line
    assert not (tmp_path / "new").exists()


def test_the_recognizer_alone_is_the_baseline_of_joint_training(faces, tmp_path):
    run = tmp_path / "run"
    output = trained(faces, run, "--recognizer_only", "--epochs", 2)
    assert "stage 1 of 1, recognizer epoch 2 of 2" in output and not list(run.glob("model/Enc*"))
    assert not any(weights.any() for weights in load_checkpoint(run / "VGG" / "Enc_max.pth").values())
    assert "the run is complete" in succeeds(restored(run))
    refused(restored(run, "--mode", "grid", "--output", tmp_path / "grid.jpg"))
    line = refused(new_run(faces, tmp_path / "other", "--recognizer_only", "--round_epochs", 0))
    assert "--recognizer_only: no recognizer round" in line


def test_a_gan_that_was_trained_on_test_images_is_refused(broken, tmp_path):
    trained(broken, tmp_path / "gan")
    argv = ["--gan_from", tmp_path / "gan", "--checkpoint_dir", tmp_path / "run", "--gpu", -1]
    succeeds(train_command(*argv, "--checkpoint_dir", tmp_path / "test", "--select_on", "test"))
    train, test = ((broken / name).read_text().splitlines() for name in ("images.list", "images_test.list"))
    (broken / "images.list").write_text("\n".join(train[:-6] + test[:6]))
    (broken / "images_test.list").write_text("\n".join(train[-6:] + test[6:]))
    refused(train_command(*argv), "perhaps on test images")
    assert not (tmp_path / "run").exists()
    succeeds(train_command(*argv, "--force"))
