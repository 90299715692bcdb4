"""Evaluate recognizers on the images of a list: tables, matrix, predictions and mistakes of one, or a comparison."""

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence

import numpy
import torch
from PIL import Image

import utils
from commands.trained import subject_numbers
from datasets.files import check_figure, check_output, check_table, save_figure
from datasets.layout import Layout, Sample, check_images, short_names
from datasets.loading import Images, to_float
from evaluation import verdict
from evaluation.comparison import MEASURES, Comparison, Key, Pooled, RunResult
from evaluation.metrics import Predictions, Report
from models.checkpoints import TrainedRecognizer, weights_digest
from models.recognizer import explained_side, predictions_of
from pictures.cards import Card, cards_picture
from pictures.matrix import (PDF_HEAD, SVG_HEAD, confusion_pdf, confusion_picture, confusion_svg,
                             intervals_picture)
from training.facts import DIGEST, Facts, findings
from utils import UserError

MISTAKES_SHOWN = 24
PREDICTION_COLUMNS = ("file", "label", "predicted")  # the first of predictions.csv
# The files of results, and how those that are no pictures begin:
RESULTS = {"Con_Matrix.png": None, "confusion_matrix.json": '{\n  "title": ', "confusion.tex": "\\begin{tabular}",
           "predictions.csv": ",".join(PREDICTION_COLUMNS), "mistakes.jpg": None}
POOLED_RESULTS = dict(list(RESULTS.items())[:4])
MATRIX_HEADS = {"png": None, "svg": SVG_HEAD, "pdf": PDF_HEAD}
COMPARISON = {"comparison.txt": "setting", "comparison.csv": "group,measure,",
              "comparison.tex": "\\begin{tabular}{lrrrrr", "comparison.png": None}


@dataclass(frozen=True)
class EvaluationResult:
    """The predictions of a recognizer for samples, in their order, at the image size that was used.

    ``tested`` are the facts of these images, and ``notes`` tell how their expressions differ from the recognizer's.
    """

    trained: TrainedRecognizer
    samples: Sequence[Sample]
    image_size: int
    predictions: Predictions
    tested: Facts
    notes: Sequence[str] = ()

    def for_comparison(self) -> RunResult:
        """Return the result with each image's content and label, by which it is compared with others."""
        images = [f"{image[:DIGEST]} {self.tested.expressions[sample.label]}"
                  for image, sample in zip(self.tested.images["test"], self.samples)]
        correct = (self.predictions.predicted == self.predictions.label).tolist()
        return RunResult(self.predictions.report, dict(zip(images, correct)), {
            image: sample.subject.casefold() for image, sample in zip(images, self.samples) if sample.subject})

    def findings(self) -> list[str]:
        """Return what the run's facts and swaps, and its test images with their labels, say against the result."""
        facts, quality = Facts.of_metadata(self.trained.config), self.trained.config.get("swap_quality")
        return [*self.notes, *findings(facts, self.tested), *verdict.of_gate(quality, facts.options.get("gate", 0)),
                *verdict.of_labels(self.predictions.report.counts, self.tested.expressions)]


def evaluate_split(trained: TrainedRecognizer, layout: Layout, split: str, image_size: int, batch_size: int,
                   num_workers: int = 0, decoded: Images | None = None) -> EvaluationResult:
    """Evaluate a recognizer on a split of a data directory, in batches.

    ``decoded`` holds the images if they are in memory already. Raises UserError if the split is empty, or images are
    missing or cannot be read.
    """
    samples = layout.split(split)
    if not samples:
        raise UserError(f"{layout.root}: no image in the split \"{split}\"; choose another --split")
    check_images(samples)
    images = decoded.subset(samples) if decoded else Images(samples, image_size, cache="none")
    batches = images.evaluation_batches(batch_size, trained.recognizer.device, num_workers)
    label, probabilities = map(numpy.concatenate, zip(*predictions_of(trained.recognizer, trained.encoder, batches)))
    subjects = subject_numbers(samples) if any(sample.subject for sample in samples) else None
    tested = Facts.of_images(layout, {"test": images}, encoder=weights_digest(trained.encoder))  # of any list
    return EvaluationResult(trained, samples, image_size, Predictions(label, probabilities, subjects), tested,
                            [f"{layout.root} {note}" for note in layout.notes])


def check_results(folder: str | Path, flag: str, files: Mapping[str, str | None] = RESULTS) -> None:
    """Check that results can be written into a folder: :data:`RESULTS`, POOLED_RESULTS or COMPARISON.

    Raises UserError, which names ``flag`` as the option to change, if a file cannot be written or would replace one
    that this program has not written.
    """
    for name, beginning in files.items():
        path = Path(folder) / name
        check_output(path, flag)
        if beginning is None:
            check_figure(path, flag)
        else:
            check_table(path, flag, beginning)


