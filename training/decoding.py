"""Where the decoded images of a training are kept, and which of several processes decodes them."""

from __future__ import annotations

import argparse
from typing import Sequence

import torch

from datasets.cache import DiskCache, bytes_of, chosen_cache
from datasets.layout import Sample
from datasets.loading import Images
from models.parallel import Processes
from training.run_directory import CACHE_FOLDER, RunDirectory
from utils import UserError

CACHES = ("ram", "disk", "none")  # the first takes the most memory


def decoded_images(options: argparse.Namespace, samples: Sequence[Sample], directory: RunDirectory, anew: bool,
                   device: torch.device, processes: Processes) -> Images:
    """The images of some samples, decoded once where ``--cache`` says so.

    For ``--cache disk`` the main process makes the directory its own and writes the file there, unless it finds that of
    an earlier start and does not begin ``anew``; the others wait for it. UserError where there is no room.
    """
    folder = directory.folder / CACHE_FOLDER
    choice = CACHES.index(chosen_cache(options.cache, bytes_of(samples, options.image_size), folder))
    choice = CACHES[int(processes.max(torch.tensor(choice, device=device)))]  # of what each finds free
    if choice != "disk":
        return Images(samples, options.image_size, choice)
    store = DiskCache(folder, samples, options.image_size)

    def make() -> None:
        directory.lock()
        directory.claim()
        directory.clear_parts()
        if anew or not store.is_made():
            store.make()

    processes.first(make)
    if int(processes.max(torch.tensor(int(not store.is_made()), device=device))):  # on some machine
        if options.cache == "auto":
            return Images(samples, options.image_size, "none")
        raise UserError(f"{store.path}: not there; several machines need a --checkpoint_dir that all of them see, or "
                        "--cache none")
    return Images(samples, options.image_size, "none", store)
