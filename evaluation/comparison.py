"""Several runs together: pooled results with their spread; groups compared by paired differences and McNemar's test."""

import csv
import io
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np
import scipy.stats

import utils
from evaluation.metrics import CONFIDENCE, Report, plain
from models.recognizer import near_chance
from options.config import OPTIONS
from utils import UserError

MEASURES = ("accuracy", "mean class accuracy")
Key = tuple[int, int | None]  # seed and fold
MEMBER = re.compile(r"\b(seed|fold)_\d{2,}")
NO_SETTINGS = {"seed", "seeds", "split_seed", "fold", "preset", "size", "save_minutes", "log_every", "num_workers",
               "cache"}


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


# ------------------------------------------------------------------------------------------------- comparison

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
            if near_chance(report.counts):
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


# ------------------------------------------------------------------------------------------------- settings

def run_options(folder: Path) -> dict[str, Any]:
    """Return the options of the run whose recognizer lies in ``folder``, empty if it has no ``options.json``.

    Raises UserError if that file is damaged.
    """
    path = folder.parent / "options.json"
    saved = utils.read_json(path) if path.is_file() else {}
    if not isinstance(saved, dict):
        raise UserError(f"{path}: damaged, it holds no options; restore it from a backup")
    return saved


def setting_of(folder: Path) -> dict[str, Any]:
    """Return the options of a run that must be equal for all seeds and folds.

    Paths into runs of one series are equal here, since the names of seeds and folds in them are replaced.
    """
    return {name: MEMBER.sub(r"\1_*", value) if isinstance(value, str) else value
            for name, value in run_options(folder).items()
            if name in OPTIONS and OPTIONS[name].restore != "momentary" and name not in NO_SETTINGS}


def check_same_setting(folders: Sequence[Path], flag: str = "--resume_dir") -> None:
    """Check that the options of runs, named by ``flag``, differ only in seed and fold. Raises UserError if not."""
    first = setting_of(folders[0])
    for folder in folders[1:]:
        other = setting_of(folder)
        differing = [name for name in first if name in other and first[name] != other[name]]
        differing.sort(key=lambda name: name in ("gan_from", "perceptual"))  # paths, which say less, come last
        if differing:
            name = differing[0]
            more = f" (and {', '.join(f'--{name}' for name in differing[1:6])})" if len(differing) > 1 else ""
            raise UserError(f"{flag}: {folders[0]} was trained with --{name} {first[name]} and {folder} with "
                            f"--{name} {other[name]}{more}; only runs that differ in seed and fold are pooled; give "
                            "each setting an --against of its own")


def keys_of(folders: Sequence[Path]) -> list[tuple[int, int | None]]:
    """Return seed and fold of each run of a group. Raises UserError if a run has no seed or two have the same."""
    folder_of: dict[tuple[int, int | None], Path] = {}
    for folder in folders:
        saved = run_options(folder)
        if "seed" not in saved:
            raise UserError(f"{folder}: {folder.parent / 'options.json'} holds no seed, which --against needs")
        key = seed, fold = saved["seed"], saved.get("fold")
        if key in folder_of:
            raise UserError(f"{folder}: has the same seed {seed}" + (f" and fold {fold}" if fold else "")
                            + f" as {folder_of[key]}; name one of them")
        folder_of[key] = folder
    return list(folder_of)
