"""The lines of models/README.md run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys

from PIL import Image

from conftest import EXPRESSIONS, REPOSITORY, untrained_run


def test_the_example_of_the_readme_runs(tmp_path):
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
