"""Joint expression synthesis and representation learning: train, or swap the expressions of two faces.

    python train.py -a disgust scream smile squint surprise neutral --mode train --multi_add_gan --alpha5 --gpu 0
    python train.py -a disgust scream smile squint surprise neutral --swap_list 2 5 --input ./images/smile.jpg \\
        --target ./images/neutral.jpg --mode test --restore --gpu 0
    python train.py --preset demo
"""

from importlib import import_module
from typing import Sequence

import utils
from options.command_line import read_config
from utils import main_process, run_command, sleep_while_waiting

WORK = {  # a mode → the function that does it; a series is a training of several folds or seeds
    "train": "training.start.train", "series": "training.series.train_series", "dry_run": "training.start.dry_run",
    "test": "commands.swap.swap",
    "evaluate": "commands.evaluate.evaluate_swaps", "grid": "commands.grid.draw_grid",
    "generate": "commands.generate.generate", "recognize": "commands.recognize.recognize",
    "export": "commands.export.export", "report": "commands.report.write_run_report",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Read the options first, and import only then what the chosen mode needs."""
    config = read_config(argv)
    if config.task.mode == "recognize":
        sleep_while_waiting()
    task = "dry_run" if config.task.dry_run else "series" if config.is_series else config.task.mode
    module, _, name = WORK[task].rpartition(".")
    with utils.progress(None, "starting", bar_format="{desc} ...", disable=None if main_process() else True):
        work = getattr(import_module(module), name)  # torch alone takes seconds
    work(config)


if __name__ == "__main__":
    run_command(main)
