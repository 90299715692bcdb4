"""Facts of a result: what a training tells of its data, and what is found when a result is made on other data."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import (EXPRESSIONS, evaluated, matrix_command, matrix_of, refused, restored, snapshot, succeeds, tiny,
                      train_command)
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
    result = train_command(*tiny(leaking, tmp_path / "run", "-a", *EXPRESSIONS, "--select_on", "none"))
    succeeds(result)
    for text in (result.stderr, result.stdout, (tmp_path / "run" / "report.html").read_text(),
                 str(matrix_of(tmp_path / "run" / "test_result")["verdict"])):
        assert LEAK in text and "persons in the test images are in the training images too" in text
    output = succeeds(matrix_command("--resume_dir", finished, "--against", tmp_path / "run", "--output_dir", tmp_path))
    assert LEAK in output
    assert "tested on different images (0 in common)" in output and "t test" not in output
    assert "--select_on: val, none" in output


def test_a_copied_recognizer_knows_on_what_it_was_trained(finished_copy, broken, tmp_path):
    """The test images are those of the run, in another directory, and tell of an alignment."""
    write_json(broken / "align.json", {"size": 96, "margin": 0.2})
    weights = torch.load(finished_copy / "VGG" / "Enc_max.pth")
    torch.save({name: 1.01 * value for name, value in weights.items()}, finished_copy / "VGG" / "Enc_max.pth")
    vgg = shutil.copytree(finished_copy / "VGG", tmp_path / "copied" / "VGG")
    found = [text for text in evaluated(vgg.parent, tmp_path / "out", "--data_dir", broken)["verdict"]
             if not any(word in text for word in ("predict", "chance", "was chosen on"))]
    assert len(found) == 2
    assert "and the test faces aligned" in str(found) and "Enc_max.pth is not the encoder" in str(found)


# --------------------------------------------------------------------------------------------------- other data

def test_expressions_of_other_data_are_matched_by_name(finished, broken, tmp_path):
    (broken / "expressions.txt").write_text("\n".join([*map(str.upper, EXPRESSIONS), "contempt"]))
    rows = [line.split() for line in (broken / "images_test.list").read_text().splitlines()]
    (broken / "images_test.list").write_text("".join(
        f"{name} {6 if i % 6 == 0 else label}\n" for i, (name, label) in enumerate(rows)))
    values = evaluated(finished, tmp_path / "out", "--data_dir", broken)
    assert values["images"] == 15 and values["chance"]["mean_class_accuracy"] == pytest.approx(100 / 6, abs=1e-3)
    assert [text for text in values["verdict"] if "which show contempt" in text]


def test_one_list_is_enough_and_labels_without_names_are_said(finished, broken, tmp_path):
    argv = "--resume_dir", finished, "--data_dir", broken, "--output_dir", tmp_path / "out", "--split"
    assert re.search("[0-9]+ of [0-9]+ test images are training images", succeeds(matrix_command(*argv, "train")))
    (broken / "images_test.list").replace(broken / "images.list")
    assert "images_test.list: no such list" in refused(matrix_command(*argv, "test"))
    (broken / "expressions.txt").unlink()
    output = succeeds(matrix_command(*argv, "train"))
    assert "18 images" in output and "training images" not in output
    assert "nothing names its labels, so 0 to 5 are taken for disgust scream" in output


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
    succeeds(restored(finished_copy, "--mode", "generate", "--output", tmp_path / "made"))
    assert alignment_of(tmp_path / "made") == record


def test_a_run_that_cannot_be_written_is_evaluated_into_another_place(finished, tmp_path):
    before = snapshot(finished)
    succeeds(restored(finished, "--mode", "evaluate", "--output", tmp_path / "out"))
    succeeds(train_command("--mode", "report", "--checkpoint_dir", finished, "--output", tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["judge.pth", "report.html", "synthesis.json"]
    assert "expression transferred" in (tmp_path / "out" / "report.html").read_text() and snapshot(finished) == before
