"""Face detection and alignment: ``python -m datasets.align SRC OUT --model FILE``.

Every face is turned upright and cut out at one size by a similarity transform of its five points. Where SRC is a
data directory (it has an ``images.list``), OUT becomes one too: its lists, without the images that show no face.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

from datasets.places import ENDINGS, check_apart, check_writable, is_image_name
from utils import UserError, progress, read_json, run_command, save_picture, sha256, write_json, write_text

if TYPE_CHECKING:
    import numpy
    from PIL import Image

    from datasets.detect import FaceDetector
    from datasets.landmarks import Landmarks

DEFAULT_SIZE, DEFAULT_MARGIN = 256, 0.0
_KEPT_ENDINGS = (".jpg", ".jpeg", ".png")


class NoFace(UserError):
    """The picture shows no face that the detector is sure of."""


def open_photo(path: str | Path) -> "Image.Image":
    """A picture file as an RGB image, turned as its EXIF data say. UserError where it cannot be read."""
    from PIL import Image, ImageOps

    from datasets.layout import image_fault

    fault = image_fault(Path(path))
    if fault:
        raise UserError(f"{path}: {fault}")
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # Pillow's format plugins raise whatever they stumble over
        if isinstance(error, MemoryError):
            raise
        raise UserError(f"{path}: damaged ({shortened_error(error)})") from None


def shortened_error(error: Exception) -> str:
    """The first line of an exception's text, or its type."""
    return (str(error).splitlines() or [type(error).__name__])[0][:80]


def align_face(photo: "Image.Image", size: int, margin: float,
               detector: "FaceDetector") -> tuple["Image.Image", "numpy.ndarray"]:
    """The largest face of an RGB photograph, upright in ``size`` × ``size`` pixels, and the 2×3 matrix to it.

    The matrix maps points of the photograph to points of the crop; :func:`datasets.geometry.paste_back` takes it to
    put an edited face back. Raises :class:`NoFace`.
    """
    faces = detector(photo)
    if not faces:
        raise NoFace("no face found")
    return align_points(photo, faces[0].points, size, margin)


def align_points(photo: "Image.Image", points: "numpy.ndarray", size: int,
                 margin: float) -> tuple["Image.Image", "numpy.ndarray"]:
    """As :func:`align_face`, for known points (5, 2) in pixels. UserError where they are no face of the picture."""
    from datasets.geometry import similarity, template, warp

    try:
        matrix = similarity(points, template(size, margin))
        inside = ((points >= -0.5 * max(photo.size)) & (points <= 1.5 * max(photo.size))).all()
        if not inside:
            raise ValueError("the points lie outside the picture")
        return warp(photo, matrix, size), matrix
    except ValueError as error:
        raise UserError(f"unusable landmarks: {error}") from None


# ------------------------------------------------------------------------------------------------ one image

@dataclass(frozen=True)
class Options:
    """What decides how an aligned picture looks: kept in ``OUT/align.json``, so that a second run can go on."""

    size: int
    margin: float
    every_face: bool
    score: float
    model: str | None
    landmarks: str | None


class Aligner:
    """Aligns single files: ``aligner(name)`` writes the face or faces of one image and returns its fault or None."""

    def __init__(self, source: Path, target: Path, options: Options, taken: frozenset[str]):
        from datasets.detect import FaceDetector
        from datasets.landmarks import Landmarks

        self._source, self._target, self._options, self._taken = source, target, options, taken
        self._landmarks: "Landmarks | None" = Landmarks(options.landmarks) if options.landmarks else None
        self._detector = None if self._landmarks else FaceDetector(options.model, options.score)

    def __call__(self, name: str) -> str | None:
        try:
            photo = open_photo(self._source / name)
            found = self._points(photo, name)
            pictures = [align_points(photo, points, self._options.size, self._options.margin)[0] for points in found]
        except UserError as error:
            return str(error).removeprefix(f"{self._source / name}: ")
        for number, picture in reversed(list(enumerate(pictures))):  # the first last: it tells that all are there
            save_picture(picture, self._target / self._face_name(name, number))
        return None

    def _points(self, photo: "Image.Image", name: str) -> list["numpy.ndarray"]:
        if self._landmarks is not None:
            points = self._landmarks.of(name)
            if points is None:
                raise UserError("no landmarks given")
            return [points]
        faces = self._detector(photo, self._options.every_face)
        if not faces:
            raise NoFace("no face found")
        return [face.points for face in faces]

    def _face_name(self, name: str, number: int) -> str:
        stem, ending = output_name(name).rsplit(".", 1)
        if number == 0:
            return f"{stem}.{ending}"
        while f"{stem}_{number}.{ending}" in self._taken:   # another photograph has this name
            stem += "_face"
        return f"{stem}_{number}.{ending}"


