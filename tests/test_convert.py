"""datasets.convert: each importer on a small tree in the original's layout, and bad input."""

import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from conftest import command
from datasets import convert
from datasets.layout import read_layout
from utils import UserError

REPOSITORY = Path(__file__).resolve().parents[1]
WILD_FACES = REPOSITORY.parent / "shared" / "data" / "wild_faces"


def picture(path: Path, shade: int = 0, size: tuple[int, int] = (40, 48)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.radial_gradient("L").resize(size).rotate(17 * shade)
    image.convert("RGB").save(path)
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def run(*words) -> subprocess.CompletedProcess:
    return command("-m", "datasets.convert", *words)


def multipie_tree(root: Path) -> Path:
    recordings = {1: (1, 2), 2: (1, 2, 3), 3: (1, 2, 3), 4: (1, 2, 3)}
    for subject in range(1, 6):
        for session, numbers in recordings.items():
            for recording in numbers:
                folder = root / f"session0{session}/multiview/{subject:03}/{recording:02}/05_1"
                for light in ("07", "13"):
                    picture(folder / f"{subject:03}_0{session}_0{recording}_051_{light}.png", subject)
    return root


def rafdb_tree(root: Path) -> Path:
    lines = []
    for split in ("train", "test"):
        for label in range(1, 8):
            lines.append(f"{split}_{label:05}.jpg {label}")
            picture(root / f"basic/Image/aligned/{split}_{label:05}_aligned.jpg", label)
    lines.append("train_00099.jpg 1")
    labels = root / "basic/EmoLabel/list_patition_label.txt"
    labels.parent.mkdir(parents=True)
    labels.write_text("\n".join(lines) + "\n")
    return root


def folder_tree(root: Path, splits=("",)) -> Path:
    for split in splits:
        for name in ("neutral", "anger", "joy"):
            for subject in range(5):
                for take in range(2):
                    picture(root / split / name / f"S{subject} take {take}.jpg", subject)
    return root


def test_multipie_expressions_subjects_and_scenes(tmp_path):
    source, out = multipie_tree(tmp_path / "pie"), tmp_path / "out"
    before = content(source)
    result = run("multipie", source, "--out", out)
    assert result.returncode == 0, result.stderr
    assert "left out: 55 images of another illumination" in result.stdout
    assert [line for line in result.stdout.splitlines() if line.startswith("neutral")][0].split()[-1] == "25"
    layout = read_layout(out)
    assert layout.expressions == ("disgust", "scream", "smile", "squint", "surprise", "neutral")
    by_name = {s.name: s for s in layout.split("all")}
    assert len(by_name) == 55
    expected = {"001_03_03_051_07.png": 0, "001_04_02_051_07.png": 1, "001_01_02_051_07.png": 2,
                "001_03_02_051_07.png": 2, "001_02_03_051_07.png": 3, "001_02_02_051_07.png": 4,
                "001_04_03_051_07.png": 5, "001_01_01_051_07.png": 5}
    assert {name: by_name[name].label for name in expected} == expected
    assert (by_name["002_04_02_051_07.png"].subject, by_name["002_04_02_051_07.png"].scene) == ("002", "s4_051_07")
    sides = [{s.subject for s in layout.split(split)} for split in ("train", "test")]
    assert len(sides[1]) == 1 and not sides[0] & sides[1]
    assert content(source) == before

    lists = content(out)
    again = run("multipie", source, "--out", out)
    assert again.returncode == 0 and "all there already" in again.stdout
    assert content(out) == lists


def test_multipie_as_crops_of_128_pixels(tmp_path, capsys):
    tree = multipie_tree(tmp_path / "pie")
    for path in list(tree.rglob("*.png")):
        name = path.name.replace(".png", "_crop_128.png")
        (tmp_path / "crops" / name[:3]).mkdir(parents=True, exist_ok=True)
        path.rename(tmp_path / "crops" / name[:3] / name)
    convert.main(["multipie", str(tmp_path / "crops"), "--out", str(tmp_path / "out")])
    by_name = {s.name: s for s in read_layout(tmp_path / "out").split("all")}
    sample = by_name["002_04_02_051_07_crop_128.png"]
    assert len(by_name) == 55 and (sample.label, sample.subject, sample.scene) == (1, "002", "s4_051_07")
    assert capsys.readouterr().out.splitlines()[-1].endswith("110 files: 55 taken, 0 passed over, 55 refused")


def test_multipie_named_test_subjects(tmp_path):
    source, out = multipie_tree(tmp_path / "pie"), tmp_path / "out"
    convert.main(["multipie", str(source), "--out", str(out), "--test_subjects", "002", "005"])
    assert {s.subject for s in read_layout(out).test} == {"002", "005"}
    with pytest.raises(UserError, match="no images of 077"):
        convert.main(["multipie", str(source), "--out", str(tmp_path / "other"), "--test_subjects", "077"])
    assert not (tmp_path / "other").exists()


def test_rafdb_keeps_the_official_split(tmp_path, capsys):
    source, out = rafdb_tree(tmp_path / "raf"), tmp_path / "out"
    convert.main(["rafdb", str(source), "--out", str(out), "--copy"])
    layout = read_layout(out)
    assert layout.expressions == ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
    assert [(s.name, s.label) for s in layout.test] == [(f"test_{i:05}.jpg", i - 1) for i in range(1, 8)]
    assert layout.counts("train") == [1] * 7
    copied = out / "data/train_00003.jpg"
    assert not copied.is_symlink()
    assert copied.read_bytes() == (source / "basic/Image/aligned/train_00003_aligned.jpg").read_bytes()
    assert "left out: 1 images listed but missing" in capsys.readouterr().out


def test_rafdb_compound_and_lists_that_name_the_aligned_files(tmp_path):
    lines = []
    for number in range(1, 23):
        name = f"{'train' if number < 12 else 'test'}_{number:04}"
        picture(tmp_path / f"raf/compound/Image/aligned/{name}_aligned.jpg", number)
        lines.append(f"{name}{'_aligned' if number % 2 else ''}.jpg {(number - 1) % 11 + 1}\n")
    labels = tmp_path / "raf/compound/EmoLabel/list_patition_label.txt"
    labels.parent.mkdir()
    labels.write_text("".join(lines))
    convert.main(["rafdb", str(tmp_path / "raf"), "--set", "compound", "--out", str(tmp_path / "out")])
    layout = read_layout(tmp_path / "out")
    assert layout.expressions[0] == "happily_surprised" and layout.expressions[10] == "disgustedly_surprised"
    assert [(s.name, s.label) for s in layout.train] == [(f"train_{i + 1:04}.jpg", i) for i in range(11)]
    with pytest.raises(UserError, match='is not "train_00001.jpg 5" with a label from 1 to 7; .* --set'):
        convert.main(["rafdb", str(tmp_path / "raf/compound"), "--out", str(tmp_path / "two")])


def test_folders_without_test_split_by_subject(tmp_path):
    source, out = folder_tree(tmp_path / "faces"), tmp_path / "out"
    (source / "joy" / "notes.txt").write_text("no picture")
    (source / "joy" / "S9 broken.jpg").write_bytes(b"not a picture")
    words = ["folders", str(source), "--out", str(out), "--subject_regex", r"^(S\d+) "]
    convert.main(words)
    layout = read_layout(out)
    assert layout.expressions == ("anger", "joy", "neutral")
    assert len(layout.split("all")) == 30
    assert "anger_S0_take_0.jpg" in {s.name for s in layout.split("all")}
    sides = [{s.subject for s in layout.split(split)} for split in ("train", "test")]
    assert not sides[0] & sides[1] and len(sides[1]) == 1 and sides[0] | sides[1] == {f"S{i}" for i in range(5)}


def test_a_damaged_picture_is_left_out_where_it_must_be_decoded(tmp_path, capsys):
    source, out = folder_tree(tmp_path / "faces"), tmp_path / "out"
    damaged = source / "joy" / "S0 take 0.jpg"
    damaged.write_bytes(damaged.read_bytes()[:700])
    for _ in range(2):
        convert.main(["folders", str(source), "--out", str(out), "--reencode", "32"])
        assert "left out: 1 images that cannot be used: damaged" in capsys.readouterr().out
    assert len(read_layout(out).split("all")) == 29 and not (out / "data" / "joy_S0_take_0.jpg").exists()


def test_folders_with_splits_and_target_only(tmp_path):
    source, out = folder_tree(tmp_path / "faces", ("train", "val", "test")), tmp_path / "out"
    convert.main(["folders", str(source), "--out", str(out), "--target_only", "neutral", "--reencode", "32"])
    layout = read_layout(out)
    assert layout.expressions == ("anger", "joy")
    assert (layout.neutral, len(layout.target_only)) == (2, 30)
    assert [layout.counts(split) for split in ("train", "val", "test")] == [[10, 10]] * 3
    with Image.open(layout.train[0].path) as image:
        assert (image.format, image.size) == ("JPEG", (32, 38))


def test_csv_by_column_names(tmp_path):
    for name in "abcdef":
        picture(tmp_path / f"pics/{name}.png", ord(name))
    (tmp_path / "t.csv").write_text("path;emotion;person;set\n" + "".join(
        f"pics/{name}.png;{emotion};P {person};{split}\n" for name, emotion, person, split in
        (("a", 1, 1, "train"), ("b", 0, 1, ""), ("c", 1, 2, "test"), ("d", 0, 2, "test"), ("gone", 0, 2, "test"))))
    convert.main(["csv", str(tmp_path / "t.csv"), "--out", str(tmp_path / "out"), "--file_column", "path",
                  "--label_column", "emotion", "--subject_column", "person", "--split_column", "set",
                  "--expressions", "smile", "neutral"])
    layout = read_layout(tmp_path / "out")
    assert layout.expressions == ("smile", "neutral")
    assert [(s.name, s.label, s.subject) for s in layout.train] == [("pics_a.png", 1, "P_1"),
                                                                    ("pics_b.png", 0, "P_1")]
    assert [s.name for s in layout.test] == ["pics_c.png", "pics_d.png"]
    with pytest.raises(UserError, match='no column "label"'):
        convert.main(["csv", str(tmp_path / "t.csv"), "--out", str(tmp_path / "two"), "--file_column", "path"])


def test_names_never_collide(tmp_path):
    for name in ("a b.jpg", "a_b.jpg", "A_B.jpg"):
        picture(tmp_path / "src/joy" / name)
        picture(tmp_path / "src/neutral" / name)
    convert.main(["folders", str(tmp_path / "src"), "--out", str(tmp_path / "out"), "--test_share", "0.34"])
    assert len({s.name.lower() for s in read_layout(tmp_path / "out").split("all")}) == 6


def test_lists_of_another_data_set_are_not_lost(tmp_path):
    source, out = folder_tree(tmp_path / "faces"), tmp_path / "out"
    convert.main(["folders", str(source), "--out", str(out)])
    before = content(out)
    with pytest.raises(UserError, match="--overwrite"):
        convert.main(["folders", str(source), "--out", str(out), "--expressions", "joy", "neutral"])
    assert content(out) == before
    convert.main(["folders", str(source), "--out", str(out), "--expressions", "joy", "neutral", "--overwrite"])
    assert read_layout(out).expressions == ("joy", "neutral")


@pytest.mark.parametrize("way", [["--copy"], ["--reencode", "32"]])
def test_images_of_another_data_set_with_the_same_names_and_times_are_told_apart(tmp_path, way):
    sources = [folder_tree(tmp_path / name) for name in ("one", "other")]
    for path in sources[1].rglob("*.jpg"):
        ImageOps.invert(Image.open(path).convert("RGB")).save(path)
    for path in (path for source in sources for path in source.rglob("*.jpg")):
        os.utime(path, (10 ** 9, 10 ** 9))  # as from an archive
    convert.main(["folders", str(sources[0]), "--out", str(tmp_path / "out"), *way])
    before = content(tmp_path / "out")
    convert.main(["folders", str(sources[0]), "--out", str(tmp_path / "out"), *way])
    assert content(tmp_path / "out") == before
    with pytest.raises(UserError, match="another image has this name"):
        convert.main(["folders", str(sources[1]), "--out", str(tmp_path / "out"), *way])
    assert content(tmp_path / "out") == before
    for out in ("out", "fresh"):
        convert.main(["folders", str(sources[1]), "--out", str(tmp_path / out), *way, "--overwrite"])
    assert content(tmp_path / "out") == content(tmp_path / "fresh") != before


def test_folders_say_what_lies_outside_and_refuse_two_of_one_split(tmp_path, capsys):
    source = folder_tree(tmp_path / "faces", ("train", "test"))
    for place in ("loose.jpg", "train/loose.jpg", "more/joy/S1.jpg"):
        picture(source / place)
    words = ["folders", str(source), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="more holds 1 images beside the splits test, train and is none"):
        convert.main(words)
    convert.main([*words, "--ignore", "more"])
    said = capsys.readouterr().out
    assert "left out: 2 images outside the expressions' directories" in said
    assert said.splitlines()[-1] == f"{source}: 63 files: 60 taken, 0 passed over, 3 refused"
    picture(source / "Training" / "joy" / "S1.jpg")
    with pytest.raises(UserError, match="Training and train are both the train split"):
        convert.main([*words, "--ignore", "more"])


def test_numbered_directories_get_names(tmp_path):
    for number in (1, 2, 10):
        for take in range(5):
            picture(tmp_path / "src" / str(number) / f"{take}.jpg", number)
    words = ["folders", str(tmp_path / "src"), "--out", str(tmp_path / "out"), "--expressions"]
    with pytest.raises(UserError, match="give each of these 3 a name"):
        convert.main([*words, "anger", "joy"])
    convert.main([*words, "anger", "joy", "neutral"])
    layout = read_layout(tmp_path / "out")
    assert layout.expressions == ("anger", "joy", "neutral")
    assert {(s.name.split("_")[0], s.label) for s in layout.split("all")} == {("1", 0), ("2", 1), ("10", 2)}


@pytest.mark.parametrize("kind, words, message", [
    ("multipie", [], "not a Multi-PIE tree"), ("rafdb", [], "not a RAF-DB tree"),
    ("folders", ["--expressions", "rage", "joy"], "no directory with images named rage"),
    ("folders", ["--out", "{src}/inside"], "inside the source"),
    ("folders", ["--out", "{src}/.."], "inside the output"),
    ("folders", ["--out", "{file}/out"], "is a file"),
    ("folders", ["--subject_regex", "("], "not a regular expression"),
    ("folders", ["--test_share", "2"], "between 0 and 1")])
def test_bad_input_writes_nothing(tmp_path, kind, words, message):
    source = folder_tree(tmp_path / "all" / "faces")
    (tmp_path / "file").write_text("a file")
    before = content(tmp_path)
    words = [word.format(src=source, file=tmp_path / "file") for word in words]
    if "--out" not in words:
        words += ["--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match=message):
        convert.main([kind, str(source), *words])
    assert content(tmp_path) == before and not (tmp_path / "out").exists()


def test_a_mistake_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    result = run("folders", tmp_path / "empty", "--out", tmp_path / "out")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and "no images" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not WILD_FACES.is_dir(), reason="needs ../shared/data/wild_faces")
def test_folders_and_csv_on_photographs(tmp_path):
    names = "anger disgust happiness sadness surprise neutral".split()
    wild = read_layout(WILD_FACES, names)
    chosen = [s for label in range(6) for split in ("train", "test")
              for s in [s for s in wild.split(split) if s.label == label][:4]]
    rows = ["file,label,split,subject"]
    for sample in chosen:
        split = "test" if sample in wild.test else "train"
        target = tmp_path / "tree" / split / names[sample.label] / sample.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(sample.path.read_bytes())
        rows.append(f"{sample.name},{names[sample.label]},{split},{sample.subject}")
    (tmp_path / "faces.csv").write_text("\n".join(rows))
    convert.main(["folders", str(tmp_path / "tree"), "--out", str(tmp_path / "one")])
    convert.main(["csv", str(tmp_path / "faces.csv"), "--root", str(WILD_FACES / "data"),
                  "--out", str(tmp_path / "two")])
    for out in ("one", "two"):
        layout = read_layout(tmp_path / out)
        assert layout.counts("train") == [4] * 6 and layout.counts("test") == [4] * 6
        assert layout.expressions[-1] == "neutral"
