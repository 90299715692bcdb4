"""Nothing of the user's is lost: foreign files, inputs, other runs' results, killed and concurrent runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import train
import training.run
from conftest import REPOSITORY
from datasets import align, check, convert
from datasets.aligning.directory import align_directory
from datasets.aligning.aligner import Options
from datasets.drawing.data_set import make_dataset
from datasets.layout import Sample, content_of, read_layout
from hostile import LOCK_HOLDER, PYTHON, cases, ended, fill, kept, refused, run, snapshot
from commands.generate import Names, named_pairs
from options.command_line import read_config
from options.presets import PRESETS
from training.state import StateStore
from training.trainer import Run
from models.checkpoints import load_swap_gan
from models.swap_gan import SwapGAN
from training.run_directory import RunDirectory
from utils import UserError

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "faces"
    make_dataset(root, image_size=32, subjects_train=4, subjects_test=2, scenes=1)
    return root


@pytest.fixture(scope="module")
def finished(faces, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(faces, folder)
    return folder


@pytest.fixture
def own(finished, tmp_path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(finished, tmp_path / "own"))


# ----------------------------------------------------------------------------------- A1, A2: a run's directory

@pytest.mark.parametrize("flags", [[], ["--overwrite"], ["--auto_restore"]])
@pytest.mark.parametrize("names", [
    ["img/holiday.jpg"], ["log/notes.txt"], ["splits/mine.csv"], ["test_result/thesis.tex"],
    ["model/mine.pth", "state/mine.pth", "VGG/mine.t7"], ["img/deep/er/x.jpg", "log/a b"], ["options.json"],
    ["img/epoch_001.jpg"], ["synthesis.json"], ["state/manifest.json"], ["run.json"]])
def test_foreign_files_are_refused_and_stay(faces, tmp_path, names, flags):
    foreign = fill(tmp_path / "mine", *names)
    if names == ["options.json"]:
        (tmp_path / "mine" / "options.json").write_text('{"lr": 1, "theirs": true}')
    before = snapshot(tmp_path / "mine")
    refused(lambda: run(faces, tmp_path / "mine", *flags))
    assert snapshot(tmp_path / "mine") == before and foreign


@pytest.mark.parametrize("claimed", [True, False])
def test_overwrite_moves_everything_aside(faces, own, tmp_path, capsys, claimed):
    fill(own, "notes.txt", "model/mine.pth", "img/.hidden.jpg.ab12_xyz.part", "splits/x/y/z")
    if not claimed:  # as the published code leaves it
        for name in ("run.json", "run.lock", "options.json"):
            (own / name).unlink()
    before = snapshot(own)
    run(faces, own, "--overwrite")
    moved = next(tmp_path.glob("own.old-*"))
    assert {**snapshot(moved), "run.lock": b""} == {**before, "run.lock": b""}
    assert f"moved what was in {own} to {moved}\n" in capsys.readouterr().out
    assert not (own / "notes.txt").exists() and StateStore(own / "state").load()["stage"] == 3
    RunDirectory(own).move_aside()
    assert len(list(tmp_path.glob("own.old-*"))) == 2 and snapshot(moved).items() >= before.items()


@pytest.mark.parametrize("flag, name", [("--perceptual", "VGG_loss/6_max_ckpt.t7"), ("--vgg_init", "VGG_loss/6_max_ckpt.t7"),
                                        ("--data_dir", "faces")])
def test_overwrite_does_not_move_what_the_new_run_needs(faces, own, flag, name):
    shutil.copytree(faces, own / "faces")
    before = snapshot(own)
    assert "--overwrite" in refused(lambda: run(faces, own, "--overwrite", flag, own / name))
    assert snapshot(own) == before


@pytest.mark.parametrize("flags", [[], ["--auto_restore"]])
def test_states_without_their_manifest_are_no_reason_to_start_anew(faces, own, flags):
    shutil.rmtree(own / "VGG")
    (own / "state" / "manifest.json").unlink()
    before = snapshot(own)
    line = refused(lambda: run(faces, own, *flags))
    assert "manifest.json" in line if flags else "already holds a run" in line
    assert snapshot(own) == before


@pytest.mark.parametrize("what", ["model", "VGG", "state"])
def test_results_alone_are_never_removed(faces, own, what):
    for name in {"model", "VGG", "state"} - {what}:
        shutil.rmtree(own / name)
    before = snapshot(own / what)
    if what == "state":
        (own / "state" / "manifest.json").unlink()
        before.pop("manifest.json")
    refused(lambda: run(faces, own, "--auto_restore"))
    assert snapshot(own / what) == before


def test_a_false_start_is_begun_again(faces, tmp_path):
    """Killed between the first state and its entry in the manifest: nothing is lost, and nothing stands in the way."""
    directory = RunDirectory(tmp_path / "run")
    directory.claim()
    StateStore(tmp_path / "run" / "state").begin()
    fill(tmp_path / "run", "state/state_000001.pth", "log/metrics.csv")
    run(faces, tmp_path / "run", "--auto_restore")
    assert StateStore(tmp_path / "run" / "state").load()["stage"] == 3


# -------------------------------------------------------------------------------- A3, A4, A8: outputs and inputs

@pytest.mark.parametrize("names", [["images_test.list"], ["subjects.list"], ["list_attr_x_train.txt"], ["a.txt"],
                                   [".hidden"], ["data/a.jpg"], ["images.list", "images_test.list"]])
def test_generate_writes_into_no_directory_but_a_new_one(own, tmp_path, names):
    foreign = fill(tmp_path / "out", *names)
    refused(lambda: train.main(["--mode", "generate", "--output", str(tmp_path / "out"), "--checkpoint_dir", str(own)]))
    assert snapshot(tmp_path / "out") == foreign


def test_generate_again_gives_the_same_and_a_killed_one_goes_on(own, tmp_path):
    words = ["--mode", "generate", "--output", str(tmp_path / "out"), "--checkpoint_dir", str(own), "--gpu", "-1"]
    assert ended(lambda: train.main(words))[0] == 0
    once = snapshot(tmp_path / "out")
    for name in ("images.list", "made_from.list"):
        (tmp_path / "out" / name).unlink()
    assert ended(lambda: train.main(words))[0] == 0 and snapshot(tmp_path / "out") == once


def test_images_that_differ_in_their_ending_get_two_names(tmp_path):
    everyone = [Sample(name, 0, tmp_path / name) for name in ("a.png", "a.jpg", "t.jpg", "A.jpg", "x" * 240 + ".jpg")]
    pairs = numpy.array([(0, 2), (1, 2), (3, 2), (0, 2), (4, 2)])
    named = [sample.name for sample in named_pairs(tmp_path, everyone, pairs, Names()).values()]
    assert named[:3] == ["a_t.jpg", "a_t-2.jpg", "A_t-3.jpg"] and len(named) == 4 and len(named[3]) < 100


def linked(kind: str, path: Path, place: Path) -> Path:
    """Another way to name a file."""
    if kind == "symlink":
        place.symlink_to(path)
    elif kind == "hard link":
        os.link(path, place)
    return place if kind != "itself" else path.parent / "." / path.name


@pytest.mark.parametrize("which", ["input", "target"])
@pytest.mark.parametrize("kind", ["itself", "symlink", "hard link"])
def test_a_swap_is_not_written_over_its_pictures(faces, own, tmp_path, kind, which):
    for name in ("input", "target"):
        shutil.copy(faces / "data" / "test_0001.jpg", tmp_path / f"{name}.jpg")
    before = snapshot(tmp_path)
    out = linked(kind, tmp_path / f"{which}.jpg", own / "out.jpg")
    line = refused(lambda: train.main(["--mode", "test", "--swap_list", "0", "1", "-i", str(tmp_path / "input.jpg"),
                                       "-t", str(tmp_path / "target.jpg"), "-o", str(out), "--checkpoint_dir",
                                       str(own)]))
    assert "stays untouched" in line and snapshot(tmp_path).items() >= before.items()


def test_a_contact_sheet_is_not_written_over_an_image(faces, tmp_path):
    root = Path(shutil.copytree(faces, tmp_path / "faces"))
    (tmp_path / "link.jpg").symlink_to(root / "data" / "train_0001.jpg")
    before = snapshot(tmp_path)
    for sheet in (root / "data" / "train_0001.jpg", root / "data" / "new.jpg", tmp_path / "link.jpg", root / "data"):
        refused(lambda: check.main([str(root), "--sheet", str(sheet)]))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("out", ["src/out", "src", ".", "link", "outside"])
def test_a_conversion_does_not_write_into_its_source(tmp_path, out):
    for name in ("happy", "sad"):
        for number in range(4):
            place = tmp_path / "src" / name / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), (60 * number, 0, 0)).save(place)
    (tmp_path / "link").symlink_to(tmp_path / "src")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "data").symlink_to(tmp_path / "src" / "happy")
    (tmp_path / "src" / "t.csv").write_text("file,label\n" + "".join(f"{i}.png,{n}\n" for i in range(4) for n in "ab"))
    before = snapshot(tmp_path)
    refused(lambda: convert.main(["folders", str(tmp_path / "src"), "--out", str(tmp_path / out)]))
    table = tmp_path / "src" / "t.csv"
    if out == "outside":
        refused(lambda: convert.main(["csv", str(table), "--root", str(tmp_path / "src" / "happy"), "--out",
                                      str(tmp_path / out)]))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("place", [".", "data", "run", "data/run"])
def test_a_run_does_not_write_into_its_data(faces, tmp_path, place):
    root = Path(shutil.copytree(faces, tmp_path / "faces"))
    (tmp_path / "link").symlink_to(root)
    before = snapshot(tmp_path)
    refused(lambda: run(root, root / place))
    refused(lambda: run(root, tmp_path / "link" / place))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("words", [
    ["--mode", "grid", "-o", "{file}/x.jpg"], ["--mode", "evaluate", "--judge", "{file}/judge.pth"],
    ["--mode", "test", "--swap_list", "0", "1", "-i", "{image}", "-t", "{image}", "-o", "{file}/x.jpg"],
    ["--mode", "generate", "-o", "{file}/x"], ["--mode", "grid", "-o", "{image}"]])
def test_outputs_that_cannot_be_written_are_found_before_any_work(faces, own, tmp_path, monkeypatch, words):
    monkeypatch.setattr("models.swap_gan.SwapGAN.edits", None)
    (tmp_path / "file").write_text("mine")
    places = {"file": tmp_path / "file", "image": faces / "data" / "test_0001.jpg"}
    before = snapshot(faces)
    words = [word.format(**places) for word in words]
    refused(lambda: train.main([*words, "--checkpoint_dir", str(own), "--gpu", "-1"]))
    assert (tmp_path / "file").read_text() == "mine" and snapshot(faces) == before


@pytest.mark.parametrize("flags", [[], ["--overwrite"]])
def test_aligned_faces_do_not_go_among_foreign_files(faces, tmp_path, flags):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    shutil.copy(next((faces / "data").iterdir()), photos / "a.jpg")
    (tmp_path / "points.txt").write_text("a.jpg 20 25 40 25 30 35 22 45 38 45\n")
    foreign = fill(out, "a.jpg", "notes.txt")
    assert "holds something else" in refused(lambda: align.main([str(photos), str(out), "--landmarks", str(
        tmp_path / "points.txt"), "--workers", "1", *flags]))
    assert kept(out, foreign) and set(snapshot(out)) == set(foreign)


def test_aligning_keeps_the_subjects_of_names_with_spaces(faces, tmp_path):
    root = tmp_path / "src"
    (root / "data").mkdir(parents=True)
    Image.open(faces / "data" / "test_0001.jpg").resize((200, 200)).save(root / "data" / "img 1.jpg")
    for name in ("images.list", "images_test.list"):
        (root / name).write_text("img 1.jpg 0\n")
    (root / "subjects.list").write_text("img 1.jpg p1\n")
    (tmp_path / "points").write_text("img 1.jpg 60 80 140 80 100 110 70 150 130 150\n")
    options = Options(32, 0.0, False, 0.6, None, str(tmp_path / "points"))
    align_directory(root, tmp_path / "out", options)
    assert (tmp_path / "out" / "subjects.list").read_text() == "img 1.jpg p1\n"


# -------------------------------------------------------------------- A5, A6, A9: two runs, restoring, changed data

def test_two_runs_never_share_a_directory(faces, own):
    program = LOCK_HOLDER.format(repository=str(REPOSITORY), folder=str(own))
    with subprocess.Popen([PYTHON, "-c", program], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "locked\n"
            before = snapshot(own)
            for flags in ([], ["--overwrite"], ["--restore"], ["--auto_restore"]):
                assert "another run is writing here" in refused(lambda: run(faces, own, *flags))
            assert snapshot(own) == before
        finally:
            other.send_signal(signal.SIGKILL)
    RunDirectory(own).lock()  # the system has released it


def test_restore_n_saves_the_new_position_first(faces, own, monkeypatch):
    for name in ("Enc", "Dec", "D1", "D2"):
        shutil.copy(own / "model" / f"{name}_iter_temp.pth", own / "model" / f"{name}_iter_001.pth")
    states = StateStore(own / "state")
    assert states.load()["stage"] == 3

    def killed(*arguments):
        raise UserError("killed")

    monkeypatch.setattr(Run, "progress", killed)
    line = refused(lambda: train.main(["--restore", "1", "--checkpoint_dir", str(own), "--gpu", "-1"]))
    assert line.endswith("killed") and states.load()["stage"] == 1  # behind the GAN's epoch, without a stage 0


def test_other_contents_behind_the_same_names_are_noticed(faces, own, tmp_path):
    root = Path(shutil.copytree(faces, tmp_path / "faces"))
    words = ["--restore", "--checkpoint_dir", str(own), "--data_dir", str(root), "--gpu", "-1"]
    assert ended(lambda: train.main(words))[0] == 0  # a plain copy is no change
    shutil.copy(root / "data" / "train_0002.jpg", root / "data" / "train_0001.jpg")
    assert "other contents" in refused(lambda: train.main(words))
    assert ended(lambda: train.main([*words, "--force"]))[0] == 0


@cases(100)
@given(st.integers(0, 3 * 2 ** 20), st.booleans())
def test_every_byte_that_counts_changes_the_fingerprint(tmp_path, size, early):
    sample = Sample("x", 0, tmp_path / "x")
    sample.path.write_bytes(b"a" * size)
    before = content_of([sample])
    sample.path.write_bytes(b"a" * (size + 1))
    assert content_of([sample]) != before
    changed = bytearray(b"a" * max(1, size))
    changed[0 if early else -1] = 0
    sample.path.write_bytes(changed)
    assert content_of([sample]) != before


def test_the_demo_swaps_with_the_newest_networks(faces, finished, tmp_path, monkeypatch):
    """Not with those of epoch N, behind which ``--restore N`` went on."""
    monkeypatch.chdir(tmp_path)
    config = read_config(["--checkpoint_dir", str(finished), "--data_dir", str(faces), "--gpu", "-1", "--restore"])
    config, seen = config.replaced(restore=10, preset="demo"), []
    monkeypatch.setattr(training.run, "swap", lambda given: seen.append(given.run.restore))
    monkeypatch.setitem(PRESETS["demo"], "checkpoint_dir", f"{finished}/")
    monkeypatch.setitem(PRESETS["demo"], "data_dir", str(faces))
    ended(lambda: training.run.report(config, read_layout(faces), gan_of(finished)))
    assert seen == [-1] and (tmp_path / "grid.jpg").is_file()


def test_another_run_of_the_demos_recipe_shows_its_pictures_in_its_own_directory(faces, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = shutil.copytree(finished, tmp_path / "run")
    config = read_config(["--preset", "demo", "--checkpoint_dir", str(own), "--data_dir", str(faces), "--gpu", "-1",
                          "--image_size", "32"])
    ended(lambda: training.run.report(config, read_layout(faces), gan_of(own)))
    assert [path.name for path in tmp_path.iterdir()] == ["run"] and (own / "test_result" / "grid.jpg").is_file()


def gan_of(folder: Path) -> SwapGAN:
    """The GAN of a run."""
    return load_swap_gan(folder / "model", None, [], 32, torch.device("cpu"))
