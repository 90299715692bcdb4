"""Videos → frames, through OpenCV, which is an optional package; and which face of a frame is which person."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator, Sequence

import numpy
from PIL import Image

from datasets.aligning.detect import overlap
from datasets.crops import Picture
from utils import UserError


class Video:
    """A video file: ``frames`` is about how many it has, ``rate`` how many a second.

    UserError where OpenCV is not installed or cannot read it.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            import cv2
        except ImportError:
            raise UserError(f"--input {path}: reading a video needs OpenCV, which is not installed; "
                            "pip install -r requirements-optional.txt") from None
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what FFmpeg has to say is not for users
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        self.path = Path(path)
        self._opened = cv2.VideoCapture(str(path))
        if not self._opened.isOpened() or not self._opened.grab():
            raise UserError(f"--input {path}: OpenCV cannot read it as a video; convert it to MP4 (H.264)")
        rate = self._opened.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else 25.0
        self.frames = max(1, int(self._opened.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __call__(self, every: int = 1) -> Iterator[Picture]:
        """Every ``every``-th frame from the first on; one that is broken ends the video."""
        number, here = 0, True
        while here:
            if number % every == 0:
                whole, frame = self._opened.retrieve()
                if whole:
                    image = Image.fromarray(numpy.ascontiguousarray(frame[:, :, ::-1]))
                    yield Picture(self.path, number, number / self.rate, image)
            number, here = number + 1, self._opened.grab()
        self._opened.release()


class Persons:
    """Numbers for the faces of one frame after another, from 1: the face that lies where one was keeps its number.

    A face that has not been seen for ``patience`` frames is forgotten.
    """

    LEAST_OVERLAP = 0.3

    def __init__(self, patience: int = 30) -> None:
        self.patience, self._known, self._count = patience, {}, 0

    def __call__(self, boxes: Sequence[tuple[float, float, float, float] | None]) -> list[int]:
        """Boxes (left, top, width, height) of a frame → their persons; None, the whole frame, is always person 1."""
        if any(box is None for box in boxes):
            return [1] * len(boxes)
        self._known = {person: (box, age + 1) for person, (box, age) in self._known.items() if age < self.patience}
        numbers = [0] * len(boxes)
        for _, face, person in sorted(self._pairs(boxes), reverse=True):
            if not numbers[face] and person not in numbers:
                numbers[face] = person
        for face, box in enumerate(boxes):
            if not numbers[face]:
                self._count += 1
                numbers[face] = self._count
            self._known[numbers[face]] = (box, 0)
        return numbers

    def _pairs(self, boxes: Sequence) -> Iterator[tuple[float, int, int]]:
        """Overlap, face and person of all that may be the same."""
        for person, (known, _) in self._known.items():
            shares = overlap(numpy.asarray(known, float), numpy.asarray(boxes, float).reshape(-1, 4))
            yield from ((share, face, person) for face, share in enumerate(shares) if share >= self.LEAST_OVERLAP)
