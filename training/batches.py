"""The recognizer's batches: their number and kinds, and the codes of their images (METHOD §4, §5)."""

from itertools import islice
from typing import Iterable, Iterator

import torch

from datasets.loading import Loaded
from models.recognizer import Examples, real_features
from models.swap_gan import SwapGAN
from options.config import RecognizerSchedule

MIXED_PER_SYNTHESIS = 6  # batches with --mix whose synthesized images are computed at once


def further_batches(epoch: int, schedule: RecognizerSchedule) -> tuple[int, bool]:
    """Return the number of batches after each real one in an epoch, and whether they are synthesized (METHOD §5)."""
    count, synthesized = schedule.gan_raw or 6, True
    if schedule.multi_add_gan:
        rounds = epoch / max(1, schedule.round_epochs)
        count, synthesized = (1, False) if rounds < 2.5 else (2, True) if rounds < 5 else (3, True) if rounds < 7.5 \
            else (6, True)
    return count, synthesized and schedule.gan_raw > 0


def batches_per_synthesis(epoch: int, schedule: RecognizerSchedule) -> int:
    """Return the number of batches of an epoch whose synthesized images are computed at once."""
    return MIXED_PER_SYNTHESIS if schedule.mix else 1 + further_batches(epoch, schedule)[0]


def with_codes(batches: Iterable[Loaded], gan: SwapGAN, at_once: int, real_codes: bool = True) -> Iterator[Examples]:
    """Yield the recognizer's batches: real faces with their codes, swaps with the swapped codes (METHOD §4, §5).

    The synthesized images of ``at_once`` batches are computed together. Without ``real_codes`` the codes of
    real faces are zeros, which :meth:`RecognizerPhase.step` replaces. """
    side = gan.shape.image_size // 32
    code_shape = 16 * gan.shape.base_width, side, side
    batches = iter(batches)
    while group := [batch.to(gan.device) for batch in islice(batches, at_once)]:
        image, source, source_label, target, target_label = (torch.cat(parts) for parts in zip(*(
            (b.first[:b.alone], b.first[b.alone:], b.label[b.alone:], b.second, b.second_label) for b in group)))
        real, synthesized = ((faces, faces.new_zeros(len(faces), *code_shape)) for faces in (image, source))
        if len(image) and real_codes:
            real = image, real_features(gan.encoder, image, gan.amp)
        if len(source):
            synthesized = gan.synthesize(source, target, source_label, target_label)
        real_parts = (whole.split([batch.alone for batch in group]) for whole in real)
        swap_parts = (whole.split([len(batch.second) for batch in group]) for whole in synthesized)
        for batch, image, fx, swap, swap_fx in zip(group, *real_parts, *swap_parts):
            yield Examples(batch.label, (torch.cat([image, swap]), torch.cat([fx, swap_fx])), batch.alone,
                           (batch.total_alone, batch.total - batch.total_alone))
