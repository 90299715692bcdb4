"""The READMEs are true: their tables of flags are those of the commands, and what they name exists.

``python tests/test_readme.py`` prints the tables, to be pasted.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys

import pytest

from conftest import REPOSITORY

README = REPOSITORY / "README.md"
DATA_README = REPOSITORY / "datasets" / "README.md"


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


@pytest.mark.parametrize("name", ["align", "check", "convert", "synthetic"])
def test_every_flag_of_the_data_commands_is_told(name):
    parser = importlib.import_module(f"datasets.{name}").build_parser()
    kinds = [action.choices.values() for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    flags = {flag for each in (parser, *(kind for choices in kinds for kind in choices))
             for flag in each._option_string_actions if flag.startswith("--") and flag != "--help"}
    text = DATA_README.read_text()
    assert flags and not [flag for flag in flags if not re.search(re.escape(flag) + r"[`, ]", text)]


def test_the_layouts_name_every_module():
    folders = [REPOSITORY / name for name in ("models", "modes", "tests", ".")]
    modules = {README: [path for folder in folders for path in folder.glob("*.py")],
               DATA_README: list((REPOSITORY / "datasets").rglob("*.py"))}
    for readme, paths in modules.items():
        text = readme.read_text()
        assert not [path for path in paths if path.name != "__init__.py" and path.name not in text]


@pytest.mark.parametrize("readme", [README, DATA_README])
def test_files_and_pictures_that_a_readme_links_exist(readme):
    links = re.findall(r"\]\(([^)#:]+)\)", readme.read_text())
    assert (links or readme == DATA_README) and all((readme.parent / link).exists() for link in links)


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    for title, parser in parsers().items():
        print(f"{title}\n\n{flag_table(parser)}\n")
