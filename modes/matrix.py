"""A trained recognizer on a split of real images → tables, ``Con_Matrix.png`` and ``confusion_matrix.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import utils
from datasets.layout import Layout, check_images, short_names
from datasets.loading import Images
from models.checkpoints import Trained
from models.figures import confusion_picture
from models.metrics import Report
from models.recognizer import evaluate
from utils import UserError


def judged(trained: Trained, layout: Layout, split: str, image_size: int, batch_size: int,
           num_workers: int = 0) -> Report:
    """Judge a recognizer on a split of a data directory, in batches."""
    samples = layout.split(split)
    if not samples:
        raise UserError(f"{layout.root}: no image in the split \"{split}\"; choose another --split")
    check_images(samples)
    images = Images(samples, image_size, cache="none")
    return evaluate(trained.recognizer, trained.encoder,
                    images.evaluation_batches(batch_size, trained.recognizer.device, num_workers),
                    len(layout.expressions))


def write_report(report: Report, names: Sequence[str], title: str, output_dir: str | Path) -> None:
    """Print the tables and write ``Con_Matrix.png`` and ``confusion_matrix.json``."""
    output_dir = Path(output_dir)
    heading = f"accuracy {report.accuracy:.1f} %, mean of classes {report.mean_class_accuracy:.1f} %"
    utils.save_picture(confusion_picture(report, names, heading), output_dir / "Con_Matrix.png")
    utils.write_json(output_dir / "confusion_matrix.json", {"title": title, **report.as_dict(names)})
    print(f"{title}\n\naccuracy {report.accuracy:.2f} %   mean class accuracy {report.mean_class_accuracy:.2f} %   "
          f"{report.counts.sum()} images\n\n{report.as_text(names, short_names(names))}\n")
    print(f"wrote {output_dir / 'Con_Matrix.png'} and {output_dir / 'confusion_matrix.json'}")


