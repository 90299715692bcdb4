"""Measure how level the eyes are after alignment: detect the faces of aligned images again and print the eyes' tilt.

    python experiments/measure_alignment.py aligned/data --model yunet_n_640_640.onnx

It prints two figures: one by the project's detector (which averages and refines YuNet's points, as the alignment does),
and one by one plain YuNet pass at 400 px (independent of that refinement, but noisier on small faces).
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from datasets.aligning.detect import FaceDetector, NoFace  # noqa: E402
from datasets.aligning.geometry import eye_tilt  # noqa: E402
from datasets.pictures import read_picture  # noqa: E402

PLAIN_SIDE = 400


def start_worker(model: str) -> None:
    """Create the two detectors of a worker process."""
    global refined, plain
    import cv2

    cv2.setNumThreads(1)
    refined = FaceDetector(model)
    plain = cv2.FaceDetectorYN.create(model, "", (PLAIN_SIDE, PLAIN_SIDE), 0.3, 0.3, 5000)


def tilts(path: Path) -> tuple[float, float]:
    """Return the eyes' tilt in degrees by the refined and by the plain detection; NaN if no face is found."""
    photo = read_picture(path)
    try:
        tilt = abs(eye_tilt(refined(photo)[0].points))
    except NoFace:
        tilt = numpy.nan
    _, rows = plain.detect(numpy.array(photo.resize((PLAIN_SIDE, PLAIN_SIDE)))[:, :, ::-1].copy())
    largest = None if rows is None else max(rows, key=lambda row: row[2] * row[3])
    return tilt, numpy.nan if largest is None else abs(eye_tilt(largest[4:14].reshape(5, 2)))


def main() -> None:
    """Measure all images and print both figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="aligned images")
    parser.add_argument("--model", required=True, help="YuNet's ONNX file")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    paths = sorted(path for path in options.folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    with ProcessPoolExecutor(options.workers, initializer=start_worker, initargs=(options.model,)) as pool:
        degrees = numpy.array(list(pool.map(tilts, paths, chunksize=8)))
    for name, values in zip(("refined detection", "one plain pass"), degrees.T):
        median, percentile, largest = numpy.nanpercentile(values, [50, 95, 100])
        print(f"{name}: {(values <= 2).sum()} of {len(values)} within 2 degrees ({100 * (values <= 2).mean():.1f} %), "
              f"median {median:.2f}, 95 % {percentile:.2f}, largest {largest:.1f}, not found again "
              f"{numpy.isnan(values).sum()}")


if __name__ == "__main__":
    main()
