"""Evaluate trained recognizers on real images: accuracy, precision, recall, F1, confusion matrix and mistakes.

    python test_matrix_multi.py --data 2 --resume_dir checkpoint/checkpoint_multipie/VGG --gpu 0

Several, such as folds or seeds, give one pooled matrix, and mean, standard deviation and interval of their accuracies.
Groups of runs with different options are compared by

    python test_matrix_multi.py --resume_dir A/seed_*/VGG --against B/seed_*/VGG --against C/seed_*/VGG
"""

from __future__ import annotations

import argparse
import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

from options.config import Joined, OneLineParser, check_ranges, numbers
from utils import UserError, home_expanded, pick_device, run_command

if TYPE_CHECKING:
    from commands.matrix import EvaluationResult
    from datasets.layout import Layout
    from evaluation.comparison import Key
    from models.checkpoints import TrainedRecognizer
    from training.facts import Facts


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of this command's options."""
    parser = OneLineParser(description=__doc__.splitlines()[0], published=("resume_dir", "gpu", "data"))
    add = parser.add_argument
    add("--resume_dir", type=home_expanded, nargs="+", default=["checkpoint/checkpoint_multipie/VGG"], metavar="DIR",
        help="directory with max_ckpt.t7 and Enc_max.pth, which hold names, sizes and shapes (default: "
             "checkpoint/checkpoint_multipie/VGG); the results of several recognizers are pooled, each on its own test "
             "images, or on its fold")
    add("--against", type=home_expanded, nargs="+", action="append", default=[], metavar="DIR",
        help="recognizers of another setting, which are compared with those of --resume_dir over common seeds and "
             "folds; may be given several times; only comparison.txt, .csv, .tex and .png are written")
    add("--names", nargs="+", metavar="NAME",
        help="names of the settings that --against compares, that of --resume_dir first (default: their directories)")
    add("--data", type=int, choices=(1, 2, 3),
        help="data set: 1 MMI, 2 Multi-PIE, 3 RAF-DB (default: what the recognizer was trained on, else 2)")
    add("--data_dir", type=home_expanded, metavar="DIR", help="the data directory, instead of that of --data")
    add("-a", "--attributes", nargs="+", metavar="NAME",
        help="names of the expressions, for a checkpoint that does not hold them")
    add("--split", choices=("test", "val", "train", "all"), default="test",
        help="images to evaluate on (default: test)")
    add("-g", "--gpu", type=numbers, action=Joined, nargs="+", metavar="N",
        help="GPU to use, -1 for the CPU (default: the first GPU, if any)")
    add("--batch_size", type=int, default=64, metavar="N", help="images per batch (default: 64)")
    add("--num_workers", type=int, default=2, metavar="N", help="threads that decode images (default: 2)")
    add("--image_size", type=int, default=256, metavar="N",
        help="image side, for a checkpoint that does not hold it (default: 256)")
    add("--format", choices=("png", "svg", "pdf"), default="png",
        help="format of the confusion matrix; svg and pdf, for a paper, have no heading but --title (default: png)")
    add("--title", metavar="TEXT", help="heading of the confusion matrix (default: what was tested)")
    add("--output_dir", type=home_expanded, default=".", metavar="DIR",
        help="directory for Con_Matrix.png, confusion_matrix.json, confusion.tex, predictions.csv and, of one "
             "recognizer, mistakes.jpg (default: the current directory)")
    return parser


def find_groups(options: argparse.Namespace) -> list[list[Path]]:
    """Return the directories of the recognizers of --resume_dir, and of those of each --against.

    Raises UserError if one does not exist or is named twice.
    """
    named = [("--resume_dir", options.resume_dir), *(("--against", names) for names in options.against)]
    groups = [[recognizer_directory(name, flag) for name in matching(names)] for flag, names in named]
    every_folder = [folder for folders in groups for folder in folders]
    for (flag, _), folders in zip(named, groups):
        for folder in folders:
            if sum(map(folder.samefile, every_folder)) > 1:
                raise UserError(f"{flag} {folder}: named twice, its images would be counted twice")
    return groups


def matching(names: Sequence[str]) -> list[str]:
    """Return the names, with the paths that match in place of patterns, which the shells of Windows do not replace.

    ``fold_*`` also matches ``fold_01.txt``, the output of a run that was trained side by side with others; it is left
    out beside ``fold_01``.
    """
    found = [path for name in names for path in (sorted(glob.glob(name)) if not os.path.exists(name) else ()) or [name]]
    return [path for path in found if not (path.endswith(".txt") and path.removesuffix(".txt") in found)]


def recognizer_directory(name: str, flag: str) -> Path:
    """Return the directory of a recognizer, which is given by that directory, by its run, or by one of its files.

    Raises UserError, which names ``flag``, for the directory of a series and for one that does not exist.
    """
    folder = Path(name).parent if Path(name).is_file() else Path(name)
    if not folder.is_dir():
        raise UserError(f"{flag} {folder}: no such directory")
    if (folder / "max_ckpt.t7").is_file():
        return folder
    for kind in ("fold", "seed"):
        runs = sorted(folder.glob(f"{kind}_*/VGG"))
        if runs:
            raise UserError(f"{flag} {folder}: holds a series of {len(runs)} {kind}s; name its runs: {flag} "
                            f"{folder / kind}_*")
    return folder / "VGG" if (folder / "VGG").is_dir() else folder


