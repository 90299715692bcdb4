"""A run that is killed and restored ends bit for bit like the run that was not; states are kept whole."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conftest import REPOSITORY, command, refused
from datasets.synthetic import make_dataset
from options.command_line import read_config
from training.phases import further_batches, schedule
from training.state import StateStore
from training.trainer import Stage

TINY = ["--image_size", "32", "--base_width", "4", "--vgg_width", "4", "--fc_width", "16", "--batch_size", "6",
        "--vgg_batch_size", "12", "--round_every", "1", "--round_epochs", "1", "--perceptual_epochs", "1",
        "--epochs", "2", "--alpha5", "--gpu", "-1", "--log_every", "1"]


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "faces"
    make_dataset(root, image_size=32, subjects_train=6, subjects_test=2, scenes=1)
    return root


def words(faces: Path, folder: Path, *more: str) -> list[str]:
    return ["train.py", "--data_dir", str(faces), "--checkpoint_dir", str(folder), *TINY, *more]


@pytest.fixture(scope="module")
def undisturbed(faces, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    result = command(*words(faces, folder))
    assert result.returncode == 0, result.stderr
    return folder


def contents(folder: Path) -> dict[str, object]:
    """Everything a run leaves, in a form that compares to the bit."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix in (".pth", ".t7") and "state" not in path.parts:
            found[name] = flattened(torch.load(path, weights_only=True))
        elif path.name in ("metrics.csv", "confusion_matrix.json", "images_val.list", "images_gan_nature.list"):
            found[name] = path.read_text()
        elif path.suffix in (".jpg", ".png"):
            found[name] = path.read_bytes()
    found["state"] = flattened(StateStore(folder / "state").load())
    return found


def flattened(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: flattened(item) for key, item in value.items() if key != "data_dir"}
    if isinstance(value, (list, tuple)):
        return [flattened(item) for item in value]
    return value


def assert_same(ours: Path, theirs: Path) -> None:
    left, right = contents(ours), contents(theirs)
    for found in (left, right):  # the report names its own directory in the title
        found.pop("test_result/confusion_matrix.json")
        found.pop("test_result/Con_Matrix.png")
    assert left.keys() == right.keys()
    assert [name for name in left if left[name] != right[name]] == []


def test_the_same_command_twice_gives_the_same_files(faces, undisturbed, tmp_path):
    assert command(*words(faces, tmp_path / "run")).returncode == 0
    assert_same(tmp_path / "run", undisturbed)


def test_another_seed_gives_other_networks(faces, undisturbed, tmp_path):
    assert command(*words(faces, tmp_path / "run", "--seed", "1", "--epochs", "1")).returncode == 0
    ours, theirs = (torch.load(folder / "VGG_loss" / "6_max_ckpt.t7", weights_only=True)["net"]["new_fc.weight"]
                    for folder in (tmp_path / "run", undisturbed))
    assert not torch.equal(ours, theirs)


KILLER = """
import os, signal, sys
sys.path.insert(0, {repository!r})
import train, utils
from training.trainer import Run
count, limit = 0, {limit}
def counted(function):
    def call(*arguments, **settings):
        global count
        count += 1
        if count == limit:
            os.kill(os.getpid(), {signum})
        return function(*arguments, **settings)
    return call
{patch}
sys.argv = {argv!r}
utils.run_command(train.main)
"""
AT_A_STEP = "Run._save_if_due = counted(Run._save_if_due)"
WHILE_WRITING = "os.replace = counted(os.replace)"
BEFORE_SYNC = "os.fsync = counted(os.fsync)"


def run_until(argv: list[str], patch: str, limit: int, signum: int = signal.SIGKILL) -> subprocess.CompletedProcess:
    """Run train.py in a process that gets a signal at the ``limit``-th call of a patched function."""
    program = KILLER.format(repository=str(REPOSITORY), limit=limit, signum=int(signum), patch=patch, argv=argv)
    return subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)


def test_killed_at_random_moments_a_restored_run_ends_the_same(faces, undisturbed, tmp_path):
    """SIGKILL at steps (every step saved), in the middle of renames and before syncs, again and again."""
    draw, folder, kills, restore = random.Random(0), tmp_path / "run", 0, []
    for patch, low, high in [(AT_A_STEP, 2, 4), (WHILE_WRITING, 3, 9), (AT_A_STEP, 2, 5), (BEFORE_SYNC, 2, 6),
                             (WHILE_WRITING, 2, 30), (AT_A_STEP, 3, 8), (BEFORE_SYNC, 5, 40)]:
        argv = words(faces, folder, "--save_minutes", "0", *restore)
        result = run_until(argv, patch, draw.randint(low, high))
        kills += result.returncode == -signal.SIGKILL
        assert result.returncode in (-signal.SIGKILL, 0), result.stderr
        restore = ["--auto_restore"]
    assert kills >= 5
    assert command(*words(faces, folder, "--auto_restore")).returncode == 0
    assert_same(folder, undisturbed)


