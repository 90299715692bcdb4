"""The metrics of swaps: on faces that the GAN never saw, with a judge that took no part in its training."""

import time
from collections import defaultdict
from types import SimpleNamespace
from typing import Any, Iterable, NamedTuple, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.judge import ExpressionJudge
from evaluation.metrics import frechet_distance, psnr, ssim
from models.gan import Swapper
from models.networks import Pair
from models.recognizer import chance_level
from utils import synchronize

RETRIEVAL_SIDE = 64
HARDEST = 3  # swaps that the table names


class Trial(NamedTuple):
    """A batch of swaps: pairs, the true C (N, 3, S, S), whether it is ``known`` (N,), the numbers of A's subjects."""

    pair: Pair
    truth: Tensor
    known: Tensor
    subject: Tensor


class Gallery(NamedTuple):
    """The real test faces: pixels (M, P) at 64 px, the judge's features (M, F), labels and subjects' numbers (M,)."""

    pixels: Tensor
    features: np.ndarray
    label: Tensor
    subject: Tensor

    @classmethod
    def from_batches(cls, judge: ExpressionJudge, batches: Iterable[tuple[Tensor, Tensor]], subject: Tensor
                     ) -> "Gallery":
        """Return the gallery of all test images, in batches (N, 3, S, S), (N,), and of their subjects (M,)."""
        pixels, features, labels = zip(*((small_pixels(image), judge.describe(image), label)
                                         for image, label in batches))
        return cls(torch.cat(pixels), np.concatenate(features), torch.cat(labels), subject)


