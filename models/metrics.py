"""What is measured: of a recognizer its confusion matrix and accuracies, of pictures PSNR, SSIM, Fréchet distance."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np
import scipy.linalg
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

    def as_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Every figure as plain values for a JSON file; NaN becomes None."""
        per_class = {name: {"images": int(count), "precision": _plain(p), "recall": _plain(r), "f1": _plain(f)}
                     for name, count, p, r, f in zip(names, self.counts.sum(1), self.precision, self.recall, self.f1)}
        return {"accuracy": _plain(self.accuracy), "mean_class_accuracy": _plain(self.mean_class_accuracy),
                "images": int(self.counts.sum()), "expressions": list(names), "per_expression": per_class,
                "counts": self.counts.tolist(),
                "row_percent": [[_plain(value) for value in line] for line in self.row_percent]}

    def as_text(self, names: Sequence[str], short: Sequence[str]) -> str:
        """Aligned tables for a terminal: figures per expression, then the matrix in counts and in row per cent."""
        width = max(len("expression"), *map(len, names))
        lines = [f"{'expression':<{width}}  images  precision  recall     F1"]
        lines += [f"{name:<{width}}  {count:6d}  {_percent(p, 9)}  {_percent(r, 6)}  {_percent(f, 5)}"
                  for name, count, p, r, f in zip(names, self.counts.sum(1), self.precision, self.recall, self.f1)]
        cell = max(6, *(len(name) + 1 for name in short), len(str(self.counts.max())) + 1)
        for title, matrix, form in (("counts", self.counts, lambda v: f"{v:{cell}d}"),
                                    ("row %", self.row_percent, lambda v: _percent(v, cell))):
            lines += ["", f"{title + ' (rows: true, columns: recognized as)'}",
                      " " * width + "".join(f"{name:>{cell}}" for name in short)]
            lines += [f"{name:<{width}}" + "".join(map(form, line)) for name, line in zip(names, matrix)]
        return "\n".join(lines)


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


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def _percent(value: float, width: int) -> str:
    return f"{'–':>{width}}" if np.isnan(value) else f"{value:{width}.1f}"


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
