"""datasets.convert for the field's published data sets: each on a tree of its published form, and its mistakes."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy
import pytest
from PIL import Image

from conftest import command
from datasets import check, convert
from datasets.importing.affectnet import read_affectnet
from datasets.layout import Layout, read_layout
from hostile import ended, refused
from test_convert import content

AFFECTNET = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
FERPLUS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
VOTES = ("Usage", "Image name", *FERPLUS, "unknown", "NF")


def greys(number: int, side: int = 48) -> numpy.ndarray:
    """A picture (side, side) that is like no other."""
    return numpy.random.default_rng(number).integers(0, 256, (side, side), dtype=numpy.uint8)


def picture(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(greys(number)).save(path)
    return path


def imported(capsys, out: Path, *words: object) -> tuple[Layout, list[str]]:
    """Convert twice, the second time without a change, and check: the layout and what was left out."""
    words = [*map(str, words), "--out", str(out)]
    convert.main(words)
    said = capsys.readouterr().out
    before = content(out)
    convert.main(words)
    assert "(all there already)" in capsys.readouterr().out and content(out) == before
    assert ended(lambda: check.main([str(out), "--sheet", str(out.parent / "sheet.jpg")])) == (0, "")
    return read_layout(out), [line.removeprefix("left out: ") for line in said.splitlines()
                              if line.startswith("left out: ")]


def mistake(tmp_path: Path, *words: object) -> str:
    """The one line that refuses a conversion, which leaves nothing behind and the source as it was."""
    before = content(tmp_path)
    line = refused(lambda: convert.main([*map(str, words), "--out", str(tmp_path / "out")]))
    assert content(tmp_path) == before and not (tmp_path / "out").exists()
    return line


def told(samples) -> list[tuple]:
    return [(sample.name, sample.label, sample.subject, sample.scene) for sample in samples]


# ------------------------------------------------------------------------------------------------- FER2013

def fer_rows() -> list[tuple[int, str, str]]:
    """(emotion, pixels, Usage): two training images of each emotion, then one to choose and one to test on."""
    usages = ["Training"] * 14 + ["PublicTest"] * 7 + ["PrivateTest"] * 7
    return [(i % 7, " ".join(map(str, greys(i).ravel().tolist())), usage) for i, usage in enumerate(usages)]


def fer_table(path: Path, rows, header: str = "emotion,pixels,Usage", order=(0, 1, 2)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in (header, *(",".join(str(row[i]) for i in order) for row in rows))))
    return path


def votes_table(path: Path, usages, votes) -> Path:
    """FER+'s table; a vote is {choice: people}."""
    lines = [",".join(VOTES)]
    for i, (usage, vote) in enumerate(zip(usages, votes)):
        lines.append(",".join([usage, f"fer{i:07d}.png", *(str(vote.get(name, 0)) for name in VOTES[2:])]))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_fer2013_is_written_as_png_with_the_official_split(tmp_path, capsys):
    table, out = fer_table(tmp_path / "src/fer2013.csv", fer_rows()), tmp_path / "out"
    layout, left_out = imported(capsys, out, "fer2013", table)
    assert layout.expressions == FER2013 and left_out == []
    assert told(layout.train) == [(f"fer2013_{i:05d}.png", i % 7, None, None) for i in range(14)]
    assert told(layout.val) == [(f"fer2013_{i:05d}.png", i % 7, None, None) for i in range(14, 21)]
    assert told(layout.test) == [(f"fer2013_{i:05d}.png", i % 7, None, None) for i in range(21, 28)]
    for i, sample in enumerate(layout.split("all")):
        with Image.open(sample.path) as image:
            assert (image.format, image.mode) == ("PNG", "L") and (numpy.asarray(image) == greys(i)).all()

    other = fer_table(tmp_path / "kaggle/icml_face_data.csv", fer_rows(), "emotion, Usage, pixels", (0, 2, 1))
    convert.main(["fer2013", str(other.parent), "--out", str(tmp_path / "two")])
    assert content(tmp_path / "two") == content(out)


