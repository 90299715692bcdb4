"""Shared helpers and fixtures: commands in this process, drawn faces, a finished run, damaged input."""

import contextlib
import importlib
import io
import itertools
import os
import pkgutil
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Sequence
from unittest import mock

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"
sys.path.insert(0, str(REPOSITORY))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests' networks are tiny, and two of them run at once

from utils import read_json, run_command  # noqa: E402

EXPRESSIONS = ["disgust", "scream", "smile", "squint", "surprise", "neutral"]
TINY = ["--image_size", 32, "--base_width", 2, "--vgg_width", 2, "--fc_width", 4, "--vgg_init", "none",
        "--perceptual_epochs", 1, "--epochs", 1, "--batch_size", 6, "--round_every", 1, "--round_epochs", 1,
        "--vgg_batch_size", 12, "--gan_raw", 1, "--gpu", -1]


def pytest_configure(config: pytest.Config) -> None:
    """Let xdist not start files of few, long tests last."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def shared(path: str) -> Path:
    """Return a file of the shared folder; skip the test if the folder does not lie beside the clone."""
    if not (SHARED / path).exists():
        pytest.skip(f"shared/{path} does not lie beside this clone")
    return SHARED / path


def command(*argv: object, cwd: str | Path = REPOSITORY) -> subprocess.CompletedProcess:
    """Run ``python <argv>`` on the CPU, as a user types it; the project's commands run in this process."""
    argv = list(map(str, argv))
    if not re.match(r"(train|test_matrix_multi)\.py |-m datasets\.", " ".join(argv) + " "):
        return new_process(*argv, cwd=cwd)
    name, options = (argv[1], argv[2:]) if argv[0] == "-m" else (argv[0].removesuffix(".py"), argv[1:])
    main, before = importlib.import_module(name).main, os.getcwd()
    os.chdir(cwd)
    try:
        with mock.patch("torch.cuda.is_available", return_value=False), \
                mock.patch("sys.argv", [f"{name}.py", *options]):
            return call(lambda: main(options))
    finally:
        os.chdir(before)


def train_command(*argv: object) -> subprocess.CompletedProcess:
    """Run ``python train.py <argv>`` in this process, in the test's working directory."""
    return command("train.py", *argv, cwd=".")


def restored(run: Path, *flags: object) -> subprocess.CompletedProcess:
    """Run ``python train.py --restore``: resume a run, or use it in the mode of the flags."""
    return train_command("--restore", "--checkpoint_dir", run, "--gpu", -1, *flags)


def matrix_command(*argv: object) -> subprocess.CompletedProcess:
    """Run ``python test_matrix_multi.py <argv>``."""
    return command("test_matrix_multi.py", *argv, "--gpu", -1)


def succeeds(result: subprocess.CompletedProcess) -> str:
    """Return the output of a command; the test fails unless its exit status is 0."""
    assert result.returncode == 0, result.stderr
    return result.stdout


def tiny(data: Path, folder: Path, *flags: object) -> list[object]:
    """Return the arguments with which ``train.py`` trains a tiny run, or resumes it."""
    return ["--data_dir", data, "--checkpoint_dir", folder, *TINY, *flags]


def trained(data: Path, folder: Path, *flags: object) -> str:
    """Train a tiny run, or resume it; return its output."""
    return succeeds(train_command(*tiny(data, folder, *flags)))


def new_process(*argv: object, cwd: str | Path = REPOSITORY, timeout: float = 300) -> subprocess.CompletedProcess:
    """Run ``python <argv>`` in a new process, on the CPU; output as text."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run([sys.executable, *map(str, argv)], cwd=cwd, env=environment, timeout=timeout,
                          capture_output=True, text=True)


def exit_status(action: Callable[[], Any]) -> int:
    """Return the exit status of a function that is called like a command."""
    try:
        run_command(lambda: action() and None)
    except SystemExit as end:
        return end.code or 0
    return 0


def forked(action: Callable[[], Any]) -> subprocess.CompletedProcess:
    """Call a function like a command in a fork of this process, which need not import torch and may be killed."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if not child:
            sys.stdout, sys.stderr, status = out, err, 1
            try:
                status = exit_status(action)
            except BaseException:
                traceback.print_exc(file=err)
            finally:
                out.flush(), err.flush()
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = [stream.seek(0) or stream.read() for stream in (out, err)]
    return subprocess.CompletedProcess(action, status, *texts)


