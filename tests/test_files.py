"""The files that belong to a data set and those that a list means, one test for each kind of difficulty."""

import unicodedata
from pathlib import Path

import numpy
import pytest
from PIL import Image

from conftest import refused
from datasets import check, convert
from datasets.files import walk
from datasets.layout import Sample, read_layout, write_layout
from datasets.lists import Names
from test_importers import greys, picture

CLASSES = ("angry", "happy", "neutral")


def class_tree(root: Path, splits=("",), each: int = 5) -> Path:
    for i, (split, name) in enumerate((split, name) for split in splits for name in CLASSES):
        for number in range(each):
            picture(root / split / name / f"{number}.jpg", 100 * i + number)
    return root


def converted(capsys, tmp_path: Path, *argv: object) -> tuple[dict[str, list[str]], str]:
    """Return the names of each split after a conversion, and the last line of the output, which counts the files."""
    out = tmp_path / "out"
    convert.main([*map(str, argv), "--out", str(out)])
    layout = read_layout(out)
    return ({split: sorted(sample.name for sample in layout.split(split)) for split in ("train", "val", "test")},
            capsys.readouterr().out.splitlines()[-1])


# ------------------------------------------------------------------------------------------------- finding files

def test_a_walk_ignores_the_files_of_tools_and_follows_links_once(tmp_path):
    source = class_tree(tmp_path / "faces", each=2)
    for name in ("happy/.ipynb_checkpoints/0-checkpoint.jpg", "happy/@eaDir/0.jpg", "__MACOSX/happy/0.jpg"):
        picture(source / name, 900)
    for name in ("happy/._0.jpg", "happy/Thumbs.db", "notes"):
        (source / name).write_text("x")
    picture(tmp_path / "elsewhere/10.jpg", 901)
    (source / "angry/more").symlink_to(tmp_path / "elsewhere")
    (source / "angry/again").symlink_to(tmp_path / "elsewhere")
    (source / "angry/loop").symlink_to(source)
    (source / "angry/gone.jpg").symlink_to(source / "gone")
    files = walk(source)
    assert [path.relative_to(source).as_posix() for path in files.images] == [
        "angry/0.jpg", "angry/1.jpg", "angry/again/10.jpg", "happy/0.jpg", "happy/1.jpg", "neutral/0.jpg",
        "neutral/1.jpg"]
    assert files.passed_over() == {"in .ipynb_checkpoints": 1, "in @eaDir": 1, "in __MACOSX": 1, "hidden": 1, ".db": 1,
                                   "without an ending": 1, "broken links": 1,
                                   "links to a directory that is read already": 2}


def test_every_file_of_the_source_is_counted_and_one_with_two_labels_is_refused(tmp_path, capsys):
    source = class_tree(tmp_path / "faces")
    picture(source / "happy/.ipynb_checkpoints/0.jpg", 900)
    picture(source / "loose.jpg", 901)
    (source / "happy/broken.jpg").write_text("x")
    (source / "angry/linked.jpg").symlink_to(source / "angry/1.jpg")
    _, line = converted(capsys, tmp_path, "folders", source)
    assert line == f"{source}: 19 files: 15 taken, 1 passed over (1 in .ipynb_checkpoints), 3 refused"
    (source / "happy/x.jpg").symlink_to(source / "angry/1.jpg")
    line = refused(lambda: convert.main(["folders", str(source), "--out", str(tmp_path / "other")]))
    assert "happy/x.jpg (it is " in line and "with the label angry and with happy" in line


def test_an_unlabelled_test_split_can_be_replaced_by_validation(tmp_path, capsys):
    source = class_tree(tmp_path / "sfew", ("Train", "Val"), each=2)
    picture(source / "Test/0.jpg", 950)
    argv = ["folders", str(source), "--out", str(tmp_path / "out")]
    assert "none of the 1 test images can be tested on" in refused(lambda: convert.main(argv))
    names, line = converted(capsys, tmp_path, "folders", source, "--val_as_test")
    assert list(map(len, names.values())) == [6, 0, 6] and line.endswith("12 taken, 0 passed over, 1 refused")


