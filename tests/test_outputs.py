"""No output is written over a file of the user's: swaps, sheets, generated sets, conversions and alignments."""

import os
import shutil
from pathlib import Path, PureWindowsPath

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import REPOSITORY, cases, fill, refused, snapshot, train_command
from commands import generate
from commands.generate import UniqueNames, named_pairs
from datasets import align, check, convert
from datasets.files import check_output
from datasets.layout import Sample
from datasets.loading import Images


def test_generate_writes_into_no_directory_but_a_new_one(finished, tmp_path):
    for name in ("images_test.list", "list_attr_x_train.txt", ".hidden", "data/a.jpg"):
        folder = tmp_path / name.replace("/", "_")
        foreign = fill(folder, name)
        line = refused(train_command("--mode", "generate", "--output", folder, "--checkpoint_dir", finished))
        assert "is not empty; name a new directory" in line
        assert snapshot(folder) == foreign


def test_images_that_differ_in_their_ending_get_two_names(tmp_path):
    names = "a.png", "a.jpg", "t.jpg", "A.jpg", "x" * 240 + ".jpg"
    samples = [Sample(name, int(name == "t.jpg"), tmp_path / name) for name in names]
    pairs = numpy.array([(0, 2), (1, 2), (3, 2), (0, 2), (4, 2)])
    named = [sample.name for sample in named_pairs(tmp_path, samples, pairs, UniqueNames())[0]]
    assert named[:3] == ["a_t.jpg", "a_t-2.jpg", "A_t-3.jpg"] and len(named) == 4 and len(named[3]) < 100


def test_synthesized_images_of_subdirectories_have_the_same_names_on_windows(tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "Path", PureWindowsPath)
    samples = [Sample(name, label, tmp_path / name) for label, name in enumerate(("p1/a.png", "p2/b.png"))]
    named, _ = named_pairs(tmp_path, samples, numpy.array([(0, 1)]), UniqueNames())
    assert named[0].name == "p1-a_p2-b.jpg"


def test_an_output_on_a_drive_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda path: False)  # as on Windows, where not every drive exists
    for directory in (True, False):
        assert "is not there" in refused(lambda: check_output("x/y.jpg", "--output", directory=directory))


@pytest.mark.parametrize("kind, which", [("itself", "input"), ("symlink", "target"), ("hard link", "input")])
def test_a_swap_is_not_written_over_its_pictures(faces, finished, tmp_path, kind, which):
    for name in ("input", "target"):
        shutil.copy(faces / "data" / "test_0001.jpg", tmp_path / f"{name}.jpg")
    path, out = tmp_path / f"{which}.jpg", tmp_path / "out.jpg"
    if kind == "itself":
        out = tmp_path / "." / path.name
    else:
        (out.symlink_to if kind == "symlink" else out.hardlink_to)(path)
    before = snapshot(tmp_path)
    line = refused(train_command("--mode", "test", "--swap_list", 0, 1, "-i", tmp_path / "input.jpg", "-t",
                                 tmp_path / "target.jpg", "-o", out, "--checkpoint_dir", finished))
    assert "stays untouched" in line and snapshot(tmp_path) == before


def test_a_contact_sheet_is_not_written_over_an_image(broken, tmp_path):
    data = broken / "data"
    (tmp_path / "link.jpg").symlink_to(data / "train_0001.jpg")
    before = snapshot(tmp_path)
    for sheet in (data / "train_0001.jpg", data / "new.jpg", tmp_path / "link.jpg", data):
        refused(lambda: check.main([str(broken), "--sheet", str(sheet)]))
    assert snapshot(tmp_path) == before


