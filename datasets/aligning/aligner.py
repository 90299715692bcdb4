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
from datasets.aligning.geometry import measure_fit
from datasets.aligning.landmarks import LARGEST_TILT, Landmarks
from datasets.pictures import BLANK, BadPicture, exif_turn, greys_of, is_blank, read_picture
from utils import UserError, save_picture


@dataclass(frozen=True)
class Options:
    """The options that decide how an aligned picture looks.

    ``size`` is the side in pixels, ``margin`` the share of the crop added on each side, ``score`` the least confidence
    of a face, in 0..1. ``model`` (YuNet's ONNX file) is not needed if ``landmarks`` (a file of points) are given.
    """

    size: int
    margin: float
    every_face: bool
    score: float
    model: str | None
    landmarks: str | None


class Aligner:
    """Aligns single photographs: ``aligner(name)`` writes the faces of one and returns what is wrong with it, or None.

    Photographs lie below ``source``, faces are written below ``target``; ``used_names`` are the file names of the
    largest faces of all photographs.
    """

    def __init__(self, source: Path, target: Path, options: Options, used_names: frozenset[str]):
        self._source, self._target, self._options, self._used_names = source, target, options, used_names
        self.landmarks = Landmarks(options.landmarks) if options.landmarks else None
        self._detector = None if self.landmarks else FaceDetector(options.model, options.score)

    def __call__(self, name: str) -> str | None:
        try:
            photo = read_picture(self._source / name)
            faces = [align_points(photo, points, self._options.size, self._options.margin)[0]
                     for points in self._points(photo, name)]
        except BadPicture as error:
            return error.fault
        except UserError as error:
            return str(error)
        for number, face in reversed(list(enumerate(faces))):  # the largest last: once it is there, all are
            save_picture(face, self._target / self._face_name(name, number))
        return None

    def _points(self, photo: Image.Image, name: str) -> list[numpy.ndarray]:
        """Return the five points (5, 2) of each face to cut out. Raises UserError if there are none to be used."""
        if self.landmarks is not None:
            points = self.landmarks.points_of(name)
            if points is None:
                raise UserError("no landmarks given")
            if is_blank(greys_of(photo)):
                raise BadPicture(name, BLANK)
            if abs(measure_fit(points).tilt) > LARGEST_TILT and exif_turn(self._source / name) is not None:
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
        if number == 0:
            return output_name(name)
        stem, ending = output_name(name).rsplit(".", 1)
        while f"{stem}_{number}.{ending}" in self._used_names:   # another photograph has this name
            stem += "_face"
        return f"{stem}_{number}.{ending}"


def output_name(name: str) -> str:
    """Return the name of an aligned picture: the source's, with ``.jpg`` appended unless it is a JPEG or PNG file."""
    return name if name.lower().endswith((".jpg", ".jpeg", ".png")) else name + ".jpg"


# ------------------------------------------------------------------------------------------ several processes

MOST_WORKERS = 61  # Windows allows no more processes in a pool

_aligner: Aligner | None = None


def _start_worker(*arguments) -> None:
    global _aligner
    signal.signal(signal.SIGINT, signal.SIG_IGN)    # the parent stops the workers
    _aligner = Aligner(*arguments)


def _align_one(name: str) -> tuple[str, str | None]:
    return name, _aligner(name)


def align_all(names: list[str], workers: int, *arguments) -> Iterator[tuple[str, str | None]]:
    """Align images by several processes, and yield each name in order with what is wrong with its image, or None.

    ``arguments`` are those of :class:`Aligner`. Raises UserError if a process dies.
    """
    if workers == 1 or len(names) < 2:
        aligner = Aligner(*arguments)
        yield from ((name, aligner(name)) for name in names)
        return
    pool = ProcessPoolExecutor(min(workers, len(names), MOST_WORKERS), multiprocessing.get_context("spawn"),
                               initializer=_start_worker, initargs=arguments)
    try:
        yield from pool.map(_align_one, names, chunksize=4)
    except BrokenProcessPool:
        raise UserError("a worker process died (out of memory?); run the command again with fewer --workers, "
                        "it continues where it stopped") from None
    finally:
        pool.shutdown(cancel_futures=True)
