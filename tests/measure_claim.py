"""The paper's claim, tested: does joint training help recognition? Joint against real images alone, over several seeds.

    python tests/measure_claim.py --data drawn --seeds 5 --jobs 2
    python tests/measure_claim.py --data neutral --seeds 5 --jobs 2
    python tests/measure_claim.py --data wild --seeds 5 --jobs 2
    python tests/measure_claim.py --data neutral --seeds 5 --jobs 2 --joint="--encode_synthesized --gan_until 0.5"

``drawn`` are ten drawn persons with all expressions, ``neutral`` the same ten and sixty of whom only neutral faces are
known, ``wild`` the photographs of wild_faces.

For every seed one perceptual network and one GAN are trained, and from there two recognizers for the same number of
batches: one gets ``--gan_raw`` synthesized batches after each real one, the other real ones in their place
(``--gan_raw 0``). Both are judged on the test images that neither training nor the choice of the best state has seen.
What is finished is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from scipy import stats

REPOSITORY = Path(__file__).resolve().parents[1]
SMALL = ("--image_size 64 --base_width 16 --vgg_width 8 --fc_width 256 --vgg_init stage0 --perceptual_lr 1e-3 "
         "--batch_size 16 --lr 2e-3 --vgg_lr 1e-2 --vgg_batch_size 16 --G_max 1000")
DRAWN = ("--data_dir {faces} --mirror --scene_truth --paired_metric l2 --lambda_paired_loss 600 --lambda_adv_loss 0.3 "
         "--lambda_vgg_loss 1 --lambda_l2_loss 60 ")
DATA = {
    "drawn": DRAWN + "--perceptual_epochs 60 --epochs 60 --round_every 60 --lr_decay_steps 4",
    "neutral": DRAWN + ("--lambda_adv_loss 0.1 --lambda_vgg_loss 0.5 --lr 4e-3 --perceptual_epochs 40 --epochs 60 "
                        "--round_every 60 --lr_decay_steps 9"),
    "wild": (f"--data_dir {REPOSITORY.parent / 'shared/data/wild_faces'} "
             "-a anger disgust happiness sadness surprise neutral --perceptual_epochs 40 --epochs 4 --round_every 4 "
             "--lr_decay_steps 10 --mirror"),
}
ROUND_EPOCHS = {"drawn": 20, "neutral": 8, "wild": 6}
ALL_EXPRESSIONS, NEUTRAL_ONLY = 10, 60


def train(words: list[str], folder: Path, threads: int) -> None:
    """``python train.py`` with its output in a file; SystemExit where it fails."""
    output = folder.with_name(folder.name + ".txt")
    with open(output, "a") as log:
        done = subprocess.run([sys.executable, "train.py", "--checkpoint_dir", str(folder), *words], cwd=REPOSITORY,
                              stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    if done.returncode:
        raise SystemExit(f"train.py {' '.join(words)}: exit status {done.returncode}, see {output}")


def accuracies(seed: int, options: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Accuracy and mean class accuracy in % on the test images, of both recognizers of a seed."""
    base, found = options.out / f"{options.data}_{seed}_gan", {}
    settings = [*SMALL.split(), *DATA[options.data].format(faces=faces_of(options)).split(), "--seed", str(seed)]
    if not (base / "finished").is_file():
        train([*settings, "--round_epochs", "0", "--overwrite"], base, options.threads)
        (base / "finished").touch()
    for name, count in (("joint", options.gan_raw), ("real", 0)):
        # --gan_raw 0 puts six real batches after each real one: as many epochs as give the same number of batches.
        epochs = options.round_epochs or ROUND_EPOCHS[options.data]
        epochs = epochs if count else max(1, round(epochs * (1 + options.gan_raw) / 7))
        more = options.joint.split() if count else []
        folder = options.out / "_".join([options.data, str(seed), name, str(options.gan_raw), f"{epochs}epochs",
                                         *(word.strip("-") for word in more)])
        result = folder / "test_result" / "confusion_matrix.json"
        if not result.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(base, folder)
            train(["--restore", "--force", "--round_epochs", str(epochs), "--gan_raw", str(count), *more],
                  folder, options.threads)
        figures = json.loads(result.read_text())
        found[name] = figures["accuracy"], figures["mean_class_accuracy"]
    return found


def faces_of(options: argparse.Namespace) -> Path:
    """The directory of the drawn faces: ten persons, or seventy of whom sixty have lost all but their neutral ones."""
    return options.out / f"faces_{options.data}"


def draw(options: argparse.Namespace) -> None:
    """Draw the faces of ``--data`` if they are absent."""
    root = faces_of(options)
    if options.data == "wild" or (root / "complete").is_file():
        return
    persons = ALL_EXPRESSIONS + (NEUTRAL_ONLY if options.data == "neutral" else 0)
    subprocess.run([sys.executable, "-m", "datasets.synthetic", str(root), "--subjects_train", str(persons)],
                   cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    subject_of = dict(line.split()[:2] for line in (root / "subjects.list").read_text().splitlines())
    lines = (root / "images.list").read_text().splitlines(keepends=True)
    (root / "images.list").write_text("".join(
        line for line in lines if line.split()[1] == "5" or subject_of[line.split()[0]] <= f"p{ALL_EXPRESSIONS:04d}"))
    (root / "complete").touch()


def interval(values: numpy.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """The t interval of the mean of values (N,)."""
    if len(values) < 2 or values.std() == 0:
        return float(values.mean()), float(values.mean())
    return stats.t.interval(confidence, len(values) - 1, values.mean(), stats.sem(values))


def main() -> None:
    """Run the seeds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=tuple(DATA), default="drawn", help="which faces")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, ...")
    parser.add_argument("--gan_raw", type=int, default=6, help="synthesized batches after each real one")
    parser.add_argument("--joint", default="", metavar="OPTIONS", help="more options of train.py for the joint one")
    parser.add_argument("--round_epochs", type=int, help="recognizer epochs (default: 20 drawn, 8 neutral, 6 wild)")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at once")
    parser.add_argument("--threads", type=int, default=1, help="threads of a run")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "checkpoint" / "claim", help="where the runs go")
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    draw(options)
    with ThreadPoolExecutor(options.jobs) as pool:
        found = list(pool.map(lambda seed: accuracies(seed, options), range(options.seeds)))
    print("| seed | joint | real alone | difference |\n|---|---|---|---|")
    for seed, both in enumerate(found):
        print(f"| {seed} | {both['joint'][0]:.1f} % | {both['real'][0]:.1f} % | "
              f"{both['joint'][0] - both['real'][0]:+.1f} |")
    for i, title in enumerate(("accuracy", "mean class accuracy")):
        joint, real = (numpy.array([both[name][i] for both in found]) for name in ("joint", "real"))
        low, high = interval(joint - real)
        print(f"\n{title}: joint {joint.mean():.1f} %, real alone {real.mean():.1f} %, difference "
              f"{(joint - real).mean():+.1f} points, 95 % confidence interval {low:+.1f} to {high:+.1f} "
              f"(t distribution, {len(found)} seeds)")


if __name__ == "__main__":
    main()
