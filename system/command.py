"""What every command does around its work: one line for an error, its exit status, streams and signals.

torch is not imported with this module; functions for several processes import it when they run.
"""

import contextlib
import ctypes
import errno
import os
import re
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Callable, Iterator, NoReturn

from system.processes import process_store, started_by_torchrun
from utils import Stopped, UserError


def run_command(main: Callable[[], None]) -> None:
    """Call ``main`` as a program: a mistake in the input becomes one line on stderr and exit status 2.

    If one of several processes fails, the first error is reported once on each machine, and all processes exit.
    """
    keep_freed_memory()
    open_standard_streams()
    try:
        main()
    except BrokenPipeError:  # the program that reads the output has ended, such as head
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
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
    with contextlib.suppress(OSError, ValueError):  # stderr is closed
        print(f"{process}{Path(sys.argv[0]).name}: {line if len(line) <= 1500 else line[:1500] + '...'}\n",
              end="", file=sys.stderr, flush=True)  # in one write, since other processes write there too


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
        store = process_store() if _store_is_near() else None
        if store is None:
            return own_error or None
        if not own_error:
            store.wait(["error"], timedelta(seconds=ERROR_TIMEOUT))
        first = store.compare_set("error", "", own_error).decode()
        return first if store.add(f"reported on {os.environ.get('GROUP_RANK', '0')}", 1) == 1 else None
    except (ImportError, RuntimeError, ValueError):
        return own_error or None


def _store_is_near() -> bool:
    """Return whether the store of all processes answers without delay: it is torchrun's, or has been used before."""
    return process_store.cache_info().currsize > 0 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


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


def sleep_while_waiting() -> None:
    """Let the threads of one operation sleep instead of spin while they wait for each other.

    It must be called before torch is imported. On cores that other processes use as well, spinning made recognizing
    64 px faces several times slower, since it keeps the core from the thread that is waited for.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextlib.contextmanager
def noted_signals() -> Iterator[Callable[[], int]]:
    """Record SIGINT and SIGTERM instead of acting on them; yield a function that returns the last signal, or 0.

    A second signal of the same kind acts at once, so that a program that hangs can still be stopped.
    """
    received = 0

    def record(signum, frame):
        nonlocal received
        received = signum
        signal.signal(signum, signal.SIG_DFL)

    handlers = {signum: signal.signal(signum, record) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: received
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