class SynthesisReport(SimpleNamespace):
    """The metrics of the swaps in percent, dB, SSIM in [-1, 1], Fréchet distances of the judge's features, images/s.

    Metrics that need true pictures are NaN if none are known, and ``identity`` also without subjects.
    ``judge_accuracy`` is the judge's on real test images, ``fid_floor`` the distance of real test images to real
    training images, from as many images as ``fid``. The rows of ``transfer_from_to`` are the old expressions, its
    columns the target ones.
    """

    @property
    def psnr_gain(self) -> float:
        """By how many dB the swaps are nearer to the true pictures than the unchanged input; NaN if none are known."""
        return self.true_psnr - self.unchanged_psnr

    def as_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Return all metrics as plain values for a JSON file; NaN becomes None."""
        values = {key: round(value, 4) if isinstance(value, float) else value for key, value in vars(self).items()}
        values["transfer_to"] = {name: round(value, 4) for name, value in zip(names, self.transfer_to)}
        values["transfer_from_to"] = {old: {new: round(value, 4) for new, value in zip(names, row) if value == value}
                                      for old, row in zip(names, self.transfer_from_to)}
        values["psnr_gain"] = round(self.psnr_gain, 4)
        return {key: None if value != value else value for key, value in values.items()}

    def as_text(self, names: Sequence[str]) -> str:
        """Return an aligned table for a terminal."""
        to = ", ".join(f"{name} {value:.1f}" for name, value in zip(names, self.transfer_to) if value == value)
        swaps = sorted((value, f"{old} to {new} {value:.1f}") for old, row in zip(names, self.transfer_from_to)
                       for new, value in zip(names, row) if value == value)
        hardest = ", ".join(text for _, text in swaps[:HARDEST])
        lines = [("expression transferred", f"{self.transfer:.1f} %", f"of {self.swaps} swaps, according to the judge"),
                 ("", "", to),
                 ("", "", f"hardest: {hardest}"),
                 ("old expression kept", f"{self.kept:.1f} %", ""),
                 ("judge's own accuracy", f"{self.judge_accuracy:.1f} %",
                  f"on the real test images; chance {chance_level(len(names)):.1f} %"),
                 ("reconstruction", f"{self.rebuilt_psnr:.2f} dB", f"SSIM {self.rebuilt_ssim:.3f}"),
                 ("Fréchet distance", f"{self.fid:.2f}", f"real test images: {self.fid_floor:.2f}"),
                 ("speed", f"{self.images_per_second:.1f}", "synthesized images/s")]
        if self.truths:
            lines += [("to the true picture", f"{self.true_psnr:.2f} dB",
                       f"SSIM {self.true_ssim:.3f}, over {self.truths} swaps"),
                      ("unchanged input", f"{self.unchanged_psnr:.2f} dB",
                       f"SSIM {self.unchanged_ssim:.3f}; gain {self.psnr_gain:+.2f} dB"),
                      ("right person is nearest", f"{self.identity:.1f} %", "among the true pictures of all persons")]
        return "\n".join(f"{name:<24}{value:>10}   {note}".rstrip() for name, value, note in lines)


@torch.inference_mode()
def evaluate_synthesis(gan: Swapper, judge: ExpressionJudge, judge_accuracy: float, trials: Iterable[Trial],
                       gallery: Gallery, train_features: np.ndarray) -> SynthesisReport:
    """Swap the pairs of all trials, and measure C, A's person with B's expression, and the reconstruction A'.

    ``train_features`` (K, F) are the judge's, of real training images. The Fréchet distance compares with them as many
    swaps as the gallery has images, which are chosen at random with a fixed seed.
    """
    judge.eval()
    columns, seconds = defaultdict(list), 0.0
    for pair, truth, known, subject in trials:
        started = time.perf_counter()
        edits = gan.edits(pair)
        synchronize(gan.device)
        seconds += time.perf_counter() - started
        feature = judge.features(edits.c)
        predicted = judge.head(feature).argmax(1)
        for name, value in {
                "feature": feature.float(), "old": pair.a, "new": pair.b, "known": known,
                "transferred": predicted == pair.b, "kept": predicted == pair.a,
                "rebuilt_psnr": psnr(edits.a_rebuilt, pair.image_a),
                "rebuilt_ssim": ssim(edits.a_rebuilt, pair.image_a),
                "true_psnr": psnr(edits.c, truth), "true_ssim": ssim(edits.c, truth),
                "unchanged_psnr": psnr(pair.image_a, truth), "unchanged_ssim": ssim(pair.image_a, truth),
                "identity": nearest_subject(small_pixels(edits.c), pair.b, gallery) == subject}.items():
            columns[name].append(value.cpu())
    table = {name: torch.cat(values) for name, values in columns.items()}

    def mean(name: str, rows: Tensor | slice = slice(None)) -> float:
        return table[name][rows].double().mean().item()  # NaN if there are no rows

    known, count, synthesized = table["known"], len(table["known"]), table["feature"].numpy()
    chosen = np.random.default_rng(0).permutation(count)[:len(gallery.label)]
    old, new = ([table[name] == e for e in range(gan.shape.num_classes)] for name in ("old", "new"))
    need_truth = ("true_psnr", "true_ssim", "unchanged_psnr", "unchanged_ssim")
    return SynthesisReport(
        swaps=count, judge_accuracy=judge_accuracy, transfer=100 * mean("transferred"),
        transfer_to=[100 * mean("transferred", b) for b in new],
        transfer_from_to=[[100 * mean("transferred", a & b) for b in new] for a in old],
        kept=100 * mean("kept"), rebuilt_psnr=mean("rebuilt_psnr"), rebuilt_ssim=mean("rebuilt_ssim"),
        fid=frechet_distance(synthesized[chosen], train_features),
        fid_floor=frechet_distance(gallery.features, train_features), images_per_second=2 * count / seconds,
        truths=int(known.sum()), **{name: mean(name, known) for name in need_truth},
        identity=100 * mean("identity", known))


@torch.inference_mode()
def with_expressions(gan: Swapper, face: Tensor, face_expression: int, references: Tensor,
                     expressions: Tensor) -> tuple[Tensor, Tensor]:
    """Return one face with the expression of each reference, and the residuals; its own one is the reconstruction.

    ``face`` (3, S, S) has the expression ``face_expression``; ``references`` (T, 3, S, S) have the ``expressions``
    (T,). The images are in [-1, 1] and the residuals in [-2, 2], both (T, 3, S, S).
    """
    faces = face.expand_as(references)
    pair = Pair(faces, references, torch.full_like(expressions, face_expression), expressions)
    swapped, _, residual, _ = gan.swap(pair)
    rebuilt = gan.edits(pair).a_rebuilt
    same = (expressions == face_expression)[:, None, None, None]
    return torch.where(same, rebuilt, swapped), torch.where(same, rebuilt - faces, residual)


def nearest_subject(pixels: Tensor, expression: Tensor, gallery: Gallery) -> Tensor:
    """Return the subjects (N,) whose real pictures with the expressions (N,) are nearest to pixels (N, P)."""
    distance = torch.cdist(pixels, gallery.pixels)
    other = expression[:, None] != gallery.label[None]
    return gallery.subject[distance.masked_fill(other, float("inf")).argmin(1)]


def small_pixels(image: Tensor) -> Tensor:
    """Return images (N, 3, S, S) as rows of pixels (N, P), at 64 px or less."""
    if image.shape[-1] > RETRIEVAL_SIDE:
        image = F.adaptive_avg_pool2d(image, RETRIEVAL_SIDE)
    return image.float().flatten(1)
