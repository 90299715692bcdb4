"""Facts of a result: what a training tells of its data, and what is found when a result is made on other data."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import EXPRESSIONS, TINY, command, refused, snapshot, succeeds, train_command
from datasets.layout import alignment_of
from evaluation import verdict
from training.facts import Facts, differing_options, findings
from utils import UserError, read_json, write_json

def images(text: str) -> list[str]:
    """Return images with one letter for a digest each, such as ``a:0``."""
    return [16 * image[0] + image[1:] for image in text.split()]


RUN = Facts(("joy", "calm"), "/faces",
            images={"train": images("a:0 b:1 c:2"), "val": images("d:0"), "test": images("e:0")},
            persons={"train": ["p", "q"], "test": ["r"]}, aspects={"train": 1.0}, encoder="x",
            options={"epochs": 5, "seed": 0})
TESTED = Facts(("joy", "calm"), "/elsewhere", images={"test": images("f:0 g:1")}, persons={"test": ["p", "s"]},
               aspects={"test": 1.05}, encoder="x")


@pytest.mark.parametrize("change, expected", [
    ({}, ""),  # another data set, whose persons have equal names, is no leak
    ({"images": {"test": images("a:1 f:0 b:1")}, "persons": {}}, "2 of 3 test images are training images"),
    ({"images": {"test": images("d:0 f:0")}, "persons": {}}, "1 of 2 test images are validation images"),
    ({"data_dir": "/faces"}, "1 of the 2 persons in the test images are in the training images too"),
    ({"alignment": {"size": 96, "margin": 0.2}}, "not aligned, and the test faces aligned (--size 96 --margin 0.2)"),
    ({"aspects": {"test": 1.5}}, "the test pictures are 1.50 times as wide as high"),
    ({"aspects": {"test": 0.67}}, "both are squeezed to squares"),
    ({"encoder": "y"}, "Enc_max.pth is not the encoder that the recognizer was trained with")])
def test_every_difference_is_one_sentence(change, expected):
    found = findings(RUN, replace(TESTED, **change))
    assert len(found) == bool(expected) and all(expected in sentence for sentence in found)


def test_runs_of_other_programs_tell_nothing_and_that_is_said():
    assert findings(Facts.of_metadata({}), TESTED) == [
        "its checkpoint does not tell which images it was trained on, so these may be among them"]
    assert "--select_on test" in findings(replace(RUN, selected_on="test"), replace(
        TESTED, images={"test": images("e:0")}, persons={}))[0]
    with pytest.raises(UserError, match="damaged"):
        Facts.of_metadata({"facts": {"images": {"train": 3}}})


def test_facts_survive_a_checkpoint_and_count_images_with_their_labels():
    assert Facts.of_metadata({"expressions": RUN.expressions, "encoder": "x", **RUN.metadata()}) == RUN
    renamed = replace(RUN, images={"train": images("c:2 a:0 b:1 d:0")})
    assert RUN.has_images_of(renamed, "train", "val") and not RUN.has_images_of(renamed, "train")
    assert not RUN.has_images_of(replace(RUN, images={"train": images("a:1 b:1 c:2")}), "train")
    assert RUN.has_images_of(Facts(), "train")
    assert differing_options([RUN, replace(RUN, options={"epochs": 9, "seed": 1})]) == {"epochs": [5, 9]}


# ------------------------------------------------------------------------------------------------- as a user sees it

@pytest.fixture
def leaking(broken: Path) -> Path:
    """A copy of the data directory whose test images are copies of 12 training images under other names."""
    rows = [line.split() for line in (broken / "images.list").read_text().splitlines()[:12]]
    for name, _ in rows:
        shutil.copy(broken / "data" / name, broken / "data" / f"new_{name}")
    (broken / "images_test.list").write_text("".join(f"new_{name} {label}\n" for name, label in rows))
    return broken


LEAK = "12 of 12 test images are training images"


def test_a_training_that_is_tested_on_its_images_says_so_everywhere(leaking, finished, tmp_path):
    subjects = (leaking / "subjects.list").read_text()
    (leaking / "subjects.list").write_text(subjects + "".join(
        f"new_{line}\n" for line in subjects.splitlines()))
    result = train_command("--data_dir", leaking, "--checkpoint_dir", tmp_path / "run", *TINY, "-a", *EXPRESSIONS,
                           "--select_on", "none")
    succeeds(result)
    for text in (result.stderr, result.stdout, (tmp_path / "run" / "report.html").read_text(),
                 str(read_json(tmp_path / "run" / "test_result" / "confusion_matrix.json")["verdict"])):
        assert LEAK in text and "persons in the test images are in the training images too" in text
    output = succeeds(command("test_matrix_multi.py", "--resume_dir", finished, "--against", tmp_path / "run",
                              "--output_dir", tmp_path, "--gpu", -1))
    assert f"note: run: {LEAK}" in output.replace("checkpoint_", "") or LEAK in output
    assert "tested on different images (0 in common)" in output and "t test" not in output
    assert "--select_on: val, none" in output


@pytest.mark.parametrize("change, expected", [
    (lambda run, data: None, None),
    (lambda run, data: write_json(data / "align.json", {"size": 96, "margin": 0.2}), "and the test faces aligned"),
    (lambda run, data: [Image.open(path).resize((48, 32)).save(path) for path in (data / "data").iterdir()],
     "1.50 times as wide as high"),
    (lambda run, data: torch.save({name: 1.01 * value for name, value in torch.load(
        run / "VGG" / "Enc_max.pth").items()}, run / "VGG" / "Enc_max.pth"), "Enc_max.pth is not the encoder")])
def test_a_copied_recognizer_knows_on_what_it_was_trained(finished_copy, broken, tmp_path, change, expected):
    """The test images are those of the run, in another directory."""
    change(finished_copy, broken)
    vgg = Path(shutil.copytree(finished_copy / "VGG", tmp_path / "copied" / "VGG"))
    output = succeeds(command("test_matrix_multi.py", "--resume_dir", vgg, "--data_dir", broken, "--output_dir",
                              tmp_path / "out", "--gpu", -1))
    found = [line for line in output.splitlines() if line.startswith("verdict: ")
             and not any(word in line for word in ("predict", "chance", "was chosen on"))]
    assert len(found) == (expected is not None) and all(expected in line for line in found)


# --------------------------------------------------------------------------------------------------- other data

def matrix_of(run: Path, data: Path, out: Path, *argv: object):
    """Evaluate a run on a data directory."""
    return command("test_matrix_multi.py", "--resume_dir", run, "--data_dir", data, "--output_dir", out, "--gpu", -1,
                   *argv)


def relabel(data: Path, names: list[str], change: Callable[[int, int], int | None]) -> None:
    """Give a data directory other names, and lists without the rows for which ``change`` of row and label is None."""
    (data / "expressions.txt").write_text("\n".join(names) + "\n")
    for path in data.glob("images*.list"):
        rows = [line.split() for line in path.read_text().splitlines()]
        path.write_text("".join(f"{name} {new}\n" for i, (name, label) in enumerate(rows)
                                if (new := change(i, int(label))) is not None))


@pytest.mark.parametrize("names, change, images, expected", [
    ([name.upper() for name in EXPRESSIONS], lambda i, label: label, 18, None),
    (EXPRESSIONS[:3] + EXPRESSIONS[4:], lambda i, label: label - (label > 3) if label != 3 else None, 15,
     "has no squint, which the run in"),
    ([*EXPRESSIONS, "contempt"], lambda i, label: 6 if i % 6 == 0 else label, 15,
     "which show contempt"),
    (["a", "b"], lambda i, label: label % 2, None, "unknown expression disgust scream")])
def test_expressions_of_other_data_are_matched_by_name(finished, broken, tmp_path, names, change, images, expected):
    relabel(broken, names, change)
    result = matrix_of(finished, broken, tmp_path / "out")
    if images is None:
        assert expected in refused(result)
        return
    values = read_json(tmp_path / "out" / "confusion_matrix.json")
    assert values["images"] == images and values["chance"]["mean_class_accuracy"] == pytest.approx(100 / 6, abs=1e-3)
    notes = [text for text in values["verdict"] if "the run in" in text or "left out" in text]
    assert len(notes) == bool(expected) and all(expected in note for note in notes)


def test_training_images_are_told_in_every_list_of_other_data(finished, broken, tmp_path):
    output = succeeds(matrix_of(finished, broken, tmp_path / "out", "--split", "train"))
    assert re.search("[0-9]+ of [0-9]+ test images are training images", output)


def test_every_command_that_loads_a_recognizer_tells_of_another_encoder(finished_copy, tmp_path):
    weights = torch.load(finished_copy / "VGG" / "Enc_max.pth")
    torch.save({name: value + 1 for name, value in weights.items()}, finished_copy / "VGG" / "Enc_max.pth")
    result = train_command("--mode", "recognize", "--restore", "--checkpoint_dir", finished_copy, "--gpu", -1, "--input",
                           next((finished_copy / "img").glob("*.jpg")), "--output", tmp_path / "out.jpg")
    assert "warning: Enc_max.pth is not the encoder" in result.stderr and succeeds(result)


def test_one_list_is_enough_and_labels_without_names_are_said(finished, broken, tmp_path):
    (broken / "images_test.list").replace(broken / "images.list")
    assert "images_test.list: no such list" in refused(matrix_of(finished, broken, tmp_path / "out"))
    (broken / "expressions.txt").unlink()
    output = succeeds(matrix_of(finished, broken, tmp_path / "out", "--split", "train"))
    assert "18 images" in output and "training images" not in output and "nothing names its labels, so 0 to 5 are taken for disgust scream" in output


@pytest.mark.parametrize("exchanged", [[1, 0, 2, 3], [1, 2, 3, 0]])
def test_an_exchange_of_labels_that_explains_the_predictions_is_named(exchanged):
    names, counts = ["anger", "joy", "fear", "calm"], np.eye(4, dtype=int)[exchanged] * 20 + 1
    found, = verdict.of_labels(counts, names)
    assert "88 % of the predictions" in found and "anger is recognized as joy" in found
    assert verdict.of_labels(np.eye(4, dtype=int) * 20, names) == []
    assert verdict.of_labels(np.full((4, 4), 9), names) == verdict.of_labels(counts // 20, names) == []


def test_a_generated_data_set_keeps_the_record_of_the_alignment(finished_copy, tmp_path):
    record = {"size": 96, "margin": 0.2}
    config = read_json(finished_copy / "model" / "config.json")
    write_json(finished_copy / "model" / "config.json", {**config, "alignment": record})
    succeeds(train_command("--mode", "generate", "--restore", "--checkpoint_dir", finished_copy, "--output",
                           tmp_path / "made", "--gpu", -1))
    assert alignment_of(tmp_path / "made") == record


def test_a_run_that_cannot_be_written_is_evaluated_into_another_place(finished, tmp_path):
    before = snapshot(finished)
    argv = "--restore", "--checkpoint_dir", finished, "--output", tmp_path / "out"
    succeeds(train_command("--mode", "evaluate", *argv, "--gpu", -1))
    succeeds(train_command("--mode", "report", *argv))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["judge.pth", "report.html", "synthesis.json"]
    assert "expression transferred" in (tmp_path / "out" / "report.html").read_text() and snapshot(finished) == before