def test_killed_without_a_saved_state_within_an_epoch(faces, undisturbed, tmp_path):
    """States at the ends of the epochs alone: what a kill throws away is done again, the same."""
    folder = tmp_path / "run"
    assert run_until(words(faces, folder), AT_A_STEP, 7).returncode == -signal.SIGKILL
    assert StateStore(folder / "state").exists()
    assert command(*words(faces, folder, "--restore")).returncode == 0
    assert_same(folder, undisturbed)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signals_save_within_the_step(faces, undisturbed, tmp_path, signum):
    folder = tmp_path / "run"
    result = run_until(words(faces, folder), AT_A_STEP, 6, signum)
    assert result.returncode == 128 + signum
    assert "--restore" in result.stderr and len(result.stderr.strip().splitlines()) == 1
    state = StateStore(folder / "state").load()
    assert (state["stage"], state["step"]) == (1, 2)  # after 3 perceptual steps, the end of that stage and 2 GAN steps
    assert command(*words(faces, folder, "--restore")).returncode == 0
    assert_same(folder, undisturbed)


def test_stopped_among_batches_that_were_synthesized_at_once(faces, undisturbed, tmp_path):
    folder = tmp_path / "run"
    assert run_until(words(faces, folder), AT_A_STEP, 14, signal.SIGTERM).returncode == 128 + signal.SIGTERM
    state = StateStore(folder / "state").load()
    assert (state["stage"], state["step"]) == (2, 4)  # one real batch and three of the six that follow it
    assert command(*words(faces, folder, "--restore")).returncode == 0
    assert_same(folder, undisturbed)


def test_a_damaged_newest_state_falls_back_to_the_one_before(faces, undisturbed, tmp_path):
    folder = tmp_path / "run"
    assert run_until(words(faces, folder, "--save_minutes", "0"), AT_A_STEP, 9).returncode == -signal.SIGKILL
    newest = StateStore(folder / "state").newest()
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.write_bytes(damaged)
    result = command(*words(faces, folder, "--restore"))
    assert result.returncode == 0 and f"{newest} is damaged" in result.stderr
    assert_same(folder, undisturbed)


