"""The comparison of groups of runs: paired differences, McNemar's test, its files, and what may be pooled."""

import csv
import io
import shutil
from pathlib import Path

import numpy
import pytest
import torch
from scipy import stats

from commands.matrix import group_names
from conftest import matrix_command, refused, succeeds
from evaluation.comparison import Comparison, Group, McNemar, Paired, RunResult, Spread, p_text
from evaluation.metrics import Report


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
    assert numpy.isnan(Paired.from_values([1.0, 2], [2.0, 4]).p)  # of two runs
    assert Paired.from_values([1.0, 2, 3], [1.0, 2, 3]).p == 1
    other_seeds = Group("c", {(7, None): result(50)})
    comparison = Comparison([FIRST, other_seeds])
    assert comparison.paired(other_seeds, "accuracy") is None
    assert "(seed 0, seed 1, seed 2 against seed 7)" in comparison.as_text()


def test_mcnemar_counts_images_that_only_one_group_recognizes():
    shifted = Group("c", {(0, None): result(50, shift=10)})
    mcnemar = Comparison([FIRST, shifted]).mcnemar(shifted)
    assert mcnemar == McNemar(10, 10, 100) and mcnemar.p == 1
    assert McNemar(1, 9, 50).p == pytest.approx(2 * 11 / 2 ** 10)  # by hand: 0 or 1 of 10, both sides


def test_tables_hold_the_same_values_options_and_notes():
    comparison = Comparison([FIRST, OTHER], {"vgg_lr": [0.1, 0.2]}, ["b_1: 3 of 9 test images are training images"])
    rows = list(csv.DictReader(io.StringIO(comparison.as_csv())))
    assert [row["group"] for row in rows] == ["a/slow"] * 3 + ["b_1"] * 3 + ["a/slow", "b_1"]
    assert rows[0]["difference"] == "" and (rows[6]["measure"], rows[6]["value"]) == ("--vgg_lr", "0.1")
    assert float(rows[4]["mean"]) == pytest.approx((0.56 + 0.63 + 0.62) / 3 * 50 + 50, abs=1e-3)
    text, latex = comparison.as_text(), comparison.as_latex()
    assert "77.5 ± 2.5" in text and "+1.0 points" in text and "  --vgg_lr: 0.1, 0.2" in text
    assert "note: b_1: 3 of 9 test images" in text and "% b_1: 3 of 9 test images" in latex
    assert r"a/slow & 3 & 57.1 $\pm$ 4.8 & 77.5 $\pm$ 2.5 &" in latex and r"b\_1 & 3" in latex
    assert f"{comparison.mcnemar(OTHER).p:.3f} \\\\" in latex and "$+$1.9 &" in latex


def test_intervals_lie_between_0_and_100_percent_and_two_runs_give_none():
    assert Spread.from_values([99.0, 100.0, 95.0])[2:] == pytest.approx([91.427, 100.0], abs=1e-3)
    assert numpy.isnan(Spread.from_values([90.0, 99.0]).low)
    assert p_text(0.0004) == "p < 0.001" and p_text(0.0312) == "p = 0.031"


def test_persons_count_as_one_observation_each():
    """20 persons with 10 images each, of which the other setting recognizes all of 6 persons and none of 2 more."""
    images = {f"{person} {i}": person for person in range(20) for i in range(10)}
    first = {image: person >= 18 for image, person in images.items()}
    other = {image: person < 6 for image, person in images.items()}
    pair = tuple(RunResult(Report(numpy.eye(2, dtype=int)), right, {k: str(v) for k, v in images.items()})
                 for right in (first, other))
    test = Paired.over_persons([pair])
    assert test.count == 20 and test.spread.mean == pytest.approx(20)
    assert test.p == pytest.approx(stats.binomtest(6, 8).pvalue, abs=0.03)  # signs of 8 persons with equal differences
    assert test.spread.low == pytest.approx(-6, abs=4) and test.spread.high == pytest.approx(46, abs=4)
    alone = McNemar(20, 60, 200).p
    assert alone < 1e-4 < test.p  # the images counted as independent
    assert Paired.over_persons([tuple(run._replace(person={}) for run in pair)]) is None


def test_runs_on_different_images_are_not_paired():
    moved = Group("c", {key: run._replace(correct={f"x{name}": right for name, right in run.correct.items()})
                        for key, run in FIRST.runs.items()})
    comparison = Comparison([FIRST, moved])
    assert comparison.paired(moved, "accuracy") is None and comparison.mcnemar(moved) is None
    text = comparison.as_text()
    assert "3 of 3 runs of c and a/slow with a common seed and fold were tested on different images (0 in" in text
    assert "no paired difference" in text and "p =" not in text


def test_groups_have_different_names_wherever_their_runs_lie():
    for groups, names in ((["a/seed_00 a/seed_01", "b/seed_00 b/seed_01"], ["a", "b"]),
                          (["paper_s0 paper_s1", "tuned_s0 tuned_s1", "x"], ["paper_s*", "tuned_s*", "x"]),
                          (["a_s0/fold_01 a_s1/fold_01", "b_s0/fold_01 b_s1/fold_01"], ["a_s*", "b_s*"])):
        assert group_names([[Path("runs") / run / "VGG" for run in group.split()] for group in groups]) == names


def test_settings_are_compared_and_not_pooled(finished, tmp_path):
    """Two seeds of two settings are copies of the finished run's recognizer, with a rate of each setting."""
    out, settings = tmp_path / "out", {"A": 0.1, "B": 0.2}
    a, b = ([tmp_path / name / f"seed_0{seed}" for seed in (0, 1)] for name in settings)
    for run in (*a, *b):
        shutil.copytree(finished / "VGG", run / "VGG")
        checkpoint = torch.load(run / "VGG" / "max_ckpt.t7", weights_only=True)
        checkpoint["config"]["facts"]["options"].update(seed=int(run.name[-1]), vgg_lr=settings[run.parent.name])
        torch.save(checkpoint, run / "VGG" / "max_ckpt.t7")
    argv = ["--resume_dir", *a, "--output_dir", out]
    line = refused(matrix_command(*argv, "--resume_dir", *a, b[0]))
    assert "--vgg_lr 0.1" in line and "--vgg_lr 0.2" in line and "--against" in line and not out.exists()
    line = refused(matrix_command(*argv, "--against", tmp_path / "B"))
    assert f"holds a series of 2 seeds; name its runs: --against {tmp_path / 'B' / 'seed_*'}" in line
    output = succeeds(matrix_command(*argv, "--against", *b, "--names", "slow", "fast"))
    assert sorted(path.name for path in out.iterdir()) == [
        f"comparison.{ending}" for ending in ("csv", "png", "tex", "txt")]
    assert "fast against slow:" in output and "only fast is right on 0" in output and "  --vgg_lr: 0.1, 0.2" in output
    assert "note: slow: " not in output.replace("two runs", "") and "permutation test over 3 persons" in output
