"""VGG-19 with batch norm: its layers, and the perceptual network (METHOD §1).

The backbone is torchvision's; ``vgg_width`` and ``fc_width`` scale it (64 and 4096: the published network).
"""

from typing import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import VGG19_BN_Weights
from torchvision.models import vgg as torchvision_vgg

from models.losses import mean_distance

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
        load_vgg(self, state)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits (N, n) of images (N, 3, S, S) in [-1, 1]."""
        return self.new_fc(classify(self.classifier, self.features(image)))


class Perceptual(nn.Module):
    """The perceptual network: maps of a trained VGG at five layers, frozen, in eval mode (METHOD §1).

    ``taps`` are the indices of ``features`` whose outputs are compared, ``weights`` their weights in the distance. No
    in-place ReLU overwrites a tap. Batch norm in eval mode is a fixed scale and offset, which is folded into the
    convolution before it unless that is a tap.
    """

    def __init__(self, features: nn.Sequential, taps: tuple[int, ...] = TAPS,
                 weights: tuple[float, ...] = TAP_WEIGHTS) -> None:
        super().__init__()
        self.features = features[:max(taps) + 1].eval()
        self.taps, self.weights = taps, weights
        for index, layer in enumerate(self.features):
            if isinstance(layer, nn.BatchNorm2d) and index - 1 not in taps:
                self.features[index - 1] = fuse_conv_bn_eval(self.features[index - 1], layer)
                self.features[index] = nn.Identity()
            elif isinstance(layer, nn.ReLU) and index - 1 in taps:
                self.features[index] = nn.ReLU()
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> "Perceptual":
        """Stay in eval mode, whatever the ``mode`` (METHOD §7, row 13)."""
        return super().train(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the five maps of images (N, 3, S, S) in [-1, 1], shallow to deep."""
        maps = []
        for index, layer in enumerate(self.features):
            image = layer(image)
            if index in self.taps:
                maps.append(image)
        return maps

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Return P(x, y) = Σ wᵢ · mean|φᵢ(x) − φᵢ(y)| of images (N, 3, S, S), without gradient through y."""
        with torch.no_grad():
            targets = self(y)
        return sum(weight * mean_distance(a, b) for weight, a, b in zip(self.weights, self(x), targets))


def load_vgg(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy the ``features`` of a state dict into a network, and the ``classifier`` layers whose shapes agree.

    Raises ValueError that names the ``features`` which are missing or of another shape.
    """
    expected = network.state_dict()
    fitting = {key: value for key, value in state.items() if key.startswith(("features.", "classifier."))
               and key in expected and value.shape == expected[key].shape}
    faulty = [key for key in expected if key.startswith("features.") and key not in fitting
              and not key.endswith("num_batches_tracked")]
    if faulty:
        raise ValueError(f"{len(faulty)} tensors of its features are missing or of another shape, "
                         f"{', '.join(faulty[:3])} among them; a VGG19 with batch norm is needed (vgg19_bn)")
    network.load_state_dict(fitting, strict=False)
