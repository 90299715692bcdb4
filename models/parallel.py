"""Several processes training one set of networks: slices of a batch, averaged gradients, synchronized batch norm."""

from __future__ import annotations

import gc
import inspect
import io
import itertools
import json
import os
import socket
import time
import traceback
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Callable, Iterator, Sequence, TypeVar

import torch
from torch import Tensor, distributed, nn

import utils
from system.processes import number_of_processes, process_store
from utils import UserError

Module = TypeVar("Module", bound=nn.Module)
Result = TypeVar("Result")
FAILED = "failed"
CHUNK = 1 << 26  # bytes that are sent at once


@dataclass(frozen=True)
class Processes:
    """This process among all that train together: number ``rank`` of ``world``. One alone needs no communication.

    Of a batch of ``total`` samples, process r works on the samples r, r + world, …: no sample twice. Its losses are
    means over its own samples; weighted with :meth:`weight`, the average of the gradients over the processes is that
    of the whole batch, also where the slices differ by one. At the end of a ``with`` of them they leave each other.

    Tensors travel by NCCL or gloo, small plain values by the ``store`` of ``torchrun``.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")
    store: Any = field(default=None, repr=False, compare=False)
    _turns: Iterator[int] = field(default_factory=itertools.count, repr=False, compare=False)

    @classmethod
    def join(cls, device: torch.device) -> "Processes":
        """Join those that ``torchrun`` has started (NCCL on GPUs, gloo on CPUs), or be alone.

        Raises UserError if some of them have a GPU and others have none.
        """
        world = number_of_processes()
        if world == 1:
            return cls(device=device)
        store = process_store()
        joined = cls(int(os.environ["RANK"]), world, device, store)
        joined.check_same({"kind of device": device.type}, "start all with --gpu -1, or mend the machine whose GPU "
                          "does not work")
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", rank=joined.rank,
                                           world_size=world, store=distributed.PrefixStore("group", store))
        return joined

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
                 ) -> None:
        """Wait for the others and end the communication with its threads; after an error leave without either.

        The others may wait in a collective operation: ``destroy_process_group`` would then wait for them. A wrapped
        network that anyone still holds keeps gloo's threads, and one that outlives the interpreter may end the process
        with a signal.
        """
        in_order = kind is None or issubclass(kind, utils.Stopped)
        if self.world > 1 and distributed.is_initialized() and in_order:
            traceback.clear_frames(trace)
            gc.collect()  # wrapped networks that nobody holds may lie in cycles
            self.any(False)  # until all are here
            distributed.destroy_process_group()

    @property
    def main(self) -> bool:
        """Whether this is the one process that writes and prints."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """This process's part of anything that is in the order of the whole batch."""
        return slice(self.rank, None, self.world)

    def weight(self, own: int, total: int | None) -> float:
        """Return the weight of a mean over ``own`` samples in an average over the processes: own · world / total."""
        return 1.0 if total is None else own * self.world / total

    def first(self, work: Callable[[], Result]) -> Result:
        """Let the main process do something while the others wait, and return its result in each process.

        The result is None or made of values that JSON knows. Where the work fails, the main process alone raises what
        went wrong, and the others an empty UserError.
        """
        return self._first(work, self.main, "all")

    def first_here(self, work: Callable[[], Result]) -> Result:
        """:meth:`first`, with one process of each machine in place of the main process."""
        return self._first(work, os.environ.get("LOCAL_RANK", "0") == "0", os.environ.get("GROUP_RANK", "0"))

    def _first(self, work: Callable[[], Result], chosen: bool, where: str) -> Result:
        if self.world == 1:
            return work()
        key = f"first {next(self._turns)} {where}"
        if not chosen:
            result = self._awaited(key)
            if result == FAILED:
                raise UserError("")
            return json.loads(result)
        try:
            result = work()
        except BaseException:
            self.store.set(key, FAILED)
            raise
        self.store.set(key, json.dumps(result))
        return result

    def _awaited(self, key: str) -> str:
        """Return the value of a key once another process has set it, however long that takes."""
        pause = 0.005
        while not self.store.check([key]):
            time.sleep(pause)
            pause = min(1.0, 1.5 * pause)
        return self.store.get(key).decode()

    def check_same(self, facts: dict[str, str], advice: str) -> None:
        """Raise UserError in all processes unless all have the same facts: what is compared → a value or its digest."""
        if self.world == 1:
            return
        turn = next(self._turns)
        self.store.set(f"facts {turn} {self.rank}", json.dumps([socket.gethostname(), facts]))
        host, first = json.loads(self._awaited(f"facts {turn} 0"))
        for rank in range(1, self.world):
            other_host, other = json.loads(self._awaited(f"facts {turn} {rank}"))
            for name, value in first.items():
                if other.get(name) != value:
                    raise UserError(f"process {rank} on {other_host} has another {name} ({str(other.get(name))[:16]}) "
                                    f"than process 0 on {host} ({str(value)[:16]}); {advice}")

    def send(self, value: Any) -> Any:
        """Return the main process's value in every process: tensors (which arrive on the CPU) and plain values."""
        if self.world == 1:
            return value
        buffer = io.BytesIO()
        if self.main:
            torch.save(value, buffer)
        size = self.max(torch.tensor(buffer.tell(), device=self.device)).item()
        for start in range(0, size, CHUNK):
            part = torch.empty(min(CHUNK, size - start), dtype=torch.uint8, device=self.device)
            if self.main:
                part.copy_(torch.frombuffer(buffer.getbuffer()[start:start + CHUNK], dtype=torch.uint8))
            distributed.broadcast(part, 0)
            if not self.main:
                buffer.write(part.cpu().numpy())
        buffer.seek(0)
        return value if self.main else torch.load(buffer, map_location="cpu", weights_only=True)

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum over the processes, the same in each."""
        if self.world > 1:
            distributed.all_reduce(value)
        return value

    def average(self, values: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the means over the processes of some tensors, the same in each."""
        if self.world == 1:
            return values
        flat = self.sum(torch.cat([value.flatten() for value in values])) / self.world
        return [part.view_as(value) for part, value in zip(flat.split([v.numel() for v in values]), values)]

    def max(self, value: Tensor) -> Tensor:
        """Return the maximum over the processes, the same in each."""
        if self.world > 1:
            distributed.all_reduce(value, distributed.ReduceOp.MAX)
        return value

    def any(self, fact: bool) -> bool:
        """Return whether a fact holds in any of the processes."""
        return bool(self.max(torch.tensor(int(fact), device=self.device)))

    def mean(self, metrics: dict[str, Tensor], weight: float = 1.0) -> dict[str, Tensor]:
        """Return scalars of the whole batch, left on the device, from those of this process's samples."""
        values = torch.stack([value.detach().float() for value in metrics.values()]) * (weight / self.world)
        return dict(zip(metrics, self.sum(values).unbind()))

    def wrap(self, network: Module) -> Module:
        """Return the network to call in training, whose gradients are averaged over the processes.

        Buffers are not sent around: those of batch norm are the same in each process (:class:`SyncBatchNorm2d`).
        """
        if self.world == 1:
            return network
        kind, devices = nn.parallel.DistributedDataParallel, [self.device] if self.device.type == "cuda" else None
        for parameter in network.parameters():
            if parameter.ndim == 4 and parameter.shape[2:] == (1, 1):
                parameter.register_hook(partial(with_strides, parameter.stride()))
        newer = "forward_sync_buffers" in inspect.signature(kind).parameters
        return kind(network, devices, **{"forward_sync_buffers" if newer else "broadcast_buffers": False})

    def synchronize_batch_norm(self, network: Module) -> Module:
        """Batch norm over the whole batch instead of each process's part; the state dict stays the same."""
        for module in network.modules() if self.world > 1 else ():
            if isinstance(module, nn.BatchNorm2d):
                module.__class__ = SyncBatchNorm2d
        return network


