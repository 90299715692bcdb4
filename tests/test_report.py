"""report.html holds the results of a run, needs no other files, and a browser shows it without an error."""

import base64
import re
import shutil
import subprocess
from xml.etree import ElementTree
from html.parser import HTMLParser

import pytest

from commands.report import save_report
from conftest import EXPRESSIONS, command, refused, succeeds, train_command, trained
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
    assert "--base_width</span></td><td class=\"text\">2</td><td class=\"text\">64</td>" in text
    assert "--gpu</span></td>" not in text
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


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "phase,epoch,step,name,value\ngan_epoch,x,0,G,1\n"])
def test_a_damaged_log_is_named(finished_copy, content):
    (finished_copy / "log" / "metrics.csv").write_text(content)
    assert "metrics.csv: damaged" in refused(train_command("--mode", "report", "--checkpoint_dir", finished_copy))


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


def test_a_series_has_a_report_with_the_verdict_of_each_run(faces, tmp_path):
    trained(faces, tmp_path / "run", "-a", *EXPRESSIONS, "--seeds", 2, "--vgg_lr", 0.002)
    text = (tmp_path / "run" / "report.html").read_text()
    assert "In seed_00, it " in text and "In seed_01, it " in text and "<td class=\"text\">seed_01</td>" in text
    assert "--vgg_lr</span></td>" in text and "--attributes</span></td>" in text and "--amp</span></td>" not in text
    assert "train.py <span class=\"flag\">--data_dir</span>" in text
    assert "from the last start to the test" in text and "seed</td>" in text
    rows = (tmp_path / "run" / "test_result" / "predictions.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 18 and rows[0].endswith(",run") and rows[-1].endswith(",seed_01")


def test_a_confusion_matrix_is_written_as_vectors_without_a_heading(finished, tmp_path):
    for kind in ("svg", "pdf"):
        argv = "--resume_dir", finished, "--output_dir", tmp_path, "--gpu", -1, "--format", kind
        succeeds(command("test_matrix_multi.py", *argv))
        content = (tmp_path / f"Con_Matrix.{kind}").read_bytes()
        assert b"true expression" in content and b"surprise" in content and b"accuracy" not in content
        assert str(finished).encode() not in content
        succeeds(command("test_matrix_multi.py", *argv, "--title", "A (title)"))
        assert b"A \\(title\\)" in (titled := (tmp_path / f"Con_Matrix.{kind}").read_bytes()) or b"A (title)" in titled
    document = (tmp_path / "Con_Matrix.pdf").read_bytes()
    start = int(document.split(b"startxref\n")[1].split()[0])
    offsets = [int(line.split()[0]) for line in document[start:].splitlines()[3:10]]
    assert b"/FontFile2 7 0 R" in document  # journals refuse fonts that are not embedded
    assert document[start:start + 4] == b"xref" and all(
        document[offset:].startswith(b"%d 0 obj" % number) for number, offset in enumerate(offsets, 1))
    ElementTree.fromstring((tmp_path / "Con_Matrix.svg").read_text())
    (tmp_path / "Con_Matrix.pdf").write_bytes(b"%PDF-1.7 mine")
    assert "holds something else" in refused(command("test_matrix_multi.py", *argv))
