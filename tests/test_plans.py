"""The plans of an epoch: the order of its images."""

import numpy as np
import pytest

from datasets.layout import Sample
from datasets.plans import Plan, gan_plan, may_mismatch, mixed_plan, real_plan, recognizer_plan, third_of_pairs

LABELS = [0] * 20 + [1] * 10 + [2] * 10
SAMPLES = [Sample(f"{i}.png", label, None) for i, label in enumerate(LABELS)]


def test_gan_plan_pairs_one_expression_with_any_others():
    plan = gan_plan(SAMPLES, 4, seed=0, epoch=0)
    assert len(plan) == 10
    labels = np.array(LABELS)
    for batch in plan:
        assert len(set(labels[batch.first])) == 1 and labels[batch.first[0]] not in labels[batch.second]
        assert len(set(batch.first)) == 4 and not batch.flip.any()
    assert {labels[batch.first[0]] for epoch in range(5) for batch in gan_plan(SAMPLES, 4, 0, epoch)} == {0, 1, 2}
    assert any(len(set(labels[batch.second])) == 2 for batch in plan)


SCENES = [Sample(f"{p}{s}{e}.png", e, None, f"p{p}", f"s{s}") for p in range(6) for s in range(2) for e in range(3)]


def test_ground_truth_swaps_show_each_person_in_their_scene_with_the_others_expression():
    samples = SCENES[1:]  # without p0 in s0 with expression 0
    position = {(sample.subject, sample.scene, sample.label): i for i, sample in enumerate(samples)}
    for batch in gan_plan(samples, 8, 0, 0, scene_truth=True):
        for a, b, truth in zip(batch.first, batch.second, batch.truth):
            assert truth.tolist() == [position.get((person.subject, person.scene, other.label), -1) for person, other in
                                      ((samples[a], samples[b]), (samples[b], samples[a]))]
    assert all((batch.truth == -1).all() for batch in gan_plan(SAMPLES, 8, 0, 0, scene_truth=True))


def test_plans_are_functions_of_seed_and_epoch():
    plans = [gan_plan(SAMPLES, 4, *place) for place in ((1, 2), (1, 2), (1, 3), (2, 2))]
    assert [np.array_equal(plan.second, plans[0].second) for plan in plans] == [True, True, False, False]


def test_real_plan_is_one_pass():
    plan = real_plan(25, 12, 0)
    assert [len(batch.first) for batch in plan] == [9, 8, 8]  # not 12, 12, 1: one image is no batch for batch norm
    assert sorted(np.concatenate([batch.first for batch in plan])) == list(range(25))
    assert 0 < np.concatenate([b.flip for b in real_plan(500, 50, 0)]).mean() < 1


PAIRS = np.array([(source, 30 + k) for source in range(30) for k in range(6)])


def test_recognizer_plan_puts_further_batches_after_each_real_one():
    plan = recognizer_plan(np.zeros(30, int), PAIRS, 10, extra=6, synthesized=True, seed=0, epoch=30)
    assert [(b.second >= 0).all() for b in plan] == ([False] + [True] * 6) * 3
    drawn = [tuple(pair) for b in plan if (b.second >= 0).all() for pair in zip(b.first, b.second)]
    assert sorted(drawn) == sorted(map(tuple, PAIRS))  # 3 · 6 · 10 = 180: every pair once
    assert sorted(np.concatenate([b.first for b in plan if (b.second < 0).all()])) == list(range(30))
    real = recognizer_plan(np.zeros(30, int), PAIRS, 10, extra=1, synthesized=False, seed=0, epoch=0)
    assert len(real) == 6 and not any((b.second >= 0).any() for b in real)


