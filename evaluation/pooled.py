"""Several runs as one result: their pooled confusion matrix, and the spread of their accuracies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Sequence

import numpy as np
import scipy.stats

from evaluation.metrics import CONFIDENCE, Report, plain


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of some figures, and the 95 % interval of their mean by Student's t.

    The deviation is that of a sample (n - 1); it and the interval are NaN for a single figure.
    """

    mean: float
    deviation: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Spread":
        """From at least one figure."""
        n, mean = len(figures), float(np.mean(figures))
        if n < 2:
            return cls(mean, *[float("nan")] * 3)
        deviation = float(np.std(figures, ddof=1))
        half = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * deviation / n ** 0.5
        return cls(mean, deviation, mean - half, mean + half)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {"mean": plain(self.mean), "standard_deviation": plain(self.deviation),
                "interval": [plain(self.low), plain(self.high)]}


@dataclass(frozen=True)
class Pooled:
    """The reports of runs, by the runs' names, on test images of their own (folds) or on the same ones (seeds)."""

    names: Sequence[str]
    reports: Sequence[Report]

    @cached_property
    def report(self) -> Report:
        """The figures of the sum of all confusion matrices."""
        return Report(np.sum([report.counts for report in self.reports], axis=0))

    @cached_property
    def accuracy(self) -> Spread:
        """That of the runs' accuracies in %."""
        return Spread.of([report.accuracy for report in self.reports])

    @cached_property
    def mean_class_accuracy(self) -> Spread:
        """That of the runs' mean class accuracies in %."""
        return Spread.of([report.mean_class_accuracy for report in self.reports])

    @property
    def heading(self) -> str:
        """One line for a picture."""
        a, m = self.accuracy, self.mean_class_accuracy
        return f"accuracy {a.mean:.1f} ± {a.deviation:.1f} %, mean of classes {m.mean:.1f} ± {m.deviation:.1f} %"

    def as_dict(self, expressions: Sequence[str]) -> dict[str, Any]:
        """Plain values for a JSON file: the pooled report's, each run's, and their spread."""
        runs = [{"run": name, "images": int(report.counts.sum()), "accuracy": plain(report.accuracy),
                 "mean_class_accuracy": plain(report.mean_class_accuracy), "counts": report.counts.tolist()}
                for name, report in zip(self.names, self.reports)]
        return {**self.report.as_dict(expressions), "runs": runs, "over_runs": {
            "accuracy": self.accuracy.as_dict(), "mean_class_accuracy": self.mean_class_accuracy.as_dict(),
            "interval": {"confidence": CONFIDENCE, "of": "the mean over runs, by Student's t"}}}

    def as_text(self) -> str:
        """A table for a terminal: a line per run, then mean, standard deviation, interval and the pooled figures."""
        a, m, width = self.accuracy, self.mean_class_accuracy, max(13, *map(len, self.names))
        rows = [(name, str(int(report.counts.sum())), f"{report.accuracy:.2f}", f"{report.mean_class_accuracy:.2f}")
                for name, report in zip(self.names, self.reports)]
        rows += [("mean ± sd", "", *(f"{s.mean:.2f} ± {s.deviation:.2f}" for s in (a, m))),
                 ("95 % interval", "", *(f"{s.low:.1f} to {s.high:.1f}" for s in (a, m))),
                 ("pooled", str(int(self.report.counts.sum())), f"{self.report.accuracy:.2f}",
                  f"{self.report.mean_class_accuracy:.2f}")]
        head = ("run", "images", "accuracy %", "mean class accuracy %")
        return "\n".join(f"{name:<{width}}  {images:>7}  {accuracy:>15}  {mean:>21}"
                         for name, images, accuracy, mean in [head, *rows])
