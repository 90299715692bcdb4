"""Several processes training one set of networks: shares of a batch, averaged gradients, synchronized batch norm."""

from __future__ import annotations

import gc
import traceback
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Callable, Sequence, TypeVar

import torch
from torch import Tensor, distributed, nn

import utils
from utils import UserError

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Processes:
    """This process among all that train together: number ``rank`` of ``world``. One alone needs no communication.

    Of a batch of ``total`` samples, process r works on the samples r, r + world, …: no sample twice. Its losses are
    means over its own samples; weighted with :meth:`weight`, the average of the gradients over the processes is that
    of the whole batch, also where the shares differ by one. At the end of a ``with`` of them they leave each other.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def join(cls, device: torch.device) -> "Processes":
        """Join those that ``torchrun`` has started (NCCL on GPUs, gloo on CPUs), or be alone."""
        world = utils.number_of_processes()
        if world == 1:
            return cls()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(distributed.get_rank(), world)

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
                 ) -> None:
        """Wait for the others, where nothing went wrong, and end the communication and its threads.

        A wrapped network that anyone still holds keeps gloo's threads, and one that outlives the interpreter may end
        the process with a signal.
        """
        if self.world > 1 and distributed.is_initialized():
            traceback.clear_frames(trace)  # what has failed holds its networks as well
            gc.collect()  # wrapped networks that nobody holds may lie in cycles
            if kind is None:
                self.wait()
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
        """What a mean over ``own`` samples counts in an average over the processes: own · world / total."""
        return 1.0 if total is None else own * self.world / total

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            distributed.barrier()

    def first(self, work: Callable[[], object]) -> None:
        """The main process does something for all, and the others wait for up to a day; where it fails, so do all.

        What it raises is raised there alone; the others end without a word.
        """
        group = distributed.new_group(timeout=timedelta(days=1), backend="gloo") if self.world > 1 else None
        failure = None
        try:
            if self.main:
                work()
        except Exception as raised:
            failure = raised
        failed = torch.tensor(failure is not None, dtype=torch.int64)
        if self.world > 1:
            distributed.all_reduce(failed, distributed.ReduceOp.MAX, group)
            distributed.destroy_process_group(group)
        if failed:
            raise failure or UserError("")

    def sum(self, value: Tensor) -> Tensor:
        """The sum over the processes, the same in each."""
        if self.world > 1:
            distributed.all_reduce(value)
        return value

    def average(self, values: Sequence[Tensor]) -> Sequence[Tensor]:
        """The means over the processes of some tensors, the same in each."""
        if self.world == 1:
            return values
        flat = self.sum(torch.cat([value.flatten() for value in values])) / self.world
        return [part.view_as(value) for part, value in zip(flat.split([v.numel() for v in values]), values)]

    def max(self, value: Tensor) -> Tensor:
        """The maximum over the processes, the same in each."""
        if self.world > 1:
            distributed.all_reduce(value, distributed.ReduceOp.MAX)
        return value

    def mean(self, figures: dict[str, Tensor], weight: float = 1.0) -> dict[str, Tensor]:
        """Scalars of this process's samples → those of the whole batch, left on the device."""
        values = torch.stack([value.detach().float() for value in figures.values()]) * (weight / self.world)
        return dict(zip(figures, self.sum(values).unbind()))

    def wrap(self, network: Module) -> Module:
        """The network to call in training, whose gradients are averaged over the processes."""
        if self.world == 1:
            return network
        device = next(network.parameters()).device
        return nn.parallel.DistributedDataParallel(network, [device] if device.type == "cuda" else None)

    def synchronize_batch_norm(self, network: Module) -> Module:
        """Batch norm over the whole batch instead of each process's share; the state dict stays the same."""
        if self.world == 1:
            return network
        if next(network.parameters()).device.type == "cuda":
            return nn.SyncBatchNorm.convert_sync_batchnorm(network)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.__class__ = CPUSyncBatchNorm2d
        return network


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


class CPUSyncBatchNorm2d(nn.BatchNorm2d):
    """What ``nn.SyncBatchNorm`` is on GPUs alone, on the CPU: moments over the samples of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        if not self.training:
            return super().forward(x)
        size = torch.full((1,), x.numel() / x.shape[1], dtype=torch.float64)
        exact = x.double()
        sums = SumOverProcesses.apply(torch.cat([exact.sum((0, 2, 3)), exact.square().sum((0, 2, 3)), size]))
        count = sums[-1]
        mean, square = (sums[:-1] / count).chunk(2)
        var = (square - mean.square()).clamp_min(0)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.float(), self.momentum)
            self.running_var.lerp_((var * count / (count - 1)).float(), self.momentum)
        scale = self.weight.double() / (var + self.eps).sqrt()
        shift = self.bias.double() - mean * scale
        return (exact * scale[:, None, None] + shift[:, None, None]).to(x.dtype)
