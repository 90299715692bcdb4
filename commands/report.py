"""``--mode report``: write the results of a run as one page, ``report.html`` in its directory."""

import csv
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Mapping, Sequence

import utils
from datasets.files import check_output, check_table
from models.recognizer import chance_level
from options.command_line import absolute, read_run_options
from options.config import DEFAULTS, OPTIONS, PRESETS, Config
from pictures.page import HEAD, charts, page, picture, table, verdict
from training.facts import DATE
from utils import UserError

NAME = "report.html"
PHASES = {"perceptual": "Perceptual network (stage 0)", "gan": "GAN", "recognizer": "Recognizer"}
MEASURES = {"transfer": ("expression transferred", "%"), "kept": ("old expression kept", "%"),
            "judge_accuracy": ("the judge's own accuracy", "%"), "rebuilt_psnr": ("reconstruction", "dB"),
            "psnr_gain": ("gain over the unchanged input", "dB"), "fid": ("Fréchet distance", ""),
            "fid_floor": ("Fréchet distance of real test images", "")}


def write_run_report(config: Config) -> None:
    """Write the report of the run or series in ``--checkpoint_dir`` there, or into ``--output``.

    Raises UserError if there is none.
    """
    run = Path(config.run.checkpoint_dir)
    if not (run / "options.json").is_file():
        raise UserError(f"--checkpoint_dir {run}: holds no run (options.json is not there); name the run's directory")
    save_report(run, config.use.output)


def save_report(run: Path, output: str | None = None) -> None:
    """Write ``report.html`` from the files of a run or series into its directory, or into another one.

    Raises UserError if the page cannot be written, or would overwrite something else.
    """
    path, results = Path(output or run) / NAME, run / "test_result"
    check_output(path, "--output")
    check_table(path, f"--output {path.parent}", HEAD)
    options, starts = read_run_options(run / "options.json"), read(run / "options.json").get("starts", [])
    test = read(results / "confusion_matrix.json")
    swaps = read(path.parent / "synthesis.json") or read(run / "synthesis.json")
    findings = [*test.get("verdict", []), *swaps.get("verdict", [])]
    no_finding = ("This run has tested no recognizer yet." if not test
                  else "No problem was found with the results of this run." if swaps
                  else "No problem was found with the recognizer; the swaps are not measured yet (--mode evaluate).")
    sections = [("", verdict(findings, no_finding)),
                *[(heading, content) for heading, content in (
                    ("Test", recognition_tables(test)), ("Runs", runs_table(test)), ("Swaps", swaps_table(swaps)),
                    ("Training", starts_table(starts, options, results / "confusion_matrix.json")),
                    ("Options that differ from the preset", options_table(options, starts))) if content],
                *curves(run / "log" / "metrics.csv", len(options.get("attributes") or ()) or None)]
    places = {"Test persons with every expression": results / "grid.jpg",
              "Confusion matrix": results / "Con_Matrix.png", "Surest mistakes": results / "mistakes.jpg",
              "Swaps of the last epoch": max((run / "img").glob("epoch_*.jpg"), default=run / "img",
                                             key=lambda sheet: (len(sheet.name), sheet.name))}  # epoch_1000 is later
    sections += [(heading, picture(place, heading)) for heading, place in places.items() if place.is_file()]
    note = f"{test.get('title', run)}; preset {options['preset']}"
    utils.write_text(path, page(f"Run {run.resolve().name}", note, sections))
    print(f"wrote {path}")


