"""The networks of METHOD §1 and the swap of §2: layers, encoder, decoder, generator, discriminators, VGG, recognizers.

Tensors in, tensors out. Further initializations and constraints, which the paper does not have, are at the end.
"""

from itertools import chain
from typing import Any, Mapping, NamedTuple, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import VGG19_BN_Weights
from torchvision.models import vgg as torchvision_vgg

from options.config import GANShape
from utils import UserError

# ------------------------------------------------------------------------------------------------------------- layers

UP = {"stride": 2, "padding": 1, "output_padding": 1}  # a transposed 3×3 kernel then doubles the side exactly


class _ScaledDirection(torch.autograd.Function):
    """``F.normalize(x) * alpha + beta`` in half as many passes over the maps, forward and backward.

    Input, saved maps and output keep their half precision; the computation is in float32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        exact = full_precision(x)
        norm = torch.linalg.vector_norm(exact, dim=1, keepdim=True).clamp_min(1e-12)
        ctx.save_for_backward(x, alpha, norm)
        return torch.addcmul(beta, exact, alpha / norm).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        saved_x, alpha, norm = ctx.saved_tensors
        x, gradient = full_precision(saved_x), full_precision(gradient)
        projection = (gradient * x).sum(1, keepdim=True) / norm
        grad_x = torch.addcmul(gradient, x, -projection / norm).mul_(alpha / norm)
        grad_alpha, grad_beta = (maps.sum().reshape(1) if needed else None
                                 for maps, needed in zip((projection, gradient), ctx.needs_input_grad[1:]))
        return grad_x.to(saved_x.dtype), grad_alpha, grad_beta


class Normalization(nn.Module):
    """Division by the L2 norm over channels at each position, with one learned gain and one offset (METHOD §1).

    Maps (N, C, H, W) keep their shape and type. The computation is in float32, also under autocast.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1))
        self.beta = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return _ScaledDirection.apply(x, self.alpha, self.beta)


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """Return the context in which networks are computed in a ``dtype``; None is float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def full_precision(x: Tensor) -> Tensor:
    """Return a tensor of half precision as float32, one of float32 or float64 unchanged."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def load_state(owner: nn.Module | torch.optim.Optimizer | torch.amp.GradScaler, state: dict[str, Any]) -> None:
    """Restore the state of a network, optimizer or gradient scaler.

    The state of a scaler is empty if it was not in use; a run that is continued in fp16 then starts with a new one.
    """
    if state or not isinstance(owner, torch.amp.GradScaler):
        owner.load_state_dict(state)


def down_layers(in_chans: int, out_chans: int, conv: type[nn.Conv2d] = nn.Conv2d) -> list[nn.Module]:
    """Return conv 3×3 stride 2, Normalization, LeakyReLU 0.2: (N, in, H, W) → (N, out, H/2, W/2)."""
    return [conv(in_chans, out_chans, 3, stride=2, padding=1), Normalization(), nn.LeakyReLU(0.2, inplace=True)]


def up_layers(in_chans: int, out_chans: int, conv: type[nn.ConvTranspose2d] = nn.ConvTranspose2d) -> list[nn.Module]:
    """Return transposed conv 3×3 stride 2, Normalization, ReLU: (N, in, H, W) → (N, out, 2H, 2W)."""
    return [conv(in_chans, out_chans, 3, **UP), Normalization(), nn.ReLU(inplace=True)]


def init_weights(module: nn.Module) -> None:
    """Initialize one module, for ``network.apply``: conv and linear weights N(0, 0.02), linear bias 0 (METHOD §1)."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def add_to_each(edits: Tensor, source: Tensor) -> Tensor:
    """Return (K·N, C, H, W) + (N, C, H, W): the source's map is added to each of its K edits, rows i, N + i, ….

    The sum is computed with the channels last, so that channels-last maps and their gradients keep that memory format.
    """
    edits, source = (maps.permute(0, 2, 3, 1) for maps in (edits, source))
    return (edits.unflatten(0, (-1, source.shape[0])) + source).flatten(0, 1).permute(0, 3, 1, 2)


def average_pool_2x2(image: Tensor) -> Tensor:
    """Pool (N, C, H, W) → (N, C, H/2, W/2) by averages; torch's own is slow for few channels in channels-last."""
    upper, lower = image.permute(0, 2, 3, 1).unflatten(1, (-1, 2)).unbind(2)
    left, right = (upper + lower).unflatten(2, (-1, 2)).unbind(3)
    return (left + right).mul(0.25).permute(0, 3, 1, 2)


