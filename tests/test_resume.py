"""Exact resume: a training that is killed at any moment and resumed writes the same files as an undisturbed one."""

import os
import random
import resource
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import train
from conftest import (AT_A_STEP, BEFORE_SYNC, EXPRESSIONS, WHILE_WRITING, first_layer, forked,
                      refused, restored, succeeds, tiny, train_command, train_until, trained)
from datasets.augmentations import AUGMENTATIONS
from options.command_line import resolve
from training.phases import RecognizerPhase, all_stages, further_batches
from training.run_directory import StateStore
from training.trainer import Stage


def arguments(faces: Path, folder: Path, *flags: object) -> list[object]:
    like_finished = ["-a", *EXPRESSIONS, "--epochs", 2, "--gan_raw", 3]
    return tiny(faces, folder, *like_finished, *flags)


def kill_at_step(limit: int, argv: list[object]) -> None:
    assert train_until(argv, AT_A_STEP, limit).returncode == -signal.SIGKILL


def contents(folder: Path) -> dict[str, object]:
    """Return everything that a run writes, in a form that compares to the bit."""
    content: dict[str, object] = {"state": comparable(StateStore(folder / "state").load())}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix in (".pth", ".t7") and "state" not in path.parts:
            content[name] = comparable(torch.load(path, weights_only=True))
        elif path.name in ("metrics.csv", "images_val.list", "images_gan_nature.list") or path.parent.name == "img":
            content[name] = path.read_bytes()
    return content


def comparable(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items() if key != "data_dir"}
    if isinstance(value, (list, tuple)):
        return [comparable(item) for item in value]
    return value


def assert_same(run: Path, expected_run: Path) -> None:
    content, expected = contents(run), contents(expected_run)
    assert content.keys() == expected.keys() and len(content) > 10
    assert [name for name in content if content[name] != expected[name]] == []


def test_the_same_command_gives_the_same_files_and_another_seed_others(faces, finished, tmp_path):
    succeeds(train_command(*arguments(faces, tmp_path / "run")))
    assert_same(tmp_path / "run", finished)
    trained(faces, tmp_path / "other", "--seed", 1)
    assert first_layer(tmp_path / "other/VGG_loss/6_max_ckpt.t7") != first_layer(finished / "VGG_loss/6_max_ckpt.t7")


def test_a_run_that_is_killed_at_random_moments_and_restored_ends_the_same(
        faces, finished, tmp_path, every_step_is_saved):
    """SIGKILL at steps (every step is saved), during renames and before syncs, repeatedly."""
    draw, folder, kills, flags = random.Random(0), tmp_path / "run", 0, []
    for target, low, high in [(AT_A_STEP, 2, 4), (WHILE_WRITING, 3, 9), (AT_A_STEP, 2, 5), (BEFORE_SYNC, 2, 6),
                              (WHILE_WRITING, 2, 30), (AT_A_STEP, 3, 8), (BEFORE_SYNC, 5, 40)]:
        result = train_until(arguments(faces, folder, *flags), target, draw.randint(low, high))
        kills += result.returncode == -signal.SIGKILL
        assert result.returncode in (-signal.SIGKILL, 0), result.stderr
        flags = ["--auto_restore"]
    assert kills >= 5
    succeeds(train_command(*arguments(faces, folder, "--auto_restore")))
    assert_same(folder, finished)


@pytest.mark.parametrize("signum, limit, position", [
    (signal.SIGKILL, 7, (1, 0)),
    (signal.SIGINT, 6, (1, 2)),  # after 3 perceptual steps, the end of that stage and 2 GAN steps
    (signal.SIGTERM, 16, (2, 6)),  # within a group of batches that are synthesized at once
    (signal.SIGUSR1, 2, (0, 2)), (signal.SIGUSR2, 10, (2, 0)), (signal.SIGHUP, 13, (2, 3))])