def find_layout(options: argparse.Namespace, trained: TrainedRecognizer, folder: Path) -> Layout:
    """Read the data to evaluate on: --data_dir, --data, or the data that the recognizer was trained on, in this order.

    A fold's recognizer is tested on that fold; the data that it was trained on has its validation split. Raises
    UserError if the data are not there, or are not those that the recognizer was trained on although they should be.
    """
    from commands.trained import check_contents, names_of, read_run_data
    from datasets.layout import DATA_SETS

    config, data = trained.config, DATA_SETS[options.data or 2]
    root = options.data_dir or (data.directory if options.data else config.get("data_dir", data.directory))
    names = names_of(trained, options.attributes, options.data or 2, folder)
    is_own = Path(config.get("data_dir", "")).resolve() == Path(root).resolve()
    is_published = options.data and not options.data_dir and not is_own
    layout = read_run_data(root, config, names, data.expressions if is_published else config.get("listed"),
                           folder.parent, split=options.split)
    if is_own and not options.data_dir:
        check_contents(layout, config, folder, "name the directory of the images that are meant with --data_dir",
                       ["test"] if options.split == "test" else ["train", "test"])
    return layout


def evaluate_folder(options: argparse.Namespace, folder: Path) -> tuple[EvaluationResult, Layout]:
    """Evaluate the recognizer in a directory on its images; return the result and their layout."""
    from commands.matrix import evaluate_split
    from datasets.files import check_output
    from datasets.lists import image_directory
    from models.checkpoints import load_recognizer

    trained = load_recognizer(folder, pick_device(options.gpu))
    layout = find_layout(options, trained, folder)
    check_output(options.output_dir, "--output_dir", trees=[image_directory(layout.root)], directory=True)
    return evaluate_split(trained, layout, options.split, trained.config.get("image_size", options.image_size),
                          options.batch_size, options.num_workers), layout


def evaluate_each(options: argparse.Namespace, folders: Sequence[Path]
                  ) -> tuple[list[EvaluationResult], tuple[str, ...]]:
    """Evaluate several recognizers, each on its own images; return the results and the expressions that all have.

    Raises UserError if the recognizers differ in their expressions.
    """
    results, expressions = [], None
    for folder in folders:
        result, layout = evaluate_folder(options, folder)
        if expressions not in (None, layout.expressions):
            raise UserError(f"{folder}: was trained with -a {' '.join(layout.expressions)}, and {folders[0]} with -a "
                            f"{' '.join(expressions)}; only the same expressions in one order can be pooled")
        expressions = layout.expressions
        results.append(result)
        print(f"{folder}: {result.predictions.accuracies()}", flush=True)
    print()
    return results, expressions


def compare(options: argparse.Namespace, groups: Sequence[Sequence[Path]], facts: Sequence[Sequence[Facts]],
            keys: Sequence[Sequence[Key]]) -> None:
    """Evaluate the recognizers of several groups and write their comparison."""
    from commands.matrix import check_keys, group_names, write_comparison
    from evaluation.comparison import Comparison, Group
    from training.facts import differing_options

    for folders, of_group in zip(groups, keys):
        check_keys(folders, of_group)
    names = options.names or group_names(groups)
    results, _ = evaluate_each(options, [folder for folders in groups for folder in folders])
    remaining, compared, notes = iter(results), [], {}
    for name, of_group in zip(names, keys):
        results = [next(remaining) for _ in of_group]
        compared.append(Group(name, dict(zip(of_group, (result.for_comparison() for result in results)))))
        notes |= {f"{name}: {finding}": None for result in results for finding in result.findings()}
    write_comparison(Comparison(compared, differing_options([of_group[0] for of_group in facts]), list(notes)),
                     options.output_dir)


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate the recognizers that the options name, and write the results of one, of several, or a comparison."""
    options = build_parser().parse_args(argv)
    check_ranges(options, batch_size=(1, 65536), num_workers=(0, 256), image_size=(32, 2048), gpu=(-1, 1023))
    if options.image_size % 32:
        raise UserError(f"--image_size {options.image_size}: must be a multiple of 32, like 64 or 256")
    groups = find_groups(options)
    from commands.matrix import (COMPARISON, POOLED_RESULTS, RESULTS, check_results, find_keys, predictions_table,
                                 with_format, write_pooled, write_report)
    from commands.trained import facts_of
    from datasets.files import check_output
    from evaluation.comparison import Pooled

    check_output(options.output_dir, "--output_dir", directory=True)
    names, folders = options.names, groups[0]
    if options.against and (options.format != "png" or options.title):
        raise UserError("--format and --title are those of a confusion matrix, which --against does not write; leave "
                        "them out")
    if names and len(names) != len(groups):
        raise UserError(f"--names {' '.join(names)}: name each of the {len(groups)} settings")
    files = POOLED_RESULTS if len(folders) > 1 else RESULTS
    files = COMPARISON if options.against else with_format(files, options.format)
    check_results(options.output_dir, f"--output_dir {options.output_dir}", files)
    if options.against or len(folders) > 1:
        facts = [list(map(facts_of, of_group)) for of_group in groups]
        flags = ["--resume_dir"] + ["--against"] * len(options.against)
        keys = list(map(find_keys, groups, facts, flags))
    if options.against:
        return compare(options, groups, facts, keys)
    if len(folders) > 1:
        results, expressions = evaluate_each(options, folders)
        pooled = Pooled(list(map(str, folders)), [result.predictions.report for result in results])
        found = dict.fromkeys(finding for result in results for finding in result.findings())
        return write_pooled(pooled, expressions, f"{len(folders)} recognizers, {options.split} images",
                            options.output_dir, list(found),
                            [predictions_table(result, expressions) for result in results], options.format,
                            options.title)
    result, layout = evaluate_folder(options, folders[0])
    write_report(result, layout.expressions, f"{folders[0]} on {layout.root}, {options.split} images",
                 options.output_dir, options.format, options.title)


if __name__ == "__main__":
    run_command(main)
