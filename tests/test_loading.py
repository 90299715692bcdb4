"""Image files of every kind → tensors, and the plans of an epoch."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.layout import Sample
from datasets.loading import (Batch, Images, gan_plan, load, mixed_plan, real_plan, recognizer_plan, shows_several,
                              third_of_pairs, to_float, to_uint8, with_true_swaps)
from datasets.pictures import BadPicture, read_image, read_picture
from utils import UserError


def left_half_white(mode: str) -> Image.Image:
    image = Image.new("L", (40, 20))
    image.paste(255, (0, 0, 20, 20))
    return image.convert(mode)


@pytest.mark.parametrize("mode, ending", [("L", "jpg"), ("RGB", "png"), ("P", "png"), ("1", "png"), ("CMYK", "jpg"),
                                          ("I", "tiff"), ("LA", "png"), ("RGBA", "png"), ("P", "gif"), ("F", "tiff")])
def test_every_mode_becomes_rgb(tmp_path, mode, ending):
    left_half_white(mode).save(tmp_path / f"x.{ending}")
    pixels = to_uint8(read_image(tmp_path / f"x.{ending}", 32))
    assert pixels.shape == (3, 32, 32) and pixels.dtype == torch.uint8
    assert pixels[:, :, 2].float().mean() > 250 and pixels[:, :, -3].float().mean() < 5


def test_sixteen_bit_grey_is_scaled_and_transparency_becomes_white(tmp_path):
    Image.fromarray(np.full((8, 8), 32768, np.uint16)).save(tmp_path / "deep.png")
    assert abs(int(to_uint8(read_image(tmp_path / "deep.png", 32))[0, 5, 5]) - 127) <= 1
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert to_uint8(read_image(tmp_path / "clear.png", 32)).min() == 255
    assert read_picture(tmp_path / "deep.png").getpixel((4, 4)) == (127, 127, 127)
    assert read_picture(tmp_path / "clear.png").getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize("content, fault", [(None, "missing"), (b"nothing", "no image"), ("half", "damaged"),
                                            ("large", "too large")])
def test_a_bad_picture_says_what_is_wrong_with_it(tmp_path, content, fault, monkeypatch):
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole, "PNG")
    if content == "large":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 - 1)
    if content is not None:
        content = whole.getvalue()[:6000 if content == "half" else None] if isinstance(content, str) else content
        (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(BadPicture, match=r"x\.png") as raised:
        read_picture(tmp_path / "x.png")
    assert raised.value.fault == fault and pickle.loads(pickle.dumps(raised.value)).fault == fault


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    left_half_white("RGB").save(tmp_path / "x.jpg", exif=exif)
    pixels = to_uint8(read_image(tmp_path / "x.jpg", 32))
    assert pixels[:, :, -3].float().mean() > 250 and pixels[:, :, 2].float().mean() < 5


def test_float_range_is_minus_one_to_one():
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    assert to_float(pixels)[0].unique().item() == -1 and to_float(pixels)[1].unique().item() == 1


def sample_images(tmp_path, count: int = 6) -> list[Sample]:
    for i in range(count):
        Image.fromarray(np.full((32, 32, 3), [[[i * 10, 0, 0]]] * 32, np.uint8)).save(tmp_path / f"{i}.png")
    return [Sample(f"{i}.png", i % 3, tmp_path / f"{i}.png") for i in range(count)]


@pytest.mark.parametrize("cache, workers", [("ram", 0), ("none", 0), ("none", 2)])
def test_loading_gives_the_planned_images_in_order(tmp_path, cache, workers):
    images = Images(sample_images(tmp_path), 32, cache)
    plan = [Batch.of(np.array([4, 1]), np.array([0, 5])), Batch.of(np.array([2]))]
    first, second = load(images, plan, workers)
    assert first.first[:, 0, 0, 0].tolist() == [40, 10] and first.second[:, 0, 0, 0].tolist() == [0, 50]
    assert first.label.tolist() == [1, 1] and first.second_label.tolist() == [0, 2]
    assert len(second.second) == 0 and second.first[:, 0, 0, 0].tolist() == [20]
    assert (first.alone, second.alone, first.total_alone, second.total_alone) == (0, 1, 0, 1)


def test_both_faces_of_a_synthesis_are_mirrored_together(tmp_path):
    left_half_white("RGB").save(tmp_path / "x.png")
    images = Images([Sample("x.png", 0, tmp_path / "x.png")] * 2, 32, "ram")
    batch, = load(images, [Batch.of(np.array([0, 1]), np.array([1, 0]), np.array([True, False]))])
    for pixels in (batch.first, batch.second):
        assert pixels[0, 0, 0, 0] == 0 and pixels[0, 0, 0, -1] == 255
        assert pixels[1, 0, 0, 0] == 255 and pixels[1, 0, 0, -1] == 0


def test_processes_share_a_batch_without_repetition(tmp_path):
    images = Images(sample_images(tmp_path), 32, "ram")
    plan = [Batch.of(np.array([4, 1, 0, 2, 3]), np.array([0, 5, 1, 1, 2]))]
    parts = [next(load(images, plan, share=slice(rank, None, 2))) for rank in range(2)]
    assert [part.first[:, 0, 0, 0].tolist() for part in parts] == [[40, 0, 30], [10, 20]]
    assert [part.second_label.tolist() for part in parts] == [[0, 1, 2], [2, 1]]
    assert [part.total for part in parts] == [5, 5]


@pytest.mark.parametrize("cache, workers", [("ram", 0), ("none", 0), ("none", 2)])
def test_a_truncated_image_is_a_user_error(tmp_path, cache, workers):
    samples = sample_images(tmp_path)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "3.png")
    whole = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(whole[:len(whole) // 2])
    with pytest.raises(UserError, match=r"3\.png"):
        list(load(Images(samples, 32, cache), real_plan(6, 2, 0), workers))


# ------------------------------------------------------------------------------------------------- plans

LABELS = [0] * 20 + [1] * 10 + [2] * 10
SAMPLES = [Sample(f"{i}.png", label, None) for i, label in enumerate(LABELS)]


def test_gan_plan_pairs_one_expression_with_any_others():
    plan = gan_plan(SAMPLES, 4, seed=0, epoch=0)
    assert len(plan) == 10
    labels = np.array(LABELS)
    for batch in plan:
        assert len(batch.first) == len(batch.second) == 4
        assert len(set(labels[batch.first])) == 1 and labels[batch.first[0]] not in labels[batch.second]
        assert len(set(batch.first)) == 4 and not batch.flip.any()
    assert {labels[batch.first[0]] for epoch in range(5) for batch in gan_plan(SAMPLES, 4, 0, epoch)} == {0, 1, 2}
    assert any(len(set(labels[batch.second])) == 2 for batch in plan)


SCENES = [Sample(f"{p}{s}{e}.png", e, None, f"p{p}", f"s{s}") for p in range(6) for s in range(2) for e in range(3)]


def test_true_swaps_are_the_persons_in_their_scenes_with_the_others_expression():
    lacking = SCENES[1:]  # without p0 in s0 with expression 0
    for batch in gan_plan(lacking, 8, 0, 0, scene_truth=True):
        for a, b, truth in zip(batch.first, batch.second, batch.truth):
            for person, other, true in ((a, b, truth[0]), (b, a, truth[1])):
                person, other = lacking[person], lacking[other]
                if (person.subject, person.scene, other.label) == ("p0", "s0", 0):
                    assert true == -1
                else:
                    found = lacking[true]
                    assert (found.subject, found.scene, found.label) == (person.subject, person.scene, other.label)
    silent = gan_plan(SAMPLES, 8, 0, 0, scene_truth=True)
    assert all((batch.truth == -1).all() for batch in silent)


def test_the_truth_is_loaded_and_mirrored_with_its_pair(tmp_path):
    samples = []
    for i, (subject, label) in enumerate((subject, label) for subject in "pq" for label in (0, 1)):
        pixels = np.zeros((32, 32, 3), np.uint8)
        pixels[:, :16] = 50 * (i + 1)  # the left half: mirrored, the right half
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        samples.append(Sample(f"{i}.png", label, tmp_path / f"{i}.png", subject, "s"))
    images = Images(samples, 32)
    first, second, flip = np.array([0, 2]), np.array([3, 1]), np.array([False, True])
    batch, = with_true_swaps([Batch.of(first, second, flip)], samples)
    assert batch.truth.tolist() == [[1, 2], [3, 0]]
    loaded = next(load(images, [batch]))
    assert loaded.truth[:, 0, 0, [0, 31]].tolist() == [[100, 0], [0, 200], [150, 0], [0, 50]] and loaded.known.all()
    shared = next(load(images, [batch], share=slice(1, None, 2)))
    assert shared.truth[:, 0, 0, [0, 31]].tolist() == [[0, 200], [0, 50]] and shared.total == 2
    assert next(load(images, [Batch.of(first, second)])).truth is None


def test_plans_are_functions_of_seed_and_epoch():
    def key(plan):
        return [(b.first.tolist(), b.second.tolist(), b.flip.tolist()) for b in plan]

    assert key(gan_plan(SAMPLES, 4, 1, 2)) == key(gan_plan(SAMPLES, 4, 1, 2))
    assert key(gan_plan(SAMPLES, 4, 1, 2)) != key(gan_plan(SAMPLES, 4, 1, 3))
    assert key(gan_plan(SAMPLES, 4, 1, 2)) != key(gan_plan(SAMPLES, 4, 2, 2))


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


def test_recognizer_plan_of_real_images_alone():
    plan = recognizer_plan(np.zeros(30, int), PAIRS, 10, extra=1, synthesized=False, seed=0, epoch=0)
    assert len(plan) == 6 and not any((b.second >= 0).any() for b in plan)


@pytest.mark.parametrize("mix, others", [(1.0, 5), (3.0, 8), (0.1, 1)])
def test_every_mixed_batch_holds_its_share_of_synthesized_images(mix, others):
    plan = mixed_plan(np.zeros(30, int), PAIRS, 10, mix, True, seed=0, epoch=0)
    assert len(plan) == -(-30 // (10 - others))
    assert all((b.second >= 0).sum() == others and b.second[-others:].min() >= 30 for b in plan)
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
        for made in (False, True):
            counts = np.bincount(np.concatenate([labels[b.first[(b.second >= 0) == made]] for b in plan]))
            assert counts.max() - counts.min() <= 1
    rare = np.concatenate([b.first for b in mixed_plan(labels, pairs, 8, 1.0, False, 0, 0, balanced=True)])
    assert set(rare[labels[rare] == 1]) == set(range(20, 30))  # of a rare expression, each image


def test_wrong_labels_are_for_persons_who_show_several_expressions():
    samples = [Sample(f"{i}.png", label, None, subject) for i, (label, subject) in enumerate(
        [(0, "p1"), (1, "p1"), (2, "p2"), (2, "p2"), (2, "p3"), (1, None), (1, None)])]
    assert shows_several(samples).tolist() == [True, True, False, False, True, True, True]
    for batch in gan_plan(samples, 3, 0, 0, mismatched=True):
        assert batch.mismatch.tolist() == [[a not in (2, 3), b not in (2, 3)] for a, b in zip(batch.first, batch.second)]
    assert not any(batch.mismatch.any() for batch in gan_plan(samples, 3, 0, 0))


def test_ablation_keeps_two_of_six_per_image():
    kept = third_of_pairs(PAIRS, seed=0)
    assert np.bincount(kept[:, 0]).tolist() == [2] * 30
    assert {tuple(p) for p in kept} <= {tuple(p) for p in PAIRS}
    assert third_of_pairs(PAIRS, 1).tolist() != kept.tolist()
