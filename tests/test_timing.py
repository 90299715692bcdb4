"""Remaining time, the line of an epoch, --dry_run, --size, --gan_from, and what a resumed run prints and saves."""

import itertools
import json
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch

from conftest import TINY, keep_networks, refused, snapshot, succeeds, train_command, trained
from datasets.lists import read_label_list
from models.checkpoints import load_checkpoint
from options.command_line import resolve, series_members
from options.config import DEFAULTS, SIZES
from training.phases import RecognizerPhase, all_stages
from training.run_directory import StateStore
from training.start import seconds_per_step
from training.trainer import Clock, RunLog, Stage, duration, epoch_line
from utils import write_json

PHASES = {name: SimpleNamespace(steps=lambda epoch, count=count: count * (epoch + 1))
          for name, count in (("perceptual", 5), ("gan", 10), ("recognizer", 2))}


def test_time_left_is_that_of_the_timed_phases():
    clock = Clock(torch.device("cpu"))
    clock.seconds_per_step["perceptual"] = 2.0
    stages = all_stages(3, 4, 2, 1)
    assert clock.estimate(stages, PHASES) == (2 * 5 * (1 + 2 + 3), ["gan", "recognizer"])
    clock.seconds_per_step["gan"] = 3.0
    assert clock.estimate(stages[3:], PHASES) == (3 * 10 * (1 + 2 + 3 + 4), ["recognizer"])
    assert clock.time_left(stages[3:], PHASES) == "5 min + recognizer left"
    assert clock.time_left([], PHASES) == "training done"
    durations = [duration(seconds) for seconds in (0.4, 89, 91, 5400, 36240)]
    assert durations == ["0 s", "89 s", "2 min", "1 h 30 min", "10 h 4 min"]


def test_the_line_of_an_epoch_names_stage_and_metrics_in_100_columns():
    stages = all_stages(3, 120, 2, 1)
    metrics = {"G": 123.456, "D": 0.98765, "adv": 1.0, "val_acc": 66.6667}
    line = epoch_line(Stage("gan", 98), stages, metrics, {"images_per_second": 123.45}, "10 h 4 min + recognizer left")
    assert line.startswith("stage 2 of 3, gan epoch 99 of 120:") and "G 123.5  D 0.9877  val_acc 66.67" in line
    assert "adv" not in line and 90 < len(line) <= 100 and line.endswith("10 h 4 min + recognizer left")


def test_typed_options_override_a_size_and_a_size_overrides_a_preset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = resolve(["--preset", "tuned", "--size", "small", "--data_dir", "d", "--batch_size", "5"])
    values = config.values()
    assert {name: values[name] for name in SIZES["small"]} == {**SIZES["small"], "batch_size": 5} and values["mix"] == 1
    assert all(DEFAULTS[name] == value for name, value in SIZES["paper"].items())


def test_the_readmes_command_for_photographs_is_what_experiments_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    measured = ("--preset tuned --data_dir d --image_size 64 --base_width 16 --vgg_width 8 --fc_width 256 --vgg_init stage0 "
                "--perceptual_lr 1e-3 --perceptual_epochs 18 --vgg_batch_size 16 --batch_size 16 --lr 2e-3 --ema 0.998 "
                "--zero_biases --lazy 4 --d_gain 8 --d_lr_ratio 0.25 --epochs 28 --round_every 28 --round_epochs 6 "
                "--vgg_lr 1e-2 --lambda_vgg_loss 16 --lambda_coarse_loss 50 --lambda_gray_loss 500 --even_phases 2")
    values = resolve(measured.split()).values()
    assert values == {**resolve("--preset tuned --size small --data_dir d".split()).values(), "size": None}
    assert values["mix"] == 1 and values["guided"] and values["balanced"] and values["encode_synthesized"]


