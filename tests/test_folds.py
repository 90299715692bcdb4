"""Folds and seeds as one run: who is in which fold, the same networks however they are trained, and pooled results."""

from __future__ import annotations

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
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest import (AT_A_STEP, REPOSITORY, TINY, cases, command, fill, locked, refused, snapshot, succeeds,
                      train_command, train_until)
from datasets.folds import cut_folds, with_fold
from datasets.layout import Sample, read_layout
from evaluation.metrics import Report
from evaluation.pooled import Pooled, Spread
from options.command_line import read_config, to_argv
from test_processes import torchrun
from training.run_directory import SeriesDirectory
from utils import UserError, read_json

FOLDS = ["fold_01", "fold_02", "fold_03"]


def words(faces: Path, folder: Path, *more: object) -> list[object]:
    return ["--data_dir", faces, "--checkpoint_dir", folder, *TINY, "--batch_size", 24, "--vgg_batch_size", 24, *more]


@pytest.fixture(scope="module")
def whole(faces, tmp_path_factory) -> Path:
    """Three folds of the nine persons, undisturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    output = succeeds(train_command(*words(faces, folder, "--folds", 3)))
    assert "95 % interval" in output and "fold_03, 3 of 3" in output
    return folder


def networks(run: Path) -> dict[str, bytes]:
    """Return every network of a run, as bytes."""
    found, further = {}, ["VGG/Enc_max.pth", "VGG/max_ckpt.t7", "VGG_loss/6_max_ckpt.t7"]
    for path in [*sorted((run / "model").glob("*_iter_*.pth")), *(run / name for name in further)]:
        state = torch.load(path, weights_only=True)
        for name, value in state.get("net", state).items():
            found[f"{path.name} {name}"] = value.numpy().tobytes()
    assert len(found) > 100
    return found


def matrix(folder: Path) -> dict:
    return read_json(folder / "test_result" / "confusion_matrix.json")


def matrix_command(*given: object) -> subprocess.CompletedProcess:
    return command("test_matrix_multi.py", *given, "--gpu", -1)


def listed(path: Path) -> dict[str, int]:
    return {line.split()[0]: int(line.split()[1]) for line in path.read_text().splitlines()}


# --------------------------------------------------------------------------------------------------- the cut

def test_no_person_is_on_two_sides_and_every_image_is_tested_once(faces, whole):
    subject, tested = {s.name: s.subject for s in read_layout(faces).split("all")}, []
    for name in FOLDS:
        splits = whole / name / "splits"
        test, val = listed(splits / f"{name}.list"), listed(splits / "images_val.list")
        assert test == listed(whole / "splits" / f"{name}.list")
        train = re.findall(r"(?:train|test)_\d{4}", (splits / "images_gan_nature.list").read_text())
        tested_on, chosen_on, trained_on = ({subject[image] for image in part} for part in (
            test, val, {f"{stem}.jpg" for stem in train}))
        assert len(tested_on) == 3 and tested_on | chosen_on | trained_on == set(subject.values())
        assert not tested_on & chosen_on and not (tested_on | chosen_on) & trained_on
        tested += test
    assert sorted(tested) == sorted(subject)


@cases(30)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=80), st.integers(2, 6),
       st.integers(0, 3))
def test_folds_are_parts_without_a_common_person(faces_of, count, seed):
    samples = [Sample(f"{i}.jpg", label, Path(f"{i}.jpg"), f"p{person}") for i, (person, label) in enumerate(faces_of)]
    persons = {sample.subject for sample in samples}
    if len(persons) < count:
        with pytest.raises(UserError, match=f"only {len(persons)} subjects"):
            cut_folds(samples, count, seed)
        return
    folds = cut_folds(samples, count, seed)
    assert len(folds) == count and all(folds)
    assert sorted(sample.name for fold in folds for sample in fold) == sorted(sample.name for sample in samples)
    assert sum(len({sample.subject for sample in fold}) for fold in folds) == len(persons)
    shuffled = random.Random(seed).sample(samples, len(samples))
    assert [set(fold) for fold in cut_folds(shuffled, count, seed)] == [set(fold) for fold in folds]


def test_expressions_are_spread_evenly_also_where_persons_show_few():
    draw = random.Random(0)
    samples = [Sample(f"{person}_{i}.jpg", draw.choice([0, 0, 0, 1, 1, 2]), Path("x"), f"p{person}")
               for person in range(300) for i in range(draw.randint(1, 3))]
    total = Counter(sample.label for sample in samples)
    for fold in cut_folds(samples, 5, 0) + cut_folds(samples, 5, 0, by="image"):
        counts = Counter(sample.label for sample in fold)
        assert all(abs(counts[label] - total[label] / 5) <= 1 for label in total)
    assert cut_folds(samples, 5, 0) != cut_folds(samples, 5, 1)


def test_target_only_faces_train_but_for_those_of_tested_persons(tmp_path):
    (tmp_path / "data").mkdir()
    rows = [(f"{person}{label}.jpg", label, person) for person in "abcdef" for label in (0, 1, 2)]
    (tmp_path / "images.list").write_text("".join(f"{name} {label}\n" for name, label, _ in rows))
    (tmp_path / "subjects.list").write_text("".join(f"{name} {person}\n" for name, _, person in rows))
    layout = read_layout(tmp_path, ["happy", "sad"], need_test=False)
    assert len(layout.target_only) == 6 and layout.test == []
    fold = with_fold(layout, 3, 2, seed=0)
    tested = {sample.subject for sample in fold.test}
    assert len(tested) == 2 and len(fold.test) == 4 and len(fold.train) == 8 and fold.val == []
    assert {sample.subject for sample in fold.target_only} == set("abcdef") - tested


# ---------------------------------------------------------------------------------- the same networks, always

def test_killed_in_the_second_fold_and_restored_it_ends_the_same(faces, whole, tmp_path):
    folder = tmp_path / "run"
    result = train_until(words(faces, folder, "--folds", 3, "--save_minutes", 0), AT_A_STEP, 16)
    assert result.returncode == -signal.SIGKILL and "gan epoch 1 of 1" in result.stdout.rstrip().splitlines()[-1]
    assert (folder / "fold_01" / "test_result" / "Con_Matrix.png").is_file() and not (folder / "fold_03").exists()
    assert not (folder / "fold_02" / "test_result").exists() and any((folder / "fold_02" / "state").glob("*.pth"))
    output = succeeds(train_command("--restore", "--checkpoint_dir", folder, "--gpu", -1))
    assert output.count("perceptual epoch 1") == 1  # of the third fold alone
    for name in FOLDS:
        assert networks(folder / name) == networks(whole / name)
    assert {**matrix(folder), "title": ""} == {**matrix(whole), "title": ""}


def test_one_fold_alone_is_that_of_the_whole(faces, whole, tmp_path):
    succeeds(train_command(*words(faces, tmp_path / "run", "--folds", 3, "--fold", 2)))
    assert networks(tmp_path / "run" / "fold_02") == networks(whole / "fold_02")
    again = train_command("--restore", "--checkpoint_dir", tmp_path / "run" / "fold_02", "--gpu", -1)
    assert "gan epoch" not in succeeds(again)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["fold_02"]


def test_side_by_side_stopped_and_restored_they_are_the_same(faces, whole, tmp_path):
    """SIGTERM reaches the processes of the folds: they save and stop."""
    folder = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "train.py", *map(str, words(faces, folder, "--folds", 3, "--jobs", 2))],
                               cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log, started = folder / "fold_01.txt", time.monotonic()
    while not (log.is_file() and "perceptual epoch 1" in log.read_text()):
        assert time.monotonic() - started < 120
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert len(err.strip().splitlines()) == 1 and f"--restore --checkpoint_dir {folder}" in err
    assert "the state is saved" in log.read_text() and not (folder / "fold_03").exists()
    output = succeeds(train_command("--restore", "--checkpoint_dir", folder, "--gpu", -1))
    assert "perceptual epoch 1" not in output.split("fold_02, 2 of 3")[0]
    assert all(networks(folder / name) == networks(whole / name) for name in FOLDS)
    assert matrix(folder)["counts"] == matrix(whole)["counts"]


def test_a_failing_fold_does_not_keep_the_others_from_their_end(faces, tmp_path):
    directory = SeriesDirectory(tmp_path / "run")
    directory.claim()
    directory.unlock()
    fill(directory.folder / "fold_01", "VGG_loss/6_max_ckpt.t7")
    line = refused(train_command(*words(faces, directory.folder, "--folds", 2, "--jobs", 2)))
    assert "1 of 2 runs failed" in line and str(directory.folder / "fold_01.txt") in line and "--restore" in line
    assert "6_max_ckpt.t7: refused" in (directory.folder / "fold_01.txt").read_text()
    assert matrix(directory.folder / "fold_02")["images"] in (24, 30)


def test_several_processes_train_one_fold_after_the_other(faces, tmp_path):
    output = succeeds(torchrun(2, "train.py", *words(faces, tmp_path / "run", "--folds", 2)))
    assert output.count("on 2 x cpu") == 2 and output.count("2 folds of") == 1
    assert sum(map(sum, matrix(tmp_path / "run")["counts"])) == 54


# ----------------------------------------------------------------------------------------------- the results

def test_the_pooled_matrix_is_the_sum_of_the_folds_each_on_its_own_images(whole, tmp_path):
    pooled, runs = matrix(whole), [matrix(whole / name) for name in FOLDS]
    assert pooled["counts"] == np.sum([run["counts"] for run in runs], 0).tolist() and pooled["images"] == 54
    accuracies = [run["accuracy"] for run in runs]
    assert [(run["run"], run["accuracy"]) for run in pooled["runs"]] == list(zip(FOLDS, accuracies))
    assert pooled["over_runs"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracies), abs=1e-3)
    assert (whole / "test_result" / "Con_Matrix.png").is_file()
    folders = [whole / name / "VGG" for name in FOLDS]
    succeeds(matrix_command("--resume_dir", *folders, "--output_dir", tmp_path))
    again = read_json(tmp_path / "confusion_matrix.json")
    assert again["counts"] == pooled["counts"] and again["over_runs"] == pooled["over_runs"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Con_Matrix.png", "confusion_matrix.json"]
    assert "named twice" in refused(matrix_command("--resume_dir", folders[0], folders[1], folders[0]))


def test_mean_deviation_and_interval_by_hand():
    spread = Spread.from_values([50.0, 60.0, 70.0])
    assert (spread.mean, spread.deviation) == (60, 10)
    half = 4.302652729911275 * 10 / 3 ** 0.5  # Student's t of two degrees of freedom at 97.5 %
    assert (spread.low, spread.high) == (pytest.approx(60 - half), pytest.approx(60 + half))
    assert np.isnan(Spread.from_values([50.0]).deviation)
    reports = [Report(np.array([[3, 1], [0, 4]])), Report(np.array([[1, 3], [2, 2]]))]
    pooled = Pooled(["fold_01", "fold_02"], reports)
    assert pooled.report.counts.tolist() == [[4, 4], [2, 6]] and pooled.report.accuracy == 62.5
    assert pooled.spreads[0].mean == 62.5 and pooled.spreads[0].deviation == pytest.approx(50 / 2 ** 0.5)
    assert "62.50 ± 35.36" in pooled.as_text() and "62.5 ± 35.4 %" in pooled.heading


def test_a_fold_is_never_evaluated_on_what_it_was_trained_on(whole, faces, broken, tmp_path):
    run, out = tmp_path / "fold_02", tmp_path / "out"
    shutil.copytree(whole / "fold_02", run)
    for data in ([], ["--data_dir", faces], ["--data_dir", broken]):
        succeeds(matrix_command("--resume_dir", run / "VGG", *data, "--output_dir", out))
        assert read_json(out / "confusion_matrix.json")["counts"] == matrix(run)["counts"]
        tested = [line.split(",")[0] for line in (out / "predictions.csv").read_text().splitlines()[1:]]
        assert set(tested) == set(listed(run / "splits" / "fold_02.list")) and len(tested) == 18
    lists = run / "splits" / "fold_02.list"
    lists.write_text("\n".join(lists.read_text().splitlines()[1:]) + "\n")
    assert "does not list the images" in refused(matrix_command("--resume_dir", run / "VGG"))
    lists.unlink()
    assert "from a backup" in refused(matrix_command("--resume_dir", run / "VGG"))
    grid = train_command("--mode", "grid", "--restore", "--checkpoint_dir", run, "--gpu", -1)
    assert "from a backup" in refused(grid)


@pytest.mark.parametrize("mode", [["grid", "--output", "grid.jpg"], ["generate", "--output", "made"],
                                  ["evaluate", "--judge_epochs", 1]])
def test_modes_use_a_fold_as_any_other_run(whole, tmp_path, mode, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(whole / "fold_03", "fold_03")
    succeeds(train_command("--mode", *mode, "--restore", "--checkpoint_dir", "fold_03", "--gpu", -1))
    if mode[0] == "generate":
        held = {line.split()[0] for line in Path("made/images_test.list").read_text().splitlines()}
        assert {f"real_test_{name}" for name in listed(whole / "splits" / "fold_03.list")} == held
    if mode[0] == "evaluate":
        assert read_json("fold_03/synthesis.json")["swaps"] == 18 * 5
    line = refused(train_command("--mode", *mode, "--restore", "--checkpoint_dir", whole, "--gpu", -1))
    assert "holds several runs" in line and "fold_01" in line


# ---------------------------------------------------------------------------------------------- one line each

def test_images_without_a_subject_are_refused(broken, tmp_path):
    lines = (broken / "subjects.list").read_text().splitlines(keepends=True)
    (broken / "subjects.list").write_text("".join(lines[2:]))
    line = refused(train_command(*words(broken, tmp_path / "run", "--folds", 5)))
    assert "2 of 54 listed images have no subject" in line and "--folds_by image" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flags, said", [
    (["--fold", 3], "add --folds K"), (["--folds", 5, "--fold", 6], "from 1 to 5"),
    (["--folds", 5, "--seeds", 2], "choose one"), (["--folds", 10], "only 9 subjects"),
    (["--jobs", 2], "a single run is one job"), (["--folds", 5, "--restore"], "no folds or seeds"),
    (["--folds", 5, "--restore", 3], "names an epoch of a single run"), (["--folds", 1], "must be from 2")])
def test_what_cannot_be_is_one_line_before_any_work(faces, tmp_path, flags, said):
    assert said in refused(train_command(*words(faces, tmp_path / "run", *flags)))
    assert not (tmp_path / "run").exists()


def test_several_processes_are_no_several_jobs(faces, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    line = refused(train_command(*words(faces, tmp_path, "--folds", 2, "--jobs", 2)))
    assert "--jobs 2: torchrun's processes train together" in line


def test_a_series_another_and_a_run_do_not_mix(faces, whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    for flags, said in (([], "holds the folds or seeds"), (["--folds", 3], "already holds a run"),
                        (["--seeds", 2], "holds the runs of another series"),
                        (["--seeds", 2, "--restore"], "with no --seeds; leave the options as they were")):
        assert said in refused(train_command(*words(faces, whole, *flags)))
    assert "holds a single run" in refused(train_command(*words(faces, whole / "fold_01", "--folds", 5)))
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_two_series_in_one_directory_keep_each_other_out(faces, whole, tmp_path):
    (tmp_path / "run").mkdir()
    with locked(tmp_path / "run"):
        assert "another run is writing here" in refused(train_command(*words(faces, tmp_path / "run", "--folds", 3)))
        assert os.listdir(tmp_path / "run") == ["run.lock"]
    with locked(whole / "fold_01"):
        before = snapshot(whole)
        line = refused(train_command(*words(faces, whole, "--seeds", 2, "--overwrite")))
        assert "another run is writing here" in line and snapshot(whole) == before


def test_overwriting_moves_the_whole_series_aside_and_seeds_are_the_runs_of_their_seeds(faces, whole, tmp_path):
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    fill(folder, "notes.txt", "fold_03/model/mine.pth", "fold_09/mine.txt")
    before = snapshot(folder)
    output = succeeds(train_command(*words(faces, folder, "--seed", 3, "--seeds", 2, "--overwrite")))
    moved = next(tmp_path.glob("run.old-*"))
    assert snapshot(moved) == before and f"moved what was in {folder} to {moved}" in output
    assert output.count("perceptual epoch 1") == 2 and not (folder / "fold_01").exists()
    assert "seed_04, 2 of 2" in output
    succeeds(train_command(*words(faces, tmp_path / "alone", "--seed", 4)))
    assert networks(folder / "seed_04") == networks(tmp_path / "alone")
    runs = [matrix(folder / name) for name in ("seed_03", "seed_04")]
    assert matrix(folder)["counts"] == np.sum([run["counts"] for run in runs], 0).tolist()
    assert [run["images"] for run in runs] == [18, 18]  # all on the test list


def test_the_command_of_a_member_reads_as_its_configuration():
    config = read_config(["--data_dir=-faces", "--seeds", "2", "--no_l1_loss", "-a", "b", "c", "--lr", "1e-3"])
    for member in config.members():
        assert read_config(to_argv(member)) == member
        assert Path(member.data.data_dir).name == "-faces" and member.data.attributes == ("b", "c")
        assert not member.gan_recipe.l1_loss
    assert [member.run.seed for member in config.members()] == [0, 1]
