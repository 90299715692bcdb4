"""datasets.convert: which directories, names and columns are the expressions, the splits and the persons."""

import itertools
import re
from pathlib import Path

import numpy
import pytest
from PIL import Image

from conftest import refused
from datasets import convert
from datasets.layout import alignment_of, read_layout
from test_convert import greys, pictures
from utils import write_json


def expanded(pattern: str) -> list[str]:
    """Return the names that a pattern such as ``{a,b}/{1,2}.png`` means, as a shell expands it."""
    parts = re.split(r"\{([^}]*)\}", pattern)
    parts[1::2] = [part.split(",") for part in parts[1::2]]
    return ["".join(name) for name in itertools.product(*([part] if isinstance(part, str) else part for part in parts))]


def tree(tmp_path: Path, *patterns: str) -> Path:
    return pictures(tmp_path / "in", [name for pattern in patterns for name in expanded(pattern)])


def imported(tmp_path: Path, capsys, *argv: object) -> tuple[str, str]:
    """Import; return "expressions; images by split; persons" and the notes."""
    convert.main([*map(str, argv), "--out", str(tmp_path / "out")])
    layout, output = read_layout(tmp_path / "out"), capsys.readouterr().out
    sizes = "/".join(str(len(layout.split(split))) for split in ("train", "val", "test"))
    persons = sorted({sample.subject for sample in layout.split("all") if sample.subject})
    return f"{' '.join(layout.expressions)}; {sizes}; {' '.join(persons)}".strip("; "), "".join(
        line for line in output.splitlines() if line.startswith("note: "))


@pytest.mark.parametrize("patterns, argv, expected", [
    # words around those of the splits
    (["{Train,Val}_Aligned_Faces/{Angry,Happy,Sad}/{1,2}.png", "Test_Aligned_Faces_new/{Angry,Happy,Sad}/3.png"], "",
     "Angry Happy Sad; 6/6/3"),
    (["set/{TrainSet,validationImages,testing_data}/{0,1,2}/{1,2}.png", "set/about.png"], "", "0 1 2; 6/6/6"),
    (["{train,test}_{angry,happy}/{1,2}.png"], "", "angry happy; 4/0/4"),
    (["{train/angry,test/anger,train/Joy,test/joy}/{1,2}.png"], "", "anger joy; 4/0/4"),
    # persons, sexes, sessions, views, folds above the expressions or below
    ([f"{name}/{name}_{{anger,joy}}/{{1,2}}.png" for name in ("aia", "ray", "mery")], "--test_share 0.3",
     "anger joy; 8/0/4; aia mery ray"),
    (["{001,002,006}/{anger,neutral}/take00{0,1}/img_{1,2}.jpg"], "--test_share 0.3",
     "anger neutral; 16/0/8; 001 002 006"),
    (["{female,male}/{01,02,03}/{happy,sad}/{1,2}.png"], "--test_share 0.34",
     "happy sad; 16/0/8; female_01 female_02 female_03 male_01 male_02 male_03"),
    (["{session1,session2}/{left,right}/{happy,sad,neutral}/{1,2}.png"], "", "happy sad neutral; 18/0/6"),
    (["{train,test}/{fold1,fold2}/{happy,sad}/{1,2}.png"], "", "happy sad; 8/0/8"),
    (["{happy,sad}/{anna,bert,carl}/{1,2}.png"], "--test_share 0.34", "happy sad; 8/0/4; anna bert carl"),
    (["{anna,bert,carl}/{happy,sad}/{a_1,b_1,c_1}.png"], "--subject_regex ^(.)_ --test_share 0.34",
     "happy sad; 12/0/6; a b c"),
    # the expressions alone
    (["{freude,wut,trauer}/{1,2,3,4,5}.png"], "", "freude trauer wut; 12/0/3"),
    (["{AN,HA,NE}/{1,2,3,4,5}.png"], "", "anger happiness neutral; 12/0/3"),
    (["{Happy,Sad,Fear}/{1,2,3,4,5}.png"], "--expressions sad happy", "sad happy; 8/0/2"),
    (["{1,2,10}/{1,2,3,4,5}.png"], "--expressions anger joy neutral", "anger joy neutral; 12/0/3"),
    # splits and labels in the names of the files
    (["{happy,sad}/{Training,PublicTest,PrivateTest}_{1,2}.png"], "", "happy sad; 4/4/4"),
    (["Rafd090_{01,02,03}_Caucasian_female_{angry,contemptuous,happy}_frontal.jpg"],
     "--label_regex _(angry|contemptuous|happy)_ --subject_regex _([0-9]+)_ --test_share 0.34",
     "angry contemptuous happy; 6/0/3; 01 02 03"),
    (["{train,test}/{001,002}_o_m_{a,h,n}_{a,b}.jpg"], "--label_regex _(.)_.\\. --subject_regex ^[0-9]+",
     "anger happiness neutral; 12/0/12; 001 002")])
