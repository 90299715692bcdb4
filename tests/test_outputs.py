"""Errors, seeds and files of all commands; no output is written over a file of the user's."""

import errno
import json
import os
import shutil
import subprocess
import sys

import numpy
import pytest

import utils
from commands.generate import UniqueNames, named_pairs
from conftest import REPOSITORY, call, fill, refused, restored, snapshot
from datasets import align, check, convert
from datasets.layout import Sample
from utils import UserError, run_command

SMILE = REPOSITORY / "images" / "smile.jpg"


@pytest.mark.parametrize("error, code, message", [
    (UserError("what\nis   wrong"), 2, "what is wrong"), (utils.Stopped(15, "stopped"), 143, "stopped"),
    (KeyboardInterrupt(), 130, "interrupted"), (MemoryError(), 2, "not enough memory"),
    (OSError(errno.ENOSPC, "No space left on device", "x.pth"), 2, "x.pth: No space left on device"),
    (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"), 2, "not valid Unicode")])
def test_a_users_mistake_is_one_line(error, code, message):
    def fail() -> None:
        raise error

    result = call(fail)
    assert result.returncode == code and message in result.stderr and result.stderr.count("\n") == 1
    with pytest.raises(ZeroDivisionError):  # a bug is not hidden
        run_command(lambda: 1 / 0)


def test_a_package_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    refused(call(lambda: __import__("tqdm")), "the package tqdm is not installed; pip install -r requirements.txt")


PRINTER = ("import signal; del signal.SIGPIPE; import sys; import utils\n"  # as on Windows
           "def main():\n    print('ä – ü' * 10000); print('warning: ß', file=sys.stderr)\n"
           "    list(utils.progress(range(3), 'Ö'))\n"
           "    raise utils.UserError('– ' + 'x' * 10000)\n"
           "utils.run_command(main)")


@pytest.mark.parametrize("redirect, code", [
    ("> /dev/null", 2), (">&- 2>&-", 2), ("| true; exit ${PIPESTATUS[0]}", 141)])
def test_ascii_terminals_closed_streams_and_pipes(redirect, code):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    result = subprocess.run(["bash", "-c", f'"$0" -c "$1" {redirect}', sys.executable, PRINTER],
                            cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert result.returncode == code and "Traceback" not in result.stdout + result.stderr
    assert len(result.stderr) < 500


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    utils.write_text(path, "one\n")
    with pytest.raises(RuntimeError):
        with utils.atomic_file(path, "w") as handle:
            handle.write("two")
            raise RuntimeError
    assert path.read_bytes() == b"one\n" and [p.name for p in path.parent.iterdir()] == ["file.txt"]
    utils.write_json(path, {"a": float("nan"), "b": [float("inf"), (1.5,)]})  # not known to JSON
    values = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert values == {"a": None, "b": [None, [1.5]]}


def test_generate_writes_into_no_directory_but_a_new_one(finished, tmp_path):
    foreign = fill(tmp_path, ".hidden")
    line = refused(restored(finished, "--mode", "generate", "--output", tmp_path))
    assert "is not empty; name a new directory" in line and snapshot(tmp_path) == foreign


def test_images_that_differ_in_their_ending_or_folder_get_two_names(tmp_path):
    names = "a.png", "a.jpg", "t.jpg", "A.jpg", "x" * 240 + ".jpg", "p1/a.png"
    samples = [Sample(name, int(name == "t.jpg"), tmp_path / name) for name in names]
    pairs = numpy.array([(0, 2), (1, 2), (3, 2), (0, 2), (4, 2), (5, 2)])
    named = [sample.name for sample in named_pairs(tmp_path, samples, pairs, UniqueNames())[0]]
    assert named[:3] == ["a_t.jpg", "a_t-2.jpg", "A_t-3.jpg"] and len(named[3]) < 100
    assert named[4:] == ["p1-a_t.jpg"]


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
    argv = ["-i", tmp_path / "input.jpg", "-t", tmp_path / "target.jpg", "-o", out]
    refused(restored(finished, "--mode", "test", "--swap_list", 0, 1, *argv), "stays untouched")
    assert snapshot(tmp_path) == before


def test_a_contact_sheet_is_not_written_over_an_image(broken, tmp_path):
    data = broken / "data"
    (tmp_path / "link.jpg").symlink_to(data / "train_0001.jpg")
    before = snapshot(tmp_path)
    for sheet in (data / "train_0001.jpg", data / "new.jpg", tmp_path / "link.jpg", data):
        refused(lambda: check.main([str(broken), "--sheet", str(sheet)]))
    assert snapshot(tmp_path) == before


def test_a_conversion_does_not_write_into_its_source(tmp_path):
    fill(tmp_path / "src", "happy/0.png", "sad/0.png")
    (tmp_path / "link").symlink_to(tmp_path / "src")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "data").symlink_to(tmp_path / "src" / "happy")
    before, argv = snapshot(tmp_path), ["folders", str(tmp_path / "src"), "--out"]
    for out in ("src/out", "src", ".", "link", "outside"):
        refused(lambda: convert.main([*argv, str(tmp_path / out)]), "; choose another")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("argv", [
    "grid -o {file}/x.jpg", "grid -o {image}", "evaluate --judge {file}/judge.pth",
    "generate -o {file}/x", "recognize -i {smile} -o {image}",
    "test --swap_list 0 1 -i {image} -t {image} -o {file}/x.jpg",
    "test --swap_list 0 1 -i {smile} -t {smile} -o {image}"])
def test_outputs_that_cannot_be_written_are_refused_before_any_work(
        faces, finished, tmp_path, monkeypatch, argv):
    monkeypatch.setattr("models.gan.SwapGAN.edits", None)
    fill(tmp_path, "file")
    paths = {"file": tmp_path / "file", "image": faces / "data" / "test_0001.jpg", "smile": SMILE}
    before = snapshot(faces)
    refused(restored(finished, "--mode", *argv.format(**paths).split()))
    assert (tmp_path / "file").read_text() == "mine: file" and snapshot(faces) == before


def test_aligned_faces_do_not_go_among_foreign_files(faces, tmp_path):
    photos, out, points = tmp_path / "photos", tmp_path / "out", tmp_path / "points.txt"
    photos.mkdir()
    shutil.copy(next((faces / "data").iterdir()), photos / "a.jpg")
    points.write_text("a.jpg 20 25 40 25 30 35 22 45 38 45\n")
    foreign = fill(out, "a.jpg", "notes.txt")
    argv = [str(photos), str(out), "--landmarks", str(points), "--workers", "1"]
    refused(lambda: align.main([*argv, "--overwrite"]), "holds other files already")
    assert snapshot(out) == foreign
