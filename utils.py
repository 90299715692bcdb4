"""What every command needs and that knows nothing of faces: errors, seeds, devices, files.

Imports are light on purpose (``--help`` answers in under a second): torch is imported inside the functions
that use it.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import errno
import hashlib
import json
import math
import os
import pickle
import re
import secrets
import signal
import sys
import time
import traceback
import warnings
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, Iterable, Iterator, NoReturn

if TYPE_CHECKING:
    import torch
    from tqdm import tqdm

SIDE_BY_SIDE = "JESRL_FER_SIDE_BY_SIDE"  # the environment's word for :func:`runs_side_by_side`


class UserError(Exception):
    """What is wrong, where, and what to do: shown to the user as one line, exit status 2."""


REQUIRED = "torch", "torchvision", "numpy", "scipy", "PIL", "tqdm"  # as they are imported

SECONDS_FOR_THE_LINE = 15  # that a process waits for the line of the one that met the error


class Stopped(Exception):
    """SIGINT or SIGTERM arrived and the state is saved: exit status 128 + ``signum``."""

    def __init__(self, signum: int, message: str = ""):
        super().__init__(message)
        self.signum = signum


def run_command(main: Callable[[], None]) -> None:
    """Call ``main`` as a program: a user's mistake is one line on stderr and exit status 2.

    Of several processes, the one that meets an error first reports it, once on each machine, and all leave at once.
    """
    keep_freed_memory()
    open_standard_streams()
    try:
        main()
    except BrokenPipeError:  # the reader of our output has seen enough, like head
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (Exception, KeyboardInterrupt) as error:
        line, status = line_and_status(error)
        if started_by_torchrun():
            _leave_together(error, line, status)
        if line is None:
            raise
        _print_error(line)
        sys.exit(status)


def line_and_status(error: BaseException) -> tuple[str | None, int]:
    """Return the line that tells a user of an error, None for a mistake of this program, and the exit status."""
    if isinstance(error, UserError):
        return " ".join(str(error).split()), 2
    if isinstance(error, ModuleNotFoundError) and error.name in REQUIRED:
        return f"the package {error.name} is not installed; pip install -r requirements.txt", 2
    if isinstance(error, UnicodeEncodeError):
        return f"{ascii(error.object)[:100]}: a name that is no text; rename it", 2
    if isinstance(error, Stopped):
        return str(error), 128 + error.signum
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 128 + signal.SIGINT
    if isinstance(error, (MemoryError, RuntimeError)):
        return _line_of_runtime_error(error), 2
    if isinstance(error, OSError) and error.errno is not None:
        if "temporary directory" in str(error.strerror):  # Python's own search for one
            return "no temporary directory can be written to; name one with TMPDIR=DIR before the command", 2
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        where = f"{error.filename}: " if error.filename else ""
        advice = "free some space" if full else "choose another file or place"
        return f"{where}{error.strerror}; {advice}", 2
    return None, 1


OUT_OF_MEMORY = re.compile(r"can't allocate memory|out of memory|ALLOC_FAILED", re.IGNORECASE)
LOST_PROCESS = re.compile(r"closed by peer|reset by peer|Broken pipe|Socket Timeout|remote process exited|"
                          r"recvValue failed|sendBytes failed|Timed out waiting", re.IGNORECASE)


def _line_of_runtime_error(error: MemoryError | RuntimeError) -> str | None:
    """Torch's own errors on CPUs and GPUs, cuDNN's and cuBLAS's included, that are not mistakes of this program."""
    text = str(error)
    if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(text):
        where = "GPU memory" if re.search("cud|cublas", text, re.IGNORECASE) else "memory"
        return f"not enough {where}; lower --batch_size, --vgg_batch_size, --image_size, --base_width, --vgg_width " \
               "or --fc_width" + (", or take --amp bf16" if where != "memory" else "")
    if started_by_torchrun() and LOST_PROCESS.search(text):
        return "another process has ended without a word (killed, or its machine is gone); go on with --restore"
    return None


