"""Schemas of JSON files and checkpoints, which are checked where a file is read.

A schema is a dict of keys and their schemas, or a function that returns what is wrong with a value, as a phrase that
follows its name, or None. Ranges are those of the command line.
"""

import re
from typing import Any, Callable, Union

from options.config import LARGEST
from utils import UserError

Schema = Union[dict, Callable[[Any], "str | None"]]


def whole_number(least: float = 0, most: float = LARGEST) -> Schema:
    """Return the schema of a whole number from ``least`` to ``most``."""
    return lambda value: None if type(value) is int and least <= value <= most \
        else f"must be a whole number from {least:g} to {most:g}"


def number(least: float, most: float) -> Schema:
    """Return the schema of a number from ``least`` to ``most``."""
    return lambda value: None if type(value) in (int, float) and least <= value <= most \
        else f"must be a number from {least:g} to {most:g}"


def text(most: int = 4096, pattern: str = "") -> Schema:
    """Return the schema of a text of at most ``most`` letters without zero bytes that matches ``pattern``, if given."""
    def fault(value: Any) -> str | None:
        if not isinstance(value, str) or "\0" in value or len(value) > most:
            return f"must be a text of at most {most} letters"
        return f"must match {pattern}" if pattern and not re.fullmatch(pattern, value) else None
    return fault


def true_or_false(value: Any) -> str | None:
    """Return what is wrong with a value that must be true or false, or None."""
    return None if isinstance(value, bool) else "must be true or false"


def anything(value: Any) -> str | None:
    """Return what is wrong with a value that must be given and is checked elsewhere, or None."""
    return "must be there" if value is None else None


def optional(item: Schema) -> Schema:
    """Return the schema of a value that may be absent or None."""
    return lambda value: None if value is None else fault_of(value, item)


def list_of(item: Schema, least: int = 0, distinct: bool = False) -> Schema:
    """Return the schema of a list of at least ``least`` items that fit a schema, with ``distinct`` all different."""
    def fault(value: Any) -> str | None:
        if not isinstance(value, (list, tuple)) or len(value) < least:
            return f"must be a list of at least {least}"
        for position, entry in enumerate(value):
            if wrong := fault_of(entry, item):
                return f"item {position} {wrong}"
        return "names something twice" if distinct and len(set(value)) < len(value) else None
    return fault


NAMES = list_of(text(200), least=2, distinct=True)


def fault_of(value: Any, schema: Schema) -> str | None:
    """Return what is wrong with a value, as a phrase that follows its name, or None."""
    if not isinstance(schema, dict):
        return schema(value)
    if not isinstance(value, dict):
        return "must be a table of names and values"
    for key, expected in schema.items():
        if fault := fault_of(value.get(key), expected):
            return f"\"{key}\" {fault}" if key in value else f"lacks \"{key}\""
    return None


def check(value: Any, schema: Schema, path: Any, advice: str = "restore it from a backup") -> Any:
    """Return the value if it fits the schema. Raises UserError that names the file and the key if it does not."""
    if fault := fault_of(value, schema):
        raise UserError(f"{path}: damaged, {fault}; {advice}")
    return value
