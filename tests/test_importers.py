"""datasets.convert for published data sets without subjects, FER2013, FER+ and AffectNet, and mistakes in them."""

from pathlib import Path

import numpy
import pytest
from PIL import Image

from conftest import refused, snapshot
from datasets import convert
from test_convert import as_tuples, greys, import_error, import_twice, picture

AFFECTNET = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
FERPLUS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
VOTES = ("Usage", "Image name", *FERPLUS, "unknown", "NF")
USAGES = ["Training"] * 14 + ["PublicTest"] * 7 + ["PrivateTest"] * 7


# ------------------------------------------------------------------------------------------------- FER2013

def fer_rows(usages=USAGES, emotions: int = 7) -> list[tuple[int, str, str]]:
    """Return rows (emotion, pixels, Usage)."""
    return [(i % emotions, " ".join(map(str, greys(i).ravel())), usage) for i, usage in enumerate(usages)]


def fer_table(path: Path, rows, header: str = "emotion,pixels,Usage", order=(0, 1, 2)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in (header, *(",".join(str(row[i]) for i in order) for row in rows))))
    return path


def votes_table(path: Path, usages, votes) -> Path:
    """Write FER+'s table; a vote is {choice: people}."""
    lines = [",".join(VOTES)]
    for i, (usage, vote) in enumerate(zip(usages, votes)):
        lines.append(",".join([usage, f"fer{i:07d}.png", *(str(vote.get(name, 0)) for name in VOTES[2:])]))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_fer2013_is_written_as_png_with_the_official_split(tmp_path, capsys):
    table, out = fer_table(tmp_path / "src/fer2013.csv", fer_rows()), tmp_path / "out"
    layout, left_out = import_twice(capsys, out, "fer2013", table)
    assert layout.expressions == FER2013 and left_out == []
    assert [len(layout.split(split)) for split in ("train", "val", "test")] == [14, 7, 7]
    assert as_tuples(layout.split("all")) == [(f"fer2013_{i:05d}.png", i % 7, None, None) for i in range(28)]
    for i, sample in enumerate(layout.split("all")):
        with Image.open(sample.path) as image:
            assert (image.format, image.mode) == ("PNG", "L") and (numpy.asarray(image) == greys(i)).all()
    other = fer_table(tmp_path / "kaggle/icml_face_data.csv", fer_rows(), "emotion, Usage, pixels", (0, 2, 1))
    convert.main(["fer2013", str(other.parent), "--out", str(tmp_path / "two")])
    assert snapshot(tmp_path / "two") == snapshot(out)

    layout, _ = import_twice(capsys, tmp_path / "small", "fer2013", table, "--reencode", "32")
    with Image.open(layout.train[0].path) as image:
        assert (layout.train[0].name, image.format, image.size) == ("fer2013_00000.jpg", "JPEG", (32, 32))


def test_ferplus_takes_the_label_with_most_votes_of_the_row_at_the_same_position(tmp_path, capsys):
    table = fer_table(tmp_path / "fer2013.csv", fer_rows())
    nameless = {3: True, 9: False}  # as published: the numbering goes on over some rows without a name, not over others
    votes = [{"NF": 10} if i in nameless else {FERPLUS[i % 8]: 6, "unknown": 4} for i in range(28)]
    votes[20:22] = {"fear": 5, "sadness": 5}, {"unknown": 8, "anger": 2}
    ferplus = votes_table(tmp_path / "fer2013new.csv", USAGES, votes)
    header, *lines = ferplus.read_text().splitlines()
    for i in range(28):
        name = "" if i in nameless else f"fer{i - (i > 9):07d}.png"
        lines[i] = lines[i].replace(f"fer{i:07d}.png", name)
    ferplus.write_text("\n".join([header, *lines]) + "\n")
    argv = ["fer2013", table, "--ferplus", ferplus]
    layout, left_out = import_twice(capsys, tmp_path / "result/out", *argv)
    assert layout.expressions == FERPLUS and {s.name: s.label for s in layout.split("all")} == {
        f"fer2013_{i:05d}.png": i % 8 for i in range(28) if i not in (3, 9, 20, 21)}
    assert left_out == ["1 images on which FER+'s voters tie", "2 images that FER+'s voters call NF",
                        "1 images that FER+'s voters call unknown"]
    ferplus.write_text("\n".join([header, lines[5], *lines[:5], *lines[6:]]) + "\n")
    assert "line 3: fer0000000.png stands behind fer0000005.png" in import_error(tmp_path, *argv)


@pytest.mark.parametrize("row, place, value, message", [
    (4, 1, "1 " * 2305, "line 6: has 2305 pixels, not 48 x 48 = 2304"),
    (4, 1, "1 " * 2303 + "256", 'line 6: the pixel "256" is not a whole number from 0 to 255'),
    (9, 0, 7, 'line 11: the emotion "7" is not one of 0 to 6'),
    (0, 1, "1 " * 90000, "line 2: not a line of a table")])
def test_a_wrong_row_of_fer2013_is_named(tmp_path, row, place, value, message):
    rows = list(map(list, fer_rows()))
    rows[row][place] = value
    assert f"fer2013.csv, {message}" in import_error(tmp_path, "fer2013", fer_table(tmp_path / "fer2013.csv", rows))