@pytest.mark.parametrize("mix, synthesized", [(1.0, 5), (3.0, 8), (0.1, 1)])
def test_every_mixed_batch_holds_its_part_of_synthesized_images(mix, synthesized):
    plan = mixed_plan(np.zeros(30, int), PAIRS, 10, mix, True, seed=0, epoch=0)
    assert len(plan) == -(-30 // (10 - synthesized))
    assert all((b.second >= 0).sum() == synthesized and b.second[-synthesized:].min() >= 30 for b in plan)
    assert sorted(np.concatenate([b.first[b.second < 0] for b in plan])) == list(range(30))
    drawn = [pair for b in plan for pair in zip(b.first, b.second) if pair[1] >= 0]
    assert len(set(drawn)) == len(drawn) and set(drawn) <= set(map(tuple, PAIRS))
    real = mixed_plan(np.zeros(30, int), PAIRS, 10, mix, False, seed=0, epoch=0)
    assert [len(b.first) for b in real] == [len(b.first) for b in plan] and all((b.second < 0).all() for b in real)


def test_balanced_plans_draw_every_expression_equally_often():
    labels = np.array(LABELS)
    pairs = np.array([(source, target) for source in range(40) for target in range(3)])
    for plan in (mixed_plan(labels, pairs, 8, 1.0, True, 0, 0, balanced=True),
                 recognizer_plan(labels, pairs, 8, 1, True, 0, 0, balanced=True)):
        for synthesized in (False, True):
            counts = np.bincount(np.concatenate([labels[b.first[(b.second >= 0) == synthesized]] for b in plan]))
            assert counts.max() - counts.min() <= 1
    rare = np.concatenate([b.first for b in mixed_plan(labels, pairs, 8, 1.0, False, 0, 0, balanced=True)])
    assert set(rare[labels[rare] == 1]) == set(range(20, 30))  # of a rare expression, each image


def test_wrong_labels_are_not_for_persons_with_several_images_of_one_expression():
    samples = [Sample(f"{i}.png", label, None, subject) for i, (label, subject) in enumerate(
        [(0, "p1"), (1, "p1"), (2, "p2"), (2, "p2"), (2, "p3"), (1, None), (1, None)])]
    assert may_mismatch(samples).tolist() == [True, True, False, False, True, True, True]
    for batch in gan_plan(samples, 3, 0, 0, mismatched=True):
        expected = [[a not in (2, 3), b not in (2, 3)] for a, b in zip(batch.first, batch.second)]
        assert batch.mismatch.tolist() == expected
    assert not any(batch.mismatch.any() for batch in gan_plan(samples, 3, 0, 0))


def test_ablation_draws_another_third_of_all_pairs_for_every_epoch():
    third = third_of_pairs(PAIRS, seed=0, epoch=0)
    assert len(third) == len(PAIRS) // 3 == len({tuple(p) for p in third} & {tuple(p) for p in PAIRS})
    assert third_of_pairs(PAIRS, 0, 0).tolist() == third.tolist()
    assert len({str(third_of_pairs(PAIRS, seed, epoch).tolist()) for seed in (0, 1) for epoch in (0, 1)}) == 4


@pytest.mark.parametrize("sizes, expected", [(2, [[0, 1], [2, 3], [4]]), (np.array([1, 3, 1]), [[0], [1, 2, 3], [4]])])
def test_a_plan_is_a_sequence_of_batches(sizes, expected):
    plan = Plan.of(np.arange(5), flip=np.arange(5) > 2, sizes=sizes)
    assert [batch.first.tolist() for batch in plan] == expected and len(plan) == 3
    assert [batch.first.tolist() for batch in plan[1:]] == expected[1:] and len(plan[3:]) == len(plan[7:]) == 0
    assert plan[-1].flip.tolist() == [True] and plan[0].truth.shape == (len(expected[0]), 2)
    assert [batch.position.tolist() for batch in plan[1:]] == expected[1:]


def test_balanced_partners_show_all_other_expressions_equally_often():
    samples = [Sample(f"{i}.png", label, None) for i, label in enumerate([0] * 5 + [1] * 5 + [2] * 290)]
    labels = np.array([sample.label for sample in samples])
    whole = gan_plan(samples, 10, 0, 0, balanced=True)
    assert (labels[whole.first] != labels[whole.second]).all()
    rare = (labels[whole.second][labels[whole.first] == 0] == 1).mean()
    assert 0.3 < rare < 0.7
