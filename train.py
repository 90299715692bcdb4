"""Joint expression synthesis and representation learning: train, or swap the expressions of two faces.

    python train.py -a disgust scream smile squint surprise neutral --mode train --multi_add_gan --alpha5 --gpu 0
    python train.py -a disgust scream smile squint surprise neutral --swap_list 2 5 --input ./images/smile.jpg \\
        --target ./images/neutral.jpg --mode test --restore --gpu 0
    python train.py --preset demo
"""

from importlib import import_module
from typing import Sequence

from options.command_line import resolve
from utils import run_command, sleep_while_waiting, starting

WORK = {  # a mode → the function that does it; a series is a training of several folds or seeds
    "train": "training.start.train", "series": "training.series.train_series", "dry_run": "training.start.dry_run",
    "test": "commands.swap.swap",
    "evaluate": "commands.evaluate.evaluate_swaps", "grid": "commands.grid.draw_grid",
    "generate": "commands.generate.generate", "recognize": "commands.recognize.recognize",
    "export": "commands.export.export", "report": "commands.report.write_run_report",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Read the options first, and import only then what the chosen mode needs."""
    config = resolve(argv)
    if config.task.mode == "recognize":
        sleep_while_waiting()
    task = "dry_run" if config.task.dry_run else "series" if config.is_series else config.task.mode
    module, _, name = WORK[task].rpartition(".")
    with starting():
        work = getattr(import_module(module), name)
    work(config)


if __name__ == "__main__":
    run_command(main)