def test_ferplus_mistakes(tmp_path):
    table, ferplus = fer_table(tmp_path / "fer2013.csv", fer_rows()), tmp_path / "fer2013new.csv"
    votes, argv = [{FERPLUS[i % 8]: 10} for i in range(28)], ["fer2013", table, "--ferplus", ferplus]
    for usages, votes, message in (
            (USAGES[1:], votes, f"has 27 rows and {table} 28; they must be the same images"),
            ([USAGES[-1], *USAGES[1:]], votes, "line 2: the Usage is PrivateTest, and that of fer2013_00000.png"),
            (USAGES, [*votes[:3], {"fear": "many"}, *votes[4:]], 'line 5: "many" is not a number of votes for fear')):
        votes_table(ferplus, usages, votes)
        assert message in import_error(tmp_path, *argv)
    overwritten = ferplus.rename(tmp_path / "images.list")
    argv = ["fer2013", str(table), "--ferplus", str(overwritten), "--out", str(tmp_path)]
    assert "is a file that is read" in refused(lambda: convert.main(argv))
    assert sorted(tmp_path.iterdir()) == [table, overwritten]


# ------------------------------------------------------------------------------------------------- AffectNet

def affectnet_tree(root: Path, per_class: int = 2) -> Path:
    """Write AffectNet with an annotation beside every image: eight expressions to train on, four to test on."""
    for folder, first, labels in (("train_set", 0, 8), ("val_set", 500, 4)):
        (root / folder / "annotations").mkdir(parents=True)
        for number in range(first, first + 8 * per_class):
            picture(root / folder / f"images/{number}.jpg", number)
            numpy.save(root / folder / f"annotations/{number}_exp.npy", str(number % labels))
            numpy.save(root / folder / f"annotations/{number}_aro.npy", "0.25")
    return root


def test_affectnet_with_annotations_beside_the_images(tmp_path, capsys):
    source, out = affectnet_tree(tmp_path / "src"), tmp_path / "out"
    picture(source / "train_set/images/900.jpg", 900)
    numpy.save(source / "val_set/annotations/901_exp.npy", "3")
    layout, left_out = import_twice(capsys, out, "affectnet", source)
    assert layout.expressions == AFFECTNET
    assert set(as_tuples(layout.train)) == {(f"train_{i}.jpg", i % 8, None, None) for i in range(16)}
    assert set(as_tuples(layout.test)) == {(f"test_{i}.jpg", i % 4, None, None) for i in range(500, 516)}
    assert layout.val == [] and (out / "data/train_3.jpg").resolve() == source / "train_set/images/3.jpg"
    assert left_out == [f"1 images annotated but missing in {source}/val_set/images", "1 images without an annotation"]

    layout, left_out = import_twice(capsys, tmp_path / "seven", "affectnet", source, "--classes", 7)
    assert layout.expressions == AFFECTNET[:7] and layout.counts("train") == [2] * 7
    assert "2 images of contempt (--classes 8 takes them)" in left_out


def affectnet_tables(root: Path, validation=(0, 1)) -> Path:
    for name, labels, first in (("training", range(11), 0), ("validation", validation, 50)):
        lines = ["subDirectory_filePath,face_x,face_y,face_width,face_height,expression"]
        for i, label in enumerate(labels, first):
            picture(root / f"Manually_Annotated_Images/{i % 3}/{i:x}face.jpg", i)
            lines.append(f"{i % 3}/{i:x}face.jpg,1,2,3,4,{label}")
        (root / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("is_as_unpacked", [False, True])
def test_affectnet_with_tables(tmp_path, capsys, is_as_unpacked):
    source, images = affectnet_tables(tmp_path / "src"), tmp_path / "src/Manually_Annotated_Images"
    with open(source / "training.csv", "a") as handle:
        handle.write("9/gone.jpg,1,2,3,4,1\n")
    if is_as_unpacked:  # the archives' own directories
        (source / "Manually_Annotated_file_lists").mkdir()
        for name in ("training.csv", "validation.csv"):
            (source / name).rename(source / "Manually_Annotated_file_lists" / name)
        (source / "Manually_Annotated").mkdir()
        images = images.rename(source / "Manually_Annotated" / images.name)
    layout, left_out = import_twice(capsys, tmp_path / "out", "affectnet", source)
    assert layout.expressions == AFFECTNET
    assert set(as_tuples(layout.train)) == {(f"train_{i % 3}_{i}face.jpg", i, None, None) for i in range(8)}
    assert [(s.name, s.label) for s in layout.test] == [("test_0_33face.jpg", 1), ("test_2_32face.jpg", 0)]
    assert left_out == [f"1 images listed but missing below {images}, e.g. 9/gone.jpg (the "
                        "nearest file: 2/8face.jpg)",
                        "3 images without an expression (none, uncertain or no face)"]


def test_wrong_annotations_of_affectnet_are_named_and_run_no_code(tmp_path):
    class Attack:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    source = affectnet_tree(tmp_path / "src")
    annotation = source / "train_set/annotations/5_exp.npy"
    for value, message in (("8", 'holds "8", and an expression is one of 0 to 7'),
                           (numpy.array(Attack(), object), "not a NumPy file of a single text without pickles")):
        numpy.save(annotation, value, allow_pickle=True)
        assert f"{annotation}: {message}" in import_error(tmp_path, "affectnet", source)
    assert not (tmp_path / "ran").exists()
    source = affectnet_tables(tmp_path / "tables", validation=(0, 11))
    line = import_error(tmp_path, "affectnet", source)
    assert 'validation.csv, line 3: the expression "11" is not one of 0 to 10' in line
