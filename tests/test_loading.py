"""Image files of every kind → tensors, in the order of a plan."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.layout import Sample
from datasets.augmentations import AUGMENTATIONS, Augmentation, read_augmentations
from datasets.loading import Images, augmenter, load, to_uint8
from datasets.pictures import BadPicture, read_image, read_picture
from datasets.plans import Plan, ground_truth_swaps, real_plan, recognizer_plan
from utils import UserError


def left_half_white(mode: str) -> Image.Image:
    image = Image.new("L", (40, 20))
    image.paste(255, (0, 0, 20, 20))
    return image.convert(mode)


@pytest.mark.parametrize("mode, ending", [("L", "jpg"), ("RGB", "png"), ("P", "png"), ("1", "png"), ("CMYK", "jpg"),
                                          ("I", "tiff"), ("LA", "png"), ("RGBA", "png"), ("P", "gif"), ("F", "tiff")])
def test_every_mode_becomes_rgb_turned_as_exif_says(tmp_path, mode, ending):
    picture, upside_down = left_half_white(mode), Image.Exif()
    upside_down[0x0112] = 3
    picture.save(tmp_path / f"x.{ending}")
    pixels = to_uint8(read_image(tmp_path / f"x.{ending}", 32))
    assert pixels.shape == (3, 32, 32) and pixels.dtype == torch.uint8
    assert pixels[:, :, 2].float().mean() > 250 and pixels[:, :, -3].float().mean() < 5
    if ending in ("jpg", "png"):
        picture.save(tmp_path / f"x.{ending}", exif=upside_down)
        turned = to_uint8(read_image(tmp_path / f"x.{ending}", 32))
        assert turned[:, :, -3].float().mean() > 250 and turned[:, :, 2].float().mean() < 5


def test_transparency_becomes_white(tmp_path):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "x.png")
    assert read_picture(tmp_path / "x.png").getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize("damage, fault", [
    (lambda path: path.unlink(), "missing"), (lambda path: path.write_bytes(b"nothing"), "no image"),
    (lambda path: path.write_bytes(path.read_bytes()[:60]), "damaged")])
def test_a_bad_picture_says_what_is_wrong_with_it(tmp_path, damage, fault):
    left_half_white("RGB").save(tmp_path / "x.png")
    damage(tmp_path / "x.png")
    with pytest.raises(BadPicture, match=r"x\.png") as raised:
        read_picture(tmp_path / "x.png")
    assert raised.value.fault == fault and pickle.loads(pickle.dumps(raised.value)).fault == fault


def sample_images(tmp_path) -> list[Sample]:
    for i in range(6):
        Image.new("RGB", (32, 32), (i * 10, 0, 0)).save(tmp_path / f"{i}.png")
    return [Sample(f"{i}.png", i % 3, tmp_path / f"{i}.png") for i in range(6)]


@pytest.mark.parametrize("cache, workers", [("ram", 0), ("none", 0), ("none", 2)])
def test_loading_gives_the_planned_images_in_order(tmp_path, cache, workers):
    images = Images(sample_images(tmp_path), 32, cache)
    plan = Plan.of(np.array([4, 1, 2]), np.array([0, 5, -1]), sizes=2)
    first, second = load(images, plan, workers)
    assert first.first[:, 0, 0, 0].tolist() == [40, 10] and first.second[:, 0, 0, 0].tolist() == [0, 50]
    assert first.to("cpu").first[0, :, 0, 0].tolist() == pytest.approx([40 / 127.5 - 1, -1, -1])
    assert first.label.tolist() == [1, 1] and first.second_label.tolist() == [0, 2]
    assert len(second.second) == 0 and second.first[:, 0, 0, 0].tolist() == [20]
    assert (first.alone, second.alone, first.total_alone, second.total_alone) == (0, 1, 0, 1)


def test_processes_share_a_batch_without_repetition(tmp_path):
    images = Images(sample_images(tmp_path), 32, "ram")
    plan = Plan.of(np.array([4, 1, 0, 2, 3]), np.array([0, 5, 1, 1, 2]))
    parts = [next(load(images, plan, rank_slice=slice(rank, None, 2))) for rank in range(2)]
    assert [part.first[:, 0, 0, 0].tolist() for part in parts] == [[40, 0, 30], [10, 20]]
    assert [part.second_label.tolist() for part in parts] == [[0, 1, 2], [2, 1]]
    assert [part.total for part in parts] == [5, 5]


@pytest.mark.parametrize("cache, workers", [("ram", 0), ("none", 0), ("none", 2)])
def test_a_truncated_image_is_a_user_error(tmp_path, cache, workers):
    samples = sample_images(tmp_path)
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:60])
    with pytest.raises(UserError, match=r"3\.png"):
        list(load(Images(samples, 32, cache), real_plan(6, 2, 0), workers))


def test_both_faces_of_a_synthesis_and_their_truth_are_mirrored_together(tmp_path):
    samples = []
    for i, (subject, label) in enumerate((subject, label) for subject in "pq" for label in (0, 1)):
        image = Image.new("L", (32, 32))
        image.paste(50 * (i + 1), (0, 0, 16, 32))  # the left half, which becomes the right half in a mirrored image
        image.save(tmp_path / f"{i}.png")
        samples.append(Sample(f"{i}.png", label, tmp_path / f"{i}.png", subject, "s"))
    images = Images(samples, 32)
    first, second, flip = np.array([0, 2]), np.array([3, 1]), np.array([False, True])
    batch = replace(Plan.of(first, second, flip), truth=ground_truth_swaps(first, second, samples))
    assert batch.truth.tolist() == [[1, 2], [3, 0]]
    loaded = next(load(images, batch))
    assert loaded.first[:, 0, 0, [0, 31]].tolist() == [[50, 0], [0, 150]]
    assert loaded.second[:, 0, 0, [0, 31]].tolist() == [[200, 0], [0, 100]]
    assert loaded.truth[:, 0, 0, [0, 31]].tolist() == [[100, 0], [0, 200], [150, 0], [0, 50]] and loaded.known.all()
    shared = next(load(images, batch, rank_slice=slice(1, None, 2)))
    assert shared.truth[:, 0, 0, [0, 31]].tolist() == [[0, 200], [0, 50]] and shared.total == 2
    assert next(load(images, Plan.of(first, second))).truth is None


def test_a_target_that_keeps_its_expression_is_shown_as_in_data_with_the_features_of_align_5p(tmp_path):
    for folder, shade in (("align_5p", 10), ("data", 200)):
        (tmp_path / folder / "p").mkdir(parents=True)
        for i in range(3 if folder == "align_5p" else 2):
            image = Image.new("L", (32, 32), shade + 10 * i)
            image.paste(0, (0, 0, 4, 32))
            image.save(tmp_path / folder / f"p/{i}.png")
    samples = [Sample(f"p/{i}.png", label, tmp_path / f"align_5p/p/{i}.png") for i, label in enumerate((5, 5, 5, 1))]
    samples[3:] = [replace(samples[3], path=samples[0].path)]
    plan = Plan.of(np.array([0, 0, 1, 3, 2]), np.array([-1, 1, 2, 1, 0]), np.array([False, False, True, False, True]))
    for images in (Images(samples, 32, "ram"), Images(samples, 32, "none")):
        batch, = load(images, plan)
        assert batch.first[:, 0, 0, 8].tolist() == [10, 210, 30, 10, 200]  # the third has no picture in data/
        assert batch.first[:, 0, 0, 0].tolist() == [0, 0, 30, 0, 200]  # mirrored with its features
        assert batch.second[:, 0, 0, 8].tolist() == [20, 30, 20, 10]


# ------------------------------------------------------------------------------------------------ augmentations

@pytest.fixture
def noise_images(tmp_path) -> Images:
    random = np.random.default_rng(0)
    for i in range(8):
        Image.fromarray(random.integers(0, 255, (32, 32, 3), np.uint8)).save(tmp_path / f"{i}.png")
    return Images([Sample(f"{i}.png", i % 2, tmp_path / f"{i}.png") for i in range(8)], 32)


PLAN = recognizer_plan(np.arange(8) % 2, np.array([[0, 1], [2, 3]]), 3, 1, True, 0, 0)
FUNCTIONS = [name for name, row in AUGMENTATIONS.items() if row.function]


def changed(images: Images, name: str, plan: Plan = PLAN, seed: int = 0, epoch: int = 0, **settings) -> list[list[int]]:
    batches = load(images, plan, augment=augmenter({name: 0.5}, seed, epoch), **settings)
    return [image.tolist() for batch in batches for image in batch.first]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_augmentation_changes_real_images_by_seed_epoch_and_position_alone(noise_images, name):
    images, plain = changed(noise_images, name), [i.tolist() for b in load(noise_images, PLAN) for i in b.first]
    is_real = (PLAN.second < 0).tolist()
    assert all(a == b for a, b, real in zip(images, plain, is_real) if not real) and images != plain
    assert changed(noise_images, name, num_workers=2) == images != changed(noise_images, name, epoch=1)
    assert images != changed(noise_images, name, seed=1)
    assert changed(noise_images, name, PLAN[2:]) == images[PLAN.bounds[2]:]  # a resumed epoch
    parts = [changed(noise_images, name, PLAN[:1], rank_slice=slice(rank, None, 2)) for rank in (0, 1)]
    assert [*parts[0], *parts[1]] == [*images[0:PLAN.bounds[1]:2], *images[1:PLAN.bounds[1]:2]]  # two processes
    assert [b.first.tolist() for b in load(noise_images, PLAN, augment=augmenter({name: 0.0}, 0, 0))] == \
        [b.first.tolist() for b in load(noise_images, PLAN)]


@pytest.mark.parametrize("function", [lambda image, *_: image / 255, lambda image, *_: image[:, 1:]])
def test_an_augmentation_that_returns_another_type_or_shape_is_refused(noise_images, function, monkeypatch):
    monkeypatch.setitem(AUGMENTATIONS, "planted", Augmentation(function, 0.5, ""))
    with pytest.raises(TypeError, match="augmentation planted: returned"):
        changed(noise_images, "planted")


def test_augmentations_are_typed_with_their_strength(noise_images):
    assert read_augmentations(["mirror", "shift:0.3"]) == {"mirror": 0.5, "shift": 0.3}
    assert read_augmentations(["none"]) == {} and augmenter({"mirror": 0.5}, 0, 0) is None
    for mistake in ("sparkles", "mirror:2", "mirror:nan", "shift:", "none:x"):
        with pytest.raises(UserError, match=f"--augment {mistake}: must be none, or"):
            read_augmentations([mistake])
    flips = [recognizer_plan(np.zeros(50, int), PLAN.first[:0, None], 10, 0, False, 0, 0, mirrored=p).flip.mean()
             for p in (0, 0.5, 1)]
    assert flips[0] == 0 < flips[1] < flips[2] == 1
