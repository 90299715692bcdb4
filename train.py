"""Joint expression synthesis and representation learning: train, or swap the expressions of two faces.

    python train.py -a disgust scream smile squint surprise neutral --mode train --multi_add_gan --alpha5 --gpu 0
    python train.py -a disgust scream smile squint surprise neutral --swap_list 2 5 --input ./images/smile.jpg \\
        --target ./images/neutral.jpg --mode test --restore --gpu 0
    python train.py --preset demo
"""

from __future__ import annotations

from importlib import import_module
from typing import Sequence

import utils
from modes.options import read_options
from modes.parts import is_series

WORK = {  # a mode → where its work is done; a series is a training of several folds or seeds
    "train": "modes.train.train", "series": "modes.series.train_series", "test": "modes.swap.swap",
    "evaluate": "modes.evaluate.evaluate_swaps",
    "grid": "modes.grid.draw_grid", "generate": "modes.generate.generate",
    "recognize": "modes.recognize.recognize", "export": "modes.export.export",
}


def main(words: Sequence[str] | None = None) -> None:
    """The command: options first, and only then what the chosen mode needs."""
    options = read_options(words)
    if options.mode == "recognize":
        utils.sleep_while_waiting()
    module, _, name = WORK["series" if is_series(options) else options.mode].rpartition(".")
    with utils.progress(None, "starting", bar_format="{desc} ...", disable=None if utils.main_process() else True):
        work = getattr(import_module(module), name)  # torch alone takes seconds
    work(options)


if __name__ == "__main__":
    utils.run_command(main)