AT_A_STEP, WHILE_WRITING, BEFORE_SYNC = "training.trainer.Run._save_if_due", "os.replace", "os.fsync"


def train_until(argv: Sequence[object], target: str, limit: int, signum: int = signal.SIGKILL
                ) -> subprocess.CompletedProcess:
    """Run ``train.py <argv>`` in a process that gets a signal at the ``limit``-th call of the function ``target``."""
    import train

    owner, _, name = target.rpartition(".")
    calls, original = itertools.count(1), getattr(pkgutil.resolve_name(owner), name)

    def counted(*arguments: Any, **settings: Any) -> Any:
        if next(calls) == limit:
            os.kill(os.getpid(), signum)
        return original(*arguments, **settings)

    with mock.patch(target, counted), mock.patch("sys.argv", ["train.py"]):
        return forked(lambda: train.main(list(map(str, argv))))


def refused(result: subprocess.CompletedProcess | Callable[[], Any], *messages: str) -> str:
    """Return the one line with which a command, or a function called like one, ends with exit status 2.

    It must hold all messages. A function must end within 10 seconds of CPU time.
    """
    if callable(result):
        began = time.process_time()
        result = call(result)
        assert time.process_time() - began < 10
    lines = [line for line in result.stderr.splitlines() if line.strip() and not line.startswith("warning:")]
    assert result.returncode == 2, (result.returncode, result.stdout, result.stderr)
    assert len(lines) == 1 and len(lines[0]) < 2000 and "Traceback" not in result.stderr, result.stderr
    assert all(message in lines[0] for message in messages), (messages, lines[0])
    return lines[0]


def call(action: Callable[[], Any]) -> subprocess.CompletedProcess:
    """Call a function like a command; a traceback fails the test."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = exit_status(action)
    return subprocess.CompletedProcess(action, status, out.getvalue(), err.getvalue())


def works_or_is_refused(action: Callable[[], Any]) -> bool:
    """Return whether a function succeeds; the test fails if it ends in another way than with one line."""
    result = call(action)
    if result.returncode:
        refused(result)
    return not result.returncode


def cases(count: int) -> Callable:
    """Return hypothesis's settings for ``count`` cases."""
    from hypothesis import HealthCheck, settings

    return settings(max_examples=count, deadline=None, database=None, derandomize=True,
                    suppress_health_check=list(HealthCheck))


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder by its path, and the target of every link."""
    return {path.relative_to(folder).as_posix(): str(path.readlink()).encode() if path.is_symlink()
            else path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file()}


def fill(folder: Path, *names: str) -> dict[str, bytes]:
    """Write files with these names that no program of the project writes; return their content by name."""
    contents = {name: f"mine: {name}".encode() for name in names}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return contents


def keep_networks(run: Path, epoch: int) -> None:
    """Copy the GAN's newest networks to the names of those of an epoch, which ``--restore N`` loads."""
    for name in ("Enc", "Dec", "D1", "D2"):
        shutil.copy(run / "model" / f"{name}_iter_temp.pth", run / "model" / f"{name}_iter_{epoch:03d}.pth")


def networks(run: Path, *patterns: str) -> dict[str, bytes]:
    """Return the weights of a run's networks as bytes, or of the files that match the patterns."""
    import torch

    weights = {}
    for pattern in patterns or ("model/*_iter_*.pth", "VGG/Enc_max.pth", "VGG*/*max_ckpt.t7"):
        for path in sorted(run.glob(pattern)):
            state = torch.load(path, weights_only=True)
            for name, value in state.get("net", state).items():
                weights[f"{path.name} {name}"] = value.numpy().tobytes()
    assert len(weights) > 10
    return weights


