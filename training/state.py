"""A training state's schema, and whether the networks in it are fit to be called good."""

from __future__ import annotations

from typing import Any

import torch

from models.soundness import LARGEST, fault_of_weights, networks_in
from options.schema import Anything, Maybe, Number, Row, Table, Text, Whole

STATE_FORMAT = 3  # to be raised whenever older training states can no longer be taken up
STEPS = Whole(most=10 ** 12)
RECOGNIZER = {"network": Table(Anything()), "optimizer": Table(Anything()), "scaler": Table(Anything()), "steps": STEPS}


class Scalar:
    """A tensor with one real number, which may be infinite."""

    def fault(self, value: Any) -> str | None:
        """What is wrong with a value, or None."""
        fits = isinstance(value, torch.Tensor) and value.is_floating_point() and value.shape == ()
        return None if fits else "must be a tensor with one number"


PHASES = {
    "perceptual": {"epochs": Whole(most=100000), "best": {"acc": Number(-1, 100), "step": STEPS,
                                                          "net": Table(Anything())}, "recognizer": Maybe(RECOGNIZER),
                   "used": Maybe(Text(64, r"[0-9a-f]*"))},
    "gan": {**{part: Table(Anything()) for part in ("generator", "discriminators", "optimizer_g", "optimizer_d",
                                                    "scaler")},
            "averaged": Maybe(Table(Anything())), "steps": STEPS, "last_g_loss": Scalar()},
    "recognizer": {"best_acc": Number(-1, 100), "recognizer": RECOGNIZER},
}
STATE = {"stage": Whole(most=10 ** 7), "step": Whole(), "sums": Table(Row((Number(), Whole()))), "data": Text(200),
         "content": Maybe(Text(200)), "log_position": Whole(most=10 ** 15), "phases": PHASES}
RATES = {"perceptual": "--perceptual_lr", "gan": "--lr", "recognizer": "--vgg_lr"}  # what each phase learns by


def exploded(states: dict[str, dict[str, Any]]) -> tuple[str, str] | None:
    """The first phase whose networks hold NaN, infinite or absurdly large values, and what is wrong; or None."""
    for phase, state in states.items():
        for name, network in networks_in(state):
            fault = fault_of_weights(network, LARGEST)
            if fault:
                return phase, f"{name}: {fault}"
    return None