def with_format(files: Mapping[str, str | None], file_format: str) -> dict[str, str | None]:
    """Return files of results with the confusion matrix in a format: png, or svg and pdf as vectors."""
    return {name.replace(".png", f".{file_format}"): MATRIX_HEADS[file_format] if name.endswith(".png") else beginning
            for name, beginning in files.items()}


def write_matrix(path: Path, report: Report, names: Sequence[str], heading: str, title: str | None) -> None:
    """Write the picture of a confusion matrix in the format of its name.

    As vectors, for a paper, its heading is the ``title`` alone; else that stands below the heading.
    """
    if path.suffix == ".png":
        save_figure(confusion_picture(report, names, heading, title or ""), path)
    elif path.suffix == ".svg":
        utils.write_text(path, confusion_svg(report, names, title or ""))
    else:
        with utils.atomic_file(path) as handle:
            handle.write(confusion_pdf(report, names, title or ""))


def write_report(result: EvaluationResult, names: Sequence[str], title: str, output_dir: str | Path,
                 file_format: str = "png", picture_title: str | None = None) -> None:
    """Print the tables and the verdict of a result, and write :data:`RESULTS`.

    The matrix is written in ``file_format``, and with ``picture_title`` if it is given.
    """
    predictions, report = result.predictions, result.predictions.report
    heading = f"accuracy {report.accuracy:.1f} %, mean of classes {report.mean_class_accuracy:.1f} %"
    facts = Facts.of_metadata(result.trained.config)
    found = [*result.findings(), *verdict.of_predictions(predictions, names, facts.options.get("balanced", False)),
             *verdict.of_selection(len(facts.images.get("val", ())) if facts.selected_on == "val" else 0)]
    files = with_format(RESULTS, file_format)
    matrix, table, latex, listed, mistakes = paths = [Path(output_dir) / name for name in files]
    picture = mistakes_picture(result, names)
    write_matrix(matrix, report, names, heading, picture_title or (title if file_format == "png" else None))
    utils.write_json(table, {"title": title, **predictions.as_dict(names), "verdict": found})
    utils.write_text(latex, report.as_latex(names))
    utils.write_text(listed, predictions_table(result, names))
    save_figure(picture, mistakes)
    print(f"{title}\n\n{predictions.as_text()}\n\n{report.as_text(names, short_names(names))}\n")
    print(verdict.as_text(found, "this result") + f"\n\nwrote {', '.join(map(str, paths))}")


def write_pooled(pooled: Pooled, names: Sequence[str], title: str, output_dir: str | Path, found: Sequence[str],
                 tables: Sequence[str], file_format: str = "png", picture_title: str | None = None) -> None:
    """Print the pooled metrics of several runs, and write :data:`POOLED_RESULTS`.

    ``found`` is what speaks against their results, and ``tables`` are the runs' predictions as CSV.
    """
    files = with_format(POOLED_RESULTS, file_format)
    matrix, table, latex, listed = paths = [Path(output_dir) / name for name in files]
    write_matrix(matrix, pooled.report, names, pooled.heading,
                 picture_title or (title if file_format == "png" else None))
    utils.write_json(table, {"title": title, **pooled.as_dict(names), "verdict": list(found)})
    utils.write_text(latex, pooled.report.as_latex(names))
    rows = [[*row, run] for run, text in zip(pooled.names, tables) for row in list(csv.reader(io.StringIO(text)))[1:]]
    utils.write_text(listed, csv_text([[*PREDICTION_COLUMNS, *names, "run"], *rows]))
    print(f"{title}\n\n{pooled.as_text()}\n\n{pooled.report.as_text(names, short_names(names))}\n")
    print(verdict.as_text(found, "these results") + f"\n\nwrote {', '.join(map(str, paths))}")