def _print_error(line: str, rank: str = "0") -> None:
    who = "" if rank == "0" else f"process {rank}: "
    line = re.sub(r"\S{301,}", lambda word: f"{word[0][:120]}...", line)
    with contextlib.suppress(OSError, ValueError):  # nobody is there to read it
        print(f"{who}{Path(sys.argv[0]).name}: {line if len(line) <= 1500 else line[:1500] + '...'}\n",
              end="", file=sys.stderr, flush=True)  # in one write: other processes write there too


def _leave_together(error: BaseException, line: str | None, status: int) -> NoReturn:
    """Report what ended the first of the processes, once on each machine, and end this one without any clean-up.

    The others may wait in a collective operation, so that an ordinary end, with its threads, would wait for them.
    """
    rank, spoken = os.environ.get("RANK", "0"), line
    if line is None:
        spoken = f"{type(error).__name__}: {error} (see the traceback)"
    if not isinstance(error, Stopped):
        first = _first_error(f"{rank} {spoken}" if spoken else "")
    else:
        first = f"0 {spoken}" if rank == "0" else None
    if first == f"{rank} {spoken}" and line is None:
        traceback.print_exception(error)
    elif first:
        _print_error(first.partition(" ")[2], first.partition(" ")[0])
    else:
        time.sleep(1)  # torchrun ends all as soon as one has ended: the one that speaks is to be the first
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _first_error(own: str) -> str | None:
    """Return the first error of all processes ("rank line"), in one process of each machine; None in the others.

    Without a store that all can reach it is the own one. ``own`` is empty where another process knows the error.
    """
    from datetime import timedelta

    try:
        store = process_store() if _store_is_near() else None
        if store is None:
            return own or None
        if not own:
            store.wait(["error"], timedelta(seconds=SECONDS_FOR_THE_LINE))
        first = store.compare_set("error", "", own).decode()
        return first if store.add(f"reported on {os.environ.get('GROUP_RANK', '0')}", 1) == 1 else None
    except (ImportError, RuntimeError, ValueError):
        return own or None


def _store_is_near() -> bool:
    """Whether the store of all processes can be reached at once: it is torchrun's, or has been in use."""
    return process_store.cache_info().currsize > 0 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def open_standard_streams() -> None:
    """Let output go nowhere where it is closed, and show what a terminal has no letters for as escapes."""
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            opened = os.open(os.devnull, os.O_RDWR)  # so that no file of ours gets the number of a closed stream
            if opened != number:
                os.dup2(opened, number)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))
        elif number and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def keep_freed_memory() -> None:
    """Let glibc keep what a tensor leaves for the next one; on other systems, do nothing.

    By default each large map comes as new pages from the system and goes back to it: at 256 px that was a third of the
    time of a step on the CPU.
    """
    M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)


