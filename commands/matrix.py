"""Recognizers evaluated on the images of a list: tables, matrix, predictions and mistakes of one, or a comparison."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import numpy
import torch
from PIL import Image

import utils
from datasets.files import check_figure, check_output, check_table, save_figure
from datasets.layout import Layout, Sample, check_images, short_names
from datasets.loading import Images, to_float
from evaluation.attribution import explained_side
from models.checkpoints import TrainedRecognizer
from pictures.cards import Card, cards_picture
from pictures.intervals import intervals_picture
from pictures.matrix import confusion_picture
from evaluation import verdict
from evaluation.comparison import MEASURES, Comparison
from evaluation.metrics import Predictions, Report
from evaluation.pooled import Pooled
from evaluation.recognition import predictions_of
from utils import UserError

MISTAKES_SHOWN = 24
RESULTS = ("Con_Matrix.png", "confusion_matrix.json", "predictions.csv", "mistakes.jpg")
ANSWERED = ("file", "label", "predicted")  # the first columns of predictions.csv


@dataclass(frozen=True)
class EvaluationResult:
    """The predictions of a recognizer for some samples, at a size; ``predictions`` are in the order of ``samples``."""

    trained: TrainedRecognizer
    samples: Sequence[Sample]
    image_size: int
    predictions: Predictions

    @property
    def report(self) -> Report:
        """The figures of the confusion matrix."""
        return self.predictions.report

    @property
    def correct(self) -> dict[str, bool]:
        """Whether each image is recognized, by file name."""
        right = self.predictions.predicted == self.predictions.label
        return {sample.name: bool(is_right) for sample, is_right in zip(self.samples, right)}


def evaluate_split(trained: TrainedRecognizer, layout: Layout, split: str, image_size: int, batch_size: int,
                 num_workers: int = 0, decoded: Images | None = None) -> EvaluationResult:
    """Judge a recognizer on a split of a data directory, in batches. Raises UserError for missing and unusable images.

    ``decoded`` holds the images where they are in memory already.
    """
    samples = layout.split(split)
    if not samples:
        raise UserError(f"{layout.root}: no image in the split \"{split}\"; choose another --split")
    check_images(samples)
    images = decoded.subset(samples) if decoded else Images(samples, image_size, cache="none")
    batches = images.evaluation_batches(batch_size, trained.recognizer.device, num_workers)
    label, probabilities = map(numpy.concatenate, zip(*predictions_of(trained.recognizer, trained.encoder, batches)))
    persons = numpy.unique([sample.subject or f"/{sample.name}" for sample in samples], return_inverse=True)[1]
    known = any(sample.subject for sample in samples)
    return EvaluationResult(trained, samples, image_size, Predictions(label, probabilities, persons if known else None))


def check_results(folder: str | Path, flag: str, pooled: bool = False) -> None:
    """Raises UserError if :func:`write_report`, or :func:`write_pooled`, would write over a table of something else.

    ``flag`` is what led there.
    """
    places = [Path(folder) / name for name in (RESULTS[:2] if pooled else RESULTS)]
    for place in places:
        check_output(place, flag)
        if place.suffix in (".png", ".jpg"):
            check_figure(place, flag)
    check_table(places[1], flag, '{\n  "title": ')
    if not pooled:
        check_table(places[2], flag, ",".join(ANSWERED))


def write_report(result: EvaluationResult, names: Sequence[str], title: str, output_dir: str | Path, run: Path
                 ) -> None:
    """Print the tables and the verdict, and write :data:`RESULTS`.

    ``run`` is the directory of the recognizer's run, which tells how many images chose it.
    """
    output_dir, report, predictions = Path(output_dir), result.report, result.predictions
    heading = f"accuracy {report.accuracy:.1f} %, mean of classes {report.mean_class_accuracy:.1f} %"
    places = [output_dir / name for name in RESULTS]
    picture = mistakes_picture(result, names)
    save_figure(confusion_picture(report, names, heading, title), places[0])
    chosen_on = validation_count(run) if result.trained.config.get("selected_on") == "val" else 0
    findings = [*verdict.of_predictions(predictions, names), *verdict.of_selection(chosen_on)]
    utils.write_json(places[1], {"title": title, **predictions.as_dict(names), "verdict": findings})
    utils.write_text(places[2], predictions_table(result, names))
    save_figure(picture, places[3])
    print(f"{title}\n\n{predictions.as_text()}\n\n{report.as_text(names, short_names(names))}\n")
    print(verdict.as_text(findings, "this result") + "\n")
    print("wrote " + ", ".join(map(str, places[:-1])) + f" and {places[-1]}")


def validation_count(run: Path) -> int:
    """The number of images that chose the recognizer of a run; 0 if the run does not tell."""
    kept = run / "splits" / "images_val.list"
    return len(kept.read_text(encoding="utf-8").splitlines()) if kept.is_file() else 0


def write_pooled(pooled: Pooled, names: Sequence[str], title: str, output_dir: str | Path) -> None:
    """Print the figures of several runs and write their ``Con_Matrix.png`` and ``confusion_matrix.json``."""
    places = [Path(output_dir) / name for name in RESULTS[:2]]
    save_figure(confusion_picture(pooled.report, names, pooled.heading, title), places[0])
    utils.write_json(places[1], {"title": title, **pooled.as_dict(names)})
    print(f"{title}\n\n{pooled.as_text()}\n\n{pooled.report.as_text(names, short_names(names))}\n")
    print(f"wrote {places[0]} and {places[1]}")


def predictions_table(result: EvaluationResult, names: Sequence[str]) -> str:
    """The answers as CSV: file, label, predicted, and the probability of every expression."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*ANSWERED, *names])
    found = result.predictions
    for sample, predicted, probabilities in zip(result.samples, found.predicted, found.probabilities):
        writer.writerow([sample.name, names[sample.label], names[predicted], *(f"{p:.6f}" for p in probabilities)])
    return text.getvalue()