def test_expressions_splits_and_persons_of_a_tree(tmp_path, capsys, patterns, argv, expected):
    assert imported(tmp_path, capsys, "folders", tree(tmp_path, *patterns), *argv.split())[0] == expected


@pytest.mark.parametrize("pattern, messages", [
    ("{S001,S002,S003}/{1,2}.png", ["S001, S002, S003 look like persons", "--label_regex"]),
    ("{a,b,c}/{x,y,z}/{1,2}.png", ["either a, b, c or x, y, z", "--expressions"]),
    ("{s1,s2,s3}/{happy,sad}_{1,2}.png", ["s1, s2, s3 are no known expressions", "--label_regex '(?i)(happy|sad)'"]),
    ("{train/happy,train/sad,test/happy,test/sad,originals/happy}/{1,2}.png",
     ["originals holds 2 images beside the splits test, train and is none"]),
    ("{fold1,fold2}/{train,test}/{happy,sad}/{1,2}.png", ["the splits are in fold1, fold2, above the expressions"]),
    ("{01F,02M}_{AN,HA,NE,SP}_C.bmp", ["--label_regex '^(?:[A-Za-z0-9]+[^A-Za-z0-9]+){1}([A-Za-z]+)'"]),
    ("{train,valid}/images/{1,2}.png", ["YOLO's labels"])])
def test_trees_without_expressions_are_refused_with_what_settles_it(tmp_path, pattern, messages):
    source = tree(tmp_path, pattern)
    if "YOLO" in messages[0]:
        (source / "train/labels").mkdir()
        (source / "train/labels/1.txt").write_text("3 0.5 0.5 0.9 0.9\n")
    refused(lambda: convert.main(["folders", str(source), "--out", str(tmp_path / "out")]), *messages)


def test_what_is_decided_is_said(tmp_path, capsys):
    source = tree(tmp_path, "{train,valid}/{happy,sad,odd}/{S1,S2,S3}_{1,2,3}.png")
    summary, notes = imported(tmp_path, capsys, "folders", source)
    assert summary == "happy odd sad; 21/27/6"
    for note in ("6 images were cut from its 27 training images to test on",
                 "--val_as_test tests on its 27 validation images instead",
                 "--subject_regex '^([A-Za-z]{1,8}[0-9]+)[_. -]'", "none is known by this name: odd"):
        assert note in notes


# ------------------------------------------------------------------------------------------------- tables

def table(tmp_path: Path, header: str, *rows: str, name: str = "faces.csv") -> Path:
    """Write a table whose first column is the number of an image, and the images."""
    pictures(tmp_path, [f"{row.partition(',')[0]}" for row in rows])
    (tmp_path / name).write_text("\n".join([header, *rows]) + "\n")
    return tmp_path / name


SPLITS = ("Train", "Train", "Train", "Val", "Test")
MOODS = ("happy", "sad")


