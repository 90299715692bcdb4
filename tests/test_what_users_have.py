"""Files and systems as users have them: unusual pictures, foreign checkpoints, file systems that refuse operations."""

import errno
import io
import os
import struct
import zlib
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

import utils
from conftest import refused
from datasets import align, check, convert
from datasets.lists import read_lines
from datasets.pictures import BadPicture, image_fault, read_picture
from models.checkpoints import read_perceptual
from models.networks import VGG
from utils import pick_device

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "5" * 64 + "\nsize 232589\n"
PAGE = "<!DOCTYPE html><html><head><title>Quota exceeded</title></head></html>"


def noise(seed: int, side: int = 64) -> Image.Image:
    """Return a picture of blurred noise."""
    pixels = numpy.random.default_rng(seed).integers(0, 256, (8, 8, 3), numpy.uint8)
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)


def two_classes(root: Path, ending: str, kind: str) -> Path:
    """Write four pictures of each of two expressions."""
    for seed in range(8):
        path = root / ("angry", "happy")[seed // 4] / f"{seed}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(seed).save(path, kind)
    return root


# ----------------------------------------------------------------------------------------------- pictures

def encoded(image: Image.Image, kind: str, **more) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    return jpeg[:2] + struct.pack(">BBH", 0xff, marker, len(content) + 2) + content + jpeg[2:]


def with_chunk(png: bytes, kind: bytes, content: bytes) -> bytes:
    return png[:33] + struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)) \
        + png[33:]


