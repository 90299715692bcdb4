"""Several runs together: pooled results with their spread, and groups of runs compared over trainings and persons."""

import csv
import io
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np
import scipy.stats

from evaluation.metrics import CONFIDENCE, RESAMPLES, Report, latex_table, plain
from models.recognizer import near_chance

MEASURES = ("accuracy", "mean class accuracy", "mean F1")
COMPARED = MEASURES[0]  # whose differences and p values stand in the LaTeX table
Key = tuple[int, int | None]  # seed and fold
ADVICE = "the runs tell of new trainings, the persons of new persons: believe the larger p"
NO_INTERVAL = "two runs give no interval and no p over runs"


class Spread(NamedTuple):
    """The mean and standard deviation of values, and the 95 % interval of their mean by Student's t.

    The deviation is that of a sample (n - 1). It is NaN for a single value, and the interval for fewer than three.
    """

    mean: float
    deviation: float
    low: float
    high: float

    @classmethod
    def from_values(cls, values: Sequence[float], least: float = 0, most: float = 100) -> "Spread":
        """Return the spread of at least one value; the interval ends at the ``least`` and ``most`` possible values."""
        n, mean = len(values), float(np.mean(values))
        deviation = float(np.std(values, ddof=1)) if n > 1 else float("nan")
        half = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * deviation / n ** 0.5 if n > 2 else float("nan")
        return cls(mean, deviation, *np.clip((mean - half, mean + half), least, most).tolist())

    def __str__(self) -> str:
        """Return mean ± standard deviation, or the mean of a single value alone."""
        return f"{self.mean:.1f}" + ("" if np.isnan(self.deviation) else f" ± {self.deviation:.1f}")

    def interval(self, form: str = ".1f") -> str:
        """Return the interval as a phrase, a dash if there is none."""
        return "–" if np.isnan(self.low) else f"{self.low:{form}} to {self.high:{form}}"

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
                       ("95 % interval", "", *(spread.interval() for spread in self.spreads))]
        width = max(13, *map(len, self.names))
        return "\n".join(f"{name:<{width}}  {images:>7}  {accuracy:>15}  {mean:>21}"
                         for name, images, accuracy, mean in rows)


# ------------------------------------------------------------------------------------------------- comparison

class RunResult(NamedTuple):
    """The test result of a run: its report, and by content and label of each image whether it was recognized.

    ``person`` tells who is in each image; it is empty if nothing names the persons.
    """

    report: Report
    correct: Mapping[str, bool]
    person: Mapping[str, str] = {}

    def value(self, measure: str) -> float:
        """Return one of :data:`MEASURES` in percent."""
        return getattr(self.report, measure.replace(" ", "_").lower())


class Group(NamedTuple):
    """Runs whose options differ in seed and fold alone, by seed and fold."""

    name: str
    runs: Mapping[Key, RunResult]

    def values(self, measure: str) -> list[float]:
        """Return one of :data:`MEASURES` of every run in percent."""
        return [run.value(measure) for run in self.runs.values()]

    def keys_text(self) -> str:
        """Return seeds and folds of the runs as a phrase."""
        return ", ".join(f"seed {seed}" + (f" fold {fold}" if fold else "") for seed, fold in self.runs)

    def spreads(self) -> list[Spread]:
        """Return the spreads of all :data:`MEASURES` over the runs."""
        return [Spread.from_values(self.values(measure)) for measure in MEASURES]


