"""Metrics: confusion matrix, accuracies and intervals of a recognizer; PSNR, SSIM and Fréchet distance of images."""

import re
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

from models.recognizer import accuracies, chance_level, confusion_matrix


@dataclass(frozen=True)
class Report:
    """The metrics of a confusion matrix (n, n), in percent; they are NaN where there is nothing to divide by."""

    counts: np.ndarray

    @property
    def accuracy(self) -> float:
        """The share of all images that are recognized."""
        return accuracies(self.counts)[0]

    @property
    def mean_class_accuracy(self) -> float:
        """The mean recall of the expressions that have images."""
        return accuracies(self.counts)[1]

    @property
    def chance(self) -> tuple[float, float]:
        """The accuracy of always predicting the most frequent expression, and the mean class accuracy of guessing."""
        images = self.counts.sum(1)
        return 100 * _ratio(images.max(), images.sum()).item(), chance_level(len(images))

    @property
    def recall(self) -> np.ndarray:
        """The share of the images of each expression that is recognized (n,)."""
        return 100 * _ratio(np.diag(self.counts), self.counts.sum(1))

    @property
    def precision(self) -> np.ndarray:
        """The share of the predictions of each expression that is right (n,)."""
        return 100 * _ratio(np.diag(self.counts), self.counts.sum(0))

    @property
    def f1(self) -> np.ndarray:
        """The harmonic mean of precision and recall (n,), 2·TP / (2·TP + FP + FN)."""
        return 100 * _ratio(2 * np.diag(self.counts), self.counts.sum(0) + self.counts.sum(1))

    @property
    def mean_f1(self) -> float:
        """The mean F1 of the expressions that have images."""
        return float(np.mean(self.f1[self.counts.sum(1) > 0])) if self.counts.any() else float("nan")

    @property
    def row_percent(self) -> np.ndarray:
        """The confusion matrix in percent of each row (n, n)."""
        return 100 * _ratio(self.counts, self.counts.sum(1, keepdims=True))

    def _rows(self, names: Sequence[str]) -> list[tuple[str, int, float, float, float]]:
        return list(zip(names, self.counts.sum(1).tolist(), self.precision, self.recall, self.f1))

    def as_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Return all metrics as plain values for a JSON file; NaN becomes None."""
        return {"accuracy": plain(self.accuracy), "mean_class_accuracy": plain(self.mean_class_accuracy),
                "mean_f1": plain(self.mean_f1),
                "chance": dict(zip(("accuracy", "mean_class_accuracy"), map(plain, self.chance))),
                "images": int(self.counts.sum()), "expressions": list(names),
                "per_expression": {name: {"images": count, "precision": plain(p), "recall": plain(r), "f1": plain(f)}
                                   for name, count, p, r, f in self._rows(names)},
                "counts": self.counts.tolist(), "row_percent": [list(map(plain, row)) for row in self.row_percent]}

    def as_text(self, names: Sequence[str], short: Sequence[str]) -> str:
        """Return aligned tables for a terminal: metrics per expression, then the matrix as counts and row percent."""
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

    def as_latex(self, names: Sequence[str]) -> str:
        """Return two tables with booktabs' rules: the metrics of each expression, and the matrix in percent of rows."""
        mean = [np.nanmean(values) if np.isfinite(values).any() else np.nan
                for values in (self.precision, self.recall, self.f1)]
        rows = [*self._rows(names), ("mean", int(self.counts.sum()), *mean)]
        metrics = [[name, str(count), *(_percent(value, 0) for value in values)] for name, count, *values in rows]
        matrix = [[name, *(_percent(value, 0) for value in row)] for name, row in zip(names, self.row_percent)]
        return "\n".join(latex_table(head, rows) for head, rows in (
            (["expression", "images", "precision (%)", "recall (%)", "F1 (%)"], metrics), (["true", *names], matrix)))


def latex_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of texts with booktabs' rules for LaTeX."""
    lines = [" & ".join(map(latex_text, row)) + r" \\" for row in (head, *rows)]
    return "\n".join([rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule", lines[0], r"\midrule", *lines[1:],
                      r"\bottomrule", r"\end{tabular}", ""])


def latex_text(text: str) -> str:
    """Return a text for LaTeX: letters with a meaning there are escaped, and signs are those of mathematics."""
    text = re.sub(r"([_%&#${}])", r"\\\1", text.replace("\\", r"\textbackslash ").replace("~", r"\textasciitilde "))
    text = re.sub(r"(?<!\w)([-+])(?=\d)", r"$\1$", text.replace("^", r"\textasciicircum "))
    return text.replace("±", r"$\pm$").replace("–", "--").replace("<", "$<$").replace(">", "$>$")


# ---------------------------------------------------------------------------------------------- predictions

CONFIDENCE, RESAMPLES = 0.95, 2000


