"""Whether a result says anything: near chance, nearly constant, judged by too weak a judge or chosen on too few images.

Every finding is one sentence with what to try.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from evaluation.metrics import Predictions

FEWEST_VALIDATION_IMAGES = 50  # one of them is 2 points, and the standard deviation of 80 % is 6
CONSTANT_SHARE, LARGEST_SHARE = 0.8, 0.65  # of the predictions; of the images, since one class may be most of them
SEVERAL = 5  # images of an expression from which on it is strange that it is never named


def chance_level(num_classes: int) -> float:
    """The mean class accuracy in per cent of guessing."""
    return 100 / num_classes


def of_predictions(predictions: Predictions, names: Sequence[str]) -> list[str]:
    """What speaks against a recognizer on the images that it was tested on."""
    found, report = [], predictions.report
    low, high = predictions.intervals[1]
    chance, named, images = report.chance[1], report.counts.sum(0), report.counts.sum(1)
    is_constant = (named > 0).sum() < len(names) / 2  # its recalls are 0 or 100 %: the interval has no width
    if not np.isnan(report.mean_class_accuracy) and (
            (report.mean_class_accuracy if np.isnan(low) else low) <= chance or is_constant and low == high):
        found.append(f"its mean class accuracy of {report.mean_class_accuracy:.1f} % is not shown to be better than "
                     f"chance ({chance:.1f} %): look at the images with python -m datasets.check, train longer "
                     "(--perceptual_epochs, --epochs, --round_epochs), or change the rate (--vgg_lr, --perceptual_lr)")
    share, largest = named.max() / named.sum(), images.max() / images.sum()
    if share >= CONSTANT_SHARE and largest < LARGEST_SHARE:
        found.append(f"{100 * share:.0f} % of its predictions are {names[named.argmax()]}, whatever the image shows: "
                     "train longer, lower the rate (--vgg_lr), or draw the expressions equally often (--balanced)")
    elif never := [name for name, said, count in zip(names, named, images) if not said and count >= SEVERAL]:
        found.append(f"it never names {', '.join(never)}: train longer (--round_epochs), or draw the expressions "
                     "equally often (--balanced)")
    return found


def of_selection(validation_images: int) -> list[str]:
    """What speaks against the choice of the best recognizer; 0 images if none chose it."""
    if not 0 < validation_images < FEWEST_VALIDATION_IMAGES:
        return []
    return [f"it was chosen on {validation_images} validation images, of which one is "
            f"{100 / validation_images:.1f} points: list more in images_val.list, or keep the last one with "
            "--select_on none"]


def of_checkpoint(accuracy: float, num_classes: int) -> list[str]:
    """What speaks against a recognizer by its accuracy in per cent on the images that chose it; below 0 if unknown."""
    chance = chance_level(num_classes)
    if not 0 <= accuracy < 1.5 * chance:
        return []
    return [f"this recognizer had {accuracy:.1f} % on the images that chose it, and chance is {chance:.1f} %: what it "
            "names means little; train longer, and test it with test_matrix_multi.py"]


def of_judge(accuracy: float, num_classes: int) -> list[str]:
    """What speaks against a judge of swaps by its accuracy in per cent on real test images: less than half-way from
    chance to 100 %."""
    chance = chance_level(num_classes)
    if accuracy >= (chance + 100) / 2:
        return []
    return [f"the judge itself recognizes {accuracy:.1f} % of the real test images (chance {chance:.1f} %), too few "
            "for its figures of transferred expressions: train it longer (--judge_epochs, after deleting its file), or "
            "take one that was trained on more images (--judge FILE)"]


def as_text(findings: Sequence[str], what: str) -> str:
    """The verdict for a terminal: a line per finding, or that there is none."""
    return "\n".join(f"verdict: {finding}" for finding in findings) or f"verdict: nothing speaks against {what}"
