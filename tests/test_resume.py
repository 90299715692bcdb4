"""Exact resume: a training killed at any moment and resumed leaves what an undisturbed one leaves, to the bit."""

from __future__ import annotations

import random
import resource
import shutil
import signal
from pathlib import Path

import pytest
import torch

import train
from conftest import (AT_A_STEP, BEFORE_SYNC, EXPRESSIONS, TINY, WHILE_WRITING, first_layer, forked, refused, succeeds,
                      train_command, train_until, trained)
from options.command_line import read_config
from training.batches import further_batches
from training.phases import all_stages
from training.state import StateStore
from training.trainer import Stage

LIKE_FINISHED = ["-a", *EXPRESSIONS, "--epochs", 2, "--gan_raw", 3, "--log_every", 1]


def words(faces: Path, folder: Path, *more: object) -> list[object]:
    return ["--data_dir", faces, "--checkpoint_dir", folder, *TINY, *LIKE_FINISHED, *more]


def resume(folder: Path, *more: object):
    return train_command("--restore", "--checkpoint_dir", folder, "--gpu", -1, *more)


def contents(folder: Path) -> dict[str, object]:
    """Return everything that a run leaves, in a form that compares to the bit."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix in (".pth", ".t7") and "state" not in path.parts:
            found[name] = flattened(torch.load(path, weights_only=True))
        elif path.name in ("metrics.csv", "images_val.list", "images_gan_nature.list"):
            found[name] = path.read_text()
        elif path.parent.name == "img":
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
    assert left.keys() == right.keys() and len(left) > 10
    assert [name for name in left if left[name] != right[name]] == []


def test_the_same_command_twice_gives_the_same_files_and_another_seed_others(faces, finished, tmp_path):
    assert train_command(*words(faces, tmp_path / "run")).returncode == 0
    assert_same(tmp_path / "run", finished)
    trained(faces, tmp_path / "other", "--seed", 1)
    ours, theirs = (first_layer(folder / "VGG_loss" / "6_max_ckpt.t7") for folder in (tmp_path / "other", finished))
    assert ours != theirs


def test_killed_at_random_moments_a_restored_run_ends_the_same(faces, finished, tmp_path):
    """SIGKILL at steps (every step saved), in the middle of renames and before syncs, again and again."""
    draw, folder, kills, flags = random.Random(0), tmp_path / "run", 0, []
    for target, low, high in [(AT_A_STEP, 2, 4), (WHILE_WRITING, 3, 9), (AT_A_STEP, 2, 5), (BEFORE_SYNC, 2, 6),
                              (WHILE_WRITING, 2, 30), (AT_A_STEP, 3, 8), (BEFORE_SYNC, 5, 40)]:
        result = train_until(words(faces, folder, "--save_minutes", 0, *flags), target, draw.randint(low, high))
        kills += result.returncode == -signal.SIGKILL
        assert result.returncode in (-signal.SIGKILL, 0), result.stderr
        flags = ["--auto_restore"]
    assert kills >= 5
    assert train_command(*words(faces, folder, "--auto_restore")).returncode == 0
    assert_same(folder, finished)


def test_killed_without_a_saved_state_within_an_epoch_it_needs_no_options_to_go_on(faces, finished, tmp_path):
    """States at the ends of the epochs alone: what a kill throws away is done again, the same."""
    folder = tmp_path / "run"
    assert train_until(words(faces, folder), AT_A_STEP, 7).returncode == -signal.SIGKILL
    assert resume(folder).returncode == 0
    assert_same(folder, finished)
    ours, theirs = ((place / "VGG" / "max_ckpt.t7").read_bytes() for place in (folder, finished))
    assert ours == theirs  # the file itself, not only what is in it


@pytest.mark.parametrize("signum, limit, position", [
    (signal.SIGINT, 6, (1, 2)),  # after 3 perceptual steps, the end of that stage and 2 GAN steps
    (signal.SIGTERM, 16, (2, 6))])  # among batches that were synthesized at once: one real batch and 3 after it
def test_signals_save_within_the_step(faces, finished, tmp_path, signum, limit, position):
    folder = tmp_path / "run"
    result = train_until(words(faces, folder), AT_A_STEP, limit, signum)
    assert result.returncode == 128 + signum
    assert "--restore" in result.stderr and len(result.stderr.strip().splitlines()) == 1
    state = StateStore(folder / "state").load()
    assert (state["stage"], state["step"]) == position
    assert resume(folder).returncode == 0
    assert_same(folder, finished)


def test_a_damaged_newest_state_falls_back_to_the_one_before(faces, finished, tmp_path):
    folder = tmp_path / "run"
    assert train_until(words(faces, folder, "--save_minutes", 0), AT_A_STEP, 9).returncode == -signal.SIGKILL
    newest = StateStore(folder / "state").newest()
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.write_bytes(damaged)
    result = resume(folder)
    assert result.returncode == 0 and f"{newest} is damaged" in result.stderr
    assert_same(folder, finished)


def test_saving_a_state_removes_those_of_the_run_alone_and_keeps_two_sound_ones(tmp_path):
    mine = ("state_best.pth", "state_000001 copy.pth", ".state_of_mine.part", "state_000007.pth.bak")
    for name in (*mine, ".state_000009.pth.ab12_xyz.part"):  # the last one of a killed run
        (tmp_path / name).write_text("here before")
    store = StateStore(tmp_path)
    assert not store.exists() and store.newest() is None
    for step in range(4):
        store.save({"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*mine, "manifest.json", "state_000003.pth", "state_000004.pth"])
    for _ in range(2):  # a damaged one is not among the two
        store.newest().write_bytes(b"damaged")
        assert store.load() == {"step": 2}
        store.save({"step": 4})


def test_a_finished_run_goes_on_only_with_more_epochs(faces, finished, tmp_path):
    folder = tmp_path / "run"
    assert train_command(*words(faces, folder, "--epochs", 1)).returncode == 0
    assert "gan epoch" not in succeeds(resume(folder))
    output = succeeds(resume(folder, "--epochs", 2))
    assert "gan epoch 2" in output and "gan epoch 1" not in output
    ours, theirs = (torch.load(f / "model" / "Enc_iter_temp.pth", weights_only=True) for f in (folder, finished))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_changed_lists_are_noticed(faces, finished, broken, tmp_path):
    """Those of the training images, and those of the test images if they choose."""
    argv = words(broken, tmp_path / "run", "--select_on", "test")
    assert train_until(argv, AT_A_STEP, 7).returncode == -signal.SIGKILL
    path = broken / "images_test.list"
    path.write_text("".join(f"{line.split()[0]} 2\n" for line in path.read_text().splitlines()))
    assert "have changed since the run was started" in refused(train_command(*argv, "--restore"))
    lines = (broken / "images.list").read_text().splitlines(keepends=True)
    (broken / "images.list").write_text("".join(lines[1:]))
    assert "have changed since the run was started" in refused(resume(finished, "--data_dir", broken))


def test_a_given_perceptual_network_is_never_written(faces, finished, tmp_path):
    mine, folder = tmp_path / "mine.t7", tmp_path / "run"
    shutil.copy(finished / "VGG_loss" / "6_max_ckpt.t7", mine)
    before = mine.read_bytes()
    assert train_until(words(faces, folder, "--save_minutes", 0), AT_A_STEP, 3).returncode == -signal.SIGKILL
    line = refused(train_command(*words(faces, folder, "--restore", "--force", "--perceptual", mine)))
    assert "--perceptual" in line and "leave it out" in line and mine.read_bytes() == before


def test_another_perceptual_network_is_noticed(faces, finished, tmp_path):
    mine, folder = tmp_path / "mine.t7", tmp_path / "run"
    shutil.copy(finished / "VGG_loss" / "6_max_ckpt.t7", mine)
    argv = words(faces, folder, "--perceptual", mine, "--save_minutes", 0)
    assert train_until(argv, AT_A_STEP, 5).returncode == -signal.SIGKILL
    checkpoint = torch.load(mine, weights_only=True)
    torch.save({**checkpoint, "acc": 1.0}, mine)  # the same weights with another accuracy beside them
    shutil.copytree(folder, tmp_path / "copy")
    assert resume(tmp_path / "copy", "--perceptual", mine).returncode == 0
    checkpoint["net"]["features.0.weight"] += 1
    torch.save(checkpoint, mine)
    line = refused(train_command(*argv, "--restore"))
    assert "mine.t7: is another perceptual network" in line and "--force" in line
    assert train_command(*argv, "--restore", "--force").returncode == 0


def test_a_state_of_another_version_is_one_line(own):
    store = StateStore(own / "state")
    store.save({**store.load(), "format": 0})
    assert "was written by a version of this program" in refused(resume(own))


def test_a_loss_that_is_no_number_stops_the_run(faces, tmp_path):
    line = refused(train_command(*words(faces, tmp_path / "run", "--vgg_lr", 1000, "--round_epochs", 12)))
    assert "recognizer epoch" in line and "state_" in line and "--vgg_lr ..." in line
    state = StateStore(tmp_path / "run" / "state").load()
    assert all(torch.isfinite(value).all() for value in state["phases"]["recognizer"]["recognizer"]["network"].values())


def test_a_full_disk_is_one_line_and_the_last_state_stays(faces, tmp_path):
    folder = tmp_path / "run"
    assert train_until(words(faces, folder, "--save_minutes", 0), AT_A_STEP, 5).returncode == -signal.SIGKILL
    before, stage = StateStore(folder / "state").newest(), StateStore(folder / "state").load()["stage"]
    limit = before.stat().st_size // 2

    def resumed() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        train.main(["--restore", "--checkpoint_dir", str(folder), "--save_minutes", "0", "--gpu", "-1"])

    line = refused(forked(resumed))
    assert "free some space" in line
    assert StateStore(folder / "state").newest() == before and not list(folder.rglob("*.part"))
    assert StateStore(folder / "state").load()["stage"] == stage


# ---------------------------------------------------------------------------------------------- the schedule

def test_schedule_is_that_of_the_method():
    stages = all_stages(2, 50, 5, 4)
    assert stages[:2] == [Stage("perceptual", 0), Stage("perceptual", 1)]
    assert [s.epoch for s in stages if s.phase == "gan"] == list(range(50))
    assert [s.epoch for s in stages if s.phase == "recognizer"] == list(range(40))
    first_round = stages.index(Stage("recognizer", 0))
    assert stages[first_round - 1] == Stage("gan", 4) and stages[first_round + 4] == Stage("gan", 5)


@pytest.mark.parametrize("flags, expected", [
    (["--multi_add_gan"], {0: (1, False), 9: (1, False), 10: (2, True), 19: (2, True), 20: (3, True), 29: (3, True),
                           30: (6, True), 39: (6, True)}),
    ([], {0: (6, True)}), (["--multi_add_gan", "--gan_raw", "0"], {35: (6, False)}),
    (["--gan_raw", "3"], {0: (3, True)})])
def test_further_batches_are_those_of_the_method(flags, expected):
    options = read_config(flags).recognizer
    assert {epoch: further_batches(epoch, options) for epoch in expected} == expected
