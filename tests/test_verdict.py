"""The verdict on a result: what is found, and what a sound result is spared."""

from __future__ import annotations

import numpy

from evaluation import verdict
from evaluation.metrics import Predictions
from test_metrics import answered

NAMES = ["anger", "joy", "calm"]
LABEL = numpy.arange(90) % 3


def findings(predicted: numpy.ndarray) -> list[str]:
    """The verdict on 90 images, 30 of each of three expressions."""
    return verdict.of_predictions(Predictions(LABEL, numpy.eye(3)[predicted]), NAMES)


def test_a_result_near_chance_or_nearly_constant_is_found():
    random = numpy.random.default_rng(0)
    assert findings(LABEL) == []
    guessed, = findings(random.integers(3, size=90))
    assert "not shown to be better than chance (33.3 %)" in guessed
    constant, = findings(numpy.where(numpy.arange(90) < 80, 1, LABEL))
    assert "92 % of its predictions are joy" in constant
    never, = findings(numpy.where(LABEL == 2, 1, LABEL))
    assert "never names calm" in never
    rare = Predictions(numpy.zeros(50, int), answered(numpy.ones(50, bool), numpy.zeros(50, int), 2))
    assert not any("predictions are" in finding for finding in verdict.of_predictions(rare, NAMES))  # all are anger


def test_weak_judges_and_few_validation_images_are_found():
    assert verdict.of_judge(58.4, 6) == [] and "29.7 %" in verdict.of_judge(29.7, 6)[0]
    assert verdict.of_selection(50) == verdict.of_selection(0) == []
    assert "24 validation images, of which one is 4.2 points" in verdict.of_selection(24)[0]
    assert verdict.of_checkpoint(-1, 6) == verdict.of_checkpoint(25, 6) == [] != verdict.of_checkpoint(24.9, 6)
