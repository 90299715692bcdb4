"""``by_processes``: a function of very many files in several processes."""

import os

import pytest
import torch

from datasets import loading
from datasets.loading import by_processes
from utils import UserError


@pytest.fixture(params=[1, 2], ids=["one process", "two processes"])
def processes(request, monkeypatch) -> int:
    monkeypatch.setattr(loading, "ITEMS_PER_PROCESS", 1)
    monkeypatch.setattr(loading, "usable_cores", lambda: request.param)
    return request.param


def square_and_process(number: int) -> tuple[int, int]:
    return number ** 2, os.getpid()


def test_results_come_in_order_from_all_processes(processes):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    results = list(by_processes(square_and_process, range(25), "squaring", chunk_size=2))
    assert [square for square, _ in results] == [number ** 2 for number in range(25)]
    assert len({process for _, process in results}) == processes
    assert (os.getpid() in {process for _, process in results}) == (processes == 1)
    assert torch.equal(torch.get_rng_state(), before)  # a training's random numbers do not change


def read(name: str) -> str:
    if name == "bad":
        raise UserError("bad: take another")
    return open(name).read()


def test_errors_are_those_of_the_function(processes, tmp_path):
    with pytest.raises(UserError, match="^bad: take another$"):
        list(by_processes(read, ["bad"] * 3, "reading"))
    with pytest.raises(FileNotFoundError) as raised:
        list(by_processes(read, [str(tmp_path / "none")], "reading"))
    assert raised.value.filename == str(tmp_path / "none") and raised.value.errno
