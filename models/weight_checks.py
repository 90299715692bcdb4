"""What weights and optimizer states must be to be used: real, finite, of the right shapes, of a sane size."""

from __future__ import annotations

import math
from typing import Any, Iterator, Mapping

import torch
from torch import Tensor, nn

LARGEST = 1e10  # no weight or moment of a training that learns anything comes near it


def fault_of_weights(state: Mapping[Any, Any], largest: float = math.inf) -> str | None:
    """What is wrong with a state dict's values, or None: no tensor, no real numbers, NaN, infinite, exploded.

    Counters (``num_batches_tracked``) are whole numbers.
    """
    for key, value in state.items():
        if not isinstance(value, Tensor):
            return f"{key} is no tensor"
        if value.layout is not torch.strided or value.is_quantized or not value.numel() \
                or value.untyped_storage().nbytes() < value.numel() * value.element_size():
            return f"{key} is no ordinary tensor"  # sparse, empty, or a few values that pose as many
        if str(key).endswith("num_batches_tracked"):
            if value.is_floating_point() or value.is_complex() or value.numel() != 1:
                return f"{key} is no whole number"
            continue
        if not value.is_floating_point():
            return f"{key} holds {str(value.dtype).removeprefix('torch.')} values and no weights"
        low, high = torch.stack(value.detach().aminmax()).double().tolist()  # NaN passes through aminmax
        if not (math.isfinite(low) and math.isfinite(high)):
            return f"{key} holds {'NaN' if low != low or high != high else 'infinite'} values"
        if max(-low, high) > largest:
            return f"{key} holds values of {max(-low, high):.3g}"
    return None


def load_network(network: nn.Module, state: Any) -> None:
    """``load_state_dict``; ValueError for weights that cannot be used, RuntimeError for others than the network's."""
    if not isinstance(state, Mapping):
        raise ValueError("it holds no state dict")
    fault = fault_of_weights(state)
    if fault:
        raise ValueError(fault)
    network.load_state_dict(state)


def load_optimizer(optimizer: torch.optim.Optimizer, state: Any) -> None:
    """``load_state_dict``. Raises ValueError if a step with it would fail or spoil the weights."""
    optimizer.load_state_dict(state)
    for group in optimizer.param_groups:
        for name, default in optimizer.defaults.items():
            value = group.get(name, "")
            plain = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            same = plain if type(default) in (int, float) else type(value) is type(default)
            if not same or isinstance(default, (tuple, list)) and not all(isinstance(v, (int, float)) for v in value):
                raise ValueError(f"the optimizer's {name} is {str(value)[:40]!r}")
        for parameter in group["params"]:
            kept = optimizer.state.get(parameter, {})
            wanted = {"step", "exp_avg", "exp_avg_sq"}
            if isinstance(optimizer, torch.optim.SGD):
                wanted = {"momentum_buffer"}
            if kept and set(kept) != wanted:
                raise ValueError(f"the optimizer keeps {', '.join(map(str, kept))[:60]}, not {', '.join(wanted)}")
            for name, value in kept.items():
                if value is None and name == "momentum_buffer":
                    continue
                if not isinstance(value, Tensor) or value.shape != (() if name == "step" else parameter.shape):
                    raise ValueError(f"the optimizer's {name} is of another shape")
            fault = fault_of_weights({name: value for name, value in kept.items() if value is not None})
            if fault:
                raise ValueError(f"the optimizer's {fault}")


def networks_in(state: Any, name: str = "") -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """The networks' state dicts in a phase's state, by their place in it; not the optimizers'."""
    for key, value in state.items() if isinstance(state, Mapping) else ():
        if str(key).startswith(("optimizer", "scaler")):
            continue
        if isinstance(value, Mapping) and value and all(isinstance(tensor, Tensor) for tensor in value.values()):
            yield f"{name}{key}", value
        else:
            yield from networks_in(value, f"{name}{key} ")
