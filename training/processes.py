"""Agreement between the processes of one run: the same options, files, position, networks and images."""

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

LOCAL_OPTIONS = ("gpu", "checkpoint_dir", "data_dir", "num_workers")  # may differ from machine to machine
SAME_COMMAND = "start all processes with the same options, on copies of the same data"


def agreed_config(config: Config, restoring: bool, processes: Processes) -> Config:
    """Return the main process's options with this process's local ones.

    The options of a restored run are read from its files, which only the main process's machine needs to have. Raises
    UserError if the processes of a new run have different options.
    """
    if processes.world == 1:
        return config
    values = config.values()
    if not restoring:
        shared = sorted((name, repr(value)) for name, value in values.items() if name not in LOCAL_OPTIONS)
        processes.check_same({"options": fingerprint(shared)}, SAME_COMMAND)
    main_values = processes.run_on_main(lambda: values)
    local_values = {name: values[name] for name in LOCAL_OPTIONS if values[name] is not None}
    return Config.from_values({**main_values, **local_values})


def copy_to_machines(path: Path, processes: Processes, folder: Path, trained: bool = False) -> None:
    """Copy a file of the run in ``folder`` from the main process's machine to the machines that lack it.

    Raises UserError if another file lies there, unless this run has just ``trained`` it, or if it is not in ``folder``.
    """
    if processes.world == 1:
        return

    def digest() -> str | None:
        return utils.sha256(path) if path.is_file() else None

    expected = processes.run_on_main(digest)

    def is_missing() -> bool:
        found = digest()
        if found is None and expected is not None and folder not in path.parents:
            raise UserError(f"{path}: no such file on this machine; copy it from the machine of process 0")
        if found not in (None, expected) and not trained:
            raise UserError(f"{path}: differs from the file of process 0; delete it here, or copy that file")
        return found != expected

    missing = processes.run_on_each_machine(is_missing)
    if not processes.any(missing):
        return
    content = processes.broadcast(torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
                                  if processes.is_main else None)

    def write() -> None:
        if missing:
            if not RunDirectory(folder).is_claimed():
                RunDirectory(folder).claim()
            with utils.atomic_file(path) as handle:
                handle.write(content.numpy())

    processes.run_on_each_machine(write)


def download_imagenet_weights(processes: Processes, backbone: str) -> None:
    """Download the weights in one process of each machine, so that the others find them in torch's cache."""
    if processes.world > 1:
        urls = {VGG.weights, BACKBONES[backbone].weights}
        processes.run_on_each_machine(lambda: [imagenet_weights(url) for url in urls] and None)  # None can be sent


def restore_everywhere(run: Run, restore: Callable[[], None]) -> None:
    """Restore a run from the main process's files, and send its state to the other processes."""
    run.processes.run_on_main(restore)
    if run.processes.world > 1:
        state = run.processes.broadcast(run.state() if run.processes.is_main else None)
        if not run.processes.is_main:
            run.load_state(state)


def check_agreement(run: Run) -> None:
    """Check that all processes train the same networks on the same images in the same order, else raise UserError."""
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
