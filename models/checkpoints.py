"""Read and write the checkpoint files of METHOD §6; no other module of models/ knows files.

State dicts are plain: without a ``module.`` prefix, and on the CPU. Shapes are read off them if a checkpoint has no
config (those of the published code). A file is read once, its weights are scanned once, and a network is built once,
with the loaded tensors as its parameters. Every function raises UserError that names the file and the fault in it.
"""

import codecs
import hashlib
import math
import os
import pickle
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence, TypeVar

import numpy
import torch
from torch import Tensor, nn

import utils
from models.gan import SwapGAN, Swapper
from models.networks import VGG, Encoder, Generator, Perceptual, RecognizerNetwork, backbone_named, entry
from models.recognizer import Recognizer, heat_maps, real_features
from options.config import GANShape, options_of
from utils import UserError, atomic_file, fingerprint, placeholder

RUN_FOLDERS = ("state", "model", "VGG", "VGG_loss", "img", "log", "test_result", "splits", "cache")
LARGEST = 1e10  # no weight or moment of a training that works comes near it
STATE_DICT_NAMES = "net", "state_dict", "model_state_dict", "model"  # the keys of the weights in checkpoints
WRAPPERS = "module", "_orig_mod"  # name parts that DataParallel and torch.compile add to the keys

Backbone = TypeVar("Backbone", VGG, RecognizerNetwork)
Module = TypeVar("Module", bound=nn.Module)

KINDS = {  # of the values in a recognizer's metadata and in a GAN's
    "expressions": list, "listed": list, "neutral_name": str, "image_size": int, "data_dir": str, "selected_on": str,
    "alignment": dict, "encoder": str, "backbone": str, "fold": dict, "swap_quality": float}
KIND_NAMES = {list: "a list", str: "a text", int: "a whole number", float: "a number", dict: "a table"}


# ------------------------------------------------------------------------------------------------- the GAN

def save_gan(folder: Path, gan: SwapGAN, config: dict[str, Any], epochs_done: int) -> None:
    """Write ``{Enc,Dec,D1,D2}_iter_temp.pth``, after every tenth epoch ``…_iter_010.pth`` too, and ``config.json``."""
    names = ["temp"] + ([f"{epochs_done:03d}"] if epochs_done % 10 == 0 else [])
    for network in gan.NETWORKS:
        state = on_cpu(gan.network(network))
        for name in names:
            save_checkpoint(folder / f"{network}_iter_{name}.pth", state, old_format=True)
    utils.write_json(folder / "config.json", config)


def gan_file(folder: Path, network: str, epoch: int | None) -> Path:
    """Return the file of a network (Enc, Dec, D1, D2): the newest, or that of a GAN epoch."""
    return folder / f"{network}_iter_{'temp' if epoch is None else f'{epoch:03d}'}.pth"


def load_gan_networks(folder: Path, gan: SwapGAN, epoch: int | None, networks: tuple[str, ...]) -> None:
    """Load the named ``networks`` of a GAN (Enc, Dec, D1, D2) in place: the newest, or those of a GAN epoch."""
    for name in networks:
        path = gan_file(folder, name, epoch)
        state = read_weights(path)
        with naming(path):
            load_into(gan.network(name), state)


@dataclass(frozen=True)
class TrainedSwap:
    """A trained generator, its metadata (empty for files of the published code) and its expressions' names."""

    swapper: Swapper
    metadata: dict[str, Any]
    names: list[str]

    @property
    def alignment(self) -> dict[str, Any] | None:
        """The ``size`` and ``margin`` with which the training faces were aligned; None if they were not."""
        return self.metadata.get("alignment")


def load_trained_swap(folder: Path, epoch: int | None, expressions: Sequence[str], image_size: int,
                      device: torch.device) -> TrainedSwap:
    """Load encoder and decoder for inference; ``expressions`` and ``image_size`` are used without a ``config.json``."""
    metadata = gan_config(folder)
    names = list(metadata.get("expressions") or expressions)
    paths = [gan_file(folder, name, epoch) for name in ("Enc", "Dec")]
    encoder, decoder = map(read_weights, paths)
    with naming(paths[1]):
        shape = GANShape(**metadata["gan"]) if metadata else infer_shape(encoder, decoder, len(names), image_size)
    discriminator = gan_file(folder, "D1", epoch)
    if not metadata and discriminator.is_file():  # no other published file shows the number of expressions for certain
        state = read_weights(discriminator)
        with naming(discriminator):
            num_classes = entry(state, "conv.0.weight").shape[1] - 3
            if num_classes != len(names):
                raise ValueError(f"it was trained with {num_classes} expressions, not {len(names)}; name them with -a")
    with torch.device("meta"):
        generator = Generator(shape)
    for path, network, state in zip(paths, (generator.encoder, generator.decoder), (encoder, decoder)):
        with naming(path):
            load_into(network, state, assign=True)
    return TrainedSwap(Swapper(generator.eval().requires_grad_(False), device), metadata, names)


