"""report.html holds the results of a run and needs no other files."""

import base64
import re
from xml.etree import ElementTree
from html.parser import HTMLParser

from conftest import EXPRESSIONS, matrix_command, refused, succeeds, train_command, trained
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
    for epoch, content in ((999, b"earlier"), (1000, b"last")):
        (finished_copy / "img" / f"epoch_{epoch:03d}.jpg").write_bytes(content)
    succeeds(train_command("--mode", "report", "--checkpoint_dir", finished_copy))
    text = (finished_copy / "report.html").read_text()
    assert "16.7 % of the swaps show it." in text and "expression transferred</td>" in text
    assert f"base64,{base64.b64encode(b'last').decode()}\"" in text
    (finished_copy / "report.html").write_text("mine")
    assert "something else" in refused(train_command("--mode", "report", "--checkpoint_dir", finished_copy))
    assert "holds no run" in refused(train_command("--mode", "report", "--checkpoint_dir", tmp_path))


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
    for kind, title in (("svg", b"A (title)"), ("pdf", b"A \\(title\\)")):
        argv = "--resume_dir", finished, "--output_dir", tmp_path, "--format", kind
        succeeds(matrix_command(*argv))
        content = (tmp_path / f"Con_Matrix.{kind}").read_bytes()
        assert b"true expression" in content and b"surprise" in content and b"accuracy" not in content
        assert str(finished).encode() not in content
        succeeds(matrix_command(*argv, "--title", "A (title)"))
        assert title in (tmp_path / f"Con_Matrix.{kind}").read_bytes()
    document = (tmp_path / "Con_Matrix.pdf").read_bytes()
    start = int(document.split(b"startxref\n")[1].split()[0])
    offsets = [int(line.split()[0]) for line in document[start:].splitlines()[3:10]]
    assert b"/FontFile2 7 0 R" in document  # journals refuse fonts that are not embedded
    assert document[start:start + 4] == b"xref" and all(
        document[offset:].startswith(b"%d 0 obj" % number) for number, offset in enumerate(offsets, 1))
    ElementTree.fromstring((tmp_path / "Con_Matrix.svg").read_text())
    (tmp_path / "Con_Matrix.pdf").write_bytes(b"%PDF-1.7 mine")
    assert "holds something else" in refused(matrix_command(*argv))
