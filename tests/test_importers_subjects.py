"""datasets.convert for published data sets with subjects and scenes: CK+, Oulu-CASIA, JAFFE and KDEF."""

import shutil
from pathlib import Path

import pytest

from test_convert import as_tuples, import_error, import_twice, picture, pictures
from test_importers import fer_rows, fer_table

OULU = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")


# ------------------------------------------------------------------------------------------------- CK+

def ckplus_tree(root: Path) -> Path:
    """Write seven persons with a sequence of six frames for each of the seven labels, and one without a label."""
    for number in range(56):
        person, sequence = f"S{number // 8 + 1:03d}", f"{number % 8 + 1:03d}"
        name, folder = f"{person}_{sequence}", f"{person}/{sequence}"
        for frame in range(1, 7):
            picture(root / f"cohn-kanade-images/{folder}/{name}_{frame:08d}.png", 10 * number + frame)
        (root / f"cohn-kanade-images/{folder}/.DS_Store").write_text("x")
        (root / "Emotion" / folder).mkdir(parents=True)
        if sequence != "008":
            label = root / f"Emotion/{folder}/{name}_00000006_emotion.txt"
            label.write_text(f"   {int(sequence)}.0000000e+00\n")
    return root


def test_ckplus_takes_the_neutral_and_the_peak_frames_of_sequences(tmp_path, capsys):
    images = ckplus_tree(tmp_path / "src") / "cohn-kanade-images"
    for frame in range(2, 7):
        (images / f"S001/001/S001_001_{frame:08d}.png").unlink()  # a sequence without its peak
    for frame in (7, 8):
        picture(images / f"S001/002/S001_002_{frame:08d}.png", 5000 + frame)
    shutil.rmtree(images / "S002/001")
    layout, left_out = import_twice(capsys, tmp_path / "out", "ckplus", images.parent, "--peak", 2, "--test_subjects",
                                    "S003", "S007")
    assert layout.expressions == ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise", "neutral")
    assert layout.counts("train") == [6] + [10] * 6 + [33] and {s.subject for s in layout.test} == {"S003", "S007"}
    assert as_tuples(layout.test)[:3] == [(f"S003_001_0000000{frame}.png", 7 if frame == 1 else 0, "S003", "001")
                                          for frame in (1, 5, 6)]
    assert {s.name[-5] for s in layout.train if s.name.startswith("S001_002")} == {"1", "5", "6"}
    assert {s.label for s in layout.train if s.scene == "005"} == {4, 7}
    assert left_out == ["2 images after the frame that their label names",
                        "141 images between the neutral frame and the peak",
                        f"1 images labelled but missing in {images}", "42 images of sequences without a label",
                        "1 images of sequences without the frame that their label names"]


def test_ckextended_has_the_labels_and_the_split_of_its_table(tmp_path, capsys):
    rows = fer_rows(["Training"] * 8 + ["PublicTest"] * 8 + ["PrivateTest"] * 8, emotions=8)
    table = fer_table(tmp_path / "src/ckextended.csv", rows)
    layout, _ = import_twice(capsys, tmp_path / "out", "ckplus", table.parent)
    assert [layout.expressions[s.label] for s in layout.train] == [
        "anger", "disgust", "fear", "happy", "sadness", "surprise", "neutral", "contempt"]
    assert [s.name for s in layout.test] == [f"ckplus_{i:05d}.png" for i in range(16, 24)]


def test_ckplus_mistakes(tmp_path):
    source = ckplus_tree(tmp_path / "src")
    label = source / "Emotion/S002/004/S002_004_00000006_emotion.txt"
    argv = tmp_path, "ckplus", source
    for text in ("8.0000000e+00", "3.5", ""):
        label.write_text(text)
        assert f"{label}: \"{text}\" is not the number of an expression, 1 to 7" in import_error(*argv)
    label.write_text("4.0\n")
    (label.parent / "S002_004_00000005_emotion.txt").write_text("4.0\n")
    assert "its sequence has another label file" in import_error(*argv)


# ------------------------------------------------------------------------------------------------- Oulu-CASIA

