"""The verdict on a result: near chance, nearly constant, without gain, by a weak judge, chosen on too few images.

Every finding is one sentence with advice; a list without findings means that no problem was found.
"""

from typing import Any, Mapping, Sequence

import numpy as np
import scipy.optimize

from evaluation.metrics import Predictions
from evaluation.synthesis import SynthesisReport
from models.recognizer import LEAST_QUALITY, chance_level

FEWEST_VALIDATION_IMAGES = 50  # one of them is 2 points, and the standard deviation of 80 % is 6
CONSTANT_SHARE, LARGEST_SHARE = 0.8, 0.65  # of the predictions; of the images, since one class may be most of them
FEWEST_LABELED, EXPLAINED_SHARE = 20, 0.75  # images that can show exchanged labels; the predictions that they explain
SEVERAL = 5  # images of an expression, from which on one of them should be recognized
LEARNED_SHARE = 0.1  # of the way from chance to the judge's own accuracy, which transferred expressions must exceed


def of_predictions(predictions: Predictions, names: Sequence[str], balanced: bool = False) -> list[str]:
    """Return the findings about predictions of test images by a recognizer, trained with ``--balanced`` or without."""
    findings, report = [], predictions.report
    advice = "" if balanced else ", or draw the expressions equally often (--balanced)"
    low, high = predictions.intervals[1]
    chance, predicted, images = report.chance[1], report.counts.sum(0), report.counts.sum(1)
    is_constant = (predicted > 0).sum() < len(names) / 2  # its recalls are 0 or 100 %: the interval has no width
    if not np.isnan(report.mean_class_accuracy) and (
            (report.mean_class_accuracy if np.isnan(low) else low) <= chance or is_constant and low == high):
        findings.append(f"its mean class accuracy of {report.mean_class_accuracy:.1f} % is not shown to be better than "
                        f"chance ({chance:.1f} %): look at the images with python -m datasets.check, train longer "
                        "(--perceptual_epochs, --epochs, --round_epochs), or change the rate (--vgg_lr, "
                        "--perceptual_lr)")
    share, largest = predicted.max() / predicted.sum(), images.max() / images.sum()
    if share >= CONSTANT_SHARE and largest < LARGEST_SHARE:
        findings.append(f"{100 * share:.0f} % of its predictions are {names[predicted.argmax()]}, whatever the image "
                        f"shows: train longer, or lower the rate (--vgg_lr){advice}")
    elif never := [names[i] for i in np.flatnonzero((predicted == 0) & (images >= SEVERAL))]:
        findings.append(f"it never predicts {', '.join(never)}: train longer (--round_epochs){advice}")
    return findings


def of_labels(counts: np.ndarray, names: Sequence[str]) -> list[str]:
    """Return the finding that one exchange of labels would explain nearly all predictions of a confusion matrix (n, n).

    The labels of the images are then probably numbered in another order than those of the training.
    """
    images, (true, exchanged) = counts.sum(1), scipy.optimize.linear_sum_assignment(counts, maximize=True)
    explained, right = counts[true, exchanged].sum(), np.trace(counts)
    moved = [i for i in true if exchanged[i] != i and counts[i, exchanged[i]] > counts[i, i]]
    if images.sum() < FEWEST_LABELED or explained < EXPLAINED_SHARE * images.sum() or len(moved) < 2 \
            or explained - right < (1 - EXPLAINED_SHARE) * images.sum():
        return []
    changes = ", ".join(f"{names[i]} is recognized as {names[exchanged[i]]}" for i in moved)
    return [f"{100 * explained / images.sum():.0f} % of the predictions agree with the labels if some labels are "
            f"exchanged ({changes}): the labels are probably in another order than those of the training; name them in "
            "expressions.txt of the data directory"]


