"""Files of photographs → files of aligned faces, by one process or several."""

import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import numpy
from PIL import Image

from datasets.aligning.detect import FaceDetector, NoFace, align_points
from datasets.aligning.geometry import fit_of
from datasets.aligning.landmarks import LARGEST_TILT, Landmarks
from datasets.pictures import BLANK, BadPicture, exif_turn, greys_of, is_blank, read_picture
from utils import UserError, save_picture


@dataclass(frozen=True)
class Options:
    """What decides how an aligned picture looks.

    ``size`` is the side in pixels, ``margin`` the share of the crop added on each side, ``score`` the least confidence
    of a face, in 0..1. ``model`` (YuNet's ONNX file) is not needed where ``landmarks`` (a file of points) are given.
    """

    size: int
    margin: float
    every_face: bool
    score: float
    model: str | None
    landmarks: str | None


class Aligner:
    """Aligns single files: ``aligner(name)`` writes the face or faces of one image and returns its fault or None.

    ``source`` holds the photographs, ``target`` gets the faces; ``taken`` are the names of all largest faces.
    """

    def __init__(self, source: Path, target: Path, options: Options, taken: frozenset[str]):
        self._source, self._target, self._options, self._taken = source, target, options, taken
        self.landmarks = Landmarks(options.landmarks) if options.landmarks else None
        self._detector = None if self.landmarks else FaceDetector(options.model, options.score)

    def __call__(self, name: str) -> str | None:
        try:
            photo = read_picture(self._source / name)
            found = self._points(photo, name)
            pictures = [align_points(photo, points, self._options.size, self._options.margin)[0] for points in found]
        except BadPicture as error:
            return error.fault
        except UserError as error:
            return str(error)
        for number, picture in reversed(list(enumerate(pictures))):  # the first last: it tells that all are there
            save_picture(picture, self._target / self._face_name(name, number))
        return None

    def _points(self, photo: Image.Image, name: str) -> list[numpy.ndarray]:
        if self.landmarks is not None:
            points = self.landmarks.of(name)
            if points is None:
                raise UserError("no landmarks given")
            if is_blank(greys_of(photo)):
                raise BadPicture(name, BLANK)
            if abs(fit_of(points).tilt) > LARGEST_TILT and exif_turn(self._source / name) is not None:
                raise UserError("unusable landmarks: they were found before the picture was turned as its EXIF block "
                                "says")
            if fault := self.landmarks.fault_of(name, photo.size):
                raise UserError(f"unusable landmarks: {fault}")
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
    return name if name.lower().endswith((".jpg", ".jpeg", ".png")) else name + ".jpg"


# --------------------------------------------------------------------------------------------- many processes

_aligner: Aligner | None = None


def _start_worker(*arguments) -> None:
    global _aligner
    signal.signal(signal.SIGINT, signal.SIG_IGN)    # the parent stops the workers
    _aligner = Aligner(*arguments)


def _align_one(name: str) -> tuple[str, str | None]:
    return name, _aligner(name)


def align_all(names: list[str], workers: int, *arguments) -> Iterator[tuple[str, str | None]]:
    """Align images by several processes; yields (name, fault or None) in order.

    ``arguments`` are those of :class:`Aligner`. Raises UserError if a process dies.
    """
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
