"""Faces of a photograph: found with YuNet through OpenCV's ``FaceDetectorYN``, and cut out upright at one size.

OpenCV is an optional package and is imported when a detector is made.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy
from PIL import Image

from datasets.aligning.geometry import eye_tilt, inverse, similarity, template, transformed, warp
from utils import UserError, placeholder

MODEL_HINT = ("YuNet is published as face_detection_yunet in OpenCV's model zoo (opencv_zoo on GitHub) and as "
              "yunet_n_640_640.onnx in libfacedetection.train")

# Longest side of the picture that the network sees, and the empty border around it as a share of that side: tried
# in turn until one shows a face. Small faces need the last one, faces that fill the picture the second.
_VIEWS = ((640, 0.0), (320, 0.25), (1280, 0.0))

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


def align_face(photo: Image.Image, size: int, margin: float, detector: "FaceDetector"
               ) -> tuple[Image.Image, numpy.ndarray]:
    """Return the largest face of an RGB photograph, upright in ``size`` × ``size`` pixels, and the 2×3 matrix to it.

    The matrix maps points of the photograph to points of the crop; :func:`datasets.aligning.geometry.paste_back` takes
    it to put an edited face back. Raises :class:`NoFace`.
    """
    faces = detector(photo)
    if not faces:
        raise NoFace("no face found")
    return align_points(photo, faces[0].points, size, margin)


def align_points(photo: Image.Image, points: numpy.ndarray, size: int, margin: float
                 ) -> tuple[Image.Image, numpy.ndarray]:
    """As :func:`align_face`, for known points (5, 2) in pixels. Raises UserError if they are no face of the picture."""
    if ((points < -0.5 * max(photo.size)) | (points > 1.5 * max(photo.size))).any():
        raise UserError("unusable landmarks: the points lie outside the picture")
    try:
        matrix = similarity(points, template(size, margin))
        return warp(photo, matrix, size), matrix
    except ValueError as error:
        raise UserError(f"unusable landmarks: {error}") from None


class FaceDetector:
    """Finds faces: ``FaceDetector(model)(photo)`` → list of :class:`Face`, the largest first.

    ``model`` is YuNet's ONNX file, ``score`` the least confidence of a face, in 0..1. Raises UserError if OpenCV is not
    installed and where the file is absent or not the model.
    """

    def __init__(self, model: str | Path, score: float = 0.6):
        try:
            import cv2
        except ImportError:
            raise UserError("finding faces needs OpenCV, which is not installed; "
                            "pip install -r requirements-optional.txt") from None
        if not hasattr(cv2, "FaceDetectorYN"):
            raise UserError(f"OpenCV {cv2.__version__} is too old for the face detector; "
                            "pip install --upgrade -r requirements-optional.txt")
        cv2.setNumThreads(1)
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        if not Path(model).is_file():
            raise UserError(f"{model}: no such model file; {MODEL_HINT}")
        if found := placeholder(model):
            raise UserError(f"{model}: is {found}; {MODEL_HINT}")
        self._score = score
        try:
            # All candidates of a face are kept (no suppression): their mean is more exact than the best one.
            self._network = cv2.FaceDetectorYN.create(str(model), "", (320, 320), score, 1.0, 5000)
            self._network.detect(numpy.zeros((320, 320, 3), numpy.uint8))
        except cv2.error:
            raise UserError(f"{model}: OpenCV cannot use it as a YuNet face detector; {MODEL_HINT}") from None

    def __call__(self, photo: Image.Image, every: bool = False) -> list[Face]:
        """The largest face of an RGB photograph, or with ``every`` all of them by falling size; [] without a face."""
        for side, border in _VIEWS:
            faces = self._faces_in_view(photo, side, border)
            if faces:
                faces.sort(key=lambda face: face.box[2] * face.box[3], reverse=True)
                return [self._refined(photo, face) for face in (faces if every else faces[:1])]
        return []

    def _faces_in_view(self, photo: Image.Image, side: int, border: float) -> list[Face]:
        longest = max(photo.size)
        if border == 0:
            side = min(side, longest)
        scale = side / longest
        width, height = (max(1, round(scale * length)) for length in photo.size)
        frame = round(border * side)
        view = Image.new("RGB", (width + 2 * frame, height + 2 * frame))
        view.paste(photo.resize((width, height), Image.Resampling.BILINEAR), (frame, frame))
        stretch = numpy.array(photo.size) / (width, height)
        return [Face((face.points - frame) * stretch,
                     numpy.concatenate([(face.box[:2] - frame) * stretch, face.box[2:] * stretch]), face.score)
                for face in _grouped(self._candidates(view, self._score))]

    def _refined(self, photo: Image.Image, face: Face) -> Face:
        """The face with points found again in an upright enlarged crop, until its eyes are found level.

        In small or tilted faces YuNet's points lean towards an upright face: a tilt of 10° shows as 3° to 9°.
        """
        points, found = face.points, []
        for side in _REFINE_SIDES:
            matrix = similarity(points, template(side, _REFINE_MARGIN))
            again = self._points_in_crop(warp(photo, matrix, side))
            if again is None:
                break
            found.append(transformed(inverse(matrix), again))
            points = numpy.mean(found[1:] or found, axis=0)     # the first crop still had the coarse points
            if len(found) >= _REFINE_AT_LEAST and abs(eye_tilt(again)) < _REFINE_TILT:
                break
        return Face(points, face.box, face.score)

    def _points_in_crop(self, crop: Image.Image) -> numpy.ndarray | None:
        """The points of the face in the middle of a crop: the mean of the crop's and of its mirror image's."""
        seen = []
        for picture, mirrored in ((crop, False), (crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT), True)):
            candidates = self._candidates(picture, 0.5 * self._score)
            middle = numpy.abs(candidates[:, 4:14].reshape(-1, 5, 2).mean(1) - crop.width / 2).max(1)
            faces = _grouped(candidates[middle < crop.width / 5])
            if faces:
                points = faces[0].points
                seen.append(points[_MIRRORED] * (-1, 1) + (crop.width, 0) if mirrored else points)
        return numpy.mean(seen, axis=0) if seen else None

    def _candidates(self, picture: Image.Image, score: float) -> numpy.ndarray:
        """Rows of box (4), points (10) and score for every place where the network sees a face."""
        self._network.setInputSize(picture.size)
        self._network.setScoreThreshold(score)
        rows = self._network.detect(numpy.asarray(picture)[:, :, ::-1].copy())[1]
        return numpy.zeros((0, 15)) if rows is None else rows.astype(float)


def _grouped(candidates: numpy.ndarray) -> list[Face]:
    """Candidates → faces, the surest first: those that overlap the surest by half are averaged by their scores."""
    faces = []
    while len(candidates):
        best = candidates[candidates[:, 14].argmax()]
        shares = overlap(best, candidates)
        group = candidates[shares >= 0.5]
        mean = numpy.average(group[:, :14], axis=0, weights=group[:, 14])
        faces.append(Face(mean[4:].reshape(5, 2), mean[:4], float(best[14])))
        candidates = candidates[shares < 0.3]
    return faces


def overlap(box: numpy.ndarray, boxes: numpy.ndarray) -> numpy.ndarray:
    """Intersection over union of one box with many (columns left, top, width, height)."""
    low = numpy.maximum(box[:2], boxes[:, :2])
    high = numpy.minimum(box[:2] + box[2:4], boxes[:, :2] + boxes[:, 2:4])
    shared = numpy.clip(high - low, 0, None).prod(1)
    return shared / (box[2:4].prod() + boxes[:, 2:4].prod(1) - shared)
