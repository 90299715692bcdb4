"""Where a recognizer looked: LayerCAM heat maps of its backbone (Jiang et al., IEEE TIP 2021).

Of the maps of one layer, each position counts with its activation times that part of its gradient which raises the
score of the expression, summed over the channels. The layer is the last one whose maps still have :data:`FINEST`
positions on a side: with VGG at 256 px that is the end of the fifth and last stage, at 64 px that of the third, since
the last maps of a 64 px face have 2 × 2 positions and say nothing about eyes and brows. The recognizer also sees the
face through the GAN's encoder: what came that way is not in the map. """

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from models.generator import Encoder
from models.recognizer import real_features
from models.backbones import RecognizerNetwork

FINEST = 16


def explained_halvings(image_size: int) -> int:
    """Return how often images of this side are halved, 0 to 4 times, before the maps that explain an answer."""
    return max(0, min(4, (image_size // FINEST).bit_length() - 1))


def explained_side(image_size: int) -> int:
    """Return the side of the maps that explain an answer for images of this side."""
    return image_size >> explained_halvings(image_size)


def heat_maps(network: RecognizerNetwork, encoder: Encoder, image: Tensor, expression: Tensor) -> Tensor:
    """Return the evidence in images (N, 3, S, S) in [-1, 1] for expressions (N,): (N, S, S) in [0, 1].

    The hottest place of each is 1; all are 0 if there is none. Computed in eval mode; train mode is restored.
    """
    was_training = network.training
    network.eval()
    with torch.inference_mode(False), torch.enable_grad():
        image = image.clone()
        layers = network.layers_before_downsampling(explained_halvings(image.shape[-1]))
        with torch.no_grad():
            maps = network.features[:layers](image)
        maps = maps.detach().requires_grad_()
        logits = network.head(network.features[layers:](maps), real_features(encoder, image))
        slope, = torch.autograd.grad(logits.gather(1, expression[:, None]).sum(), maps)
        heat = (maps.detach() * slope.clamp(min=0)).sum(1, keepdim=True).clamp(min=0)
    network.train(was_training)
    heat = F.interpolate(heat.float(), size=image.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    return heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-12)