def test_signals_save_within_the_step_and_a_kill_loses_that_of_an_epoch(
        faces, finished, tmp_path, signum, limit, position):
    folder = tmp_path / "run"
    result = train_until(arguments(faces, folder), AT_A_STEP, limit, signum)
    assert result.returncode == (-signum if signum == signal.SIGKILL else 128 + signum)
    if signum != signal.SIGKILL:
        confirmed, line = result.stderr.strip().splitlines()
        assert confirmed == "train.py: stopping after this step" and "--restore" in line
    state = StateStore(folder / "state").load()
    assert (state["stage"], state["step"]) == position
    succeeds(restored(folder))
    assert_same(folder, finished)


def test_a_training_needs_no_reader_of_its_output_and_no_signals(faces, finished, tmp_path):
    """Like ``| tee log`` after Ctrl-C, and like a thread."""
    def without_reader() -> None:
        read, write = os.pipe()
        os.close(read)
        with open(write, "w") as sys.stdout:
            train.main(list(map(str, arguments(faces, tmp_path / "run"))))

    assert forked(without_reader).returncode == 0
    assert_same(tmp_path / "run", finished)
    with ThreadPoolExecutor(1) as pool:
        argv = arguments(faces, tmp_path / "thread", "--epochs", 1)
        succeeds(pool.submit(train_command, *argv).result())


def test_select_on_test_evaluates_at_the_published_batches_also_of_a_resumed_epoch(
        faces, tmp_path, monkeypatch, every_step_is_saved):
    """After the batches 1, 201, 401 of every epoch; here 1, 5, 9 of 12."""
    monkeypatch.setattr("training.phases.BATCHES_PER_EVALUATION", 4)
    evaluated, evaluate = [], RecognizerPhase._keep_if_better
    monkeypatch.setattr(RecognizerPhase, "_keep_if_better",
                        lambda self: evaluated.append(self.recognizer.steps) or evaluate(self))
    flags, strengths, row = ("--select_on", "test", "--augment", "mirror", "shift:0.3"), [], AUGMENTATIONS["shift"]
    argv = arguments(faces, tmp_path / "run", *flags)
    kill_at_step(22, argv)  # the perceptual network, the GAN, and 10 batches the first recognizer epoch are saved
    succeeds(train_command(*argv, "--restore"))
    assert evaluated == [13, 17, 21]
    evaluated.clear()
    monkeypatch.setitem(AUGMENTATIONS, "shift", replace(
        row, function=lambda *given: strengths.append(given[2]) or row.function(*given)))
    succeeds(train_command(*arguments(faces, tmp_path / "other", *flags)))
    assert strengths == [0.3] * 2 * 36  # every real image of both epochs
    assert evaluated == [1, 5, 9, 13, 17, 21]
    assert_same(tmp_path / "run", tmp_path / "other")


def test_the_state_before_a_damaged_one_is_restored(faces, finished, tmp_path, every_step_is_saved):
    folder = tmp_path / "run"
    kill_at_step(9, arguments(faces, folder))
    newest = StateStore(folder / "state").newest()
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    result = restored(folder)
    assert result.returncode == 0 and f"{newest} is damaged" in result.stderr
    assert_same(folder, finished)