@pytest.mark.parametrize("header, row, argv, expected, note", [
    ("file,label,original_split", lambda i: f"{i}.png,{MOODS[i % 2]},{SPLITS[i % 5]}", "", "happy sad; 12/4/4",
     "the split is that of the column original_split"),
    ("file,label,original_split", lambda i: f"{i}.png,{MOODS[i % 2]},{SPLITS[i % 5]}", "--split_column none",
     "happy sad; 16/0/4", "no test split: 4 images"),
    ("image,emotion,is_test", lambda i: f"{i}.png,{MOODS[i % 2]},{str(i % 5 == 4).upper()}", "", "happy sad; 16/0/4",
     "the split is that of the column is_test"),
    ("image,emotion,partition,pose", lambda i: f"{i}.png,{MOODS[i % 2]},{i // 8},{i}", "", "happy sad; 16/0/4",
     "neither split nor person is read from the columns partition (0, 1, 2), pose"),
    ("image,emotion,is_training,validation", lambda i: f"{i}.png,{MOODS[i % 2]},{int(i % 5 < 3)},{int(i % 5 == 3)}", "",
     "happy sad; 12/4/4", "is_training, validation"),
    ("file,label,emotion,set", lambda i: f"{i}.png,{1 - i % 2},{MOODS[i % 2]},{SPLITS[i % 5]}", "",
     "sad happy; 12/4/4", "the names of the labels are those of the column emotion"),
    ("file,label,set", lambda i: f"{MOODS[i % 2]}/{i}.png,{i % 2 + 3}.0,{SPLITS[i % 5]}", "", "happy sad; 12/4/4",
     "the names of the labels are those of the directory"),
    ("pth,label,set", lambda i: f"{MOODS[i % 4 == 1]}/{i}.png,{MOODS[i % 2]},{SPLITS[i % 5]}", "", "happy sad; 12/4/4",
     "5 of 20 files lie in a directory of another expression than their label"),
    ("file,label,set", lambda i: f"train_{i:05d}_aligned.png,{i % 7 + 1},{SPLITS[i % 5]}", "",
     "surprise fear disgust happiness sadness anger neutral; 12/4/4", "RAF-DB's"),
    ("file,label", lambda i: f"{('train', 'test')[i % 5 == 4]}/{i}.png,{MOODS[i % 2]}", "", "happy sad; 16/0/4",
     "the split is that of the column file"),
    ("file,label", lambda i: f"{i}.png,{('happy', 'blue', 'sad', 'NaN')[i % 4]}", "", "blue happy sad; 12/0/3",
     "none is known by this name: blue"),
    ("file,label,person,set", lambda i: f"{i}.png,{MOODS[i % 2]},{('P1', 'p1', 'P2')[i % 3]},{SPLITS[i % 5]}", "",
     "happy sad; 12/4/4; P1 P2", "2 persons of the training images are in the validation or test images too"),
    ("file,label,x1,y1,x2,y2", lambda i: f"{i}.png,{MOODS[i % 2]},4,4,30,30", "--box_columns none",
     "happy sad; 16/0/4", "no test split")])
def test_columns_of_a_table_are_looked_at(tmp_path, capsys, header, row, argv, expected, note):
    source = table(tmp_path / "in", header, *map(row, range(20)))
    summary, notes = imported(tmp_path, capsys, "csv", source, *argv.split())
    assert summary == expected and note in notes


@pytest.mark.parametrize("header, row, message", [
    ("file,label,face_x,face_y,face_w,face_h", lambda i: f"{i}.png,{'ab'[i % 2]},1,2.5,30,40",
     "cut them out with --box_columns face_x face_y face_w face_h, or take whole pictures with --box_columns none"),
    ("file,label,bbox", lambda i: f"{i}.png,{'ab'[i % 2]},\"[1, 2, 30, 40]\"", "the column bbox seems to hold"),
    ("file,label,subset", lambda i: f"{i}.png,{'ab'[i % 2]},{(*SPLITS, 'unknown')[i % 6]}",
     "line 7: the split \"unknown\" of the column subset is not train, val or test"),
    ("file,happy,sad", lambda i: f"{i}.png,{i % 2},{1 - i % 2}", "columns happy, sad seem to hold a score"),
    ("file,label,a_split,b_split", lambda i: f"{i}.png,{'ab'[i % 2]},{SPLITS[i % 5]},{SPLITS[(i + 1) % 5]}",
     "several columns may be that of the split (a_split, b_split)"),
    ("file,label,emotion", lambda i: f"{i}.png,{i % 2},{('happy', 'sad')[i % 3 == 1]}",
     "the column emotion names expressions that do not go with them one by one")])
def test_columns_that_contradict_are_refused(tmp_path, header, row, message):
    source = table(tmp_path / "in", header, *map(row, range(20)))
    assert message in refused(lambda: convert.main(["csv", str(source), "--out", str(tmp_path / "out")]))


@pytest.mark.parametrize("name, content, message", [
    ("a.parquet", b"PAR1" + bytes(60), "is a Parquet file; read it with pandas.read_parquet"),
    ("labels.csv", b"PK\3\4" + bytes(26) + b"[Content_Types].xml",
     "is an Excel file; save it as CSV: python -c \"import pandas; "
     "pandas.read_excel('labels.csv').to_csv('labels.csv')"),
    ("a.csv", b"\xff\xfef\0", "is text in UTF-16"), ("a.zip", b"PK\3\4", "is an archive; unpack it")])
