"""The table of GAN recipes in the README: trains each for the same number of steps and measures its swaps.

    python tests/measure_recipes.py --jobs 2

The recipes are flags of train.py on top of ``--preset demo``, whose learning rate falls faster for the fewer epochs;
every run has the same data and judge, and the same perceptual network but for ``--perceptual_disturbed``. No recognizer
is trained. What is finished is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

PAPER = ("--no_scene_truth --no_mirror --lambda_adv_loss 1 --lambda_vgg_loss 15 --lambda_l2_loss 10 "
         "--lr_decay_steps 300 --lr 2e-4 --G_max 22")
AWAKE = PAPER + " --lr 4e-3 --G_max 1000"
TRUTHS = AWAKE + " --scene_truth"
RECIPES = {
    "METHOD §3": PAPER,
    "METHOD §3, `--lr 4e-3 --G_max 1000`: the discriminators never rest": AWAKE,
    "… and `--paired 0.5 --paired_metric l1 --lambda_paired_loss 40`":
        AWAKE + " --paired 0.5 --paired_metric l1 --lambda_paired_loss 40",
    "… instead `--scene_truth --paired_metric l2 --lambda_paired_loss 600`": TRUTHS,
    "… and the other weights and flags of `--preset tuned`":
        TRUTHS + " --mirror --ema 0.99 --lambda_vgg_loss 3",
    "`--preset demo`": "",
    **{f"demo, but `{change}`": change for change in (
        "--paired_metric l1 --lambda_paired_loss 150",
        "--lambda_adv_loss 1 --lambda_vgg_loss 3", "--lambda_adv_loss 0", "--vgg_taps 0 0 0 0.25 1",
        "--ema 0.99", "--ema 0.99 --lr_decay_steps 300", "--lr_d 1e-3", "--adv_loss hinge --lambda_r1_loss 1",
        "--lambda_cycle_loss 10", "--lambda_residual_loss 5", "--diff_aug", "--perceptual_disturbed")},
}


def run(words: list[str], log: Path, threads: int) -> None:
    """A command of this repository, its output in a file; SystemExit where it fails."""
    with open(log, "a") as output:
        done = subprocess.run([sys.executable, "train.py", *words], cwd=REPOSITORY, stdout=output, stderr=output,
                              env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: exit status {done.returncode}, see {log}")


def measure(name: str, options: argparse.Namespace) -> dict:
    """Train and evaluate one recipe, or read what an earlier call has measured."""
    folder = options.out.resolve() / "".join(letter if letter.isalnum() else "_" for letter in name)
    left = [folder / "synthesis.json", folder / "minutes.json"]
    if all(path.is_file() for path in left):
        return {key: value for path in left for key, value in json.loads(path.read_text()).items()}
    folder.mkdir(parents=True, exist_ok=True)
    recipe, common = RECIPES[name].split(), ["--preset", "demo", "--checkpoint_dir", str(folder)]
    own = "--perceptual_disturbed" in recipe
    shared = [] if own else ["--perceptual", str(options.out.resolve() / "perceptual.t7")]
    started = time.monotonic()
    run([*common, *shared, "--epochs", str(options.epochs), "--round_every", str(options.epochs + 1), "--overwrite",
         "--lr_decay_steps", str(max(1, 12 * options.epochs // 25)), *recipe], folder / "log.txt", options.threads)
    minutes = (time.monotonic() - started) / 60
    run([*common, "--mode", "evaluate", "--restore", "--judge", str(options.out.resolve() / "judge.pth")],
        folder / "log.txt", options.threads)
    (folder / "minutes.json").write_text(json.dumps({"minutes": minutes}))
    return measure(name, options)


def main() -> None:
    """Measure the recipes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6, help="GAN epochs")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--threads", type=int, default=1, help="threads of a run")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "checkpoint" / "recipes", help="where the runs go")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if not (options.out / "perceptual.t7").is_file() or not (options.out / "judge.pth").is_file():
        common = ["--preset", "demo", "--checkpoint_dir", str(options.out.resolve() / "first")]
        run([*common, "--epochs", "1", "--round_every", "2", "--overwrite"], options.out / "log.txt", os.cpu_count())
        (options.out / "first" / "VGG_loss" / "6_max_ckpt.t7").rename(options.out / "perceptual.t7")
        run([*common, "--mode", "evaluate", "--restore", "--judge", str(options.out.resolve() / "judge.pth")],
            options.out / "log.txt", os.cpu_count())
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda name: measure(name, options), RECIPES))
    print("| recipe | minutes | transferred | old kept | PSNR (unchanged input) | SSIM | right person | Fréchet |")
    print("|---|---|---|---|---|---|---|---|")
    for name, r in zip(RECIPES, results):
        print(f"| {name} | {r['minutes']:.1f} | {r['transfer']:.1f} % | {r['kept']:.1f} % | {r['true_psnr']:.2f} "
              f"({r['unchanged_psnr']:.2f}) | {r['true_ssim']:.3f} | {r['identity']:.1f} % | {r['fid']:.1f} |")


if __name__ == "__main__":
    main()
