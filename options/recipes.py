"""What there is to choose about networks and their training, as plain values: one field, one knob (METHOD §1, §3, §5).

No torch here: the command reads its options from these fields before it imports anything heavy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from options.option import knob

BEYOND, BEYOND_RECOGNIZER = "GAN, beyond the paper", "recognizer, beyond the paper"


@dataclass(frozen=True)
class GANShape:
    """What the tensors of the GAN's networks depend on; it travels with every checkpoint (METHOD §1)."""

    num_classes: int
    image_size: int = knob(256, "image side S, a multiple of 32", least=32, most=2048, restore="fixed")
    base_width: int = knob(64, "width w of the GAN's first layer", least=1, most=1024, restore="fixed")
    decoder_label: bool = knob(True, "tell the decoder which expressions are swapped", restore="fixed")
    label_copy: int = knob(20, "copies of the decoder's label", least=1, most=1000, restore="fixed")
    exp_label: bool = knob(False, "lengthen the decoder's label by an entry for \"reconstruct only\" (this project's own "
                           "meaning: the published code ignores the flag)", restore="fixed")

    @property
    def label_chans(self) -> int:
        """The number of label planes that the decoder takes."""
        return self.label_copy * (self.num_classes + self.exp_label) if self.decoder_label else 0


@dataclass(frozen=True)
class RecognizerShape:
    """What the tensors of the VGG networks depend on (METHOD §1)."""

    vgg_width: int = knob(64, "width of VGG's first layer, less than twice --base_width", least=1, most=1024,
                          restore="fixed")
    fc_width: int = knob(4096, "width of VGG's two hidden linear layers", least=1, most=65536, restore="fixed")


