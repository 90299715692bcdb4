"""Heat maps are hot where a recognizer finds the evidence for an expression."""

import sys

import pytest
import torch

from conftest import REPOSITORY
from datasets.drawing.data_set import truth
from datasets.loading import to_float, to_uint8
from models.networks import Encoder, VGG_fx
from models.recognizer import Examples, Recognizer, heat_maps, real_features
from options.config import RecognizerRecipe

sys.path.insert(0, str(REPOSITORY / "experiments"))
from measure_heat_maps import blanked  # noqa: E402

def drawn_faces(persons: range) -> tuple[torch.Tensor, torch.Tensor]:
    """Return faces (N, 3, 32, 32) of persons in two scenes, screaming and neutral, and their labels (N,)."""
    pictures = [to_uint8(truth(f"p{person:04d}", scene, name, 32))
                for person in persons for scene in ("c1", "c2") for name in ("scream", "neutral")]
    return to_float(torch.stack(pictures)), torch.arange(len(pictures)) % 2


def test_blanking_the_hottest_tenth_of_a_drawn_face_costs_more_than_a_random_tenth():
    """The persons are not among those of the training; experiments/measure_heat_maps.py measures a trained run."""
    image, label = drawn_faces(range(1, 25))
    torch.manual_seed(0)
    encoder = Encoder(4).eval()
    recognizer = Recognizer(VGG_fx(2, 4, 32, 4), RecognizerRecipe(lr=4e-3, adam=True, falling_steps=80))
    random = torch.Generator().manual_seed(0)
    for step in range(80):
        batch = torch.randperm(len(image), generator=random)[:24]
        recognizer.step(Examples(label[batch], (image[batch], real_features(encoder, image[batch]))))
    tested, true_label = drawn_faces(range(60, 75))
    predicted = recognizer.predict(tested, real_features(encoder, tested)).argmax(1)
    assert (predicted == true_label).float().mean() > 0.75

    def probability(image: torch.Tensor) -> float:
        return recognizer.predict(image, real_features(encoder, image)).gather(1, predicted[:, None]).mean().item()

    recognizer.network.train()
    heat = heat_maps(recognizer.network, encoder, tested, predicted)
    assert recognizer.network.training and all(p.grad is None for p in encoder.parameters())
    assert heat.shape == (60, 32, 32) and heat.min() >= 0 and heat.amax((1, 2)).tolist() == pytest.approx([1.0] * 60)
    whole, hottest = probability(tested), probability(blanked(tested, heat))
    scattered = probability(blanked(tested, torch.rand(heat.shape, generator=random)))
    assert whole - hottest > 0.1 and whole - hottest > 3 * (whole - scattered), (whole, hottest, scattered)


def test_heat_of_one_face_does_not_depend_on_the_others_in_its_batch():
    torch.manual_seed(0)
    network, encoder = VGG_fx(3, 4, 16, 4), Encoder(4)
    image, expression = torch.rand(3, 3, 64, 64) * 2 - 1, torch.tensor([0, 1, 2])
    with torch.inference_mode():  # as in the commands
        together = heat_maps(network, encoder, image, expression)
    alone = torch.cat([heat_maps(network, encoder, image[i:i + 1], expression[i:i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    assert not together.isnan().any()
