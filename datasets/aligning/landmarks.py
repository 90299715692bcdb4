"""Five points per image from a file, where they are known already: a table, or RAF-DB's manual annotation."""

from pathlib import Path
from typing import Iterable

import numpy

from datasets.aligning.geometry import Fit, measure_fit
from datasets.lists import Names, read_lines, shortened
from utils import UserError, fingerprint

_RAF_ENDING = "_manu_attri.txt"
_FORM = "<name> x1 y1 ... x5 y5"
ORDER = ("right eye, left eye, nose, right mouth corner, left mouth corner (sides as the person has them), x before y, "
         "in pixels")
USUAL_MISTAKES = ("are the eyes or the mouth corners exchanged, or left and right; does the mouth come first, y before "
                  "x, or all x before all y?")

MOST_IN_LIST = 0.25, 135  # residual and tilt (Fit) of half of a list's faces: photographs may lie on their sides
MOST_OF_FACE = 0.6, 180  # of a single face, which may be upside down
LEAST_SIDE = 4  # pixels of a face's side
CHECKED = 500  # lines of a list that are checked


class Landmarks:
    """The points of the images ``names``, read from a file or a directory.

    ``path`` is a file of lines ``<name> x1 y1 … x5 y5``, a ``*_manu_attri.txt`` of RAF-DB (five lines ``x y``, then
    attributes), or a directory of these. An image is looked up by :class:`datasets.lists.Names`. ``digest`` is that
    of all points. Raises UserError that names the file and the line of a mistake, the usual mistakes or the unit of
    points that fit no face, or two images that would get the points of one line.
    """

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        points = _read(path)
        faces = list(points.values())
        fits = [measure_fit(face) for face in faces[::-(-len(faces) // CHECKED)]]
        if fault := _fault_of_fit(Fit(*numpy.median(numpy.abs(fits), axis=0)), *MOST_IN_LIST):
            raise UserError(f"{path}: {fault}; the list needs {ORDER}")
        self.digest = fingerprint([name, face.tolist()] for name, face in sorted(points.items()))
        self._may_be_percent = max(face.max() for face in faces) <= 100
        self._points: dict[str, numpy.ndarray] = {}
        finder, image_of_key = Names(path, points), {}
        for name in names:
            key = finder.for_another_list().find(name)  # a new look-up, since several images may mean one line
            if key is not None and image_of_key.setdefault(key, name) != name:
                raise UserError(f"the landmarks of \"{key}\" would serve for {image_of_key[key]} and for {name}; write "
                                "the paths below the source directory into the list")
            if key is not None:
                self._points[name] = points[key]

    def points_of(self, name: str) -> numpy.ndarray:
        """Return the points (5, 2) of an image in pixels. Raises UserError if there are none."""
        if name not in self._points:
            raise UserError("no landmarks given")
        return self._points[name]

    def fault_of(self, points: numpy.ndarray, size: tuple[int, int]) -> str | None:
        """Return what is wrong with the points (5, 2) of an image of this width and height, or None."""
        center = points.mean(0)
        if self._may_be_percent and min(size) > 300:
            return "all points of the list lie below 100: are they percent of the picture's side? It needs pixels"
        if (center < 0).any() or (center > size).any():
            return "the points lie outside the picture: were they found in a picture of another size?"
        return _fault_of_fit(measure_fit(points), *MOST_OF_FACE)


def _fault_of_fit(fit: Fit, most_residual: float, most_tilt: float) -> str | None:
    """Return what a fit tells against its points, or None."""
    if fit.side < LEAST_SIDE:
        return f"the points make faces of {fit.side:.2g} pixels: are they shares of the picture's side? It needs pixels"
    if fit.residual > most_residual or abs(fit.tilt) > most_tilt:
        return (f"the points fit no upright face ({100 * fit.residual:.0f} % of their spread stays unexplained, tilt "
                f"{fit.tilt:.0f}°): {USUAL_MISTAKES}")
    return None


# -------------------------------------------------------------------------------------------------- reading

def _read(path: Path) -> dict[str, numpy.ndarray]:
    """Return the points (5, 2) of images by the names that a file or directory gives them."""
    files = sorted(path.glob("*" + _RAF_ENDING)) if path.is_dir() else [path] * path.name.endswith(_RAF_ENDING)
    if path.is_dir() and not files:
        raise UserError(f"{path}: holds no *{_RAF_ENDING}; give such a directory or a file of lines \"{_FORM}\"")
    return {file.name.removesuffix(_RAF_ENDING): _read_raf(file) for file in files} or _read_table(path)


def _read_raf(path: Path) -> numpy.ndarray:
    return numpy.array([_numbers(line.split(), 2, f"{path}, line {number}", line, "x y")
                        for number, line in enumerate((read_lines(path) + [""] * 5)[:5], 1)])


def _read_table(path: Path) -> dict[str, numpy.ndarray]:
    """Read a text or CSV file, in which a count and a line of column names may come first, as in CelebA's list."""
    points = {}
    for number, line in enumerate(read_lines(path), 1):
        name, *values = line.rsplit(",", 10) if line.count(",") >= 10 else line.rsplit(None, 10) or [""]
        is_header = number <= 2 and (name.strip().isdigit() if not values else not any(map(_is_number, values)))
        if not line.strip() or is_header:
            continue
        if name in points:
            raise UserError(f"{path}, line {number}: a second line for {shortened(name)}; keep the right one")
        points[name] = _numbers(values, 10, f"{path}, line {number}", line, _FORM).reshape(5, 2)
    if not points:
        raise UserError(f"{path}: holds no landmarks; it needs lines \"{_FORM}\"")
    return points


def _is_number(word: str) -> bool:
    return word.strip().lstrip("+-").replace(".", "", 1).isdecimal()


def _numbers(words: list[str], count: int, where: str, line: str, form: str) -> numpy.ndarray:
    """Return the numbers (count,) of a line. Raises UserError, which shows the right form, for anything else."""
    try:
        values = numpy.array(words, dtype=float)
    except ValueError:
        values = numpy.zeros(0)
    if len(values) != count or not numpy.isfinite(values).all():
        raise UserError(f"{where}: \"{shortened(line)}\" is not \"{form}\"")
    return values
