"""The reader of tables (CSV): row by row, so that they may have any size, and with the line of every mistake."""

import csv
import re
from itertools import chain
from pathlib import Path
from typing import Callable, Iterator, Sequence

from datasets.lists import text_lines
from utils import UserError


def read_table(table: Path, without_header: Callable[[list[str]], Sequence[str] | None] = lambda first: None
               ) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Return the columns that a table's first line names, and an iterator of its rows: (line, {column: value}).

    ``without_header`` is called with the first line, and returns the columns' names if it is a row already, else None.
    Spaces around names and values are removed; a row that ends early has empty values. Raises UserError if the file is
    no table, at once or when the iterator reaches the mistake.
    """
    lines = text_lines(table, newline="")
    first = next(lines, "")
    if not first.strip():
        raise UserError(f"{table}: empty; its first line must name the columns")
    delimiter = max(",;\t", key=first.count) if re.search("[,;\t]", first) else " "
    rows = csv.reader(chain([first], lines), delimiter=delimiter, skipinitialspace=True)
    values = _values(table, rows)
    first_row = next(values)
    columns = without_header(first_row)
    if columns:
        values = chain([first_row], values)
    columns = list(columns or first_row)

    def read() -> Iterator[tuple[int, dict[str, str]]]:
        for row in values:
            if any(row[len(columns):]):
                raise UserError(f"{table}, line {rows.line_num}: has {len(row)} values for {len(columns)} columns; put "
                                "quotes around values that hold a comma, or correct it")
            if row:
                yield rows.line_num, {**dict.fromkeys(columns, ""), **dict(zip(columns, row))}

    return columns, read()


def check_columns(table: Path, columns: Sequence[str], needed: Sequence[str], advice: str) -> None:
    """Check that a table has the needed columns. Raises UserError if one is absent (with ``advice``) or not unique."""
    for name in needed:
        if name not in columns:
            raise UserError(f"{table}: has no column \"{name}\" (it has {', '.join(columns)}); {advice}")
        if columns.count(name) > 1:
            raise UserError(f"{table}: has {columns.count(name)} columns \"{name}\"; rename all but one")


def _values(table: Path, rows: "csv._reader") -> Iterator[list[str]]:
    """Yield the values of each row. Raises UserError for a row that csv cannot read."""
    try:
        for row in rows:
            yield [value.strip() for value in row]
    except csv.Error as error:
        raise UserError(f"{table}, line {rows.line_num}: not a line of a table ({error}); correct it") from None
