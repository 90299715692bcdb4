"""Whatever lists, tables and images contain, a command works or ends in one line: no traceback, and it never hangs."""

import io
import struct
import time
import zlib
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import TINY, cases, refused, train_command, works_or_is_refused
from datasets import convert
from datasets.check import check_directory
from datasets.layout import Sample, check_images, check_splits, read_layout, write_layout
from datasets.lists import is_integer, read_label_list
from datasets.loading import Images
from datasets.pictures import read_image
from datasets.plans import real_plan, recognizer_plan
from datasets.splits import read_pairs, with_validation
from test_importers import picture


def directory(root: Path, files: dict[str, str | bytes]) -> Path:
    """Write a data directory of two training images and a test image, with other content for some ``files``."""
    (root / "data").mkdir(parents=True, exist_ok=True)
    for path in root.iterdir():
        if path.is_file():
            path.unlink()
    for name, content in {"images.list": "a.jpg 0\nb_c.jpg 1\n", "images_test.list": "t.jpg 0\n", **files}.items():
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return root


# ------------------------------------------------------------------------------------------------------------ lists

@pytest.mark.parametrize("files, message", [
    ({"images.list": "a.jpg 0\n./a.jpg 1\n"}, "has the label 1 here and 0 before"),
    ({"images.list": "a.jpg 0\nx/../a.jpg 1\n"}, "has the label 1 here and 0 before"),
    ({"expressions.txt": ""}, "names no expression"), ({"expressions.txt": "a b a"}, "names a twice"),
    ({"expressions.txt": "a " * 5000}, "names 5000 expressions"),
    ({"images_val.list": "v.jpg 0\n./t.jpg 0\n"}, "images_test.list too"),
    ({"images.list": "x" * 5000 + " 0\nb.jpg 1\n"}, "2 of 2 listed images")])
def test_lists_that_contradict_themselves(tmp_path, files, message):
    root, names = directory(tmp_path, files), None if "expressions.txt" in files else ["a", "b"]

    def check() -> None:
        layout = read_layout(root, names)
        check_splits(layout)
        check_images(layout.train)

    line = refused(check)
    assert message in line and len(line) < 1600
    works_or_is_refused(lambda: check_directory(root))


def test_labels_that_are_no_numbers(tmp_path):
    for word in ("--4", "+-4", "-+4", "++1", "+", "-", "", "1" * 10, "٣"):
        assert not is_integer(word)
        (tmp_path / "x.list").write_text(f"a.jpg {word}\n")
        refused(lambda: read_label_list(tmp_path / "x.list"))


def test_many_missing_and_very_long_names_are_reported_at_once(tmp_path):
    samples = [Sample(name, 0, Path(f"{tmp_path}/{name}")) for name in (f"{'x' * 3000}{i}" for i in range(20000))]
    started = time.process_time()
    line = refused(lambda: check_images(samples))
    assert "20000 of 20000" in line and len(line) < 1700 and time.process_time() - started < 5


names = st.sampled_from(["a.jpg", "b_c.jpg", "b_c_a.jpg", "with space.jpg", "ü.jpg", "a", "../x.jpg", ""])
labels = st.one_of(st.integers(-2, 4).map(str), st.sampled_from(["one", "1.0", "", "0x1", "٣", "99999999999999999999"]))
rows = st.tuples(names, labels, st.sampled_from([" ", "\t", "  ", ","])).map(lambda row: f"{row[0]}{row[2]}{row[1]}")
list_text = st.one_of(st.lists(rows, max_size=6).map("\n".join), st.text(max_size=60)).map(str.encode)
list_bytes = st.one_of(list_text, st.binary(max_size=60))
LISTS = ["images.list", "images_test.list", "images_val.list", "subjects.list", "expressions.txt", "pairs.list"]


@cases(120)
@given(st.dictionaries(st.sampled_from(LISTS), list_bytes, min_size=1, max_size=3))
def test_lists_of_any_content(tmp_path, files):
    root = directory(tmp_path, {"pairs.list": "b_c_a.jpg 1\n", **files})
    expressions, layouts = None if "expressions.txt" in files else ["happy", "sad"], []
    if works_or_is_refused(lambda: layouts.append(with_validation(read_layout(root, expressions), 0))):
        layout, = layouts
        assert all(0 <= sample.label < len(layout.expressions) for sample in layout.split("all"))
        assert {s.name for s in layout.train}.isdisjoint(s.name for s in layout.test + layout.val)
        works_or_is_refused(lambda: len(read_pairs(root / "pairs.list", layout.train)))


