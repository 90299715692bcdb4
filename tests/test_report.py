"""report.html: what it holds of a run, that nothing outside is needed, and that a browser shows it without an error."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from conftest import refused, train_command
from pictures.curves import Line, chart

VOID = {"meta", "link", "img", "path", "circle", "polyline", "br"}


class Balance(HTMLParser):
    """The elements that are open, and the links of all."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.links = [], []

    def handle_starttag(self, tag, attributes):
        self.links += [value for key, value in attributes if key in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def test_a_training_leaves_a_report_that_stands_alone(finished, tmp_path):
    text = (finished / "report.html").read_text()
    parsed = Balance()
    parsed.feed(text)
    assert parsed.open == []
    assert len(parsed.links) >= 5 and all(link.startswith("data:") for link in parsed.links) and "url(" not in text
    headings = re.findall("<h2>(.*?)</h2>", text)
    assert {"Test", "GAN", "Recognizer", "Confusion matrix", "Surest mistakes", "Options that differ from the preset"} \
        <= set(headings)
    assert "--base_width</td><td class=\"text\">2</td><td class=\"text\">64</td>" in text and "--gpu" not in text
    assert "mean class accuracy" in text and "6 validation images" in text  # a measure and the verdict
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "report.html").unlink()
    result = train_command("--mode", "report", "--checkpoint_dir", tmp_path / "run")
    assert result.returncode == 0 and (tmp_path / "run" / "report.html").is_file(), result.stderr
    (tmp_path / "run" / "report.html").write_text("mine")
    assert "something else" in refused(train_command("--mode", "report", "--checkpoint_dir", tmp_path / "run"))
    assert "holds no run" in refused(train_command("--mode", "report", "--checkpoint_dir", tmp_path))


def test_a_chart_places_its_points():
    svg = chart("loss", [Line("loss", (1, 2, 3), (4.0, 2.0, 0.0))])
    points = [tuple(map(float, point.split(","))) for point in re.search('points="(.*?)"', svg)[1].split()]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1) and y1 - y0 == pytest.approx(y2 - y1) and y0 < y2  # it falls
    assert "points=\"173.0,90.0\"" in chart("one", [Line("one", (1,), (5.0,))])  # a single epoch stands in the middle
    assert "&lt;b&gt;" in chart("<b>", [Line("x", (1,), (1.0,))])


def test_a_browser_shows_the_report_without_an_error(finished, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed")
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--window-size=1400,1000",
             f"--screenshot={tmp_path / 'page.png'}", f"file://{finished / 'report.html'}"]
    result = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert (tmp_path / "page.png").is_file(), result.stderr
    assert "CONSOLE" not in result.stderr