def read(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; it is empty if the file is not there. Raises UserError if it is damaged."""
    content = utils.read_json(path) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def recognition_tables(test: Mapping[str, Any]) -> str:
    """Return the accuracies with their intervals and chance levels, and a row for each expression, as HTML."""
    if not test:
        return ""
    rows = []
    for name in ("accuracy", "mean_class_accuracy"):
        low, high = test.get(f"{name}_interval") or (None, None)
        interval = "–" if low is None else f"{low:.1f} to {high:.1f} %"
        chance = test.get("chance", {}).get(name)
        rows.append((name.replace("_", " "), number(test[name], " %"), interval, number(chance, " %")))
    per_expression = [(name, str(row["images"]), *(number(row[metric]) for metric in ("precision", "recall", "f1")))
                      for name, row in test["per_expression"].items()]
    return (table(("", "value", "95 % interval", "chance"), rows) + "<p></p>"
            + table(("expression", "images", "precision %", "recall %", "F1 %"), per_expression))


def swaps_table(swaps: Mapping[str, Any]) -> str:
    """Return the metrics of ``--mode evaluate`` as HTML."""
    rows = [(label, number(swaps.get(name), f" {unit}".rstrip())) for name, (label, unit) in MEASURES.items()]
    return table((), rows) if swaps else ""


def number(value: float | None, unit: str = "") -> str:
    """Return a number with one decimal and its unit; a dash for None."""
    return "–" if value is None else f"{value:.1f}{unit}"


def runs_table(test: Mapping[str, Any]) -> str:
    """Return the accuracies of the runs of a series, their mean and its interval, as HTML."""
    if "runs" not in test:
        return ""
    rows = [(run["run"], str(run["images"]), number(run["accuracy"]), number(run["mean_class_accuracy"]))
            for run in test["runs"]]
    measures = [test["over_runs"][name] for name in ("accuracy", "mean_class_accuracy")]
    intervals = ("–" if None in measure["interval"] else " to ".join(map(number, measure["interval"]))
                 for measure in measures)
    rows += [("mean", "", *(number(measure["mean"]) for measure in measures)),
             ("standard deviation", "", *(number(measure["standard_deviation"]) for measure in measures)),
             ("95 % interval", "", *intervals)]
    return table(("run", "images", "accuracy %", "mean class accuracy %"), rows)


def starts_table(starts: Sequence[Mapping[str, str]], options: Mapping[str, Any], result: Path) -> str:
    """Return with which commands, when and on what a run was trained, as HTML; ``result`` is the file of its test."""
    rows = [(f"{name}{f' (start {i})' if len(starts) > 1 else ''}", str(start[name]))
            for i, start in enumerate(starts, 1) for name in ("command", "date", "commit", "torch", "device")]
    if starts and result.is_file():
        seconds = result.stat().st_mtime - time.mktime(time.strptime(starts[-1]["date"], DATE))
        rows.append(("from the last start to the test", f"{max(0.0, seconds) / 60:.1f} min"))
    return table((), [*rows, ("seed", str(options.get("seed")))], 2)


def options_table(options: Mapping[str, Any], starts: Sequence[Mapping[str, str]]) -> str:
    """Return the options of a run that differ from those of its preset, beside these, as HTML.

    They are those that were typed, if the run tells its commands.
    """
    preset = {**DEFAULTS, **PRESETS[options["preset"]]}
    resolved, typed = absolute(preset), [word for start in starts for word in start["command"].split()]
    rows = [(f"--{name}", as_typed(value), as_typed(preset[name])) for name, value in options.items()
            if OPTIONS[name].restore != "momentary" and name != "preset" and value != resolved[name]
            and (not starts or any(is_flag(word, name) for word in typed))]
    return table(("option", "this run", "preset"), rows, 3) if rows else "<p>None.</p>"


def is_flag(word: str, name: str) -> bool:
    """Return whether a word of a command is the flag of an option, maybe shortened, switched off or with its value."""
    flag = word.partition("=")[0]
    return flag == OPTIONS[name].short or len(flag) > 3 and any(
        full.startswith(flag) for full in (f"--{name}", f"--no_{name}", f"--no-{name}"))


def as_typed(value: Any) -> str:
    """Return an option's value as it is typed; a dash for None."""
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else "–" if value is None else str(value)


def curves(path: Path, num_classes: int | None) -> list[tuple[str, str]]:
    """Return a heading and charts for each phase that has finished an epoch, from the log ``metrics.csv``.

    Raises UserError if the log is damaged.
    """
    if not path.is_file():
        return []
    metrics: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    try:
        with open(path, newline="", encoding="utf-8") as handle:
            for row in csv.DictReader(handle):
                if row["phase"].endswith("_epoch"):
                    points = metrics[row["phase"].removesuffix("_epoch")][row["name"]]
                    points.append((int(row["epoch"]), float(row["value"])))
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error):
        raise UserError(f"{path}: damaged, it is not the log of a training; restore it from a backup, or move it away"
                        ) from None
    chance = chance_level(num_classes) if num_classes else None
    return [(PHASES.get(phase, phase), f'<div class="charts">{charts(of_phase, chance)}</div>')
            for phase, of_phase in metrics.items()]
