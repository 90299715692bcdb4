"""Training with several processes: slices of a batch, averaged gradients, synchronized batch norm."""

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
from utils import UserError, number_of_processes, process_store

Module = TypeVar("Module", bound=nn.Module)
Result = TypeVar("Result")
FAILED = "failed"


@dataclass(frozen=True)
class Processes:
    """The processes that train together, of which this one has number ``rank`` of ``world``.

    A single process needs no communication. Of a batch of ``total`` samples, process r works on the samples r,
    r + world, …, so that no sample is used twice. Its losses are means over its own samples; weighted with
    :meth:`weight`, the average of the gradients over the processes is that of the whole batch, also where the slices
    differ by one. The end of a ``with`` block ends the communication.

    Tensors are sent with NCCL or gloo, small plain values through the key-value ``store`` of ``torchrun``.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")
    store: Any = field(default=None, repr=False, compare=False)
    _counter: Iterator[int] = field(default_factory=itertools.count, repr=False, compare=False)

    @classmethod
    def join(cls, device: torch.device) -> "Processes":
        """Join the processes that ``torchrun`` has started (NCCL on GPUs, gloo on CPUs), if there are any.

        Raises UserError if some of them have a GPU and others have none.
        """
        world = number_of_processes()
        if world == 1:
            return cls(device=device)
        store = process_store()
        joined = cls(int(os.environ["RANK"]), world, device, store)
        joined.check_same({"kind of device": device.type}, "start all with --gpu -1, or repair the machine whose GPU "
                          "does not work")
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", rank=joined.rank,
                                           world_size=world, store=distributed.PrefixStore("group", store))
        return joined

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
                 ) -> None:
        """Wait for the other processes and end the communication with its threads; after an error do neither.

        After an error the others may wait in a collective operation, and ``destroy_process_group`` would wait for them.
        A wrapped network that is still referenced keeps gloo's threads alive, and one that outlives the interpreter may
        end the process with a signal.
        """
        without_error = kind is None or issubclass(kind, utils.Stopped)
        if self.world > 1 and distributed.is_initialized() and without_error:
            traceback.clear_frames(trace)
            gc.collect()  # wrapped networks may lie in reference cycles
            self.any(False)  # waits for all processes
            distributed.destroy_process_group()

    @property
    def is_main(self) -> bool:
        """Whether this is the one process that writes and prints."""
        return self.rank == 0

    @property
    def rank_slice(self) -> slice:
        """This process's part of any sequence in the order of the whole batch."""
        return slice(self.rank, None, self.world)

    def weight(self, count: int, total: int | None) -> float:
        """Return the weight of a mean over ``count`` samples in a mean over the processes: count · world / total."""
        return 1.0 if total is None else count * self.world / total

    def run_on_main(self, work: Callable[[], Result]) -> Result:
        """Call ``work`` in the main process while the others wait, and return its result in every process.

        The result must be None or a JSON value. If the work fails, the main process raises the error, and every other
        process an empty UserError.
        """
        return self._run_on_one(work, self.is_main, "all")

    def run_on_each_machine(self, work: Callable[[], Result]) -> Result:
        """Call ``work`` in one process of each machine, else like :meth:`run_on_main`."""
        return self._run_on_one(work, os.environ.get("LOCAL_RANK", "0") == "0", os.environ.get("GROUP_RANK", "0"))

    def _run_on_one(self, work: Callable[[], Result], is_this: bool, group: str) -> Result:
        if self.world == 1:
            return work()
        key = f"result {next(self._counter)} {group}"
        if not is_this:
            result = self._wait_for(key)
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

    def _wait_for(self, key: str) -> str:
        """Return the value of a key of the store once another process has set it, however long that takes."""
        pause = 0.005
        while not self.store.check([key]):
            time.sleep(pause)
            pause = min(1.0, 1.5 * pause)
        return self.store.get(key).decode()

    def check_same(self, facts: dict[str, str], advice: str) -> None:
        """Check that ``facts``, a name → a value or its digest, are the same in all processes.

        Raises UserError in all processes if they are not; ``advice`` ends its text.
        """
        if self.world == 1:
            return
        number = next(self._counter)
        self.store.set(f"facts {number} {self.rank}", json.dumps([socket.gethostname(), facts]))
        host, first = json.loads(self._wait_for(f"facts {number} 0"))
        for rank in range(1, self.world):
            other_host, other = json.loads(self._wait_for(f"facts {number} {rank}"))
            for name, value in first.items():
                if other.get(name) != value:
                    raise UserError(f"process {rank} on {other_host} has another {name} ({str(other.get(name))[:16]}) "
                                    f"than process 0 on {host} ({str(value)[:16]}); {advice}")

    def broadcast(self, value: Any) -> Any:
        """Return the main process's value in every process: tensors (which arrive on the CPU) and plain values."""
        if self.world == 1:
            return value
        buffer = io.BytesIO()
        if self.is_main:
            torch.save(value, buffer)
        content = [buffer.getvalue()]
        distributed.broadcast_object_list(content, 0, device=self.device)
        return value if self.is_main else torch.load(io.BytesIO(content[0]), map_location="cpu", weights_only=True)

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum over the processes, the same in each."""
        if self.world > 1:
            distributed.all_reduce(value)
        return value

    def average(self, values: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the mean of each tensor over the processes, the same in each process."""
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
        """Return the scalars of the whole batch, which stay on the device, given those of this process's samples."""
        values = torch.stack([value.detach().float() for value in metrics.values()]) * (weight / self.world)
        return dict(zip(metrics, self.sum(values).unbind()))

    def wrap(self, network: Module) -> Module:
        """Return the network to call in training, whose gradients are averaged over the processes.

        Buffers are not broadcast: those of batch norm are the same in each process (:class:`SyncBatchNorm2d`).
        """
        if self.world == 1:
            return network
        kind, devices = nn.parallel.DistributedDataParallel, [self.device] if self.device.type == "cuda" else None
        for parameter in network.parameters():
            if parameter.ndim == 4 and parameter.shape[2:] == (1, 1):
                parameter.register_hook(partial(with_strides, parameter.stride()))
        is_newer = "forward_sync_buffers" in inspect.signature(kind).parameters
        return kind(network, devices, **{"forward_sync_buffers" if is_newer else "broadcast_buffers": False})

    def synchronize_batch_norm(self, network: Module) -> Module:
        """Let batch norm use the whole batch instead of each process's part; the state dict stays the same."""
        for module in network.modules() if self.world > 1 else ():
            if isinstance(module, nn.BatchNorm2d):
                module.__class__ = SyncBatchNorm2d
        return network


