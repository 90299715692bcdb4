"""Any number of pictures or videos → faces as a recognizer takes them, with only a few pictures in memory at a time.

Videos are read and written with OpenCV, which is an optional package.
"""

import contextlib
import glob
import math
import os
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, NamedTuple, Sequence

import numpy
import torch
from PIL import Image
from torch import Tensor

from datasets.aligning.detect import FaceDetector, align_points
from datasets.files import ENDINGS, describe, walk
from datasets.loading import to_float, to_uint8
from datasets.pictures import BLANK, BadPicture, greys_of, is_blank, read_image, read_picture
from utils import UserError, opencv, placeholder

VIDEO_ENDINGS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".3gp", ".3g2", ".mts",
                 ".m2ts", ".ts", ".flv", ".ogv", ".vob", ".asf")
FAILURES = 100  # failed attempts in a row to read a frame, after which the video counts as ended


class Picture(NamedTuple):
    """A picture file, or a ``frame`` of a video (from 0): its ``image``, and its time in ``seconds`` from the start."""

    path: Path
    frame: int | None = None
    seconds: float | None = None
    image: Image.Image | None = None


class Crop(NamedTuple):
    """A face (3, S, S) uint8, and the box (left, top, width, height) where it was found, None for a whole picture."""

    pixels: Tensor
    box: tuple[int, int, int, int] | None = None


def is_video_name(path: str | Path) -> bool:
    """Return whether a file is a video by its name."""
    return Path(path).suffix.lower() in VIDEO_ENDINGS


def find_pictures(inputs: Sequence[str | Path]) -> tuple[list[Path], Counter]:
    """Return the files that names, directories (with all below them) and patterns like ``*.jpg`` mean, each once.

    Directories give their images alone, or their videos if they hold no images; the number of their other files is
    returned by the reason or by their ending. A file that is named itself is taken whatever its ending. Raises
    UserError if a file or directory does not exist, or if a directory or pattern gives no images.
    """
    chosen: dict[Path, None] = {}
    passed_over: Counter = Counter()
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            files = walk(path)
            pictures = files.images or list(filter(is_video_name, files.others))
            if not files.images:
                files.others = [file for file in files.others if not is_video_name(file)]
            passed_over += files.passed_over()
            if not pictures:
                raise UserError(f"--input {name}: holds no images ({' '.join(ENDINGS)}); "
                                f"{describe(files.passed_over())}")
        elif path.exists():
            pictures = [path]
        elif glob.has_magic(str(name)):
            pictures = sorted(path for path in map(Path, glob.glob(str(name), recursive=True)) if path.is_file())
            if not pictures:
                raise UserError(f"--input {name}: no file has such a name")
        else:
            raise UserError(f"--input {name}: no such file or directory")
        chosen.update(dict.fromkeys(pictures))
    return list(chosen), passed_over


def load_faces(paths: Iterable[str | Path], image_size: int, device: torch.device | str = "cpu") -> Tensor:
    """Return image files of faces as (N, 3, S, S) in [-1, 1] on a device. Raises UserError if one is broken."""
    return to_float(torch.stack([_pixels_of(path, read_image(path, image_size)) for path in paths]), device)


def _pixels_of(path: str | Path, picture: Image.Image) -> Tensor:
    """Return a picture as (3, H, W) uint8. Raises BadPicture if it is nearly one color."""
    if is_blank(greys_of(picture)):
        raise BadPicture(path, BLANK)
    return to_uint8(picture)


# ------------------------------------------------------------------------------------------------ cutting out

@dataclass(frozen=True)
class Preparation:
    """How pictures become faces, as in training: the side S, and ``size`` and ``margin`` of the alignment before it.

    ``model`` is YuNet's ONNX file, with which all faces are found and aligned; None uses whole pictures.
    """

    image_size: int
    model: str | None = None
    size: int | None = None
    margin: float = 0.0


class Cutter:
    """Finds the faces of a picture: ``cutter(picture)`` → its crops, the largest face first.

    With ``cutter(picture, every=False)`` it cuts the largest face alone.

    Networks take ``datasets.loading.to_float(torch.stack([crop.pixels for crop in crops]))``. The call raises UserError
    if a picture is broken and :class:`datasets.aligning.detect.NoFace` if it shows no face; the constructor raises
    UserError if the detector cannot be used. Threads may share one cutter.
    """

    def __init__(self, preparation: Preparation) -> None:
        self.preparation = preparation
        self._detector = FaceDetector(preparation.model) if preparation.model else None

    def __call__(self, picture: Picture, every: bool = True) -> list[Crop]:
        side, aligned = self.preparation.image_size, self.preparation.size or self.preparation.image_size
        if self._detector is None:
            whole = read_image(picture.path, side) if picture.image is None else resized(picture.image, side)
            return [Crop(_pixels_of(picture.path, whole))]
        photo, crops = picture.image or read_picture(picture.path), []
        for face in self._detector(photo, every):
            cut, _ = align_points(photo, face.points, aligned, self.preparation.margin)
            crops.append(Crop(to_uint8(resized(cut, side)), tuple(numpy.rint(face.box).astype(int).tolist())))
        return crops


