"""Five points per image from a file, where they are known already: a table, or RAF-DB's manual annotation."""

from itertools import permutations
from pathlib import Path
from typing import Iterable, Sequence

import numpy

from datasets.aligning.geometry import measure_fit
from datasets.lists import Names, read_lines, shortened
from utils import UserError, fingerprint

_RAF_ENDING = "_manu_attri.txt"
_FORM = "<name> x1 y1 ... x5 y5"
POINTS = "right eye", "left eye", "nose", "right mouth corner", "left mouth corner"  # sides as the person has them
ORDER = f"{', '.join(POINTS)} (sides as the person has them), x before y, in pixels"
OTHER_FORMS = {"": lambda points: points, "with y before x": lambda points: points[:, ::-1],
               "with all x before all y": lambda points: points.reshape(2, 5).T,
               "with y counted from the bottom": lambda points: points * (1, -1)}

LARGE_RESIDUAL = 0.15  # of a fit: a face turned by 60°, or points in a wrong order
HOPELESS_RESIDUAL = 0.6  # of a fit: no face in whatever order
LEAST_SIDE = 4  # pixels of a face's side
LARGEST_TILT = 45  # degrees
CHECKED = 500  # lines of a list that are checked
REORDERED = 8  # lines of a list for which other orders are tried