def test_files_that_are_no_tables_are_named_with_the_way(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    for kind in ("csv", "fer2013", "folders"):
        line = refused(lambda: convert.main([kind, str(tmp_path / name), "--out", str(tmp_path / "out")]))
        assert f"{name}: {message}" in line


# ------------------------------------------------------------------------------------------------- one data set each

@pytest.mark.parametrize("kind, pattern, way", [
    ("ckplus", "{anger,happy}/S0{10,11,12}_004_000000{17,18}.png",
     "folders {} --subject_regex '^([A-Za-z]{{1,8}}[0-9]+)"),
    ("affectnet", "Rafd090_{01,02,03}_{angry,happy}_frontal.jpg", "folders {} --label_regex '(?i)(angry|happy)'"),
    ("rafdb", "train/images/{1,2}.jpg", "a table: python -m datasets.convert csv {}/labels.csv")])
def test_a_source_of_another_kind_is_told_the_command(tmp_path, kind, pattern, way):
    source = tree(tmp_path, pattern)
    if kind == "rafdb":
        (source / "labels.csv").write_text("file,label\n")
    refused(lambda: convert.main([kind, str(source), "--out", str(tmp_path / "out")]), way.format(source))


def test_rafdb_as_on_kaggle(tmp_path, capsys):
    source = pictures(tmp_path / "in", [f"DATASET/{split}/{i % 7 + 1}/{name}_{i:05d}_aligned.jpg"
                                        for split, name in (("train", "train"), ("valid", "test")) for i in range(14)])
    names = "surprise fear disgust happiness sadness anger neutral"
    assert imported(tmp_path / "a", capsys, "rafdb", source)[0] == f"{names}; 14/0/14"
    summary, notes = imported(tmp_path / "b", capsys, "folders", source)
    assert summary == f"{names}; 7/14/7" and "python -m datasets.convert rafdb takes the official split" in notes


def test_persons_are_tested_on_as_wholes(tmp_path, capsys):
    source = tree(tmp_path, "{happy,sad}/{me,you}_{1,2,3,4,5,6}.png")
    argv = "folders", source, "--subject_regex", "^([a-z]+)_"
    line = refused(lambda: imported(tmp_path, capsys, *argv))
    assert "none of its 2 (me, you) fits a share of 0.2; test on a larger one, such as 0.5 (--test_share" in line
    summary, notes = imported(tmp_path, capsys, *argv, "--test_share", "0.5")
    assert summary == "happy sad; 12/0/12; me you" and "12 images (persons: 1 of 2) were cut" in notes


@pytest.mark.parametrize("argv", ["csv {}/t.csv --root {}/all", "csv {}/t.csv --root {}", "folders {}/all/in"])
def test_the_record_of_an_alignment_is_found_above_the_images(tmp_path, argv):
    source = pictures(tmp_path / "faces", expanded("all/in/{happy,sad}/{1,2,3,4,5}.png"))
    write_json(source / "align.json", {"size": 48, "margin": 0.2})
    prefix = "" if "all" in argv else "all/"
    (source / "t.csv").write_text("file,label\n" + "".join(
        f"{prefix}in/{label}/{i}.png,{label}\n" for label in ("happy", "sad") for i in range(1, 6)))
    argv = [*argv.format(source, source).split(), "--out", str(tmp_path / "out")]
    convert.main(argv)
    assert alignment_of(tmp_path / "out") == {"size": 48, "margin": 0.2}
    (source / "align.json").unlink()
    assert "align.json: the images there were aligned in another way" in refused(lambda: convert.main(argv))
    convert.main([*argv, "--overwrite"])
    assert alignment_of(tmp_path / "out") is None


def test_central_squares_are_cut_and_shapes_that_differ_are_noted(tmp_path, capsys):
    source = tree(tmp_path, "{happy,sad}/{1,2,3,4,5}.png")
    wide = numpy.pad(greys(7), [(0, 0), (16, 16)])
    Image.fromarray(wide).save(source / "happy/1.png")
    assert "1 images are not square (up to 1.7 to 1)" in imported(tmp_path, capsys, "folders", source)[1]
    _, notes = imported(tmp_path / "two", capsys, "folders", source, "--square")
    with Image.open(tmp_path / "two/out/data/happy_1.png") as image:
        assert (numpy.asarray(image.convert("L")) == greys(7)).all() and "square" not in notes