@pytest.mark.parametrize("name, damaged", [
    ("x.jpg", lambda image: with_segment(encoded(image, "JPEG"), 0xe1, b"Exif\0\0Exif\0\0II*\0\x08\0\0\0\0\0")),
    ("x.jpg", lambda image: with_segment(encoded(image, "JPEG"), 0xe2, b"MPF\0II*\0\xff\xff\xff\x7f")),
    ("x.png", lambda image: with_chunk(encoded(image, "PNG"), b"eXIf", b"\0\x08\0\x02\x01\x12\0\x03")),
    ("x.png", lambda image: with_chunk(encoded(image, "PNG"), b"zTXt", b"a\0\0" + zlib.compress(bytes(5 << 20)))),
    ("x.webp", lambda image: encoded(image, "WEBP", lossless=True, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")[:-6])])
def test_pixels_are_read_behind_broken_metadata(tmp_path, name, damaged):
    (tmp_path / name).write_bytes(damaged(noise(0)))
    expected = read_picture(io.BytesIO(encoded(noise(0), "JPEG" if name == "x.jpg" else "PNG")))
    assert image_fault(tmp_path / name) is None
    assert numpy.array_equal(numpy.asarray(read_picture(tmp_path / name)), numpy.asarray(expected))


def test_deep_greys_are_scaled_and_an_unknown_depth_is_named(tmp_path):
    grey = numpy.linspace(0, 255, 4096).reshape(64, 64)
    for values in (grey / 255, grey, grey * 4.01, grey * 16.05, grey * 257):
        kind = numpy.float32 if values.max() <= 255 else numpy.uint16
        Image.fromarray(values.astype(kind)).save(tmp_path / "x.tiff")
        assert numpy.abs(numpy.asarray(read_picture(tmp_path / "x.tiff"))[..., 0] - grey).max() < 2
    for values, span in ((grey.astype(numpy.int32) * 1000, "0 to 255000"), (grey / 127.5 - 1, "-1 to 1")):
        Image.fromarray(values.astype(numpy.int32 if values.max() > 1 else numpy.float32)).save(tmp_path / "x.tiff")
        with pytest.raises(BadPicture, match=f"from {span}, an unknown depth"):
            read_picture(tmp_path / "x.tiff")


@pytest.mark.parametrize("mode", ["L", "I;16", "RGBA", "RGB"])
def test_uncompressed_tiff_files_are_turned_as_their_exif_data_say(tmp_path, mode):
    grey = numpy.arange(24 * 16, dtype=numpy.uint16).reshape(24, 16) // 2
    image = Image.fromarray(grey * 257) if mode == "I;16" else Image.fromarray(grey.astype(numpy.uint8)).convert(mode)
    for orientation, turned in ((1, grey), (5, grey.T), (6, numpy.rot90(grey, -1)), (8, numpy.rot90(grey))):
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(tmp_path / "x.tif", exif=exif.tobytes())
        assert numpy.array_equal(numpy.asarray(read_picture(tmp_path / "x.tif"))[..., 1], turned)


def test_black_and_animated_pictures_are_found_and_named(tmp_path, capsys):
    happy = two_classes(tmp_path / "faces", "jfif", "JPEG") / "happy"
    black = Image.fromarray(numpy.random.default_rng(0).integers(0, 3, (64, 64, 3), numpy.uint8))
    black.save(happy / "black.jpg")
    noise(1).save(happy / "two.gif", save_all=True, append_images=[noise(2)])
    (happy / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500))
    (happy / "pointer.png").write_text(LFS)
    convert.main(["folders", str(tmp_path / "faces"), "--out", str(tmp_path / "out"), "--test_share", "0.25"])
    output = capsys.readouterr().out
    for text in ("8 images", "nearly one color, it shows nothing", "it holds 2 pictures", "pillow-heif", "Git LFS"):
        assert text in output, (text, output)
    name = (tmp_path / "out" / "images.list").read_text().split()[0]
    (tmp_path / "out" / "data" / name).unlink()
    black.save(tmp_path / "out" / "data" / name, "JPEG")
    with pytest.raises(SystemExit):
        check.main([str(tmp_path / "out")])
    assert f"1 images are nearly one color and show nothing: {name}" in capsys.readouterr().out


# ------------------------------------------------------------------------------------ foreign checkpoints

def test_checkpoints_of_other_programs_are_unwrapped(tmp_path):
    torch.manual_seed(0)
    state = {key: value for key, value in VGG(2, 4, 8).state_dict().items() if key.startswith("features.")}
    ours = state["features.0.weight"]
    wrapped = ({"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3},
               {"model": {f"module._orig_mod.{key}": value for key, value in state.items()}, "optimizer": {},
                "config": {"image_size": "large"}},
               {"model_state_dict": {key.replace("features.", "features.module."): value.half()
                                     for key, value in state.items()}},
               {f"model.{key}": value for key, value in state.items()})
    for checkpoint in wrapped:
        torch.save(checkpoint, tmp_path / "x.pth")
        weight = read_perceptual(tmp_path / "x.pth").network.features[0].weight
        torch.testing.assert_close(weight, ours, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("text, message", [(LFS, "a Git LFS pointer, not the file itself"), (PAGE, "a web page")])
def test_placeholders_of_files_are_named_as_such(tmp_path, text, message):
    (tmp_path / "x.pth").write_text(text)
    for reader in (read_perceptual, read_lines):
        assert message in refused(lambda: reader(tmp_path / "x.pth"))
    pytest.importorskip("cv2")
    (tmp_path / "photos").mkdir()
    noise(0).save(tmp_path / "photos" / "x.png")
    argv = [str(tmp_path / "photos"), str(tmp_path / "out"), "--model", str(tmp_path / "x.pth")]
    assert message in refused(lambda: align.main(argv))


@pytest.mark.parametrize("name, way", [
    ("model.safetensors", 'torch.save(load_file("model.safetensors"), "model.pth")'),
    ("script.pt", 'torch.save(torch.jit.load("script.pt").state_dict(), "script.pth")')])
def test_weights_in_other_formats_are_named_with_the_way_to_convert_them(tmp_path, name, way):
    if name == "script.pt":
        torch.jit.trace(torch.nn.Conv2d(3, 8, 3), torch.zeros(1, 3, 8, 8)).save(str(tmp_path / name))
    else:
        header = b'{"features.0.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
        (tmp_path / name).write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    line = refused(lambda: read_perceptual(tmp_path / name))
    assert way in line and "damaged" not in line


# -------------------------------------------------------------------------------------------- file systems

def test_a_file_system_may_refuse_permissions_and_times(tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    for path in two_classes(tmp_path / "faces", "png", "PNG").rglob("*.png"):
        os.utime(path, (1e9, 1e9))
    for name in ("chmod", "utime", "fsync"):
        monkeypatch.setattr(os, name, refuse)
    for form in (["--copy"], ["--reencode", "32"]):
        argv = ["folders", str(tmp_path / "faces"), "--out", str(tmp_path / form[0]), *form]
        convert.main(argv)
        assert "8 images (8 of them new)" in capsys.readouterr().out
        convert.main(argv)
        assert "8 images (all there already)" in capsys.readouterr().out
    noise(99).save(tmp_path / "faces" / "happy" / "7.png")
    assert "another image has this name" in refused(lambda: convert.main(argv))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)  # this loses data
    with pytest.raises(OSError):
        utils.write_text(tmp_path / "x.txt", "x")
    assert not (tmp_path / "x.txt").exists()


def test_missing_gpus_are_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    refused(lambda: pick_device([5]),
            "CUDA_VISIBLE_DEVICES=5 numbers GPUs anew: the first that it names is --gpu 0")
