"""Videos → frames and frames → videos, with OpenCV, which is an optional package."""

import contextlib
import math
import os
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy
from PIL import Image

from datasets.crops import Picture
from utils import UserError, opencv, placeholder

FAILURES = 100  # failed attempts in a row to read a frame, after which the video counts as ended


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

    def __call__(self, every: int = 1) -> Iterator[Picture]:
        """Yield every ``every``-th frame that can be read, from the first on, at the container's times."""
        self.times, self._gaps, number = [], 0, 0
        with self._opened() as opened:
            while self._grab(opened):
                self.times.append(self._time(opened))
                if number % every == 0:
                    is_decoded, frame = opened.retrieve()
                    self._gaps += not is_decoded
                    if is_decoded:
                        image = Image.fromarray(numpy.ascontiguousarray(frame[:, :, ::-1]))
                        yield Picture(self.path, number, self.times[-1], image)
                number += 1

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
