"""The READMEs are true: the flags that they name exist, their commands parse, and their example runs."""

import argparse
import importlib
import re
import shlex
import subprocess
import sys

import pytest
from PIL import Image

from conftest import EXPRESSIONS, REPOSITORY, untrained_run

READMES = [REPOSITORY / name / "README.md"
           for name in ("", "datasets", "models", "checkpoint", "tests", "experiments")]
COMMANDS = {"train.py": "options.command_line", "test_matrix_multi.py": "test_matrix_multi"} | {
    name: name for name in map("datasets.{}".format, ("align", "check", "convert", "synthetic"))}


def parser_of(command: str) -> argparse.ArgumentParser:
    return importlib.import_module(COMMANDS[command]).build_parser()


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    subparsers = [subparser for action in parser._actions if isinstance(action, argparse._SubParsersAction)
                  for subparser in action.choices.values()]
    return {flag for each in (parser, *subparsers) for flag in each._option_string_actions}


def test_the_commands_in_the_readmes_parse():
    commands = []
    for readme in READMES:
        for line in re.findall(r"^    (.*python (?:-m )?(?:train|test_matrix|datasets).*)$", readme.read_text(), re.M):
            for argv in map(shlex.split, line.split("&&")):
                commands += [(name, argv[argv.index(name) + 1:]) for name in argv if name in COMMANDS][:1]
    assert {name for name, _ in commands} == set(COMMANDS) and len(commands) > 20
    for name, argv in commands:
        parser_of(name).parse_args([word for word in argv if word != "..."])


def test_every_flag_in_the_readmes_exists():
    known = set().union(*(flags_of(parser_of(name)) for name in COMMANDS))
    known |= {"--no_<flag>", "--dist", "--signal", "--hostile-cases", "--standalone",
              "--nnodes", "--nproc_per_node", "--node_rank", "--master_addr", "--master_port",
              "--max_restarts"}  # pytest, torchrun and Slurm have flags, too
    for readme in READMES[:-1]:  # the tables of measurements also name flags of earlier versions
        named = set(re.findall(r"(?<![\w-])--[a-zA-Z][\w<>-]*", readme.read_text()))
        assert not named - known, (readme, named - known)


@pytest.mark.parametrize("name", ["align", "check", "convert", "synthetic"])
def test_every_flag_of_the_data_commands_is_described(name):
    text = READMES[1].read_text()
    flags = {flag for flag in flags_of(parser_of(f"datasets.{name}")) if flag.startswith("--") and flag != "--help"}
    assert flags and not [flag for flag in flags if not re.search(re.escape(flag) + r"[`, ]", text)]


def test_links_lead_to_files_and_no_placeholder_is_left():
    for readme in READMES:
        text = readme.read_text()
        links = re.findall(r"\]\(([^)#:]+)[^):]*\)", text)
        assert not [link for link in links if not (readme.parent / link).exists()] and "@@" not in text, readme
    assert len(READMES[0].read_bytes()) <= 8704


def test_the_example_of_the_models_readme_runs(tmp_path):
    code, = re.findall(r"```python\n(.*?)```", (REPOSITORY / "models" / "README.md").read_text(), re.DOTALL)
    untrained_run(tmp_path / "checkpoint" / "checkpoint_demo")
    (tmp_path / "images").symlink_to(REPOSITORY / "images")
    (tmp_path / "example.py").write_text(f"import sys\nsys.path.insert(0, {str(REPOSITORY)!r})\n{code}")
    result = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert {"smile.jpg", "neutral.jpg"} <= {line[0] for line in lines}
    assert all(line[1] in EXPRESSIONS and 100 / 6 <= float(line[2]) <= 100 for line in lines)
    assert Image.open(tmp_path / "swapped.png").size == (32, 32)
