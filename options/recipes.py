"""Shapes of the networks and recipes of their training, as plain values: one field, one option (METHOD §1, §3, §5).

torch is not imported here, since the command reads its options from these fields before all heavy imports.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from options.option import option

BEYOND, BEYOND_RECOGNIZER = "GAN, beyond the paper", "recognizer, beyond the paper"


@dataclass(frozen=True)
class GANShape:
    """The shapes of the GAN's networks; they travel with every checkpoint (METHOD §1)."""

    num_classes: int
    image_size: int = option(256, "image side S, a multiple of 32", least=32, most=2048, restore="fixed")
    base_width: int = option(64, "width w of the GAN's first layer", least=1, most=1024, restore="fixed")
    decoder_label: bool = option(True, "give the decoder a label of the swapped expressions", restore="fixed")
    label_copy: int = option(20, "copies of the decoder's label", least=1, most=1000, restore="fixed")
    exp_label: bool = option(False, "lengthen the decoder's label by an entry for \"reconstruct only\" (this "
                             "project's own meaning: the published code ignores the flag)", restore="fixed")

    @property
    def label_chans(self) -> int:
        """The number of label planes that the decoder takes."""
        return self.label_copy * (self.num_classes + self.exp_label) if self.decoder_label else 0


@dataclass(frozen=True)
class RecognizerShape:
    """The recognizer's backbone, and the shapes of the VGG networks (METHOD §1)."""

    backbone: str = option("vgg19_bn", "the recognizer's backbone; the perceptual network is always VGG19-bn "
                           "(resnet18 is not in the paper)", choices=("vgg19_bn", "resnet18"), restore="fixed")
    vgg_width: int = option(64, "width of the backbone's and of VGG's first layer, less than twice --base_width",
                            least=1, most=1024, restore="fixed")
    fc_width: int = option(4096, "width of VGG's two hidden linear layers", least=1, most=65536, restore="fixed")


@dataclass(frozen=True)
class GANRecipe:
    """The recipe of the GAN's training: the weights and rates of METHOD §3, each with its switch.

    What METHOD does not have stands in the group :data:`BEYOND` and is off by default.
    """

    lr: float = option(2e-4, "Adam's learning rate, for generator and discriminators", least=0, most=1000)
    lr_decay: float = option(0.97, "factor on the learning rate after every --lr_decay_steps", least=0, most=1)
    lr_decay_steps: int = option(300, "steps after which the learning rate is multiplied by --lr_decay", least=1)
    weight_decay: float = option(1e-5, "Adam's weight decay", least=0, most=1, restore="fixed")
    alpha5: bool = option(True, "the discriminators also see the interpolated images C5 and D5")
    std: float = option(0.2, "standard deviation of the noise on the targets of the adversarial loss", least=0, most=10)
    lambda_D: float = option(0.25, "weight of the discriminators' loss", least=0, most=1e6)
    G_max: float = option(22.0, "skip the discriminators' update after a generator loss of this or more; each epoch's "
                          "D_updated is the fraction of its steps with an update", least=0, most=1e9)
    vgg_loss: bool = option(True, "use the perceptual loss")
    lambda_vgg_loss: float = option(15.0, "weight of the perceptual loss", least=0, most=1e6)
    l1_loss: bool = option(True, "use the (A+B) - (C+D) loss")
    lambda_l1_loss: float = option(5.0, "weight of the (A+B) - (C+D) loss", least=0, most=1e6)
    l2_loss: bool = option(True, "use the reconstruction loss")
    lambda_l2_loss: float = option(10.0, "weight of the reconstruction loss", least=0, most=1e6)
    tv_loss: bool = option(True, "use the total variation loss")
    lambda_tv_loss: float = option(5.0, "weight of the total variation loss", least=0, most=1e6)
    lambda_adv_loss: float = option(1.0, "weight of the generator's adversarial loss", least=0, most=1e6, group=BEYOND)
    mismatched: bool = option(False, "the discriminators also see real faces with a wrong label, as fakes, except "
                              "those of persons of whom several images show a single expression", group=BEYOND)
    scene_truth: bool = option(False, "also learn from ground-truth swaps: the images of the same person and scene "
                               "with the other's expression, if subjects.list names scenes", group=BEYOND)
    lambda_truth_loss: float = option(600.0, "weight of the squared distance of C and D to their ground-truth swaps",
                                      least=0, most=1e6, group=BEYOND)
    lambda_coarse_loss: float = option(0.0, "weight of the squared distance of C to A, and of D to B, at 8 x 8 "
                                       "pixels, which keeps light, hair and glasses", least=0, most=1e6, group=BEYOND)
    lambda_gray_loss: float = option(0.0, "weight of the squared color in the swaps of gray photographs",
                                     least=0, most=1e6, group=BEYOND)
    lazy: int = option(1, "compute the perceptual and the reconstruction loss only for every Nth pair of a batch",
                       least=1, most=100, metavar="N", group=BEYOND)
    zero_biases: bool = option(False, "start the GAN's convolutions with zero biases, since random ones hide the faces "
                               "at first", group=BEYOND, restore="fixed")
    d_lr_ratio: float = option(1.0, "the discriminators' learning rate, as a multiple of the generator's", least=0,
                               most=1000, group=BEYOND)
    d_gain: float = option(1.0, "initial gain of the discriminators' last normalization; at small sizes, 1 keeps their "
                           "logits small for hundreds of steps", least=0.001, most=1000, group=BEYOND,
                           restore="fixed")
    even_phases: int = option(0, "avoid a grid of dots in uniform areas, in the decoder's last N layers",
                              least=0, most=5, metavar="N", group=BEYOND)
    mirror: bool = option(False, "mirror a random half of the pairs", group=BEYOND)
    ema: float = option(0.0, "use a moving average of the generator, with this decay in every step; 0 is off", least=0,
                        most=1, group=BEYOND, restore="fixed")

    def rate(self, step: int) -> float:
        """Return the generator's learning rate in a step, counted from 0 (METHOD §3)."""
        return self.lr * self.lr_decay ** (step // self.lr_decay_steps)


@dataclass(frozen=True)
class RecognizerRecipe:
    """The recipe of a recognizer's training: SGD with stepwise decay (METHOD §5).

    Not in METHOD: ``falling_steps`` lets the rate fall to zero over so many steps along a half cosine instead; ``adam``
    uses AdamW, with which a deep network learns from random weights (METHOD leaves open how the perceptual network is
    trained); ``guided`` is for batches of real and synthesized images.
    """

    lr: float = option(1e-3, "SGD's learning rate", flag="vgg_lr", least=0, most=1000)
    lr_decay_steps: int = option(1800, "steps after which --vgg_lr is multiplied by 0.97", flag="vgg_lr_decay_steps",
                                least=1)
    guided: bool = option(False, "remove the part of the synthesized images' gradient that opposes the real ones' "
                          "(gradient projection)", group=BEYOND_RECOGNIZER)
    momentum: float = 0.9
    weight_decay: float = 5e-4
    lr_decay: float = 0.97
    falling_steps: int | None = None
    adam: bool = False

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if self.falling_steps is not None:
            return half_cosine(self.lr, step, self.falling_steps)
        return self.lr * self.lr_decay ** (step // self.lr_decay_steps)


def half_cosine(rate: float, step: int, steps: int) -> float:
    """Return the learning rate in a step: it falls from ``rate`` to zero over ``steps`` along a half cosine."""
    return rate * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