def test_saving_a_state_keeps_two_undamaged_ones_and_all_foreign_files(tmp_path):
    foreign = ("state_best.pth", "state_000001 copy.pth", ".state_of_mine.part", "state_000007.pth.bak")
    for name in (*foreign, ".state_000009.pth.ab12_xyz.part"):  # the last one is that of a killed run
        (tmp_path / name).write_text("here before")
    store = StateStore(tmp_path)
    assert not store.exists() and store.newest() is None
    for step in range(4):
        store.save({"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*foreign, "manifest.json", "state_000003.pth", "state_000004.pth"])
    for _ in range(2):  # a damaged one is not among the two
        store.newest().write_bytes(b"damaged")
        assert store.load() == {"step": 2}
        store.save({"step": 4})


def test_rounds_that_would_skip_epochs_and_states_of_another_version_are_refused(
        faces, finished_copy, tmp_path):
    argv = ["--force", "--round_every", 2]
    new = tiny(faces, tmp_path / "run", "--epochs", 2)
    assert "resume with" in train_until(new, AT_A_STEP, 7, signal.SIGTERM).stderr
    assert "recognizer epoch 1 of 1" in succeeds(restored(tmp_path / "run", *argv))
    refused(restored(finished_copy, *argv, "--epochs", 4), "would skip or repeat epochs")
    store = StateStore(finished_copy / "state")
    store.save({**store.load(), "format": 0})
    refused(restored(finished_copy), "was written by a version of this program")


def test_changed_lists_are_refused(faces, finished, broken, tmp_path):
    """Those of the training images, and those of the test images if they choose."""
    argv = arguments(broken, tmp_path / "run", "--select_on", "test")
    kill_at_step(7, argv)
    path = broken / "images_test.list"
    path.write_text("".join(f"{line.split()[0]} 2\n" for line in path.read_text().splitlines()))
    refused(train_command(*argv, "--restore"), "have changed since the run was started")
    lines = (broken / "images.list").read_text().splitlines(keepends=True)
    (broken / "images.list").write_text("".join(lines[1:]))
    refused(restored(finished, "--data_dir", broken), "have changed since the run was started")


def test_a_named_perceptual_network_is_never_written_and_another_one_is_refused(
        faces, finished, tmp_path, every_step_is_saved):
    network, folder = Path(shutil.copy(finished / "VGG_loss/6_max_ckpt.t7", tmp_path / "mine.t7")), tmp_path / "run"
    checkpoint, before = torch.load(network, weights_only=True), network.read_bytes()
    argv = arguments(faces, folder, "--perceptual", network)
    kill_at_step(5, argv)
    assert network.read_bytes() == before
    torch.save({**checkpoint, "acc": 1.0}, network)  # the same weights with another accuracy
    shutil.copytree(folder, tmp_path / "copy")
    succeeds(restored(tmp_path / "copy", "--perceptual", network))
    checkpoint["net"]["features.0.weight"] += 1
    torch.save(checkpoint, network)
    refused(train_command(*argv, "--restore"), "mine.t7: is another perceptual network", "--force")
    succeeds(train_command(*argv, "--restore", "--force"))


@pytest.mark.parametrize("flags, messages", [
    (["--vgg_lr", 1000, "--round_epochs", 12], ["recognizer epoch", "state_", "--vgg_lr ..."]),
    (["--lr", 1000], ["the loss has exploded: G is", "state_000002.pth", "--lr ..."])])
def test_a_loss_that_is_nan_or_explodes_stops_the_run(faces, tmp_path, flags, messages):
    refused(train_command(*arguments(faces, tmp_path / "run", *flags)), *messages)
    state = StateStore(tmp_path / "run" / "state").load()["phases"]["recognizer"]
    assert all(torch.isfinite(value).all() for value in state["recognizer"]["network"].values())


def test_a_full_disk_is_reported_and_the_last_state_stays(faces, tmp_path, every_step_is_saved):
    folder, store = tmp_path / "run", StateStore(tmp_path / "run" / "state")
    kill_at_step(5, arguments(faces, folder))
    newest, stage = store.newest(), store.load()["stage"]
    limit = newest.stat().st_size // 2

    def resume_with_limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        train.main(["--restore", "--checkpoint_dir", str(folder), "--gpu", "-1"])

    refused(forked(resume_with_limit), "free some space")
    assert store.newest() == newest and store.load()["stage"] == stage and not list(folder.rglob("*.part"))


def test_the_schedule_is_that_of_the_method():
    stages = all_stages(2, 50, 5, 4)
    assert stages[:2] == [Stage("perceptual", 0), Stage("perceptual", 1)]
    assert [s.epoch for s in stages if s.phase == "gan"] == list(range(50))
    assert [s.epoch for s in stages if s.phase == "recognizer"] == list(range(40))
    first_round = stages.index(Stage("recognizer", 0))
    assert stages[first_round - 1] == Stage("gan", 4) and stages[first_round + 4] == Stage("gan", 5)
    for flags, expected in (
            ("--multi_add_gan", {9: (1, False), 10: (2, True), 20: (3, True), 39: (6, True)}),
            ("--multi_add_gan --gan_raw 0", {35: (6, False)}), ("--gan_raw 3", {0: (3, True)}),
            ("", {0: (6, True)})):
        options = resolve(flags.split()).recognizer
        assert {epoch: further_batches(epoch, options) for epoch in expected} == expected
