"""Swapped codes and single losses (METHOD §2, §3) on numbers; test_fidelity.py checks the losses of whole steps."""

import math

import pytest
import torch

from models import losses
from models.losses import generator_loss
from models.networks import (VGG, Edits, Extras, Pair, Perceptual, block_cuts, block_mask, decoder_label, one_hot,
                             swap_codes, swap_label)
from options.config import GANRecipe


def test_block_cuts_round_half_to_even():
    assert block_cuts(512, 6) == [0, 85, 171, 256, 341, 427, 512]
    assert block_cuts(512, 7) == [0, 73, 146, 219, 293, 366, 439, 512]
    assert block_cuts(10, 4) == [0, 2, 5, 8, 10]


def test_swap_takes_the_blocks_of_both_expressions_from_the_other_face():
    code_a, code_b = torch.zeros(2, 512, 1, 1), torch.ones(2, 512, 1, 1)
    code_c, code_d = swap_codes(code_a, code_b, swap_label(torch.tensor([0, 5]), torch.tensor([2, 1]), 6))
    blocks = [code_c[i, :, 0, 0].split([85, 86, 85, 85, 86, 85]) for i in range(2)]
    assert [[block.unique().item() for block in row] for row in blocks] == [[1, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 1]]
    assert torch.equal(code_d, 1 - code_c)


def test_each_sample_of_a_batch_is_swapped_as_it_would_be_alone():
    code_a, code_b = torch.rand(8, 30, 2, 2), torch.rand(8, 30, 2, 2)
    a, b = torch.full((8,), 2), torch.tensor([0, 1, 3, 4, 0, 1, 3, 4])
    together = swap_codes(code_a, code_b, swap_label(a, b, 5))[0]
    alone = [swap_codes(code_a[i:i + 1], code_b[i:i + 1], swap_label(a[i:i + 1], b[i:i + 1], 5))[0] for i in range(8)]
    assert torch.equal(together, torch.cat(alone))


def test_target_only_neutral_has_no_block_of_its_own():
    label = swap_label(torch.tensor([1]), torch.tensor([3]), 3)
    assert label.tolist() == [[0, 1, 0]]
    assert block_mask(label, 6).flatten().tolist() == [False, False, True, True, False, False]
    assert one_hot(torch.tensor([3]), 3).tolist() == [[0, 0, 0]]


def test_a_decoder_label_may_say_reconstruct():
    label = torch.tensor([[0.0, 1.0]])
    assert decoder_label(label, exp_label=False).tolist() == [[0, 1]]
    assert decoder_label(0 * label, exp_label=True, reconstruct=1.0).tolist() == [[0, 0, 1]]


# -------------------------------------------------------------------------------------------------- losses

@pytest.mark.parametrize("target", [1.0, 0.0, 1.3, -0.2])
def test_soft_bce_is_bce_also_for_targets_outside_0_and_1(target):
    logit = torch.tensor([0.4])
    p = 1 / (1 + math.exp(-0.4))
    expected = -target * math.log(p) - (1 - target) * math.log(1 - p)
    assert losses.soft_bce(logit, target - 0.1, torch.tensor([0.1])).item() == pytest.approx(expected, rel=1e-5)


def test_total_variation_consistency_and_reconstruction_by_hand():
    ramp = torch.arange(4.0).expand(1, 3, 4, 4)  # horizontal neighbors differ by 1, vertical by 0; S = 4
    assert losses.total_variation(ramp).item() == pytest.approx(1 / 4)
    one = torch.ones(1, 3, 2, 2)
    assert losses.swap_consistency(one, 2 * one, 0 * one, 0 * one).item() == 3
    assert losses.swap_consistency(one, 2 * one, 2 * one, one).item() == 0
    assert losses.reconstruction(3 * one, one).item() == 4


def test_the_coarse_picture_ignores_what_averages_out():
    image = torch.zeros(1, 3, 32, 32)
    checkered, lighter = image.clone(), image.clone()
    checkered[..., ::2], checkered[..., 1::2] = 0.5, -0.5
    lighter[..., :16] += 0.2
    assert losses.coarse_difference(checkered, image).item() == 0
    assert losses.coarse_difference(lighter, image).item() == pytest.approx(0.2 ** 2 / 2)


def test_color_counts_only_in_swaps_of_gray_images():
    gray, colored = torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)
    colored[0] = 0.3  # 0.2, -0.1, -0.1 from the mean
    loss = losses.color_of_gray(torch.stack([colored, colored]), torch.stack([gray, colored]))
    assert loss.item() == pytest.approx((0.04 + 0.01 + 0.01) / 3 / 2)


def test_the_ground_truth_loss_counts_the_samples_with_a_ground_truth_swap():
    swapped, truth = torch.zeros(4, 3, 2, 2), torch.tensor([1.0, 2, 3, 4]).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    known = torch.tensor([True, False, True, False])
    assert losses.ground_truth(swapped, truth, known).item() == pytest.approx((1 + 9) / 4)


def test_terms_beyond_the_paper_are_sums_over_both_pairs_with_their_weights():
    gray, colored = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)
    colored[:, 0] = 0.3
    pair = Pair(gray, gray, torch.tensor([0, 0]), torch.tensor([1, 1]),
                Extras(torch.zeros(4, 3, 8, 8), torch.ones(4, dtype=torch.bool)))
    recipe = GANRecipe(scene_truth=True, lambda_truth_loss=600.0, lambda_coarse_loss=50.0, lambda_gray_loss=500.0)
    terms = losses.generator_terms(pair, Edits(colored, colored), recipe)
    square = 0.09 / 3
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"truth": 600 * 2 * square, "coarse": 50 * 2 * square, "gray": 500 * 2 * 0.02})
    assert losses.generator_terms(pair, Edits(colored, colored), GANRecipe()) == {}


@pytest.mark.parametrize("name", ["vgg", "l1", "l2", "tv"])
def test_a_loss_switched_off_is_absent(name):
    a, b, *edited = torch.rand(6, 2, 3, 32, 32)
    perceptual = Perceptual(VGG(2, 4, 8).features)
    total, terms = generator_loss(Pair(a, b, torch.tensor([0, 0]), torch.tensor([1, 1])), Edits(*edited),
                                  (torch.zeros(4),) * 2, torch.zeros(2, 4), 2, perceptual,
                                  GANRecipe(**{f"{name}_loss": False}))
    assert set(terms) == {"adv", "vgg", "l1", "l2", "tv"} - {name}
    assert total.item() == pytest.approx(sum(term.item() for term in terms.values()), rel=1e-5)
