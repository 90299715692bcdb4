"""The evaluation of a recognizer on labeled images: its predictions, and their report."""

from typing import Iterable, Iterator

import numpy
import torch
from torch import Tensor

from evaluation.metrics import Report, confusion_matrix
from models.generator import Encoder
from models.recognizer import Recognizer, real_features


def predictions_of(recognizer: Recognizer, encoder: Encoder | None, batches: Iterable[tuple[Tensor, Tensor]]
                   ) -> Iterator[tuple[numpy.ndarray, numpy.ndarray]]:
    """Yield labels (N,) and predicted probabilities (N, n) of each batch; arguments as in :func:`evaluate`."""
    for image, label in batches:
        with torch.inference_mode():
            inputs = (image,) if encoder is None else (image, real_features(encoder, image, recognizer.amp))
        yield label.cpu().numpy(), recognizer.predict(*inputs).cpu().numpy()


def evaluate(recognizer: Recognizer, encoder: Encoder | None, batches: Iterable[tuple[Tensor, Tensor]],
             num_classes: int) -> Report:
    """Return the report of a recognizer on batches of images (N, 3, S, S) in [-1, 1] and labels (N,).

    ``encoder`` computes the features; None for a network that takes images alone. With several processes, each
    evaluates its own batches, and all return the report of all batches.
    """
    counts = numpy.zeros((num_classes, num_classes), dtype=numpy.int64)
    for label, probabilities in predictions_of(recognizer, encoder, batches):
        counts += confusion_matrix(label, probabilities.argmax(1), num_classes)
    return Report(recognizer.processes.sum(torch.from_numpy(counts).to(recognizer.device)).cpu().numpy())
