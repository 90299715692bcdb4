"""Errors, seeds, files, digests, devices and processes, which all modules need; nothing here knows of faces.

torch is not imported with this module, so that ``--help`` answers at once; functions that need it import it.
"""

import contextlib
import ctypes
import errno
import hashlib
import json
import math
import os
import re
import secrets
import signal
import sys
import threading
import time
import traceback
from functools import cache
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, Iterable, Iterator, NoReturn, Sequence, TextIO

if TYPE_CHECKING:
    import torch
    from tqdm import tqdm


class UserError(Exception):
    """A mistake in the input; its text says what is wrong, where, and what to do (one line, exit status 2)."""


def refuse(where: object, *faults: tuple[object, str | Callable[[], str]]) -> None:
    """Check something for faults: pairs of whether one is there, and what is wrong then and what to do.

    ``where`` is what a message begins with, such as a file and its line. What is wrong may be a function that returns
    it, if it takes time to find out. Raises UserError for the first fault.
    """
    for is_there, fault in faults:
        if is_there:
            raise UserError(f"{where}: {fault() if callable(fault) else fault}")


def home_expanded(text: str) -> str:
    """Return a path that a user types with the home directory for ``~``, which shells leave as it is behind "=".

    Raises UserError for the home of an unknown user.
    """
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise UserError(f"{text}: there is no such user; write ./{text} for a file of this name")
    return path


def user_path(text: str) -> Path:
    """Return :func:`home_expanded` as a Path."""
    return Path(home_expanded(text))


class Stopped(Exception):
    """The end of a training after a signal of :data:`STOPPING`, with its state saved (exit status 128 + ``signum``)."""

    def __init__(self, signum: int, message: str = ""):
        super().__init__(message)
        self.signum = signum


def progress(iterable: Iterable | None, description: str, total: int | None = None, unit: str = "step",
             **settings: Any) -> "tqdm":
    """Return a tqdm bar, which is shown only on a terminal, so that log files hold no bars."""
    from tqdm import tqdm

    return tqdm(iterable, description, total, unit=unit, leave=False, dynamic_ncols=True,
                **{"disable": None, **settings})


def by_threads(function: Callable[[Any], Any], items: Sequence[Any], description: str, workers: int = 4
               ) -> Iterator[Any]:
    """Yield ``function(image)`` of each image in order, computed by threads, while a bar shows the progress."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(workers)
    with progress(None, description, len(items), "image") as bar:
        try:
            for start in range(0, len(items), 1024):  # not all at once, since each waits as an object of its own
                for result in pool.map(function, items[start:start + 1024]):
                    yield result
                    bar.update()
        finally:
            pool.shutdown(cancel_futures=True)


def opencv(purpose: str) -> Any:
    """Return the module cv2, which prints nothing. Raises UserError with the purpose if it is not installed."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg's messages do not help users
    try:
        import cv2
    except ImportError:
        raise UserError(f"{purpose} needs OpenCV, which is not installed; "
                        "pip install -r requirements-optional.txt") from None
    with contextlib.suppress(AttributeError):  # some builds of OpenCV have no cv2.utils.logging
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def starting() -> "tqdm":
    """Return a bar that says "starting ..." on a terminal while torch is imported, which takes seconds."""
    return progress(None, "starting", bar_format="{desc} ...", disable=None if main_process() else True)


# ----------------------------------------------------------------------------------------------------------- randomness

