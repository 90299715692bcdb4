"""Property-based: whatever lies in a file, a command works or ends in one line and exit status 2.

2,400 cases in all: lists, attribute lists, subjects, pairs, checkpoints, training states and images.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import zlib
from pathlib import Path
from typing import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import utils
from datasets.layout import check_images, read_layout
from datasets.loading import Images, read_image
from datasets.splits import read_pairs, with_validation
from options.recipes import GANShape
from models.checkpoints import read_perceptual, load_recognizer, load_swap_gan, save_gan, save_recognizer
from models.generator import Encoder
from models.recognizer import Recognizer
from models.swap_gan import SwapGAN
from training.state import StateStore
from models.backbones import VGG_fx

CPU = torch.device("cpu")


def cases(count: int) -> Callable:
    return settings(max_examples=count, deadline=None, database=None,
                    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def works_or_is_refused(action: Callable[[], object]) -> bool:
    """Whether the action worked; it fails the test unless it did, or ended as a command refuses (one line, 2)."""
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        try:
            utils.run_command(lambda: action() and None)
        except SystemExit as end:
            lines = [line for line in stderr.getvalue().splitlines() if not line.startswith("warning:")]
            assert end.code == 2 and len(lines) == 1 and len(lines[0]) < 2000, (end.code, stderr.getvalue())
            return False
    return True


# --------------------------------------------------------------------------------------------------- lists

names = st.sampled_from(["a.jpg", "b_c.jpg", "b_c_d.png", "with space.jpg", "ü.jpg", "a", "../x.jpg", ""])
labels = st.one_of(st.integers(-2, 4).map(str), st.sampled_from(["one", "1.0", "", "0x1", "٣", "99999999999999999999"]))
rows = st.tuples(names, labels, st.sampled_from([" ", "\t", "  ", ","])).map(lambda row: f"{row[0]}{row[2]}{row[1]}")
list_text = st.one_of(st.lists(rows, max_size=6).map("\n".join), st.text(max_size=60)).map(str.encode)
list_bytes = st.one_of(list_text, st.binary(max_size=60))


def directory(folder: Path, **files: bytes) -> Path:
    (folder / "data").mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


@cases(500)
@given(train=list_bytes, test=list_bytes, val=st.none() | list_bytes)
def test_label_lists(tmp_path, train, test, val):
    root = directory(tmp_path, images__list=train, images_test__list=test, **({"images_val__list": val} if val else {}))
    if works_or_is_refused(lambda: with_validation(read_layout(root, ["happy", "sad"]), 0)):
        layout = read_layout(root, ["happy", "sad"])
        assert all(0 <= sample.label < 2 for sample in layout.split("all"))
        assert {s.name for s in layout.train}.isdisjoint(s.name for s in layout.test + layout.val)


@cases(300)
@given(first=st.one_of(list_bytes, st.integers(0, 3).map(lambda n: b"%d" % n)), second=list_bytes,
       body=st.lists(st.tuples(names, st.lists(st.sampled_from(["1", "-1", "0", "x"]), max_size=4)), max_size=4))
def test_attribute_lists(tmp_path, first, second, body):
    content = b"\n".join([first, second, *(" ".join([name, *values]).encode() for name, values in body)])
    root = directory(tmp_path, list_attr_x_train__txt=content, list_attr_x_test__txt=content)
    works_or_is_refused(lambda: read_layout(root))


@cases(200)
@given(subjects=list_bytes, expressions=list_bytes)
def test_subjects_and_names(tmp_path, subjects, expressions):
    root = directory(tmp_path, images__list=b"a.jpg 0\nb.jpg 1\n", images_test__list=b"t.jpg 0\n",
                     subjects__list=subjects, expressions__txt=expressions)
    works_or_is_refused(lambda: with_validation(read_layout(root), 0))


@cases(200)
@given(content=st.one_of(list_bytes, st.lists(st.sampled_from(
    ["a_b_c.jpg 0", "b_c_a.jpg 1", "a_a.jpg 7", "a_a.jpg", "nobody_a.jpg 0"]), max_size=5)
    .map("\n".join).map(str.encode)))
def test_pair_lists(tmp_path, content):
    root = directory(tmp_path, images__list=b"a.jpg 0\nb_c.jpg 1\n", images_test__list=b"t.jpg 0\n")
    train = read_layout(root, ["happy", "sad"]).train
    (root / "pairs.list").write_bytes(content)
    works_or_is_refused(lambda: len(read_pairs(root / "pairs.list", train)))


# -------------------------------------------------------------------------------------------- checkpoints

class CreatesAFile:
    """A pickle that would run code when it is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    gan = SwapGAN(GANShape(2, 32, 2, label_copy=1))
    save_gan(folder / "model", gan, {"expressions": ["a", "b"], "gan": gan.config()}, 1)
    save_recognizer(folder / "VGG", Recognizer(VGG_fx(2, 2, 4, 2)), Encoder(2), 50.0, {})
    return folder


def loaders(folder: Path) -> dict[str, tuple[Path, Callable[[], object]]]:
    return {"recognizer": (folder / "VGG" / "max_ckpt.t7", lambda: load_recognizer(folder / "VGG", CPU)),
            "encoder": (folder / "VGG" / "Enc_max.pth", lambda: load_recognizer(folder / "VGG", CPU)),
            "decoder": (folder / "model" / "Dec_iter_temp.pth",
                        lambda: load_swap_gan(folder / "model", None, ["a", "b"], 32, CPU)),
            "config": (folder / "model" / "config.json",
                       lambda: load_swap_gan(folder / "model", None, ["a", "b"], 32, CPU)),
            "perceptual": (folder / "VGG" / "max_ckpt.t7", lambda: read_perceptual(folder / "VGG" / "max_ckpt.t7"))}