def test_fer2013_reencoded(tmp_path, capsys):
    table = fer_table(tmp_path / "src/fer2013.csv", fer_rows())
    layout, _ = imported(capsys, tmp_path / "out", "fer2013", table, "--reencode", "32")
    with Image.open(layout.train[0].path) as image:
        assert (layout.train[0].name, image.format, image.size) == ("fer2013_00000.jpg", "JPEG", (32, 32))


def test_fer2013_replaces_no_image_of_another(tmp_path):
    table, out = fer_table(tmp_path / "src/fer2013.csv", fer_rows()), tmp_path / "out"
    strange = picture(out / "data/fer2013_00003.png", 99)
    before = strange.read_bytes()
    line = refused(lambda: convert.main(["fer2013", str(table), "--out", str(out)]))
    assert "fer2013_00003.png: another image has this name (1 such)" in line
    assert strange.read_bytes() == before and not (out / "images.list").exists()
    convert.main(["fer2013", str(table), "--out", str(out), "--overwrite"])
    assert strange.read_bytes() != before


def test_ferplus_takes_what_most_people_saw(tmp_path, capsys):
    rows, usages = [], ["Training"] * 12 + ["PublicTest", "PrivateTest"]
    for i, usage in enumerate(usages):
        rows.append((0, fer_rows()[i][1], usage))
    votes = [{FERPLUS[i]: 6, "unknown": 4} for i in range(8)]
    votes += [{"fear": 5, "sadness": 5}, {"unknown": 8, "anger": 2}, {"NF": 10}, {"anger": 4, "fear": 3, "NF": 3},
              {"contempt": 10}, {"disgust": 10}]
    table = fer_table(tmp_path / "fer2013.csv", rows)
    ferplus = votes_table(tmp_path / "fer2013new.csv", usages, votes)
    layout, left_out = imported(capsys, tmp_path / "out", "fer2013", table, "--ferplus", ferplus)
    assert layout.expressions == FERPLUS
    assert told(layout.train) == [(f"fer2013_{i:05d}.png", i, None, None) for i in range(8)] \
        + [("fer2013_00011.png", 4, None, None)]
    assert [(s.name, s.label) for s in layout.val + layout.test] == [("fer2013_00012.png", 7), ("fer2013_00013.png", 5)]
    assert left_out == ["1 images on which FER+'s voters tie", "1 images that FER+'s voters call NF",
                        "1 images that FER+'s voters call unknown"]


@pytest.mark.parametrize("spoil, words", [
    (lambda rows: fer_rows()[:3], "no images for the test list"),
    (lambda rows: rows.__setitem__(4, (4, rows[4][1] + " 7", "Training")),
     "fer2013.csv, line 6: has 2305 pixels, not 48 x 48 = 2304"),
    (lambda rows: rows.__setitem__(4, (4, rows[4][1].rpartition(" ")[0] + " 256", "Training")),
     'line 6: the pixel "256" is no whole number from 0 to 255'),
    (lambda rows: rows.__setitem__(9, (7, *rows[9][1:])), 'line 11: the emotion "7" is not one of 0 to 6'),
    (lambda rows: rows.__setitem__(9, (*rows[9][:2], "Test")),
     'line 11: the Usage "Test" is not one of Training, PublicTest, PrivateTest')])
def test_fer2013_mistakes(tmp_path, spoil, words):
    rows = fer_rows()
    rows = spoil(rows) or rows
    assert words in mistake(tmp_path, "fer2013", fer_table(tmp_path / "fer2013.csv", rows))