def output_name(name: str) -> str:
    """The name of an aligned picture: the source's, with ``.jpg`` appended unless it is a JPEG or PNG file."""
    return name if name.lower().endswith(_KEPT_ENDINGS) else name + ".jpg"


def alignment_of(root: Path) -> dict[str, float] | None:
    """The ``size`` and ``margin`` with which this command made a directory; None for any other directory."""
    record = Path(root) / "align.json"
    told = read_json(record) if record.is_file() else None
    if not isinstance(told, dict) or not all(isinstance(told.get(name), (int, float)) for name in ("size", "margin")):
        return None
    return {"size": int(told["size"]), "margin": float(told["margin"])}


# --------------------------------------------------------------------------------------------- many processes

_aligner: Aligner | None = None


def _start_worker(*arguments) -> None:
    global _aligner
    signal.signal(signal.SIGINT, signal.SIG_IGN)    # the parent stops the workers
    _aligner = Aligner(*arguments)


def _align_one(name: str) -> tuple[str, str | None]:
    return name, _aligner(name)


def align_all(names: list[str], workers: int, *arguments) -> Iterator[tuple[str, str | None]]:
    """Align images by several processes; yields (name, fault or None) in order."""
    if workers == 1 or len(names) < 2:
        aligner = Aligner(*arguments)
        yield from ((name, aligner(name)) for name in names)
        return
    pool = ProcessPoolExecutor(min(workers, len(names)), multiprocessing.get_context("spawn"),
                               initializer=_start_worker, initargs=arguments)
    try:
        yield from pool.map(_align_one, names, chunksize=4)
    except BrokenProcessPool:
        raise UserError("a worker process died (out of memory?); run the command again with fewer --workers, "
                        "it goes on where it stopped") from None
    finally:
        pool.shutdown(cancel_futures=True)


# ------------------------------------------------------------------------------------------------ the command

def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    asked = _parser().parse_args(arguments)
    _check_options(asked)
    source, out = Path(asked.source), Path(asked.out)
    from datasets.layout import image_directory

    is_layout = (source / "images.list").is_file() or any(source.glob("list_attr_*_train.txt"))
    if is_layout and asked.every_face:
        raise UserError(f"--all: {source} is a data directory and its lists have one label per image; "
                        "align without --all")
    photos, faces = (image_directory(source), out / "data") if is_layout else (source, out)
    names = _image_names(photos)
    options = Options(asked.size, asked.margin, asked.every_face, asked.score,
                      None if asked.landmarks else sha256_of_model(asked.model),
                      os.path.abspath(asked.landmarks) if asked.landmarks else None)
    taken = frozenset(map(output_name, names))
    if len(taken) < len(names):
        raise UserError(f"{photos}: some images differ only in that one ends in .jpg; rename one of them")
    worker_options = Options(**{**asdict(options), "model": asked.model})
    setup = (photos, faces, worker_options, taken)
    Aligner(*setup)     # a missing package or a wrong model shows here, before anything is written
    _open_output(out, options, asked.overwrite)

    waiting = [name for name in names if asked.overwrite or not _is_done(photos / name, faces / output_name(name))]
    faults = dict(progress(align_all(waiting, asked.workers, *setup), "aligning", len(waiting), "image"))
    faults = {name: fault for name, fault in faults.items() if fault}
    write_text(out / "no_face.list", "".join(f"{name} {fault}\n" for name, fault in sorted(faults.items())))
    aligned = [name for name in names if name not in faults]
    _report(names, waiting, faults, out)
    if not aligned:
        raise UserError(f"{photos}: none of the {len(names)} images shows a face; see {out / 'no_face.list'}")
    if is_layout:
        carry_lists(source, out, set(aligned))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m datasets.align", description=__doc__.split("\n\n", 1)[1],
        epilog="The model: YuNet, published as face_detection_yunet in opencv_zoo and as yunet_n_640_640.onnx in "
               "libfacedetection.train (both on GitHub). It runs in OpenCV: pip install -r requirements-optional.txt")
    parser.add_argument("source", metavar="SRC", help="a directory of photographs, or a data directory with lists")
    parser.add_argument("out", metavar="OUT", help="where the aligned faces go, in the same subdirectories")
    parser.add_argument("--model", metavar="FILE", help="YuNet's ONNX file (not needed with --landmarks)")
    parser.add_argument("--landmarks", metavar="FILE", help="no detection: lines \"<name> x1 y1 ... x5 y5\" (right "
                        "eye, left eye, nose, mouth corners), or RAF-DB's directory of *_manu_attri.txt")
    parser.add_argument("--size", type=int, default=DEFAULT_SIZE, help="side of the faces in pixels (%(default)s)")
    parser.add_argument("--margin", type=float, default=DEFAULT_MARGIN,
                        help="share of the crop (forehead to chin) added on each side (%(default)s)")
    parser.add_argument("--all", dest="every_face", action="store_true",
                        help="keep every face of a photograph (name.jpg, name_1.jpg, ...), not the largest alone")
    parser.add_argument("--score", type=float, default=0.6, help="least confidence of a face, 0 to 1 (%(default)s)")
    parser.add_argument("--workers", type=int, default=_cores(), help="processes (one per core: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="align everything anew, e.g. with other options")
    return parser


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_options(asked: argparse.Namespace) -> None:
    source, out = Path(asked.source), Path(asked.out)
    if not source.is_dir():
        raise UserError(f"{source}: no such directory of photographs")
    if not asked.model and not asked.landmarks:
        raise UserError("--model FILE is needed to find faces (YuNet's ONNX file, see --help), "
                        "or --landmarks FILE where their points are known")
    if asked.landmarks and not Path(asked.landmarks).exists():
        raise UserError(f"{asked.landmarks}: no such landmarks file")
    for name, value, low, high in (("size", asked.size, 16, 4096), ("margin", asked.margin, -0.2, 2),
                                   ("score", asked.score, 0.05, 1), ("workers", asked.workers, 1, 512)):
        if not low <= value <= high:
            raise UserError(f"--{name} {value}: must be from {low} to {high}")
    check_apart(source, out)
    check_writable(out)


def sha256_of_model(model: str) -> str:
    """The SHA-256 of the model file; UserError where it is absent."""
    from datasets.detect import MODEL_HINT

    if not Path(model).is_file():
        raise UserError(f"{model}: no such model file; {MODEL_HINT}")
    return sha256(model)


def _image_names(photos: Path) -> list[str]:
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*")
                   if is_image_name(path.name) and path.is_file())
    if not names:
        raise UserError(f"{photos}: holds no images ({' '.join(ENDINGS)})")
    return names