def test_saving_a_state_removes_those_of_the_run_alone(tmp_path):
    for name in ("state_best.pth", "state_000001 copy.pth", ".state_of_mine.part", "state_000007.pth.bak"):
        (tmp_path / name).write_text("the user's")
    killed = tmp_path / ".state_000009.pth.ab12_xyz.part"
    killed.write_text("of a killed run")
    store = StateStore(tmp_path)
    for step in range(4):
        store.save({"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".state_of_mine.part", "manifest.json", "state_000001 copy.pth", "state_000003.pth", "state_000004.pth",
        "state_000007.pth.bak", "state_best.pth"]


def test_restoring_needs_no_options(faces, undisturbed, tmp_path):
    folder = tmp_path / "run"
    assert run_until(words(faces, folder), AT_A_STEP, 7).returncode == -signal.SIGKILL
    result = command("train.py", "--restore", "--checkpoint_dir", folder, "--gpu", -1)
    assert result.returncode == 0, result.stderr
    assert_same(folder, undisturbed)
    ours, theirs = ((place / "VGG" / "max_ckpt.t7").read_bytes() for place in (folder, undisturbed))
    assert ours == theirs  # the file itself, not only what is in it


def test_restoring_a_finished_run_goes_on_only_with_more_epochs(faces, undisturbed):
    result = command("train.py", "--restore", "--checkpoint_dir", undisturbed, "--gpu", -1)
    assert result.returncode == 0 and "gan epoch" not in result.stdout


def test_more_epochs_continue_a_finished_run(faces, tmp_path, undisturbed):
    folder = tmp_path / "run"
    assert command(*words(faces, folder, "--epochs", "1")).returncode == 0
    result = command("train.py", "--restore", "--checkpoint_dir", folder, "--epochs", 2, "--gpu", -1)
    assert result.returncode == 0 and "gan epoch 2" in result.stdout and "gan epoch 1" not in result.stdout
    ours, theirs = (torch.load(f / "model" / "Enc_iter_temp.pth", weights_only=True) for f in (folder, undisturbed))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_changed_data_are_noticed(faces, undisturbed, tmp_path):
    shutil.copytree(faces, tmp_path / "faces")
    lines = (tmp_path / "faces" / "images.list").read_text().splitlines(keepends=True)
    (tmp_path / "faces" / "images.list").write_text("".join(lines[1:]))
    line = refused(command("train.py", "--restore", "--checkpoint_dir", undisturbed, "--data_dir", tmp_path / "faces",
                           "--gpu", -1))
    assert "have changed since the run was started" in line


def test_changed_test_images_are_noticed_where_they_choose(faces, tmp_path):
    shutil.copytree(faces, tmp_path / "faces")
    argv = words(tmp_path / "faces", tmp_path / "run", "--select_on", "test")
    assert run_until(argv, AT_A_STEP, 7).returncode == -signal.SIGKILL
    path = tmp_path / "faces" / "images_test.list"
    path.write_text("".join(f"{line.split()[0]} 2\n" for line in path.read_text().splitlines()))
    assert "have changed since the run was started" in refused(command(*argv, "--restore"))


def test_a_given_perceptual_network_is_never_written(faces, undisturbed, tmp_path):
    mine, folder = tmp_path / "mine.t7", tmp_path / "run"
    shutil.copy(undisturbed / "VGG_loss" / "6_max_ckpt.t7", mine)
    before = mine.read_bytes()
    assert run_until(words(faces, folder, "--save_minutes", "0"), AT_A_STEP, 3).returncode == -signal.SIGKILL
    line = refused(command(*words(faces, folder, "--restore", "--force", "--perceptual", str(mine))))
    assert "--perceptual" in line and "leave it out" in line and mine.read_bytes() == before
    absent = tmp_path / "typo" / "none.t7"
    line = refused(command(*words(faces, tmp_path / "other", "--auto_restore", "--perceptual", str(absent))))
    assert "none.t7: no such file" in line and not absent.parent.exists() and not (tmp_path / "other").exists()


def test_another_perceptual_network_is_noticed(faces, undisturbed, tmp_path):
    mine, folder = tmp_path / "mine.t7", tmp_path / "run"
    shutil.copy(undisturbed / "VGG_loss" / "6_max_ckpt.t7", mine)
    argv = words(faces, folder, "--perceptual", str(mine), "--save_minutes", "0")
    assert run_until(argv, AT_A_STEP, 5).returncode == -signal.SIGKILL
    checkpoint = torch.load(mine, weights_only=True)
    torch.save({**checkpoint, "acc": 1.0}, mine)  # the same weights, told otherwise
    shutil.copytree(folder, tmp_path / "copy")
    assert command(*words(faces, tmp_path / "copy", "--perceptual", str(mine), "--restore")).returncode == 0
    checkpoint["net"]["features.0.weight"] += 1
    torch.save(checkpoint, mine)
    line = refused(command(*argv, "--restore"))
    assert "mine.t7: is another perceptual network" in line and "--force" in line
    assert command(*argv, "--restore", "--force").returncode == 0


def test_a_state_of_another_version_is_one_line(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "run")
    store = StateStore(tmp_path / "run" / "state")
    store.save({**store.load(), "format": 0})
    assert "another version" in refused(command("train.py", "--restore", "--checkpoint_dir", tmp_path / "run"))


def test_a_loss_that_is_no_number_stops_the_run(faces, tmp_path):
    result = command(*words(faces, tmp_path / "run", "--vgg_lr", "1000", "--round_epochs", "8"))
    line = refused(result)
    assert "recognizer epoch" in line and "state_" in line and "--vgg_lr ..." in line
    state = StateStore(tmp_path / "run" / "state").load()
    assert all(torch.isfinite(value).all() for value in state["phases"]["recognizer"]["recognizer"]["network"].values())


def test_a_full_disk_is_one_line_and_the_last_state_stays(faces, tmp_path):
    folder = tmp_path / "run"
    assert run_until(words(faces, folder, "--save_minutes", "0"), AT_A_STEP, 5).returncode == -signal.SIGKILL
    before, stage = StateStore(folder / "state").newest(), StateStore(folder / "state").load()["stage"]
    limit = before.stat().st_size // 2
    program = ("import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0})); "
               "sys.argv = {1!r}; sys.path.insert(0, '.'); runpy.run_path('train.py', run_name='__main__')")
    argv = words(faces, folder, "--restore", "--save_minutes", "0")
    result = subprocess.run([sys.executable, "-c", program.format(limit, argv)], cwd=REPOSITORY, capture_output=True,
                            text=True, timeout=300)
    assert "cannot be written" in refused(result) or "cannot write" in refused(result)
    assert StateStore(folder / "state").newest() == before
    assert not list(folder.rglob("*.part"))
    assert StateStore(folder / "state").load()["stage"] == stage


# ---------------------------------------------------------------------------------------------- the schedule

def test_schedule_is_that_of_the_method():
    stages = schedule(2, 50, 5, 4)
    assert stages[:2] == [Stage("perceptual", 0), Stage("perceptual", 1)]
    assert [s.epoch for s in stages if s.phase == "gan"] == list(range(50))
    assert [s.epoch for s in stages if s.phase == "recognizer"] == list(range(40))
    first_round = stages.index(Stage("recognizer", 0))
    assert stages[first_round - 1] == Stage("gan", 4) and stages[first_round + 4] == Stage("gan", 5)


def test_further_batches_are_those_of_the_method():
    options = read_config(["--multi_add_gan"])
    assert [further_batches(e, options) for e in (0, 9, 10, 19, 20, 29, 30, 39)] == \
        [(1, False)] * 2 + [(2, True)] * 2 + [(3, True)] * 2 + [(6, True)] * 2
    assert further_batches(0, read_config([])) == (6, True)
    assert further_batches(35, read_config(["--multi_add_gan", "--gan_raw", "0"])) == (6, False)
    assert further_batches(0, read_config(["--gan_raw", "3"])) == (3, True)
