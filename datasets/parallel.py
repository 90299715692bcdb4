"""One function of very many files: by a process per core, in order, under a bar."""

from typing import Any, Callable, Iterator, Sequence, TypeVar

import torch

from system.devices import usable_cores
from system.processes import processes_here
from utils import UserError, progress

Item, Result = TypeVar("Item"), TypeVar("Result")
LEAST = 256  # items that are worth a process of their own: it takes a while to start


def by_processes(function: Callable[[Item], Result], items: Sequence[Item], what: str, together: int = 64
                 ) -> Iterator[Result]:
    """``function`` of each item in order. What it raises of UserError and OSError is raised here.

    Each process gets ``together`` items at a time; at most two such parts of each wait to be taken.
    """
    workers = min(usable_cores() // processes_here(), len(items) // LEAST)
    workers = workers if workers > 1 else 0
    loader = torch.utils.data.DataLoader(_Parts(function, items, together), batch_size=None, num_workers=workers,
                                         collate_fn=_as_it_is, generator=torch.Generator())
    with progress(None, what, len(items), "image") as bar:
        for part in loader:
            for result in part:
                if isinstance(result, Exception):
                    raise result
                yield result
            bar.update(len(part))


class _Parts(torch.utils.data.Dataset):
    """The results of ``together`` items at a time; an error stands in its item's place, since processes hide it."""

    def __init__(self, function: Callable[[Item], Result], items: Sequence[Item], together: int) -> None:
        self.function, self.items, self.together = function, items, together

    def __len__(self) -> int:
        return -(-len(self.items) // self.together)

    def __getitem__(self, i: int) -> list[Any]:
        return [self._result(item) for item in self.items[i * self.together:(i + 1) * self.together]]

    def _result(self, item: Item) -> Any:
        try:
            return self.function(item)
        except (UserError, OSError) as error:
            return error


def _as_it_is(part: list[Any]) -> list[Any]:
    return part