@dataclass(frozen=True)
class Predictions:
    """The predictions of a recognizer: the images' labels (N,) and the predicted probabilities (N, n).

    ``group`` (N,) numbers the subjects that the images show; None if the images count as independent.
    """

    label: np.ndarray
    probabilities: np.ndarray
    group: np.ndarray | None = None

    @property
    def predicted(self) -> np.ndarray:
        """The predicted expressions (N,)."""
        return self.probabilities.argmax(1)

    @property
    def report(self) -> Report:
        """The metrics of the confusion matrix."""
        return Report(confusion_matrix(self.label, self.predicted, self.probabilities.shape[1]))

    @cached_property
    def intervals(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The 95 % intervals of accuracy and mean class accuracy in percent, by scipy's percentile bootstrap.

        Whole groups are resampled, since pictures of one person are right or wrong together; NaN for a single group. If
        a resample lacks an expression, its recall in the whole sample counts.
        """
        group = np.arange(len(self.label)) if self.group is None else self.group
        (numbers, rows), n = np.unique(group, return_inverse=True), self.probabilities.shape[1]
        groups = len(numbers)
        if groups < 2:
            return (float("nan"),) * 2, (float("nan"),) * 2
        counts = np.zeros((2, groups, n))  # images of a group and class, and those of them that are right
        np.add.at(counts[0], (rows, self.label), 1)
        np.add.at(counts[1], (rows, self.label), self.predicted == self.label)

        def accuracies(resampled: np.ndarray, axis: int) -> np.ndarray:
            images, right = (part[resampled].sum(axis - 1) for part in counts)
            recall = np.where(images > 0, _ratio(right, images), self.report.recall / 100)
            return 100 * np.stack([right.sum(-1) / images.sum(-1), np.nanmean(recall, -1)])

        result = scipy.stats.bootstrap((np.arange(groups),), accuracies, n_resamples=RESAMPLES, vectorized=True,
                                       batch=max(1, 4_000_000 // (groups * n)), confidence_level=CONFIDENCE,
                                       method="percentile", random_state=np.random.default_rng(0))
        low, high = (np.asarray(side, float).tolist() for side in result.confidence_interval)
        return tuple(zip(low, high))

    def as_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Return all metrics, also those of the report, as plain values for a JSON file; NaN becomes None."""
        accuracy, mean_class = ([plain(side) for side in interval] for interval in self.intervals)
        return {**self.report.as_dict(names), "accuracy_interval": accuracy, "mean_class_accuracy_interval": mean_class,
                "interval": {"confidence": CONFIDENCE, "resamples": RESAMPLES,
                             "drawn_again": "images" if self.group is None else "subjects"}}

    def as_text(self) -> str:
        """Return two lines for a terminal: accuracies, then images and what the intervals resample."""
        unit, count = ("images", len(self.label)) if self.group is None else ("subjects", len(np.unique(self.group)))
        resampling = "" if np.isnan(self.intervals[0][0]) else f"; 95 % intervals from resampling {count} {unit}"
        return f"{self.accuracies()}\n{len(self.label)} images{resampling}"

    def accuracies(self) -> str:
        """Return one line for a terminal: accuracies with their intervals and chance levels."""
        report = self.report
        rows = zip((("accuracy", "most frequent expression"), ("mean class accuracy", "chance")),
                   (report.accuracy, report.mean_class_accuracy), self.intervals, report.chance)
        return "   ".join(f"{name} {value:.2f} % (" + ("" if np.isnan(low) else f"{low:.1f} to {high:.1f}; ")
                          + f"{compared} {chance:.1f})" for (name, compared), value, (low, high), chance
                          in rows) + f"   mean F1 {report.mean_f1:.2f} %"


# --------------------------------------------------------------------------------------------------- images

def psnr(image: Tensor, truth: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio (N,) in dB of images (N, 3, S, S) in [-1, 1]; infinite for equal ones."""
    return 10 * torch.log10(4 / (image.double() - truth.double()).square().mean((1, 2, 3)))


def ssim(image: Tensor, truth: Tensor) -> Tensor:
    """Return the structural similarity (N,) of images (N, 3, S, S) in [-1, 1], S ≥ 11; 1 for equal ones.

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
    """Return the Fréchet distance of the normal distributions with the moments of features (N, F) and (M, F).

    |μx − μy|² + tr(Σx + Σy − 2·(Σx·Σy)^½). It is larger for fewer samples, so compare distances of equal numbers only.
    """
    covariances = [np.atleast_2d(np.cov(features, rowvar=False)) for features in (x, y)]
    product = covariances[0] @ covariances[1]
    with warnings.catch_warnings():  # the product is singular if there are fewer samples than features
        warnings.simplefilter("ignore", scipy.linalg.LinAlgWarning)
        trace = np.trace(scipy.linalg.sqrtm(product)).real
    if np.isnan(trace):  # scipy finds no root of some singular products, older versions of more of them
        trace = np.sqrt(np.linalg.eigvals(product).real.clip(0)).sum()
    distance = ((x.mean(0) - y.mean(0)) ** 2).sum() + sum(np.trace(c) for c in covariances) - 2 * trace
    return max(0.0, float(distance))


def plain(value: float) -> float | None:
    """Return a number for a JSON file, with four decimals; None for NaN."""
    return None if np.isnan(value) else round(float(value), 4)


def _percent(value: float, width: int) -> str:
    return f"{'–':>{width}}" if np.isnan(value) else f"{value:{width}.1f}"


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
