"""A table (CSV), row by row: whatever its size, and every mistake with its line."""

import csv
import re
from itertools import chain
from pathlib import Path
from typing import Callable, Iterator, Sequence

from datasets.lists import text_lines
from utils import UserError


def read_table(table: Path, without_header: Callable[[list[str]], Sequence[str] | None] = lambda first: None
               ) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Return the columns that a table's first line names, and its rows while they are read: (line, {column: value}).

    ``without_header`` gets the first line and names the columns if it is a row already, or returns None. Blanks around
    names and values do not count; a row that ends early has empty values. Raises UserError, at once or when the rows
    get there, for what is no table.
    """
    lines = text_lines(table, newline="")
    first = next(lines, "")
    if not first.strip():
        raise UserError(f"{table}: empty; its first line must name the columns")
    delimiter = max(",;\t", key=first.count) if re.search("[,;\t]", first) else " "
    rows = csv.reader(chain([first], lines), delimiter=delimiter, skipinitialspace=True)
    values = _values(table, rows)
    head = next(values)
    columns = without_header(head)
    if columns:
        values = chain([head], values)
    columns = list(columns or head)

    def read() -> Iterator[tuple[int, dict[str, str]]]:
        for row in values:
            if any(row[len(columns):]):
                raise UserError(f"{table}, line {rows.line_num}: has {len(row)} values for {len(columns)} columns; put "
                                "quotes around values that hold a comma, or correct it")
            if row:
                yield rows.line_num, {**dict.fromkeys(columns, ""), **dict(zip(columns, row))}

    return columns, read()


def check_columns(table: Path, columns: Sequence[str], needed: Sequence[str], advice: str) -> None:
    """Raise UserError with ``advice`` if a column that is needed is absent, or there are several of its name."""
    for name in needed:
        if name not in columns:
            raise UserError(f"{table}: has no column \"{name}\" (it has {', '.join(columns)}); {advice}")
        if columns.count(name) > 1:
            raise UserError(f"{table}: has {columns.count(name)} columns \"{name}\"; rename all but one")


def _values(table: Path, rows: "csv._reader") -> Iterator[list[str]]:
    try:
        for row in rows:
            yield [value.strip() for value in row]
    except csv.Error as error:
        raise UserError(f"{table}, line {rows.line_num}: no line of a table ({error}); correct it") from None
