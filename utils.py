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
import signal
import sys
import tempfile
import time
import types
import warnings
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, Iterable, Iterator

if TYPE_CHECKING:
    import torch
    from tqdm import tqdm

SIDE_BY_SIDE = "JESRL_FER_SIDE_BY_SIDE"  # the environment's word for :func:`runs_side_by_side`


class UserError(Exception):
    """What is wrong, where, and what to do: shown to the user as one line, exit status 2."""


REQUIRED = "torch", "torchvision", "numpy", "scipy", "PIL", "tqdm"  # as they are imported

# torchrun kills all processes as soon as one ends: where all meet the same mistake, the main one alone is to speak.
SECONDS_TO_SPEAK = 15


class Stopped(Exception):
    """SIGINT or SIGTERM arrived and the state is saved: exit status 128 + ``signum``."""

    def __init__(self, signum: int, message: str = ""):
        super().__init__(message)
        self.signum = signum


def run_command(main: Callable[[], None]) -> None:
    """Call ``main`` as a program: a user's mistake is one line on stderr and exit status 2."""
    keep_freed_memory()
    open_standard_streams()
    try:
        main()
    except UserError as error:
        sys.exit(_report(" ".join(str(error).split()), 2))
    except ModuleNotFoundError as error:
        if error.name not in REQUIRED:
            raise
        sys.exit(_report(f"the package {error.name} is not installed; pip install -r requirements.txt", 2))
    except MemoryError:
        sys.exit(_report("not enough memory; take smaller images, batches or widths", 2))
    except UnicodeEncodeError as error:
        sys.exit(_report(f"{ascii(error.object)[:100]}: a name that is no text; rename it", 2))
    except RuntimeError as error:  # torch's own, on the CPU and on GPUs
        if "can't allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        sys.exit(_report("not enough memory; take smaller images, batches or widths", 2))
    except Stopped as stop:
        sys.exit(_report(str(stop), 128 + stop.signum))
    except KeyboardInterrupt:
        sys.exit(_report("interrupted", 128 + signal.SIGINT))
    except BrokenPipeError:  # the reader of our output has seen enough, like head
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        if error.errno is None:
            raise
        if "temporary directory" in str(error.strerror):  # Python's own search for one
            sys.exit(_report("no temporary directory can be written to; name one with TMPDIR=DIR before the command", 2))
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        where = f"{error.filename}: " if error.filename else ""
        advice = "free some space" if full else "choose another file or place"
        sys.exit(_report(f"{where}{error.strerror}; {advice}", 2))


def _report(line: str, status: int) -> int:
    if not main_process():
        time.sleep(SECONDS_TO_SPEAK)
    if line:
        who = "" if main_process() else f"process {os.environ['RANK']}: "
        line = re.sub(r"\S{301,}", lambda word: f"{word[0][:120]}...", line)
        with contextlib.suppress(OSError, ValueError):  # nobody is there to read it
            print(f"{who}{Path(sys.argv[0]).name}: {line if len(line) <= 1500 else line[:1500] + '...'}\n",
                  end="", file=sys.stderr, flush=True)  # in one write: other processes write there too
    return status


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
    machine, each takes its own.
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
    here = max(local_rank + 1, int(os.environ.get("LOCAL_WORLD_SIZE", 1))) if number_of_processes() > 1 else 1
    if gpu is not None and here > 1 and len(set(gpu)) < here:
        raise UserError(f"--gpu {' '.join(map(str, gpu))}: {here} processes here need {here} different GPUs; "
                        "name as many, or leave --gpu out")
    index = local_rank if gpu is None else gpu[local_rank]
    if index >= torch.cuda.device_count():
        raise UserError(f"--gpu {index}: this machine has {torch.cuda.device_count()} GPU(s), numbered from 0"
                        + visible_gpus_note())
    return torch.device("cuda", index)