def every_nth(maps: Tensor, n: int) -> Tensor:
    """Return the rows of every ``n``-th pair, from the first on, of maps of A and B of all pairs (2N, …)."""
    return maps if n == 1 else torch.cat([half[::n] for half in maps.chunk(2)])


def constant_planes(label: Tensor, size: Sequence[int]) -> Tensor:
    """Return a label (N, K) as K constant planes of a size (H, W): (N, K, H, W)."""
    return label[:, :, None, None].expand(-1, -1, *size)


# ------------------------------------------------------------------------------------------------ encoder and decoder

class Encoder(nn.Module):
    """The encoder: images (N, 3, S, S) in [-1, 1] → code (N, 8w, S/32, S/32) and four skips, largest first (METHOD §1).

    The skips are (N, w, S/2, S/2), (N, 2w, S/4, S/4), (N, 4w, S/8, S/8) and (N, 8w, S/16, S/16).
    """

    def __init__(self, base_width: int = 64) -> None:
        super().__init__()
        self.base_width = base_width
        chans = [3] + [base_width * factor for factor in (1, 2, 4, 8, 8)]
        self.main = nn.ModuleList(nn.Sequential(*down_layers(a, b)) for a, b in zip(chans, chans[1:]))
        self.apply(init_weights)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps = []
        for block in self.main:
            image = block(image)
            maps.append(image)
        return maps[-1], maps[:-1]


class EditConv(nn.ConvTranspose2d):
    """The decoder's first layer, of cat(edited code, source code, the copies of the label's planes).

    What several edits have in common is computed once: the source's part for all its edits, the label's for all copies.
    """

    def forward(self, edited: Tensor, source: Tensor, label: Tensor | None) -> Tensor:
        """Return maps (K·N, 8w, 2h, 2w) of edited (K·N, 8w, h, w) and source codes (N, 8w, h, w), labels (K·N, n)."""
        chans = edited.shape[1]
        for_edited, for_source, for_copies = self.weight.split([chans, chans, self.in_channels - 2 * chans])
        x = add_to_each(F.conv_transpose2d(edited, for_edited, **UP),
                        F.conv_transpose2d(source, for_source, self.bias, **UP))
        if label is not None:
            for_label = for_copies.unflatten(0, (-1, label.shape[1])).sum(0)
            x = x + F.conv_transpose2d(constant_planes(label.to(x.dtype), edited.shape[-2:]), for_label, **UP)
        return x


class Decoder(nn.Module):
    """The decoder: edited code, source code, label and the source's skips → a residual in [-2, 2] (METHOD §1).

    ``label_chans`` is the length of the label with its copies (``n·label_copy``), 0 for the plain decoder.
    """

    def __init__(self, base_width: int = 64, label_chans: int = 0) -> None:
        super().__init__()
        chans = [16 * base_width + label_chans] + [base_width * factor for factor in (8, 4, 2, 1)]
        self.main = nn.ModuleList(
            nn.Sequential(*up_layers(a, b, EditConv if i == 0 else nn.ConvTranspose2d))
            for i, (a, b) in enumerate(zip(chans, chans[1:])))
        self.main.append(nn.Sequential(nn.ConvTranspose2d(base_width, 3, 3, **UP)))
        self.apply(init_weights)

    def forward(self, edited: Tensor, source: Tensor, skips: list[Tensor], label: Tensor | None = None) -> Tensor:
        """Return the residuals (K·N, 3, S, S) in [-2, 2] of edited codes (K·N, 8w, h, w) of N source images.

        ``source`` (N, 8w, h, w) and ``skips`` are those of the source images, ``label`` is (K·N, n). Edit k of image i
        is row k·N + i.
        """
        x = self.main[0][1:](self.main[0][0](edited, source, label))
        for block, skip in zip(self.main[1:], reversed(skips)):
            x = block(add_to_each(x, skip))
        return 2 * torch.tanh(full_precision(x))


# ----------------------------------------------------------------------------------------------- the swap (METHOD §2)

def block_cuts(chans: int, n: int) -> list[int]:
    """Return the n + 1 cuts of ``chans`` channels into n blocks: rint(i·C/n), half to even. 512, 6 → 0 85 171 256 …"""
    return [round(i * chans / n) for i in range(n + 1)]


