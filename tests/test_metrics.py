"""Metrics of recognizers and images computed by hand or by other libraries, and the verdict on a result."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evaluation import verdict
from evaluation.metrics import Predictions, Report, frechet_distance, psnr, ssim
from models.recognizer import confusion_matrix, near_chance

COUNTS = np.array([[8, 2, 0], [1, 4, 0], [5, 0, 0]])


def test_metrics_by_hand():
    counts = confusion_matrix(np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 0, 2]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]  # the rows are the true expressions
    report = Report(COUNTS)
    assert report.accuracy == pytest.approx(60) and report.mean_class_accuracy == pytest.approx(160 / 3)
    assert report.recall.tolist() == pytest.approx([80, 80, 0])
    assert report.precision.tolist() == pytest.approx([100 * 8 / 14, 100 * 4 / 6, np.nan], nan_ok=True)
    assert report.f1.tolist() == pytest.approx([100 * 16 / 24, 100 * 8 / 11, 0])
    assert report.row_percent.tolist() == [[80, 20, 0], [20, 80, 0], [100, 0, 0]]
    report = Report(np.array([[3, 1], [0, 0]]))  # the mean leaves out an expression without images
    assert report.mean_class_accuracy == 75 and report.as_dict(["a", "b"])["per_expression"]["b"]["recall"] is None


def test_tables_hold_the_metrics_and_compile_with_any_name():
    tables = Report(COUNTS).as_text(["anger", "fear", "a long name"], ["AN", "FE", "AL"]).split("\n\n")
    assert len(tables) == 3 and "57.1" in tables[0] and tables[1].splitlines()[2].split()[-3:] == ["8", "2", "0"]
    latex = Report(COUNTS).as_latex(["anger", "50 % & more", "a_b"])
    assert r"50 \% \& more & 5 & 66.7 & 80.0 & 72.7 \\" in latex and r"a\_b & 5 & -- & 0.0 & 0.0 \\" in latex
    assert r"mean & 20 & 61.9 & 53.3 & 46.5 \\" in latex and latex.count(r"\end{tabular}") == 2


def test_near_chance_is_within_two_standard_deviations_of_guessing():
    guessing, learned = np.full((2, 2), 50), np.array([[60, 40], [40, 60]])  # the deviation is 3.5 points
    assert near_chance(guessing) and not near_chance(learned)
    assert not near_chance(np.full((2, 2), 5))  # too few images to tell


# ---------------------------------------------------------------------------------------------- predictions

def probabilities(correct: np.ndarray, label: np.ndarray, n: int, confidence: float = 0.8) -> np.ndarray:
    """Return probabilities (N, n) of predictions with one confidence, which are right where ``correct`` (N,) is."""
    values = np.full((len(label), n), (1 - confidence) / (n - 1))
    values[np.arange(len(label)), np.where(correct, label, (label + 1) % n)] = confidence
    return values


def test_intervals_are_those_of_the_binomial_distribution():
    """4 classes of 100 images, 80 % recognized: the standard deviation of either accuracy is 2 points."""
    label, correct = np.arange(400) % 4, np.arange(400) // 4 % 5 > 0
    predictions = Predictions(label, probabilities(correct, label, 4))
    assert predictions.report.accuracy == predictions.report.mean_class_accuracy == 80
    assert len(predictions.intervals) == 2
    for low, high in predictions.intervals:
        assert low == pytest.approx(80 - 1.96 * 2, abs=0.6) and high == pytest.approx(80 + 1.96 * 2, abs=0.6)
    assert Predictions(label, probabilities(correct, label, 4)).intervals == predictions.intervals  # every time


def test_pictures_of_one_person_count_as_one_observation():
    """10 images of each of 40 persons, all right or all wrong: the interval is that of 40 observations."""
    person = np.arange(400) // 10
    label, correct = np.arange(400) % 2, person % 5 > 0
    alone, together = (Predictions(label, probabilities(correct, label, 2), group).intervals[0]
                       for group in (None, person))
    assert together[1] - together[0] == pytest.approx(2 * 196 * (0.16 / 40) ** 0.5, rel=0.1)
    assert together[1] - together[0] > 2.5 * (alone[1] - alone[0])


def test_intervals_of_too_few_groups_and_of_rare_expressions():
    label = np.zeros(3, int)
    single = Predictions(label, probabilities(label == 0, label, 2), label)
    assert np.isnan(single.intervals).all() and single.as_dict(["a", "b"])["accuracy_interval"] == [None, None]
    rare = np.array([0] * 30 + [1])  # often not resampled, and always wrong: 50 % in every resample
    predictions = Predictions(rare, probabilities(rare == 0, rare, 2))
    assert predictions.intervals[1] == (50, 50)
    assert "most frequent expression 96.8" in predictions.as_text() and "resampling 31 images" in predictions.as_text()


# --------------------------------------------------------------------------------------------------- images

def test_psnr_is_that_by_hand_and_ssim_that_of_scikit_image():
    assert psnr(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.2)).item() == pytest.approx(20)  # 4 / 0.04
    random = torch.Generator().manual_seed(0)
    image = torch.nn.functional.interpolate(torch.rand(4, 3, 8, 8, generator=random) * 2 - 1, size=(40, 40))
    pictures = image, (image + 0.2 * torch.randn(image.shape, generator=random)).clamp(-1, 1)
    assert psnr(image, image).isinf().all() and ssim(image, image).tolist() == pytest.approx([1] * 4)
    skimage = pytest.importorskip("skimage.metrics")
    expected = [skimage.structural_similarity(x.double().numpy(), y.double().numpy(), data_range=2, channel_axis=0,
                                              gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
                for x, y in zip(*pictures)]
    assert ssim(*pictures).tolist() == pytest.approx(expected, abs=1e-6)


def test_frechet_distance_of_known_distributions():
    """Means 3 and 4 apart, standard deviations 1 and 2, 3 and 1: 25 + (1 − 2)² + (3 − 1)²."""
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * np.sqrt(3 / 4)  # unit variances, unbiased
    x, y = corners * [1, 3], corners * [2, 1] + [3, 4]
    assert frechet_distance(x, y) == pytest.approx(25 + 1 + 4)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    random = np.random.default_rng(0)
    a, b = random.normal(size=(500, 8)), random.normal(size=(500, 8)) @ random.normal(size=(8, 8))
    values = np.linalg.eigvals(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False))  # another way to the same trace
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.cov(a.T).trace() + np.cov(b.T).trace() \
        - 2 * np.sqrt(values.real).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


# -------------------------------------------------------------------------------------------------- the verdict

LABEL = np.arange(90) % 3


@pytest.mark.parametrize("predicted, finding", [
    (LABEL, None), (np.random.default_rng(0).integers(3, size=90), "not shown to be better than chance (33.3 %)"),
    (np.where(np.arange(90) < 80, 1, LABEL), "92 % of its predictions are joy"),
    (np.where(LABEL == 2, 1, LABEL), "never predicts calm")])
def test_predictions_near_chance_or_nearly_constant_are_found(predicted, finding):
    findings = verdict.of_predictions(Predictions(LABEL, np.eye(3)[predicted]), ["anger", "joy", "calm"])
    assert len(findings) == (finding is not None) and all(finding in text for text in findings)


def test_weak_judges_and_few_validation_images_are_found():
    assert verdict.of_judge(58.4, 6) == [] and "29.7 %" in verdict.of_judge(29.7, 6)[0]
    assert verdict.of_selection(50) == verdict.of_selection(0) == []
    assert "24 validation images, of which one is 4.2 points" in verdict.of_selection(24)[0]
    assert verdict.of_checkpoint(-1, 6) == verdict.of_checkpoint(25, 6) == [] != verdict.of_checkpoint(24.9, 6)


@pytest.mark.parametrize("transfer, gain, judge, expected", [
    (90, 2.5, 90, []), (90, float("nan"), 90, []), (90, -0.1, 90, ["not nearer to the true pictures"]),
    (20, 2.5, 90, ["20.0 % of the swaps", "chance (16.7 %)"]), (20, 2.5, 30, [])])
def test_a_gan_that_has_learned_nothing_is_found(transfer, gain, judge, expected):
    findings = verdict.of_swaps(SimpleNamespace(transfer=transfer, psnr_gain=gain, judge_accuracy=judge), 6)
    assert len(findings) == bool(expected) and all(part in text for text in findings for part in expected)
