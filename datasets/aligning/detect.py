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
from utils import UserError, opencv, placeholder

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
    """A face of a photograph: ``points`` (5, 2) in pixels, ``box`` (left, top, width, height), ``score`` in 0..1."""

    points: numpy.ndarray
    box: numpy.ndarray
    score: float


class NoFace(UserError):
    """The picture shows no face that the detector is sure of."""


def align_points(photo: Image.Image, points: numpy.ndarray, size: int, margin: float
                 ) -> tuple[Image.Image, numpy.ndarray]:
    """Return the face with these points (5, 2) in pixels, upright at ``size`` × ``size`` pixels, and its matrix (2, 3).

    ``margin`` is the share of the crop (forehead to chin) added on each side. The matrix maps points of the photograph
    to points of the crop; :func:`datasets.aligning.geometry.paste_back` takes it to put an edited face back. Raises
    UserError if the points are no face of the photograph.
    """
    if ((points < -0.5 * max(photo.size)) | (points > 1.5 * max(photo.size))).any():
        raise UserError("unusable landmarks: the points lie outside the picture")
    try:
        matrix = similarity(points, template(size, margin))
        return warp(photo, matrix, size), matrix
    except ValueError as error:
        raise UserError(f"unusable landmarks: {error}") from None


class FaceDetector:
    """Finds faces: ``FaceDetector(model)(photo)`` returns a list of :class:`Face`, the largest first.

    ``model`` is YuNet's ONNX file, ``score`` the least confidence of a face, in 0..1. Threads may share a detector.
    Raises UserError if OpenCV is not installed, and if the file is absent or not the model.
    """

    def __init__(self, model: str | Path, score: float = 0.6):
        cv2 = opencv("finding faces")
        if not hasattr(cv2, "FaceDetectorYN"):
            raise UserError(f"OpenCV {cv2.__version__} is too old for the face detector; "
                            "pip install --upgrade -r requirements-optional.txt")
        cv2.setNumThreads(1)
        if not Path(model).is_file():
            raise UserError(f"{model}: no such model file; {MODEL_HINT}")
        if fault := placeholder(model):
            raise UserError(f"{model}: is {fault}; {MODEL_HINT}")
        self._score, self._thread = score, threading.local()
        # All candidates of a face are kept (no suppression): their mean is more exact than the best one.
        self._create = partial(cv2.FaceDetectorYN.create, *_source(str(model)), (320, 320), score, 1.0, 5000)
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
                seen = self._faces_in_view(photo, side, border)
                faces += [face for face in seen if all(_coverage(face.box, known.box) < _COVERED for known in faces)]
        if not faces:
            raise NoFace("no face found")
        faces.sort(key=lambda face: face.box[2] * face.box[3], reverse=True)
        return [self._refine(photo, face) for face in (faces if every else faces[:1])]

    def _faces_in_view(self, photo: Image.Image, side: int, border: float) -> list[Face]:
        """Return the faces that the network sees in the photograph with this longest side and border."""
        longest = max(photo.size)
        if border == 0:
            side = min(side, longest)
        scale = side / longest
        width, height = (max(1, round(scale * length)) for length in photo.size)
        border_pixels = round(border * side)
        view = Image.new("RGB", (width + 2 * border_pixels, height + 2 * border_pixels))
        view.paste(photo.resize((width, height), Image.Resampling.BILINEAR), (border_pixels, border_pixels))
        stretch = numpy.array(photo.size) / (width, height)
        return [Face((face.points - border_pixels) * stretch,
                     numpy.concatenate([(face.box[:2] - border_pixels) * stretch, face.box[2:] * stretch]), face.score)
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
        return Face(points, face.box, face.score)

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
        rows = network.detect(numpy.asarray(picture)[:, :, ::-1].copy())[1]
        if rows is None:
            return numpy.zeros((0, 15))
        has_area = (rows[:, 2:4] > 0).all(1)  # in pictures of a few pixels OpenCV 4 returns boxes without one
        return rows[has_area & numpy.isfinite(rows).all(1)].astype(float)


def _source(model: str) -> tuple:
    """Return the first arguments of FaceDetectorYN.create: a path or, since OpenCV on Windows opens only paths of the
    system's code page, the content of a file whose path has other letters than ASCII. """
    if model.isascii():
        return model, ""
    return "onnx", numpy.fromfile(model, numpy.uint8), numpy.zeros(0, numpy.uint8)


def _merge_candidates(candidates: numpy.ndarray) -> list[Face]:
    """Return the faces that candidates (N, 15) show, by falling score.

    Candidates that overlap the best one by half are averaged, weighted by their scores.
    """
    faces = []
    while len(candidates):
        best = candidates[candidates[:, 14].argmax()]
        overlaps = overlap(best, candidates)
        same_face = candidates[overlaps >= 0.5]
        mean = numpy.average(same_face[:, :14], axis=0, weights=same_face[:, 14])
        faces.append(Face(mean[4:].reshape(5, 2), mean[:4], float(best[14])))
        candidates = candidates[overlaps < 0.3]
    return faces


def overlap(box: numpy.ndarray, boxes: numpy.ndarray) -> numpy.ndarray:
    """Return the intersection over union (N,) of a box (left, top, width, height, ...) with the rows of ``boxes``."""
    shared = _intersection(box, boxes)
    return shared / (box[2:4].prod() + boxes[:, 2:4].prod(1) - shared)


def _coverage(box: numpy.ndarray, other: numpy.ndarray) -> float:
    """Return the share of the smaller of two boxes (left, top, width, height) that lies in the other."""
    return float(_intersection(box, other[None])[0] / min(box[2:].prod(), other[2:].prod()))


def _intersection(box: numpy.ndarray, boxes: numpy.ndarray) -> numpy.ndarray:
    low = numpy.maximum(box[:2], boxes[:, :2])
    high = numpy.minimum(box[:2] + box[2:4], boxes[:, :2] + boxes[:, 2:4])
    return numpy.clip(high - low, 0, None).prod(1)
