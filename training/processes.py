"""What several processes of one run agree on: options, files, the place where it goes on, and that all is the same."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

import torch

import utils
from models.backbones import BACKBONES
from models.checkpoints import imagenet_weights
from models.parallel import Processes
from models.vgg import VGG
from options.config import Config
from training.run_directory import RunDirectory
from training.trainer import Run
from utils import UserError, fingerprint

OWN = ("gpu", "checkpoint_dir", "data_dir", "num_workers")  # options that may differ from machine to machine
SAME_COMMAND = "start all processes with the same options, on copies of the same data"


def agreed_config(config: Config, restoring: bool, processes: Processes) -> Config:
    """Return the main process's options, which a restored run's files on its machine tell, with the own places.

    Raises UserError if the options of a new run differ.
    """
    if processes.world == 1:
        return config
    values = config.values()
    if not restoring:
        shared = sorted((name, repr(value)) for name, value in values.items() if name not in OWN)
        processes.check_same({"options": fingerprint(shared)}, SAME_COMMAND)
    theirs = processes.first(lambda: values)
    own = {name: values[name] for name in OWN if values[name] is not None}
    return Config.from_values({**theirs, **own})


def share_file(path: Path, processes: Processes, folder: Path, trained: bool = False) -> None:
    """Copy a file of the run in ``folder`` from the main process's machine to the machines that lack it.

    Raises UserError if another file lies there, unless this run has just ``trained`` it, or if it is not in ``folder``.
    """
    if processes.world == 1:
        return
    known = processes.first(lambda: utils.sha256(path) if path.is_file() else None)

    def is_missing() -> bool:
        there = utils.sha256(path) if path.is_file() else None
        if there is None and known is not None and folder not in path.parents:
            raise UserError(f"{path}: no such file on this machine; copy it from that of process 0")
        if there not in (None, known) and not trained:
            raise UserError(f"{path}: is not what process 0 has under this name; delete it here, or copy its file")
        return there != known

    missing = processes.first_here(is_missing)
    if not processes.any(missing):
        return
    own = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8) if processes.main else None
    content = processes.send(own)

    def write() -> None:
        if missing:
            if not RunDirectory(folder).is_claimed():
                RunDirectory(folder).claim()
            with utils.atomic_file(path) as handle:
                handle.write(content.numpy())

    processes.first_here(write)


def download_imagenet_weights(processes: Processes, backbone: str) -> None:
    """Let one process of each machine download them; the others find them in torch's cache."""
    if processes.world > 1:
        urls = {VGG.weights, BACKBONES[backbone].weights}
        processes.first_here(lambda: [imagenet_weights(url) for url in urls] and None)


def restore_everywhere(run: Run, restore: Callable[[], None]) -> None:
    """Restore a run in the main process, whose files count, and send its state to the others."""
    run.processes.first(restore)
    if run.processes.world > 1:
        state = run.processes.send(run.state() if run.processes.main else None)
        if not run.processes.main:
            run.load_state(state)


def check_agreement(run: Run) -> None:
    """Raises UserError unless all processes train the same networks on the same images in the same order."""
    if run.processes.world == 1:
        return
    stages = [(stage.phase, stage.epoch) for stage in run.schedule()]
    run.processes.check_same({
        "list of images": run.fingerprint, "content of the images": run.content,
        "schedule": fingerprint([stages, run.stage, run.step]), "precision": str(run.context.amp),
        "networks' weights": digest_of({name: phase.state() for name, phase in run.phases.items()}),
    }, SAME_COMMAND)


def digest_of(state: Any) -> str:
    """Return a SHA-256 of all tensors and plain values in a state, in order."""
    digest = hashlib.sha256()
    for part in _parts(state):
        digest.update(part)
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, torch.Tensor):
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield repr(key).encode()
            yield from _parts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _parts(item)
    else:
        yield repr(value).encode()
