"""One photograph → its face, upright and cut out at one size by a similarity transform of its five points."""

from __future__ import annotations

import numpy
from PIL import Image

from datasets.aligning.detect import FaceDetector
from datasets.aligning.geometry import similarity, template, warp
from utils import UserError


class NoFace(UserError):
    """The picture shows no face that the detector is sure of."""


def align_face(photo: Image.Image, size: int, margin: float,
               detector: FaceDetector) -> tuple[Image.Image, numpy.ndarray]:
    """The largest face of an RGB photograph, upright in ``size`` × ``size`` pixels, and the 2×3 matrix to it.

    The matrix maps points of the photograph to points of the crop; :func:`datasets.aligning.geometry.paste_back` takes
    it to put an edited face back. Raises :class:`NoFace`.
    """
    faces = detector(photo)
    if not faces:
        raise NoFace("no face found")
    return align_points(photo, faces[0].points, size, margin)


def align_points(photo: Image.Image, points: numpy.ndarray, size: int,
                 margin: float) -> tuple[Image.Image, numpy.ndarray]:
    """As :func:`align_face`, for known points (5, 2) in pixels. Raises UserError if they are no face of the picture."""
    try:
        matrix = similarity(points, template(size, margin))
        inside = ((points >= -0.5 * max(photo.size)) & (points <= 1.5 * max(photo.size))).all()
        if not inside:
            raise ValueError("the points lie outside the picture")
        return warp(photo, matrix, size), matrix
    except ValueError as error:
        raise UserError(f"unusable landmarks: {error}") from None
