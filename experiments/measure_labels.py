"""Measure how often synthesized training images show the expression of their label, for runs and epochs.

    python experiments/measure_labels.py checkpoint/claim/drawn_?_gan --judge checkpoint/checkpoint_demo/judge.pth
    python experiments/measure_labels.py checkpoint/claim/neutral_4_gan --epochs 40 70 \\
        --judge checkpoint/checkpoint_demo/judge.pth

The judge is that of ``--mode evaluate`` of a run on other persons, here the demo's; its expressions and image side must
be the runs'. Swaps onto neutral faces, which the recognizer is trained on, are counted if their source is not neutral.
"""

import argparse
import sys
from pathlib import Path

import numpy
import torch

from running import REPOSITORY

sys.path.insert(0, str(REPOSITORY))

from utils import UserError, run_command  # noqa: E402
from models.checkpoints import gan_config, load_checkpoint, load_swap_gan  # noqa: E402
from models.recognizer import confusion_matrix  # noqa: E402
from datasets.layout import read_layout  # noqa: E402
from datasets.loading import Images, load  # noqa: E402
from datasets.plans import Plan  # noqa: E402
from datasets.splits import training_pairs, with_kept_validation  # noqa: E402
from models.judge import ExpressionJudge, load_judge  # noqa: E402

BATCH = 64


def labels_shown(run: Path, epoch: int | None, judge: ExpressionJudge, names: list[str]) -> numpy.ndarray:
    """Return counts (n, n): rows are the labels of a run's synthesized training images, columns the judge's answers."""
    config = gan_config(run / "model")
    if config.get("expressions") != names:
        raise UserError(f"{run}: no run with the judge's expressions ({' '.join(names)}); name a run's directory")
    gan = load_swap_gan(run / "model", epoch, names, config["image_size"], torch.device("cpu"))
    layout = with_kept_validation(read_layout(config["data_dir"], names), run)
    pairs = training_pairs(layout, 0, 6)
    images = Images(layout.train + layout.target_only, config["image_size"], "ram")
    counts = numpy.zeros((len(names), len(names)), numpy.int64)
    for batch in load(images, Plan.of(*pairs.T, sizes=BATCH), 0):
        batch = batch.to(gan.device)
        swapped, _ = gan.synthesize(batch.first, batch.second, batch.label, batch.second_label)
        with torch.inference_mode():
            predicted = judge(swapped).argmax(1)
        counts += confusion_matrix(batch.label.numpy(), predicted.numpy(), len(names))
    return counts


def main() -> None:
    """Print a row for each run and epoch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="directories with a run's networks")
    parser.add_argument("--judge", type=Path, required=True, metavar="FILE", help="a judge of other persons")
    parser.add_argument("--epochs", type=int, nargs="+", default=[None], metavar="N", help="GAN epochs (default: last)")
    options = parser.parse_args()
    config = load_checkpoint(options.judge)["config"]
    judge, names = load_judge(options.judge, config), config["expressions"]
    rows = [i for i, name in enumerate(names) if name != "neutral"]
    print("| run | epoch | all | " + " | ".join(names[i] for i in rows) + " |\n|---" + "|---" * (2 + len(rows)) + "|")
    for run in options.runs:
        for epoch in options.epochs:
            counts = labels_shown(run, epoch, judge, names)[rows]
            correct, total = counts[range(len(rows)), rows], counts.sum(1)
            rates = [100 * correct.sum() / total.sum(), *(100 * correct / total)]
            print(f"| {run.name} | {epoch or 'last'} | " + " | ".join(f"{rate:.1f} %" for rate in rates) + " |")


if __name__ == "__main__":
    run_command(main)