def first_layer(checkpoint: Path) -> bytes:
    """Return the first weights of a checkpoint of the recognizer or the perceptual network."""
    return networks(checkpoint.parent, checkpoint.name)[f"{checkpoint.name} features.0.weight"]


def matrix_of(folder: Path) -> dict:
    """Return the confusion matrix and its measures that a command has written into a directory."""
    return read_json(folder / "confusion_matrix.json")


def evaluated(run: Path, out: Path, *flags: object) -> dict:
    """Evaluate a run's recognizer; return its confusion matrix and measures."""
    succeeds(matrix_command("--resume_dir", run / "VGG", "--output_dir", out, *flags))
    return matrix_of(out)


def as_started_by_torchrun(monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    """Set the environment of a process that torchrun has started on this machine, of two."""
    environment = {"WORLD_SIZE": 2, "RANK": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2,
                   "MASTER_ADDR": "localhost", "MASTER_PORT": 1, **values}
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory of drawn faces: 6 persons to train on and 3 to test on, six expressions each, 32 pixels."""
    from datasets.drawing.data_set import make_dataset

    root = tmp_path_factory.mktemp("data") / "faces"
    make_dataset(root, image_size=32, subjects_train=6, subjects_test=3, scenes=1)
    return root


@pytest.fixture(scope="session")
def finished(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two GAN epochs on :func:`faces`. Tests that change it use :func:`finished_copy`."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    before = snapshot(faces)
    output = trained(faces, folder, "-a", *EXPRESSIONS, "--epochs", 2, "--gan_raw", 3)
    assert "mean class accuracy" in output and snapshot(faces) == before  # training only reads the data directory
    return folder


@pytest.fixture
def every_step_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trainings save their state after each step."""
    monkeypatch.setattr("training.trainer.SAVE_MINUTES", 0)


@pytest.fixture
def finished_copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "finished"))


@pytest.fixture
def broken(faces: Path, tmp_path: Path) -> Path:
    """A copy of the data directory, for tests that damage it."""
    return Path(shutil.copytree(faces, tmp_path / "broken"))


def untrained_run(folder: Path, names: list[str] = EXPRESSIONS, image_size: int = 32, alignment: dict | None = None,
                  widths: tuple[int, int, int] = (4, 4, 16)) -> Path:
    """Write the files of a run with untrained networks, which is enough for tests of their use; return the folder.

    Batch norm has processed some drawn faces, so that the answers differ from face to face.
    """
    import torch

    from datasets.drawing.data_set import truth
    from datasets.drawing.faces import EXPRESSIONS as DRAWN
    from datasets.loading import to_float, to_uint8
    from models.checkpoints import save_gan, save_recognizer
    from models.gan import SwapGAN
    from models.networks import VGG_fx
    from models.recognizer import Recognizer, real_features
    from options.config import GANShape

    torch.manual_seed(0)
    base, vgg, fc = widths
    gan = SwapGAN(GANShape(len(names), image_size, base))
    config = {"expressions": names, "listed": names, "neutral_name": names[-1], "image_size": image_size,
              "alignment": alignment, "data_dir": "", "selected_on": "val", "gan": dict(vars(gan.shape))}
    recognizer = Recognizer(VGG_fx(len(names), vgg, fc, base))
    faces = to_float(torch.stack([to_uint8(truth(f"p{i:04d}", "c1", name, image_size)) for i in (1, 2)
                                  for name in DRAWN]))
    with torch.no_grad():
        for _ in range(20):
            recognizer.network(faces, real_features(gan.encoder, faces))
        recognizer.network.new_fc.weight.mul_(50)
    save_gan(folder / "model", gan, config, 1)
    save_recognizer(folder / "VGG", recognizer, gan.encoder, 50.0, config)
    return folder
