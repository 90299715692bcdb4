"""Test the paper's claim that joint training helps recognition, against real images alone, over several seeds.

    python -m datasets.align ../shared/data/wild_longtail aligned --size 128 \\
        --model ../shared/data/yunet/yunet_n_640_640.onnx
    python experiments/measure_claim.py --data longtail --faces aligned --first_seed 30 --seeds 8 --jobs 2
    python experiments/measure_claim.py --data drawn --first_seed 30 --seeds 8 --jobs 2
    python experiments/measure_claim.py --data neutral --persons 5 10 --first_seed 30 --seeds 8 5 --jobs 2

``drawn`` are ten drawn persons with all expressions; ``neutral`` the same and sixty more persons with neutral faces
only (``--persons`` draws the curve over the number of persons with all expressions); ``wild`` and ``longtail`` are
photographs.

Every seed has a perceptual network, a GAN and two recognizers with the same balancing, learning rates and number of
images: half of each batch of the joint one is synthesized, for which the other one has further real images
(``--gan_raw 0``). They are compared on test images that were used neither for training nor for choosing the best
state: the mean of the paired differences with its 95 % interval, and a paired t test. Finished runs of an earlier call
are not repeated. """

import argparse
import csv
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from PIL import Image, ImageDraw, ImageFont

from running import REPOSITORY, train

sys.path.insert(0, str(REPOSITORY))

from evaluation.comparison import Paired  # noqa: E402

SMALL = ("--preset tuned --data_dir {faces} --image_size 64 --base_width 16 --vgg_width 8 --fc_width 256 "
         "--vgg_init stage0 --perceptual_lr 1e-3 --batch_size 16 --lr 2e-3 --ema 0.995 --vgg_batch_size 16 "
         "--vgg_lr 1e-2 --zero_biases --lazy 4 --d_gain 8 --d_lr_ratio 0.25 ")
DRAWN = SMALL + ("--lambda_adv_loss 0.15 --lambda_vgg_loss 0 --lambda_l2_loss 60 --lambda_coarse_loss 0 "
                 "--lambda_gray_loss 0 --even_phases 0 --perceptual_epochs 60 ")
PHOTOGRAPHS = SMALL + ("-a anger disgust happiness sadness surprise neutral --perceptual_epochs 18 "
                       "--lambda_vgg_loss 3 --lambda_gray_loss 50 ")
SETTINGS = {"drawn": DRAWN, "neutral": DRAWN + "--select_on none ",  # too few persons for a validation split
            "wild": PHOTOGRAPHS, "longtail": PHOTOGRAPHS}
GAN_STEPS = {"drawn": 1200, "neutral": 1000, "wild": 1000, "longtail": 1200}  # rounded to whole epochs
IMAGES = {"drawn": 20000, "neutral": 20000, "wild": 16000, "longtail": 22000}  # in all steps of a recognizer
SIDES = {"real": "--gan_raw 0", "joint": ""}
NEUTRAL_ONLY = 60


def run(argv: list[str], folder: Path, threads: int) -> None:
    """Run ``python train.py`` on a run's directory, with its output in a file beside the directory."""
    train(["--checkpoint_dir", str(folder), *argv], folder.with_name(folder.name + ".txt"), threads)


