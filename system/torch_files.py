"""Files of ``torch.save``, which are written atomically and read without running code from them."""

import codecs
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

from utils import UserError, atomic_file, placeholder


def save_checkpoint(path: str | os.PathLike, value: Any) -> None:
    """Write a file with ``torch.save``, atomically. Raises UserError if it cannot be written."""
    import torch

    try:
        with atomic_file(path) as handle:
            torch.save(value, handle)
    except RuntimeError as error:  # torch's writer gives no reason; a full disk is the usual one
        if "PytorchStreamWriter" not in str(error) and "unexpected pos" not in str(error):
            raise
        raise UserError(f"{path}: cannot be written (is the disk full?); free some space and resume with --restore"
                        ) from None


def load_checkpoint(path: str | os.PathLike) -> Any:
    """Return the content of a file of ``torch.save`` on the CPU, without running code that the file contains.

    It reads the format of PyTorch 1.0 as well. Raises UserError if the file is absent, damaged or holds more than
    tensors and plain values.
    """
    import torch

    if not Path(path).is_file():
        raise UserError(f"{path}: no such checkpoint file")
    if kind := placeholder(path):
        raise UserError(f"{path}: is {kind}")
    torch.serialization.add_safe_globals(_numpy_scalars())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch.load reports damage in many ways: RuntimeError, EOFError, KeyError, ...
        unpickled = isinstance(error, pickle.UnpicklingError)
        if unpickled and ("weights_only" in str(error).lower() or "Unsupported" in str(error)):
            raise UserError(f"{path}: refused, it holds more than tensors and plain values, "
                            "which could run code; save it again as a plain state dict") from None
        raise UserError(f"{path}: damaged or not a PyTorch checkpoint"
                        f"{'' if unpickled else f' ({type(error).__name__})'}; use another copy of it") from None


def _numpy_scalars() -> list:
    """Return the functions and types that unpickling numpy's scalars needs, under their names in numpy 1 and 2.

    The reference's checkpoints hold such a scalar.
    """
    import numpy

    core = numpy._core if numpy.lib.NumpyVersion(numpy.__version__) >= "2.0.0" else numpy.core

    kinds = (type(numpy.dtype(name)) for name in ("float64", "float32", "int64", "int32"))
    allowed = [codecs.encode, numpy.dtype, *kinds]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        def scalar(dtype, data=b""):
            return core.multiarray.scalar(dtype, data)

        scalar.__module__, scalar.__qualname__ = module, "scalar"
        allowed.append(scalar)
    return allowed
