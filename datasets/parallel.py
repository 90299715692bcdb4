"""One function applied to very many files: a process per core, results in order, a progress bar."""

from typing import Any, Callable, Iterator, Sequence, TypeVar

import torch

from utils import UserError, processes_here, progress, usable_cores

Item, Result = TypeVar("Item"), TypeVar("Result")
ITEMS_PER_PROCESS = 256  # fewer items are not worth the time that a process takes to start


def by_processes(function: Callable[[Item], Result], items: Sequence[Item], description: str, chunk_size: int = 64
                 ) -> Iterator[Result]:
    """Yield ``function(item)`` of each item in order, and raise a UserError or OSError that it raises.

    Each process gets ``chunk_size`` items at a time; at most two finished chunks of each process wait in memory.
    """
    workers = min(usable_cores() // processes_here(), len(items) // ITEMS_PER_PROCESS)
    workers = workers if workers > 1 else 0
    loader = torch.utils.data.DataLoader(_Chunks(function, items, chunk_size), batch_size=None, num_workers=workers,
                                         collate_fn=_unchanged, generator=torch.Generator())
    with progress(None, description, len(items), "image") as bar:
        for chunk in loader:
            for result in chunk:
                if isinstance(result, Exception):
                    raise result
                yield result
            bar.update(len(chunk))


class _Chunks(torch.utils.data.Dataset):
    """The results of ``chunk_size`` items at a time.

    An error takes the place of its item's result, since a worker process would raise it as another error.
    """

    def __init__(self, function: Callable[[Item], Result], items: Sequence[Item], chunk_size: int) -> None:
        self.function, self.items, self.chunk_size = function, items, chunk_size

    def __len__(self) -> int:
        return -(-len(self.items) // self.chunk_size)

    def __getitem__(self, i: int) -> list[Any]:
        return [self._result(item) for item in self.items[i * self.chunk_size:(i + 1) * self.chunk_size]]

    def _result(self, item: Item) -> Any:
        try:
            return self.function(item)
        except (UserError, OSError) as error:
            return error


def _unchanged(chunk: list[Any]) -> list[Any]:
    return chunk
