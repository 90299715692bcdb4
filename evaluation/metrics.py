"""What is measured: of a recognizer its confusion matrix, accuracies, intervals; of pictures PSNR, SSIM, Fréchet."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Sequence

import numpy as np
import scipy.linalg
import scipy.stats
import torch
from torch import Tensor
from torch.nn import functional as F


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts (n, n): row = true expression, column = predicted; from two arrays of labels (N,)."""
    index = np.asarray(truth) * num_classes + np.asarray(predicted)
    return np.bincount(index, minlength=num_classes ** 2).reshape(num_classes, num_classes)


@dataclass(frozen=True)
class Report:
    """The figures of a confusion matrix (n, n), all in per cent; NaN where there is nothing to divide by."""

    counts: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share of all images that are right."""
        return 100 * _ratio(np.trace(self.counts), self.counts.sum()).item()

    @property
    def mean_class_accuracy(self) -> float:
        """Mean of the expressions' recalls, over those that have images."""
        return float(np.nanmean(self.recall)) if self.counts.sum() else float("nan")

    @property
    def chance(self) -> tuple[float, float]:
        """Accuracy of naming the most frequent expression always, and mean class accuracy of any constant or guess."""
        images = self.counts.sum(1)
        return 100 * _ratio(images.max(), images.sum()).item(), 100 * _ratio(1, (images > 0).sum()).item()

    @property
    def near_chance(self) -> bool:
        """Whether the mean class accuracy lies within two standard deviations of guessing.

        False if so few images were recognized that guessing has a standard deviation above 5 points.
        """
        shown, chance = self.counts.sum(1)[self.counts.sum(1) > 0], 1 / len(self.counts)
        deviation = np.sqrt((chance * (1 - chance) / shown).sum()) / max(1, len(shown))
        return bool(len(shown) and deviation <= 0.05 and self.mean_class_accuracy / 100 < chance + 2 * deviation)

    @property
    def recall(self) -> np.ndarray:
        """(n,): of the images of an expression, the share that is found."""
        return 100 * _ratio(np.diag(self.counts), self.counts.sum(1))

    @property
    def precision(self) -> np.ndarray:
        """(n,): of the images called an expression, the share that is."""
        return 100 * _ratio(np.diag(self.counts), self.counts.sum(0))

    @property
    def f1(self) -> np.ndarray:
        """(n,): harmonic mean of precision and recall, 2·TP / (2·TP + FP + FN)."""
        return 100 * _ratio(2 * np.diag(self.counts), self.counts.sum(0) + self.counts.sum(1))

    @property
    def row_percent(self) -> np.ndarray:
        """(n, n): the confusion matrix in per cent of each row."""
        return 100 * _ratio(self.counts, self.counts.sum(1, keepdims=True))

    def _rows(self, names: Sequence[str]) -> list[tuple[str, int, float, float, float]]:
        return list(zip(names, self.counts.sum(1).tolist(), self.precision, self.recall, self.f1))

    def as_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Every figure as plain values for a JSON file; NaN becomes None."""
        return {"accuracy": plain(self.accuracy), "mean_class_accuracy": plain(self.mean_class_accuracy),
                "chance": dict(zip(("accuracy", "mean_class_accuracy"), map(plain, self.chance))),
                "images": int(self.counts.sum()), "expressions": list(names),
                "per_expression": {name: {"images": count, "precision": plain(p), "recall": plain(r), "f1": plain(f)}
                                   for name, count, p, r, f in self._rows(names)},
                "counts": self.counts.tolist(), "row_percent": [list(map(plain, row)) for row in self.row_percent]}

    def as_text(self, names: Sequence[str], short: Sequence[str]) -> str:
        """Aligned tables for a terminal: figures per expression, then the matrix in counts and in row per cent."""
        width = max(len("expression"), *map(len, names))
        lines = [f"{'expression':<{width}}  images  precision  recall     F1"]
        lines += [f"{name:<{width}}  {count:6d}  {_percent(p, 9)}  {_percent(r, 6)}  {_percent(f, 5)}"
                  for name, count, p, r, f in self._rows(names)]
        cell = max(6, *(len(name) + 1 for name in short), len(str(self.counts.max())) + 1)
        for title, matrix, form in (("counts", self.counts, lambda v: f"{v:{cell}d}"),
                                    ("row %", self.row_percent, lambda v: _percent(v, cell))):
            lines += ["", f"{title} (rows: true, columns: recognized as)",
                      " " * width + "".join(f"{name:>{cell}}" for name in short)]
            lines += [f"{name:<{width}}" + "".join(map(form, line)) for name, line in zip(names, matrix)]
        return "\n".join(lines)


# ------------------------------------------------------------------------------------ of single predictions

CONFIDENCE, RESAMPLES, CALIBRATION_BINS = 0.95, 2000, 15


@dataclass(frozen=True)
class Predictions:
    """Predictions of a recognizer for images: their labels (N,) and its probabilities (N, n).

    ``group`` (N,) numbers what was photographed together, such as all images of a person; None where each image stands
    for itself.
    """

    label: np.ndarray
    probabilities: np.ndarray
    group: np.ndarray | None = None

    @property
    def predicted(self) -> np.ndarray:
        """The expressions (N,) that it named."""
        return self.probabilities.argmax(1)

    @property
    def report(self) -> Report:
        """The figures of its confusion matrix."""
        return Report(confusion_matrix(self.label, self.predicted, self.probabilities.shape[1]))

    @cached_property
    def intervals(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """95 % intervals of accuracy and of mean class accuracy in %, by the bootstrap of scipy (percentiles).

        Groups are drawn again as wholes: pictures of one person are right or wrong together. NaN for a single group.
        An expression that a resample lacks counts there with its recall in the whole sample.
        """
        group = np.arange(len(self.label)) if self.group is None else self.group
        (numbers, rows), n = np.unique(group, return_inverse=True), self.probabilities.shape[1]
        units = len(numbers)
        if units < 2:
            return (float("nan"),) * 2, (float("nan"),) * 2
        counts = np.zeros((2, units, n))  # images of a group and class, and those of them that are right
        np.add.at(counts[0], (rows, self.label), 1)
        np.add.at(counts[1], (rows, self.label), self.predicted == self.label)

        def accuracies(drawn: np.ndarray, axis: int) -> np.ndarray:
            images, right = (part[drawn].sum(axis - 1) for part in counts)
            recall = np.where(images > 0, _ratio(right, images), self.report.recall / 100)
            return 100 * np.stack([right.sum(-1) / images.sum(-1), np.nanmean(recall, -1)])

        found = scipy.stats.bootstrap((np.arange(units),), accuracies, n_resamples=RESAMPLES, vectorized=True,
                                      batch=max(1, 4_000_000 // (units * n)), confidence_level=CONFIDENCE,
                                      method="percentile", random_state=np.random.default_rng(0))
        low, high = (np.asarray(side, float).tolist() for side in found.confidence_interval)
        return tuple(zip(low, high))

    @property
    def calibration_error(self) -> float:
        """Expected calibration error in %: how far probabilities are from accuracies, over 15 bins (Guo et al., 2017).
        """
        sure = self.probabilities.max(1).astype(float)
        right = (self.predicted == self.label).astype(float)
        bins = np.minimum((sure * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
        gaps = np.abs(np.bincount(bins, right - sure, CALIBRATION_BINS))
        return 100 * float(gaps.sum()) / len(sure)

    def as_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Every figure as plain values for a JSON file, those of the report among them; NaN becomes None."""
        accuracy, mean_class = ([plain(side) for side in interval] for interval in self.intervals)
        return {**self.report.as_dict(names), "accuracy_interval": accuracy, "mean_class_accuracy_interval": mean_class,
                "interval": {"confidence": CONFIDENCE, "resamples": RESAMPLES,
                             "drawn_again": "images" if self.group is None else "subjects"},
                "expected_calibration_error": plain(self.calibration_error)}

    def as_text(self) -> str:
        """Two lines for a terminal: accuracies, then calibration error and what the intervals resample."""
        what, count = ("images", len(self.label)) if self.group is None else ("subjects", len(np.unique(self.group)))
        known = "" if np.isnan(self.intervals[0][0]) else f"; 95 % intervals from resampling {count} {what}"
        return (f"{self.accuracies()}\ncalibration error {self.calibration_error:.1f} %   {len(self.label)} images"
                f"{known}")

    def accuracies(self) -> str:
        """One line for a terminal: accuracies with their intervals and chance levels."""
        values = self.report.accuracy, self.report.mean_class_accuracy
        return "   ".join(f"{name} {value:.2f} % (" + ("" if np.isnan(low) else f"{low:.1f} to {high:.1f}; ")
                          + f"chance {chance:.1f})" for name, value, (low, high), chance
                          in zip(("accuracy", "mean class accuracy"), values, self.intervals, self.report.chance))


