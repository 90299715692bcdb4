"""A canvas in face units: a supersampled picture that is drawn on through a pose, and the shapes to draw on it.

The canvas is ``SUPERSAMPLING`` times as large as the picture and is averaged down, which is what makes edges smooth;
the light falls on the finished drawing as on an ellipsoid. Shapes are arrays of points (K, 2).
"""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from datasets.drawing.faces import Color, Person, Pose, Scene

SUPERSAMPLING = 4
SKULL_Y = -0.10
WARM_SHADOWS = (0.80, 1.0, 1.12)


class Canvas:
    """A supersampled picture that is drawn on in face units, through the pose."""

    def __init__(self, size: int, pose: Pose, person: Person, scene: Scene) -> None:
        self.size, self.pose, self.scene = size, pose, scene
        self.side = size * SUPERSAMPLING
        self._axes = np.array([person.width, person.chin * 0.9])
        self.image = _background(scene, size).resize((self.side, self.side), Image.Resampling.BILINEAR)
        self._image_draw = ImageDraw.Draw(self.image, "RGBA")
        self._silhouette = Image.new("L", self.image.size)
        self._silhouette_draw = ImageDraw.Draw(self._silhouette)

    def pixels(self, points: np.ndarray, side: int) -> list[float]:
        """Convert points (K, 2) in face units to x, y, x, y, … in pixels of a square picture of ``side``."""
        pose = self.pose
        x, y = points[:, 0], points[:, 1]
        radius = (x / self._axes[0]) ** 2 + ((y - SKULL_Y) / self._axes[1]) ** 2
        depth = np.sqrt(np.maximum(1 - radius, 0))
        x, y = x + depth * pose.yaw, y + depth * pose.pitch
        c, s = pose.scale * math.cos(pose.roll), pose.scale * math.sin(pose.roll)
        placed = column(c * x - s * y + (pose.x + 1), s * x + c * y + (pose.y + 1))
        return (placed * (side / 2)).ravel().tolist()

    def fill(self, points: np.ndarray, color: Color, opacity: float = 1.0, *, outline: bool = False,
             both: bool = False) -> None:
        """Fill a polygon, and its mirror image if it is on ``both`` sides of the face.

        With ``outline`` it becomes a part of the person's silhouette.
        """
        for side in (-1, 1) if both else (1,):
            corners = self.pixels(points * (side, 1), self.side)
            self._image_draw.polygon(corners, fill=_rgba(color, opacity))
            if outline:
                self._silhouette_draw.polygon(corners, fill=255)

    def stroke(self, points: np.ndarray, width: float, color: Color, opacity: float = 1.0,
               taper: tuple[float, float] | None = None, both: bool = False) -> None:
        """Draw a line, and its mirror image if it is on ``both`` sides of the face.

        ``width`` is that of all points or, with ``taper``, of the middle: the ends have ``taper`` times it.
        """
        t = np.linspace(0, 1, len(points))
        ends = 1.0 if taper is None else np.where(t < 0.5, *taper)
        for side in (-1, 1) if both else (1,):
            self.fill(ribbon(points * (side, 1), width * (ends + (1 - ends) * np.sin(np.pi * t))), color, opacity)

    def shade(self, shapes: list[tuple[np.ndarray, float]], color: Color, blur: float) -> None:
        """Draw soft shapes (polygon, opacity) in one color, blurred by ``blur`` face units."""
        mask = Image.new("L", (self.size, self.size))
        mask_draw = ImageDraw.Draw(mask)
        for points, opacity in shapes:
            mask_draw.polygon(self.pixels(points, self.size), fill=int(255 * opacity))
        mask = mask.filter(ImageFilter.GaussianBlur(blur * self.size / 2))
        self.image.paste(_rgba(color)[:3], mask=mask.resize(self.image.size, Image.Resampling.BILINEAR))

    def finish(self) -> Image.Image:
        """Return the picture at its final size, with the scene's light on the person."""
        scene = self.scene
        drawn = np.asarray(self.image.reduce(SUPERSAMPLING), dtype=np.float32)
        person = np.asarray(self._silhouette.reduce(SUPERSAMPLING), dtype=np.float32)[..., None] / 255
        grid = (np.arange(self.size, dtype=np.float32) + 0.5) * (2 / self.size) - 1
        x = (grid[None, :] - self.pose.x) / (self._axes[0] * 1.25 * self.pose.scale)
        y = (grid[:, None] - self.pose.y - SKULL_Y) / (self._axes[1] * 1.15 * self.pose.scale)
        radius = np.sqrt(x ** 2 + y ** 2)
        bend = np.minimum(1, 0.92 / np.maximum(radius, 1e-6))
        x, y = x * bend, y * bend
        facing = x * scene.light[0] + y * scene.light[1] + np.sqrt(1 - x ** 2 - y ** 2) * scene.light[2]
        light = 1.05 - scene.contrast * (1 - np.clip(facing, 0, 1))
        light = light[..., None] ** np.array(WARM_SHADOWS, dtype=np.float32)
        lit = drawn * (1 + person * (light - 1)) * np.asarray(scene.light_color, dtype=np.float32)
        return Image.fromarray(np.clip(lit + 0.5, 0, 255).astype(np.uint8))