def mistakes_picture(result: EvaluationResult, names: Sequence[str]) -> Image.Image:
    """The wrong answers that were surest, in the order of the matrix, with what spoke for the wrong expression."""
    predictions = result.predictions
    wrong = (predictions.predicted != predictions.label).nonzero()[0]
    sure = predictions.probabilities.max(1)
    surest = wrong[(-sure[wrong]).argsort(kind="stable")][:MISTAKES_SHOWN].tolist()
    chosen = sorted(surest, key=lambda i: (predictions.label[i], predictions.predicted[i], -sure[i]))
    count = f"{len(wrong)} of {len(predictions.label)} images are recognized wrongly"
    if not chosen:
        return cards_picture([], names, [f"none of {len(predictions.label)} images is recognized wrongly"])
    image = to_float(Images([result.samples[i] for i in chosen], result.image_size, cache="none")[range(len(chosen))])
    predicted = torch.from_numpy(predictions.predicted[chosen])
    heat = torch.cat([result.trained.heat_maps(*part).cpu() for part in zip(image.split(8), predicted.split(8))])
    cards = [Card(face, warm, predictions.probabilities[i],
                  f"{names[predictions.label[i]]} as {names[predictions.predicted[i]]}: {result.samples[i].name}",
                  int(predictions.label[i])) for face, warm, i in zip(image, heat, chosen)]
    more = f"; the {len(cards)} surest of them" if len(wrong) > len(cards) else ""
    side = explained_side(result.image_size)
    return cards_picture(cards, names, [
        count + more, "in the order of the confusion matrix; framed: the true expression; heat: evidence for the "
        f"wrong one (LayerCAM, maps of {side} x {side})"])


# --------------------------------------------------------------------------------------- groups of recognizers

COMPARISON = {"comparison.txt": "setting", "comparison.csv": "group,measure,",
              "comparison.tex": "\\begin{tabular}{lrrrrr}"}
COMPARISON_PICTURE = "comparison.png"


def group_names(groups: Sequence[Sequence[Path]]) -> list[str]:
    """A short name for each group: its runs' common directory, without what all groups have in common."""
    runs = ([os.path.abspath(folder.parent) for folder in folders] for folders in groups)
    places = [Path(os.path.commonpath(own)).parts for own in runs]
    shared = os.path.commonprefix([place[:-1] for place in places])
    return ["/".join(place[len(shared):]) for place in places]


def check_comparison(folder: str) -> None:
    """Raise UserError if :func:`write_comparison` would overwrite something that it has not written."""
    for name in (*COMPARISON, COMPARISON_PICTURE):
        check_output(Path(folder) / name, "--output_dir")
    check_figure(Path(folder) / COMPARISON_PICTURE, f"--output_dir {folder}")
    for name, head in COMPARISON.items():
        check_table(Path(folder) / name, f"--output_dir {folder}", head)


def write_comparison(comparison: Comparison, output_dir: str) -> None:
    """Print the comparison, and write it as text, CSV, LaTeX and picture."""
    places = [Path(output_dir) / name for name in (*COMPARISON, COMPARISON_PICTURE)]
    for place, text in zip(places, (comparison.as_text() + "\n", comparison.as_csv(), comparison.as_latex())):
        utils.write_text(place, text)
    panels = [(measure, [group.values(measure) for group in comparison.groups]) for measure in MEASURES]
    save_figure(intervals_picture([group.name for group in comparison.groups], panels), places[-1])
    print(f"{comparison.as_text()}\n\nwrote {', '.join(map(str, places[:-1]))} and {places[-1]}")