def test_a_source_in_other_case_is_the_same_on_file_systems_that_ignore_case(tmp_path, monkeypatch):
    fill(tmp_path / "src", "x/a.jpg")
    for owner in (os, Path):  # as on macOS; which of the two pathlib calls depends on Python's version
        stat = owner.stat
        monkeypatch.setattr(owner, "stat", lambda path, stat=stat, **settings: stat(
            Path(str(path).replace("SRC", "src")), **settings))
    for out, source in (("SRC/out", "src"), ("SRC", "src"), ("SRC", "src/x")):
        line = refused(lambda: check_output(tmp_path / out, "--out", apart=[tmp_path / source], directory=True))
        assert "the source" in line and "; choose another" in line


def test_a_conversion_does_not_write_into_its_source(tmp_path):
    fill(tmp_path / "src", "happy/0.png", "sad/0.png")
    (tmp_path / "link").symlink_to(tmp_path / "src")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "data").symlink_to(tmp_path / "src" / "happy")
    table = tmp_path / "src" / "t.csv"
    table.write_text("file,label\n0.png,a\n")
    before = snapshot(tmp_path)
    folders, csv = ["folders", str(tmp_path / "src")], ["csv", str(table), "--root", str(tmp_path / "src" / "happy")]
    for source, out in (*((folders, out) for out in ("src/out", "src", ".", "link", "outside")), (csv, "outside")):
        assert "; choose another" in refused(lambda: convert.main([*source, "--out", str(tmp_path / out)]))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("argv", [
    ["--mode", "grid", "-o", "{file}/x.jpg"], ["--mode", "evaluate", "--judge", "{file}/judge.pth"],
    ["--mode", "test", "--swap_list", "0", "1", "-i", "{image}", "-t", "{image}", "-o", "{file}/x.jpg"],
    ["--mode", "generate", "-o", "{file}/x"], ["--mode", "grid", "-o", "{image}"],
    ["--mode", "recognize", "-i", "{smile}", "-o", "{image}"],
    ["--mode", "test", "--swap_list", "0", "1", "-i", "{smile}", "-t", "{smile}", "-o", "{image}"]])
def test_outputs_that_cannot_be_written_are_refused_before_any_work(faces, finished, tmp_path, monkeypatch, argv):
    monkeypatch.setattr("models.gan.SwapGAN.edits", None)
    (tmp_path / "file").write_text("mine")
    paths = {"file": tmp_path / "file", "image": faces / "data" / "test_0001.jpg",
             "smile": REPOSITORY / "images" / "smile.jpg"}
    before = snapshot(faces)
    refused(train_command(*(text.format(**paths) for text in argv), "--checkpoint_dir", finished, "--gpu", -1))
    assert (tmp_path / "file").read_text() == "mine" and snapshot(faces) == before


def test_aligned_faces_do_not_go_among_foreign_files(faces, tmp_path):
    photos, out, points = tmp_path / "photos", tmp_path / "out", tmp_path / "points.txt"
    photos.mkdir()
    shutil.copy(next((faces / "data").iterdir()), photos / "a.jpg")
    points.write_text("a.jpg 20 25 40 25 30 35 22 45 38 45\n")
    foreign = fill(out, "a.jpg", "notes.txt")
    argv = [str(photos), str(out), "--landmarks", str(points), "--workers", "1"]
    for flags in ([], ["--overwrite"]):
        assert "holds other files already" in refused(lambda: align.main([*argv, *flags]))
    assert snapshot(out) == foreign


@cases(10)
@given(st.integers(0, 3 * 2 ** 20), st.booleans())
def test_size_first_and_last_byte_of_a_file_change_the_digest(tmp_path, size, early):
    sample = Sample("x", 0, tmp_path / "x")
    sample.path.write_bytes(b"a" * size)
    before = Images([sample], 32, "none").content_digest()
    sample.path.write_bytes(b"a" * (size + 1))
    assert Images([sample], 32, "none").content_digest() != before
    changed = bytearray(b"a" * max(1, size))
    changed[0 if early else -1] = 0
    sample.path.write_bytes(changed)
    assert Images([sample], 32, "none").content_digest() != before
