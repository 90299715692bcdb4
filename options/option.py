"""Knobs: dataclass fields that are also options of a command, with meaning, type and range in one line each."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any, NoReturn

from utils import UserError


class OneLineParser(argparse.ArgumentParser):
    """A parser whose complaints are one line, as every other mistake's."""

    def error(self, message: str) -> NoReturn:
        """UserError instead of the usage and an exit."""
        raise UserError(f"{message} (see --help)")


@dataclasses.dataclass(frozen=True)
class Knob:
    """One thing to choose, beside its name, type and default: what it means, and what may be chosen.

    ``restore`` says what another value does to a run that goes on: "changes" it (refused without --force), cannot be
    taken up ("fixed"), does not matter ("free"), or was never the run's but that of one command ("momentary").
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


def knob(default: Any, help: str, **settings: Any) -> Any:
    """A dataclass field that is also an option of a command; ``settings`` are those of :class:`Knob`."""
    return dataclasses.field(default=default, metadata={"knob": Knob(help, **settings)})


@dataclasses.dataclass(frozen=True)
class NamedKnob:
    """A :class:`Knob` with the name of its option, its type (``int``, ``float``, ``bool`` or ``str``) and default."""

    name: str
    kind: type
    default: Any
    knob: Knob

    def fault(self, value: Any) -> str | None:
        """What is wrong with a value of any type, or None: of another type, not finite, out of range."""
        if self.knob.nargs == "+" and value is not None:
            if not isinstance(value, list) or not value:
                return "is no list"
            return next(filter(None, map(self.fault_of_one, value)), None)
        return None if value is None and self.default is None else self.fault_of_one(value)

    def fault_of_one(self, value: Any) -> str | None:
        """What is wrong with a value, or with one of a list."""
        allowed = (int, float) if self.kind is float else self.kind
        if not isinstance(value, allowed) or isinstance(value, bool) != (self.kind is bool):
            return f"must be {KINDS[self.kind]}"
        if self.knob.choices and value not in self.knob.choices:
            return "must be one of " + ", ".join(map(str, self.knob.choices))
        if self.kind in (int, float):
            least, most = self.knob.least, self.knob.most
            most = MOST if most is None else most
            if value != value or not -MOST <= value <= MOST or value > most or least is not None and value < least:
                return f"must be from {-MOST if least is None else least:g} to {most:g}"
        elif self.kind is str and (not value.strip() or "\0" in value):
            return "must not be empty" if not value.strip() else "must not hold a zero byte"
        return None


KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
MOST = 10 ** 9


def knobs_of(recipe: type) -> list[NamedKnob]:
    """The knobs of a dataclass, in order."""
    kinds = {"int": int, "float": float, "bool": bool, "str": str}
    return [NamedKnob(found.flag or field.name, kinds[field.type.split(" ")[0]], field.default, found)
            for field in dataclasses.fields(recipe) if (found := field.metadata.get("knob"))]


def picked(recipe: type, options: Any, **others: Any) -> Any:
    """An instance of a dataclass of knobs, from an object with attributes of their names (parsed options)."""
    chosen = {field.name: getattr(options, field.metadata["knob"].flag or field.name)
              for field in dataclasses.fields(recipe) if "knob" in field.metadata and field.name not in others}
    return recipe(**chosen, **others)


def check_ranges(options: argparse.Namespace, **ranges: tuple[float, float]) -> None:
    """UserError where one of a command's numbers is not in its range, least and most; None passes."""
    for name, (least, most) in ranges.items():
        value = getattr(options, name)
        for one in value if isinstance(value, list) else [value]:
            if one is not None and not least <= one <= most:
                raise UserError(f"--{name} {str(one)[:60]}: must be from {least:g} to {most:g}")