def test_a_backbone_that_is_no_vgg_does_not_start_from_the_perceptual_network_of_a_size(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["--backbone", "other", "--size", "small", "--data_dir", "d"]
    assert resolve(argv).perceptual.vgg_init == "none" and resolve(argv[2:]).perceptual.vgg_init == "stage0"
    line = refused(lambda: resolve([*argv, "--vgg_init", "stage0"]))
    assert "--backbone other cannot start; use none or a file of its own" in line


def test_seeds_share_a_validation_cut_without_split_seed_minus_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shared, separate = (series_members(resolve(["--seeds", "3", "--seed", "5", "--data_dir", "d", *more]))
                        for more in ([], ["--split_seed", "-1"]))
    assert [member.run.seed for member in shared] == [5, 6, 7] == [member.validation_seed for member in separate]
    assert [member.validation_seed for member in shared] == [5, 5, 5]


@pytest.mark.parametrize("steps", [2, 3, 4, 50])  # of an epoch
def test_a_dry_run_measures_the_time_of_a_step_in_epochs_of_any_length(monkeypatch, steps):
    seconds: list[int] = []  # one entry for each second that has passed
    monkeypatch.setattr("time.perf_counter", lambda: len(seconds))
    phase = SimpleNamespace(name="gan", steps=lambda epoch: steps, batches=lambda epoch, start: iter(range(steps)),
                            step=lambda batch: seconds.append(1) or {}, end_epoch=lambda epoch, means: None)
    assert seconds_per_step(phase, [Stage("gan", 0)], 1, torch.device("cpu")) == 1


def test_a_dry_run_prints_the_time_and_writes_nothing(faces, tmp_path, monkeypatch):
    monkeypatch.setattr("training.trainer.near_chance", lambda counts: True)  # as after a few steps of stage 0
    before = snapshot(faces)
    output = succeeds(train_command("--data_dir", faces, "--checkpoint_dir", tmp_path / "run", *TINY, "--epochs", 3,
                                    "--seeds", 2, "--dry_run"))
    assert "30 training, 6 validation and 18 test images" in output and "for 2 runs" in output
    lines = "perceptual: 1 epochs", "gan: 3 epochs of 5 steps", "recognizer: 3 epochs"
    assert all(line in output for line in lines)
    monkeypatch.chdir(tmp_path)
    assert "see it work with: python train.py --preset demo" in refused(train_command("--preset", "demo", "--dry_run"))
    assert list(tmp_path.iterdir()) == [] and snapshot(faces) == before


def test_a_recognizer_is_trained_alone_on_the_gan_of_another_run(finished, tmp_path):
    argv, run = ["--gan_from", finished, "--gan_raw", 0, "--gpu", -1], tmp_path / "run"
    output = succeeds(train_command(*argv, "--checkpoint_dir", run, "--seed", 3, "--vgg_init", "stage0"))
    assert "gan epoch" not in output and "stage 1 of 1, recognizer epoch 2 of 2" in output
    for name in ("Enc", "Dec", "D1"):
        ours, theirs = (torch.load(folder / "model" / f"{name}_iter_temp.pth", weights_only=True)
                        for folder in (run, finished))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    options = json.loads((run / "options.json").read_text())
    keep_networks(run, 1)
    assert "trains no GAN" in refused(train_command("--restore", 1, "--checkpoint_dir", run, "--gpu", -1))
    assert options.items() > {"gan_from": str(finished), "base_width": 2, "seed": 3, "vgg_init": "stage0"}.items()
    cuts = [read_label_list(folder / "splits" / "images_val.list").keys() for folder in (run, finished)]
    assert cuts[0] == cuts[1]  # the GAN was not trained on these images
    line = refused(train_command(*argv, "--checkpoint_dir", tmp_path / "other", "--lr", 5))
    assert "its GAN was trained with --lr 0.0002" in line and not (tmp_path / "other").exists()
    assert "--checkpoint_dir" in refused(train_command(*argv))
    assert "options.json: no such file" in refused(train_command("--gan_from", tmp_path, "--checkpoint_dir", "x"))


def test_a_dry_run_of_a_recognizer_alone_takes_the_perceptual_network_of_the_gans_run(finished, tmp_path):
    output = succeeds(train_command("--gan_from", finished, "--checkpoint_dir", tmp_path / "run", "--vgg_init",
                                    "stage0", "--gpu", -1, "--dry_run"))
    assert "schedule  recognizer: 2 epochs" in output and "gan:" not in output


def test_a_run_that_lacks_what_is_taken_from_it_is_refused_before_any_work(finished_copy, tmp_path):
    seeds, new = tmp_path / "seeds", tmp_path / "new"
    shutil.copytree(finished_copy, seeds / "seed_00")
    shutil.copy(finished_copy / "options.json", seeds)
    for flags in ([], ["--seeds", 2], ["--seeds", 2, "--dry_run"], ["--seeds", 2, "--jobs", 2]):
        line = refused(train_command("--gan_from", seeds, *flags, "--checkpoint_dir", new, "--gpu", -1))
        assert f"{seeds / 'model' / 'Enc_iter_temp.pth'} is not there" in line
    shutil.rmtree(finished_copy / "VGG_loss")
    argv = ["--gan_from", finished_copy, "--checkpoint_dir", new, "--gpu", -1, "--vgg_init", "stage0"]
    assert "has no perceptual network (VGG_loss/6_max_ckpt.t7)" in refused(train_command(*argv))
    assert not new.exists()


def test_the_recognizer_alone_is_the_baseline_of_joint_training(faces, tmp_path):
    run = tmp_path / "run"
    output = trained(faces, run, "--recognizer_only", "--epochs", 2)
    assert "stage 1 of 1, recognizer epoch 2 of 2" in output and not list(run.glob("model/Enc*"))
    assert not any(weights.any() for weights in load_checkpoint(run / "VGG" / "Enc_max.pth").values())
    assert "the run is complete" in succeeds(train_command("--restore", "--checkpoint_dir", run, "--gpu", -1))
    refused(train_command("--mode", "grid", "--restore", "--checkpoint_dir", run, "--output", tmp_path / "grid.jpg"))
    line = refused(train_command("--data_dir", faces, *TINY, "--recognizer_only", "--round_epochs", 0))
    assert "--recognizer_only: no recognizer round" in line


def test_a_gan_that_was_trained_on_test_images_is_refused(broken, tmp_path):
    trained(broken, tmp_path / "gan")
    argv = ["--gan_from", tmp_path / "gan", "--checkpoint_dir", tmp_path / "run", "--gpu", -1]
    succeeds(train_command(*argv, "--checkpoint_dir", tmp_path / "test", "--select_on", "test"))
    train, test = ((broken / name).read_text().splitlines() for name in ("images.list", "images_test.list"))
    (broken / "images.list").write_text("\n".join(train[:-6] + test[:6]))
    (broken / "images_test.list").write_text("\n".join(train[-6:] + test[6:]))
    assert "perhaps on test images" in refused(train_command(*argv)) and not (tmp_path / "run").exists()
    succeeds(train_command(*argv, "--force"))


def test_a_gan_is_used_again_after_its_images_have_moved(broken, tmp_path):
    gan, new = tmp_path / "gan", tmp_path / "new"
    trained(broken, gan, "--seeds", 2)
    argv = ["--gan_from", gan, "--gan_raw", 0, "--gpu", -1, "--checkpoint_dir"]
    broken.rename(new)
    for others in ([*argv, tmp_path / "run"], ["--restore", "--gpu", -1, "--checkpoint_dir", gan],
                   ["--gan_from", gan / "seed_01", *argv[2:], tmp_path / "run"]):
        assert "have moved to with --data_dir" in refused(train_command(*others))
    succeeds(train_command(*argv, tmp_path / "run", "--data_dir", new))


def test_all_seeds_on_one_gan_have_its_validation_images(tmp_path):
    values = resolve(["--seed", "4", "--split_seed=-1"]).values()
    for name, seeds in (("one", None), ("several", 2)):
        write_json(tmp_path / name / "options.json", {**values, "seeds": seeds})
    argv = ["--seeds", "2", "--checkpoint_dir", str(tmp_path / "run"), "--gan_from"]
    cuts = [[member.validation_seed for member in series_members(resolve([*argv, str(tmp_path / name)]))]
            for name in ("one", "several")]
    assert cuts == [[4, 4], [4, 5]]


def test_the_run_whose_gan_is_used_is_not_moved_aside(finished_copy):
    before = snapshot(finished_copy)
    argv = ["--gan_from", finished_copy, "--checkpoint_dir", finished_copy, "--overwrite", "--gpu", -1]
    for series in ([], ["--seeds", 2]):
        assert "would be moved aside" in refused(train_command(*argv, *series))
    assert snapshot(finished_copy) == before


def test_a_resumed_run_prints_its_position_and_keeps_its_options(finished_copy):
    argv = ["--restore", "--checkpoint_dir", finished_copy, "--gpu", -1]
    for wrong, message in ((["--preset", "tuned"], "--preset paper"), (["--epochs", 1], "already trained more")):
        assert message in refused(train_command(*argv, *wrong))
    assert json.loads((finished_copy / "options.json").read_text())["epochs"] == 2
    assert "the run is complete, its 5 epochs are trained" in succeeds(train_command(*argv))
    assert "resuming in gan epoch 3 of 3, after 0 of its 5 steps" in succeeds(train_command(*argv, "--epochs", 3))
    assert json.loads((finished_copy / "options.json").read_text())["epochs"] == 3


def test_states_are_saved_at_the_end_of_phases_and_of_stages_that_take_minutes(faces, tmp_path, monkeypatch):
    saved, save = [], StateStore.save
    monkeypatch.setattr(StateStore, "save", lambda self, state: saved.append(state["stage"]) or save(self, state))
    for folder, seconds in (("quick", 0), ("slow", 40)):  # between two calls of the clock
        monkeypatch.setattr("time.monotonic", itertools.count(0, seconds).__next__)
        trained(faces, tmp_path / folder, "--perceptual_epochs", 3, "--epochs", 2, "--round_every", 2)
    assert saved == [0, 3, 5, 6, *range(7)]


def test_a_row_of_the_log_takes_no_plan_of_its_epoch(faces, tmp_path, monkeypatch):
    counts, plan = [], RecognizerPhase._plan
    monkeypatch.setattr(RecognizerPhase, "_plan", lambda self, epoch: counts.append(epoch) or plan(self, epoch))
    trained(faces, tmp_path / "run", "--log_every", 1, "--gan_raw", 4)
    assert 0 < len(counts) < 10  # for 15 steps; with 280,000 images a plan takes more than a second


def test_an_unusable_tensorboard_leaves_the_csv_file(tmp_path, monkeypatch):
    class TooOld:
        def __getattr__(self, name: str):
            raise TypeError("Descriptors cannot be created directly")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", TooOld())
    RunLog(tmp_path).write("gan", 1, 0, {"G": 0.5})
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1:] == ["gan,1,0,G,0.5"]
