"""The README is true: its tables of flags are those of the commands, and what it names exists.

``python tests/test_readme.py`` prints the tables, to be pasted.
"""

from __future__ import annotations

import argparse
import re
import sys

import pytest

from conftest import REPOSITORY

README = REPOSITORY / "README.md"


def flag_table(parser: argparse.ArgumentParser) -> str:
    """A parser's options as a Markdown table: flag, default, meaning."""
    lines = ["| flag | default | meaning |", "|---|---|---|"]
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.dest != "help"]
        if actions and group.title not in ("options", "positional arguments"):
            lines.append(f"| **{group.title}** | | |")
        lines += [f"| `{flag(action).replace('|', chr(92) + '|')}` | {default(action)} | {action.help} |"
                  for action in actions]
    return "\n".join(lines)


def flag(action: argparse.Action) -> str:
    """The flag with what it takes, as the README writes it."""
    names = [name for name in action.option_strings if not name.startswith("--no")]
    text = ", ".join(names)
    if action.choices:
        return text + " {" + ",".join(map(str, action.choices)) + "}"
    if action.nargs == 0:
        return text
    name = action.metavar or ("N" if action.type is int else "X" if action.type is float else "NAME")
    name = " ".join(name) if isinstance(name, tuple) else name
    return f"{text} [{name}]" if action.nargs == "?" else text + f" {name}" + (" ..." if action.nargs == "+" else "")


def default(action: argparse.Action) -> str:
    """The default, as the README writes it."""
    if action.default is True or action.default is False:
        return "on" if action.default else "off"
    return "" if action.default in (None, argparse.SUPPRESS) else f"`{action.default}`"


def parsers() -> dict[str, argparse.ArgumentParser]:
    import test_matrix_multi
    from modes.options import build_parser

    return {"train.py": build_parser(), "test_matrix_multi.py": test_matrix_multi.build_parser()}


@pytest.mark.parametrize("name", ["train.py", "test_matrix_multi.py"])
def test_flag_tables_are_those_of_the_commands(name):
    assert flag_table(parsers()[name]) in README.read_text()


def test_the_layout_names_every_module():
    text = README.read_text()
    folders = ("models", "modes", "datasets", "tests", ".")
    modules = [path for folder in folders for path in (REPOSITORY / folder).glob("*.py")]
    missing = [path.name for path in modules if path.name != "__init__.py" and f"{path.name}" not in text]
    assert not missing


def test_files_and_pictures_that_the_readme_links_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text())
    assert links and all((REPOSITORY / link).exists() for link in links)


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    for title, parser in parsers().items():
        print(f"{title}\n\n{flag_table(parser)}\n")
