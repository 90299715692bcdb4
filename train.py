"""Joint expression synthesis and representation learning: train, or swap the expressions of two faces.

    python train.py -a disgust scream smile squint surprise neutral --mode train --multi_add_gan --alpha5 --gpu 0
    python train.py -a disgust scream smile squint surprise neutral --swap_list 2 5 --input ./images/smile.jpg \\
        --target ./images/neutral.jpg --mode test --restore --gpu 0
    python train.py --preset demo
"""

import os
from importlib import import_module
from typing import Callable, Sequence

from options.command_line import resolve
from options.config import Config
from utils import lasting_output, run_command, starting

WORK = {  # a mode → the function that does it, but for the training, which is :func:`train`
    "dry_run": "commands.training.dry_run", "test": "commands.swap.swap",
    "evaluate": "commands.evaluate.evaluate_swaps", "grid": "commands.grid.draw_grid",
    "generate": "commands.generate.generate", "recognize": "commands.recognize.recognize",
    "export": "commands.export.export", "export_swap": "commands.export.export",
    "report": "commands.report.write_run_report",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Read the options first, and import only then what the chosen mode needs."""
    config = resolve(argv)
    if config.task.mode == "recognize":  # before torch is imported: threads that wait for each other sleep
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # several times faster on cores that others use as well
    with starting():
        work = work_of(config)
    work(config)


def work_of(config: Config) -> Callable[[Config], None]:
    """Return the function that does what the command asks for."""
    task = "dry_run" if config.task.dry_run else config.task.mode
    if task == "train":
        import_module("commands.training")
        return train_series if config.is_series else train
    module, _, name = WORK[task].rpartition(".")
    return getattr(import_module(module), name)


def train(config: Config) -> None:
    """Train one run, or the rest of it; then test its recognizer, draw its swaps and write its report."""
    from commands.training import finish_run, prepare_demo
    from pictures.sheets import sheet
    from training.run_directory import RunDirectory
    from training.start import launch, train_run

    with lasting_output(), launch(config) as processes, RunDirectory(config.run.checkpoint_dir) as directory:
        prepare_demo(config, processes)
        run = train_run(config, directory, processes, sheet)
        processes.run_on_main(lambda: finish_run(run))


def train_series(config: Config) -> None:
    """Train the runs of ``--folds`` or ``--seeds``, each with its test and report, and pool their results."""
    from commands.training import finish_run, prepare_demo, write_pooled_results
    from pictures.sheets import sheet
    from training.run_directory import SeriesDirectory
    from training.series import prepare_series, train_in_turn, train_side_by_side
    from training.start import launch

    with lasting_output(), launch(config) as processes, SeriesDirectory(config.run.checkpoint_dir) as directory:
        prepare_demo(config, processes)
        members, layout = prepare_series(config, directory, processes)
        if config.series.jobs > 1:
            train_side_by_side(members, config.series.jobs, config.hardware.gpu, directory.folder)
        else:
            for run, decoded in train_in_turn(members, directory, processes, layout, sheet):
                processes.run_on_main(lambda: finish_run(run, decoded))
                del run  # whose networks take the memory that the next run needs
        processes.run_on_main(lambda: write_pooled_results(config, members, layout))


if __name__ == "__main__":
    run_command(main)
