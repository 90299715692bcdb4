"""report.html holds the results of a run, needs no other files, and a browser shows it without an error."""

import base64
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from commands.report import save_report
from conftest import refused, succeeds, train_command
from utils import write_json

VOID = {"meta", "link", "img", "path", "circle", "polyline", "br"}


class Balance(HTMLParser):
    """A parser that collects the links, and checks that elements are closed in the order in which they were opened."""

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


def test_a_training_leaves_a_report_that_needs_no_other_files(finished):
    text = (finished / "report.html").read_text()
    parsed = Balance()
    parsed.feed(text)
    assert parsed.open == []
    assert len(parsed.links) >= 5 and all(link.startswith("data:") for link in parsed.links) and "url(" not in text
    headings = re.findall("<h2>(.*?)</h2>", text)
    assert {"Test", "GAN", "Recognizer", "Confusion matrix", "Surest mistakes",
            "Options that differ from the preset"} <= set(headings)
    assert "--base_width</td><td class=\"text\">2</td><td class=\"text\">64</td>" in text and "--gpu" not in text
    assert "mean class accuracy" in text and "6 validation images" in text  # a metric and the verdict


def test_the_report_of_a_run_is_written_again_with_the_verdict_on_its_swaps(finished_copy, tmp_path):
    (finished_copy / "report.html").unlink()
    write_json(finished_copy / "synthesis.json", {"transfer": 16.7, "verdict": ["16.7 % of the swaps show it"]})
    succeeds(train_command("--mode", "report", "--checkpoint_dir", finished_copy))
    text = (finished_copy / "report.html").read_text()
    assert "16.7 % of the swaps show it." in text and "expression transferred</td>" in text
    (finished_copy / "report.html").write_text("mine")
    assert "something else" in refused(train_command("--mode", "report", "--checkpoint_dir", finished_copy))
    assert "holds no run" in refused(train_command("--mode", "report", "--checkpoint_dir", tmp_path))


def test_the_report_shows_the_swaps_of_the_last_of_a_thousand_epochs(finished_copy):
    for epoch, content in ((999, b"earlier"), (1000, b"last")):
        (finished_copy / "img" / f"epoch_{epoch:03d}.jpg").write_bytes(content)
    save_report(finished_copy)
    assert f"base64,{base64.b64encode(b'last').decode()}\"" in (finished_copy / "report.html").read_text()


def test_a_browser_shows_the_report_without_an_error(finished, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed")
    argv = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--window-size=1400,1000",
             f"--screenshot={tmp_path / 'page.png'}", f"file://{finished / 'report.html'}"]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert (tmp_path / "page.png").is_file(), result.stderr
    assert "CONSOLE" not in result.stderr
