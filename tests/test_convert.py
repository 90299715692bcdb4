"""datasets.convert: folders, tables, Multi-PIE and RAF-DB from small trees, what is written, and bad input."""

import os
from pathlib import Path
from typing import Iterable

import numpy
import pytest
from PIL import Image, ImageOps

from conftest import call, command, refused, snapshot
from datasets import check, convert
from datasets.importing.collection import Collection, SourceSample
from datasets.importing.conversion import _check_complete
from datasets.layout import Layout, Sample, read_layout


def greys(number: int, side: int = 48) -> numpy.ndarray:
    """Return the greys (side, side) of a different picture for each number."""
    return numpy.random.default_rng(number).integers(0, 256, (side, side), dtype=numpy.uint8)


def picture(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(greys(number)).save(path)
    return path


def pictures(root: Path, names: Iterable[str | Path]) -> Path:
    """Write a different picture under each name."""
    for number, name in enumerate(names):
        picture(root / name, number)
    return root


def import_twice(capsys, out: Path, *argv: object) -> tuple[Layout, list[str]]:
    """Import twice, which changes nothing, and check the result; return the layout and the images left out."""
    argv = [*map(str, argv), "--out", str(out)]
    convert.main(argv)
    printed = capsys.readouterr().out
    before = snapshot(out)
    convert.main(argv)
    assert "(all there already)" in capsys.readouterr().out and snapshot(out) == before
    result = call(lambda: check.main([str(out), "--sheet", str(out.parent / "sheet.jpg")]))
    assert (result.returncode, result.stderr) == (0, "")
    return read_layout(out), [line.removeprefix("left out: ") for line in printed.splitlines()
                              if line.startswith("left out: ")]


def import_error(tmp_path: Path, *argv: object) -> str:
    """Return the line that refuses an import, which leaves nothing behind and the source as it was."""
    before = snapshot(tmp_path)
    line = refused(lambda: convert.main([*map(str, argv), "--out", str(tmp_path / "out")]))
    assert snapshot(tmp_path) == before and not (tmp_path / "out").exists()
    return line


def as_tuples(samples: Iterable[Sample]) -> list[tuple]:
    return [(sample.name, sample.label, sample.subject, sample.scene) for sample in samples]


def folder_tree(root: Path, splits=("",)) -> Path:
    return pictures(root, [Path(split, name, f"S{subject} take {take}.jpg") for split in splits
                           for name in ("neutral", "anger", "joy") for subject in range(5) for take in range(2)])


# --------------------------------------------------------------------------------------- Multi-PIE and RAF-DB

@pytest.mark.parametrize("folder, ending", [("session{1}/multiview/{0}/{2}/05_1", ""), ("{0}", "_crop_128")])
def test_multipie_expressions_subjects_and_scenes(tmp_path, capsys, folder, ending):
    shots = [(f"00{subject}", f"0{session}", f"0{recording}", light) for subject in range(1, 6)
             for session, recordings in ((1, 2), (2, 3), (3, 3), (4, 3))
             for recording in range(1, recordings + 1) for light in ("07", "13")]
    source = pictures(tmp_path / "pie", [f"{folder.format(*shot)}/{'_'.join(shot[:3])}_051_{shot[3]}{ending}.png"
                                         for shot in shots])
    layout, left_out = import_twice(capsys, tmp_path / "out", "multipie", source)
    assert left_out == ["55 images of another illumination"]
    assert layout.expressions == ("disgust", "scream", "smile", "squint", "surprise", "neutral")
    by_name = {sample.name.removesuffix(f"_051_07{ending}.png"): sample for sample in layout.split("all")}
    expected = {"001_03_03": 0, "001_04_02": 1, "001_01_02": 2, "001_03_02": 2, "001_02_03": 3, "001_02_02": 4,
                "001_04_03": 5, "001_01_01": 5}
    assert {name: by_name[name].label for name in expected} == expected and len(by_name) == 55
    assert (by_name["002_04_02"].subject, by_name["002_04_02"].scene) == ("002", "s4_051_07")
    trained, tested = ({sample.subject for sample in layout.split(split)} for split in ("train", "test"))
    assert len(tested) == 1 and not trained & tested


@pytest.mark.parametrize("which, classes, digits, first, last", [
    ("basic", 7, 5, "surprise", "neutral"), ("compound", 11, 4, "happily_surprised", "disgustedly_surprised")])
def test_rafdb_keeps_the_official_split(tmp_path, capsys, which, classes, digits, first, last):
    source, root = tmp_path / "raf", tmp_path / "raf" / which
    names = [f"{split}_{label:0{digits}}" for split in ("train", "test") for label in range(1, classes + 1)]
    pictures(root / "Image/aligned", [f"{name}_aligned.jpg" for name in names])
    lines = [f"{name}{'_aligned' * (number % 2)}.jpg {number % classes + 1}" for number, name in enumerate(names)]
    (root / "EmoLabel").mkdir()
    (root / "EmoLabel/list_patition_label.txt").write_text("\n".join([*lines, "train_00099.jpg 1"]))
    layout, left_out = import_twice(capsys, tmp_path / "out", "rafdb", source, "--set", which, "--copy")
    assert (len(layout.expressions), layout.expressions[0], layout.expressions[-1]) == (classes, first, last)
    for split in ("train", "test"):
        assert [(s.name, s.label) for s in layout.split(split)] == [
            (f"{split}_{label + 1:0{digits}}.jpg", label) for label in range(classes)]
    assert left_out[0].startswith("1 images listed but missing")
    copied, original = layout.train[2].path, root / f"Image/aligned/{names[2]}_aligned.jpg"
    assert not copied.is_symlink() and copied.read_bytes() == original.read_bytes()
    if which == "compound":
        line = refused(lambda: convert.main(["rafdb", str(root), "--out", str(tmp_path / "two")]))
        assert 'is not "train_00001.jpg 5" with a label from 1 to 7' in line and "--set" in line


# ---------------------------------------------------------------------------------------- folders and tables

def test_folders_with_splits_target_only_faces_and_a_damaged_image(tmp_path, capsys):
    source = folder_tree(tmp_path / "faces", ("train", "val", "test"))
    Image.fromarray(greys(99)).resize((40, 48)).save(source / "train/anger/S0 take 0.jpg")
    damaged = source / "test/joy/S0 take 0.jpg"
    damaged.write_bytes(damaged.read_bytes()[:700])
    layout, left_out = import_twice(capsys, tmp_path / "out", "folders", source, "--target_only", "neutral",
                                    "--reencode", "32")
    assert layout.expressions == ("anger", "joy")
    assert (layout.neutral, len(layout.target_only)) == (2, 30)
    assert [layout.counts(split) for split in ("train", "val", "test")] == [[10, 10], [10, 10], [10, 9]]
    assert left_out == ["1 images that cannot be used: damaged"]
    assert not (tmp_path / "out/data/test_joy_S0_take_0.jpg").exists()
    with Image.open(layout.train[0].path) as image:
        assert (image.format, image.size) == ("JPEG", (32, 38))


def test_target_only_faces_of_test_persons_are_left_out(tmp_path, capsys):
    layout, left_out = import_twice(capsys, tmp_path / "out", "folders", folder_tree(tmp_path / "faces"),
                                    "--target_only", "neutral", "--subject_regex", "^S[0-9]")
    assert left_out == ["2 images only for targets, of persons in the validation or test images"]
    assert {s.subject for s in layout.target_only} == {s.subject for s in layout.train} and len(layout.test) == 4
    assert {s.subject for s in layout.target_only}.isdisjoint(s.subject for s in layout.test)


def test_folders_report_images_outside_and_refuse_two_directories_of_one_split(tmp_path, capsys):
    source = pictures(folder_tree(tmp_path / "faces", ("train", "test")),
                      ["loose.jpg", "train/loose.jpg", "more/joy/S1.jpg", "Training/joy/S1.jpg"])
    argv = ["folders", source, "--ignore"]
    assert "more holds 1 images beside the splits Training, test, train" in import_error(tmp_path, "folders", source)
    assert "Training and train are both the train split" in import_error(tmp_path, *argv, "more")
    _, left_out = import_twice(capsys, tmp_path / "out", *argv, "more", "Training")
    assert left_out == ["2 images in directories that --ignore names", "2 images outside the expressions' directories"]


def test_a_table_is_read_by_its_column_names(tmp_path, capsys):
    pictures(tmp_path / "faces", [f"pics/room{number % 2}_{name}.png" for number, name in enumerate("abcd")])
    (tmp_path / "t.csv").write_text("path;emotion;person;set\n" + "".join(
        f"pics/{name}.png;{emotion};P {person};{split}\n" for name, emotion, person, split in
        (("room0_a", 1, 1, "train"), ("room1_b", 0, 1, ""), ("room0_c", 1, 2, "test"), ("room1_d", 0, 2, "test"),
         ("gone", 0, 2, "test"))))
    argv = ["csv", tmp_path / "t.csv", "--root", tmp_path / "faces", "--file_column", "path"]
    assert 'no column "mood"' in import_error(tmp_path, *argv, "--label_column", "mood")
    argv += ["--label_column", "emotion", "--subject_column", "person", "--split_column", "set"]
    layout, _ = import_twice(capsys, tmp_path / "out", *argv, "--expressions", "smile", "neutral", "--scene_regex",
                             "(room.)_")
    assert layout.expressions == ("smile", "neutral")
    assert as_tuples(layout.train) == [("pics_room0_a.png", 1, "P_1", "room0"), ("pics_room1_b.png", 0, "P_1", "room1")]
    assert [sample.name for sample in layout.test] == ["pics_room0_c.png", "pics_room1_d.png"]


def test_a_column_of_numbers_is_no_column_of_expressions(tmp_path):
    samples = [SourceSample(f"{number}.png", number // 2, tmp_path, split="test" if number % 2 else "train")
               for number in range(2000)]
    refused(lambda: _check_complete(Collection(tuple(map(str, range(1000))), samples=samples), tmp_path),
            "has 1000 labels, such as 0, 1, 2, and fewer than 1000 can be expressions")


def test_a_label_of_dots_does_not_shift_the_names_of_the_others(tmp_path, capsys):
    pictures(tmp_path / "src", [f"{number}.png" for number in range(12)])
    labels = "joy", "sad", "."  # the last is how statistics programs write that a value is missing
    (tmp_path / "src/t.csv").write_text("file,label\n" + "".join(f"{i}.png,{labels[i % 3]}\n" for i in range(12)))
    argv = "csv", tmp_path / "src/t.csv"
    assert "one of its labels consists of dots alone" in import_error(tmp_path, *argv)
    layout, _ = import_twice(capsys, tmp_path / "result/out", *argv, "--expressions", "joy", "sad")
    assert {int(s.name.removesuffix(".png")) % 3 for s in layout.split("all") if s.label == 1} == {1}


# ------------------------------------------------------------------------------------------ what is written

def test_names_never_collide_and_a_person_is_on_one_side_all_the_same(tmp_path):
    images = [(f"{'aA'[person // 2 % 2]} {label} {person // 4 if not take else 100 + 4 * person + take}"
               f"{'(['[person % 2]}.jpg", label, person)
              for label in ("joy", "neutral") for person in range(10) for take in range(4)]
    pictures(tmp_path / "src", [name for name, _, _ in images])
    (tmp_path / "src/t.csv").write_text("".join(f"{','.join(map(str, image))}\n" for image in
                                                [("file", "label", "subject"), *images]))
    convert.main(["csv", str(tmp_path / "src/t.csv"), "--out", str(tmp_path / "out")])
    layout = read_layout(tmp_path / "out")
    assert {sample.subject for sample in layout.train}.isdisjoint(sample.subject for sample in layout.test)
    assert layout.counts("train") == [32, 32] and layout.counts("test") == [8, 8]
    assert len({sample.name.lower() for sample in layout.split("all")}) == 80


def test_lists_of_another_data_set_are_not_lost_and_images_of_the_published_code_are_not_mixed_in(tmp_path):
    out = tmp_path / "out"
    argv = ["folders", str(folder_tree(tmp_path / "faces")), "--out", str(out)]
    convert.main(argv)
    before = snapshot(tmp_path)
    argv += ["--expressions", "joy", "neutral"]
    assert "belongs to another data set or selection" in refused(lambda: convert.main(argv))
    assert snapshot(tmp_path) == before
    convert.main([*argv, "--overwrite"])
    assert read_layout(out).expressions == ("joy", "neutral")
    picture(out / "align_5p/a.jpg", 99)
    before = snapshot(tmp_path)
    line = refused(lambda: convert.main([*argv, "--overwrite"]))
    assert f"{out}/align_5p: training would read the images there" in line and snapshot(tmp_path) == before


@pytest.mark.parametrize("form", [["--copy"], ["--reencode", "32"]])
def test_images_of_another_data_set_with_the_same_names_and_times_are_not_replaced(tmp_path, form):
    sources = [folder_tree(tmp_path / name) for name in ("one", "other")]
    for path in sources[1].rglob("*.jpg"):
        ImageOps.invert(Image.open(path)).save(path)
    for path in (path for source in sources for path in source.rglob("*.jpg")):
        os.utime(path, (10 ** 9, 10 ** 9))  # as from an archive
    one, other = (["folders", str(source), *form, "--out"] for source in sources)
    convert.main([*one, str(tmp_path / "out")])
    before = snapshot(tmp_path)
    assert "another image has this name" in refused(lambda: convert.main([*other, str(tmp_path / "out")]))
    assert snapshot(tmp_path) == before
    for out in ("out", "fresh"):
        convert.main([*other, str(tmp_path / out), "--overwrite"])
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "fresh")


# ------------------------------------------------------------------------------------------------ bad input

@pytest.mark.parametrize("argv, message", [
    ("multipie {src}", "no image is named like 001_01_01_051_07.png; its directories name expressions"),
    ("rafdb {src}", "not a RAF-DB tree"),
    ("affectnet {src}", "not an AffectNet tree; it needs train_set and val_set"),
    ("ckplus {src}", "not a CK+ tree; {src}/cohn-kanade-images is missing"),
    ("oulu {src} --light Weak", "not an Oulu-CASIA tree with --camera VL --light Weak"),
    ("kdef {src}", "no image is named like AF01ANS.JPG"), ("folders {src}/joy", "no images"),
    ("folders {src} --out {src}/inside", "inside the source"), ("oulu {src} --out {src}/..", "inside the output"),
    ("folders {src} --test_share 2", "between 0 and 1"),
    ("folders {src} --expressions rage joy", "no directory with images named rage"),
    ("folders {src} --target_only joy --expressions anger joy", "--target_only joy: is one of --expressions too"),
    ("folders {src} --subject_regex ^(S.) --scene_regex ^take", "--scene_regex ^take: matches no file name")])
def test_bad_input_writes_nothing(tmp_path, argv, message):
    paths = {"src": folder_tree(tmp_path / "all/faces"), "out": tmp_path / "out"}
    before = snapshot(tmp_path)
    argv = (argv if "--out" in argv else argv + " --out {out}").format(**paths).split()
    assert message.format(**paths) in refused(command("-m", "datasets.convert", *argv))
    assert snapshot(tmp_path) == before and not paths["out"].exists()