# ------------------------------------------------------------------------------------------------- names in lists

@pytest.mark.parametrize("listed, file", [
    *((listed, "p/Bild1.JPG") for listed in (
        "p/Bild1.JPG", "p\\Bild1.JPG", "'p/Bild1.JPG'", "P/bild1.jpg", "p/Bild1", "p/Bild1.png", "data/p/Bild1.JPG",
        "C:\\p\\Bild1.JPG", "Bild1_aligned.JPG")),
    *((listed, None) for listed in ("both.png", "p/Bild2.JPG", "r/Bild1.JPG", "x/both.jpg")),
    (unicodedata.normalize("NFD", "q/\u00e9.png"), "q/\u00e9.png"), ("q/both.png", "q/both.png")])
def test_names_are_resolved_if_a_single_file_can_be_meant(listed, file):
    known = ["p/Bild1.JPG", "q/\u00e9.png", "q/both.png", "r/both.png", "q/both.jpg"]
    assert Names(Path("root"), known).find(listed) == file


def test_ambiguous_and_missing_names_are_explained():
    names = Names(Path("root"), ["1.png", "a/2.png", "b/2.png"])
    assert names.find("a/1.png") == "1.png"
    assert "\"a/1.png\" and \"b/1.png\" are both listed, and root/1.png is the only file" in refused(
        lambda: names.find("b/1.png"))
    assert names.find("2.png") is None and names.find("gone.png") is None
    assert names.explain_missing() == "e.g. 2.png and gone.png (it may be a/2.png or b/2.png)"


def test_all_lists_of_a_data_directory_follow_the_same_rules(tmp_path, capsys):
    root = tmp_path / "data_set"
    pictures(root / "data", 6)
    (root / "images.list").write_text("".join(f"data\\{i}.PNG {i % 2}.0\n" for i in range(4)))
    (root / "images_test.list").write_text("\"4\" 0\n5.png 1\n")
    (root / "subjects.list").write_text("".join(f"{i}.png {'P' if i < 4 else 'p'}{i % 4}\n" for i in range(6)))
    (root / "expressions.txt").write_text("happy neutral\n")
    layout = read_layout(root)
    assert [(s.name, s.label, s.subject) for s in layout.train] == [(f"{i}.png", i % 2, f"P{i}") for i in range(4)]
    assert [s.name for s in layout.test] == ["4.png", "5.png"] and all(s.path.is_file() for s in layout.split("all"))
    with pytest.raises(SystemExit, match="1"):
        check.main([str(root)])
    output = capsys.readouterr().out
    assert "leak: 2 subjects are in train and test, e.g. P0, P1" in output
    assert "5 listed names are written differently" in output


# ------------------------------------------------------------------------------------------------- subjects and labels

def test_a_pattern_must_match_all_names_and_ignoring_case_unites_persons(tmp_path, capsys):
    source = tmp_path / "faces"
    for i, name in enumerate(CLASSES):
        for person in range(10):
            picture(source / name / f"{'sS'[person % 2]}{person // 2}_{i}.png", 20 * i + person)
    argv = ["folders", str(source), "--out", str(tmp_path / "out"), "--subject_regex"]
    line = refused(lambda: convert.main([*argv, "^(S.)_"]))
    assert "matches 15 of 30 file names and not s0_0.png and s1_0.png" in line
    convert.main([*argv, "(?i)^(s.)_"])
    assert "5 subjects are written in two ways" in capsys.readouterr().out
    layout = read_layout(tmp_path / "out")
    assert len({s.subject for s in layout.split("all")}) == 5
    assert not {s.subject for s in layout.train} & {s.subject for s in layout.test}


