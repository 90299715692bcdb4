"""datasets.convert for published data sets with subjects and scenes: CK+, Oulu-CASIA, JAFFE, KDEF, and folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from conftest import refused
from datasets import convert
from test_importers import fer_table, greys, imported, mistake, picture, told


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
                        "42 images of sequences without a label",
                        "1 images of sequences without the frame that their label is of"]
    assert not {s.subject for s in layout.train} & {s.subject for s in layout.test}


def test_ckplus_takes_the_peak_that_the_label_file_names(tmp_path, capsys):
    source = ckplus_tree(tmp_path / "src")
    for frame in (7, 8):
        picture(source / f"cohn-kanade-images/S001/001/S001_001_{frame:08d}.png", 5000 + frame)
    (source / "cohn-kanade-images/S002/003/S002_003_00000006.png").unlink()
    layout, left_out = imported(capsys, tmp_path / "out", "ckplus", source)
    shown = {s.name for s in layout.split("all") if s.name.startswith("S001_001")}
    assert shown == {f"S001_001_0000000{frame}.png" for frame in (1, 4, 5, 6)}
    assert "2 images behind the frame that their label is of" in left_out
    assert "5 images of sequences without the frame that their label is of" in left_out


def test_ckextended_has_the_labels_and_the_split_of_its_table(tmp_path, capsys):
    usages = ["Training"] * 8 + ["PublicTest"] * 8 + ["PrivateTest"] * 8
    rows = [(i % 8, " ".join(map(str, greys(i).ravel().tolist())), usage) for i, usage in enumerate(usages)]
    table = fer_table(tmp_path / "src/ckextended.csv", rows)
    layout, _ = imported(capsys, tmp_path / "out", "ckplus", table.parent)
    assert [layout.expressions[s.label] for s in layout.train] == ["anger", "disgust", "fear", "happy", "sadness",
                                                                  "surprise", "neutral", "contempt"]
    assert [s.name for s in layout.test] == [f"ckplus_{i:05d}.png" for i in range(16, 24)]


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
                        "1 images of an unknown expression (Boredom)",
                        f"150 images that are not below {source / place}/Dark"]


def test_frames_are_in_the_order_of_their_numbers(tmp_path, capsys):
    for label, name in enumerate(("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")):
        for person in range(3):
            for frame in range(12):
                picture(tmp_path / f"src/VL/Strong/P{person}/{name}/{frame}.jpeg", 100 * label + 20 * person + frame)
    layout, _ = imported(capsys, tmp_path / "out", "oulu", tmp_path / "src")
    assert {s.name.rsplit("_", 1)[1] for s in layout.split("all")} == {"0.jpeg", "9.jpeg", "10.jpeg", "11.jpeg"}


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


def test_two_pictures_by_one_name_are_refused_and_copies_taken_once(tmp_path, capsys):
    for person in ("KA", "KL", "KM", "KR", "MK"):
        for number, code in enumerate(("AN", "DI", "FE", "HA", "NE", "SA", "SU")):
            picture(tmp_path / f"src/{person}.{code}1.{number}.tiff", 10 * ord(person[1]) + number)
    copy = tmp_path / "src/copy/KA.AN1.0.tiff"
    copy.parent.mkdir()
    shutil.copyfile(tmp_path / "src/KA.AN1.0.tiff", copy)
    _, left_out = imported(capsys, tmp_path / "out", "jaffe", tmp_path / "src")
    assert left_out == ["1 images that are copies of others"]
    picture(copy, 9999)
    assert "are one picture by their names, and differ" in refused(
        lambda: convert.main(["jaffe", str(tmp_path / "src"), "--out", str(tmp_path / "two")]))


@pytest.mark.parametrize("kind", ["affectnet", "ckplus", "oulu", "jaffe", "kdef"])
def test_sources_that_are_absent_empty_or_around_the_output(tmp_path, kind):
    assert f"{tmp_path}/gone: no such directory" in mistake(tmp_path, kind, tmp_path / "gone")
    assert "inside the source" in refused(lambda: convert.main([kind, str(tmp_path), "--out", str(tmp_path / "out")]))
    (tmp_path / "empty").mkdir()
    line = mistake(tmp_path, kind, tmp_path / "empty")
    assert "empty: no images to take" in line or "tree" in line