def load_swap_gan(folder: Path, epoch: int | None, expressions: Sequence[str], image_size: int, device: torch.device
                  ) -> Swapper:
    """Load encoder and decoder like :func:`load_trained_swap`, without metadata and names."""
    return load_trained_swap(folder, epoch, expressions, image_size, device).swapper


def infer_shape(encoder: Mapping[str, Tensor], decoder: Mapping[str, Tensor], num_classes: int, image_size: int
                ) -> GANShape:
    """Return the shape of a GAN, from the state dicts of files without metadata (the published code's).

    Raises ValueError if the decoder's label does not fit ``num_classes`` expressions.
    """
    width = entry(encoder, "main.0.0.weight").shape[0]
    planes, copies = entry(decoder, "main.0.0.weight").shape[0] - 16 * width, 20
    if planes == 0:
        return GANShape(num_classes, image_size, width, decoder_label=False)
    if planes == copies * num_classes:
        return GANShape(num_classes, image_size, width, label_copy=copies)
    raise ValueError(f"its {planes} label planes are not {copies} for each of {num_classes} expressions; "
                     "name those that it was trained with, in their order, with -a")


def save_exemplars(folder: Path, image: Tensor, expression: Sequence[int]) -> None:
    """Write ``exemplars.pth``: typical training images (E, 3, S, S) uint8 and their expressions."""
    save_checkpoint(folder / "exemplars.pth", {"image": image, "expression": list(expression)})


def load_exemplars(folder: Path, shape: GANShape) -> tuple[Tensor, list[int]] | None:
    """Return the images and expressions of ``exemplars.pth``, None without it. Raises UserError if they do not fit."""
    path = folder / "exemplars.pth"
    if not path.is_file():
        return None
    exemplars = load_checkpoint(path)
    image, expressions = map(exemplars.get, ("image", "expression")) if isinstance(exemplars, dict) else (None, None)
    if not isinstance(expressions, list) or not set(expressions) <= set(range(shape.num_classes)) \
            or not isinstance(image, Tensor) or image.dtype != torch.uint8 \
            or image.shape != (len(expressions), 3, shape.image_size, shape.image_size):
        raise UserError(f"{path}: damaged, it holds no images of side {shape.image_size} with their expressions; "
                        "delete it, or name faces with --target")
    return image, expressions


def gan_config(folder: Path) -> dict[str, Any]:
    """Return the ``config.json`` beside the GAN's networks; empty if there is none (the published code's files)."""
    path = folder / "config.json"
    if not path.is_file():
        return {}
    config, options = utils.read_json(path), {option.name: option for option in options_of(GANShape)}
    check_config(config, path, "restore it from a backup")
    gan, expressions = config.get("gan"), config.get("expressions") or []
    if not isinstance(gan, dict) or gan.keys() != {field.name for field in fields(GANShape)}:
        raise UserError(f"{path}: damaged, \"gan\" does not hold the shape of a GAN; restore it from a backup")
    faults = [f"\"{name}\" {fault}" for name, option in options.items() if (fault := option.fault(gan[name]))]
    faults += [f"\"{name}\" must be true or false" for name in ("decoder_label", "exp_label")
               if type(gan[name]) is not bool]
    if faults or gan["num_classes"] != len(expressions) or gan["image_size"] % 32:
        fault = faults[0] if faults else f"\"gan\" says {gan['num_classes']} classes of side {gan['image_size']}, " \
                                         f"for {len(expressions)} expressions"
        raise UserError(f"{path}: damaged, {fault}; restore it from a backup")
    return config


def check_config(config: Any, what: Path | str, advice: str) -> None:
    """Check the metadata of a checkpoint. Raises UserError that names the file, ``what``, and the key at fault."""
    if fault := next(_faults_of_config(config), None):
        raise UserError(f"{what}: damaged, {fault}; {advice}")


