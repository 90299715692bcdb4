"""Images that are decoded once, into memory or into a file of the run: reused, replaced, and trained on alike."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from conftest import WHILE_WRITING, as_started_by_torchrun, succeeds, tiny, train_command, train_until, trained
from datasets import loading
from datasets.layout import Sample
from datasets.loading import DiskCache, Images, chosen_cache, load
from datasets.plans import Plan
from test_loading import sample_images
from test_processes import one_store, torchrun
from test_resume import assert_same
from utils import SIDE_BY_SIDE, UserError


@pytest.fixture(scope="module")
def run_on_disk(faces, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("disk") / "run"
    trained(faces, folder, "--cache", "disk")
    assert len(cache_files(folder)) == 1
    return folder


def store_of(samples: list[Sample], folder: Path, image_size: int = 32) -> DiskCache:
    store = DiskCache(folder / "cache", samples, image_size)
    if not store.is_complete():
        store.write()
    return store


def cache_files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "cache").iterdir())


# ------------------------------------------------------------------------------------------------- the file

@pytest.mark.parametrize("workers", [0, 2])
def test_the_cache_file_gives_the_images_and_digests_of_the_image_files(tmp_path, workers):
    samples = sample_images(tmp_path)
    images = Images(samples, 32, "none", store_of(samples, tmp_path))
    part = images.subset(samples[3:5])
    assert torch.equal(part[[1, 0]], Images(samples, 32, "none")[[4, 3]])
    assert {Images(samples[3:5], 32, mode).content_digest() for mode in ("none", "ram")} == {part.content_digest()}
    assert images.subset(samples[3:4]).content_digest() == Images(samples[3:4], 32, "none").content_digest()
    batch, = load(part, Plan.of(np.array([1]), np.array([0])), workers)
    assert (batch.first[:, 0].unique().tolist(), batch.second[:, 0].unique().tolist()) == ([40], [30])


def test_the_cache_file_is_reused_until_something_changes(tmp_path, capsys):
    samples = sample_images(tmp_path)
    store = store_of(samples, tmp_path)
    before = store.path.stat().st_mtime_ns
    assert store_of(samples, tmp_path).path.stat().st_mtime_ns == before and capsys.readouterr().out == ""
    os.utime(samples[2].path, ns=(1, 1))
    touched = store_of(samples, tmp_path)
    assert cache_files(tmp_path) == [touched.path.name] != [store.path.name]
    assert capsys.readouterr().out.count("decoded anew") == 1
    for changed_samples, size in ((samples, 64), (samples[::-1], 32)):
        changed = store_of(changed_samples, tmp_path, size)
        assert cache_files(tmp_path) == [changed.path.name]
    changed.path.write_bytes(changed.path.read_bytes()[:-1])
    assert not changed.is_complete()


def test_no_room_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(loading.shutil, "disk_usage", lambda path: SimpleNamespace(free=5000))
    with pytest.raises(UserError, match="--cache disk needs .* free some space"):
        store_of(sample_images(tmp_path), tmp_path)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("environment, needed, expected", [
    ({}, (9, 11, 33, 34), ["ram", "disk", "disk", "none"]),
    ({"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}, (4, 33, 34), ["disk", "disk", "none"]),
    ({"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 1}, (4, 33, 34), ["ram", "disk", "none"]),  # two machines
    ({SIDE_BY_SIDE: 2}, (4, 6, 16, 17), ["ram", "disk", "disk", "none"])])  # as with --jobs 2
def test_auto_chooses_memory_then_disk_then_no_cache(tmp_path, monkeypatch, environment, needed, expected):
    monkeypatch.setattr(loading, "installed_memory", lambda: 30)  # a container's limit counts
    monkeypatch.setattr(loading, "free_disk", lambda folder: 100)
    as_started_by_torchrun(monkeypatch, **{"WORLD_SIZE": 1, **environment})
    assert [chosen_cache("auto", size, tmp_path) for size in needed] == expected


# ---------------------------------------------------------------------------------------------- whole runs

def test_a_run_without_a_cache_trains_to_the_same_bytes(faces, run_on_disk, tmp_path):
    trained(faces, tmp_path / "run", "--cache", "none")
    assert not (tmp_path / "run" / "cache").exists()
    assert_same(tmp_path / "run", run_on_disk)


def test_killed_while_it_decodes(faces, run_on_disk, tmp_path):
    folder = tmp_path / "run"
    argv = tiny(faces, folder, "--cache", "disk")
    killed = train_until(argv, WHILE_WRITING, 2)  # the first file marks the directory as a run's
    assert killed.returncode == -9 and [Path(name).suffix for name in cache_files(folder)] == [".part"]
    succeeds(train_command(*argv))
    assert cache_files(folder) == cache_files(run_on_disk)
    assert_same(folder, run_on_disk)


def test_folds_share_one_file(faces, tmp_path):
    folder = tmp_path / "folds"
    trained(faces, folder, "--cache", "disk", "--folds", 2)
    assert len(cache_files(folder)) == 1 and not (folder / "fold_01" / "cache").exists()


@one_store
def test_one_of_several_processes_decodes(faces, run_on_disk, tmp_path):
    run = tmp_path / "run"
    succeeds(torchrun(2, "train.py", *tiny(faces, run, "--cache", "disk")))
    assert cache_files(run) == cache_files(run_on_disk)