def block_mask(label: Tensor, chans: int) -> Tensor:
    """Return the mask (N, C, 1, 1), boolean, of the channels of the expressions of a multi-hot label (N, n)."""
    cuts = block_cuts(chans, label.shape[1])
    blocks = [label[:, i:i + 1].expand(-1, stop - start) for i, (start, stop) in enumerate(zip(cuts, cuts[1:]))]
    return torch.cat(blocks, 1).bool()[:, :, None, None]  # without a copy from the host, which would stall a GPU


def one_hot(expression: Tensor, n: int) -> Tensor:
    """Return expressions (N,) in 0..n one-hot, (N, n) float: zeros for the target-only label n (METHOD §7, row 15)."""
    return F.one_hot(expression, n + 1)[:, :n].float()


def swap_label(a: Tensor, b: Tensor, n: int) -> Tensor:
    """Return the multi-hot label {a, b} of a swap, (N, n) float, of expressions a (N,) and b (N,) (METHOD §2)."""
    return torch.maximum(one_hot(a, n), one_hot(b, n))


def swap_codes(code_a: Tensor, code_b: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Return the codes of C and D: those of A and B (N, C, h, w) with the label's blocks exchanged (METHOD §2)."""
    mask = block_mask(label, code_a.shape[1])
    return torch.where(mask, code_b, code_a), torch.where(mask, code_a, code_b)


def decoder_label(label: Tensor, exp_label: bool, reconstruct: float | Tensor = 0.0) -> Tensor:
    """Return the label in the decoder's form (METHOD §1): (N, n) → (N, n), or (N, n + 1) with ``exp_label``.

    The additional entry is ``reconstruct``, 0 (swap) to 1 (reconstruct only), for all samples or for each (N, 1).
    """
    return torch.cat([label, torch.ones_like(label[:, :1]) * reconstruct], dim=1) if exp_label else label


class Pair(NamedTuple):
    """Images with one expression and their partners with another: (N, 3, S, S) in [-1, 1] and (N,) labels.

    The paper's method does not use the rest. ``truth`` (2N, 3, S, S) are the ground truths of C and D, and ``known``
    (2N,) boolean says which of them exist; both are None if none exists. ``mismatch`` (2N,) boolean says which of A and
    B the discriminators may also see with the other's label, as fakes; None for none. ``total`` is the number of pairs
    in all processes if this is one process's part of a batch, else None.
    """

    image_a: Tensor
    image_b: Tensor
    a: Tensor
    b: Tensor
    truth: Tensor | None = None
    known: Tensor | None = None
    mismatch: Tensor | None = None
    total: int | None = None

    @property
    def label(self) -> Tensor:
        """The labels (N,) of A."""
        return self.a


class Edits(NamedTuple):
    """The images C, D, A', B', C5, D5 of a :class:`Pair`, (N, 3, S, S) in [-1, 1]; None if they were not requested."""

    c: Tensor
    d: Tensor
    a_rebuilt: Tensor | None = None
    b_rebuilt: Tensor | None = None
    c_interpolated: Tensor | None = None
    d_interpolated: Tensor | None = None


class Generator(nn.Module):
    """Encoder and Decoder with the swap between them: all edits of a pair in one batched pass (METHOD §2)."""

    def __init__(self, shape: GANShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = Encoder(shape.base_width)
        self.decoder = Decoder(shape.base_width, shape.label_chans)

    def forward(self, pair: Pair, alpha5: bool = False, rebuild: int = 1) -> Edits:
        """Return C, D, A', B' and, with ``alpha5``, the interpolated images C5, D5 of a pair.

        A', B' are reconstructed of every ``rebuild``-th pair, of none if it is 0.
        """
        codes, swapped, skips, label = self.encode_pair(pair.image_a, pair.image_b, pair.a, pair.b)
        code, swapped, label = torch.cat(codes), torch.cat(swapped), torch.cat([label, label])
        edits = {("c", "d"): (swapped, self.label(label))}
        if rebuild == 1:
            edits["a_rebuilt", "b_rebuilt"] = code, self.label(torch.zeros_like(label), reconstruct=1.0)
        if alpha5:
            edits["c_interpolated", "d_interpolated"] = code + 0.5 * (swapped - code), self.label(label)
        edited, labels = zip(*edits.values())
        faces = torch.cat([pair.image_a, pair.image_b])
        decoded = self.edit(faces, torch.cat(edited), code, skips, torch.cat(labels)).chunk(2 * len(edited))
        images = dict(zip(chain(*edits), decoded))
        if rebuild > 1:
            faces, code, label, *skips = (every_nth(maps, rebuild) for maps in (faces, code, label, *skips))
            unswapped = self.label(torch.zeros_like(label), reconstruct=1.0)
            images["a_rebuilt"], images["b_rebuilt"] = self.edit(faces, code, code, skips, unswapped).chunk(2)
        return Edits(**images)

    def encode_pair(self, image_a: Tensor, image_b: Tensor, a: Tensor, b: Tensor
                    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], list[Tensor], Tensor]:
        """Return the codes of A and B, those of C and D, the skips of A and B (2N, …), and the label {a, b} (N, n).

        ``image_a`` (N, 3, S, S) have expressions ``a`` (N,), their partners ``b``; a code is (N, 8w, S/32, S/32).
        """
        code, skips = self.encoder(torch.cat([image_a, image_b]))
        label = swap_label(a, b, self.shape.num_classes)
        codes = code.chunk(2)
        return codes, swap_codes(*codes, label), skips, label

    def label(self, multi_hot: Tensor, reconstruct: float | Tensor = 0.0) -> Tensor:
        """Return the decoder's label (N, n), or (N, n + 1) with ``exp_label``, of a multi-hot label (N, n)."""
        return decoder_label(multi_hot, self.shape.exp_label, reconstruct)

    def edit(self, faces: Tensor, edited: Tensor, code: Tensor, skips: list[Tensor], label: Tensor) -> Tensor:
        """Return K edits of N faces, (K·N, 3, S, S): clamp(face + Dec(edited, code, label, its skips), -1, 1)."""
        residual = self.residual(edited, code, skips, label)
        return add_to_each(residual, faces).clamp(-1, 1)

    def residual(self, edited: Tensor, code: Tensor, skips: list[Tensor], label: Tensor) -> Tensor:
        """Return Dec(edited, code, label, skips of the face) of K edits of N faces: (K·N, 3, S, S) in [-2, 2]."""
        return self.decoder(edited, code, skips, label if self.shape.decoder_label else None)


# ----------------------------------------------------------------------------------------------------- discriminators

class LabelledConv(nn.Conv2d):
    """The convolution of an image concatenated with a label's constant planes, computed without the planes.

    The response to the planes is constant but for the first row and column, which see the padding.
    """

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        """Return the maps (N, w, S/2, S/2) of images (N, 3, S, S) and labels (N, n)."""
        for_image, for_label = self.weight.split([image.shape[1], label.shape[1]], dim=1)
        corner = F.conv2d(constant_planes(label.to(image.dtype), (4, 4)), for_label, None, 2, padding=1)
        x = F.conv2d(image, for_image, self.bias, 2, padding=1)
        return x + _repeat_last(_repeat_last(corner, 2, x.shape[2]), 3, x.shape[3])


def _repeat_last(maps: Tensor, dim: int, size: int) -> Tensor:
    """Return maps whose last row (``dim`` 2) or column (3) is repeated until there are ``size`` of them."""
    first, last = maps.split([maps.shape[dim] - 1, 1], dim)
    shape = list(last.shape)
    shape[dim] = size - first.shape[dim]
    return torch.cat([first, last.expand(shape)], dim)


class Discriminator(nn.Module):
    """The discriminator of one size: images are average-pooled until their side is ``size`` (METHOD §1)."""

    def __init__(self, num_classes: int, size: int, base_width: int = 64) -> None:
        super().__init__()
        self.size = size
        chans = [3 + num_classes] + [base_width * factor for factor in (1, 2, 4, 8)]
        self.conv = nn.Sequential(*(layer for i, (a, b) in enumerate(zip(chans, chans[1:]))
                                    for layer in down_layers(a, b, LabelledConv if i == 0 else nn.Conv2d)))
        self.linear = nn.Sequential(nn.Linear(chans[-1] * (size // 16) ** 2, 1))
        self.apply(init_weights)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        """Return the logits (N,) of images (N, 3, S, S) in [-1, 1], S = size·2^k, with one-hot labels (N, n)."""
        while image.shape[-1] > self.size:
            image = average_pool_2x2(image)
        maps = self.conv[1:](self.conv[0](image, label))
        return full_precision(self.linear(maps.flatten(1)).squeeze(1))


class Discriminators(nn.Module):
    """D1 at the image's size and D2 at half of it, on the same images (METHOD §1)."""

    def __init__(self, shape: GANShape) -> None:
        super().__init__()
        self.d1 = Discriminator(shape.num_classes, shape.image_size, shape.base_width)
        self.d2 = Discriminator(shape.num_classes, shape.image_size // 2, shape.base_width)

    def forward(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (N,) of both for images (N, 3, S, S) in [-1, 1] with one-hot labels (N, n)."""
        return self.d1(image, label), self.d2(image, label)


# ---------------------------------------------------------------------------------------------------------------- VGG

TAPS = (2, 6, 12, 20, 29)  # the published code's, whose in-place ReLUs overwrite the first and third map
TAP_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
POOLED = 7  # the side of the maps that the classifier takes


def vgg_features(vgg_width: int = 64) -> nn.Sequential:
    """Return VGG-19's convolutions with batch norm: (N, 3, S, S) → (N, 8·vgg_width, S/32, S/32)."""
    config = [chans if chans == "M" else chans * vgg_width // 64 for chans in torchvision_vgg.cfgs["E"]]
    return torchvision_vgg.make_layers(config, batch_norm=True)


def vgg_classifier(in_chans: int, fc_width: int = 4096, dropout: float = 0.5) -> nn.Sequential:
    """Return torchvision's classifier without its last layer: (N, in_chans·49) → (N, fc_width)."""
    return nn.Sequential(nn.Linear(in_chans * POOLED ** 2, fc_width), nn.ReLU(True), nn.Dropout(dropout),
                         nn.Linear(fc_width, fc_width), nn.ReLU(True), nn.Dropout(dropout))


def classify(classifier: nn.Sequential, maps: Tensor) -> Tensor:
    """Return the classifier's output (N, fc_width) on maps (N, C, H, W) after adaptive average pooling to 7×7.

    Pooling is a product with a matrix, since the backward pass of torch's is not deterministic on GPUs. For maps
    smaller than 7×7 the matrix is multiplied with the first layer's weights instead, which takes far fewer products.
    """
    first, (height, width) = classifier[0], maps.shape[-2:]
    cells = torch.eye(height * width, device=maps.device).view(-1, 1, height, width)
    pooling = F.adaptive_avg_pool2d(cells, POOLED).flatten(1)
    if height * width >= POOLED ** 2:
        return classifier((maps.flatten(2) @ pooling.to(maps.dtype)).flatten(1))
    weight = first.weight.view(-1, POOLED ** 2) @ pooling.t()
    return classifier[1:](F.linear(maps.flatten(1), weight.view(len(first.weight), -1), first.bias))


def init_vgg(module: nn.Module) -> None:
    """Initialize a module as torchvision does, for ``network.apply``: Kaiming-normal conv, N(0, 0.01) linear, 0 bias.

    0.01 suits 4096 inputs (25088 in the first layer); narrower layers get a larger deviation, so that the logits of a
    narrow network have the same size at first.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        full_width = 25088 if module.in_features % POOLED ** 2 == 0 else 4096
        nn.init.normal_(module.weight, 0, 0.01 * (full_width / module.in_features) ** 0.5)
        nn.init.zeros_(module.bias)


class VGG(nn.Module):
    """A plain VGG19-bn for n expressions, whose features become the perceptual network (METHOD §1).

    It has no dropout, which keeps narrow networks that start at random near chance; only its features are used.
    """

    weights = VGG19_BN_Weights.IMAGENET1K_V1.url

    def __init__(self, num_classes: int, vgg_width: int = 64, fc_width: int = 4096) -> None:
        super().__init__()
        self.features = vgg_features(vgg_width)
        self.classifier = vgg_classifier(8 * vgg_width, fc_width, dropout=0.0)
        self.new_fc = nn.Linear(fc_width, num_classes)
        self.apply(init_vgg)

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Copy the features, and the classifier's layers whose shapes agree, from a state dict."""
        load_features(self, state, VGG_fx.name)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits (N, n) of images (N, 3, S, S) in [-1, 1]."""
        return self.new_fc(classify(self.classifier, self.features(image)))


class Perceptual(nn.Module):
    """The perceptual network: maps of a trained VGG at the layers :data:`TAPS`, frozen, in eval mode (METHOD §1).

    Batch norm in eval mode is a fixed scale and offset, which is folded into the convolution before it unless that is
    a tap. No in-place ReLU follows a tap, whose map it would overwrite.
    """

    def __init__(self, features: nn.Sequential) -> None:
        super().__init__()
        self.features = features[:max(TAPS) + 1].eval()
        for index, layer in enumerate(self.features):
            if isinstance(layer, nn.BatchNorm2d) and index - 1 not in TAPS:
                self.features[index - 1] = fuse_conv_bn_eval(self.features[index - 1], layer)
                self.features[index] = nn.Identity()
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> "Perceptual":
        """Stay in eval mode, whatever the ``mode`` (METHOD §7, row 13)."""
        return super().train(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the five maps of images (N, 3, S, S) in [-1, 1], shallow to deep."""
        maps = []
        for index, layer in enumerate(self.features):
            image = layer(image)
            if index in TAPS:
                maps.append(image)
        return maps


def entry(state: Mapping[str, Tensor], key: str) -> Tensor:
    """Return a weight of at least two dimensions. Raises ValueError if the state dict lacks it."""
    if key not in state or state[key].ndim < 2:
        raise ValueError(f"its state dict has no {key}")
    return state[key]


def load_features(network: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Copy the ``features`` of a state dict into a network, and the ``classifier`` layers whose shapes agree.

    ``name`` is that of the network whose weights are needed. Raises ValueError that names it, and the ``features``
    which are missing or of another shape.
    """
    expected = network.state_dict()
    fitting = {key: value for key, value in state.items() if key.startswith(("features.", "classifier."))
               and key in expected and value.shape == expected[key].shape}
    faulty = [key for key in expected if key.startswith("features.") and key not in fitting
              and not key.endswith("num_batches_tracked")]
    if faulty:
        raise ValueError(f"{len(faulty)} tensors of its features are missing or of another shape, "
                         f"{', '.join(faulty[:3])} among them; torchvision's {name} is needed")
    network.load_state_dict(fitting, strict=False)


# -------------------------------------------------------------------------------------------------------- recognizers

class RecognizerNetwork(nn.Module):
    """The base class of all backbones: it combines their maps with the codes.

    ``features`` is a sequence of layers, (N, 3, S, S) → (N, map_chans, S/32, S/32), where ``map_chans`` is 8 times the
    width ``vgg_width``. ``fx_linear`` is used twice, so its output has ``16·base_width − map_chans`` channels (512 at
    the paper's widths). Raises ValueError if that is not positive. Subclasses add

    - ``name``: its name in ``--backbone``, in files and in messages
    - ``weights``: the address of torchvision's ImageNet weights, for backbones of width 64
    - ``classify``: mixed maps (N, mixed_chans, S/32, S/32) → the input of ``new_fc``
    - ``layers_before_downsampling(index)``: the number of ``features`` before downsampling step ``index`` (0 to 4)
    - ``load_backbone``, if torchvision's state dict has other names: copy the backbone alone from it """

    name: str
    weights: str

    def __init__(self, features: nn.Sequential, map_chans: int, base_width: int) -> None:
        super().__init__()
        self.base_width, self.mixed_chans = base_width, 16 * base_width - map_chans
        if self.mixed_chans <= 0:
            raise ValueError(f"vgg_width {map_chans // 8} must be less than twice base_width {base_width}")
        self.features = features

    def _add_head(self, out_chans: int, num_classes: int) -> None:
        self.fx_linear = nn.Sequential(nn.Conv2d(16 * self.base_width, self.mixed_chans, 1), Normalization(),
                                       nn.LeakyReLU(0.2, inplace=True))
        self.new_fc = nn.Linear(out_chans, num_classes)

    def forward(self, image: Tensor, fx: Tensor) -> Tensor:
        """Return the logits (N, n) of images (N, 3, S, S) in [-1, 1] with codes fx (N, 16w, S/32, S/32)."""
        return self.head(self.features(image), fx)

    def head(self, maps: Tensor, fx: Tensor) -> Tensor:
        """Return the logits (N, n) of the maps of ``features`` (N, map_chans, S/32, S/32) and fx."""
        mixed = self.fx_linear(torch.cat([maps, self.fx_linear(fx)], dim=1))
        return self.new_fc(self.classify(mixed))

    @classmethod
    def fitting(cls, state: Mapping[str, Tensor]) -> "RecognizerNetwork":
        """Return a network with the widths of a state dict. Raises ValueError if the state dict lacks a layer."""
        head, mixing = (entry(state, f"{name}.weight").shape for name in ("new_fc", "fx_linear.0"))
        return cls(head[0], (mixing[1] - mixing[0]) // 8, head[1], mixing[1] // 16)

    def load_backbone(self, state: Mapping[str, Tensor]) -> None:
        """Copy ``features``, and the ``classifier`` layers whose shapes agree. Raises ValueError if they do not fit."""
        load_features(self, state, self.name)

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Copy the backbone from a state dict of torchvision's network. Raises ValueError if it does not fit.

        ``fx_linear`` and ``new_fc``, which torchvision's network lacks, get PyTorch's default initialization.
        """
        self.load_backbone(state)
        self.fx_linear[0].reset_parameters()
        self.new_fc.reset_parameters()


class VGG_fx(RecognizerNetwork):
    """The published recognizer: VGG-19 with batch norm, its classifier, and ``fx_linear`` between them."""

    name = "vgg19_bn"
    weights = VGG19_BN_Weights.IMAGENET1K_V1.url

    def __init__(self, num_classes: int, vgg_width: int = 64, fc_width: int = 4096, base_width: int = 64) -> None:
        super().__init__(vgg_features(vgg_width), 8 * vgg_width, base_width)
        self.classifier = vgg_classifier(self.mixed_chans, fc_width)
        self._add_head(fc_width, num_classes)
        self.apply(init_vgg)

    def classify(self, mixed: Tensor) -> Tensor:
        """Return what ``new_fc`` takes: mixed maps (N, mixed_chans, S/32, S/32) → (N, fc_width)."""
        return classify(self.classifier, mixed)

    def layers_before_downsampling(self, index: int) -> int:
        """Return the number of layers before pooling layer ``index``."""
        return [i for i, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)][index]


BACKBONES: dict[str, type[RecognizerNetwork]] = {kind.name: kind for kind in (VGG_fx,)}


def backbone_named(name: str) -> type[RecognizerNetwork]:
    """Return the class of a backbone. Raises UserError that names all of them if there is no such one."""
    if name not in BACKBONES:
        raise UserError(f"backbone {str(name)[:60]}: unknown here; it must be one of {', '.join(BACKBONES)}")
    return BACKBONES[name]


# -------------------------------------------------------------------- initialization and constraints beyond the paper

def zero_biases(network: nn.Module) -> None:
    """Set the biases of all convolutions to zero, so that the face determines its code from the first step on.

    Torch's default for the first bias is twice as large as the response of weights N(0, 0.02) to a face, and
    :class:`Normalization` keeps that ratio: about 1 % of the first codes' power differs between faces, without the
    biases a third.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.zeros_(layer.bias)


def start_with_gain(discriminators: Discriminators, gain: float) -> None:
    """Initialize the gain of the discriminators' last normalization, which scales the input of their linear layers.

    The input has the norm ``gain`` at every position, and the weights start at 0.02: a small network, with few channels
    and positions, has small logits, which grow slowly with Adam. 8 at 64 px and width 16 gives logits of the paper's
    size.
    """
    for network in (discriminators.d1, discriminators.d2):
        nn.init.constant_(network.conv[-2].alpha, gain)


@torch.no_grad()
def even_phases(layers: nn.Module) -> None:
    """Make the weights that reach a pixel sum to the same in all transposed convolutions of ``layers``, in place.

    With stride 2 a 3×3 kernel reaches one pixel of four through its center, others through two weights of a row or of
    a column, or through four corners. Where these sums differ, a plain area comes out with a checkerboard pattern
    (Sugawara et al., *Super-resolution using CNNs without any checkerboard artifacts*, 2018).
    """
    for layer in layers.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            phases = [layer.weight[..., rows, columns] for rows in (slice(1, 2), slice(0, 3, 2))
                      for columns in (slice(1, 2), slice(0, 3, 2))]
            sums = [phase.sum((2, 3), keepdim=True) for phase in phases]
            mean = sum(sums) / len(sums)
            for phase, phase_sum in zip(phases, sums):
                phase += (mean - phase_sum) / (phase.shape[2] * phase.shape[3])
