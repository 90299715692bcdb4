"""Faces of a photograph: found with YuNet through OpenCV's ``FaceDetectorYN``, and cut out upright at one size.

OpenCV is an optional package and is imported when a detector is made.
"""

import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy
from PIL import Image

from datasets.aligning.geometry import eye_tilt, inverse, similarity, template, transformed, warp
from utils import UserError, opencv, placeholder, refuse

MODEL_HINT = ("YuNet is published as face_detection_yunet in OpenCV's model zoo (opencv_zoo on GitHub) and as "
              "yunet_n_640_640.onnx in libfacedetection.train")

# The longest side of the picture that the network sees, and the empty border around it as a share of that side. The
# largest face is sought in one view after the other. Faces that fill the picture need the second view, small ones the
# third; all faces are sought in all of them, and those of a large photograph in the last one too.
_VIEWS, _LARGE_VIEW = ((640, 0.0), (320, 0.25), (1280, 0.0)), (2560, 0.0)
_LARGE = 2048  # pixels of the longest side
_COVERED = 0.5  # the share of a box that another view has seen as a face, from which it is the same face

_SMALLEST = 8  # pixels of a side that can show a face; in smaller pictures some versions of OpenCV see faces at random

# YuNet's points are most exact in large upright faces; several sizes, because each has errors of its own.
_REFINE_SIDES, _REFINE_MARGIN = (400, 480, 352, 400, 480, 352), 0.3
_REFINE_AT_LEAST, _REFINE_TILT = 3, 0.75
_MIRRORED = [1, 0, 2, 4, 3]


@dataclass(frozen=True)
class Face:
    """A face of a photograph: ``points`` (5, 2) in pixels, and its ``box`` (left, top, width, height)."""

    points: numpy.ndarray
    box: numpy.ndarray


class NoFace(UserError):
    """The picture shows no face that the detector is sure of."""


def align_points(photo: Image.Image, points: numpy.ndarray, size: int, margin: float
                 ) -> tuple[Image.Image, numpy.ndarray]:
    """Return the face with these points (5, 2) in pixels, upright at ``size`` × ``size`` pixels, and its matrix (2, 3).

    ``margin`` is the share of the crop (forehead to chin) added on each side. The matrix maps points of the photograph
    to points of the crop. Raises UserError if the points are no face of the photograph.
    """
    is_outside = ((points < -0.5 * max(photo.size)) | (points > 1.5 * max(photo.size))).any()
    refuse("unusable landmarks", (is_outside, "the points lie outside the picture"))
    matrix = similarity(points, template(size, margin))
    return warp(photo, matrix, size), matrix


