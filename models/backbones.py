"""The recognizer's network: a backbone's maps and the GAN's codes, mixed by one shared 1×1 convolution (METHOD §1).

The published backbone is VGG-19 with batch norm. A further one is a subclass of :class:`RecognizerNetwork` with
``weights``, ``classify``, ``layers_before_downsampling`` and ``load_backbone``, and a name in :data:`BACKBONES`.
"""

from typing import Mapping

import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, VGG19_BN_Weights
from torchvision.models.resnet import BasicBlock

from models.layers import Normalization
from models.state_dicts import entry
from models.vgg import classify, init_vgg, load_vgg, vgg_classifier, vgg_features


class RecognizerNetwork(nn.Module):
    """The base class of all backbones: it combines their maps with the codes.

    ``features`` is a sequence of layers, (N, 3, S, S) → (N, map_chans, S/32, S/32). ``fx_linear`` is used twice, so
    its output has ``16·base_width − map_chans`` channels (512 at the paper's widths). Raises ValueError if
    ``map_chans`` is not less than 16 times ``base_width``. Subclasses add

    - ``weights``: the address of torchvision's ImageNet weights, for backbones of width 64
    - ``classify``: mixed maps (N, mixed_chans, S/32, S/32) → the input of ``new_fc``
    - ``layers_before_downsampling(index)``: the number of ``features`` before downsampling step ``index`` (0 to 4)
    - ``load_backbone``: copy the backbone alone from a state dict of torchvision's network """

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
        head, first, mixing = (entry(state, f"{name}.weight").shape for name in ("new_fc", "features.0", "fx_linear.0"))
        return cls(head[0], first[0], head[1], mixing[1] // 16)

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Copy the backbone from a state dict of torchvision's network. Raises ValueError if it does not fit.

        ``fx_linear`` and ``new_fc``, which torchvision's network lacks, get PyTorch's default initialization.
        """
        self.load_backbone(state)
        self.fx_linear[0].reset_parameters()
        self.new_fc.reset_parameters()


class VGG_fx(RecognizerNetwork):
    """The published recognizer: VGG-19 with batch norm, its classifier, and ``fx_linear`` between them."""

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

    def load_backbone(self, state: Mapping[str, Tensor]) -> None:
        """Copy ``features``, and the ``classifier`` layers whose shapes agree."""
        load_vgg(self, state)


class ResNet18_fx(RecognizerNetwork):
    """torchvision's ResNet-18 in VGG's place; not in METHOD. ``vgg_width`` is the width of its first layer."""

    weights = ResNet18_Weights.IMAGENET1K_V1.url
    LAYERS = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}  # torchvision's name → index

    def __init__(self, num_classes: int, vgg_width: int = 64, fc_width: int = 4096, base_width: int = 64) -> None:
        super().__init__(nn.Sequential(*_resnet18_layers(vgg_width)), 8 * vgg_width, base_width)
        self._add_head(self.mixed_chans, num_classes)

    def classify(self, mixed: Tensor) -> Tensor:
        """Return what ``new_fc`` takes: mixed maps (N, mixed_chans, S/32, S/32), averaged over their positions."""
        return mixed.mean((2, 3))

    def layers_before_downsampling(self, index: int) -> int:
        """Return the number of layers before a downsampling step; 3 for the first, which is the very first layer."""
        return (3, 3, 5, 6, 7)[index]

    def load_backbone(self, state: Mapping[str, Tensor]) -> None:
        """Copy ``features``. Raises ValueError that names what is missing or of another shape."""
        split = ((*key.partition("."), value) for key, value in state.items())
        renamed = {f"features.{self.LAYERS[layer]}.{rest}": value
                   for layer, _, rest, value in split if layer in self.LAYERS}
        load_vgg(self, renamed or state)


def _resnet18_layers(width: int) -> list[nn.Module]:
    """Return torchvision's ResNet-18 without its last two layers, in any width; torchvision's class has a fixed one."""
    def stage(in_chans: int, out_chans: int, stride: int) -> nn.Sequential:
        shortcut = None if stride == 1 else nn.Sequential(nn.Conv2d(in_chans, out_chans, 1, stride, bias=False),
                                                          nn.BatchNorm2d(out_chans))
        return nn.Sequential(BasicBlock(in_chans, out_chans, stride, shortcut), BasicBlock(out_chans, out_chans))

    layers = [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
              nn.MaxPool2d(3, 2, 1), stage(width, width, 1)]
    layers += [stage(factor * width, 2 * factor * width, 2) for factor in (1, 2, 4)]
    for layer in nn.Sequential(*layers).modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layers


BACKBONES: dict[str, type[RecognizerNetwork]] = {"vgg19_bn": VGG_fx, "resnet18": ResNet18_fx}