def sleep_while_waiting() -> None:
    """Let the threads of one operation sleep while they wait for each other instead of spinning; before torch's import.

    Small networks wait often. On cores that others use as well, spinning made recognizing 64 px faces several times
    slower, since the thread that is waited for does not get the core.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def progress(iterable: Iterable, what: str, total: int | None = None, unit: str = "step", **settings: Any) -> "tqdm":
    """A tqdm bar on a terminal, nothing elsewhere (a log file wants the summary lines alone)."""
    from tqdm import tqdm

    return tqdm(iterable, what, total, unit=unit, leave=False, dynamic_ncols=True,
                **{"disable": None, **settings})


@contextlib.contextmanager
def noted_signals() -> Iterator[Callable[[], int]]:
    """Within this context SIGINT and SIGTERM only set a number to ask for: 0, or the signal that has arrived.

    A second signal of the same kind acts at once, so that a stuck program can still be stopped.
    """
    arrived = [0]

    def note(signum, frame):
        arrived[0] = signum
        signal.signal(signum, signal.SIG_DFL)

    before = {signum: signal.signal(signum, note) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: arrived[0]
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


# ---------------------------------------------------------------------------------------------- randomness

def derived_seed(seed: int, *stream: int | str) -> int:
    """A 63-bit seed for one named stream of random numbers, e.g. ``derived_seed(0, "noise", step)``.

    Every random draw of a training is a function of the seed and of *where* it is drawn, so a run that is
    resumed at any step needs no saved random state, and no stream shifts when another one draws more.
    """
    text = repr((int(seed), *stream)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def generator(seed: int, *stream: int | str) -> "torch.Generator":
    """A CPU ``torch.Generator`` for one named stream (see :func:`derived_seed`)."""
    import torch

    return torch.Generator().manual_seed(derived_seed(seed, *stream))


# -------------------------------------------------------------------------------------------------- device

def pick_device(gpu: list[int] | None) -> "torch.device":
    """The GPU asked for, or the CPU: with a warning where a GPU was asked for in vain.

    ``gpu`` is None (a GPU if there is one) or a list of indices, where -1 means the CPU. Of several processes on a
    machine, each takes its own. It is torch's current GPU from then on.
    """
    import torch

    if gpu is not None and any(index < 0 for index in gpu):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        if gpu is not None and main_process():
            print(f"warning: no CUDA GPU is available here{visible_gpus_note()}, using the CPU instead of --gpu "
                  + " ".join(map(str, gpu)), file=sys.stderr)
        return torch.device("cpu")
    local_rank = int(os.environ["LOCAL_RANK"]) if number_of_processes() > 1 else 0
    here = max(local_rank + 1, processes_here()) if "LOCAL_WORLD_SIZE" in os.environ else local_rank + 1
    if gpu is not None and here > 1 and len(set(gpu)) < here:
        raise UserError(f"--gpu {' '.join(map(str, gpu))}: {here} processes here need {here} different GPUs; "
                        "name as many, or leave --gpu out")
    index = local_rank if gpu is None else gpu[local_rank]
    if index >= torch.cuda.device_count():
        raise UserError(f"--gpu {index}: this machine has {torch.cuda.device_count()} GPU(s), numbered from 0"
                        + visible_gpus_note())
    torch.cuda.set_device(index)  # else a context is opened on GPU 0 as well
    return torch.device("cuda", index)


def gpus() -> list[int] | None:
    """The numbers of this machine's GPUs; None where there are none."""
    import torch

    return list(range(torch.cuda.device_count())) or None if torch.cuda.is_available() else None


def visible_gpus_note() -> str:
    """What CUDA_VISIBLE_DEVICES does to the numbers of GPUs, in brackets; nothing where it is not set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return f" (CUDA_VISIBLE_DEVICES={visible} numbers GPUs anew: the first that it names is --gpu 0)" if visible else ""


def to_device(value: "torch.Tensor", device: "torch.device | str") -> "torch.Tensor":
    """A CPU tensor on a device; nothing waits for the copy to a GPU, since it starts from pinned memory."""
    on_gpu = str(device).startswith("cuda") and value.device.type == "cpu"
    return (value.pin_memory() if on_gpu else value).to(device, non_blocking=True)


def synchronize(device: "torch.device") -> None:
    """Wait until a device has done all that it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main_process() -> bool:
    """Whether this is the one of several processes (``torchrun``) that speaks."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def started_by_torchrun() -> bool:
    """Whether several processes work together, as far as the environment tells."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()


@cache
def process_store() -> Any:
    """Return the key-value store of all processes that ``torchrun`` has started, anew for each of its restarts.

    Torch gives processes that are started again the store of the attempt before, with what that left in it.
    """
    from torch import distributed

    store, _, _ = next(distributed.rendezvous("env://"))
    return distributed.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def processes_here() -> int:
    """Return how many of the processes that work together share this machine."""
    here, world = os.environ.get("LOCAL_WORLD_SIZE", ""), number_of_processes()
    return int(here) if re.fullmatch("[0-9]+", here) and 0 < int(here) <= world else world


