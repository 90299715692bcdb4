"""What a JSON file or checkpoint must hold, as data: one schema per file, checked where the file is read.

A schema is a dict of keys (:class:`Maybe` for those that may be absent), a class of allowed values, or a function that
says what is wrong. Ranges are those of the command line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Callable

from options.option import LARGEST, OptionSpec
from utils import UserError


@dataclass(frozen=True)
class Whole:
    """A whole number from ``least`` to ``most``."""

    least: float = 0
    most: float = LARGEST

    def fault(self, value: Any) -> str | None:
        """Return what is wrong with a value, or None."""
        if not isinstance(value, int) or isinstance(value, bool) or not self.least <= value <= self.most:
            return f"must be a whole number from {self.least:g} to {self.most:g}"
        return None


@dataclass(frozen=True)
class Number:
    """A finite number from ``least`` to ``most``."""

    least: float = -1e30
    most: float = 1e30

    def fault(self, value: Any) -> str | None:
        """Return what is wrong with a value, or None."""
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not self.least <= value <= self.most:
            return f"must be a number from {self.least:g} to {self.most:g}"
        return None


@dataclass(frozen=True)
class Text:
    """A text of at most ``most`` letters without zero bytes, which matches a ``pattern``."""

    most: int = 4096
    pattern: str | None = None

    def fault(self, value: Any) -> str | None:
        """Return what is wrong with a value, or None."""
        if not isinstance(value, str) or "\0" in value or len(value) > self.most:
            return f"must be a text of at most {self.most} letters"
        return f"must match {self.pattern}" if self.pattern and not re.fullmatch(self.pattern, value) else None


@dataclass(frozen=True)
class Choice:
    """One of some texts."""

    allowed: tuple[str, ...]

    def fault(self, value: Any) -> str | None:
        """Return what is wrong with a value, or None."""
        return None if value in self.allowed else "must be one of " + ", ".join(self.allowed)


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def fault(self, value: Any) -> str | None:
        """Return what is wrong with a value, or None."""
        return None if isinstance(value, bool) else "must be true or false"


@dataclass(frozen=True)
class Each:
    """A list whose items all fit a schema."""

    item: Any
    least: int = 0
    distinct: bool = False

    def fault(self, value: Any) -> str | None:
        """Return what is wrong with a value, or None."""
        if not isinstance(value, (list, tuple)) or len(value) < self.least:
            return f"must be a list of at least {self.least}"
        for number, item in enumerate(value):
            fault = fault_of(item, self.item)
            if fault:
                return f"item {number} {fault}"
        return "names something twice" if self.distinct and len(set(value)) < len(value) else None


@dataclass(frozen=True)
class Row:
    """A list or tuple of one item for each schema."""

    items: tuple

    def fault(self, value: Any) -> str | None:
        """Return what is wrong with a value, or None."""
        if not isinstance(value, (list, tuple)) or len(value) != len(self.items):
            return f"must be {len(self.items)} values"
        return next(filter(None, map(fault_of, value, self.items)), None)


@dataclass(frozen=True)
class Table:
    """A table whose keys are texts and whose values all fit a schema."""

    item: Any

    def fault(self, value: Any) -> str | None:
        """Return what is wrong with a value, or None."""
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            return "must be a table of names and values"
        return next((f"\"{key}\" {fault}" for key in value if (fault := fault_of(value[key], self.item))), None)


@dataclass(frozen=True)
class Maybe:
    """A value that may be absent or None."""

    item: Any

    def fault(self, value: Any) -> str | None:
        """Return what is wrong with a value, or None."""
        return None if value is None else fault_of(value, self.item)


@dataclass(frozen=True)
class AsOption:
    """A value that could be given on the command line."""

    spec: OptionSpec

    def fault(self, value: Any) -> str | None:
        """Return what is wrong with a value, or None."""
        return self.spec.fault(value)


@dataclass(frozen=True)
class Anything:
    """Whatever: it is checked elsewhere."""

    def fault(self, value: Any) -> str | None:
        """None."""
        return None


NAMES = Each(Text(200), least=2, distinct=True)


def fault_of(value: Any, schema: Any) -> str | None:
    """Return what is wrong with a value, as words that follow its name, or None."""
    if not isinstance(schema, dict):
        return schema.fault(value)
    if not isinstance(value, dict):
        return "must be a table of names and values"
    for key, expected in schema.items():
        if key not in value and not isinstance(expected, Maybe):
            return f"lacks \"{key}\""
        fault = fault_of(value.get(key), expected)
        if fault:
            return f"\"{key}\" {fault}"
    return None


def check(value: Any, schema: Any, path: Any, advice: str = "restore it from a backup") -> Any:
    """Return the value if it fits the schema. Raises UserError that names the file and the key if it does not."""
    fault = fault_of(value, schema)
    if fault:
        raise UserError(f"{path}: damaged, {fault}; {advice}")
    return value


def load_with(load: Callable[[Any], None], value: Any, what: Any) -> None:
    """Call ``load(value)``. Raises UserError if the value does not fit (wrong keys, types or shapes)."""
    try:
        load(value)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError, OverflowError) as error:
        text = " ".join(str(error).split())
        raise UserError(f"{what} ({type(error).__name__}: {text if len(text) < 300 else text[:297] + '...'})") from None
