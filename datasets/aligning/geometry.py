"""The geometry of alignment: five points → a similarity transform → an upright face, and back again.

Pure functions. Points are ``(5, 2)`` arrays of x, y in pixels, with (0, 0) at the corner of the first pixel, in the
order right eye, left eye, tip of the nose, right and left corner of the mouth (right as the person has it, so the
right eye is on the left of the picture). Matrices are 2×3 and map points of the photograph to points of the crop.
"""

import math
from typing import NamedTuple

import numpy
from PIL import Image

from utils import UserError, refuse

# ArcFace's five points in a crop of side 1, made symmetric, relative to the middle of the crop.
_TEMPLATE = numpy.array([[-0.1573, -0.0393], [0.1573, -0.0393], [0.0, 0.1404],
                         [-0.1303, 0.3239], [0.1303, 0.3239]])
_CENTER_Y = 0.06     # the face is raised by this share of the side, so that the chin is inside


def template(size: float, margin: float) -> numpy.ndarray:
    """Return where the five points (5, 2) of an aligned face of ``size`` pixels lie.

    ``margin`` is the share of the tight crop (forehead to chin) that is added on each side.
    """
    return size * (0.5 + (_TEMPLATE - [0, _CENTER_Y]) / (1 + 2 * margin))


def similarity(source: numpy.ndarray, target: numpy.ndarray) -> numpy.ndarray:
    """Return the rotation, scale and shift (2, 3) that bring ``source`` (k, 2) nearest to ``target`` in least squares.

    This is Umeyama's problem in the plane without reflection, in closed form. Raises UserError if the source points
    coincide.
    """
    source, target = numpy.asarray(source, float), numpy.asarray(target, float)
    source_mean, target_mean = source.mean(0), target.mean(0)
    (x, y), (u, v) = (source - source_mean).T, (target - target_mean).T
    spread = (x * x + y * y).sum()
    refuse("unusable landmarks", (not spread > 1e-12, "the points coincide"))
    cosine, sine = (x * u + y * v).sum() / spread, (x * v - y * u).sum() / spread
    linear = numpy.array([[cosine, -sine], [sine, cosine]])
    return numpy.column_stack([linear, target_mean - linear @ source_mean])


class Fit(NamedTuple):
    """The fit of five points to an upright face after the best similarity transform.

    ``residual`` is the share of the template's spread that stays unexplained, 0 to 1: below 0.1 for most photographs,
    0.3 for a face turned by 75°, 0.5 and more for points in a wrong order. ``side`` is that of the tight crop in the
    points' unit, ``tilt`` the rotation in degrees.
    """

    residual: float
    side: float
    tilt: float


def measure_fit(points: numpy.ndarray) -> Fit:
    """Measure how five points (5, 2) fit an upright face; points that coincide have the residual 1 and the side 0."""
    target = template(1, 0)
    try:
        matrix = similarity(points, target)
    except UserError:
        return Fit(1.0, 0.0, 0.0)
    cosine, sine = matrix[:, 0]
    spread = ((target - target.mean(0)) ** 2).sum()
    return Fit(float(((transformed(matrix, points) - target) ** 2).sum() / spread),
               1 / max(math.hypot(cosine, sine), 1e-9), math.degrees(math.atan2(-sine, cosine)))


def inverse(matrix: numpy.ndarray) -> numpy.ndarray:
    """Return the matrix (2, 3) of the inverse transform."""
    linear = numpy.linalg.inv(matrix[:, :2])
    return numpy.column_stack([linear, -linear @ matrix[:, 2]])


def transformed(matrix: numpy.ndarray, points: numpy.ndarray) -> numpy.ndarray:
    """Return points (k, 2) after the transform of a matrix (2, 3)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def eye_tilt(points: numpy.ndarray) -> float:
    """Return the angle of the line through the eyes of points (5, 2) against the horizontal, in degrees."""
    across, down = points[1] - points[0]
    return math.degrees(math.atan2(down, across))


def warp(photo: Image.Image, matrix: numpy.ndarray, size: int) -> Image.Image:
    """Return the crop of ``size`` × ``size`` pixels that ``matrix`` (2, 3) describes, free of aliasing.

    Beyond the edges of the photograph its outermost pixels are repeated; they are not mirrored, which would show second
    mouths. Raises UserError if the crop does not touch the photograph.
    """
    scale, corners = _scale_and_corners(matrix, size)
    padding = 3 * max(1, 1 / scale)
    start, end = numpy.floor(corners.min(0) - padding).astype(int), numpy.ceil(corners.max(0) + padding).astype(int)
    inside = numpy.array([numpy.maximum(start, 0), numpy.minimum(end, photo.size)])
    refuse("unusable landmarks", ((inside[0] >= inside[1]).any(), "the face lies outside the picture"))
    pixels = numpy.asarray(photo.crop(inside.ravel().tolist()))
    beyond = numpy.abs(inside - (start, end)).T[::-1]  # pixels above and below, left and right
    region = Image.fromarray(numpy.pad(pixels, [*beyond, *[(0, 0)] * (pixels.ndim - 2)], mode="edge"))
    matrix = _from_corner(matrix, *start)

    shrink = max(1, int(1 / scale))     # bicubic sampling skips pixels when it shrinks, so average them before
    region, matrix = region.reduce(shrink), matrix @ numpy.diag([shrink, shrink, 1])
    oversampling = 2 if scale * shrink < 1 else 1
    crop = region.transform((oversampling * size, oversampling * size), Image.Transform.AFFINE,
                            inverse(oversampling * matrix).ravel(), Image.Resampling.BICUBIC)
    return crop.reduce(oversampling)


def _scale_and_corners(matrix: numpy.ndarray, size: int) -> tuple[float, numpy.ndarray]:
    """Return the scale of a transform, and the corners (4, 2) of the crop in pixels of the photograph."""
    corners = numpy.array([[0, 0], [size, 0], [0, size], [size, size]], float)
    return math.sqrt(abs(numpy.linalg.det(matrix[:, :2]))), transformed(inverse(matrix), corners)


def _from_corner(matrix: numpy.ndarray, left: int, top: int) -> numpy.ndarray:
    """Return the matrix (2, 3) for a part of the photograph that begins at this corner."""
    return numpy.column_stack([matrix[:, :2], transformed(matrix, numpy.array([[left, top]], float))[0]])