def number_of_processes() -> int:
    """How many processes work together. Raises UserError if there should be several, and torchrun started none."""
    world = os.environ.get("WORLD_SIZE", "1")
    if world == "1":
        return 1
    numbers = (os.environ.get(name, "") for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"))
    if not all(re.fullmatch("[0-9]{1,5}", number) for number in numbers) or not started_by_torchrun():
        raise UserError(f"WORLD_SIZE={world} is set, but torchrun has not started this process; unset WORLD_SIZE, or "
                        "start with torchrun or --gpu 0 1")
    return int(world)


def runs_side_by_side() -> int:
    """How many trainings of ``--jobs`` share this machine's memory and disk; 1 for one that was started alone."""
    return int(os.environ.get(SIDE_BY_SIDE, "1"))


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def installed_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's; 0 where nothing tells."""
    known = []
    with contextlib.suppress(ValueError, OSError, AttributeError):
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(ValueError, OSError):
            known.append(int(Path(path).read_text()))
    return min((size for size in known if size > 0), default=0)


# --------------------------------------------------------------------------------------------------- files

REFUSALS = errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY


@contextlib.contextmanager
def may_be_refused() -> Iterator[None]:
    """Within this context a file system may refuse an operation that it does not know (SMB, S3 and FUSE mounts).

    For side work alone, such as permissions and times. Errors that lose data, such as a full disk, are raised.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise


def placeholder(path: str | os.PathLike) -> str | None:
    """Say what a file is that only stands for the one that was to be downloaded; None for any other file."""
    try:
        with open(path, "rb") as handle:
            start = handle.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    except OSError:
        return None
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself: fetch it with git lfs pull"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "a web page, not the file itself: download it again, and open it in a browser to see what went wrong"
    return None


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike, mode: str = "wb") -> Iterator[Any]:
    """Open a file that appears under its name whole or not at all (temporary file, fsync, rename)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = None if "b" in mode else "utf-8"
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(unfinished, mode.replace("w", "x"), encoding=encoding) as handle:
            yield handle
            handle.flush()
            with may_be_refused():
                os.fsync(handle.fileno())
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise


def write_text(path: str | os.PathLike, text: str | Iterable[str]) -> None:
    """Write a text, or its lines one after the other, into a file, atomically."""
    with atomic_file(path, "w") as handle:
        handle.writelines([text] if isinstance(text, str) else text)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write a JSON file atomically, indented for people; numbers that JSON does not know become null."""
    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None


MOST_JSON = 1 << 26


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file. Raises UserError if it is not there, not JSON or larger than any of ours."""
    try:
        if Path(path).stat().st_size > MOST_JSON:
            raise UserError(f"{path}: too large to be a file of this program; restore it from a backup")
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except RecursionError:
        raise UserError(f"{path}: not readable as JSON (nested too deep); restore it from a backup") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from None


PICTURE_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".pdf": "PDF"}


def check_picture_name(path: str | os.PathLike) -> None:
    """Raises UserError unless a picture can be written under this name."""
    if Path(path).suffix.lower() not in PICTURE_FORMATS:
        raise UserError(f"{path}: a picture's name must end in .png, .jpg or .pdf")


def save_picture(image, path: str | os.PathLike, comment: bytes | None = None) -> None:
    """Write a PIL image atomically, in the format that the name's ending asks for; JPEG and PNG may hold a comment."""
    content = encoded_picture(image, path, comment)
    with atomic_file(path) as handle:
        handle.write(content)