def with_strides(strides: tuple[int, ...], gradient: Tensor) -> Tensor:
    """Return the gradient of a 1×1 convolution's weights with the strides of the weights.

    In channels-last format cuDNN gives the two dimensions of size 1 other strides; the order in memory is the same,
    but DistributedDataParallel warns about it in every process. """
    return gradient.as_strided(gradient.shape, strides) if gradient.stride()[:2] == strides[:2] else gradient


class SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over the processes.

    The gradient is summed too, since each process's loss depends on every process's value.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        value = value.clone()
        distributed.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return SumOverProcesses.forward(ctx, gradient)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with the moments of all processes' samples, in one all-reduce.

    ``nn.SyncBatchNorm`` does not work on CPUs, and on GPUs the host waits for the device three times per layer. The
    moments of the processes are combined in float64.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        exact = x.double() if x.device.type == "cpu" else x.float()  # few GPUs compute fast in float64
        local_var, local_mean = (moment.double() for moment in torch.var_mean(exact, (0, 2, 3), correction=0))
        size = local_mean.new_full((1,), x.numel() / x.shape[1])
        sums = SumOverProcesses.apply(torch.cat([size * local_mean, size * (local_var + local_mean.square()), size]))
        count = sums[-1]
        mean, square = (sums[:-1] / count).chunk(2)
        var = (square - mean.square()).clamp_min(0)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.float(), self.momentum)
            self.running_var.lerp_((var * count / (count - 1)).float(), self.momentum)
        scale = self.weight.double() / (var + self.eps).sqrt()
        shift = self.bias.double() - mean * scale
        scale, shift = (vector.to(exact.dtype)[:, None, None] for vector in (scale, shift))
        return (exact * scale + shift).to(x.dtype)
