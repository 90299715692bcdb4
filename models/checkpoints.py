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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence, TypeVar

import numpy
import torch
from torch import Tensor, nn

import utils
from models.gan import SwapGAN, Swapper
from models.networks import VGG, Encoder, Generator, Perceptual, RecognizerNetwork, backbone_named, entry
from models.recognizer import Recognizer, heat_maps, real_features
from options.config import GANShape, RecognizerShape, options_of
from options.schema import NAMES, anything, check, list_of, number, optional, text, whole_number
from utils import UserError, atomic_file, fingerprint, placeholder

RUN_FOLDERS = ("state", "model", "VGG", "VGG_loss", "img", "log", "test_result", "splits", "cache")
LARGEST = 1e10  # no weight or moment of a training that works comes near it
STATE_DICT_NAMES = "net", "state_dict", "model_state_dict", "model"  # the keys of the weights in checkpoints
WRAPPERS = "module", "_orig_mod"  # name parts that DataParallel and torch.compile add to the keys

Backbone = TypeVar("Backbone", VGG, RecognizerNetwork)
Module = TypeVar("Module", bound=nn.Module)

GAN_SHAPE = {option.name: option.fault for option in options_of(GANShape)}
IMAGE_SIZE = GAN_SHAPE["image_size"]
CONFIG = {  # the metadata in a recognizer's file and beside a GAN's
    "expressions": NAMES, "listed": optional(list_of(text(200))), "neutral_name": optional(text(200)),
    "image_size": optional(IMAGE_SIZE), "data_dir": optional(text()), "selected_on": optional(text(20)),
    "alignment": optional({"size": whole_number(1, 16384), "margin": number(-0.5, 10)}),
    "encoder": optional(text(64)),
    "backbone": optional(options_of(RecognizerShape)[0].fault),
    "fold": optional({"number": whole_number(1), "of": whole_number(2), "by": text(20), "seed": whole_number(),
                      "images": text(200)})}
GAN_CONFIG = {"gan": {"num_classes": whole_number(2, 1000), **GAN_SHAPE}}
FOREIGN_CONFIG = {**CONFIG, "expressions": optional(NAMES)}  # other programs' files may lack the names


# ------------------------------------------------------------------------------------------------- the GAN

def save_gan(folder: Path, gan: SwapGAN, config: dict[str, Any], epochs_done: int) -> None:
    """Write ``{Enc,Dec,D1,D2}_iter_temp.pth``, after every tenth epoch ``…_iter_010.pth`` too, and ``config.json``."""
    names = ["temp"] + ([f"{epochs_done:03d}"] if epochs_done % 10 == 0 else [])
    for network in gan.NETWORKS:
        state = on_cpu(gan.network(network))
        for name in names:
            save_checkpoint(folder / f"{network}_iter_{name}.pth", state)
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
            load_into(gan.network(name), with_reconstruct_planes(state, gan.shape) if name == "Dec" else state)


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
            assign(network, state)
    return TrainedSwap(Swapper(generator.eval().requires_grad_(False), device), metadata, names)


def load_swap_gan(folder: Path, epoch: int | None, expressions: Sequence[str], image_size: int, device: torch.device
                  ) -> Swapper:
    """Load encoder and decoder like :func:`load_trained_swap`, without metadata and names."""
    return load_trained_swap(folder, epoch, expressions, image_size, device).swapper


def with_reconstruct_planes(decoder: Mapping[str, Tensor], shape: GANShape) -> Mapping[str, Tensor]:
    """Return a decoder's state dict with zero weights for the additional label entry of ``--exp_label``.

    The published code ignores the flag, so its decoders lack that entry; any other state dict is returned unchanged.
    """
    key, n, copies = "main.0.0.weight", shape.num_classes, shape.label_copy
    codes = 16 * shape.base_width
    if not (shape.exp_label and shape.decoder_label and entry(decoder, key).shape[0] == codes + copies * n):
        return decoder
    for_codes, for_label = decoder[key].split([codes, copies * n])
    for_label = torch.nn.functional.pad(for_label.unflatten(0, (copies, n)), (0,) * 7 + (1,))
    return {**decoder, key: torch.cat([for_codes, for_label.flatten(0, 1)])}


