"""Options: dataclass fields that are also options of a command, each with its meaning, type and range in one line."""

import argparse
import dataclasses
from difflib import get_close_matches
from functools import cache
from typing import Any, Mapping, NoReturn

from utils import UserError

LARGEST = 10 ** 9
TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


class OneLineParser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError instead of printing the usage and exiting."""
        unknown = message.partition("unrecognized arguments: ")[2].split()
        near = unknown and get_close_matches(unknown[0].partition("=")[0], self._option_string_actions, 1)
        raise UserError(message + (f"; did you mean {near[0]}?" if near else "") + " (see --help)")


@dataclasses.dataclass(frozen=True)
class Option:
    """The meaning of an option and the values that it accepts; name, type and default are those of its dataclass field.

    ``restore`` says what another value does to a run that is resumed: it "changes" the run (refused without --force),
    it can have no effect any more ("fixed"), it does not matter ("free"), or it belongs to a single command
    ("momentary"). ``name`` is the ``flag`` if there is one.
    """

    help: str
    least: float | None = None
    most: float | None = None
    choices: tuple | None = None
    flag: str | None = None
    short: str | None = None
    nargs: str | None = None
    const: Any = None
    metavar: str | tuple[str, ...] | None = None
    group: str | None = None
    restore: str = "changes"
    field: str = ""
    name: str = ""
    type: type = str
    default: Any = None

    def fault(self, value: Any) -> str | None:
        """Return what is wrong with a value of any type, or None: of another type, not finite, out of range."""
        if self.nargs == "+" and value is not None:
            if not isinstance(value, (list, tuple)) or not value:
                return "is no list"
            return next(filter(None, map(self.fault_of_one, value)), None)
        return None if value is None and self.default is None else self.fault_of_one(value)

    def fault_of_one(self, value: Any) -> str | None:
        """Return what is wrong with a single value, or with one of a list."""
        allowed = (int, float) if self.type is float else self.type
        if not isinstance(value, allowed) or isinstance(value, bool) != (self.type is bool):
            return f"must be {TYPE_NAMES[self.type]}"
        if self.choices and value not in self.choices:
            return "must be one of " + ", ".join(map(str, self.choices))
        if self.type in (int, float):
            least = -LARGEST if self.least is None else self.least
            most = LARGEST if self.most is None else self.most
            return None if least <= value <= most else f"must be from {least:g} to {most:g}"
        if self.type is str and (not value.strip() or "\0" in value):
            return "must not be empty" if not value.strip() else "must not hold a zero byte"
        return None


def option(default: Any, help: str, **settings: Any) -> Any:
    """Return a dataclass field that is also an option of a command; ``settings`` are fields of :class:`Option`."""
    return dataclasses.field(default=default, metadata={"option": Option(help, **settings)})


@cache
def options_of(part: type) -> list[Option]:
    """Return the options of a dataclass, in order."""
    types = {"int": int, "float": float, "bool": bool, "str": str, "tuple[int, ...]": int, "tuple[str, ...]": str}
    return [dataclasses.replace(entry, field=field.name, name=entry.flag or field.name, default=field.default,
                                type=types[field.type.split(" |")[0]])
            for field in dataclasses.fields(part) if (entry := field.metadata.get("option"))]


def from_options(part: type, values: Mapping[str, Any], **others: Any) -> Any:
    """Return an instance of a dataclass of options, from values by option name; lists become tuples."""
    fields = {entry.field: values[entry.name] for entry in options_of(part)}
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return part(**fields, **others)


def to_options(part: Any) -> dict[str, Any]:
    """Return the values of an instance by option name, as JSON writes them: the inverse of :func:`from_options`."""
    values = {entry.name: getattr(part, entry.field) for entry in options_of(type(part))}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def check_ranges(options: argparse.Namespace, **ranges: tuple[float, float]) -> None:
    """Check that a command's numbers are in their ranges (least, most) or None. Raises UserError if one is not."""
    for name, (least, most) in ranges.items():
        value = getattr(options, name)
        for one in value if isinstance(value, list) else [value]:
            if one is not None and not least <= one <= most:
                raise UserError(f"--{name} {str(one)[:60]}: must be from {least:g} to {most:g}")