def derived_seed(seed: int, *stream: int | str) -> int:
    """Return the 63-bit seed of one named stream of random numbers, e.g. ``derived_seed(0, "noise", step)``.

    Every random draw of a training is a function of the seed and of *where* it is drawn. A run that is resumed at any
    step therefore needs no saved random state, and no stream shifts when another one draws more.
    """
    text = repr((int(seed), *stream)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def generator(seed: int, *stream: int | str) -> "torch.Generator":
    """Return a CPU ``torch.Generator`` for one named stream (see :func:`derived_seed`)."""
    import torch

    return torch.Generator().manual_seed(derived_seed(seed, *stream))


# ---------------------------------------------------------------------------------------------------------------- files

REFUSALS = errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY


def placeholder(path: str | os.PathLike) -> str | None:
    """Return what a file is if it was saved in place of the real one, such as a web page; None for any other file."""
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
    """Open a file for writing that appears under its name complete or not at all (temporary file, fsync, rename)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}  # the same bytes on every system
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(temporary, mode.replace("w", "x"), **text) as handle:
            yield handle
            handle.flush()
            try:
                os.fsync(handle.fileno())
            except OSError as error:  # SMB, S3 and FUSE mounts do not support it; a full disk is an error
                if error.errno not in REFUSALS:
                    raise
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_text(path: str | os.PathLike, text: str | Iterable[str]) -> None:
    """Write a text, or its parts one after the other, to a file, atomically."""
    with atomic_file(path, "w") as handle:
        handle.writelines([text] if isinstance(text, str) else text)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write an indented JSON file atomically; NaN and infinity become null."""
    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None


MOST_JSON = 1 << 26  # bytes; larger than any JSON file that this program writes


def read_json(path: str | os.PathLike) -> Any:
    """Return the content of a JSON file.

    Raises UserError if the file is absent, not JSON or larger than :data:`MOST_JSON`.
    """
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
LARGEST_SIDES = {"JPEG": 65500, "PDF": 65500, "WEBP": 16383}  # in pixels; a PDF file holds a JPEG one


def check_picture_name(path: str | os.PathLike) -> None:
    """Check that a picture can be written under this name. Raises UserError if it cannot."""
    if Path(path).suffix.lower() not in PICTURE_FORMATS:
        raise UserError(f"{path}: a picture's name must end in .png, .jpg or .pdf")


def save_picture(image, path: str | os.PathLike, comment: bytes | None = None) -> None:
    """Write a PIL image atomically in the format of the name's suffix, with a comment if that is JPEG or PNG."""
    content = encoded_picture(image, path, comment)
    with atomic_file(path) as handle:
        handle.write(content)


def encoded_picture(image, path: str | os.PathLike, comment: bytes | None = None) -> bytes:
    """Return the bytes that :func:`save_picture` writes. Raises UserError if the format cannot hold so large a picture.
    """
    import io

    from PIL.PngImagePlugin import PngInfo

    check_picture_name(path)
    buffer, file_format, settings = io.BytesIO(), PICTURE_FORMATS[Path(path).suffix.lower()], {}
    if max(image.size) > LARGEST_SIDES.get(file_format, math.inf):
        raise UserError(f"{path}: {image.width} x {image.height} pixels are too many for {file_format}; let the name "
                        "end in .png, or draw fewer pictures")
    if comment and file_format == "PNG":
        settings["pnginfo"] = PngInfo()
        settings["pnginfo"].add_text("comment", comment.decode())
    elif comment:
        settings["comment"] = comment
    image.save(buffer, format=file_format, quality=95, **settings)
    return buffer.getvalue()


# -------------------------------------------------------------------------------------------------------------- digests

def sha256(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with open(path, "rb") as handle:
        return _digest(iter(lambda: handle.read(1 << 20), b""))


def digest_of_ends(handle: BinaryIO) -> bytes:
    """Return a SHA-256 of an open file's size, and of its first and last 512 KiB."""
    size, part = handle.seek(0, os.SEEK_END), 1 << 19
    handle.seek(0)
    digest = hashlib.sha256(str(size).encode() + handle.read(part))
    handle.seek(max(handle.tell(), size - part))
    digest.update(handle.read(part))
    return digest.digest()


def fingerprint(values: Iterable[Any]) -> str:
    """Return a SHA-256 of plain values in their order; an iterator has the digest of the list of its values."""
    return _digest(part.encode() for part in _list_repr(iter(values)))


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _list_repr(values: Iterator[Any]) -> Iterator[str]:
    """Yield the ``repr`` of a list of these values in parts, so that millions of them are never in memory at once."""
    separator = "["
    while chunk := list(islice(values, 1000)):
        yield separator + ", ".join("".join(_list_repr(value)) if isinstance(value, Iterator) else repr(value)
                                    for value in chunk)
        separator = ", "
    yield "]" if separator == ", " else "[]"


# ------------------------------------------------------------------------------------------------------------- programs

def run_command(main: Callable[[], None]) -> None:
    """Call ``main`` as a program: a mistake in the input becomes one line on stderr and exit status 2.

    If one of several processes fails, the first error is reported once on each machine, and all processes exit.
    """
    keep_freed_memory()
    open_standard_streams()
    try:
        main()
    except BrokenPipeError:  # the program that reads the output has ended, such as head
        drop_output(sys.stdout), drop_output(sys.stderr)
        sys.exit(141)  # 128 + SIGPIPE, a signal that Windows does not have
    except (Exception, KeyboardInterrupt) as error:
        line, status = line_and_status(error)
        if started_by_torchrun():
            _leave_together(error, line, status)
        if line is None:
            raise
        _print_error(line)
        sys.exit(status)


REQUIRED = "torch", "torchvision", "numpy", "scipy", "PIL", "tqdm"  # names of modules


def line_and_status(error: BaseException) -> tuple[str | None, int]:
    """Return the line that reports an error (None for a bug of this program) and the exit status."""
    if isinstance(error, UserError):
        return " ".join(str(error).split()), 2
    if isinstance(error, ModuleNotFoundError) and error.name in REQUIRED:
        return f"the package {error.name} is not installed; pip install -r requirements.txt", 2
    if isinstance(error, UnicodeEncodeError):
        return f"{ascii(error.object)[:100]}: this name is not valid Unicode; rename the file", 2
    if isinstance(error, Stopped):
        return str(error), 128 + error.signum
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 128 + signal.SIGINT
    if isinstance(error, (MemoryError, RuntimeError)):
        return _line_of_runtime_error(error), 2
    if isinstance(error, OSError) and error.errno is not None:
        if "temporary directory" in str(error.strerror):  # raised by tempfile
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
    """Return the line for an error of torch, cuDNN or cuBLAS that is not a bug of this program, None for another."""
    text = str(error)
    if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(text):
        where = "GPU memory" if re.search("cud|cublas", text, re.IGNORECASE) else "memory"
        return f"not enough {where}; lower --batch_size, --vgg_batch_size, --image_size, --base_width, --vgg_width " \
               "or --fc_width" + (", or use --amp bf16" if where != "memory" else "")
    if started_by_torchrun() and LOST_PROCESS.search(text):
        return "another process has ended without an error message (killed, or its machine is gone); resume with " \
               "--restore"
    return None


def _print_error(line: str, rank: str = "0") -> None:
    process = "" if rank == "0" else f"process {rank}: "
    line = re.sub(r"\S{301,}", lambda word: f"{word[0][:120]}...", line)
    try:
        print(f"{process}{Path(sys.argv[0]).name}: {line if len(line) <= 1500 else line[:1500] + '...'}\n",
              end="", file=sys.stderr, flush=True)  # in one write, since other processes write there too
    except OSError:
        drop_output(sys.stderr)
    except ValueError:  # stderr is closed
        pass


ERROR_TIMEOUT = 15  # seconds that a process waits for the line of the process that met the error


def _leave_together(error: BaseException, line: str | None, status: int) -> NoReturn:
    """Report the first error of all processes, once on each machine, and end this process without any clean-up.

    The other processes may wait in a collective operation, and an ordinary exit would wait for them.
    """
    rank = os.environ.get("RANK", "0")
    text = f"{type(error).__name__}: {error} (see the traceback)" if line is None else line
    if not isinstance(error, Stopped):
        first = _first_error(f"{rank} {text}" if text else "")
    else:
        first = f"0 {text}" if rank == "0" else None
    if first == f"{rank} {text}" and line is None:
        traceback.print_exception(error)
    elif first:
        first_rank, _, first_text = first.partition(" ")
        _print_error(first_text, first_rank)
    else:
        time.sleep(1)  # torchrun kills all processes once one has ended; the reporting one must end first
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _first_error(own_error: str) -> str | None:
    """Return the first error of all processes ("rank line") in one process of each machine, None in the others.

    Without a store that all processes reach, it is ``own_error``, which is empty if another process met the error.
    """
    from datetime import timedelta

    try:
        is_near = process_store.cache_info().currsize > 0 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        if not is_near:  # it is not torchrun's and has not been used before, and may answer late or never
            return own_error or None
        store = process_store()
        if not own_error:
            store.wait(["error"], timedelta(seconds=ERROR_TIMEOUT))
        first = store.compare_set("error", "", own_error).decode()
        return first if store.add(f"reported on {os.environ.get('GROUP_RANK', '0')}", 1) == 1 else None
    except (ImportError, RuntimeError, ValueError):
        return own_error or None


def open_standard_streams() -> None:
    """Replace closed standard streams by the null device, and escape characters that a terminal cannot show."""
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            opened = os.open(os.devnull, os.O_RDWR)  # otherwise the next file gets the number of the closed stream
            if opened != number:
                os.dup2(opened, number)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))
        elif number and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def keep_freed_memory() -> None:
    """Let glibc reuse the memory of freed tensors; do nothing on other systems.

    By default it maps new pages for every large tensor and returns them to the system, which was a third of the time of
    a step on the CPU at 256 px.
    """
    M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)