def test_fer2013_tables_that_are_none(tmp_path):
    rows = fer_rows()[:2]
    line = mistake(tmp_path, "fer2013", fer_table(tmp_path / "a.csv", rows, "emotion,pixel,Usage"))
    assert 'a.csv: has no column "pixels" (it has emotion, pixel, Usage); it must be fer2013.csv' in line
    assert "no such table" in mistake(tmp_path, "fer2013", tmp_path / "gone.csv")
    assert "holds neither fer2013.csv nor icml_face_data.csv" in mistake(tmp_path, "fer2013", tmp_path)
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\0\0")
    assert "b.csv: not a text file" in mistake(tmp_path, "fer2013", tmp_path / "b.csv")
    (tmp_path / "c.csv").write_text("")
    assert "c.csv: empty" in mistake(tmp_path, "fer2013", tmp_path / "c.csv")
    (tmp_path / "d.csv").write_text("emotion,pixels,Usage\n0," + "1 " * 90000 + ",Training\n")
    assert "d.csv, line 2: no line of a table" in mistake(tmp_path, "fer2013", tmp_path / "d.csv")


def test_ferplus_mistakes(tmp_path):
    rows = fer_rows()
    table, usages = fer_table(tmp_path / "fer2013.csv", rows), [usage for *_, usage in rows]
    votes = [{FERPLUS[i % 8]: 10} for i in range(28)]
    words = ["fer2013", table, "--ferplus", tmp_path / "fer2013new.csv"]
    assert "fer2013new.csv: no such table" in mistake(tmp_path, *words)
    ferplus = votes_table(tmp_path / "fer2013new.csv", usages[1:], votes)
    assert f"--ferplus {ferplus}: has 27 rows and {table} 28; they must be the same images" in mistake(tmp_path, *words)
    votes_table(ferplus, [usages[-1], *usages[1:]], votes)
    assert "fer2013new.csv, line 2: the Usage is PrivateTest, and Training in" in mistake(tmp_path, *words)
    votes_table(ferplus, usages, [*votes[:3], {"fear": "many"}, *votes[4:]])
    assert 'fer2013new.csv, line 5: "many" is no number of votes for fear' in mistake(tmp_path, *words)
    ferplus.write_text(ferplus.read_text().replace("contempt", "scorn"))
    assert 'fer2013new.csv: has no column "contempt"' in mistake(tmp_path, *words)
    out = tmp_path / "out"
    ferplus = ferplus.rename(tmp_path / "images.list")
    line = refused(lambda: convert.main(["fer2013", str(table), "--ferplus", str(ferplus), "--out", str(tmp_path)]))
    assert "is a file that is read" in line and not out.exists()


# ------------------------------------------------------------------------------------------------- AffectNet

def affectnet_tree(root: Path, per_class: int = 2) -> Path:
    for folder, first in (("train_set", 0), ("val_set", 500)):
        (root / folder / "annotations").mkdir(parents=True)
        for number in range(first, first + 8 * per_class):
            picture(root / folder / f"images/{number}.jpg", number)
            numpy.save(root / folder / f"annotations/{number}_exp.npy", str(number % 8 if not first else number % 4))
            numpy.save(root / folder / f"annotations/{number}_aro.npy", "0.25")
    return root


def test_affectnet_with_annotations_beside_the_images(tmp_path, capsys):
    source, out = affectnet_tree(tmp_path / "src"), tmp_path / "out"
    picture(source / "train_set/images/900.jpg", 900)
    numpy.save(source / "val_set/annotations/901_exp.npy", "3")
    layout, left_out = imported(capsys, out, "affectnet", source)
    assert layout.expressions == AFFECTNET
    assert sorted(told(layout.train)) == sorted((f"train_{i}.jpg", i % 8, None, None) for i in range(16))
    assert sorted(told(layout.test)) == sorted((f"test_{i}.jpg", i % 4, None, None) for i in range(500, 516))
    assert layout.val == [] and (out / "data/train_3.jpg").resolve() == source / "train_set/images/3.jpg"
    assert left_out == [f"1 images annotated but missing in {source}/val_set/images", "1 images without an annotation"]

    layout, left_out = imported(capsys, tmp_path / "seven", "affectnet", source, "--classes", 7)
    assert layout.expressions == AFFECTNET[:7] and layout.counts("train") == [2] * 7
    assert "2 images of contempt (--classes 8 takes them)" in left_out


