"""The start of a training: check the output directories, start processes, choose the device and set its backends."""

import os
import sys
from pathlib import Path

import torch

from commands.matrix import check_results
from datasets.files import check_figure, check_output
from models.checkpoints import RUN_FOLDERS
from models.parallel import Processes
from options.config import Config
from system.devices import pick_device, visible_gpus_note
from system.processes import number_of_processes
from training.data import draws_demo, is_demo, read_training_data, split_data
from utils import UserError


def launch(config: Config) -> tuple[torch.device, Processes]:
    """Prepare a command's runs, once for all of them; return the device of this process, and all processes.

    Raises UserError if the results cannot be written, or processes and devices do not fit together.
    """
    number_of_processes()
    check_output_paths(config)
    start_processes(config)
    device = pick_device(config.hardware.gpu)
    set_backends(config.hardware.deterministic)
    if config.hardware.compile:
        check_compiler(device)
    processes = Processes.join(device)
    kind = "series of folds or seeds" if config.is_series else "single run"
    processes.check_same({"kind of training": kind}, "give --folds or --seeds to all of them")
    return device, processes


def start_processes(config: Config) -> None:
    """Replace this process by ``torchrun`` with one process per GPU if ``--gpu`` names several GPUs.

    Return if torchrun has started this process, or there are no GPUs. Raises UserError for unusable GPUs and data.
    """
    gpu = config.hardware.gpu
    if gpu is None or len(gpu) < 2 or "WORLD_SIZE" in os.environ or not torch.cuda.is_available():
        return
    count = torch.cuda.device_count()
    if len(set(gpu)) < len(gpu) or not 0 <= min(gpu) <= max(gpu) < count:
        raise UserError(f"--gpu {' '.join(map(str, gpu))}: different GPUs are needed, this machine has {count}, "
                        f"numbered from 0{visible_gpus_note()}")
    if not torch.distributed.is_nccl_available():  # PyTorch for Windows lacks it
        raise UserError(f"--gpu {' '.join(map(str, gpu))}: several GPUs need NCCL, which this PyTorch does not have; "
                        "name one GPU, or train the runs of a series side by side with --jobs")
    if not draws_demo(config):
        layout = read_training_data(config, len(gpu))  # reports a mistake once, not in each process
        for member in config.members() if config.is_series else [config]:
            split_data(member, layout)
    os.execv(sys.executable, [sys.executable, "-m", "torch.distributed.run", "--standalone",
                              f"--nproc_per_node={len(gpu)}", *sys.argv])


def set_backends(deterministic: bool) -> None:
    """Let cuDNN choose the fastest algorithms by trying, or use only deterministic ones (``--deterministic``)."""
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def check_compiler(device: torch.device) -> None:
    """Check that ``torch.compile`` works on this machine. Raises UserError if it does not."""
    try:
        torch.compile(lambda x: torch.relu(x) * 2)(torch.ones(4, device=device))
    except Exception as error:  # a missing compiler, a GPU that is too old, a Python that is too new
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"--compile: torch.compile does not work here ({reason[:200]}); leave it out") from None


def check_output_paths(config: Config) -> None:
    """Check that the results can be written. Raises UserError if they cannot."""
    for folder in ("", *RUN_FOLDERS):
        check_output(Path(config.run.checkpoint_dir) / folder, "--checkpoint_dir", directory=True)
    if is_demo(config):
        check_output(".", "the current directory", directory=True)
        check_results(".", "the current directory")
        for name in ("grid.jpg", "result.jpg"):
            check_figure(name, "the current directory")