def drop_output(stream: TextIO) -> None:
    """Send what is still to be written to a standard stream to the null device, once its reader has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class LastingStream:
    """A standard stream that drops what is written to it once nobody reads it any more."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            drop_output(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            drop_output(self._stream)


@contextlib.contextmanager
def lasting_output() -> Iterator[None]:
    """Go on without output once its reader has gone, such as ``tee`` after Ctrl-C or a terminal that was closed."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(LastingStream, streams)
    try:
        yield
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        sys.stdout, sys.stderr = streams


STOPPING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")  # signals that stop a training; Windows has only two


@contextlib.contextmanager
def noted_signals() -> Iterator[Callable[[], int]]:
    """Record the signals that stop a training instead of acting on them; yield a function that returns the last, or 0.

    The first one is confirmed in a line. A second SIGINT or SIGTERM acts at once, so that a program that hangs can
    still be stopped; a terminal that is closed may send SIGHUP twice. Only the main thread can record signals.
    """
    received, process = 0, os.getpid()

    def record(signum, frame):
        nonlocal received
        if not received and main_process() and os.getpid() == process:  # not in a process that loads images
            with contextlib.suppress(OSError):  # print may have been interrupted by this signal
                os.write(sys.stderr.fileno(), f"{Path(sys.argv[0]).name}: stopping after this step\n".encode())
        received = signum
        if signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_DFL)

    can_record = threading.current_thread() is threading.main_thread()
    numbers = [getattr(signal, name) for name in STOPPING if can_record and hasattr(signal, name)]
    handlers = {signum: signal.signal(signum, record) for signum in numbers}
    try:
        yield lambda: received
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


# ------------------------------------------------------------------------------------------------------------ processes

SIDE_BY_SIDE = "JESRL_FER_SIDE_BY_SIDE"  # the environment variable of :func:`runs_side_by_side`


def main_process() -> bool:
    """Return whether this is the only process, or the one of several (``torchrun``) that prints and writes."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def started_by_torchrun() -> bool:
    """Return whether ``torchrun`` has started several processes, according to the environment."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()


@cache
def process_store() -> Any:
    """Return the key-value store of all processes that ``torchrun`` has started, with keys of this attempt alone.

    After a restart torch hands out the store of the previous attempt, with all its keys.
    """
    from torch import distributed

    store, _, _ = next(distributed.rendezvous("env://"))
    return distributed.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def from_main_process(read: Callable[[], Any]) -> Any:
    """Return what ``read`` returns in the main process, as JSON: its machine alone may have the files that are read.

    All processes must call it equally often.
    """
    if not started_by_torchrun():
        return read()
    key = f"read {next(_READINGS)}"
    if main_process():
        process_store().set(key, json.dumps(read()))
    return json.loads(process_store().get(key))


_READINGS = count()  # the number of each call of from_main_process


def processes_here() -> int:
    """Return how many of the processes that work together share this machine."""
    local, world = os.environ.get("LOCAL_WORLD_SIZE", ""), number_of_processes()
    return int(local) if re.fullmatch("[0-9]+", local) and 0 < int(local) <= world else world


def number_of_processes() -> int:
    """Return how many processes train together. Raises UserError if WORLD_SIZE is set, but not by torchrun."""
    world = os.environ.get("WORLD_SIZE", "1")
    if world == "1":
        return 1
    numbers = (os.environ.get(name, "") for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"))
    if not all(re.fullmatch("[0-9]{1,5}", number) for number in numbers) or not started_by_torchrun():
        raise UserError(f"WORLD_SIZE={world} is set, but torchrun has not started this process; unset WORLD_SIZE, or "
                        "start with torchrun or --gpu 0 1")
    return int(world)


def runs_side_by_side() -> int:
    """Return how many trainings of ``--jobs`` share this machine's memory and disk; 1 for a single training."""
    return int(os.environ.get(SIDE_BY_SIDE, "1"))


