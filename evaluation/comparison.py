"""The comparison of groups of runs: means and intervals, paired differences and McNemar's test."""

import csv
import io
import re
from dataclasses import dataclass
from typing import Mapping, NamedTuple, Sequence

import numpy as np
import scipy.stats

from evaluation.metrics import Report
from evaluation.pooled import Pooled, Spread

MEASURES = ("accuracy", "mean class accuracy")
Key = tuple[int, int | None]  # seed and fold


class RunResult(NamedTuple):
    """The test result of a run: its report, and by file name whether each image was recognized."""

    report: Report
    correct: Mapping[str, bool]

    def value(self, measure: str) -> float:
        """Return one of :data:`MEASURES` in percent."""
        return getattr(self.report, measure.replace(" ", "_"))


class Group(NamedTuple):
    """Runs whose options differ in seed and fold alone, by seed and fold."""

    name: str
    runs: Mapping[Key, RunResult]

    def values(self, measure: str) -> list[float]:
        """Return one of :data:`MEASURES` of every run in percent."""
        return [run.value(measure) for run in self.runs.values()]

    def spreads(self) -> list[Spread]:
        """Return the spreads of both :data:`MEASURES` over the runs."""
        return [Spread.from_values(self.values(measure)) for measure in MEASURES]


class Paired(NamedTuple):
    """Differences of paired values: their spread, the p value of the paired t test (NaN for one pair), their number."""

    spread: Spread
    p: float
    count: int

    @classmethod
    def from_values(cls, first: Sequence[float], other: Sequence[float]) -> "Paired":
        """Return the differences ``other`` minus ``first`` of at least one pair."""
        differences = np.subtract(other, first)
        exact = differences.round(9)  # equal differences of percentages are rounded differently
        if len(differences) < 2 or np.ptp(exact) == 0:  # without a deviation the test has no meaning
            p = float("nan") if len(differences) < 2 or exact[0] else 1.0
        else:
            p = float(scipy.stats.ttest_rel(other, first).pvalue)
        return cls(Spread.from_values(differences), p, len(differences))

    def as_text(self) -> str:
        """Return a phrase with the mean difference, its interval and p."""
        low, high = self.spread.low, self.spread.high
        interval = "" if np.isnan(low) else f" (95 % interval {low:+.1f} to {high:+.1f})"
        return f"{self.spread.mean:+.1f} points{interval}" + ("" if np.isnan(self.p) else f", p = {self.p:.3f}")


