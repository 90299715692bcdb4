"""Measure seconds and memory up to the first GAN step, by ``--cache``: the table of start-up in experiments/README.md.

    python experiments/measure_startup.py --images 290000

The images are hard links with different names to a few drawn faces; six of them form a person. The run with ``disk`` is
started twice: the second time it is resumed, and finds the file that the first has written.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from datasets.drawing.data_set import make_dataset  # noqa: E402

TINY = ["--base_width", "4", "--vgg_width", "4", "--fc_width", "16", "--vgg_init", "none", "--lambda_vgg_loss", "0",
        "--epochs", "1", "--batch_size", "16", "--gpu", "-1"]
PROGRAM = """
import json, os, resource, sys, time
sys.path.insert(0, {repository!r})
import train
from utils import run_command
from models.gan import SwapGAN
step = SwapGAN.step
def first_step(gan, pair):
    step(gan, pair)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps([time.time() - {began}, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
    sys.stdout.flush()
    os._exit(0)
SwapGAN.step = first_step
sys.argv = {argv!r}
run_command(train.main)
"""


def link_faces(out: Path, images: int, image_size: int) -> Path:
    """Return a data directory of ``images`` links to drawn faces, every tenth person for the test; create it once."""
    faces = out / f"faces_{images}_{image_size}"
    if (faces / "images.list").is_file():
        return faces
    make_dataset(out / f"drawn_{image_size}", image_size=image_size, subjects_train=40, subjects_test=1, scenes=1)
    drawn = [line.split() for line in (out / f"drawn_{image_size}" / "images.list").read_text().splitlines()]
    lists: dict[str, list[str]] = {"images.list": [], "images_test.list": [], "subjects.list": []}
    for number in range(images):
        (source, label), name = drawn[number % len(drawn)], f"{number // 1000:04d}/{number:07d}.jpg"
        link, person = faces / "data" / name, number // 6
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            os.link(out / f"drawn_{image_size}" / "data" / source, link)
        lists["images_test.list" if person % 10 == 9 else "images.list"].append(f"{name} {label}")
        lists["subjects.list"].append(f"{name} p{person}")
    expressions = (out / f"drawn_{image_size}" / "expressions.txt").read_text()
    for name, lines in (("expressions.txt", [expressions]), *reversed(lists.items())):
        (faces / name).write_text("\n".join(lines) + "\n")
    return faces


def measure(argv: list[str]) -> list[float]:
    """Return seconds, CPU seconds and peak memory in KiB of the main process up to the end of the first GAN step."""
    program = PROGRAM.format(repository=str(REPOSITORY), began=time.time(), argv=["train.py", *argv])
    result = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        raise SystemExit(f"{' '.join(argv)}: exit status {result.returncode}")
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    """Measure every cache and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=290000, help="how many files")
    parser.add_argument("--image_size", type=int, default=64, help="their side, and that of the training")
    parser.add_argument("--cache", nargs="+", default=["none", "ram", "disk"], help="which to measure")
    parser.add_argument("--out", type=Path, default=Path("checkpoint/startup"), help="where links and runs go")
    options, more = parser.parse_known_args()
    faces = link_faces(options.out.resolve(), options.images, options.image_size)
    print("| `--cache` | seconds | main process: CPU seconds | its GiB |\n" + 4 * "|---" + "|")
    for cache in options.cache:
        folder = options.out.resolve() / f"run_{cache}"
        run = ["--data_dir", str(faces), "--checkpoint_dir", str(folder), "--image_size", str(options.image_size),
               "--cache", cache, *TINY, *more]
        for name, flag in ((cache, "--overwrite"), *([("disk, found again", "--restore")] * (cache == "disk"))):
            seconds, cpu_seconds, kibibytes = measure([*run, flag])
            print(f"| {name} | {seconds:.1f} | {cpu_seconds:.1f} | {kibibytes / 2 ** 20:.2f} |", flush=True)


if __name__ == "__main__":
    main()