def _open_output(out: Path, options: Options, overwrite: bool) -> None:
    record, told = out / "align.json", asdict(options)
    if not record.is_file() and not overwrite and out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out}: holds something else already; choose another output directory, "
                        "or write into it with --overwrite")
    if record.is_file() and not overwrite:
        before = read_json(record)
        changed = [key for key in told if not isinstance(before, dict) or before.get(key) != told[key]]
        if changed:
            raise UserError(f"{out}: was made with another {', '.join(changed)}; choose another output directory, "
                            "or align everything anew with --overwrite")
    write_json(record, told)


def _is_done(photo: Path, face: Path) -> bool:
    return face.is_file() and photo.is_file() and face.stat().st_mtime >= photo.stat().st_mtime


def _report(names: list[str], waiting: list[str], faults: dict[str, str], out: Path) -> None:
    earlier = len(names) - len(waiting)
    print(f"{len(names) - len(faults)} of {len(names)} images aligned into {out}"
          + (f" ({earlier} of them by an earlier run)" if earlier else ""))
    broken = {name: fault for name, fault in faults.items() if fault != "no face found"}
    if faults:
        print(f"{len(faults) - len(broken)} without a face, {len(broken)} unusable: listed in {out / 'no_face.list'}")
    for name, fault in list(broken.items())[:5]:
        print(f"warning: {name}: {fault}", file=sys.stderr)


# ------------------------------------------------------------------------------------------------- the lists

def carry_lists(source: Path, out: Path, aligned: set[str]) -> None:
    """Write the lists of a data directory for its aligned images, ``images.list`` last.

    The list of pairs is not carried: it would name images that are left out, and training draws its own.
    """
    names = [path.name for path in (source / "expressions.txt", source / "subjects.list",
                                    *sorted(source.glob("list_attr_*_t*.txt")), source / "images_val.list",
                                    source / "images_test.list", source / "images.list") if path.is_file()]
    texts = {name: _carried(source / name, aligned) for name in names}
    for name, (text, left_out) in texts.items():
        write_text(out / name, text)
        if left_out:
            print(f"{name}: {left_out} lines left out, their images have no aligned face")


def _carried(path: Path, aligned: set[str]) -> tuple[str, int]:
    from datasets.layout import read_lines

    lines = read_lines(path)
    if path.name == "expressions.txt":
        return "".join(line + "\n" for line in lines), 0
    head: list[str] = []
    if path.name.startswith("list_attr_"):
        head, lines = lines[:2], lines[2:]
    lines = [line for line in lines if line.strip()]
    words = len(head[1].split()) if head else 1
    cut = [line.split(None, 1) if path.name == "subjects.list" else line.rsplit(None, words) for line in lines]
    kept = [" ".join([output_name(name.strip()), *rest]) for name, *rest in cut if name.strip() in aligned]
    if head:
        head[0] = str(len(kept))
    return "".join(line + "\n" for line in [*head, *kept]), len(lines) - len(kept)


if __name__ == "__main__":
    run_command(main)
