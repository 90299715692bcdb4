"""Where a recognizer looked: LayerCAM heat maps of its VGG (Jiang et al., IEEE TIP 2021).

Of the maps of one layer, each position counts with its activation times that part of its gradient which raises the
score of the expression, summed over the channels. The layer is the last one before a pooling whose maps still have
:data:`FINEST` positions on a side: at 256 px that is the end of VGG's fifth and last stage, at 64 px that of the third,
since the last maps of a 64 px face have 4 × 4 positions and say nothing about eyes and brows. The recognizer also sees
the face through the GAN's encoder: what came that way is not in the map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.generator import Encoder
from models.recognizer import real_features
from models.vgg import VGG_fx

FINEST = 16


def explained_stage(image_size: int) -> int:
    """The VGG stage, 1 to 5, whose maps explain images of this side: the deepest of FINEST positions or more."""
    return max(1, min(5, (image_size // FINEST).bit_length()))


def heat_maps(network: VGG_fx, encoder: Encoder, image: Tensor, expression: Tensor) -> Tensor:
    """What in the images (N, 3, S, S) in [-1, 1] spoke for expressions (N,): (N, S, S) in [0, 1].

    The hottest place of each is 1; all are 0 where nothing did. In eval mode; train mode is put back.
    """
    was_training = network.training
    network.eval()
    with torch.inference_mode(False), torch.enable_grad():
        image = image.clone()
        layers = _layers_of(network, explained_stage(image.shape[-1]))
        with torch.no_grad():
            maps = network.features[:layers](image)
        maps = maps.detach().requires_grad_()
        logits = network.head(network.features[layers:](maps), real_features(encoder, image))
        slope, = torch.autograd.grad(logits.gather(1, expression[:, None]).sum(), maps)
        heat = (maps.detach() * slope.clamp(min=0)).sum(1, keepdim=True).clamp(min=0)
    network.train(was_training)
    heat = F.interpolate(heat.float(), size=image.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    return heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-12)


def _layers_of(network: VGG_fx, stage: int) -> int:
    """How many of VGG's layers lie before the pooling that ends a stage."""
    return [index for index, layer in enumerate(network.features) if isinstance(layer, nn.MaxPool2d)][stage - 1]


def blanked(image: Tensor, heat: Tensor, share: float = 0.1) -> Tensor:
    """The images (N, 3, S, S) with the hottest ``share`` of the positions of (N, S, S) in the image's mean color."""
    count = round(share * heat[0].numel())
    hottest = heat.flatten(1).topk(count, dim=1).indices
    mask = torch.zeros_like(heat.flatten(1), dtype=torch.bool).scatter_(1, hottest, True).view_as(heat)
    return torch.where(mask[:, None], image.mean((2, 3), keepdim=True), image)