def encoded_picture(image, path: str | os.PathLike, comment: bytes | None = None) -> bytes:
    """Return what :func:`save_picture` writes."""
    import io

    from PIL.PngImagePlugin import PngInfo

    check_picture_name(path)
    buffer, info, kind = io.BytesIO(), PngInfo(), PICTURE_FORMATS[Path(path).suffix.lower()]
    if comment:
        info.add_text("comment", comment.decode())
    more = {} if not comment else {"pnginfo": info} if kind == "PNG" else {"comment": comment}
    image.save(buffer, format=kind, quality=95, **more)
    return buffer.getvalue()


def save_checkpoint(path: str | os.PathLike, value: Any) -> None:
    """``torch.save`` that appears whole or not at all."""
    import torch

    try:
        with atomic_file(path) as handle:
            torch.save(value, handle)
    except RuntimeError as error:  # torch's writer does not say why; a disk that is full is what happens
        if "PytorchStreamWriter" not in str(error) and "unexpected pos" not in str(error):
            raise
        raise UserError(f"{path}: cannot be written (is the disk full?); free some space and go on with --restore"
                        ) from None


def load_checkpoint(path: str | os.PathLike) -> Any:
    """Load what ``torch.save`` wrote, onto the CPU, without ever running code that a file brings along.

    Reads today's and PyTorch 1.0's format. Raises UserError where the file is absent, damaged or refused.
    """
    import torch

    if not Path(path).is_file():
        raise UserError(f"{path}: no such checkpoint file")
    if found := placeholder(path):
        raise UserError(f"{path}: is {found}")
    torch.serialization.add_safe_globals(_numpy_scalars())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch.load reports damage in many ways: RuntimeError, EOFError, KeyError, ...
        unpickled = isinstance(error, pickle.UnpicklingError)
        if unpickled and ("weights_only" in str(error).lower() or "Unsupported" in str(error)):
            raise UserError(f"{path}: refused, it holds more than tensors and plain values, "
                            "which could run code; save it again as a plain state dict") from None
        raise UserError(f"{path}: damaged or not a PyTorch checkpoint"
                        f"{'' if unpickled else f' ({type(error).__name__})'}; take another copy") from None


def _numpy_scalars() -> list:
    """numpy's own scalars are plain values: the reference stores its accuracy as one.

    They are allowed under the name that pickles have for them, in numpy 1 and in numpy 2.
    """
    import numpy

    core = numpy._core if numpy.lib.NumpyVersion(numpy.__version__) >= "2.0.0" else numpy.core

    kinds = (type(numpy.dtype(name)) for name in ("float64", "float32", "int64", "int32"))
    allowed = [codecs.encode, numpy.dtype, *kinds]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        def scalar(dtype, data=b""):
            return core.multiarray.scalar(dtype, data)

        scalar.__module__, scalar.__qualname__ = module, "scalar"
        allowed.append(scalar)
    return allowed


# ----------------------------------------------------------------------------------------------------- digests

def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as handle:
        return _digest(iter(lambda: handle.read(1 << 20), b""))


def digest_of_ends(handle: BinaryIO, part: int = 1 << 19) -> bytes:
    """A SHA-256 of an open file's size and content; beyond twice ``part`` bytes, of its size, beginning and end."""
    size = handle.seek(0, os.SEEK_END)
    handle.seek(0)
    digest = hashlib.sha256(str(size).encode() + handle.read(part))
    handle.seek(max(handle.tell(), size - part))
    digest.update(handle.read(part))
    return digest.digest()


def fingerprint(values: Iterable[Any]) -> str:
    """A SHA-256 of plain values, the same for equal values in equal order; an iterator counts as the list of its own.
    """
    return _digest(part.encode() for part in _written(iter(values)))


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _written(values: Iterator[Any]) -> Iterator[str]:
    """The ``repr`` of a list of these values, part by part: millions of them are never in memory at once."""
    before = "["
    while some := list(islice(values, 1000)):
        yield before + ", ".join("".join(_written(value)) if isinstance(value, Iterator) else repr(value)
                                 for value in some)
        before = ", "
    yield "]" if before == ", " else "[]"