def _faults_of_config(config: Any) -> Iterator[str]:
    """Yield what is wrong with the metadata of a checkpoint; what follows the first fault has no meaning."""
    if not isinstance(config, dict):
        yield "it holds no table of names and values"
    given = {key: value for key, value in config.items() if key in KINDS and value is not None}
    for key, value in given.items():
        if type(value) is not KINDS[key]:
            yield f"\"{key}\" must be {KIND_NAMES[KINDS[key]]}"
        elif "\0" in str(value):
            yield f"\"{key}\" must not hold a zero byte"
    for key in {"expressions", "listed"} & given.keys():
        if not all(isinstance(name, str) for name in given[key]) or len(set(given[key])) < len(given[key]):
            yield f"\"{key}\" must hold different names"
    size = given.get("image_size", 32)
    if size % 32 or not 32 <= size <= 2048:
        yield f"\"image_size\" must be a multiple of 32 from 32 to 2048, not {size}"
    if not {type(given.get("alignment", {}).get(key, 0)) for key in ("size", "margin")} <= {int, float}:
        yield "\"alignment\" must hold a size and a margin"


# ------------------------------------------------------------------------------------------ the recognizer

@dataclass(frozen=True)
class TrainedRecognizer:
    """A trained recognizer with its encoder, its accuracy ``acc`` in percent on the selection images, and its step.

    ``config`` holds ``expressions``, ``image_size``, ``alignment`` and more; the published code's files have none.
    """

    recognizer: Recognizer
    encoder: Encoder
    config: dict[str, Any]
    acc: float
    step: int

    @property
    def num_classes(self) -> int:
        """The number of expressions."""
        return self.recognizer.network.new_fc.out_features

    @property
    def names(self) -> list[str]:
        """The names of the expressions, in the order of the probabilities; empty if they are unknown."""
        return list(self.config.get("expressions") or ())

    @property
    def image_size(self) -> int:
        """The side S of the training images in pixels; the paper's 256 if it is unknown."""
        return self.config.get("image_size") or 256

    @property
    def alignment(self) -> dict[str, Any] | None:
        """The ``size`` and ``margin`` with which the training faces were aligned; None if they were not."""
        return self.config.get("alignment")

    def recognize(self, image: Tensor) -> Tensor:
        """Return the probabilities (N, n) of the expressions in images (N, 3, S, S) in [-1, 1]."""
        image = image.to(self.recognizer.device)
        with torch.inference_mode():
            return self.recognizer.predict(image, real_features(self.encoder, image))

    def heat_maps(self, image: Tensor, expression: Tensor) -> Tensor:
        """Return the evidence for expressions (N,) in images (N, 3, S, S), as maps (N, S, S) in [0, 1]."""
        device = self.recognizer.device
        return heat_maps(self.recognizer.network, self.encoder, image.to(device), expression.to(device))


def save_recognizer(folder: Path, recognizer: Recognizer, encoder: Encoder, acc: float, config: dict[str, Any]) -> None:
    """Write ``max_ckpt.t7`` ({net, acc in percent, step, config}), and beside it ``Enc_max.pth``."""
    save_checkpoint(folder / "Enc_max.pth", on_cpu(encoder), old_format=True)
    checkpoint = {"net": on_cpu(recognizer.network), "acc": acc, "step": recognizer.steps,
                  "config": {**config, "encoder": weights_digest(encoder)}}
    save_checkpoint(folder / "max_ckpt.t7", checkpoint, old_format=True)


def load_recognizer(folder: Path, device: torch.device) -> TrainedRecognizer:
    """Load ``max_ckpt.t7`` and ``Enc_max.pth``, with the widths of their state dicts.

    Raises UserError if the files are absent, damaged, of another kind or from different runs.
    """
    path = folder / "max_ckpt.t7"
    if not path.is_file():
        raise UserError(f"{folder}: holds no max_ckpt.t7; name the VGG directory of a run, like "
                        "checkpoint/checkpoint_multipie/VGG")
    checkpoint = load_checkpoint(path)
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path}: damaged, it holds no table with \"net\"; use another copy of it")
    config = config_in(checkpoint, path)
    acc, step = (plain_number(checkpoint.get(name)) for name in ("acc", "step"))
    if type(acc) not in (int, float, type(None)) or type(step) not in (int, type(None)) or not -1 <= (acc or 0) <= 100 \
            or (step or 0) < 0:
        raise UserError(f"{path}: damaged, its \"acc\" or \"step\" is no number of its range; use another copy of it")
    with naming(path):
        state = plain(state_dict_in(checkpoint))
        network = built_from(state, backbone_named(config.get("backbone", "vgg19_bn")).fitting, state)
    encoder_state = read_weights(folder / "Enc_max.pth")
    with naming(folder / "Enc_max.pth"):
        encoder = built_from(encoder_state, Encoder, entry(encoder_state, "main.0.0.weight").shape[0])
        if network.base_width != encoder.base_width:
            raise ValueError(f"its base width is {encoder.base_width} and {path.name} needs {network.base_width}; "
                             "they are not of one run")
    encoder.to(device, memory_format=torch.channels_last).requires_grad_(False)
    names = config.get("expressions")
    if names is not None and len(names) != network.new_fc.out_features:
        raise UserError(f"{path}: damaged, its config does not name its {network.new_fc.out_features} expressions")
    return TrainedRecognizer(Recognizer(network.eval(), device=device), encoder.eval(), config,
                             -1.0 if acc is None else float(acc), step or 0)


