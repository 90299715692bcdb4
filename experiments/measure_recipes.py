"""Train GAN recipes with other rates and weights than the demo's on its data, and measure their swaps.

    python experiments/measure_recipes.py --jobs 2
    python experiments/measure_recipes.py --jobs 2 --seed 1

The recipes are flags of train.py on top of ``--preset demo``; every run of a seed has the same data, judge and
perceptual network. No recognizer is trained. Finished runs of an earlier call are not repeated.
"""

import argparse
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from running import REPOSITORY, train

NO_TRUTH = "--lambda_truth_loss 0 --lambda_adv_loss 1 --lambda_vgg_loss 3 --lambda_l2_loss 10"
RECIPES = {
    "`--preset demo`": "",
    **{f"demo, but `{flags}`": flags for flags in (
        "--d_lr_ratio 1 --d_gain 1", "--d_lr_ratio 1", "--d_lr_ratio 1 --d_gain 32", "--d_lr_ratio 2 --d_gain 1",
        "--d_lr_ratio 0.5 --d_gain 1", "--d_lr_ratio 0.5", "--d_gain 1", "--d_gain 16", "--d_lr_ratio 0.125 --d_gain 1",
        "--d_lr_ratio 0.125", "--d_gain 1 --epochs 10", NO_TRUTH, f"--d_gain 1 {NO_TRUTH}", f"--epochs 25 {NO_TRUTH}",
        f"--epochs 25 {NO_TRUTH} --lambda_adv_loss 2")},
}


def measure(name: str, options: argparse.Namespace) -> dict:
    """Return the measures of one recipe, which is trained and evaluated unless an earlier call has done so."""
    folder = options.out.resolve() / "".join(letter if letter.isalnum() else "_" for letter in name)
    results = [folder / "synthesis.json", folder / "minutes.json"]
    if all(path.is_file() for path in results):
        return {key: value for path in results for key, value in json.loads(path.read_text()).items()}
    folder.mkdir(parents=True, exist_ok=True)
    recipe, common = RECIPES[name].split(), ["--preset", "demo", "--checkpoint_dir", str(folder)]
    shared = ["--perceptual", str(options.out.resolve() / "perceptual.t7"), "--seed", str(options.seed)]
    began = time.monotonic()
    train([*common, *shared, "--epochs", str(options.epochs), "--round_every", "1000", "--overwrite", *recipe],
          folder / "log.txt", options.threads)
    minutes = (time.monotonic() - began) / 60
    train([*common, "--mode", "evaluate", "--restore", "--judge", str(options.out.resolve() / "judge.pth")],
          folder / "log.txt", options.threads)
    (folder / "minutes.json").write_text(json.dumps({"minutes": minutes}))
    return measure(name, options)


def main() -> None:
    """Measure the recipes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="seed of all runs")
    parser.add_argument("--epochs", type=int, default=15, help="GAN epochs, where a recipe has no number of its own")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--threads", type=int, default=1, help="threads of a run")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "checkpoint" / "recipes", help="where the runs go")
    options = parser.parse_args()
    options.out /= f"seed_{options.seed}"
    options.out.mkdir(parents=True, exist_ok=True)
    if not (options.out / "perceptual.t7").is_file() or not (options.out / "judge.pth").is_file():
        common = ["--preset", "demo", "--checkpoint_dir", str(options.out.resolve() / "first")]
        train([*common, "--epochs", "1", "--round_every", "2", "--overwrite", "--seed", str(options.seed)],
              options.out / "log.txt", os.cpu_count())
        (options.out / "first" / "VGG_loss" / "6_max_ckpt.t7").rename(options.out / "perceptual.t7")
        train([*common, "--mode", "evaluate", "--restore", "--judge", str(options.out.resolve() / "judge.pth")],
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