def affectnet_tables(root: Path, header: str = "subDirectory_filePath,face_x,face_y,face_width,face_height,expression",
                     training=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10), validation=(0, 1)) -> Path:
    for name, labels, first in (("training", training, 0), ("validation", validation, 50)):
        lines = [header]
        for i, label in enumerate(labels, first):
            picture(root / f"Manually_Annotated_Images/{i % 3}/{i:x}face.jpg", i)
            lines.append(f"{i % 3}/{i:x}face.jpg,1,2,3,4,{label}")
        (root / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return root


def test_affectnet_with_tables(tmp_path, capsys):
    source = affectnet_tables(tmp_path / "src")
    with open(source / "training.csv", "a") as handle:
        handle.write("9/gone.jpg,1,2,3,4,1\n")
    layout, left_out = imported(capsys, tmp_path / "out", "affectnet", source)
    assert layout.expressions == AFFECTNET
    assert sorted(told(layout.train)) == sorted((f"train_{i % 3}_{i}face.jpg", i, None, None) for i in range(8))
    assert told(layout.test) == [("test_0_33face.jpg", 1, None, None), ("test_2_32face.jpg", 0, None, None)]
    assert left_out == [f"1 images listed but missing below {source}/Manually_Annotated_Images",
                        "3 images without an expression (none, uncertain or no face)"]


def test_affectnet_mistakes(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty: not an AffectNet tree; it needs train_set and val_set" in mistake(tmp_path, "affectnet",
                                                                                     tmp_path / "empty")
    source = affectnet_tree(tmp_path / "src")
    annotation = source / "train_set/annotations/5_exp.npy"
    for value, words in (("8", 'holds "8", and an expression is one of 0 to 7'),
                         ("joy", 'holds "joy", and an expression'), (5, "no single text as a NumPy file"),
                         (["1", "2"], "no single text"), (numpy.array(["1", 2], object), "without pickles"),
                         ("1" * 5000, "no single text")):
        numpy.save(annotation, value, allow_pickle=True)
        line = mistake(tmp_path, "affectnet", source)
        assert f"{annotation}: holds" in line and words in line
    annotation.write_bytes(b"\x93NUMPY\x01\0")
    assert "5_exp.npy: holds no single text" in mistake(tmp_path, "affectnet", source)
    shutil.rmtree(source / "val_set/annotations")
    assert f"{source}/val_set/annotations is missing" in mistake(tmp_path, "affectnet", source)


def test_affectnet_mistakes_in_tables(tmp_path):
    source = affectnet_tables(tmp_path / "a", "file,face_x,face_y,face_width,face_height,expression")
    assert 'training.csv: has no column "subDirectory_filePath"' in mistake(tmp_path, "affectnet", source)
    source = affectnet_tables(tmp_path / "b", validation=(0, 11))
    assert 'validation.csv, line 3: the expression "11" is not one of 0 to 10' in mistake(tmp_path, "affectnet", source)
    (source / "validation.csv").unlink()
    assert f"{source}/validation.csv is missing" in mistake(tmp_path, "affectnet", source)


def test_no_annotation_of_affectnet_runs_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    source = affectnet_tree(tmp_path / "src")
    numpy.save(source / "train_set/annotations/0_exp.npy", numpy.array(Trap(), object), allow_pickle=True)
    assert "0_exp.npy: holds no single text as a NumPy file without pickles" in mistake(tmp_path, "affectnet", source)
    assert not (tmp_path / "ran").exists()


def test_affectnet_reads_ten_thousand_annotations_in_seconds(tmp_path):
    source = affectnet_tree(tmp_path / "src", per_class=1)
    annotations, images = source / "train_set/annotations", source / "train_set/images"
    for number in range(1000, 6000):
        shutil.copyfile(annotations / f"{number % 8}_exp.npy", annotations / f"{number}_exp.npy")
        (images / f"{number}.jpg").touch()
    started = time.process_time()
    found = read_affectnet(source, 8)
    assert time.process_time() - started < 2.5
    assert [sum(s.label == label for s in found.splits["train"]) for label in range(8)] == [626] * 8


# ------------------------------------------------------------------------------------------------- CK+

def ckplus_tree(root: Path) -> Path:
    """Seven persons with a sequence of six frames for each of the seven labels, and one without a label."""
    for person in range(1, 8):
        for sequence in range(1, 9):
            name = f"S{person:03d}_{sequence:03d}"
            folder = name.replace("_", "/")
            for frame in range(1, 7):
                picture(root / f"cohn-kanade-images/{folder}/{name}_{frame:08d}.png",
                        person * 100 + sequence * 10 + frame)
            (root / f"cohn-kanade-images/{folder}/.DS_Store").write_text("x")
            (root / "Emotion" / folder).mkdir(parents=True)
            if sequence < 8:
                (root / f"Emotion/{folder}/{name}_00000006_emotion.txt").write_text(f"   {sequence}.0000000e+00\n")
    return root


def test_ckplus_takes_the_neutral_and_the_peak_frames_of_a_sequence(tmp_path, capsys):
    source = ckplus_tree(tmp_path / "src")
    layout, left_out = imported(capsys, tmp_path / "out", "ckplus", source, "--test_subjects", "S003", "S007")
    assert layout.expressions == ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise", "neutral")
    assert layout.counts("train") == [15] * 7 + [35] and {s.subject for s in layout.test} == {"S003", "S007"}
    assert told(layout.test)[:4] == [("S003_001_00000001.png", 7, "S003", "001"),
                                     ("S003_001_00000004.png", 0, "S003", "001"),
                                     ("S003_001_00000005.png", 0, "S003", "001"),
                                     ("S003_001_00000006.png", 0, "S003", "001")]
    assert {s.label for s in layout.train if s.scene == "005"} == {4, 7}
    assert left_out == ["98 images between the neutral frame and the peak", "42 images of sequences without a label"]


def test_ckplus_with_another_peak_and_short_sequences(tmp_path, capsys):
    source = ckplus_tree(tmp_path / "src")
    for frame in range(2, 7):
        (source / f"cohn-kanade-images/S001/001/S001_001_{frame:08d}.png").unlink()
    shutil.rmtree(source / "cohn-kanade-images/S002/001")
    layout, left_out = imported(capsys, tmp_path / "out", "ckplus", source, "--peak", 1)
    assert [a + b for a, b in zip(layout.counts("train"), layout.counts("test"))] == [5] + [7] * 6 + [47]
    assert left_out == ["188 images between the neutral frame and the peak",
                        f"1 images labelled but missing in {source}/cohn-kanade-images",
                        "1 images of a sequence of a single frame", "42 images of sequences without a label"]
    assert not {s.subject for s in layout.train} & {s.subject for s in layout.test}


def test_ckplus_mistakes(tmp_path):
    source = ckplus_tree(tmp_path / "src")
    label = source / "Emotion/S002/004/S002_004_00000006_emotion.txt"
    for text in ("8.0000000e+00\n", "0.0\n", "3.5\n", "", "3 4\n", "happy\n"):
        label.write_text(text)
        line = mistake(tmp_path, "ckplus", source)
        assert f"{label}: \"{text.strip()}\" is no expression, a number from 1 to 7" in line
    label.write_text("4.0\n")
    (label.parent / "S002_004_00000005_emotion.txt").write_text("4.0\n")
    assert "its sequence has another label file" in mistake(tmp_path, "ckplus", source)
    assert "--peak 0: must be from 1 to 1000" in mistake(tmp_path, "ckplus", source, "--peak", 0)
    shutil.rmtree(source / "Emotion")
    assert f"not a CK+ tree; {source}/Emotion is missing" in mistake(tmp_path, "ckplus", source)
    (source / "Emotion").mkdir()
    assert "holds no file named like S005_001_00000011_emotion.txt" in mistake(tmp_path, "ckplus", source)


def test_ck48_in_folders_has_subjects_and_scenes(tmp_path, capsys):
    for label, name in enumerate(("anger", "happy", "contempt")):
        for person in range(5):
            for frame in range(3):
                picture(tmp_path / f"src/{name}/S{person:03d}_00{label}_0000001{frame}.png",
                        label * 50 + person * 5 + frame)
    words = ["folders", tmp_path / "src", "--subject_regex", r"^(S\d+)_", "--scene_regex", r"^S\d+_(\d+)_"]
    layout, _ = imported(capsys, tmp_path / "out", *words)
    assert layout.expressions == ("anger", "contempt", "happy") and layout.neutral is None
    assert layout.counts("train") == [12] * 3 and layout.counts("test") == [3] * 3
    sample = next(s for s in layout.split("all") if s.name == "happy_S003_001_00000012.png")
    assert (sample.label, sample.subject, sample.scene) == (2, "S003", "001")
    elsewhere = tmp_path / "elsewhere"
    assert "--scene_regex (: not a regular expression" in mistake(elsewhere, *words[:-1], "(")
    assert "--scene_regex ^take: matches no file name" in mistake(elsewhere, *words[:-1], "^take")
    line = mistake(elsewhere, "folders", tmp_path / "src", "--scene_regex", r"_(\d+)_")
    assert "--scene_regex: a scene is one of a subject, and no subject is known" in line


def test_scenes_of_a_table_come_from_its_file_names(tmp_path, capsys):
    lines = ["file,label,subject"]
    for person in range(5):
        for label, name in enumerate(("smile", "neutral")):
            picture(tmp_path / f"src/p{person}_room{person % 2}_{name}.png", person * 2 + label)
            lines.append(f"p{person}_room{person % 2}_{name}.png,{name},p{person}")
    (tmp_path / "src/faces.csv").write_text("\n".join(lines) + "\n")
    layout, _ = imported(capsys, tmp_path / "out", "csv", tmp_path / "src/faces.csv", "--scene_regex", "_(room.)_")
    assert {(s.subject, s.scene) for s in layout.split("all")} == {(f"p{i}", f"room{i % 2}") for i in range(5)}


# ------------------------------------------------------------------------------------------------- Oulu-CASIA

def oulu_tree(root: Path, place: str) -> Path:
    for light in ("Strong", "Dark"):
        for person in range(1, 6):
            for label, name in enumerate(("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")):
                for frame in range(5):
                    picture(root / place / light / f"P{person:03d}/{name}/{frame:03d}.jpeg",
                            (light == "Dark") * 1000 + person * 100 + label * 10 + frame)
    return root


@pytest.mark.parametrize("place, inside, camera", [
    ("OriginalImg/VL", "", "VL"), ("PreProcess Img/NI_Acropped", "", "NI"),
    ("PreProcess Img/VL_Acropped", "PreProcess Img", "VL")])
def test_oulu_takes_a_camera_and_a_light(tmp_path, capsys, place, inside, camera):
    source = oulu_tree(tmp_path / "src", place)
    picture(source / place / "Dark/P001/Boredom/000.jpeg", 7000)
    layout, left_out = imported(capsys, tmp_path / "out", "oulu", source / inside, "--camera", camera, "--light",
                                "Dark", "--test_subjects", "P002")
    assert layout.expressions == ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    assert layout.counts("train") == [12] * 6 + [24] and layout.counts("test") == [3] * 6 + [6]
    scene = f"{camera}_Dark_Anger"
    assert told(layout.test)[:4] == [(f"P002_{scene}_{frame:03d}.jpeg", 6 if frame == 0 else 0, "P002", scene)
                                     for frame in (0, 2, 3, 4)]
    assert left_out == ["30 images between the neutral frame and the peak",
                        "1 images of an unknown expression (Boredom)"]


def test_oulu_mistakes(tmp_path):
    source = oulu_tree(tmp_path / "src", "OriginalImg/VL")
    line = mistake(tmp_path, "oulu", source, "--light", "Weak")
    assert f"not an Oulu-CASIA tree with --camera VL --light Weak; neither {source}/OriginalImg/VL/Weak nor" in line
    assert "invalid choice: 'Bright'" in mistake(tmp_path, "oulu", source, "--light", "Bright")
    assert "no images of P077" in mistake(tmp_path, "oulu", source, "--test_subjects", "P077")


# ------------------------------------------------------------------------------------------------- JAFFE, KDEF

def test_jaffe(tmp_path, capsys):
    number = 0
    for person in ("KA", "KL", "KM", "KR", "MK"):
        for code in ("AN", "DI", "FE", "HA", "NE", "SA", "SU"):
            for take in (1, 2):
                number += 1
                picture(tmp_path / f"src/{person}.{code}{take}.{number}.tiff", number)
    picture(tmp_path / "src/KA.XX1.99.tiff", 99)
    (tmp_path / "src/README").write_text("about")
    layout, left_out = imported(capsys, tmp_path / "out", "jaffe", tmp_path / "src", "--test_subjects", "KA")
    assert layout.expressions == ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    assert layout.counts("train") == [8] * 7 and left_out == ["1 images not named like KA.AN1.39.tiff"]
    labels = {"AN": 0, "DI": 1, "FE": 2, "HA": 3, "SA": 4, "SU": 5, "NE": 6}
    assert len(layout.test) == 14
    assert [s[1:] for s in told(layout.test)] == [(labels[s.name[3:5]], "KA", "KA") for s in layout.test]


def test_kdef(tmp_path, capsys):
    number = 0
    for person in ("F01", "F02", "M01", "M02", "M35"):
        for session in "AB":
            for code in ("AF", "AN", "DI", "HA", "NE", "SA", "SU"):
                for angle in ("S", "HL"):
                    number += 1
                    picture(tmp_path / f"src/{session}{person}/{session}{person}{code}{angle}.JPG", number)
    picture(tmp_path / "src/AF01/AF01V.JPG", 999)
    picture(tmp_path / "src/AF36/AF36ANS.JPG", 998)
    layout, left_out = imported(capsys, tmp_path / "out", "kdef", tmp_path / "src", "--test_subjects", "M01")
    assert layout.expressions == ("afraid", "angry", "disgusted", "happy", "sad", "surprised", "neutral")
    assert layout.counts("train") == [8] * 7 and layout.counts("test") == [2] * 7
    assert {("AM01ANS.JPG", 1, "M01", "A_S"), ("BM01NES.JPG", 6, "M01", "B_S")} < set(told(layout.test))
    assert left_out == ["2 images not named like AF01ANS.JPG", "70 images of another angle"]

    layout, _ = imported(capsys, tmp_path / "two", "kdef", tmp_path / "src", "--angles", "HL", "S")
    assert {s.scene for s in layout.train} == {"A_S", "A_HL", "B_S", "B_HL"}
    assert len(layout.split("all")) == 140


@pytest.mark.parametrize("kind", ["affectnet", "ckplus", "oulu", "jaffe", "kdef"])
def test_sources_that_are_absent_empty_or_around_the_output(tmp_path, kind):
    assert f"{tmp_path}/gone: no such directory" in mistake(tmp_path, kind, tmp_path / "gone")
    assert "inside the source" in refused(lambda: convert.main([kind, str(tmp_path), "--out", str(tmp_path / "out")]))
    (tmp_path / "empty").mkdir()
    line = mistake(tmp_path, kind, tmp_path / "empty")
    assert "empty: no images to take" in line or "tree" in line


def test_a_mistake_of_the_command_is_one_line(tmp_path):
    table = fer_table(tmp_path / "fer2013.csv", fer_rows()[:1], "label,pixels,Usage")
    result = command("-m", "datasets.convert", "fer2013", table, "--out", tmp_path / "out")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and 'no column "emotion"' in result.stderr
