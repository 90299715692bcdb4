"""Heat maps of the evidence for an expression: LayerCAM of the recognizer's backbone (Jiang et al., IEEE TIP 2021).

The heat at a position is the sum over the channels of a layer's activation times the positive part of the gradient of
the expression's logit. The layer is the last one whose maps still have :data:`FINEST` positions on a side: with VGG at
256 px that is the end of the fifth and last stage, at 64 px that of the third, since the last maps of a 64 px face have
2 × 2 positions and say nothing about eyes and brows. The recognizer also gets features of the GAN's encoder: evidence
from these is not in the map.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from models.backbones import RecognizerNetwork
from models.generator import Encoder
from models.recognizer import real_features

FINEST = 16


def explained_halvings(image_size: int) -> int:
    """Return how often images of a side in pixels are halved, 0 to 4 times, before the layer of the heat maps."""
    return max(0, min(4, (image_size // FINEST).bit_length() - 1))


def explained_side(image_size: int) -> int:
    """Return the side of that layer's maps for images of a side in pixels."""
    return image_size >> explained_halvings(image_size)


def heat_maps(network: RecognizerNetwork, encoder: Encoder, image: Tensor, expression: Tensor) -> Tensor:
    """Return heat maps (N, S, S) in [0, 1] of the evidence in images (N, 3, S, S) in [-1, 1] for expressions (N,).

    The maximum of a map is 1, or 0 if there is no evidence. They are computed in eval mode; train mode is restored.
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
        gradient, = torch.autograd.grad(logits.gather(1, expression[:, None]).sum(), maps)
        heat = (maps.detach() * gradient.clamp(min=0)).sum(1, keepdim=True).clamp(min=0)
    network.train(was_training)
    heat = F.interpolate(heat.float(), size=image.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    return heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-12)