def test_two_labels_and_mirrored_copies_are_problems(tmp_path, capsys):
    root = tmp_path / "d"  # e mirrors a, d is c
    rows = {"train": [("a", 0, 1), ("b", 1, 2), ("c", 0, 3), ("d", 1, 3)], "test": [("e", 0, 1), ("f", 1, 5)]}
    splits = {split: [Sample(f"{name}.png", label, root / f"data/{name}.png") for name, label, _ in samples]
              for split, samples in rows.items()}
    write_layout(root, ["happy", "neutral"], splits)
    (root / "data").mkdir()
    for name, _, number in rows["train"] + rows["test"]:
        blurred = Image.fromarray(greys(number, 8)).resize((64, 64), Image.Resampling.BICUBIC)
        blurred = blurred.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if name == "e" else blurred
        blurred.save(root / f"data/{name}.png")
    with open(root / "images.list", "a") as handle:
        handle.write("f.png 0\n")
    with pytest.raises(SystemExit, match="1"):
        check.main([str(root)])
    output = capsys.readouterr().out
    for problem in ("PROBLEM: leak: 1 pairs of images that are nearly each other's mirror image in two splits: a.png "
                    "(train) = e.png (test)", "PROBLEM: 1 pairs of byte-identical images have two labels: c.png = "
                    "d.png", "PROBLEM: 1 names have one label in the training list and another in the validation or "
                    "test list: f"):
        assert problem in output


# ------------------------------------------------------------------------------------------------- tables

def table(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines))
    return path


def pictures(folder: Path, count: int) -> None:
    for i in range(count):
        picture(folder / f"{i}.png", i)


def test_faces_in_boxes_are_cut_out(tmp_path, capsys):
    pictures(tmp_path / "src", 6)
    rows = [f"{i}.png,{24 * f},-4,24,100,{CLASSES[(i + f) % 3]}" for i in range(6) for f in range(2)]
    path = table(tmp_path / "src/t.csv", "file,x,y,w,h,label", *rows)
    names, line = converted(capsys, tmp_path, "csv", path, "--box_columns", "x", "y", "w", "h")
    assert sum(map(len, names.values())) == 12
    assert line.endswith("7 files: 6 taken, 1 passed over (1 .csv), 0 refused; 12 rows: 12 taken, 0 refused")
    with Image.open(tmp_path / "out/data/3_24_-4_48_96.png") as face:
        assert face.size == (24, 48)
        assert (numpy.asarray(face)[..., 0] == greys(3)[:, 24:]).all()
    sides = [{name.split("_")[0] for name in names[split]} for split in ("train", "test")]
    assert not sides[0] & sides[1]


def test_expw(tmp_path, capsys):
    source = tmp_path / "expw"
    for i in range(14):
        picture(source / f"image/origin/x {i}.jpg", i)
    lines = [f"x {i}.jpg {f} 0 {24 * f} {24 * f + 24} 48 94.2 {(i + f) % 7}" for i in range(14) for f in range(2)]
    table(source / "label.lst", *lines, lines[0], "x 1.jpg 2 0 200 220 48 9.1 3", "gone.jpg 0 0 0 9 9 9.1 3")
    convert.main(["expw", str(source), "--out", str(tmp_path / "out")])
    layout = read_layout(tmp_path / "out")
    assert layout.expressions == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert {s.name: s.label for s in layout.split("all")}["x_5_24_0_48_48.png"] == 6
    output = capsys.readouterr().out
    assert "1 images that are taken already" in output and "its box lies outside the picture" in output
    assert output.splitlines()[-1].endswith("; 31 rows: 28 taken, 3 refused")


def test_a_table_without_a_header_loses_no_row(tmp_path, capsys):
    pictures(tmp_path / "src", 12)
    rows = [f"{i}.png,{i % 3},{'PrivateTest' if i > 8 else 'Training'}" for i in range(12)]
    path = table(tmp_path / "src/t.csv", *rows)
    line = refused(lambda: convert.main(["csv", str(path), "--out", str(tmp_path / "out")]))
    assert "has no header, its first line (0.png,0,Training) is a row; read it with --no_header" in line
    names, line = converted(capsys, tmp_path, "csv", path, "--no_header", "--split_column", "3")
    assert len(names["train"]) == 9 and names["test"] == ["10.png", "11.png", "9.png"]
    assert line.endswith("12 rows: 12 taken, 0 refused")
