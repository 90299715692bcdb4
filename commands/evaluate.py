"""``--mode evaluate``: measure the swaps of a run on its test images; print a table and write ``synthesis.json``."""

from dataclasses import replace
from pathlib import Path
from typing import Iterator, Sequence

import numpy
import torch

import utils
from commands.trained import load_gan, read_data, subject_numbers
from datasets.files import check_output
from datasets.layout import Layout, Sample
from datasets.lists import image_directory
from datasets.loading import Images, load
from datasets.plans import Plan, ground_truth_swaps
from evaluation import verdict
from evaluation.synthesis import Gallery, SynthesisReport, Trial, evaluate_synthesis
from models.gan import Swapper
from models.judge import ExpressionJudge, load_judge, save_judge
from models.networks import Pair
from models.recognizer import Recognizer, accuracies, evaluate
from options.config import Config, LoadingOptions
from training.facts import Facts, findings
from training.phases import JUDGE_SEED, new_judge
from utils import UserError, fingerprint

JUDGE_EPOCHS, BATCH = 25, 32


def evaluate_swaps(config: Config) -> None:
    """Measure the run's swaps, print the metrics, and write ``synthesis.json`` into ``--output`` or the run.

    The judge is read from ``--judge``, else from the run, else trained and saved there or in ``--output``. Raises
    UserError if an output cannot be written or the run's networks or data are missing.
    """
    run, judge_path = Path(config.run.checkpoint_dir), Path(config.use.judge or "judge.pth")
    folder = Path(config.use.output or run)
    path = folder / "synthesis.json"
    if not config.use.judge:
        judge_path = (run if (run / judge_path).is_file() else folder) / judge_path
    outputs = (path, "--output"), *([] if judge_path.is_file() else [(judge_path, "--judge")])
    for output, flag in outputs:
        check_output(output, flag)
    trained = load_gan(config)
    names, layout = trained.names, read_data(config, trained)
    for output, flag in outputs:
        check_output(output, flag, trees=[image_directory(layout.root)])
    report = measure(trained.swapper, layout, config.loading, judge_path)
    recognized = run / "test_result" / "confusion_matrix.json"
    found = [*findings(Facts.of_metadata(trained.metadata),
                       Facts.of_images(layout, {"test": Images(layout.test, 0, "none")})),
             *verdict.of_judge(report.judge_accuracy, len(names)), *verdict.of_swaps(report, len(names)),
             *verdict.beside_judge(utils.read_json(recognized) if recognized.is_file() else {}, report.judge_accuracy)]
    utils.write_json(path, {"checkpoint_dir": str(run), "data_dir": str(layout.root), **report.as_dict(names),
                            "verdict": found})
    print(f"swaps of {run} on {layout.root}, test images\n\n{report.as_text(names)}\n\n"
          f"{verdict.as_text(found, 'these swaps and their judge')}\n\nwrote {path}")


def measure(gan: Swapper, layout: Layout, loading: LoadingOptions, judge_path: Path) -> SynthesisReport:
    """Measure the swaps of a GAN on the test images of a layout; the judge is trained first if there is none yet.

    Raises UserError if the test images show fewer than two expressions.
    """
    if len({sample.label for sample in layout.test}) < 2:
        raise UserError(f"{layout.root}: the test images show fewer than two expressions, there is nothing to swap")
    size, device = gan.shape.image_size, gan.device
    train, test = (Images(samples, size, loading.cache) for samples in (layout.train, layout.test))
    judge, accuracy = find_judge(judge_path, layout, train, test, device, loading.num_workers)
    subjects = subject_numbers(layout.test)
    gallery = Gallery.from_batches(judge, test.evaluation_batches(BATCH, device), torch.from_numpy(subjects).to(device))
    train_features = numpy.concatenate([judge.describe(image) for image, _ in train.evaluation_batches(BATCH, device)])
    return evaluate_synthesis(gan, judge, accuracy, trials(test, subjects, device, loading.num_workers), gallery,
                              train_features)


def trials(test: Images, subjects: numpy.ndarray, device: torch.device, num_workers: int) -> Iterator[Trial]:
    """Yield batches of swaps: every test image with every other expression, of another person where there is one.

    ``subjects`` (N,) are the persons in the test images, as :func:`subject_numbers` numbers them.
    """
    first, second = all_swaps(test.samples, subjects)
    plan = replace(Plan.of(first, second, sizes=BATCH), truth=ground_truth_swaps(first, second, test.samples))
    for planned, batch in zip(plan, utils.progress(load(test, plan, num_workers), "swapping", len(plan), "batch")):
        batch, n = batch.to(device), len(batch.label)
        pair = Pair(batch.first, batch.second, batch.label, batch.second_label)
        if batch.truth is None:
            truth, known = pair.image_a, torch.zeros(n, dtype=torch.bool)
        else:
            truth, known = batch.truth[:n], batch.known[:n]
        yield Trial(pair, truth, known, torch.from_numpy(subjects[planned.first]).to(device))


def all_swaps(samples: Sequence[Sample], subjects: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return the positions of A and of B (K,): each image once with each other expression.

    They depend on the samples alone, so that all runs on these images are measured on the same swaps.
    """
    labels = numpy.array([sample.label for sample in samples])
    random = numpy.random.default_rng(utils.derived_seed(JUDGE_SEED, "swaps"))
    pairs = []
    for shift in range(1, labels.max() + 1):
        for a in range(len(samples)):
            has_expression = labels == (labels[a] + shift) % (labels.max() + 1)
            candidates = numpy.flatnonzero(has_expression & (subjects != subjects[a]))
            candidates = candidates if len(candidates) else numpy.flatnonzero(has_expression)
            if len(candidates):
                pairs.append((a, random.choice(candidates)))
    return tuple(numpy.array(pairs).T)


def find_judge(path: Path, layout: Layout, train: Images, test: Images, device: torch.device,
               num_workers: int) -> tuple[ExpressionJudge, float]:
    """Return the judge in a file, and its accuracy in percent on the test images.

    If the file does not exist, a judge is trained and saved there. Raises UserError if the file holds
    a judge of other training images, expressions or another size.
    """
    trained_on = {"expressions": list(layout.expressions), "image_size": train.image_size,
                  "images": fingerprint([sample.name, sample.label] for sample in layout.train),
                  "content": train.content_digest()}
    if path.is_file():
        judge = load_judge(path, trained_on).to(device)
    else:
        print(f"{path}: not there yet, a judge is trained for {JUDGE_EPOCHS} epochs and kept there", flush=True)
        judge = new_judge(len(layout.expressions), train, JUDGE_EPOCHS, num_workers, device)
        save_judge(path, judge, trained_on)
    counts = evaluate(Recognizer(judge, device=device), None, test.evaluation_batches(BATCH, device),
                      len(layout.expressions))
    return judge, accuracies(counts)[0]