def infer_shape(encoder: Mapping[str, Tensor], decoder: Mapping[str, Tensor], num_classes: int, image_size: int
                ) -> GANShape:
    """Return the shape of a GAN, from the state dicts of files without metadata (the published code's).

    Raises ValueError if the decoder's label does not fit ``num_classes`` expressions.
    """
    width = entry(encoder, "main.0.0.weight").shape[0]
    planes, copies = entry(decoder, "main.0.0.weight").shape[0] - 16 * width, 20
    if planes == 0:
        return GANShape(num_classes, image_size, width, decoder_label=False)
    for exp_label in (False, True):
        if planes == copies * (num_classes + exp_label):
            return GANShape(num_classes, image_size, width, label_copy=copies, exp_label=exp_label)
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
    schema = {"image": anything, "expression": list_of(whole_number(0, shape.num_classes - 1), least=1)}
    exemplars = check(load_checkpoint(path), schema, path, "delete it, or name faces with --target")
    image, expected = exemplars["image"], (len(exemplars["expression"]), 3, shape.image_size, shape.image_size)
    if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.shape != expected:
        raise UserError(f"{path}: damaged, it holds no images {expected}; delete it, or name faces with --target")
    return image, exemplars["expression"]


def gan_config(folder: Path) -> dict[str, Any]:
    """Return the ``config.json`` beside the GAN's networks; empty if there is none (the published code's files)."""
    path = folder / "config.json"
    if not path.is_file():
        return {}
    config = check(utils.read_json(path), {**CONFIG, **GAN_CONFIG}, path)
    unknown = sorted(config["gan"].keys() - GAN_CONFIG["gan"].keys())
    if unknown:
        raise UserError(f"{path}: damaged, \"gan\" has an unknown \"{str(unknown[0])[:60]}\"; restore it from a backup")
    num_classes, size = config["gan"]["num_classes"], config["gan"]["image_size"]
    if num_classes != len(config["expressions"]) or size % 32:
        raise UserError(f"{path}: damaged, \"gan\" says {num_classes} classes of side {size}, for "
                        f"{len(config['expressions'])} expressions; restore it from a backup")
    return config


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
    save_checkpoint(folder / "Enc_max.pth", on_cpu(encoder))
    save_checkpoint(folder / "max_ckpt.t7",
                    {"net": on_cpu(recognizer.network), "acc": acc, "step": recognizer.steps,
                     "config": {**config, "encoder": weights_digest(encoder)}})


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
    progress = {name: plain_number(checkpoint.get(name)) for name in ("acc", "step")}
    check(progress, {"acc": optional(number(-1, 100)), "step": optional(whole_number(most=10 ** 12))}, path)
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
    acc, step = progress["acc"], progress["step"]
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


def config_in(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the config in a checkpoint; {} if it has none, or comes from another program.

    Raises UserError if the config is damaged.
    """
    config = checkpoint.get("config")
    if config is None or config == {} or "net" not in checkpoint:
        return {}
    check(config, FOREIGN_CONFIG, f"{path}, config", "use another copy of it")
    if config.get("image_size") and config["image_size"] % 32:
        raise UserError(f"{path}, config: damaged, \"image_size\" must be a multiple of 32; use another copy of it")
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


@contextmanager
def naming(what: Path | str) -> Iterator[None]:
    """Turn errors about a state dict within this context into UserErrors that name its file, ``what``."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError, UserError) as error:
        raise UserError(f"{what}: {error}") from None


# -------------------------------------------------------------------------------------------------------------- files

def save_checkpoint(path: str | os.PathLike, value: Any) -> None:
    """Write a file with ``torch.save``, atomically. Raises UserError if it cannot be written."""
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
    core = numpy._core if numpy.lib.NumpyVersion(numpy.__version__) >= "2.0.0" else numpy.core

    kinds = (type(numpy.dtype(name)) for name in ("float64", "float32", "int64", "int32"))
    allowed = [codecs.encode, numpy.dtype, *kinds]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        def scalar(dtype, data=b""):
            return core.multiarray.scalar(dtype, data)

        scalar.__module__, scalar.__qualname__ = module, "scalar"
        allowed.append(scalar)
    return allowed