# ----------------------------------------------------------------------------------------------------- VGG

@dataclass(frozen=True)
class TrainedPerceptual:
    """A perceptual network with its metadata (empty for files of other programs) and the width of its first layer."""

    network: Perceptual
    metadata: dict[str, Any]
    width: int


def read_perceptual(path: Path) -> TrainedPerceptual:
    """Load the perceptual network from ``<n>_max_ckpt.t7`` or from any VGG19-bn state dict."""
    checkpoint = load_checkpoint(path)
    metadata = config_in(checkpoint, path) if isinstance(checkpoint, dict) else {}
    with naming(path):
        state = plain(state_dict_in(checkpoint))
        width = entry(state, "features.0.weight").shape[0]
        deepest = max((len(value) for key, value in state.items() if key.startswith("features.") and value.ndim),
                      default=0)
        if deepest != 8 * width:
            raise ValueError(f"its features are {width} wide at first and {deepest} at last, which no VGG19's are")
        network = VGG(2, vgg_width=width, fc_width=1)
        network.start_from({key: value for key, value in state.items() if key.startswith("features.")})
    return TrainedPerceptual(Perceptual(network.features), metadata, width)


def read_classifier(path: Path, num_classes: int) -> VGG | None:
    """Return the network of a perceptual network's file as a classifier of ``num_classes`` expressions.

    None if the file is absent, or holds features alone or a classifier of another number of expressions.
    """
    state = plain(state_dict_in(load_checkpoint(path))) if path.is_file() else {}
    if len(state.get("new_fc.bias", ())) != num_classes:
        return None
    with naming(path):
        network = VGG(num_classes, *(entry(state, f"{name}.weight").shape[axis]
                                     for name, axis in (("features.0", 0), ("new_fc", 1))))
        load_into(network, state)
    return network


