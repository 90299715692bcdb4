"""State dicts: make those of any program plain, check their weights, and load them into networks.

A plain one has no ``module.`` prefix and lies on the CPU. Nothing here depends on particular networks. """

import math
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, TypeVar

import torch
from torch import Tensor, nn

from utils import UserError

Module = TypeVar("Module", bound=nn.Module)
LARGEST = 1e10  # no weight or moment of a training that works comes near it
STATE_DICT_NAMES = "net", "state_dict", "model_state_dict", "model"  # the keys of the weights in checkpoints
WRAPPERS = "module", "_orig_mod"  # name parts that DataParallel and torch.compile add to the keys


def fault_of_weights(state: Mapping[Any, Any], largest: float = math.inf) -> str | None:
    """Return the first fault of a state dict's values, None if there is none.

    Values must be ordinary tensors of real, finite numbers up to ``largest``; counters (``num_batches_tracked``) whole
    numbers.
    """
    for key, value in state.items():
        if not isinstance(value, Tensor):
            return f"{key} is no tensor"
        if value.layout is not torch.strided or value.is_quantized or not value.numel() \
                or value.untyped_storage().nbytes() < value.numel() * value.element_size():
            return f"{key} is no ordinary tensor"  # sparse, empty, or expanded from fewer values
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


def on_cpu(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a network's state dict on the CPU, in the ordinary memory format."""
    return {key: value.detach().to("cpu", copy=True).contiguous() for key, value in network.state_dict().items()}


def state_dict_in(checkpoint: Any) -> Any:
    """Return the state dict in a checkpoint: the checkpoint itself, or its entry ``net`` or of another usual name."""
    if isinstance(checkpoint, Mapping) and not all(isinstance(value, Tensor) for value in checkpoint.values()):
        for name in STATE_DICT_NAMES:
            if isinstance(checkpoint.get(name), Mapping):
                return state_dict_in(checkpoint[name])
    return checkpoint


def plain(state: Any) -> dict[str, Tensor]:
    """Return a state dict without the name parts that DataParallel and torch.compile add.

    Raises ValueError if it is no state dict, or has a faulty value or a name twice.
    """
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError("it holds no state dict (parameter names → tensors)")
    state = {key: value for key, value in state.items()  # a counter converted to half precision is useless
             if not (str(key).endswith("num_batches_tracked") and value.is_floating_point())}
    if fault := fault_of_weights(state):
        raise ValueError(fault)
    unwrapped = {".".join(part for part in str(key).split(".") if part not in WRAPPERS): value
                 for key, value in state.items()}
    if len(unwrapped) < len(state):
        raise ValueError("its state dict has a name twice, with and without a wrapper's")
    if all(key.startswith("model.") for key in unwrapped):
        return {key.removeprefix("model."): value for key, value in unwrapped.items()}
    return unwrapped


def built_from(state: Mapping[str, Tensor], build: Callable[..., Module], *arguments: Any) -> Module:
    """Build a network with a state dict's tensors as its parameters. Raises ValueError if they do not fit."""
    with torch.device("meta"):
        network = build(*arguments)
    assign(network, state)
    return network


def assign(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Make a state dict's tensors the parameters of a network on the meta device, which takes no memory itself.

    Raises ValueError that names the missing, unexpected and misshapen keys in one line.
    """
    check_fit(network, state)
    counters = {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in network.state_dict().items()
                if key not in state}  # batch norm's, which older files lack
    floats = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    network.load_state_dict({**counters, **floats}, assign=True)


def load_into(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy a plain state dict into a network.

    Raises ValueError that names the missing, unexpected and misshapen keys in one line.
    """
    check_fit(network, state)
    network.load_state_dict({**network.state_dict(), **state})


def check_fit(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Check that a network can take a plain state dict.

    Raises ValueError that names the missing, unexpected and misshapen keys in one line.
    """
    expected = network.state_dict()
    faults = [f"{key} is missing" for key in expected if key not in state and not key.endswith("num_batches_tracked")]
    faults += [f"{key} is unexpected" for key in state if key not in expected]
    faults += [f"{key} is {tuple(state[key].shape)} and not {tuple(expected[key].shape)}"
               for key in expected if key in state and state[key].shape != expected[key].shape]
    if faults:
        more = f" and {len(faults) - 4} more" if len(faults) > 4 else ""
        raise ValueError("its state dict does not fit the network: " + ", ".join(faults[:4]) + more)


def entry(state: Mapping[str, Tensor], key: str) -> Tensor:
    """Return a weight of at least two dimensions. Raises ValueError if the state dict lacks it."""
    if key not in state or state[key].ndim < 2:
        raise ValueError(f"its state dict has no {key}")
    return state[key]


@contextmanager
def naming(what: Path | str) -> Iterator[None]:
    """Turn errors about a state dict within this context into UserErrors that name its file, ``what``."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{what}: {error}") from None
