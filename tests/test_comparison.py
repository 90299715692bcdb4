"""The comparison of groups of runs: paired differences, McNemar's test, its files, and what may be pooled."""

import csv
import io
import shutil
from pathlib import Path

import numpy
import pytest
from scipy import stats

from commands.matrix import group_names
from conftest import command, refused, succeeds
from evaluation.comparison import Comparison, Group, McNemar, Paired, RunResult
from evaluation.metrics import Report
from utils import read_json, write_json


def result(recognized: int, shift: int = 0) -> RunResult:
    """Return a run that recognizes so many of 100 images of the first of two expressions, and all five of the other."""
    correct = {f"{i}.png": shift <= i < shift + recognized for i in range(100)}
    return RunResult(Report(numpy.array([[recognized, 100 - recognized], [0, 5]])), correct)


FIRST = Group("a/slow", {(seed, None): result(count) for seed, count in enumerate((50, 60, 55))})
OTHER = Group("b_1", {(seed, None): result(count) for seed, count in enumerate((56, 63, 62), start=1)})


def test_differences_are_those_of_common_seeds():
    paired = Comparison([FIRST, OTHER]).paired(OTHER, "mean class accuracy")
    assert paired.count == 2 and paired.spread.mean == pytest.approx((-4 + 8) / 2 / 2)  # seeds 1 and 2 alone
    five = Paired.from_values([1.0, 2, 3, 4, 5], [2.0, 2.5, 5, 4.5, 7])
    assert five.p == pytest.approx(stats.ttest_1samp([1, 0.5, 2, 0.5, 2], 0).pvalue)
    assert numpy.isnan(Paired.from_values([1.0], [2.0]).p) and Paired.from_values([1.0, 2], [1.0, 2]).p == 1
    equal = Paired.from_values(*([100 * count / 454 for count in counts] for counts in ((279, 293), (280, 294))))
    assert numpy.isnan(equal.p) and "p =" not in equal.as_text()  # one image more in both: without a deviation
    other_seeds = Group("c", {(7, None): result(50)})
    assert Comparison([FIRST, other_seeds]).paired(other_seeds, "accuracy") is None


def test_mcnemar_counts_images_that_only_one_group_recognizes():
    shifted = Group("c", {(0, None): result(50, shift=10)})
    mcnemar = Comparison([FIRST, shifted]).mcnemar(shifted)
    assert mcnemar == McNemar(10, 10, 100) and mcnemar.p == 1
    assert McNemar(1, 9, 50).p == pytest.approx(2 * 11 / 2 ** 10)  # by hand: 0 or 1 of 10, both sides


def test_a_group_near_chance_is_named():
    guessing = Group("guess", {(0, None): RunResult(Report(numpy.full((2, 2), 50)), {})})
    assert [line for line in Comparison([FIRST, guessing]).as_text().splitlines() if line.startswith("note: ")] == [
        "note: the mean class accuracy of guess is near chance (50.0 %)"]


def test_tables_hold_the_same_values():
    comparison = Comparison([FIRST, OTHER])
    rows = list(csv.DictReader(io.StringIO(comparison.as_csv())))
    assert [row["group"] for row in rows] == ["a/slow"] * 2 + ["b_1"] * 2 and rows[0]["difference"] == ""
    assert float(rows[3]["mean"]) == pytest.approx((0.56 + 0.63 + 0.62) / 3 * 50 + 50, abs=1e-3)
    assert "77.5 ± 2.5" in comparison.as_text() and "+1.0 points" in comparison.as_text()
    latex = comparison.as_latex()
    assert r"a/slow & 3 & $57.1 \pm 4.8$ & $77.5 \pm 2.5$ & -- & -- \\" in latex and r"b\_1 & 3" in latex


def test_groups_have_different_names_wherever_their_runs_lie():
    def names(*groups: str) -> list[str]:
        return group_names([[Path("runs") / run / "VGG" for run in group.split()] for group in groups])

    assert names("a/seed_00 a/seed_01", "b/seed_00 b/seed_01") == ["a", "b"]
    assert names("paper_s0 paper_s1", "tuned_s0 tuned_s1", "x") == ["paper_s*", "tuned_s*", "x"]
    assert names("a_s0/fold_01 a_s1/fold_01", "b_s0/fold_01 b_s1/fold_01") == ["a_s*", "b_s*"]


def test_settings_are_compared_and_not_pooled(finished, tmp_path):
    for name, seed, lr in (("A/seed_00", 0, 0.1), ("A/seed_01", 1, 0.1), ("B/seed_00", 0, 0.2), ("B/seed_01", 1, 0.2)):
        shutil.copytree(finished / "VGG", tmp_path / name / "VGG")
        options = {**read_json(finished / "options.json"), "seed": seed, "vgg_lr": lr}
        write_json(tmp_path / name / "options.json", options)
    a, b = ([tmp_path / name / f"seed_0{seed}" for seed in (0, 1)] for name in "AB")
    argv = ["--gpu", -1, "--output_dir", tmp_path / "out"]
    line = refused(command("test_matrix_multi.py", "--resume_dir", *a, b[0], *argv))
    assert "--vgg_lr 0.1" in line and "--vgg_lr 0.2" in line and "--against" in line and not (tmp_path / "out").exists()
    line = refused(command("test_matrix_multi.py", "--resume_dir", *a, "--against", tmp_path / "B", *argv))
    assert f"holds a series of 2 seeds; name its runs: --against {tmp_path / 'B' / 'seed_*'}" in line
    output = succeeds(command("test_matrix_multi.py", "--resume_dir", *a, "--against", *b, *argv))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"comparison.{ending}" for ending in ("csv", "png", "tex", "txt")]
    assert "B against A:" in output and "only B is right on 0" in output