# ------------------------------------------------------------------------------------------------ geometry

def curve(*points: tuple[float, float], closed: bool = False) -> np.ndarray:
    """Return a smooth curve (K, 2) through the points: a Catmull-Rom spline of 6 pieces from point to point."""
    p = np.asarray(points, dtype=float)
    p = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([p[:1], p, p[-1:]])
    segments = np.stack([p[:-3], p[1:-2], p[2:-1], p[3:]], axis=1)
    line = np.einsum("sk,nkd->nsd", _SPLINE, segments).reshape(-1, 2)
    return line if closed else np.concatenate([line, p[-1:]])


_T = np.arange(6)[:, None] / 6
_SPLINE = 0.5 * np.concatenate([-_T + 2 * _T ** 2 - _T ** 3, 2 - 5 * _T ** 2 + 3 * _T ** 3,
                                _T + 4 * _T ** 2 - 3 * _T ** 3, -_T ** 2 + _T ** 3], axis=1)
_TURN = np.linspace(0, 2 * np.pi, 28, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)


def ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    """Return an ellipse as a polygon (28, 2)."""
    return _CIRCLE * (rx, ry) + (x, y)


def ribbon(points: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Return the outline of a line with a width at each point (K,)."""
    along = np.empty_like(points)
    along[1:-1] = points[2:] - points[:-2]
    along[0], along[-1] = points[1] - points[0], points[-1] - points[-2]
    half = 0.5 * np.asarray(width) / np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)
    offset = column(-along[:, 1] * half, along[:, 0] * half)
    return np.concatenate([points + offset, (points - offset)[::-1]])


def between(inner: np.ndarray, outer: np.ndarray, weight: float | np.ndarray) -> np.ndarray:
    """Return points between two curves of the same length: ``inner`` for the weight 0, ``outer`` for 1."""
    return inner + (outer - inner) * np.reshape(weight, (-1, 1))


def column(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return two vectors of coordinates as points (K, 2)."""
    return np.stack([x, y], axis=1)


def clamped(points: np.ndarray, x: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Return a shape limited by two curves over increasing ``x``, such as an iris by the lids."""
    return column(points[:, 0], np.clip(points[:, 1], np.interp(points[:, 0], x, top),
                                        np.interp(points[:, 0], x, bottom)))


def _rgba(color: Color, opacity: float = 1.0) -> tuple[int, int, int, int]:
    r, g, b = color
    return int(r + 0.5), int(g + 0.5), int(b + 0.5), int(255 * opacity + 0.5)


def _background(scene: Scene, size: int) -> Image.Image:
    grid = np.linspace(-1, 1, size, dtype=np.float32)
    slope = grid[None, :] * np.cos(scene.wall_angle) + grid[:, None] * np.sin(scene.wall_angle)
    weight = np.clip(0.5 + 0.4 * slope, 0, 1)[..., None]
    first, second = (np.asarray(color, dtype=np.float32) for color in scene.wall)
    wall = first + (second - first) * weight
    for x, y, radius, gain in scene.spots:
        distance = np.hypot(grid[None, :] - x, grid[:, None] - y)
        wall *= 1 + gain * np.clip((radius - distance) / 0.08 + 0.5, 0, 1)[..., None]
    return Image.fromarray(np.clip(wall, 0, 255).astype(np.uint8))
