"""Heat maps are where they say: on what a recognizer needs to name an expression."""

from __future__ import annotations

import sys

import pytest
import torch

from conftest import REPOSITORY
from datasets.loading import to_float, to_uint8
from datasets.drawing.data_set import truth
from evaluation.attribution import explained_halvings, explained_side, heat_maps
from models.generator import Encoder
from options.recipes import RecognizerRecipe
from models.recognizer import Examples, Recognizer, real_features
from models.backbones import VGG_fx

sys.path.insert(0, str(REPOSITORY / "experiments"))
from measure_heat_maps import blanked  # noqa: E402

SHOWN = ("scream", "neutral")


def drawn(persons: range) -> tuple[torch.Tensor, torch.Tensor]:
    """Drawn faces (N, 3, 32, 32) of some persons in two scenes with two expressions, and their labels."""
    pictures = [to_uint8(truth(f"p{person:04d}", scene, name, 32))
                for person in persons for scene in ("c1", "c2") for name in SHOWN]
    return to_float(torch.stack(pictures)), torch.arange(len(pictures)) % len(SHOWN)


def test_blanking_the_hottest_tenth_of_a_drawn_face_costs_more_than_a_random_tenth():
    """Of persons that the recognizer has not seen; experiments/measure_heat_maps.py does it for a trained run."""
    image, label = drawn(range(1, 25))
    torch.manual_seed(0)
    encoder = Encoder(4).eval()
    recognizer = Recognizer(VGG_fx(2, 4, 32, 4), RecognizerRecipe(lr=4e-3, adam=True, falling_steps=80))
    random = torch.Generator().manual_seed(0)
    for step in range(80):
        some = torch.randperm(len(image), generator=random)[:24]
        recognizer.step(Examples(label[some], (image[some], real_features(encoder, image[some]))))
    tested, truths = drawn(range(60, 75))

    def probability(of: torch.Tensor) -> float:
        return recognizer.predict(of, real_features(encoder, of)).gather(1, said[:, None]).mean().item()

    said = recognizer.predict(tested, real_features(encoder, tested)).argmax(1)
    assert (said == truths).float().mean() > 0.75
    recognizer.network.train()
    heat = heat_maps(recognizer.network, encoder, tested, said)
    assert recognizer.network.training and all(p.grad is None for p in encoder.parameters())
    assert heat.shape == (60, 32, 32) and heat.min() >= 0 and heat.amax((1, 2)).tolist() == pytest.approx([1.0] * 60)
    whole, hottest = probability(tested), probability(blanked(tested, heat))
    scattered = probability(blanked(tested, torch.rand(heat.shape, generator=random)))
    assert whole - hottest > 0.1 and whole - hottest > 3 * (whole - scattered), (whole, hottest, scattered)


def test_the_explained_maps_have_at_least_sixteen_positions_where_there_are_so_many():
    sides = 32, 64, 96, 128, 224, 256, 512
    assert [explained_halvings(side) for side in sides] == [1, 2, 2, 3, 3, 4, 4]
    assert [explained_side(side) for side in sides] == [16, 16, 24, 16, 28, 16, 32]


def test_heat_of_one_face_does_not_depend_on_the_others_in_its_batch():
    torch.manual_seed(0)
    network, encoder = VGG_fx(3, 4, 16, 4), Encoder(4)
    image, said = torch.rand(3, 3, 64, 64) * 2 - 1, torch.tensor([0, 1, 2])
    with torch.inference_mode():  # as after recognizing
        together = heat_maps(network, encoder, image, said)
    alone = torch.cat([heat_maps(network, encoder, image[i:i + 1], said[i:i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    assert not together.isnan().any()


def test_blanked_paints_the_share_in_the_mean_color():
    image, heat = torch.rand(2, 3, 10, 10), torch.zeros(2, 10, 10)
    heat[0, :1], heat[1, 5:, :2] = 1, torch.arange(1, 6)[:, None]
    painted = blanked(image, heat)
    changed = (painted != image).any(1)
    assert changed.sum((1, 2)).tolist() == [10, 10] and changed[0, 0].all() and changed[1, 5:, :2].all()
    torch.testing.assert_close(painted[0, :, 0, 3], image[0].mean((1, 2)))