def accuracies(seed: int, persons: int, options: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Return accuracy and mean class accuracy in percent on the test images, of every recognizer of a seed."""
    faces, name = faces_of(options, persons), f"{options.data}{persons or ''}_{seed}"
    base, results = options.out / f"{name}_gan", {}
    count = len((faces / "images.list").read_text().splitlines())
    images = count if options.data == "neutral" else 0.9 * count  # without those of the validation split
    epochs = max(1, round(GAN_STEPS[options.data] * 16 / images))
    round_epochs = max(1, round(IMAGES[options.data] / (2 * images)))
    settings = [*SETTINGS[options.data].format(faces=faces).split(), "--seed", str(seed), "--epochs", str(epochs),
                "--round_every", str(epochs)]
    if not (base / "finished").is_file():
        run([*settings, "--round_epochs", "0", "--overwrite"], base, options.threads)
        (base / "finished").touch()
    for side, flags in SIDES.items():
        folder = options.out / f"{name}_{side}"
        matrix = folder / "test_result" / "confusion_matrix.json"
        if not matrix.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(base, folder)
            run(["--restore", "--force", "--round_epochs", str(round_epochs), *flags.split()], folder,
                options.threads)
        metrics = json.loads(matrix.read_text())
        results[side] = metrics["accuracy"], metrics["mean_class_accuracy"]
    return results


def faces_of(options: argparse.Namespace, persons: int) -> Path:
    """Return the data directory of photographs or drawn persons."""
    if options.faces:
        return options.faces.resolve()
    if options.data in ("wild", "longtail"):
        return REPOSITORY.parent / "shared" / "data" / {"wild": "wild_faces", "longtail": "wild_longtail"}[options.data]
    return options.out / f"faces_{options.data}{persons or ''}"


def draw(options: argparse.Namespace, persons: int) -> None:
    """Draw the faces of ``--data`` if they are absent; with ``neutral`` list only neutral ones of the last persons."""
    root = faces_of(options, persons)
    if options.data not in ("drawn", "neutral") or (root / "complete").is_file():
        return
    labelled = persons or 10
    total = labelled + (NEUTRAL_ONLY if options.data == "neutral" else 0)
    subprocess.run([sys.executable, "-m", "datasets.synthetic", str(root), "--subjects_train", str(total)],
                   cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    subject_of = dict(line.split()[:2] for line in (root / "subjects.list").read_text().splitlines())
    lines = (root / "images.list").read_text().splitlines(keepends=True)
    (root / "images.list").write_text("".join(
        line for line in lines if line.split()[1] == "5" or subject_of[line.split()[0]] <= f"p{labelled:04d}"))
    (root / "complete").touch()


def compare(results: list[dict[str, tuple[float, float]]], first_seed: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Print the table of all seeds and the comparison of both sides.

    Return the mean class accuracies (seeds,) of real images alone and of joint training.
    """
    print("| seed | " + " | ".join(SIDES) + " |\n|---" + "|---" * len(SIDES) + "|")
    for seed, sides in enumerate(results, first_seed):
        print(f"| {seed} | " + " | ".join(f"{acc:.1f} / {mean:.1f}" for acc, mean in sides.values()) + " |")
    for i, title in enumerate(("accuracy", "mean class accuracy")):
        real, joint = (numpy.array([sides[side][i] for sides in results]) for side in SIDES)
        print(f"\n{title}: joint {joint.mean():.1f} %, real alone {real.mean():.1f} %, difference "
              f"{Paired.from_values(real, joint).as_text()} (paired t, {len(results)} seeds)")
    return real, joint


def write_curve(sides: dict[int, tuple[numpy.ndarray, numpy.ndarray]], path: Path) -> None:
    """Write the mean class accuracy over the number of persons with all expressions, as ``PATH.csv`` and ``PATH.png``.

    ``sides`` are, for each number of persons, the accuracies (seeds,) of real images alone and of joint training. A dot
    is a seed, a line goes through the means.
    """
    with open(path.with_suffix(".csv"), "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["persons", "seed", "real", "joint"])
        writer.writerows([persons, seed, round(real, 2), round(joint, 2)]
                         for persons, both in sides.items() for seed, (real, joint) in enumerate(zip(*both)))
    width, height, left, right, top, bottom = 640, 400, 70, 500, 40, 340
    low = min(side.min() for both in sides.values() for side in both) // 10 * 10
    picture = Image.new("RGB", (width, height), "white")
    pen, font, black = ImageDraw.Draw(picture), ImageFont.load_default(15), (33, 37, 41)
    places = numpy.linspace(left + 40, right - 40, len(sides))

    def level(value: float) -> float:
        return top + (100 - value) / (100 - low) * (bottom - top)

    pen.text((8, 14), "mean class accuracy", black, font, anchor="lm")
    for value in range(int(low), 101, 10):
        pen.line((left, level(value), right, level(value)), (222, 226, 230))
        pen.text((left - 8, level(value)), f"{value} %", black, font, anchor="rm")
    for place, persons in zip(places, sides):
        pen.text((place, bottom + 20), str(persons), black, font, anchor="mm")
    pen.text(((left + right) / 2, bottom + 45), "persons with all expressions", black, font, anchor="mm")
    ends = [level(side.mean()) for side in list(sides.values())[-1]]
    spread = max(0, 18 - abs(ends[1] - ends[0])) / 2 * (1 if ends[1] > ends[0] else -1)  # the names do not overlap
    for i, (name, ink) in enumerate((("real alone", (130, 138, 145)), ("joint", (8, 69, 148)))):
        shift = (-6, 6)[i]  # the two sides' dots do not overlap
        pen.line([(place + shift, level(both[i].mean())) for place, both in zip(places, sides.values())], ink, 3)
        for place, both in zip(places, sides.values()):
            for value in both[i]:
                x, y = place + shift, level(value)
                pen.ellipse((x - 4, y - 4, x + 4, y + 4), "white", ink, 2)
        pen.text((right - 14, ends[i] + (-spread, spread)[i]), name, ink, font, anchor="lm")
    picture.save(path.with_suffix(".png"))


def main() -> None:
    """Run the seeds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=tuple(GAN_STEPS), default="drawn", help="which faces")
    parser.add_argument("--faces", type=Path, help="another directory of these photographs, like an aligned one")
    parser.add_argument("--seeds", type=int, nargs="+", default=[5], help="how many seeds; one number for each of "
                        "--persons, or one for all")
    parser.add_argument("--first_seed", type=int, default=0, help="the first of them")
    parser.add_argument("--persons", type=int, nargs="+", default=[0], help="of neutral: persons with all expressions")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at once")
    parser.add_argument("--threads", type=int, default=1, help="threads of a run")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "checkpoint" / "claim", help="where the runs go")
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    counts = options.seeds * (len(options.persons) if len(options.seeds) == 1 else 1)
    if len(counts) != len(options.persons):
        raise SystemExit("--seeds: give one number, or one for each of --persons")
    sides = {}
    for persons, seeds in zip(options.persons, counts):
        draw(options, persons)
        with ThreadPoolExecutor(options.jobs) as pool:
            results = list(pool.map(lambda seed: accuracies(seed, persons, options),
                                    range(options.first_seed, options.first_seed + seeds)))
        if persons:
            print(f"\n{persons} persons with all expressions\n")
        sides[persons] = compare(results, options.first_seed)
    if len(sides) > 1:
        write_curve(sides, options.out / "curve")
        print(f"\nwrote {options.out / 'curve.csv'} and {options.out / 'curve.png'}")


if __name__ == "__main__":
    main()