# ---------------------------------------------------------------------------------------------- of pictures

def psnr(image: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images (N, 3, S, S) in [-1, 1]: (N,); infinite where they are equal."""
    return 10 * torch.log10(4 / (image.double() - truth.double()).square().mean((1, 2, 3)))


def ssim(image: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of images (N, 3, S, S) in [-1, 1], S ≥ 11: (N,), 1 where they are equal.

    Wang et al., 2004: Gaussian window of 11 × 11 with sigma 1.5, K1 = 0.01, K2 = 0.03, mean over positions and colors.
    """
    offset = torch.arange(-5.0, 6, dtype=torch.float64, device=image.device)
    window = torch.exp(-offset ** 2 / (2 * 1.5 ** 2))
    window = (window / window.sum()).repeat(3, 1, 1, 1)

    def local_mean(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, window, groups=3), window.transpose(2, 3), groups=3)

    x, y = image.double(), truth.double()
    mean_x, mean_y = local_mean(x), local_mean(y)
    variance_x, variance_y = local_mean(x * x) - mean_x ** 2, local_mean(y * y) - mean_y ** 2
    covariance = local_mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)
                  / ((mean_x ** 2 + mean_y ** 2 + c1) * (variance_x + variance_y + c2)))
    return similarity.mean((1, 2, 3))


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """The Fréchet distance of the normal distributions with the means and covariances of features (N, F), (M, F).

    |μx − μy|² + tr(Σx + Σy − 2·(Σx·Σy)^½); it is larger for few samples than for many, so compare equal numbers alone.
    """
    covariances = [np.atleast_2d(np.cov(features, rowvar=False)) for features in (x, y)]
    with warnings.catch_warnings():  # singular where there are fewer samples than features: that is no fault
        warnings.simplefilter("ignore", scipy.linalg.LinAlgWarning)
        root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    distance = ((x.mean(0) - y.mean(0)) ** 2).sum() + sum(np.trace(c) for c in covariances) - 2 * np.trace(root).real
    return max(0.0, float(distance))


def plain(value: float) -> float | None:
    """A figure for a JSON file: four decimals, None for NaN."""
    return None if np.isnan(value) else round(float(value), 4)


def _percent(value: float, width: int) -> str:
    return f"{'–':>{width}}" if np.isnan(value) else f"{value:{width}.1f}"


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