def resized(picture: Image.Image, side: int) -> Image.Image:
    """Return a picture as a square of this side in pixels."""
    return picture if picture.size == (side, side) else picture.resize((side, side), Image.Resampling.BICUBIC)


def cut_in_batches(pictures: Iterable[Picture], cut: Callable[[Picture], list[Crop]], threads: int,
                   size: int, ahead: bool = False) -> Iterator[list[tuple[Picture, list[Crop] | UserError]]]:
    """Yield the pictures in order, ``size`` at a time, with their crops or their error.

    With ``ahead`` threads read the next batch while the caller uses this one; without it they rest, since a network on
    the CPU needs the cores.
    """
    def crops_or_error(picture: Picture) -> list[Crop] | UserError:
        try:
            return cut(picture)
        except UserError as error:
            return error

    pictures = iter(pictures)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        waiting: deque[tuple[list[Picture], Iterator[list[Crop] | UserError]]] = deque()
        for batch in chain(batches(pictures, size), [[]] * ahead):
            waiting.append((batch, pool.map(crops_or_error, batch)))
            if len(waiting) > ahead:
                yield list(zip(*waiting.popleft()))


def batches(items: Iterable, size: int) -> Iterator[list]:
    """Yield lists of ``size`` items; the last list may be shorter."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


# -------------------------------------------------------------------------------------------------------------- videos

class Video:
    """A video file of about ``frames`` frames of a ``size`` in pixels, ``rate`` of them a second.

    The file is open only while its frames are read. The constructor raises UserError if OpenCV is not installed or
    cannot read the file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.times, self._gaps = Path(path), [], 0
        with self._opened() as opened:
            if not self._grab(opened):
                kind = placeholder(path)
                fault = f"is {kind}" if kind else "OpenCV cannot read it as a video; convert it to MP4 (H.264)"
                raise UserError(f"--input {path}: {fault}")
            count, rate, width, height = (opened.get(value) for value in self._properties[1:])
        self.frames, self.size = max(1, int(count)), (int(width), int(height))
        self.rate = rate if 0 < rate < 1e5 else 25.0

    def __call__(self) -> Iterator[Picture]:
        """Yield every frame that can be read, at the container's times."""
        self.times, self._gaps = [], 0
        with self._opened() as opened:
            while self._grab(opened):
                self.times.append(self._time(opened))
                is_decoded, frame = opened.retrieve()
                self._gaps += not is_decoded
                if is_decoded:
                    image = Image.fromarray(numpy.ascontiguousarray(frame[:, :, ::-1]))
                    yield Picture(self.path, len(self.times) - 1, self.times[-1], image)

    @property
    def missing(self) -> int:
        """The number of announced frames that could not be read; 0 for a video without a gap."""
        missing, step = self.frames - len(self.times), 1 / self.rate
        usual_step = float(numpy.quantile(numpy.diff(self.times), 0.95)) if len(self.times) > 1 else step
        ends_early = self.frames * step - self.times[-1] > 2.5 * max(usual_step, step)
        return max(missing, self._gaps) if self._gaps or missing > 1 and ends_early else 0

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        cv2 = opencv(f"--input {self.path}: reading a video")
        self._properties = (cv2.CAP_PROP_POS_MSEC, cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS,
                            cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        opened = cv2.VideoCapture(str(self.path))
        try:
            yield opened
        finally:
            opened.release()

    def _grab(self, opened: Any) -> bool:
        """Go to the next frame, past damaged ones. Return False at the end of the video."""
        for failures in range(FAILURES):
            if opened.grab():
                self._gaps += bool(failures)
                return True
        return False

    def _time(self, opened: Any) -> float:
        """Return the current frame's time in seconds, derived from the nominal rate if the container has none."""
        seconds = opened.get(self._properties[0]) / 1000
        if not self.times:
            return seconds if math.isfinite(seconds) and seconds >= 0 else 0.0
        is_valid = math.isfinite(seconds) and seconds > self.times[-1]
        return seconds if is_valid else self.times[-1] + 1 / self.rate


@contextlib.contextmanager
def video_file(path: Path, rate: float, size: tuple[int, int]) -> Iterator[Callable[[Image.Image], None]]:
    """Write an MP4 video of this rate and size in pixels; yield the function that adds a frame.

    The video appears under its name complete or not at all. Raises UserError if OpenCV cannot write it.
    """
    cv2 = opencv(f"--output {path}: writing a video")
    temporary = path.with_name(f".{path.stem}.part.mp4")  # OpenCV chooses the container by the ending
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter_fourcc(*"mp4v"), rate, size)
    try:
        if not writer.isOpened():
            raise UserError(f"--output {path}: OpenCV cannot write an MP4 video there; name a picture (.jpg)")
        yield lambda image: writer.write(numpy.ascontiguousarray(numpy.asarray(image.resize(size))[:, :, ::-1]))
        writer.release()
        os.replace(temporary, path)
    finally:
        writer.release()
        temporary.unlink(missing_ok=True)