def predictions_table(result: EvaluationResult, names: Sequence[str]) -> str:
    """Return the predictions as CSV: file, label, predicted, and the probability of every expression."""
    predictions = result.predictions
    return csv_text([[*PREDICTION_COLUMNS, *names],
                     *([sample.name, names[sample.label], names[predicted], *(f"{p:.6f}" for p in probabilities)]
                       for sample, predicted, probabilities
                       in zip(result.samples, predictions.predicted, predictions.probabilities))])


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def mistakes_picture(result: EvaluationResult, names: Sequence[str]) -> Image.Image:
    """Draw the surest wrong predictions in the order of the matrix, with the evidence for the wrong expression.

    Of a person's pictures, which may be frames of one sequence, one is shown for each pair of expressions.
    """
    predictions = result.predictions
    wrong = (predictions.predicted != predictions.label).nonzero()[0]
    confidence = predictions.probabilities.max(1)
    kinds = {}
    for i in wrong[(-confidence[wrong]).argsort(kind="stable")].tolist():
        sample = result.samples[i]
        kinds.setdefault((sample.subject or sample.name, sample.label, predictions.predicted[i]), i)
    surest = list(kinds.values())[:MISTAKES_SHOWN]
    chosen = sorted(surest, key=lambda i: (predictions.label[i], predictions.predicted[i], -confidence[i]))
    count = f"{len(wrong)} of {len(predictions.label)} images are recognized wrongly"
    if not chosen:
        return cards_picture([], names, [f"none of {len(predictions.label)} images is recognized wrongly"])
    image = to_float(Images([result.samples[i] for i in chosen], result.image_size, cache="none")[range(len(chosen))])
    predicted = torch.from_numpy(predictions.predicted[chosen])
    heat = torch.cat([result.trained.heat_maps(*part).cpu() for part in zip(image.split(8), predicted.split(8))])
    cards = [Card(face, heat_map, predictions.probabilities[i],
                  f"{names[predictions.label[i]]} as {names[predictions.predicted[i]]}: {result.samples[i].name}",
                  int(predictions.label[i])) for face, heat_map, i in zip(image, heat, chosen)]
    more = f"; the {len(cards)} surest of them" if len(wrong) > len(cards) else ""
    side = explained_side(result.image_size)
    return cards_picture(cards, names, [
        count + more, "in the order of the confusion matrix; framed: the true expression; heat: evidence for the "
        f"wrong one (LayerCAM, maps of {side} x {side})"])


# --------------------------------------------------------------------------------------- groups of recognizers

def find_keys(folders: Sequence[Path], facts: Sequence[Facts], flag: str) -> list[Key]:
    """Return seed and fold of each run of a group, which ``flag`` names.

    Raises UserError if the runs differ in more than seed and fold.
    """
    first = facts[0].settings()
    for folder, other in zip(folders, facts):
        different = {name: value for name, value in other.settings().items() if name in first and first[name] != value}
        if different:
            name = min(different, key=lambda name: name in ("gan_from", "perceptual"))  # paths say less
            raise UserError(f"{flag}: {folders[0]} was trained with --{name} {first[name]} and {folder} with "
                            f"--{name} {different[name]}; only runs that differ in seed and fold are pooled; give each "
                            "setting an --against of its own")
    return [(of_run.options.get("seed"), of_run.options.get("fold")) for of_run in facts]


def check_keys(folders: Sequence[Path], keys: Sequence[Key]) -> None:
    """Check that the runs of a group have different seeds and folds. Raises UserError if not, or if one has no seed."""
    for i, (folder, (seed, fold)) in enumerate(zip(folders, keys)):
        if seed is None:
            raise UserError(f"{folder}: neither its checkpoint nor {folder.parent / 'options.json'} tells its seed, "
                            "which --against needs")
        if keys.index((seed, fold)) < i:
            raise UserError(f"{folder}: has the same seed {seed}" + (f" and fold {fold}" if fold else "")
                            + f" as {folders[keys.index((seed, fold))]}; name one of them")


def group_names(groups: Sequence[Sequence[Path]]) -> list[str]:
    """Return a short name for each group: its runs' common directory, without the parts that all groups share.

    Groups in one directory get what the names of their runs have in common: ``a_s1`` and ``a_s2`` are ``a_s*``.
    """
    runs = [[os.path.abspath(folder.parent) for folder in folders] for folders in groups]
    names = [os.path.commonpath(paths) for paths in runs]
    if len(set(names)) < len(names):
        names = [os.path.commonprefix(paths) + "*" * (len(paths) > 1) for paths in runs]
    directories = [Path(name).parts for name in names]
    shared = os.path.commonprefix([parts[:-1] for parts in directories])
    return ["/".join(parts[len(shared):]) for parts in directories]


def write_comparison(comparison: Comparison, output_dir: str) -> None:
    """Print the comparison, and write it as text, CSV, LaTeX and picture."""
    paths = [Path(output_dir) / name for name in COMPARISON]
    for path, text in zip(paths, (comparison.as_text() + "\n", comparison.as_csv(), comparison.as_latex())):
        utils.write_text(path, text)
    panels = [(measure, [group.values(measure) for group in comparison.groups]) for measure in MEASURES]
    save_figure(intervals_picture([group.name for group in comparison.groups], panels), paths[-1])
    print(f"{comparison.as_text()}\n\nwrote {', '.join(map(str, paths[:-1]))} and {paths[-1]}")
