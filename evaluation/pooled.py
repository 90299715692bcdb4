"""Several runs as one result: their pooled confusion matrix, and the spread of their accuracies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Sequence

import numpy as np
import scipy.stats

from evaluation.metrics import CONFIDENCE, Report, plain


class Spread(NamedTuple):
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

    def __str__(self) -> str:
        return f"{self.mean:.1f}" + ("" if np.isnan(self.deviation) else f" ± {self.deviation:.1f}")

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
    def spreads(self) -> tuple[Spread, Spread]:
        """Those of the runs' accuracies and of their mean class accuracies in per cent."""
        return (Spread.of([report.accuracy for report in self.reports]),
                Spread.of([report.mean_class_accuracy for report in self.reports]))

    @property
    def heading(self) -> str:
        """One line for a picture."""
        accuracy, mean_class = (f"{spread.mean:.1f} ± {spread.deviation:.1f} %" for spread in self.spreads)
        return f"accuracy {accuracy}, mean of classes {mean_class}"

    def as_dict(self, expressions: Sequence[str]) -> dict[str, Any]:
        """Plain values for a JSON file: the pooled report's, each run's, and their spread."""
        runs = [{"run": name, "images": int(report.counts.sum()), "accuracy": plain(report.accuracy),
                 "mean_class_accuracy": plain(report.mean_class_accuracy), "counts": report.counts.tolist()}
                for name, report in zip(self.names, self.reports)]
        accuracy, mean_class = (spread.as_dict() for spread in self.spreads)
        return {**self.report.as_dict(expressions), "runs": runs, "over_runs": {
            "accuracy": accuracy, "mean_class_accuracy": mean_class,
            "interval": {"confidence": CONFIDENCE, "of": "the mean over runs, by Student's t"}}}

    def as_text(self) -> str:
        """A table for a terminal: a line per run, then mean, standard deviation, interval and the pooled figures."""
        rows = [("run", "images", "accuracy %", "mean class accuracy %")]
        rows += [(name, int(report.counts.sum()), f"{report.accuracy:.2f}", f"{report.mean_class_accuracy:.2f}")
                 for name, report in zip((*self.names, "pooled"), (*self.reports, self.report))]
        rows[-1:-1] = [("mean ± sd", "", *(f"{s.mean:.2f} ± {s.deviation:.2f}" for s in self.spreads)),
                       ("95 % interval", "", *(f"{s.low:.1f} to {s.high:.1f}" for s in self.spreads))]
        width = max(13, *map(len, self.names))
        return "\n".join(f"{name:<{width}}  {images:>7}  {accuracy:>15}  {mean:>21}"
                         for name, images, accuracy, mean in rows)
