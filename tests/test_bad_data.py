"""Whatever lists, tables and images contain, a command works or ends in one line: no traceback, and it never hangs."""

import io
import struct
import zlib
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import TINY, cases, refused, train_command, works_or_is_refused
from datasets.check import check_directory
from datasets.layout import Sample, check_images, check_splits, read_layout, write_layout
from datasets.loading import Images
from datasets.pictures import read_image
from datasets.plans import real_plan, recognizer_plan
from datasets.splits import read_pairs, with_validation
from test_convert import pictures


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
    ({"images.list": "a.jpg --4\n"}, "line 1"), ({"expressions.txt": "a b a"}, "names a twice"),
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
    train = [Sample(f"{person}_{label}_{i}.png", label, Path("x"), person)
             for person in ("me", "you") for label in (0, 1) for i in range(4)]
    test = Sample("t.png", 0, Path("x"))
    pictures(tmp_path / "d/data", [sample.name for sample in (*train, test)])
    write_layout(tmp_path / "d", ["happy", "neutral"], {"train": train, "test": [test]})
    refused(train_command("--data_dir", tmp_path / "d", "--checkpoint_dir", tmp_path / "run", *TINY),
            "persons are validated on as wholes, and none of its 2 is small enough", "--select_on none")
