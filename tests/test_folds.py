"""Series of folds and seeds: the split into folds, the same networks however they are trained, and pooled results."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from conftest import (AT_A_STEP, REPOSITORY, evaluated, fill, matrix_command, matrix_of, networks,
                      refused, restored, snapshot, succeeds, tiny, train_command, train_until)
from datasets.layout import Sample, read_layout
from datasets.splits import cut_folds, with_fold
from evaluation.comparison import Spread
from test_processes import torchrun
from training.run_directory import RunDirectory, SeriesDirectory
from utils import UserError, read_json, write_json

FOLDS = ["fold_01", "fold_02", "fold_03"]


def arguments(faces: Path, folder: Path, *flags: object) -> list[object]:
    return tiny(faces, folder, "--batch_size", 24, "--vgg_batch_size", 24, *flags)


@pytest.fixture(scope="module")
def series(faces, tmp_path_factory) -> Path:
    """A finished series of three folds of the nine persons."""
    folder = tmp_path_factory.mktemp("series") / "run"
    output = succeeds(train_command(*arguments(faces, folder, "--folds", 3)))
    assert "95 % interval" in output and "fold_03, 3 of 3" in output
    return folder


def matrix(folder: Path) -> dict:
    return matrix_of(folder / "test_result")


def names_in(path: Path) -> set[str]:
    return {line.split()[0] for line in path.read_text().splitlines()}


def test_no_person_is_in_two_splits_and_every_image_is_tested_once(faces, series):
    subject, tested = {s.name: s.subject for s in read_layout(faces).split("all")}, []
    for fold in FOLDS:
        splits = series / fold / "splits"
        assert (splits / f"{fold}.list").read_text() == (series / "splits" / f"{fold}.list").read_text()
        test, val = names_in(splits / f"{fold}.list"), names_in(splits / "images_val.list")
        train = re.findall(r"(?:train|test)_\d{4}", (splits / "images_gan_nature.list").read_text())
        test_persons, val_persons, train_persons = ({subject[image] for image in split} for split in (
            test, val, {f"{stem}.jpg" for stem in train}))
        assert len(test_persons) == 3 and test_persons | val_persons | train_persons == set(subject.values())
        assert not test_persons & val_persons and not (test_persons | val_persons) & train_persons
        tested += test
    assert sorted(tested) == sorted(subject)


@pytest.mark.parametrize("by", ["subject", "image"])
def test_folds_are_equal_parts_without_a_common_person_and_with_all_expressions(by):
    draw = random.Random(0)
    samples = [Sample(f"{person}_{i}.jpg", draw.choice([0, 0, 0, 1, 1, 2]), Path("x"), f"p{person}")
               for person in range(300) for i in range(draw.randint(1, 3))]
    folds, total = cut_folds(samples, 5, 0, by=by), Counter(sample.label for sample in samples)
    assert sorted(sum(folds, []), key=str) == sorted(samples, key=str)
    for fold in folds:
        counts = Counter(sample.label for sample in fold)
        assert all(abs(counts[label] - total[label] / 5) <= 1 for label in total)
    persons = sum(len({sample.subject for sample in fold}) for fold in folds)
    assert persons == 300 if by == "subject" else persons > 300
    shuffled = cut_folds(draw.sample(samples, len(samples)), 5, 0, by=by)
    assert [set(fold) for fold in shuffled] == [set(fold) for fold in folds]
    assert folds != cut_folds(samples, 5, 1, by=by)
    with pytest.raises(UserError, match="only 2 subjects"):
        cut_folds(samples[:1] + samples[-1:], 3, 0)


def test_target_only_faces_are_trained_on_except_those_of_test_persons(tmp_path):
    (tmp_path / "data").mkdir()
    rows = [(f"{person}{label}.jpg", label, person) for person in "abcdef" for label in (0, 1, 2)]
    (tmp_path / "images.list").write_text("".join(f"{name} {label}\n" for name, label, _ in rows))
    (tmp_path / "subjects.list").write_text("".join(f"{name} {person}\n" for name, _, person in rows))
    (tmp_path / "expressions.txt").write_text("happy sad target_only")
    layout = read_layout(tmp_path, need_test=False)
    assert len(layout.target_only) == 6 and layout.test == []
    fold = with_fold(layout, 3, 2, seed=0)
    test_persons = {sample.subject for sample in fold.test}
    assert len(test_persons) == 2 and len(fold.test) == 4 and len(fold.train) == 8 and fold.val == []
    assert {sample.subject for sample in fold.target_only} == set("abcdef") - test_persons


def test_a_series_killed_in_its_second_fold_and_restored_ends_the_same(faces, series, tmp_path, every_step_is_saved):
    folder = tmp_path / "run"
    result = train_until(arguments(faces, folder, "--folds", 3), AT_A_STEP, 16)
    assert result.returncode == -signal.SIGKILL and "gan epoch 1 of 1" in result.stdout.rstrip().splitlines()[-1]
    assert (folder / "fold_01" / "test_result" / "Con_Matrix.png").is_file() and not (folder / "fold_03").exists()
    assert not (folder / "fold_02" / "test_result").exists() and any((folder / "fold_02" / "state").glob("*.pth"))
    output = succeeds(restored(folder))
    assert output.count("perceptual epoch 1") == 1  # that of the third fold
    assert all(networks(folder / fold) == networks(series / fold) for fold in FOLDS)
    assert {**matrix(folder), "title": ""} == {**matrix(series), "title": ""}


def test_a_fold_that_was_trained_alone_is_that_of_the_series(faces, series, tmp_path):
    folder, argv = tmp_path / "run", arguments(faces, tmp_path / "run", "--folds", 3)
    succeeds(train_command(*argv, "--fold", 2))
    assert networks(folder / "fold_02") == networks(series / "fold_02")
    assert "gan epoch" not in succeeds(restored(folder / "fold_02"))
    assert os.listdir(folder) == ["fold_02"]
    shutil.copytree(series / "fold_01", folder / "fold_01")
    refused(train_command(*argv), "fold_01 already holds a run: resume it with --restore")
    output = succeeds(train_command(*argv, "--restore"))
    assert output.count("the run is complete") == 2 and matrix(folder)["counts"] == matrix(series)["counts"]


def test_folds_side_by_side_that_are_stopped_and_restored_end_the_same(faces, series, tmp_path):
    """SIGTERM reaches the processes of the folds: they save and stop."""
    folder = tmp_path / "run"
    argv = map(str, arguments(faces, folder, "--folds", 3, "--jobs", 2))
    process = subprocess.Popen([sys.executable, "train.py", *argv], cwd=REPOSITORY, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    log, began = folder / "fold_01.txt", time.monotonic()
    while not (log.is_file() and "perceptual epoch 1" in log.read_text()):
        assert time.monotonic() - began < 120
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, err
    first, last = err.strip().splitlines()
    assert "stopping after this step" in first and f"--restore --checkpoint_dir {folder}" in last
    assert "the state is saved" in log.read_text() and not (folder / "fold_03").exists()
    output = succeeds(restored(folder))
    assert "perceptual epoch 1" not in output.split("fold_02, 2 of 3")[0]
    assert all(networks(folder / fold) == networks(series / fold) for fold in FOLDS)
    assert matrix(folder)["counts"] == matrix(series)["counts"]


def test_a_single_fold_takes_the_gan_of_its_fold_in_a_series(series, tmp_path):
    argv = ["--gan_from", series, "--fold", 2, "--gan_raw", 0, "--checkpoint_dir", tmp_path, "--gpu", -1]
    assert "fold_02: 30 training" in succeeds(train_command(*argv))
    assert read_json(tmp_path / "fold_02" / "options.json")["gan_from"] == str(series / "fold_02")
    assert "the run is complete" in succeeds(train_command(*argv, "--restore"))
    refused(train_command(*argv, "--neutral", "neutral"), "trained with no --neutral;")


def test_a_resumed_series_keeps_the_precision_that_each_run_chose(faces, series, tmp_path):
    """It is resumed and not moved aside by ``--auto_restore`` with ``--overwrite``."""
    folder = Path(shutil.copytree(series, tmp_path / "run"))
    options = read_json(folder / "fold_01" / "options.json")
    assert (options["amp"], read_json(folder / "options.json")["amp"]) == ("off", "auto")
    write_json(folder / "fold_01" / "options.json", {**options, "amp": "bf16"})
    argv = arguments(faces, folder, "--folds", 3, "--auto_restore", "--overwrite")
    assert succeeds(train_command(*argv)).count("the run is complete") == 3
    assert [read_json(folder / fold / "options.json")["amp"] for fold in FOLDS] == ["bf16", "off", "off"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_failing_fold_does_not_stop_the_others(faces, tmp_path):
    with SeriesDirectory(tmp_path / "run") as directory:
        directory.claim()
    fill(directory.folder / "fold_01", "VGG_loss/6_max_ckpt.t7")
    line = refused(train_command(*arguments(faces, directory.folder, "--folds", 2, "--jobs", 2)))
    assert "1 of 2 runs failed" in line and str(directory.folder / "fold_01.txt") in line and "--restore" in line
    assert "6_max_ckpt.t7: refused" in (directory.folder / "fold_01.txt").read_text()
    assert matrix(directory.folder / "fold_02")["images"] in (24, 30)


def test_several_processes_train_one_fold_after_the_other(faces, tmp_path):
    result = torchrun(2, "train.py", *arguments(faces, tmp_path / "run", "--folds", 2))
    output = succeeds(result)
    assert output.count("on 2 x cpu") == output.count("gan epoch 1") == 2  # once for each fold
    assert output.count("2 folds of") == 1 and "Warning" not in result.stderr
    log = (tmp_path / "run" / "fold_01" / "log" / "metrics.csv").read_text()
    assert log.count("gan_epoch,1,0,G,") == 1
    assert sum(map(sum, matrix(tmp_path / "run")["counts"])) == 54


def test_the_pooled_matrix_is_the_sum_of_the_folds_each_on_its_test_images(series, tmp_path):
    pooled, runs = matrix(series), [matrix(series / fold) for fold in FOLDS]
    assert pooled["counts"] == np.sum([run["counts"] for run in runs], 0).tolist() and pooled["images"] == 54
    accuracies = [run["accuracy"] for run in runs]
    assert [(run["run"], run["accuracy"]) for run in pooled["runs"]] == list(zip(FOLDS, accuracies))
    assert pooled["over_runs"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracies), abs=1e-3)
    assert (series / "test_result" / "Con_Matrix.png").is_file()
    folders = [series / fold / "VGG" for fold in FOLDS]
    succeeds(matrix_command("--resume_dir", *folders, "--output_dir", tmp_path))
    repeated = matrix_of(tmp_path)
    assert repeated["counts"] == pooled["counts"] and repeated["over_runs"] == pooled["over_runs"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "Con_Matrix.png", "confusion.tex", "confusion_matrix.json", "predictions.csv"]
    refused(matrix_command("--resume_dir", folders[0], folders[1], folders[0]), "named twice")


def test_mean_deviation_and_interval_equal_those_computed_by_hand():
    spread = Spread.from_values([50.0, 60.0, 70.0])
    half = 4.302652729911275 * 10 / 3 ** 0.5  # Student's t of two degrees of freedom at 97.5 %
    values = spread.mean, spread.deviation, spread.low, spread.high
    assert values == pytest.approx((60, 10, 60 - half, 60 + half))
    assert np.isnan(Spread.from_values([50.0]).deviation)


def test_a_fold_is_never_evaluated_on_its_training_images(series, faces, broken, tmp_path):
    run, out = tmp_path / "fold_02", tmp_path / "out"
    shutil.copytree(series / "fold_02", run)
    fold_list = run / "splits" / "fold_02.list"
    for data in ([], ["--data_dir", faces], ["--data_dir", broken]):
        assert evaluated(run, out, *data)["counts"] == matrix(run)["counts"]
        tested = [line.split(",")[0] for line in (out / "predictions.csv").read_text().splitlines()[1:]]
        assert set(tested) == names_in(fold_list) and len(tested) == 18
    fold_list.write_text("\n".join(fold_list.read_text().splitlines()[1:]) + "\n")
    refused(matrix_command("--resume_dir", run / "VGG"), "does not list the images")
    fold_list.unlink()
    for result in (matrix_command("--resume_dir", run / "VGG"), restored(run, "--mode", "grid")):
        refused(result, "from a backup")


def test_modes_use_a_fold_like_any_other_run(series, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(series / "fold_03", "fold_03")
    for mode in (["grid"], ["generate", "-o", "generated"], ["evaluate"]):
        succeeds(restored("fold_03", "--mode", *mode))
        refused(restored(series, "--mode", *mode), "holds several runs", "fold_01")
    assert {f"real_test_{name}" for name in names_in(series / "splits" / "fold_03.list")} \
        == names_in(Path("generated/images_test.list"))
    assert read_json("fold_03/synthesis.json")["swaps"] == 18 * 5


def test_images_without_a_subject_are_refused(broken, tmp_path):
    lines = (broken / "subjects.list").read_text().splitlines(keepends=True)
    (broken / "subjects.list").write_text("".join(lines[2:]))
    line = refused(train_command(*arguments(broken, tmp_path / "run", "--folds", 5)))
    assert "2 of 54 listed images have no subject" in line and "--folds_by image" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flags, message", [
    (["--fold", 3], "add --folds K"), (["--folds", 5, "--fold", 6], "from 1 to 5"),
    (["--folds", 5, "--seeds", 2], "choose one"), (["--folds", 10], "only 9 subjects"),
    (["--jobs", 2], "a single run is one job"), (["--folds", 5, "--restore"], "no folds or seeds"),
    (["--restore", 3, "--folds", 5], "epoch of a single run"), (["--folds", 1], "must be from 2"),
    (["--folds", 2, "--jobs", 2], "--jobs 2: torchrun's processes train together")])
def test_impossible_series_are_refused_before_any_work(
        faces, tmp_path, monkeypatch, flags, message):
    if "torchrun" in message:
        monkeypatch.setenv("WORLD_SIZE", "2")
    refused(train_command(*arguments(faces, tmp_path / "run", *flags)), message)
    assert not (tmp_path / "run").exists()


def test_other_series_and_single_runs_in_the_directory_are_refused(faces, series):
    before = snapshot(series)
    for flags, message in (([], "holds the folds or seeds"), (["--folds", 3], "already holds a run"),
                           (["--seeds", 2], "holds the runs of another series"),
                           (["--seeds", 2, "--restore"], "with no --seeds; leave the options as they were")):
        refused(train_command(*arguments(faces, series, *flags)), message)
    other = arguments(faces, series / "fold_01", "--folds", 5)
    refused(train_command(*other), "holds a single run")
    with RunDirectory(series / "fold_01") as directory:
        directory.lock()
        line = refused(train_command(*arguments(faces, series, "--seeds", 2, "--overwrite")))
        assert "another run is writing here" in line
    assert snapshot(series) == before


def test_overwrite_moves_the_series_aside_and_its_seeds_equal_single_runs(faces, series, tmp_path):
    folder = Path(shutil.copytree(series, tmp_path / "run"))
    fill(folder, "notes.txt", "fold_03/model/mine.pth", "fold_09/mine.txt")
    before = snapshot(folder)
    output = succeeds(train_command(*arguments(faces, folder, "--seed", 3, "--seeds", 2, "--overwrite")))
    moved = next(tmp_path.glob("run.old-*"))
    assert snapshot(moved) == before and f"moved what was in {folder} to {moved}" in output
    assert output.count("perceptual epoch 1") == 2 and not (folder / "fold_01").exists()
    assert "seed_04, 2 of 2" in output
    succeeds(train_command(*arguments(faces, tmp_path / "single", "--seed", 4)))
    assert networks(folder / "seed_04") == networks(tmp_path / "single")
    runs = [matrix(folder / name) for name in ("seed_03", "seed_04")]
    assert matrix(folder)["counts"] == np.sum([run["counts"] for run in runs], 0).tolist()
    assert [run["images"] for run in runs] == [18, 18]  # all on the test list