class Paired(NamedTuple):
    """Differences of paired values: their spread, p (NaN if there is none), and the number of runs or persons.

    Fewer than three runs give neither an interval nor p.
    """

    spread: Spread
    p: float
    count: int

    @classmethod
    def from_values(cls, first: Sequence[float], other: Sequence[float]) -> "Paired":
        """Return the differences ``other`` minus ``first`` of at least one pair of runs, with the paired t test."""
        differences = np.subtract(other, first)
        exact = differences.round(9)  # equal differences of percentages are rounded differently
        if len(differences) < 3 or np.ptp(exact) == 0:  # without a deviation the test has no meaning
            p = float("nan") if len(differences) < 3 or exact[0] else 1.0
        else:
            p = float(scipy.stats.ttest_rel(other, first).pvalue)
        return cls(Spread.from_values(differences, -100, 100), p, len(differences))

    @classmethod
    def over_persons(cls, pairs: Sequence[tuple[RunResult, RunResult]]) -> "Paired | None":
        """Return the difference in accuracy over the common images of pairs of runs; None if persons are not known.

        The images of a person count together, in all runs. p is that of a permutation test in which the two results of
        random persons are exchanged, and the interval that of a bootstrap of persons.
        """
        right, images = defaultdict(float), defaultdict(int)
        for first, other in pairs:
            for image in first.correct.keys() & other.correct.keys() & first.person.keys():
                right[first.person[image]] += other.correct[image] - first.correct[image]
                images[first.person[image]] += 1
        if len(images) < 2:
            return None
        persons = sorted(images)
        right, images = (np.array([table[person] for person in persons]) for table in (right, images))
        random, n = np.random.default_rng(0), len(persons)
        exchanged = [abs(random.choice((-1, 1), n) @ right) for _ in range(RESAMPLES)]
        drawn = [random.integers(n, size=n) for _ in range(RESAMPLES)]
        low, high = np.percentile([100 * right[rows].sum() / images[rows].sum() for rows in drawn], (2.5, 97.5))
        p = (1 + sum(value >= abs(right.sum()) for value in exchanged)) / (1 + RESAMPLES)
        return cls(Spread(100 * right.sum() / images.sum(), float("nan"), float(low), float(high)), float(p), n)

    def as_text(self) -> str:
        """Return a phrase with the mean difference, its interval and p."""
        interval = "" if np.isnan(self.spread.low) else f" (95 % interval {self.spread.interval('+.1f')})"
        return f"{self.spread.mean:+.1f} points{interval}" + ("" if np.isnan(self.p) else f", {p_text(self.p)}")


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