def of_selection(validation_images: int) -> list[str]:
    """Return the findings about the choice of the best recognizer; 0 images if none chose it."""
    if not 0 < validation_images < FEWEST_VALIDATION_IMAGES:
        return []
    return [f"it was chosen on {validation_images} validation images, of which one is "
            f"{100 / validation_images:.1f} points: list more in images_val.list, or keep the last one with "
            "--select_on none"]


def of_checkpoint(accuracy: float, num_classes: int) -> list[str]:
    """Return the findings about a recognizer whose accuracy on the images that chose it is in its checkpoint.

    The accuracy is in percent, below 0 if unknown.
    """
    chance = chance_level(num_classes)
    if not 0 <= accuracy < 1.5 * chance:
        return []
    return [f"this recognizer had {accuracy:.1f} % on the images that chose it, and chance is {chance:.1f} %: its "
            "predictions mean little; train longer, and test it with test_matrix_multi.py"]


def of_gate(quality: float | None, gate: float) -> list[str]:
    """Return the findings about the swaps of a recognizer's round: their quality before it, and ``--gate``.

    The quality is 0 if their expressions are recognized by chance and 1 if as well as real ones, None if not measured.
    """
    if quality is None or quality >= (gate or LEAST_QUALITY):
        return []
    consequence = f"less than --gate {gate:g}, so it has learned from real images in place of swaps" if gate else \
        f"and it has learned their labels all the same: add --gate {LEAST_QUALITY}"
    return [f"the quality of the swaps was {quality:.2f} before its round (0: their expressions are recognized by "
            f"chance, 1: as well as real ones), {consequence}; train the GAN longer (--epochs)"]


def of_judge(accuracy: float, num_classes: int) -> list[str]:
    """Return the findings about a judge whose accuracy on real test images is less than halfway from chance to 100 %.

    The accuracy is in percent.
    """
    chance = chance_level(num_classes)
    if accuracy >= (chance + 100) / 2:
        return []
    return [f"the judge itself recognizes {accuracy:.1f} % of the real test images (chance {chance:.1f} %), too few "
            "for its figures of transferred expressions: take one that was trained on more images (--judge FILE)"]


def beside_judge(test: Mapping[str, Any], judge_accuracy: float) -> list[str]:
    """Return the finding that the judge, trained on real images alone, recognizes more test images than the recognizer.

    ``test`` is the content of the recognizer's ``confusion_matrix.json``, which is empty if it is not tested.
    """
    _, high = test.get("accuracy_interval") or (None, None)
    if high is None or judge_accuracy <= high:
        return []
    return [f"the judge, a small network that is trained on real images alone, recognizes {judge_accuracy:.1f} % of "
            f"the test images, and the run's recognizer {test['accuracy']:.1f} % (at most {high:.1f} %): that "
            "has learned too little, so train it longer (--round_epochs), and compare it with a training on real "
            "images alone"]


def of_swaps(report: SynthesisReport, num_classes: int) -> list[str]:
    """Return the findings about swaps of a GAN that has learned nothing.

    They are not nearer to the true pictures than the unchanged input, or the judge, unless it is weak itself, finds the
    target's expression hardly more often than by chance.
    """
    findings, chance = [], chance_level(num_classes)
    if report.psnr_gain <= 0:  # NaN if no true pictures are known
        findings.append("the swaps are not nearer to the true pictures than the unchanged input "
                        f"({report.psnr_gain:.1f} dB): train the GAN longer (--epochs), or look at its samples in img/")
    if (report.transfer <= chance + LEARNED_SHARE * (report.judge_accuracy - chance)
            and not of_judge(report.judge_accuracy, num_classes)):
        findings.append(f"{report.transfer:.1f} % of the swaps show the target's expression, which is near chance "
                        f"({chance:.1f} %), so the GAN has not learned to swap: train it longer (--epochs), or look at "
                        "its samples in img/")
    return findings


def as_text(findings: Sequence[str], result: str) -> str:
    """Return the verdict for a terminal: a line per finding, or one line that no problem was found."""
    return "\n".join(f"verdict: {finding}" for finding in findings) or f"verdict: no problem was found with {result}"
