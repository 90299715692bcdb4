"""Pictures: places of tiles, the scale of residuals, and lettering that can be read."""

from __future__ import annotations

import numpy
import torch

from pictures.lettering import FAINT, INK, PAPER, contrast, ink_on
from pictures.sheets import residual_picture, sheet


def test_tiles_stand_under_their_heads_and_are_not_enlarged_without_need():
    red, blue = (torch.tensor(color).view(3, 1, 1).expand(3, 80, 80) for color in ((1.0, -1, -1), (-1.0, -1, 1)))
    picture = numpy.asarray(sheet([[red, None], [blue, red]], ["one", "two"], ["first", "second"]))
    assert picture.shape[0] == 16 + 6 + 2 * 83 + 3
    left = picture.shape[1] - 2 * 83
    colors = [tuple(picture[22 + row * 83 + 40, left + column * 83 + 40]) for row in (0, 1) for column in (0, 1)]
    assert colors == [(255, 0, 0), PAPER, (0, 0, 255), (255, 0, 0)]
    assert (sheet([[red[:, :32, :32]]], ["a"]).size) == (3 + 67, 22 + 67 + 3)  # 32 px twice as large


def test_residuals_are_black_at_no_change_and_white_at_the_end_of_the_scale():
    change = torch.tensor([0.0, 0.2, 0.6, -0.6, 2.0]).view(5, 1, 1, 1).expand(5, 3, 1, 1)
    colors = ((residual_picture(change)[:, :, 0, 0] + 1) / 2).round(decimals=3).tolist()
    assert colors == [[0, 0, 0], [1, 0, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1]]


def test_lettering_has_enough_contrast_on_every_ground():
    assert contrast((0, 0, 0), PAPER) == 21 and round(contrast((119, 119, 119), PAPER), 2) == 4.48
    grounds = [(r, g, b) for r in range(0, 256, 15) for g in range(0, 256, 15) for b in range(0, 256, 15)]
    assert min(contrast(ink_on(ground), ground) for ground in grounds) >= 4.5
    assert min(contrast(ink, PAPER) for ink in (INK, FAINT)) >= 4.5