def config_in(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the config in a checkpoint; {} if it has none, or comes from another program.

    Raises UserError if the config is damaged.
    """
    config = checkpoint.get("config")
    if config is None or config == {} or "net" not in checkpoint:
        return {}
    check_config(config, f"{path}, config", "use another copy of it")
    return {key: value for key, value in config.items() if value is not None}


def plain_number(value: Any) -> Any:
    """Return a numpy or tensor scalar as a Python number, a whole one as int; any other value unchanged."""
    is_scalar = isinstance(value, numpy.generic) or isinstance(value, Tensor) and value.numel() == 1
    value = value.item() if is_scalar else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def initialize(network: Backbone, vgg_init: str | Path) -> Backbone:
    """Initialize a backbone from torchvision's ImageNet weights or from a file, as ``--vgg_init`` says, and return it.

    ``none`` and ``stage0`` leave it unchanged.
    """
    if vgg_init in ("none", "stage0"):
        return network
    checkpoint = imagenet_weights(network.weights) if vgg_init == "imagenet" else load_checkpoint(vgg_init)
    with naming(f"--vgg_init {vgg_init}"):
        network.start_from(plain(state_dict_in(checkpoint)))
    return network


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a file, without any wrapper."""
    checkpoint = load_checkpoint(path)
    with naming(path):
        return plain(state_dict_in(checkpoint))


def imagenet_weights(url: str) -> dict[str, Tensor]:
    """Return torchvision's weights, downloaded once into torch's cache. Raises UserError if that fails."""
    try:
        return torch.hub.load_state_dict_from_url(url, weights_only=True)
    except OSError as error:
        raise UserError("--vgg_init imagenet: torchvision's weights cannot be downloaded "
                        f"({getattr(error, 'reason', error)}); take a file you have with --vgg_init FILE, or start at "
                        "random with --vgg_init none") from None


# -------------------------------------------------------------------------------------------------------- state dicts

def fault_of_weights(state: Mapping[Any, Any], largest: float = math.inf) -> str | None:
    """Return the first fault of a state dict's values, None if there is none.

    Values must be ordinary tensors of real, finite numbers up to ``largest``; counters (``num_batches_tracked``) whole
    numbers.
    """
    for key, value in state.items():
        if not isinstance(value, Tensor) or value.layout is not torch.strided or value.is_quantized \
                or not value.numel() \
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


def weights_digest(network: nn.Module) -> str:
    """Return a SHA-256 of a network's weights, as hexadecimal digits."""
    return fingerprint((name, hashlib.sha256(value.cpu().contiguous().numpy().tobytes()).hexdigest())
                       for name, value in network.state_dict().items())


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
    """Build a network with a state dict's tensors as its parameters. Raises RuntimeError if they do not fit."""
    with torch.device("meta"):
        network = build(*arguments)
    load_into(network, state, assign=True)
    return network


def load_into(network: nn.Module, state: Mapping[str, Tensor], assign: bool = False) -> None:
    """Copy a plain state dict into a network, or with ``assign`` make its tensors the parameters of one that has none.

    Raises RuntimeError that names the keys which are missing, unexpected or of another shape.
    """
    counters = {key: torch.zeros_like(value, device="cpu") for key, value in network.state_dict().items()
                if key.endswith("num_batches_tracked")}  # which older files lack
    floats = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    network.load_state_dict({**counters, **floats}, assign=assign)


@contextmanager
def naming(what: Path | str) -> Iterator[None]:
    """Turn errors about a state dict within this context into UserErrors of one line that name its file, ``what``."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError, UserError) as error:
        line = " ".join(str(error).split())
        raise UserError(f"{what}: {line if len(line) <= 400 else line[:400] + ' ...'}") from None


# -------------------------------------------------------------------------------------------------------------- files

def save_checkpoint(path: str | os.PathLike, value: Any, old_format: bool = False) -> None:
    """Write a file with ``torch.save``, atomically. Raises UserError if it cannot be written.

    The old format is what PyTorch 1.0.1, which the published code needs, can read; size and time are the same.
    """
    try:
        with atomic_file(path) as handle:
            torch.save(value, handle, _use_new_zipfile_serialization=not old_format)
    except RuntimeError as error:  # torch's writer gives no reason; a full disk is the usual one
        if not any(text in str(error) for text in ("PytorchStreamWriter", "unexpected pos", "No space left")):
            raise
        raise UserError(f"{path}: cannot be written (is the disk full?); free some space and resume with --restore"
                        ) from None


def load_checkpoint(path: str | os.PathLike) -> Any:
    """Return the content of a file of ``torch.save`` on the CPU, without running code that the file contains.

    It reads the format of PyTorch 1.0 as well. Raises UserError if the file is absent, damaged or holds more than
    tensors and plain values.
    """
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
        if kind := other_format(Path(path), str(error)):
            raise UserError(f"{path}: {kind}") from None
        unpickled = isinstance(error, pickle.UnpicklingError)
        if unpickled and ("weights_only" in str(error).lower() or "Unsupported" in str(error)):
            raise UserError(f"{path}: refused, it holds more than tensors and plain values, "
                            "which could run code; save it again as a plain state dict") from None
        raise UserError(f"{path}: damaged or not a PyTorch checkpoint"
                        f"{'' if unpickled else f' ({type(error).__name__})'}; use another copy of it") from None


def other_format(path: Path, error: str) -> str | None:
    """Return what a file of weights is that ``torch.load`` refused with an error, and how to convert it, or None."""
    with open(path, "rb") as handle:
        start = handle.read(16)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return ("is a safetensors file; convert it with safetensors.torch: "
                f"torch.save(load_file(\"{path.name}\"), \"{path.stem}.pth\")")
    if "TorchScript" in error:
        return ("is a TorchScript program, not weights alone; convert it: "
                f"torch.save(torch.jit.load(\"{path.name}\").state_dict(), \"{path.stem}.pth\")")
    return None


def _numpy_scalars() -> list:
    """Return the functions and types that unpickling numpy's scalars needs, under their names in numpy 1 and 2.

    The reference's checkpoints hold such a scalar.
    """
    core = numpy._core if numpy.lib.NumpyVersion(numpy.__version__) >= "2.0.0" else numpy.core
    kinds = (type(numpy.dtype(name)) for name in ("float64", "float32", "int64", "int32"))
    allowed = [codecs.encode, numpy.dtype, *kinds]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        def scalar(dtype, data=b""):
            return core.multiarray.scalar(dtype, data)

        scalar.__module__, scalar.__qualname__ = module, "scalar"
        allowed.append(scalar)
    return allowed