def visible_gpus_note() -> str:
    """What CUDA_VISIBLE_DEVICES does to the numbers of GPUs, in brackets; nothing where it is not set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return f" (CUDA_VISIBLE_DEVICES={visible} numbers GPUs anew: the first that it names is --gpu 0)" if visible else ""


def to_device(value: "torch.Tensor", device: "torch.device | str") -> "torch.Tensor":
    """A CPU tensor on a device; nothing waits for the copy to a GPU, since it starts from pinned memory."""
    on_gpu = str(device).startswith("cuda") and value.device.type == "cpu"
    return (value.pin_memory() if on_gpu else value).to(device, non_blocking=True)


def main_process() -> bool:
    """Whether this is the one of several processes (``torchrun``) that speaks."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def number_of_processes() -> int:
    """How many processes work together; UserError where the environment says so but ``torchrun`` has started none."""
    given = {name: os.environ.get(name) for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK")}
    world = given["WORLD_SIZE"]
    if world in (None, "1"):
        return 1
    if not all(value is not None and value.isascii() and value.isdigit() and len(value) < 6
               for value in given.values()) or not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        raise UserError(f"WORLD_SIZE={world} is set, but torchrun has not started this process; unset WORLD_SIZE, or "
                        "start with torchrun or --gpu 0 1")
    return int(world)


def runs_side_by_side() -> int:
    """How many trainings of ``--jobs`` share this machine's memory and disk; 1 for one that was started alone."""
    told = os.environ.get(SIDE_BY_SIDE, "1")
    return int(told) if told.isascii() and told.isdigit() and 0 < len(told) < 4 and int(told) else 1


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def installed_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's; 0 where nothing tells."""
    known = []
    try:
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        pass
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            known.append(int(Path(path).read_text()))
        except (ValueError, OSError):
            pass
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
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "a web page, not the file itself: download it again, and open it in a browser to see what went wrong"
    return None


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike, mode: str = "wb") -> Iterator[Any]:
    """Open a file that appears under its name whole or not at all (temporary file, fsync, rename)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = None if "b" in mode else "utf-8"
    handle = tempfile.NamedTemporaryFile(mode, dir=path.parent, prefix=f".{path.name}.", suffix=".part",
                                         delete=False, encoding=encoding)
    try:
        with handle:
            yield handle
            handle.flush()
            with may_be_refused():
                os.fsync(handle.fileno())
        with may_be_refused():
            os.chmod(handle.name, 0o666 & ~_umask())
        os.replace(handle.name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(handle.name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
    """Read a JSON file; UserError where it is not there, not JSON or larger than any of ours."""
    try:
        if Path(path).stat().st_size > MOST_JSON:
            raise UserError(f"{path}: too large to be a file of this program; put it back from a copy")
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except RecursionError:
        raise UserError(f"{path}: not readable as JSON (nested too deep); put it back from a copy") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from None


PICTURE_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}


def check_picture_name(path: str | os.PathLike) -> None:
    """UserError unless a picture can be written under this name."""
    if Path(path).suffix.lower() not in PICTURE_FORMATS:
        raise UserError(f"{path}: a picture's name must end in .png or .jpg")


def save_picture(image, path: str | os.PathLike, comment: bytes | None = None) -> None:
    """Write a PIL image atomically, in the format that the name's ending asks for; JPEG and PNG may hold a comment."""
    content = encoded_picture(image, path, comment)
    with atomic_file(path) as handle:
        handle.write(content)


def encoded_picture(image, path: str | os.PathLike, comment: bytes | None = None) -> bytes:
    """Return what :func:`save_picture` writes."""
    import io

    from PIL.PngImagePlugin import PngInfo

    ending = Path(path).suffix.lower()
    check_picture_name(path)
    buffer, more = io.BytesIO(), {}
    if comment and PICTURE_FORMATS[ending] == "PNG":
        more["pnginfo"] = PngInfo()
        more["pnginfo"].add_text("comment", comment.decode())
    elif comment:
        more["comment"] = comment
    image.save(buffer, format=PICTURE_FORMATS[ending], quality=95, **more)
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
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error).lower() or "Unsupported" in str(error):
            raise UserError(f"{path}: refused, it holds more than tensors and plain values, "
                            "which could run code; save it again as a plain state dict") from None
        raise UserError(f"{path}: damaged or not a PyTorch checkpoint; take another copy") from None
    except Exception as error:  # torch.load reports damage in many ways: RuntimeError, EOFError, KeyError, ...
        if isinstance(error, MemoryError):
            raise
        raise UserError(f"{path}: damaged or not a PyTorch checkpoint ({type(error).__name__}); "
                        "take another copy") from None


def _numpy_scalars() -> list:
    """numpy's own scalars are plain values: the reference stores its accuracy as one.

    They are allowed under the name that pickles have for them, in numpy 1 and in numpy 2.
    """
    import numpy

    core = numpy._core if numpy.lib.NumpyVersion(numpy.__version__) >= "2.0.0" else numpy.core

    def scalar(dtype, data=b""):
        return core.multiarray.scalar(dtype, data)

    kinds = (type(numpy.dtype(name)) for name in ("float64", "float32", "int64", "int32"))
    allowed = [codecs.encode, numpy.dtype, *kinds]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        named = types.FunctionType(scalar.__code__, scalar.__globals__, "scalar", scalar.__defaults__,
                                   scalar.__closure__)
        named.__module__, named.__qualname__ = module, "scalar"
        allowed.append(named)
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
    """A SHA-256 of plain values, the same for equal values in equal order; an iterator counts as the list of its own."""
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