class Landmarks:
    """The points of images by name, read from a file or a directory.

    ``path`` is a file of lines ``<name> x1 y1 … x5 y5``, a ``*_manu_attri.txt`` of RAF-DB (five lines ``x y``, then
    attributes), or a directory of these. An image is looked up by :class:`datasets.lists.Names`. ``digest`` is that
    of all points. Raises UserError that names the file and the line of a mistake, or the likely order or unit of points
    that fit no face.
    """

    def __init__(self, path: str | Path):
        path = Path(path)
        if path.is_dir():
            files = sorted(path.glob("*" + _RAF_ENDING))
            if not files:
                raise UserError(f"{path}: holds no *{_RAF_ENDING}; give such a directory or a file of lines "
                                f"\"{_FORM}\"")
            self._points = {file.name.removesuffix(_RAF_ENDING): _read_raf(file) for file in files}
        elif path.name.endswith(_RAF_ENDING):
            self._points = {path.name.removesuffix(_RAF_ENDING): _read_raf(path)}
        else:
            self._points = _read_table(path)
        self._names = Names(path, self._points)
        faces = list(self._points.values())
        fault = fault_of_list(faces[::-(-len(faces) // CHECKED)])
        if fault:
            raise UserError(f"{path}: {fault}; the list needs {ORDER}")
        self.digest = fingerprint([name, points.tolist()] for name, points in sorted(self._points.items()))
        self._may_be_percent = max(points.max() for points in faces) <= 100

    def points_of(self, name: str) -> numpy.ndarray | None:
        """Return the points (5, 2) of an image in pixels, or None."""
        return self._points.get(self._key(name))

    def fault_of(self, name: str, size: tuple[int, int]) -> str | None:
        """Return what is wrong with the points of an image of this width and height, or None."""
        if self._may_be_percent and min(size) > 300:
            return "all points of the list lie below 100: are they percent of the picture's side? It needs pixels"
        return fault_of_points(self.points_of(name), size)

    def check_names(self, names: Iterable[str]) -> None:
        """Raise UserError if two images would get the points of one line."""
        image_of_key: dict[str, str] = {}
        for name in names:
            key = self._key(name)
            if key is not None and image_of_key.setdefault(key, name) != name:
                raise UserError(f"the landmarks of \"{key}\" would serve for {image_of_key[key]} and for {name}; write "
                                "the paths below the source directory into the list")

    def _key(self, name: str) -> str | None:
        return self._names.for_another_list().find(name)  # a new look-up: :meth:`check_names` finds shared lines


# ------------------------------------------------------------------------------------------- checking points

def fault_of_list(faces: Sequence[numpy.ndarray]) -> str | None:
    """Return what is wrong with most of the faces' points (5, 2) of a list, or None."""
    fits = [measure_fit(points) for points in faces]
    side, residual = (float(numpy.median([getattr(fit, name) for fit in fits])) for name in ("side", "residual"))
    by_misfit = sorted(range(len(fits)), key=lambda i: -fits[i].residual)
    typical = by_misfit[len(fits) // 4:][:REORDERED]  # the worst quarter may be single mistakes
    return _fault_of_fit(side, residual, [faces[i] for i in typical])


def fault_of_points(points: numpy.ndarray, size: tuple[int, int]) -> str | None:
    """Return what is wrong with the points (5, 2) of a picture of this width and height, or None."""
    fit, center = measure_fit(points), points.mean(0)
    if fault := _fault_of_fit(fit.side, fit.residual, [points]):
        return fault
    if (center < 0).any() or (center > size).any():
        return "the points lie outside the picture: were they found in a picture of another size?"
    return None


def _fault_of_fit(side: float, residual: float, faces: Sequence[numpy.ndarray]) -> str | None:
    """Return what a fit of this side and residual says against the faces' points (5, 2), or None."""
    if side < LEAST_SIDE:
        return f"the points make faces of {side:.2g} pixels: are they shares of the picture's side? It needs pixels"
    order = likely_order(faces) if residual > LARGE_RESIDUAL else None
    if not order and residual <= HOPELESS_RESIDUAL:
        return None
    return f"the points fit no upright face ({100 * residual:.0f} % of their spread stays unexplained){order or ''}"


def likely_order(faces: Sequence[numpy.ndarray]) -> str | None:
    """Return the order or form in which the faces' points (5, 2) fit far better than as they are, in words; or None."""
    def mean_residual(form: str, order: tuple[int, ...]) -> float:
        fits = [measure_fit(OTHER_FORMS[form](points)[list(order)]) for points in faces]
        upright = numpy.median([abs(fit.tilt) for fit in fits]) <= LARGEST_TILT
        return float(numpy.mean([fit.residual for fit in fits])) if upright else numpy.inf

    given_residual = float(numpy.mean([measure_fit(points).residual for points in faces]))
    residuals = {(form, order): mean_residual(form, order) for form in OTHER_FORMS for order in permutations(range(5))}
    form, order = min(residuals, key=residuals.get)
    if residuals[form, order] > given_residual / 3:
        return None
    names = "" if order == tuple(range(5)) else f" in the order {', '.join(POINTS[order.index(i)] for i in range(5))}"
    return f", but they fit one{names}{' ' + form if form else ''}"


# -------------------------------------------------------------------------------------------------- reading

def _read_raf(path: Path) -> numpy.ndarray:
    return numpy.array([_numbers(line.split(), 2, f"{path}, line {number}", line, "x y")
                        for number, line in enumerate((read_lines(path) + [""] * 5)[:5], 1)])


def _read_table(path: Path) -> dict[str, numpy.ndarray]:
    """Read a text or CSV file, in which a count and a line of column names may come first, as in CelebA's list."""
    points = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        name, *values = line.rsplit(",", 10) if line.count(",") >= 10 else line.rsplit(None, 10)
        is_header = name.strip().isdigit() if not values else not any(map(_is_number, values))
        if number <= 2 and is_header:
            continue
        if name in points:
            raise UserError(f"{path}, line {number}: a second line for {shortened(name)}; keep the right one")
        points[name] = _numbers(values, 10, f"{path}, line {number}", line, _FORM).reshape(5, 2)
    if not points:
        raise UserError(f"{path}: holds no landmarks; it needs lines \"{_FORM}\"")
    return points


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _numbers(words: list[str], count: int, where: str, line: str, form: str) -> numpy.ndarray:
    """Return the numbers (count,) of a line. Raises UserError, which shows the right form, for anything else."""
    try:
        values = numpy.array([float(word) for word in words])
    except ValueError:
        values = numpy.zeros(0)
    if len(values) != count or not numpy.isfinite(values).all():
        raise UserError(f"{where}: \"{shortened(line)}\" is not \"{form}\"")
    return values
