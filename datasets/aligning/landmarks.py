"""Five points per image from a file, where they are known already: a table, or RAF-DB's manual annotation."""

from __future__ import annotations

from pathlib import Path

import numpy

from datasets.lists import read_lines, shortened
from utils import UserError

_RAF_ENDING = "_manu_attri.txt"


class Landmarks:
    """The points of images by name; ``landmarks.of("a/b.jpg")`` is an array (5, 2) in pixels, or None.

    Reads a file of lines ``<name> x1 y1 … x5 y5``, one ``*_manu_attri.txt`` of RAF-DB (five lines ``x y``, then
    attributes), or a directory of these. An image is looked up by its path below the source directory, then by its
    file name, then by its name without ending. UserError names the file and the line of a mistake.
    """

    def __init__(self, path: str | Path):
        path = Path(path)
        if path.is_dir():
            files = sorted(path.glob("*" + _RAF_ENDING))
            if not files:
                raise UserError(f"{path}: holds no *{_RAF_ENDING}; give such a directory or a file of "
                                "lines \"<name> x1 y1 ... x5 y5\"")
            self._points = {_raf_stem(file): _read_raf(file) for file in files}
        elif path.name.endswith(_RAF_ENDING):
            self._points = {_raf_stem(path): _read_raf(path)}
        else:
            self._points = _read_table(path)

    def of(self, name: str) -> numpy.ndarray | None:
        """The points of an image, or None."""
        file_name = name.rsplit("/", 1)[-1]
        stem = file_name.rsplit(".", 1)[0]
        return next((self._points[key] for key in (name, file_name, stem) if key in self._points), None)


def _raf_stem(path: Path) -> str:
    return path.name[:-len(_RAF_ENDING)]


def _read_raf(path: Path) -> numpy.ndarray:
    return numpy.array([_numbers(line.split(), 2, f"{path}, line {number}", line, "x y")
                        for number, line in enumerate((read_lines(path) + [""] * 5)[:5], 1)])


def _read_table(path: Path) -> dict[str, numpy.ndarray]:
    points = {}
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            name, *values = line.rsplit(None, 10)
            form = "<name> x1 y1 ... x5 y5"
            points[name] = _numbers(values, 10, f"{path}, line {number}", line, form).reshape(5, 2)
    if not points:
        raise UserError(f"{path}: holds no landmarks; it needs lines \"<name> x1 y1 ... x5 y5\"")
    return points


def _numbers(words: list[str], count: int, where: str, line: str, form: str) -> numpy.ndarray:
    try:
        values = numpy.array([float(word) for word in words])
    except ValueError:
        values = numpy.zeros(0)
    if len(values) != count or not numpy.isfinite(values).all():
        raise UserError(f"{where}: \"{shortened(line)}\" is not \"{form}\"")
    return values
