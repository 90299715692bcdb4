"""Errors, seeds and files: what every command stands on."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import platform
import stat
import subprocess
import sys

import numpy
import pytest
import torch

import utils
from conftest import REPOSITORY
from training.log import RunLog
from training.state import StateStore
from utils import UserError, fingerprint


def ending(action, capsys) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        utils.run_command(action)
    return end.value.code, capsys.readouterr().err


def raising(error: BaseException):
    def action():
        raise error
    return action


@pytest.mark.parametrize("error, code, words", [
    (UserError("what\nis   wrong"), 2, "what is wrong"), (utils.Stopped(15, "stopped"), 143, "stopped"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (OSError(errno.ENOSPC, "No space left on device", "x.pth"), 2, "x.pth: No space left on device")])
def test_a_users_trouble_is_one_line(error, code, words, capsys):
    status, text = ending(raising(error), capsys)
    assert status == code and words in text and len(text.splitlines()) == 1


@pytest.mark.parametrize("words, package", [(["train.py"], "tqdm"), (["train.py"], "torch"),
                                             (["-m", "datasets.check", "x"], "numpy"),
                                             (["-m", "datasets.synthetic", "x"], "PIL")])
def test_a_package_that_is_not_installed_is_one_line(tmp_path, words, package):
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{package!r}] = None\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run([sys.executable, *words], cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert f"the package {package} is not installed; pip install -r requirements.txt" in result.stderr


def test_a_closed_pipe_is_no_error():
    program = "import utils; utils.run_command(lambda: [print('x' * 100) for _ in range(1000)])"
    process = subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 141


def test_a_bug_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        utils.run_command(lambda: 1 / 0)


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


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_numpy_scalars_of_either_numpy_are_read(tmp_path, legacy, module):
    torch.save({"acc": numpy.float64(12.5)}, tmp_path / "x.t7", _use_new_zipfile_serialization=not legacy)
    if not legacy:
        assert utils.load_checkpoint(tmp_path / "x.t7")["acc"] == 12.5
        return
    content = (tmp_path / "x.t7").read_bytes()
    for own in (b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"):
        content = content.replace(own, f"c{module}\n".encode())
    (tmp_path / "x.t7").write_bytes(content)
    assert utils.load_checkpoint(tmp_path / "x.t7")["acc"] == 12.5


def test_states_rotate_and_keep_two(tmp_path):
    store = StateStore(tmp_path)
    assert not store.exists() and store.newest() is None
    for step in range(4):
        store.save({"step": step})
    assert sorted(p.name for p in tmp_path.glob("*.pth")) == ["state_000003.pth", "state_000004.pth"]
    assert store.load() == {"step": 3}
    store.newest().write_bytes(b"damaged")
    assert store.load() == {"step": 2}
    store.save({"step": 4})  # the sound one before is kept, the damaged one goes
    store.newest().write_bytes(b"damaged")
    assert store.load() == {"step": 2}


def test_log_goes_on_where_the_state_was_saved(tmp_path):
    log = RunLog(tmp_path)
    log.write("gan", 0, 1, {"loss": 0.5})
    position = log.position
    log.write("gan", 0, 2, {"loss": 0.25})
    RunLog(tmp_path, position).write("gan", 0, 2, {"loss": 0.125})
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines == ["phase,epoch,step,name,value", "gan,0,1,loss,0.5", "gan,0,2,loss,0.125"]


def test_pictures_need_a_known_ending(tmp_path):
    from PIL import Image

    with pytest.raises(UserError, match=r"x\.txt.*\.png, \.jpg or \.pdf"):
        utils.save_picture(Image.new("RGB", (4, 4)), tmp_path / "x.txt")
    utils.save_picture(Image.new("RGB", (4, 4), "red"), tmp_path / "x.png")
    assert Image.open(io.BytesIO((tmp_path / "x.png").read_bytes())).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone can be told")
@pytest.mark.parametrize("kept", [False, True])
def test_freed_memory_is_kept_for_the_next_array(kept):
    program = f"""
import numpy, utils
if {kept}:
    utils.keep_freed_memory()
numpy.ones(2 ** 25)  # 256 MiB, freed at once
print(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])
"""
    left = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert (int(left.stdout) > 256 * 1024) == kept


@pytest.mark.parametrize("values", [[], [1], [None, [["a", 2]], [[1, 2], [3, 4]]], ["ö", [], [[]] * 2500]])
def test_a_fingerprint_is_that_of_the_list_at_whatever_length(values):
    """Iterators count as lists, and 1000 values at a time are one text: states of before know the whole one's."""
    flat = [iter(value) if isinstance(value, list) else value for value in values]
    whole = hashlib.sha256(repr(values).encode()).hexdigest()
    assert fingerprint(values) == fingerprint(flat) == whole