def with_strides(strides: tuple[int, ...], gradient: Tensor) -> Tensor:
    """Return the gradient of a 1×1 convolution's weights with the strides of the weights.

    Where channels come last, cuDNN gives the two dimensions of size 1 other strides; the order in memory is the same,
    but DistributedDataParallel warns about it in every process. """
    return gradient.as_strided(gradient.shape, strides) if gradient.stride()[:2] == strides[:2] else gradient


class SumOverProcesses(torch.autograd.Function):
    """The sum over the processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx, value: Tensor) -> Tensor:
        """Any shape → the same."""
        value = value.clone()
        distributed.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        """Each process's loss depends on every process's value."""
        return SumOverProcesses.forward(ctx, gradient)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with the moments of all processes' samples, in one all-reduce.

    ``nn.SyncBatchNorm`` does not work on CPUs, and on GPUs the host waits for the device three times per layer. The
    moments of the processes are combined in float64.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        if not self.training:
            return super().forward(x)
        exact = x.double() if x.device.type == "cpu" else x.float()  # few GPUs compute fast in float64
        own_var, own_mean = (moment.double() for moment in torch.var_mean(exact, (0, 2, 3), correction=0))
        size = own_mean.new_full((1,), x.numel() / x.shape[1])
        sums = SumOverProcesses.apply(torch.cat([size * own_mean, size * (own_var + own_mean.square()), size]))
        count = sums[-1]
        mean, square = (sums[:-1] / count).chunk(2)
        var = (square - mean.square()).clamp_min(0)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.float(), self.momentum)
            self.running_var.lerp_((var * count / (count - 1)).float(), self.momentum)
        scale = self.weight.double() / (var + self.eps).sqrt()
        shift = self.bias.double() - mean * scale
        scale, shift = (each.to(exact.dtype)[:, None, None] for each in (scale, shift))
        return (exact * scale + shift).to(x.dtype)