class McNemar(NamedTuple):
    """McNemar's test of two groups' predictions of the same images: how many only one of the groups has right."""

    only_first: int
    only_other: int
    images: int

    @property
    def p(self) -> float:
        """The exact p value of the two-sided binomial test; predictions count as independent."""
        different = self.only_first + self.only_other
        return float(scipy.stats.binomtest(self.only_first, different).pvalue) if different else 1.0


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, each of which is compared with the first one over their common seeds and folds."""

    groups: Sequence[Group]

    def common(self, other: Group) -> list[tuple[RunResult, RunResult]]:
        """Return the pairs of runs of the first group and of another one that have the same seed and fold."""
        return [(run, other.runs[key]) for key, run in self.groups[0].runs.items() if key in other.runs]

    def paired(self, other: Group, measure: str) -> Paired | None:
        """Return the differences of a group to the first one; None without common seeds or folds."""
        values = [[run.value(measure) for run in pair] for pair in self.common(other)]
        return Paired.from_values(*zip(*values)) if values else None

    def mcnemar(self, other: Group) -> McNemar | None:
        """Return McNemar's test over the common images of all common runs; None if there are none."""
        pairs = [(first.correct[name], second.correct[name]) for first, second in self.common(other)
                 for name in first.correct if name in second.correct]
        only_first, only_other = pairs.count((True, False)), pairs.count((False, True))
        return McNemar(only_first, only_other, len(pairs)) if pairs else None

    def as_text(self) -> str:
        """Return a table for a terminal, and a paragraph for each group that is compared with the first."""
        first, width = self.groups[0], max(7, *(len(group.name) for group in self.groups))
        head = "  ".join(f"{measure + ' %':>23}  {'95 % interval':>16}" for measure in MEASURES)
        lines = [f"{'setting':<{width}}  runs  {head}"]
        for group in self.groups:
            cells = "  ".join(f"{spread!s:>23}  {_interval(spread):>16}" for spread in group.spreads())
            lines.append(f"{group.name:<{width}}  {len(group.runs):4d}  {cells}")
        for group in self.groups:
            report = Pooled((), [run.report for run in group.runs.values()]).report
            if report.near_chance:
                lines.append(f"note: the mean class accuracy of {group.name} is near chance ({report.chance[1]:.1f} %)")
        for other in self.groups[1:]:
            count, mcnemar = len(self.common(other)), self.mcnemar(other)
            lines += ["", f"{other.name} against {first.name}:"]
            lines += [f"  {measure}: {self.paired(other, measure).as_text()}, paired t test over {count} common "
                      f"run{'s' * (count != 1)}" for measure in MEASURES] if count else \
                ["  no seed or fold in common, so there is no paired difference"]
            if mcnemar:
                lines.append(f"  McNemar's test on {mcnemar.images:,} common predictions: only {other.name} is right "
                             f"on {mcnemar.only_other}, only {first.name} on {mcnemar.only_first}, p = {mcnemar.p:.3f} "
                             "(exact; predictions of one image or person count as independent)")
        return "\n".join(lines)

    def _row(self, group: Group, measure: str) -> dict[str, str | float | int]:
        """Return a row of the CSV file, with all values in percent or percentage points."""
        spread = Spread.from_values(group.values(measure))
        row = {"group": group.name, "measure": measure, "runs": len(group.runs), "mean": spread.mean,
               "sd": spread.deviation, "low": spread.low, "high": spread.high}
        if group is self.groups[0]:
            return row
        if paired := self.paired(group, measure):
            row |= {"common_runs": paired.count, "difference": paired.spread.mean, "p": paired.p,
                    "difference_low": paired.spread.low, "difference_high": paired.spread.high}
        if measure == MEASURES[0] and (mcnemar := self.mcnemar(group)):
            row |= {"mcnemar_only_first": mcnemar.only_first, "mcnemar_only_this": mcnemar.only_other,
                    "mcnemar_p": mcnemar.p}
        return row

    def as_csv(self) -> str:
        """Return a row per group and measure as CSV, with four decimals; unknown values are empty."""
        rows = [self._row(group, measure) for group in self.groups for measure in MEASURES]
        text = io.StringIO()
        writer = csv.DictWriter(text, dict.fromkeys(name for row in rows for name in row), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: ("" if np.isnan(value) else f"{value:.4f}") if isinstance(value, float) else value
                             for name, value in row.items()})
        return text.getvalue()

    def as_latex(self) -> str:
        """Return a table with booktabs' rules: mean ± sd of each group, its difference to the first one, and p."""
        lines = [r"\begin{tabular}{lrrrrr}", r"\toprule",
                 r"setting & runs & accuracy (\%) & mean class accuracy (\%) & difference & $p$ \\", r"\midrule"]
        for group in self.groups:
            cells = " & ".join(f"${spread}$" for spread in group.spreads()).replace("±", r"\pm")
            difference = p = "--"
            if group is not self.groups[0] and (paired := self.paired(group, MEASURES[1])):
                mean, _, low, high = paired.spread
                difference = f"${mean:+.1f}$" + ("" if np.isnan(low) else f" [${low:+.1f}$, ${high:+.1f}$]")
                p = "--" if np.isnan(paired.p) else f"{paired.p:.3f}"
            name = re.sub(r"([_%&#${}])", r"\\\1", group.name)
            lines.append(f"{name} & {len(group.runs)} & {cells} & {difference} & {p} \\\\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", "% difference: mean class accuracy against the "
                          "first row in points [95 % interval], paired t test", ""])


def _interval(spread: Spread) -> str:
    return "–" if np.isnan(spread.low) else f"{spread.low:.1f} to {spread.high:.1f}"
