"""Errors, seeds and files, which all commands use."""

import _pyio
import errno
import hashlib
import json
import os
import platform
import stat
import subprocess
import sys

import numpy
import pytest
import torch
from PIL import Image

import utils
from conftest import REPOSITORY, ended
from models.checkpoints import load_checkpoint
from utils import UserError, fingerprint, run_command


@pytest.mark.parametrize("error, code, message", [
    (UserError("what\nis   wrong"), 2, "what is wrong"), (utils.Stopped(15, "stopped"), 143, "stopped"),
    (KeyboardInterrupt(), 130, "interrupted"), (MemoryError(), 2, "not enough memory"),
    (OSError(errno.ENOSPC, "No space left on device", "x.pth"), 2, "x.pth: No space left on device"),
    (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"), 2, "not valid Unicode")])
def test_a_users_mistake_is_one_line(error, code, message):
    def fail() -> None:
        raise error

    status, text = ended(fail)
    assert status == code and message in text and len(text.splitlines()) == 1


@pytest.mark.parametrize("argv, package", [(["train.py"], "tqdm"), (["train.py"], "torch"),
                                            (["test_matrix_multi.py", "--resume_dir", "."], "numpy"),
                                            (["-m", "datasets.synthetic", "x"], "PIL")])
def test_a_package_that_is_not_installed_is_one_line(tmp_path, argv, package):
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{package!r}] = None\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run([sys.executable, *argv], cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert f"the package {package} is not installed; pip install -r requirements.txt" in result.stderr


def test_a_closed_pipe_is_no_error():
    program = ("import signal; del signal.SIGPIPE; from utils import run_command\n"  # as on Windows
               "run_command(lambda: [print('x' * 100) for _ in range(1000)])")
    process = subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 141


PRINTER = ("import sys; sys.path.insert(0, {0!r}); import utils; from utils import run_command\n"
           "def main():\n    print('ä – ü'); print('warning: ß', file=sys.stderr)\n"
           "    list(utils.progress(range(3), 'Ö'))\n    raise utils.UserError('– ' + {1!r})\n"
           "run_command(main)")


@pytest.mark.parametrize("redirect", ["", "2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_ascii_terminals_and_closed_streams(redirect):
    program = PRINTER.format(str(REPOSITORY), "x" * 10000)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    result = subprocess.run(["bash", "-c", f'"$0" -c "$1" {redirect}', sys.executable, program], env=environment,
                            capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and "Traceback" not in result.stdout + result.stderr and len(result.stderr) < 500


def test_a_bug_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 / 0)


def test_seeds_are_functions_of_their_stream():
    seeds = {utils.derived_seed(seed, *stream) for seed in (0, 1) for stream in [("a",), ("b",), ("a", 1), ("a", 2)]}
    assert len(seeds) == 8 and all(0 <= seed < 2 ** 63 for seed in seeds)
    first, again = (torch.rand(3, generator=utils.generator(0, "x")) for _ in range(2))
    assert torch.equal(first, again)


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    utils.write_text(path, "one")
    with pytest.raises(RuntimeError):
        with utils.atomic_file(path, "w") as handle:
            handle.write("two")
            raise RuntimeError
    assert path.read_text() == "one" and [p.name for p in path.parent.iterdir()] == ["file.txt"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_text_files_have_the_same_bytes_on_every_system(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "linesep", "\r\n")  # as on Windows
    monkeypatch.setattr("builtins.open", _pyio.open)  # the built-in one knows its system's line ending
    utils.write_text(tmp_path / "images.list", "a.jpg 0\nb.jpg 1\n")
    assert (tmp_path / "images.list").read_bytes() == b"a.jpg 0\nb.jpg 1\n"


@pytest.mark.parametrize("module", [None, "numpy.core.multiarray", "numpy._core.multiarray"])
def test_numpy_scalars_of_either_numpy_are_read(tmp_path, module):
    """Scalars in the zip format, and in PyTorch's older format as either version of numpy writes it."""
    path = tmp_path / "x.t7"
    torch.save({"acc": numpy.float64(12.5)}, path, _use_new_zipfile_serialization=module is None)
    if module:
        content = path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
        path.write_bytes(content.replace(b"cnumpy.core.multiarray\n", f"c{module}\n".encode()))
    assert load_checkpoint(path)["acc"] == 12.5


def test_json_files_hold_null_instead_of_nan_and_infinity(tmp_path):
    utils.write_json(tmp_path / "x.json", {"a": float("nan"), "b": [float("inf"), (1.5,)]})
    assert json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail) == {"a": None, "b": [None, [1.5]]}


@pytest.mark.parametrize("name, side", [("x.jpg", 65501), ("x.pdf", 65501), ("x.webp", 16384)])
def test_a_picture_that_its_format_cannot_hold_is_refused_in_one_line(tmp_path, name, side):
    with pytest.raises(utils.UserError, match=f"{name}: 1 x {side} pixels are too many.*png"):
        utils.save_picture(Image.new("RGB", (1, side)), tmp_path / name)
    utils.save_picture(Image.new("RGB", (1, side)), tmp_path / "x.png")
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator can be configured")
@pytest.mark.parametrize("kept", [False, True])
def test_freed_memory_is_kept_for_the_next_array(kept):
    program = f"""
import numpy
from utils import keep_freed_memory
if {kept}:
    keep_freed_memory()
numpy.ones(2 ** 25)  # 256 MiB, freed at once
print(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert (int(result.stdout) > 256 * 1024) == kept


@pytest.mark.parametrize("values", [[], [1], [None, [["a", 2]], [[1, 2], [3, 4]]], ["ö", [], [[]] * 2500]])
def test_a_fingerprint_is_the_digest_of_the_lists_text_at_any_length(values):
    """Iterators count as lists. Earlier versions hashed the text of the whole list, so their states stay valid."""
    flat = [iter(value) if isinstance(value, list) else value for value in values]
    whole = hashlib.sha256(repr(values).encode()).hexdigest()
    assert fingerprint(values) == fingerprint(flat) == whole
