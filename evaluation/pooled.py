"""The result of several runs together: their pooled confusion matrix, and the spread of their accuracies."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Sequence

import numpy as np
import scipy.stats

from evaluation.metrics import CONFIDENCE, Report, plain


class Spread(NamedTuple):
    """The mean and standard deviation of values, and the 95 % interval of their mean by Student's t.

    The deviation is that of a sample (n - 1); it and the interval are NaN for a single value.
    """

    mean: float
    deviation: float
    low: float
    high: float

    @classmethod
    def from_values(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value."""
        n, mean = len(values), float(np.mean(values))
        if n < 2:
            return cls(mean, *[float("nan")] * 3)
        deviation = float(np.std(values, ddof=1))
        half = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * deviation / n ** 0.5
        return cls(mean, deviation, mean - half, mean + half)

    def __str__(self) -> str:
        """Return mean ± standard deviation, or the mean of a single value alone."""
        return f"{self.mean:.1f}" + ("" if np.isnan(self.deviation) else f" ± {self.deviation:.1f}")

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return {"mean": plain(self.mean), "standard_deviation": plain(self.deviation),
                "interval": [plain(self.low), plain(self.high)]}


@dataclass(frozen=True)
class Pooled:
    """The names and reports of runs, each on test images of its own (folds) or all on the same ones (seeds)."""

    names: Sequence[str]
    reports: Sequence[Report]

    @cached_property
    def report(self) -> Report:
        """The report of the sum of all confusion matrices."""
        return Report(np.sum([report.counts for report in self.reports], axis=0))

    @cached_property
    def spreads(self) -> tuple[Spread, Spread]:
        """The spreads of the runs' accuracies and mean class accuracies in percent."""
        return (Spread.from_values([report.accuracy for report in self.reports]),
                Spread.from_values([report.mean_class_accuracy for report in self.reports]))

    @property
    def heading(self) -> str:
        """The heading of a picture: both accuracies with their deviations."""
        accuracy, mean_class = (f"{spread} %" for spread in self.spreads)
        return f"accuracy {accuracy}, mean of classes {mean_class}"

    def as_dict(self, expressions: Sequence[str]) -> dict[str, Any]:
        """Return plain values for a JSON file: the pooled report, each run's accuracies, and their spread."""
        runs = [{"run": name, "images": int(report.counts.sum()), "accuracy": plain(report.accuracy),
                 "mean_class_accuracy": plain(report.mean_class_accuracy), "counts": report.counts.tolist()}
                for name, report in zip(self.names, self.reports)]
        accuracy, mean_class = (spread.as_dict() for spread in self.spreads)
        return {**self.report.as_dict(expressions), "runs": runs, "over_runs": {
            "accuracy": accuracy, "mean_class_accuracy": mean_class,
            "interval": {"confidence": CONFIDENCE, "of": "the mean over runs, by Student's t"}}}

    def as_text(self) -> str:
        """Return a table for a terminal: a line per run, then mean, deviation, interval and the pooled metrics."""
        rows = [("run", "images", "accuracy %", "mean class accuracy %")]
        rows += [(name, int(report.counts.sum()), f"{report.accuracy:.2f}", f"{report.mean_class_accuracy:.2f}")
                 for name, report in zip((*self.names, "pooled"), (*self.reports, self.report))]
        rows[-1:-1] = [("mean ± sd", "", *(f"{s.mean:.2f} ± {s.deviation:.2f}" for s in self.spreads)),
                       ("95 % interval", "", *(f"{s.low:.1f} to {s.high:.1f}" for s in self.spreads))]
        width = max(13, *map(len, self.names))
        return "\n".join(f"{name:<{width}}  {images:>7}  {accuracy:>15}  {mean:>21}"
                         for name, images, accuracy, mean in rows)