def p_text(p: float) -> str:
    """Return a p value as a phrase for a text or, in dollars, for LaTeX."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, each of which is compared with the first one over their common seeds and folds.

    ``options`` are those that differ, by name, with the value of each group; ``notes`` are what speaks against results.
    """

    groups: Sequence[Group]
    options: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def common(self, other: Group) -> list[tuple[RunResult, RunResult]]:
        """Return the pairs of runs of the first group and of another one that have the same seed and fold."""
        return [(run, other.runs[key]) for key, run in self.groups[0].runs.items() if key in other.runs]

    def comparable(self, other: Group) -> list[tuple[RunResult, RunResult]]:
        """Return those common pairs of runs that were tested on the same images with the same labels."""
        return [pair for pair in self.common(other) if pair[0].correct.keys() == pair[1].correct.keys()]

    def paired(self, other: Group, measure: str) -> Paired | None:
        """Return the differences of a group to the first one over comparable runs; None if there are none."""
        values = [[run.value(measure) for run in pair] for pair in self.comparable(other)]
        return Paired.from_values(*zip(*values)) if values else None

    def mcnemar(self, other: Group) -> McNemar | None:
        """Return McNemar's test over the common images of all common runs; None if there are none."""
        pairs = [(first.correct[name], second.correct[name]) for first, second in self.common(other)
                 for name in first.correct if name in second.correct]
        only_first, only_other = pairs.count((True, False)), pairs.count((False, True))
        return McNemar(only_first, only_other, len(pairs)) if pairs else None

    def all_notes(self) -> list[str]:
        """Return the notes, and sentences on groups near chance and on test images that differ between groups."""
        reports = {group.name: Pooled((), [run.report for run in group.runs.values()]).report for group in self.groups}
        notes = [*self.notes, *(f"the mean class accuracy of {name} is near chance ({report.chance[1]:.1f} %)"
                                for name, report in reports.items() if near_chance(report.counts))]
        for other in self.groups[1:]:
            common, images = self.common(other), self.mcnemar(other)
            if different := len(common) - len(self.comparable(other)):
                notes.append(f"{different} of {len(common)} runs of {other.name} and {self.groups[0].name} with a "
                             f"common seed and fold were tested on different images ({images.images if images else 0} "
                             "in common), so that they are not paired")
        if any(len(group.runs) == 2 for group in self.groups):
            notes.append(NO_INTERVAL)
        return notes

    def as_text(self) -> str:
        """Return a table for a terminal, and a paragraph for each group that is compared with the first."""
        first, width = self.groups[0], max(7, *(len(group.name) for group in self.groups))
        head = "  ".join(f"{measure + ' %':>21}  {'95 % interval':>15}" for measure in MEASURES)
        lines = [f"{'setting':<{width}}  runs  {head}"]
        for group in self.groups:
            cells = "  ".join(f"{spread!s:>21}  {spread.interval():>15}" for spread in group.spreads())
            lines.append(f"{group.name:<{width}}  {len(group.runs):4d}  {cells}")
        lines += [f"note: {note}" for note in self.all_notes()]
        if self.options:
            lines += ["", f"options that differ: {', '.join(group.name for group in self.groups)}"]
            lines += [f"  --{name}: {', '.join(map(str, values))}" for name, values in self.options.items()]
        for other in self.groups[1:]:
            lines += ["", f"{other.name} against {first.name}:", *self._tests(other)]
        return "\n".join(lines)

    def _tests(self, other: Group) -> list[str]:
        """Return a line for each test of a group against the first one."""
        first, pairs = self.groups[0], self.comparable(other)
        persons, mcnemar = Paired.over_persons(self.common(other)), self.mcnemar(other)
        over = f"{'paired t test' if len(pairs) > 2 else 'mean'} over {len(pairs)} common run{'s' * (len(pairs) != 1)}"
        lines = [f"  {measure}: {self.paired(other, measure).as_text()}, {over}" for measure in MEASURES if pairs] or \
            [f"  no paired difference, since no runs have both a common seed and fold ({first.keys_text()} against "
             f"{other.keys_text()}) and the same test images: train both settings with the same --seed and --folds"]
        if persons:
            lines.append(f"  accuracy: {persons.as_text()}, permutation test over {persons.count} persons; {ADVICE}")
        if mcnemar:
            lines.append(f"  McNemar's test on {mcnemar.images:,} common predictions: only {other.name} is right "
                         f"on {mcnemar.only_other}, only {first.name} on {mcnemar.only_first}, "
                         f"{p_text(mcnemar.p)} (exact; predictions of one image or person count as independent)")
        return lines

    def _row(self, group: Group, measure: str) -> dict[str, str | float | int]:
        """Return a row of the CSV file, with all values in percent or percentage points."""
        spread = Spread.from_values(group.values(measure))
        row = {"group": group.name, "measure": measure, "runs": len(group.runs), "mean": spread.mean,
               "sd": spread.deviation, "low": spread.low, "high": spread.high}
        if group is self.groups[0]:
            return row
        tests = {"": self.paired(group, measure)}
        if measure == MEASURES[0]:
            tests["persons_"] = Paired.over_persons(self.common(group))
        for name, test in tests.items():
            if test:
                row |= {f"{name or 'common_runs'}".rstrip("_"): test.count, f"{name}difference": test.spread.mean,
                        f"{name}p": test.p, f"{name}difference_low": test.spread.low,
                        f"{name}difference_high": test.spread.high}
        if measure == MEASURES[0] and (mcnemar := self.mcnemar(group)):
            row |= {"mcnemar_only_first": mcnemar.only_first, "mcnemar_only_this": mcnemar.only_other,
                    "mcnemar_p": mcnemar.p}
        return row

    def as_csv(self) -> str:
        """Return a row per group and measure, and one per group and option that differs, as CSV with four decimals.

        Unknown values are empty.
        """
        rows = [self._row(group, measure) for group in self.groups for measure in MEASURES]
        rows += [{"group": group.name, "measure": f"--{name}", "value": str(value)}
                 for name, values in self.options.items() for group, value in zip(self.groups, values)]
        text = io.StringIO()
        writer = csv.DictWriter(text, dict.fromkeys(name for row in rows for name in row), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: ("" if np.isnan(value) else f"{value:.4f}") if isinstance(value, float) else value
                             for name, value in row.items()})
        return text.getvalue()

    def as_latex(self) -> str:
        """Return a table with booktabs' rules: mean ± sd of each group, its difference to the first one, and p values.

        The options that differ and the notes follow as comments.
        """
        head = ["setting", "runs", "accuracy (%)", "mean class (%)", "F1 (%)", f"difference in {COMPARED}", "p (runs)",
                "p (persons)", "p (McNemar)"]
        rows = []
        for group in self.groups:
            tests = [] if group is self.groups[0] else [
                self.paired(group, COMPARED), Paired.over_persons(self.common(group)), self.mcnemar(group)]
            phrase = tests[0].as_text() if tests and tests[0] else "–"
            difference = phrase.partition(", p")[0].replace(" points (95 % interval ", " (").removesuffix(" points")
            rows.append([group.name, str(len(group.runs)), *map(str, group.spreads()), difference, *(
                "–" if test is None or np.isnan(test.p) else p_text(test.p)[2:].removeprefix("= ")
                for test in tests or [None] * 3)])
        notes = ["needs the package booktabs; mean class: mean class accuracy; F1: mean over the expressions",
                 f"difference: {COMPARED} against the first row in points (95 % interval over runs); p, of the "
                 "accuracy as well: paired t test over runs, permutation test over persons, McNemar's test of the predictions",
                 *(f"--{name}: {', '.join(map(str, values))}" for name, values in self.options.items()),
                 *self.all_notes()]
        return latex_table(head, rows) + "".join(f"% {note}\n" for note in notes)
