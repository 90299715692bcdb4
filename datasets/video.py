"""Videos → frames, read with OpenCV, which is an optional package; and faces → persons from frame to frame."""

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Iterator, Sequence

import numpy
from PIL import Image

from datasets.aligning.detect import overlap
from datasets.crops import Picture
from utils import UserError, placeholder

FAILURES = 100  # failed attempts in a row to read a frame, after which the video counts as ended


class Video:
    """A video file of about ``frames`` frames; ``times`` are those of the frames read so far, in seconds.

    The constructor raises UserError if OpenCV is not installed or cannot read the file.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            import cv2
        except ImportError:
            raise UserError(f"--input {path}: reading a video needs OpenCV, which is not installed; "
                            "pip install -r requirements-optional.txt") from None
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg's messages do not help users
        with suppress(AttributeError):  # some builds of OpenCV have no cv2.utils.logging
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        self.path = Path(path)
        self._opened, self._time_property = cv2.VideoCapture(str(path)), cv2.CAP_PROP_POS_MSEC
        self.times, self._gaps = [], 0
        if not self._opened.isOpened() or not self._grab():
            kind = placeholder(path)
            fault = f"is {kind}" if kind else "OpenCV cannot read it as a video; convert it to MP4 (H.264)"
            raise UserError(f"--input {path}: {fault}")
        rate = self._opened.get(cv2.CAP_PROP_FPS)
        self._rate = rate if 0 < rate < 1e5 else 25.0
        self.frames = max(1, int(self._opened.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __call__(self, every: int = 1) -> Iterator[Picture]:
        """Yield every ``every``-th frame that can be read, from the first on, at the container's times."""
        number, is_frame = 0, True
        while is_frame:
            self.times.append(self._time())
            if number % every == 0:
                is_decoded, frame = self._opened.retrieve()
                if is_decoded:
                    image = Image.fromarray(numpy.ascontiguousarray(frame[:, :, ::-1]))
                    yield Picture(self.path, number, self.times[-1], image)
                else:
                    self._gaps += 1
            number, is_frame = number + 1, self._grab()
        self._opened.release()

    @property
    def step(self) -> float:
        """The seconds from one frame to the next, without the longest gaps."""
        return float(numpy.quantile(numpy.diff(self.times), 0.95)) if len(self.times) > 1 else 1 / self._rate

    @property
    def missing(self) -> int:
        """The number of announced frames that could not be read; 0 for a video without a gap."""
        missing = self.frames - len(self.times)
        ends_early = self.frames / self._rate - self.times[-1] > 2.5 * max(self.step, 1 / self._rate)
        return max(missing, self._gaps) if self._gaps or missing > 1 and ends_early else 0

    def _grab(self) -> bool:
        """Go to the next frame, past damaged ones. Return False at the end of the video."""
        for failures in range(FAILURES):
            if self._opened.grab():
                self._gaps += bool(failures)
                return True
        return False

    def _time(self) -> float:
        """Return the current frame's time in seconds, derived from the nominal rate if the container has none."""
        seconds = self._opened.get(self._time_property) / 1000
        if not self.times:
            return seconds if math.isfinite(seconds) and seconds >= 0 else 0.0
        is_valid = math.isfinite(seconds) and seconds > self.times[-1]
        return seconds if is_valid else self.times[-1] + 1 / self._rate


class Persons:
    """Numbers for the faces of successive frames, from 1: a face that overlaps an earlier one gets its number.

    A face that has not been seen for ``patience`` frames is forgotten.
    """

    LEAST_OVERLAP = 0.3

    def __init__(self, patience: int = 30) -> None:
        self.patience, self._known, self._count = patience, {}, 0

    def __call__(self, boxes: Sequence[tuple[float, float, float, float] | None]) -> list[int]:
        """Return the persons' numbers for boxes (left, top, width, height) of a frame.

        None, the whole frame, is always person 1.
        """
        if any(box is None for box in boxes):
            return [1] * len(boxes)
        self._known = {person: (box, age + 1) for person, (box, age) in self._known.items() if age < self.patience}
        numbers = [0] * len(boxes)
        for _, face, person in sorted(self._candidates(boxes), reverse=True):
            if not numbers[face] and person not in numbers:
                numbers[face] = person
        for face, box in enumerate(boxes):
            if not numbers[face]:
                self._count += 1
                numbers[face] = self._count
            self._known[numbers[face]] = (box, 0)
        return numbers

    def _candidates(self, boxes: Sequence) -> Iterator[tuple[float, int, int]]:
        """Yield overlap, face and person for all faces that may be a known person."""
        for person, (known, _) in self._known.items():
            overlaps = overlap(numpy.asarray(known, float), numpy.asarray(boxes, float).reshape(-1, 4))
            yield from ((value, face, person) for face, value in enumerate(overlaps) if value >= self.LEAST_OVERLAP)