def oulu_tree(root: Path, folder: str) -> Path:
    """Write two persons with a sequence of twelve frames for each expression, and two frames in another light."""
    sequences = [f"{folder}/Dark/P{person:03d}/{name.title()}" for person in (1, 2) for name in OULU[:-1]]
    return pictures(root, [*(f"{sequence}/{frame}.jpeg" for sequence in sequences for frame in range(12)),
                           *(f"{folder}/Strong/P001/Anger/{frame}.jpeg" for frame in range(2))])


@pytest.mark.parametrize("folder, camera", [
    ("OriginalImg/VL", "VL"), ("PreProcess Img/NI_Acropped", "NI"), ("VL", "VL")])
def test_oulu_takes_a_camera_a_light_and_frames_by_their_numbers(tmp_path, capsys, folder, camera):
    source = oulu_tree(tmp_path / "src", folder)
    picture(source / folder / "Dark/P001/Boredom/0.jpeg", 7000)
    layout, left_out = import_twice(capsys, tmp_path / "out", "oulu", source, "--camera", camera, "--light",
                                    "Dark", "--test_subjects", "P002")
    assert layout.expressions == OULU
    assert layout.counts("train") == layout.counts("test") == [3] * 6 + [6]
    scene = f"{camera}_Dark_Anger"
    assert set(as_tuples(layout.test)) > {(f"P002_{scene}_{frame}.jpeg", 6 if frame == 0 else 0, "P002", scene)
                                          for frame in (0, 9, 10, 11)}
    assert left_out == ["96 images between the neutral frame and the peak",
                        "1 images of an unknown expression (Boredom)",
                        f"2 images that are not below {source / folder}/Dark"]


# ------------------------------------------------------------------------------------------------- JAFFE, KDEF

def test_jaffe(tmp_path, capsys):
    shots = [f"{person}.{code}{take}" for person in ("KA", "KL", "KM", "KR", "MK")
             for code in ("AN", "DI", "FE", "HA", "NE", "SA", "SU") for take in (1, 2)]
    source = pictures(tmp_path / "src", ["KA.XX1.99.tiff", *(f"{shot}.{number}.tiff"
                                                             for number, shot in enumerate(shots, start=1))])
    (source / "README").write_text("about")
    copy = picture(source / "copy/KA.AN1.1.tiff", 9999)
    assert "have names of the same picture and differ" in import_error(tmp_path, "jaffe", source)
    shutil.copyfile(source / copy.name, copy)
    layout, left_out = import_twice(capsys, tmp_path / "out", "jaffe", source, "--test_subjects", "KA")
    assert layout.expressions == OULU and layout.counts("train") == [8] * 7
    assert left_out == ["1 images not named like KA.AN1.39.tiff", "1 images that are copies of others"]
    labels = {"AN": 0, "DI": 1, "FE": 2, "HA": 3, "SA": 4, "SU": 5, "NE": 6}
    assert len(layout.test) == 14
    assert [s[1:] for s in as_tuples(layout.test)] == [(labels[s.name[3:5]], "KA", "KA") for s in layout.test]


def test_kdef(tmp_path, capsys):
    shots = [(f"{session}{person}", f"{code}{angle}") for person in ("F01", "F02", "M01", "M02", "M35")
             for session in "AB" for code in ("AF", "AN", "DI", "HA", "NE", "SA", "SU") for angle in ("S", "HL")]
    source = pictures(tmp_path / "src", [*(f"{model}/{model}{shot}.JPG" for model, shot in shots),
                                         "AF01/AF01V.JPG", "AF36/AF36ANS.JPG"])
    layout, left_out = import_twice(capsys, tmp_path / "out", "kdef", source, "--test_subjects", "M01")
    assert layout.expressions == ("afraid", "angry", "disgusted", "happy", "sad", "surprised", "neutral")
    assert layout.counts("train") == [8] * 7 and layout.counts("test") == [2] * 7
    assert {("AM01ANS.JPG", 1, "M01", "A_S"), ("BM01NES.JPG", 6, "M01", "B_S")} < set(as_tuples(layout.test))
    assert left_out == ["2 images not named like AF01ANS.JPG", "70 images of another angle"]

    layout, _ = import_twice(capsys, tmp_path / "two", "kdef", source, "--angles", "HL", "S")
    assert {s.scene for s in layout.train} == {"A_S", "A_HL", "B_S", "B_HL"} and len(layout.split("all")) == 140
