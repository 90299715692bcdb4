"""Image files of every kind → tensors, in the order of a plan."""

import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.layout import Sample
from datasets.loading import Images, load, to_uint8
from datasets.pictures import BadPicture, read_image, read_picture
from datasets.plans import Batch, real_plan, ground_truth_swaps
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


def test_transparency_becomes_white(tmp_path):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "x.png")
    assert read_picture(tmp_path / "x.png").getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize("content, fault", [(None, "missing"), (b"nothing", "no image"), ("half", "damaged"),
                                            ("large", "too large")])
def test_a_bad_picture_says_what_is_wrong_with_it(tmp_path, content, fault, monkeypatch):
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole, "PNG")
    if content == "large":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 - 1)
    content = {"half": whole.getvalue()[:6000], "large": whole.getvalue()}.get(content, content)
    if content is not None:
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


def sample_images(tmp_path) -> list[Sample]:
    for i in range(6):
        Image.new("RGB", (32, 32), (i * 10, 0, 0)).save(tmp_path / f"{i}.png")
    return [Sample(f"{i}.png", i % 3, tmp_path / f"{i}.png") for i in range(6)]


@pytest.mark.parametrize("cache, workers", [("ram", 0), ("none", 0), ("none", 2)])
def test_loading_gives_the_planned_images_in_order(tmp_path, cache, workers):
    images = Images(sample_images(tmp_path), 32, cache)
    plan = [Batch.of(np.array([4, 1]), np.array([0, 5])), Batch.of(np.array([2]))]
    first, second = load(images, plan, workers)
    assert first.first[:, 0, 0, 0].tolist() == [40, 10] and first.second[:, 0, 0, 0].tolist() == [0, 50]
    assert first.to("cpu").first[0, :, 0, 0].tolist() == pytest.approx([40 / 127.5 - 1, -1, -1])
    assert first.label.tolist() == [1, 1] and first.second_label.tolist() == [0, 2]
    assert len(second.second) == 0 and second.first[:, 0, 0, 0].tolist() == [20]
    assert (first.alone, second.alone, first.total_alone, second.total_alone) == (0, 1, 0, 1)


def test_processes_share_a_batch_without_repetition(tmp_path):
    images = Images(sample_images(tmp_path), 32, "ram")
    plan = [Batch.of(np.array([4, 1, 0, 2, 3]), np.array([0, 5, 1, 1, 2]))]
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
    batch = Batch.of(first, second, flip)._replace(truth=ground_truth_swaps(first, second, samples))
    assert batch.truth.tolist() == [[1, 2], [3, 0]]
    loaded = next(load(images, [batch]))
    assert loaded.first[:, 0, 0, [0, 31]].tolist() == [[50, 0], [0, 150]]
    assert loaded.second[:, 0, 0, [0, 31]].tolist() == [[200, 0], [0, 100]]
    assert loaded.truth[:, 0, 0, [0, 31]].tolist() == [[100, 0], [0, 200], [150, 0], [0, 50]] and loaded.known.all()
    shared = next(load(images, [batch], rank_slice=slice(1, None, 2)))
    assert shared.truth[:, 0, 0, [0, 31]].tolist() == [[0, 200], [0, 50]] and shared.total == 2
    assert next(load(images, [Batch.of(first, second)])).truth is None