# -------------------------------------------------------------------------------------------------------------- devices

def pick_device(gpu: list[int] | None) -> "torch.device":
    """Return the requested GPU and make it torch's current one, or the CPU, with a warning if no GPU is available.

    ``gpu`` is None (a GPU if there is one) or a list of indices, where -1 means the CPU. Of several processes on a
    machine, each uses its own GPU. TF32 is switched off, so that float32 on a GPU is float32. Raises UserError if this
    machine does not have a GPU of an index, and if the processes outnumber the GPUs.
    """
    import torch

    if gpu is not None and any(index < 0 for index in gpu):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        if gpu is not None and main_process():
            print(f"warning: no CUDA GPU is available here{visible_gpus_note()}, using the CPU instead of --gpu "
                  + " ".join(map(str, gpu)), file=sys.stderr)
        return torch.device("cpu")
    index = gpu_index(gpu)
    torch.cuda.set_device(index)  # otherwise a context is opened on GPU 0 as well
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device("cuda", index)


def gpu_index(gpu: list[int] | None) -> int | None:
    """Return the index of the GPU of :func:`pick_device`, None if there is none. Raises UserError like it."""
    import torch

    if not torch.cuda.is_available():
        return None
    local_rank = int(os.environ["LOCAL_RANK"]) if number_of_processes() > 1 else 0
    needed = max(local_rank + 1, processes_here()) if "LOCAL_WORLD_SIZE" in os.environ else local_rank + 1
    if gpu is not None and needed > 1 and len(set(gpu)) < needed:
        raise UserError(f"--gpu {' '.join(map(str, gpu))}: {needed} processes here need {needed} different GPUs; "
                        "name as many, or leave --gpu out")
    index = local_rank if gpu is None else gpu[local_rank]
    if index >= torch.cuda.device_count():
        raise UserError(f"--gpu {index}: this machine has {torch.cuda.device_count()} GPU(s), numbered from 0"
                        + visible_gpus_note())
    return index