class FaceDetector:
    """Finds faces: ``FaceDetector(model)(photo)`` returns a list of :class:`Face`, the largest first.

    ``model`` is YuNet's ONNX file, ``score`` the least confidence of a face, in 0..1. Threads may share a detector.
    Raises UserError if OpenCV is not installed, and if the file is absent or not the model.
    """

    def __init__(self, model: str | Path, score: float = 0.6):
        cv2 = opencv("finding faces")
        is_there, fault = Path(model).is_file(), placeholder(model)
        refuse(f"OpenCV {cv2.__version__}", (not hasattr(cv2, "FaceDetectorYN"), "is too old for the face detector; "
                                             "pip install --upgrade -r requirements-optional.txt"))
        refuse(model, (not is_there, f"no such model file; {MODEL_HINT}"), (fault, f"is {fault}; {MODEL_HINT}"))
        cv2.setNumThreads(1)
        self._score, self._thread = score, threading.local()
        # OpenCV on Windows opens only paths of the system's code page, but takes the content of any file.
        source = (str(model), "") if str(model).isascii() else \
            ("onnx", numpy.fromfile(model, numpy.uint8), numpy.zeros(0, numpy.uint8))
        # All candidates of a face are kept (no suppression): their mean is more exact than the best one.
        self._create = partial(cv2.FaceDetectorYN.create, *source, (320, 320), score, 1.0, 5000)
        try:
            self._candidates(Image.new("RGB", (320, 320)), score)
        except cv2.error:
            raise UserError(f"{model}: OpenCV cannot use it as a YuNet face detector; {MODEL_HINT}") from None

    def __call__(self, photo: Image.Image, every: bool = False) -> list[Face]:
        """Return the largest face of an RGB photograph, or with ``every`` all of them by falling size.

        Faces of a hundredth of the longest side are still found with ``every``. Raises NoFace if there is none.
        """
        faces: list[Face] = []
        for side, border in _VIEWS + (_LARGE_VIEW,) * (every and max(photo.size) >= _LARGE):
            is_repeated = border == 0 and side > _VIEWS[0][0] >= max(photo.size)
            if min(photo.size) >= _SMALLEST and not is_repeated and (every or not faces):
                known = numpy.array([face.box for face in faces]).reshape(-1, 4)
                faces += [face for face in self._faces_in_view(photo, side, border)
                          if (_overlap(face.box, known, of_smaller=True) < _COVERED).all()]
        if not faces:
            raise NoFace("no face found")
        faces.sort(key=lambda face: face.box[2] * face.box[3], reverse=True)
        return [self._refine(photo, face) for face in (faces if every else faces[:1])]

    def _faces_in_view(self, photo: Image.Image, side: int, border: float) -> list[Face]:
        """Return the faces that the network sees in the photograph with this longest side and border."""
        side = side if border else min(side, max(photo.size))
        scale = side / max(photo.size)
        width, height = (max(1, round(scale * length)) for length in photo.size)
        border_pixels = round(border * side)
        view = Image.new("RGB", (width + 2 * border_pixels, height + 2 * border_pixels))
        view.paste(photo.resize((width, height), Image.Resampling.BILINEAR), (border_pixels, border_pixels))
        stretch = numpy.array(photo.size) / (width, height)
        return [Face((face.points - border_pixels) * stretch,
                     numpy.concatenate([(face.box[:2] - border_pixels) * stretch, face.box[2:] * stretch]))
                for face in _merge_candidates(self._candidates(view, self._score))]

    def _refine(self, photo: Image.Image, face: Face) -> Face:
        """Return the face with points that are found again in upright enlarged crops, until its eyes are found level.

        In small or tilted faces YuNet's points lean towards an upright face: a tilt of 10° shows as 3° to 9°.
        """
        points, estimates = face.points, []
        for side in _REFINE_SIDES:
            matrix = similarity(points, template(side, _REFINE_MARGIN))
            crop_points = self._points_in_crop(warp(photo, matrix, side))
            if crop_points is None:
                break
            estimates.append(transformed(inverse(matrix), crop_points))
            points = numpy.mean(estimates[1:] or estimates, axis=0)     # the first crop still had the coarse points
            if len(estimates) >= _REFINE_AT_LEAST and abs(eye_tilt(crop_points)) < _REFINE_TILT:
                break
        return Face(points, face.box)

    def _points_in_crop(self, crop: Image.Image) -> numpy.ndarray | None:
        """Return the points (5, 2) of the face in the middle of a crop, None if there is none.

        They are the mean of those found in the crop and in its mirror image.
        """
        estimates = []
        for picture, mirrored in ((crop, False), (crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT), True)):
            candidates = self._candidates(picture, 0.5 * self._score)
            off_center = numpy.abs(candidates[:, 4:14].reshape(-1, 5, 2).mean(1) - crop.width / 2).max(1)
            faces = _merge_candidates(candidates[off_center < crop.width / 5])
            if faces:
                points = faces[0].points
                estimates.append(points[_MIRRORED] * (-1, 1) + (crop.width, 0) if mirrored else points)
        return numpy.mean(estimates, axis=0) if estimates else None

    def _candidates(self, picture: Image.Image, score: float) -> numpy.ndarray:
        """Return box (4), points (10) and score of every place where the network sees a face: (N, 15)."""
        if not hasattr(self._thread, "network"):  # it has a state of its own
            self._thread.network = self._create()
        network = self._thread.network
        network.setInputSize(picture.size)
        network.setScoreThreshold(score)
        found = network.detect(numpy.asarray(picture)[:, :, ::-1].copy())[1]
        rows = numpy.zeros((0, 15)) if found is None else found
        has_area = (rows[:, 2:4] > 0).all(1)  # in pictures of a few pixels OpenCV 4 returns boxes without one
        return rows[has_area & numpy.isfinite(rows).all(1)].astype(float)


def _merge_candidates(candidates: numpy.ndarray) -> list[Face]:
    """Return the faces that candidates (N, 15) show, by falling score.

    Candidates that overlap the best one by half are averaged, weighted by their scores.
    """
    faces = []
    while len(candidates):
        best = candidates[candidates[:, 14].argmax()]
        overlaps = _overlap(best, candidates)
        same_face = candidates[overlaps >= 0.5]
        mean = numpy.average(same_face[:, :14], axis=0, weights=same_face[:, 14])
        faces.append(Face(mean[4:].reshape(5, 2), mean[:4]))
        candidates = candidates[overlaps < 0.3]
    return faces


def _overlap(box: numpy.ndarray, boxes: numpy.ndarray, of_smaller: bool = False) -> numpy.ndarray:
    """Return the intersection over union (N,) of a box (left, top, width, height, ...) with the rows of ``boxes``.

    With ``of_smaller`` it is the intersection over the smaller of the two.
    """
    low = numpy.maximum(box[:2], boxes[:, :2])
    high = numpy.minimum(box[:2] + box[2:4], boxes[:, :2] + boxes[:, 2:4])
    shared, area, areas = numpy.clip(high - low, 0, None).prod(1), box[2:4].prod(), boxes[:, 2:4].prod(1)
    return shared / (numpy.minimum(area, areas) if of_smaller else area + areas - shared)
