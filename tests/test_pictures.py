"""Pictures: tiles, residuals and lettering of sheets, the matrix, cards, heat maps, boxes and charts."""

import re

import numpy
import pytest
import torch
from PIL import Image

from evaluation.metrics import Report
from pictures.cards import Card, cards_picture, color_of, heat_over_face, with_boxes
from pictures.page import Line, chart
from pictures import lettering
from pictures.lettering import PAPER
from pictures.matrix import confusion_picture
from pictures.sheets import residual_picture, sheet


def test_tiles_are_drawn_under_their_heads_and_enlarged_only_if_they_are_small():
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


@pytest.mark.parametrize("name, written", [("neutral", "neutral"), ("Überraschung", "Uberraschung"), ("분노", "BunNo"),
                                           ("高兴", "U+9AD8U+5174"), ("กลัว", "KoLoWo"), ("–", "-")])
def test_names_of_every_script_are_transcribed_without_a_font_of_the_system(monkeypatch, capsys, name, written):
    monkeypatch.setattr(lettering, "FONT_FOLDERS", [])
    lettering._font_file.cache_clear(), lettering._transcription.cache_clear()
    assert [lettering.legible(name) for _ in range(2)] == [written] * 2
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == (name != written and name != "–") and all(name in note and written in note for note in notes)
    lettering._font_file.cache_clear()


def test_the_matrix_shades_by_share():
    counts = numpy.array([[8, 2, 0], [1, 4, 0], [5, 0, 0]])
    picture = confusion_picture(Report(counts), ["anger", "fear", "surprise"], "accuracy 60.0 %")
    row = numpy.asarray(picture.convert("L")).astype(int)[96:106]
    first, last = row[:, -32 - 3 * 104 + 8:-32 - 2 * 104 - 8].mean(), row[:, -32 - 104 + 8:-32 - 8].mean()
    assert first < last - 60  # 80 % is dark, 0 % is white


def test_a_card_shows_a_bar_for_each_expression():
    card = Card(torch.zeros(3, 16, 16), torch.zeros(16, 16), numpy.array([0.25, 0.75]), "x" * 300, true=0)
    picture = numpy.asarray(cards_picture([card], ["anger", "joy"], ["one face"])).astype(int)
    lengths = [(abs(picture - color).sum(2) == 0).sum(1).max() for color in ((190, 197, 204), color_of(1))]
    assert lengths[1] - 1 == pytest.approx(3 * (lengths[0] - 1), abs=3)


def test_heat_colors_only_the_hot_places():
    face = torch.rand(3, 8, 8) * 2 - 1
    gray = face.mean(0).expand(3, -1, -1)
    torch.testing.assert_close(heat_over_face(face, torch.zeros(8, 8)), gray)
    heat = torch.zeros(8, 8)
    heat[2, 3] = 1
    red, green, blue = heat_over_face(face, heat)[:, 2, 3]
    assert red > 0.5 and green < 0.2 and blue < 0
    assert torch.equal(heat_over_face(face, heat)[:, 5], gray[:, 5])


def test_boxes_leave_the_rest_of_the_photograph():
    photo = Image.new("RGB", (400, 300), "white")
    copy = with_boxes(photo, [(100, 100, 80, 80)], [numpy.array([0.1, 0.9])], ["anger", "joy"])
    pixels = numpy.asarray(copy)
    assert tuple(pixels[140, 100]) == color_of(1) and (pixels[200:] == 255).all() and (pixels[:60] == 255).all()
    assert (pixels[110:170, 110:170] == 255).all() and (numpy.asarray(photo) == 255).all()


def test_a_chart_places_its_points():
    svg = chart("loss", [Line("loss", (1, 2, 3), (4.0, 2.0, 0.0))])
    points = [tuple(map(float, point.split(","))) for point in re.search('points="(.*?)"', svg)[1].split()]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1) and y1 - y0 == pytest.approx(y2 - y1) and y0 < y2  # it falls