@contextlib.contextmanager
def spoiled(path: Path, content: bytes):
    whole = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(whole)


@cases(400)
@given(which=st.sampled_from(["recognizer", "encoder", "decoder", "config", "perceptual"]), where=st.floats(0, 1),
       bit=st.integers(0, 7), cut=st.booleans())
def test_truncated_and_bit_flipped_checkpoints(checkpoint, which, where, bit, cut):
    path, load = loaders(checkpoint)[which]
    content = bytearray(path.read_bytes())
    at = min(int(where * len(content)), len(content) - 1)
    if not cut:
        content[at] ^= 1 << bit
    with spoiled(path, bytes(content[:at] if cut else content)):
        worked = works_or_is_refused(load)
        assert not (cut and worked and which != "config")


keys = st.sampled_from(["main.0.0.weight", "features.0.weight", "new_fc.weight", "net", "x"])
state_dicts = st.dictionaries(keys,
                              st.one_of(st.integers(), st.none(), st.text(max_size=3), st.sampled_from(
                                  [(), (0,), (2, 3, 3, 3), (2, 2), (0, 0, 3, 3), (1000, 1)]).map(torch.zeros)),
                              max_size=4)


@cases(200)
@given(which=st.sampled_from(["recognizer", "encoder", "decoder", "perceptual"]),
       value=st.one_of(state_dicts, state_dicts.map(lambda state: {"net": state}), st.lists(st.integers(), max_size=3),
                       st.integers(), st.just(torch.zeros(3))))
def test_foreign_checkpoints(checkpoint, which, value):
    path, load = loaders(checkpoint)[which]
    buffer = io.BytesIO()
    torch.save(value, buffer)
    with spoiled(path, buffer.getvalue()):
        assert not works_or_is_refused(load)


@cases(100)
@given(which=st.sampled_from(["recognizer", "encoder", "decoder", "perceptual"]), legacy=st.booleans(),
       inside=st.booleans(), bare=st.booleans())
def test_a_checkpoint_that_would_run_code_is_refused(checkpoint, tmp_path, which, legacy, inside, bare):
    path, load = loaders(checkpoint)[which]
    bomb, buffer = CreatesAFile(str(tmp_path / "created")), io.BytesIO()
    value = {"net": {"main.0.0.weight": bomb}} if inside else bomb
    if bare:
        pickle.dump(value, buffer)
    else:
        torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    with spoiled(path, buffer.getvalue()):
        assert not works_or_is_refused(load)
    assert not (tmp_path / "created").exists()


@cases(100)
@given(newest=st.floats(0, 1), manifest=st.none() | list_bytes | st.sampled_from(
    [b"[]", b"{}", b"[1]", b'[{"file": "../x", "sha256": ""}]', b'[{"file": "state_000001.pth", "sha256": "0"}]']))
def test_damaged_training_states(tmp_path, newest, manifest):
    store = StateStore(tmp_path / "state")
    for path in store.folder.glob("*"):
        path.unlink()
    store.save({"step": 1, "weight": torch.ones(3)})
    store.save({"step": 2, "weight": torch.ones(3)})
    content = store.newest().read_bytes()
    store.newest().write_bytes(content[:int(newest * len(content))])
    if manifest is not None:
        (store.folder / "manifest.json").write_bytes(manifest)
    found: list[dict] = []
    if works_or_is_refused(lambda: found.append(store.load())):
        assert found[0]["step"] == (2 if newest == 1 else 1)
    else:
        assert manifest is not None


# -------------------------------------------------------------------------------------------------- images

def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b""))


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    found = []
    for mode, kind in (("RGB", "JPEG"), ("L", "PNG"), ("P", "GIF"), ("RGBA", "PNG"), ("RGB", "BMP"), ("I", "TIFF"),
                       ("RGB", "WEBP")):
        buffer = io.BytesIO()
        Image.linear_gradient("L").resize((40, 30)).convert(mode).save(buffer, kind)
        found.append(buffer.getvalue())
    return found


@cases(400)
@given(which=st.integers(0, 6), where=st.floats(0, 1), damage=st.sampled_from(["cut", "flip", "zero", "noise", "huge"]),
       ending=st.sampled_from(["jpg", "png", "gif", "txt", ""]), noise=st.binary(max_size=40),
       side=st.sampled_from([0, 1, 10 ** 4, 65000, 2 ** 31 - 1]))
def test_broken_images(tmp_path, pictures, which, where, damage, ending, noise, side):
    from datasets.layout import Sample

    content = bytearray(pictures[which])
    at = min(int(where * len(content)), len(content) - 1)
    content = {"cut": content[:at], "zero": bytearray(), "noise": content[:at] + noise + content[at:],
               "huge": png_header(side, 2 * side), "flip": content}[damage]
    if damage == "flip":
        content[at] ^= 0xFF
    path = tmp_path / f"x.{ending}"
    path.write_bytes(bytes(content))
    sample = Sample(path.name, 0, path)
    works_or_is_refused(lambda: check_images([sample]))
    if works_or_is_refused(lambda: read_image(path, 32)):
        assert read_image(path, 32).size == (32, 32)
        assert Images([sample], 32, "ram")[[0]].shape == (1, 3, 32, 32)
    else:
        assert not works_or_is_refused(lambda: Images([sample], 32, "ram"))
