"""The paper's claim, tested: does joint training help recognition? Joint against real images alone, over several seeds.

    python tests/measure_claim.py --data drawn --seeds 5 --jobs 2
    python tests/measure_claim.py --data wild --seeds 5 --jobs 2

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
DATA = {
    "drawn": ("--data_dir {drawn} --perceptual_epochs 60 --epochs 60 --round_every 60 --lr_decay_steps 10 --mirror "
              "--scene_truth --paired_metric l2 --lambda_paired_loss 600 --lambda_adv_loss 0.3 --lambda_vgg_loss 1 "
              "--lambda_l2_loss 60"),
    "wild": (f"--data_dir {REPOSITORY.parent / 'shared/data/wild_faces'} "
             "-a anger disgust happiness sadness surprise neutral --perceptual_epochs 40 --epochs 6 --round_every 6 "
             "--lr_decay_steps 10 --mirror"),
}
ROUND_EPOCHS = {"drawn": 20, "wild": 8}


def train(words: list[str], folder: Path, threads: int) -> None:
    """``python train.py`` with its output in a file; SystemExit where it fails."""
    with open(folder.with_suffix(".txt"), "a") as log:
        done = subprocess.run([sys.executable, "train.py", "--checkpoint_dir", str(folder), *words], cwd=REPOSITORY,
                              stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    if done.returncode:
        raise SystemExit(f"train.py {' '.join(words)}: exit status {done.returncode}, see {folder.with_suffix('.txt')}")


def accuracies(seed: int, options: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Accuracy and mean class accuracy in % on the test images, of both recognizers of a seed."""
    base, found = options.out / f"{options.data}_{seed}_gan", {}
    settings = [*SMALL.split(), *DATA[options.data].format(drawn=options.out / "faces").split(), "--seed", str(seed)]
    if not (base / "finished").is_file():
        train([*settings, "--round_epochs", "0", "--overwrite"], base, options.threads)
        (base / "finished").touch()
    for name, count in (("joint", options.gan_raw), ("real", 0)):
        folder = options.out / f"{options.data}_{seed}_{name}_{options.gan_raw}"
        result = folder / "test_result" / "confusion_matrix.json"
        if not result.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(base, folder)
            # Real ones stand in for as many synthesized batches as the other recognizer gets: six with --gan_raw 0.
            train(["--restore", "--force", "--round_epochs", str(options.round_epochs or ROUND_EPOCHS[options.data]),
                   "--gan_raw", str(count)], folder, options.threads)
        figures = json.loads(result.read_text())
        found[name] = figures["accuracy"], figures["mean_class_accuracy"]
    return found


def interval(values: numpy.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """The t interval of the mean of values (N,)."""
    if len(values) < 2 or values.std() == 0:
        return float(values.mean()), float(values.mean())
    return stats.t.interval(confidence, len(values) - 1, values.mean(), stats.sem(values))


def main() -> None:
    """Run the seeds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=tuple(DATA), default="drawn", help="few drawn persons, or wild_faces")
    parser.add_argument("--persons", type=int, default=10, help="drawn persons to train on, two scenes of each")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, ...")
    parser.add_argument("--gan_raw", type=int, default=6, help="synthesized batches after each real one")
    parser.add_argument("--round_epochs", type=int, help="recognizer epochs (default: 20 drawn, 8 wild)")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at once")
    parser.add_argument("--threads", type=int, default=1, help="threads of a run")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "checkpoint" / "claim", help="where the runs go")
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.data == "drawn" and not (options.out / "faces" / "images.list").is_file():
        subprocess.run([sys.executable, "-m", "datasets.synthetic", str(options.out / "faces"), "--subjects_train",
                        str(options.persons)], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
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