@cases(30)
@given(first=st.one_of(list_bytes, st.integers(0, 3).map(lambda n: b"%d" % n)), second=list_bytes,
       body=st.lists(st.tuples(names, st.lists(st.sampled_from(["1", "-1", "0", "x"]), max_size=4)), max_size=4))
def test_attribute_lists_of_any_content(tmp_path, first, second, body):
    content = b"\n".join([first, second, *(" ".join([name, *values]).encode() for name, values in body)])
    root = directory(tmp_path, {f"list_attr_x_{split}.txt": content for split in ("train", "test")})
    (root / "images.list").unlink(), (root / "images_test.list").unlink()
    works_or_is_refused(lambda: read_layout(root))


@pytest.mark.parametrize("kind, name, content", [
    ("rafdb", "EmoLabel/list_patition_label.txt", "train_0 5\n"),
    ("csv", "t.csv", f"file,label\na.jpg,{'x' * 200000}\n"), ("csv", "t.csv", f"{'x' * 200000},label\n"),
    ("csv", "t.csv", "file,label\na\0.jpg,x\n"),
    ("csv", "t.csv", "file,label\n" + "".join(f"{'n' * 300}{i}.jpg,{i % 2}\n" for i in range(4)))])
def test_sources_that_cannot_be_imported(tmp_path, kind, name, content):
    for folder in ("src/EmoLabel", "src/Image/aligned"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "src" / name).write_text(content)
    source = tmp_path / "src" / ("t.csv" if kind == "csv" else "")
    refused(lambda: convert.main([kind, str(source), "--out", str(tmp_path / "out")]))
    assert not (tmp_path / "out").exists()


def test_no_batch_of_one_image():
    for count in range(2, 40):
        for size in (2, 3, 5):
            plans = real_plan(count, size, 0), recognizer_plan(numpy.arange(count) % 2, numpy.zeros((1, 2), int), size,
                                                               0, True, 0, 0)
            assert all(len(batch.first) > 1 for plan in plans for batch in plan)
            assert all(sum(len(batch.first) for batch in plan) == count for plan in plans)


# ----------------------------------------------------------------------------------------------------------- images

def png_header(width: int, height: int) -> bytes:
    """Return a PNG whose header names a size and which holds almost no pixels."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b""))


FORMATS = ["RGB JPEG", "L PNG", "P GIF", "RGBA PNG", "RGB BMP", "I TIFF", "RGB WEBP"]


@cases(40)
@given(st.sampled_from(FORMATS), st.floats(0, 1), st.sampled_from(["cut", "flip", "zero", "noise", "huge"]),
       st.sampled_from(["jpg", "png", "gif", "txt", ""]), st.binary(max_size=40),
       st.sampled_from([0, 1, 10 ** 4, 65000, 2 ** 31 - 1]))
def test_broken_images(tmp_path, mode_and_format, where, damage, ending, noise, side):
    (mode, image_format), buffer = mode_and_format.split(), io.BytesIO()
    Image.linear_gradient("L").resize((40, 30)).convert(mode).save(buffer, image_format)
    content = bytearray(buffer.getvalue())
    at = min(int(where * len(content)), len(content) - 1)
    flipped = content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1:]
    content = {"cut": content[:at], "zero": b"", "noise": content[:at] + noise + content[at:],
               "huge": png_header(side, 2 * side), "flip": flipped}[damage]
    sample = Sample(f"x.{ending}", 0, tmp_path / f"x.{ending}")
    sample.path.write_bytes(bytes(content))
    works_or_is_refused(lambda: check_images([sample]))
    if works_or_is_refused(lambda: read_image(sample.path, 32)):
        assert read_image(sample.path, 32).size == (32, 32)
        assert Images([sample], 32, "ram")[[0]].shape == (1, 3, 32, 32)
    else:
        assert not works_or_is_refused(lambda: Images([sample], 32, "ram"))


def test_a_validation_split_that_no_person_fits_speaks_of_persons(tmp_path):
    rows = [(f"{person}_{label}_{i}.png", label, person)
            for person in ("me", "you") for label in (0, 1) for i in range(4)]
    for name, *_ in rows:
        picture(tmp_path / "d/data" / name, 1)
    write_layout(tmp_path / "d", ["happy", "neutral"], {split: [Sample(name, label, Path(name), person)
                 for name, label, person in part] for split, part in (("train", rows), ("test", rows[:1]))})
    (tmp_path / "d/images_test.list").write_text("me_0_0.png 0\n")
    line = refused(train_command("--data_dir", tmp_path / "d", "--checkpoint_dir", tmp_path / "run", *TINY))
    assert "persons are validated on as wholes, and none of its 2 is small enough" in line and "--select_on none" in line