@dataclass(frozen=True)
class GANRecipe:
    """How the GAN is trained: the weights and rates of METHOD §3, each with its switch, and what METHOD does not have.

    The latter is off by default: see :data:`BEYOND`.
    """

    lr: float = knob(2e-4, "Adam's learning rate, for generator and discriminators", least=0, most=1000)
    lr_decay: float = knob(0.97, "factor on the learning rate ...", least=0, most=1)
    lr_decay_steps: int = knob(300, "... after this many steps", least=1)
    weight_decay: float = knob(1e-5, "Adam's weight decay", least=0, most=1, restore="fixed")
    alpha5: bool = knob(True, "the discriminators also judge the half-way images C5 and D5")
    std: float = knob(0.2, "noise on the targets of the adversarial loss", least=0, most=10)
    lambda_D: float = knob(0.25, "weight of the discriminators' loss", least=0, most=1e6)
    G_max: float = knob(22.0, "skip the discriminators' update after a generator loss of this or more; each epoch's "
                        "D_updated tells in which share of the steps they were updated", least=0, most=1e9)
    vgg_loss: bool = knob(True, "use the perceptual loss")
    lambda_vgg_loss: float = knob(15.0, "weight of the perceptual loss", least=0, most=1e6)
    l1_loss: bool = knob(True, "use the (A+B) - (C+D) loss")
    lambda_l1_loss: float = knob(5.0, "weight of the (A+B) - (C+D) loss", least=0, most=1e6)
    l2_loss: bool = knob(True, "use the reconstruction loss")
    lambda_l2_loss: float = knob(10.0, "weight of the reconstruction loss", least=0, most=1e6)
    tv_loss: bool = knob(True, "use the total variation loss")
    lambda_tv_loss: float = knob(5.0, "weight of the total variation loss", least=0, most=1e6)
    lambda_adv_loss: float = knob(1.0, "weight of the generator's adversarial loss", least=0, most=1e6, group=BEYOND)
    mismatched: bool = knob(False, "discriminators also see real faces with a wrong label, as fakes; not those of "
                            "persons of whom several images show one expression alone", group=BEYOND)
    scene_truth: bool = knob(False, "learn from the true swaps as well: the images of the same person and scene with "
                             "the other's expression, where subjects.list has scenes", group=BEYOND)
    lambda_truth_loss: float = knob(600.0, "weight of the squared distance of C and D to their true swaps",
                                    least=0, most=1e6, group=BEYOND)
    lambda_truth_perceptual: float = knob(0.0, "weight of the perceptual distance of C and D to their true swaps",
                                          least=0, most=1e6, group=BEYOND)
    lambda_coarse_loss: float = knob(0.0, "weight of the squared distance of C to A, and of D to B, in a picture of 8 x 8 "
                                     "cells: keeps light, hair and glasses", least=0, most=1e6, group=BEYOND)
    lambda_gray_loss: float = knob(0.0, "weight of the squared color in the swaps of gray photographs",
                                   least=0, most=1e6, group=BEYOND)
    lambda_residual_tv: float = knob(0.0, "weight of the total variation of what the swap changes",
                                     least=0, most=1e6, group=BEYOND)
    lazy: int = knob(1, "compute the perceptual and the reconstruction loss for every Nth pair of a batch alone",
                     least=1, most=100, metavar="N", group=BEYOND)
    zero_biases: bool = knob(False, "start the GAN's convolutions with zero biases, which else hide the faces at first",
                             group=BEYOND, restore="fixed")
    d_lr_ratio: float = knob(1.0, "the discriminators' learning rate, as a share of the generator's", least=0, most=1000,
                             group=BEYOND)
    d_gain: float = knob(1.0, "gain that the discriminators' last normalization starts with: at small sizes 1 keeps "
                         "their logits small for hundreds of steps", least=1e-3, most=1000, group=BEYOND, restore="fixed")
    even_phases: int = knob(0, "let plain areas come out of the decoder's last N layers plain, without a grid of dots",
                            least=0, most=5, metavar="N", group=BEYOND)
    schedule: str = knob("step", "learning rate of the GAN: multiplied by --lr_decay now and then, or falling to zero over "
                         "all planned steps along a half cosine", flag="gan_schedule", choices=("step", "cosine"),
                         group=BEYOND)
    mirror: bool = knob(False, "mirror half of the pairs", group=BEYOND)
    ema: float = knob(0.0, "use the generator's moving average, of which this share stays in every step",
                      least=0, most=1, group=BEYOND, restore="fixed")
    planned_steps: int = 1

    def rate(self, step: int) -> float:
        """The generator's learning rate in a step, counted from 0 (METHOD §3)."""
        if self.schedule == "cosine":
            return half_cosine(self.lr, step, self.planned_steps)
        return self.lr * self.lr_decay ** (step // self.lr_decay_steps)


@dataclass(frozen=True)
class RecognizerRecipe:
    """How a recognizer is trained: SGD with stepwise decay (METHOD §5).

    Not in METHOD: ``falling_steps`` lets the rate fall to zero over so many steps, along a half cosine, instead;
    ``adam`` takes AdamW, which gets a deep network with random weights going (METHOD leaves open how the perceptual
    network is trained); ``synthesized_weight`` and ``guided`` are for batches of real and synthesized images.
    """

    lr: float = knob(1e-3, "SGD's learning rate", flag="vgg_lr", least=0, most=1000)
    adam: bool = knob(False, "AdamW in place of SGD: it learns several times as fast from networks that start at random",
                      flag="vgg_adam", group=BEYOND_RECOGNIZER)
    lr_decay_steps: int = knob(1800, "steps after which it is multiplied by 0.97", flag="vgg_lr_decay_steps", least=1)
    synthesized_weight: float = knob(1.0, "what a synthesized image counts beside a real one in a mixed batch",
                                     least=0, most=100, group=BEYOND_RECOGNIZER)
    guided: bool = knob(False, "take out what of the synthesized images' gradient points against the real ones' "
                        "(gradient projection)", group=BEYOND_RECOGNIZER)
    momentum: float = 0.9
    weight_decay: float = 5e-4
    lr_decay: float = 0.97
    falling_steps: int | None = None

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if self.falling_steps is not None:
            return half_cosine(self.lr, step, self.falling_steps)
        return self.lr * self.lr_decay ** (step // self.lr_decay_steps)


def half_cosine(rate: float, step: int, steps: int) -> float:
    """A learning rate that falls from ``rate`` to zero over so many steps along a half cosine, then stays there."""
    return rate * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