def multiplies_bf16(gpu: int | None, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether a GPU, or with None the CPU, has bf16; older ones emulate it, slower than float32."""
    if gpu is not None:
        import torch

        return torch.cuda.get_device_capability(gpu) >= (8, 0)
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []  # Linux alone has the file
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def visible_gpus_note() -> str:
    """Return a remark in brackets on how CUDA_VISIBLE_DEVICES renumbers the GPUs, empty if it is not set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return f" (CUDA_VISIBLE_DEVICES={visible} numbers GPUs anew: the first that it names is --gpu 0)" if visible else ""


def to_device(value: "torch.Tensor", device: "torch.device | str") -> "torch.Tensor":
    """Return a CPU tensor on a device; a copy to a GPU starts from pinned memory, so that it is asynchronous."""
    on_gpu = str(device).startswith("cuda") and value.device.type == "cpu"
    return (value.pin_memory() if on_gpu else value).to(device, non_blocking=True)


def synchronize(device: "torch.device") -> None:
    """Wait until a device has finished all its work."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def installed_memory() -> int:
    """Return the bytes of memory of the machine or of its container, whichever is less; 0 if unknown."""
    sizes = []
    with contextlib.suppress(ValueError, OSError, AttributeError):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(ValueError, OSError):
            sizes.append(int(Path(path).read_text()))
    return min((size for size in sizes if size > 0), default=0)
