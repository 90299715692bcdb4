"""--mode recognize: files, directories, patterns, photographs and videos; what it writes, skips and rejects."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from commands.trained import preparation_for
from conftest import EXPRESSIONS, REPOSITORY, command, refused, shared, snapshot, succeeds, train_command, untrained_run
from datasets.crops import Cutter, Picture, Preparation, Video, find_pictures, load_faces
from datasets.drawing.data_set import truth
from datasets.layout import alignment_of
from models.checkpoints import load_recognizer
from options.config import FaceOptions
from pictures.cards import color_of
from utils import UserError, write_json

SMILE = REPOSITORY / "images" / "smile.jpg"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return untrained_run(tmp_path_factory.mktemp("recognize") / "run")


@pytest.fixture
def faces(tmp_path) -> Path:
    """Six drawn faces, one of them in a subdirectory."""
    for i, name in enumerate(EXPRESSIONS):
        path = tmp_path / "faces" / ("more" if i == 5 else "") / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        truth("p0001", "c1", name, 48).save(path)
    return tmp_path / "faces"


def recognize(run: Path, *argv: object) -> subprocess.CompletedProcess:
    return train_command("--mode", "recognize", "--restore", "--checkpoint_dir", run, "--gpu", -1, *argv)


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def probabilities_of(rows: list[dict[str, str]]) -> numpy.ndarray:
    return numpy.array([[float(row[name]) for name in EXPRESSIONS] for row in rows])


# ------------------------------------------------------------------------------------------------- pictures

def test_files_directories_and_patterns_get_the_predictions_of_the_library(run, faces, tmp_path):
    inputs = [faces / "smile.png", faces, faces / "s*.png"]
    output = succeeds(recognize(run, "--input", *inputs, "-o", tmp_path / "out.jpg"))
    rows = rows_of(tmp_path / "out.csv")
    names = ["smile.png", "disgust.png", "more/neutral.png", "scream.png", "squint.png", "surprise.png"]
    assert [row["file"] for row in rows] == [str(faces / name) for name in names]  # each once
    trained = load_recognizer(run / "VGG", torch.device("cpu"))
    expected = trained.recognize(load_faces([faces / name for name in names], trained.image_size)).numpy()
    assert probabilities_of(rows) == pytest.approx(expected, abs=2e-6)
    assert [row["expression"] for row in rows] == [EXPRESSIONS[i] for i in expected.argmax(1)]
    assert numpy.ptp(expected, axis=0).max() > 0.01 and rows[0]["left"] == "" and rows[0]["face"] == "1"
    first, second = expected[0].argsort()[::-1][:2]
    line = next(line for line in output.splitlines() if "smile.png" in line)
    assert line.split()[:6] == [EXPRESSIONS[first], f"{100 * expected[0, first]:.1f}", "%", EXPRESSIONS[second],
                                f"{100 * expected[0, second]:.1f}", "%"]
    assert "6 faces in 6 pictures" in output and "pictures/s" in output
    sheet = Image.open(tmp_path / "out.jpg")
    assert sheet.width > 1000 and sheet.height > 3 * 144


def test_broken_pictures_are_listed_and_skipped(run, faces, tmp_path):
    (faces / "broken.jpg").write_bytes(b"no picture")
    (faces / "smile.png").write_bytes((faces / "smile.png").read_bytes()[:400])
    result = recognize(run, "--input", faces, "-o", tmp_path / "out.jpg")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    skipped = [line for line in result.stderr.splitlines() if line.startswith("skipped ")]
    assert len(skipped) == 2 and "broken.jpg: cannot be read" in skipped[0] and "smile.png" in skipped[1]
    assert len(rows_of(tmp_path / "out.csv")) == 5 and "2 pictures without a usable face" in result.stdout


def test_expressions_of_the_published_codes_files_are_named_by_the_options(run, faces, tmp_path):
    old = Path(shutil.copytree(run / "VGG", tmp_path / "old" / "VGG"))
    checkpoint = torch.load(old / "max_ckpt.t7", weights_only=True)
    torch.save({"net": checkpoint["net"], "acc": 1.0, "step": 1}, old / "max_ckpt.t7")
    argv = ["--image_size", 32, "--input", faces, "-o", tmp_path / "out.png"]
    succeeds(recognize(run, *argv))
    expected = probabilities_of(rows_of(tmp_path / "out.csv"))
    succeeds(recognize(old.parent, *argv, "-a", *EXPRESSIONS))
    assert probabilities_of(rows_of(tmp_path / "out.csv")) == pytest.approx(expected)
    succeeds(recognize(old, *argv, "--data", 1))
    assert "fear" in rows_of(tmp_path / "out.csv")[0]
    assert "has 6 classes, not the 7" in refused(recognize(old.parent, *argv, "--data", 3))


def test_named_files_are_used_whatever_their_ending_and_others_are_counted(faces, tmp_path):
    for name in ("face.dat", ".hidden.png", "b.txt", "c.txt"):
        (faces / name).write_bytes((faces / "smile.png").read_bytes())
    pictures, passed_over = find_pictures([faces])
    assert len(pictures) == 6 and passed_over == {".dat": 1, ".txt": 2, "hidden": 1}
    assert find_pictures([faces / "face.dat"]) == ([faces / "face.dat"], {})
    assert len(find_pictures([str(faces / "**" / "*.png")])[0]) == 6
    for path in faces.rglob("*.png"):
        path.unlink()
    (faces / "a.mp4").touch()
    assert find_pictures([faces]) == ([faces / "a.mp4"], {".dat": 1, ".txt": 2})
    (faces / "a.mp4").unlink()
    assert "2 .txt, 1 .dat" in refused(lambda: find_pictures([faces]))


# ----------------------------------------------------------------------------------------------- photographs

@pytest.fixture
def photograph(tmp_path) -> tuple[Path, list[tuple[int, int, int]]]:
    """A photograph of three persons, and left, top and side of each, the largest first."""
    pytest.importorskip("cv2")
    data = shared("data/wild_faces/data")
    places = [(300, 30, 260), (20, 40, 220), (590, 150, 160)]
    photo = Image.new("RGB", (800, 320), (90, 110, 120))
    for name, (left, top, side) in zip(("test_0011.jpg", "test_0001.jpg", "test_0021.jpg"), places):
        photo.paste(Image.open(data / name).convert("RGB").resize((side, side)), (left, top))
    photo.save(tmp_path / "group.png")
    return tmp_path / "group.png", places


def test_all_faces_of_a_photograph_are_found_and_framed(run, photograph, tmp_path):
    path, places = photograph
    Image.new("RGB", (200, 200), "navy").save(tmp_path / "nobody.png")
    result = recognize(run, "--input", path, tmp_path / "nobody.png", "--align",
                       shared("data/yunet/yunet_n_640_640.onnx"), "-o", tmp_path / "out.jpg")
    assert result.returncode == 1 and "nobody.png: no face found" in result.stderr, result.stderr
    rows = rows_of(tmp_path / "out.csv")
    assert [row["face"] for row in rows] == ["1", "2", "3"] and {row["file"] for row in rows} == {str(path)}
    for row, (left, top, side) in zip(rows, places):
        x, y = (int(row[edge]) + int(row[length]) / 2 for edge, length in (("left", "width"), ("top", "height")))
        assert left < x < left + side and top < y < top + side
    copy = Image.open(tmp_path / "out" / "group.png")
    assert copy.size == (800, 320) and not (tmp_path / "out" / "nobody.png").exists()
    color = color_of(EXPRESSIONS.index(rows[0]["expression"]))
    edge = numpy.asarray(copy)[int(rows[0]["top"]) + int(rows[0]["height"]) // 2, int(rows[0]["left"])].astype(int)
    assert abs(edge - color).max() == 0
    assert "group.png #3" in result.stdout


@pytest.mark.parametrize("mode", ["recognize", "test"])
def test_faces_are_aligned_as_those_of_the_training(tmp_path, mode):
    """They are cut out as datasets.align does and then resized, as in training; another --margin is rejected."""
    pytest.importorskip("cv2")
    model, wild = shared("data/yunet/yunet_n_640_640.onnx"), shared("data/wild_faces/data")
    run = untrained_run(tmp_path / "run", alignment={"size": 96, "margin": 0.2})
    (tmp_path / "photos").mkdir()
    for name in ("test_0001", "test_0002"):
        Image.open(wild / f"{name}.jpg").save(tmp_path / "photos" / f"{name}.png")  # aligned ones are without loss, too
    succeeds(command("-m", "datasets.align", tmp_path / "photos", tmp_path / "aligned", "--model", model, "--size", 96,
                     "--margin", 0.2, "--workers", 1))
    assert alignment_of(tmp_path / "aligned") == {"size": 96, "margin": 0.2}
    assert alignment_of(tmp_path / "photos") is None
    results = []
    for folder, more, warned in (("photos", ["--align", model], False), ("aligned", [], False), ("photos", [], True)):
        first, second = sorted((tmp_path / folder).rglob("test_000*.png"))
        inputs = [first, second] if mode == "recognize" else [first, "--target", second, "--swap_list", 2, 5]
        argv = ["--mode", mode, "--checkpoint_dir", run, "--gpu", -1, "--input", *inputs, "-o", tmp_path / "out.png"]
        result = train_command(*argv, *more)
        succeeds(result)
        assert ("these pictures are not aligned" in result.stderr) == warned, result.stderr
        results.append(probabilities_of(rows_of(tmp_path / "out.csv")) if mode == "recognize"
                       else numpy.asarray(Image.open(tmp_path / "out.png"), dtype=float))
    assert numpy.allclose(results[0], results[1], rtol=0, atol=2e-6) and abs(results[0] - results[2]).max() > 1e-3


@pytest.mark.parametrize("trained, folder, model, warning", [
    ((96, 0.2), "aligned/joy", None, None), ((96, 0.2), "photos", "m.onnx", None),
    ((96, 0.2), "photos", None, "aligned (--size 96 --margin 0.2) and these pictures are not aligned"),
    ((64, 0.2), "aligned/data/joy", None, "(--size 64 --margin 0.2) and these pictures are aligned (--size 96"),
    (None, "aligned", None, "not aligned and these pictures are aligned (--size 96"),
    (None, "photos", "m.onnx", "not aligned and these pictures are aligned (--size 32 --margin 0.0)")])
def test_pictures_that_are_aligned_otherwise_than_the_training_faces_are_reported(tmp_path, capsys, trained, folder,
                                                                                  model, warning):
    write_json(tmp_path / "aligned" / "align.json", {"size": 96, "margin": 0.2})
    preparation_for(FaceOptions(align=model), 32, trained and dict(zip(("size", "margin"), trained)),
                    [tmp_path / folder / "a.jpg"])
    printed = capsys.readouterr().err
    assert warning in printed and printed.count("\n") == 1 if warning else not printed


def test_extreme_sizes_show_no_face():
    pytest.importorskip("cv2")
    cutter = Cutter(Preparation(32, str(shared("data/yunet/yunet_n_640_640.onnx"))))
    for size in ((1, 1), (3, 900), (900, 2)):
        with pytest.raises(UserError, match="no face"):
            cutter(Picture(Path("x"), image=Image.new("RGB", size)))


# ---------------------------------------------------------------------------------------------------- videos

def write_video(path: Path, frames: list[Image.Image]) -> Path:
    """Write a video of ten frames per second."""
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, frames[0].size)
    for frame in frames:
        writer.write(numpy.asarray(frame)[:, :, ::-1].copy())
    writer.release()
    return path


@pytest.fixture
def clip(tmp_path) -> Path:
    """A video of a drawn person: one second neutral, one second smiling."""
    names = ["neutral"] * 10 + ["smile"] * 10
    return write_video(tmp_path / "clip.mp4", [truth("p0001", "c1", name, 64) for name in names])


def test_a_video_gives_rows_per_frame(run, clip, faces, tmp_path):
    output = succeeds(recognize(run, "--input", clip, faces / "smile.png", "-o", tmp_path / "out.jpg"))
    *rows, picture = rows_of(tmp_path / "out.csv")
    assert [int(row["frame"]) for row in rows] == list(range(20)) and picture["file"] == str(faces / "smile.png")
    assert [float(row["seconds"]) for row in rows] == pytest.approx([i / 10 for i in range(20)])
    trained = load_recognizer(run / "VGG", torch.device("cpu"))
    for name in ("neutral", "smile"):
        truth("p0001", "c1", name, 64).save(tmp_path / f"{name}.png")
    expected = trained.recognize(load_faces([tmp_path / "neutral.png", tmp_path / "smile.png"], 32)).numpy()
    distance = abs(probabilities_of(rows)[:, None] - expected).sum(2)  # to each; compression changes a little
    assert distance.argmin(1).tolist() == [0] * 10 + [1] * 10 and "21 faces in 21 frames" in output
    left = {path.name for path in tmp_path.glob("*.*")}
    assert left == {"clip.mp4", "neutral.png", "smile.png", "out.csv", "out.jpg"}


def test_a_video_is_annotated(run, clip, tmp_path):
    output = succeeds(recognize(run, "--input", clip, "-o", tmp_path / "out.mp4"))
    assert f"wrote {tmp_path / 'out.mp4'}, {tmp_path / 'out.csv'}" in output
    annotated, rows = Video(tmp_path / "out.mp4"), rows_of(tmp_path / "out.csv")
    frames = [numpy.asarray(frame.image).astype(int) for frame in annotated()]
    assert len(frames) == len(rows) == 20 and annotated.rate == 10 and annotated.size == (64, 64)
    for frame, row in zip(frames, rows):  # the frame of the whole picture and its label in the color of the expression
        assert abs(frame[40:60, 0] - color_of(EXPRESSIONS.index(row["expression"]))).mean() < 60
    line = refused(recognize(run, "--input", clip, SMILE, "-o", tmp_path / "a.mp4"))
    assert "a video is written for a single video of --input" in line and not (tmp_path / "a.csv").exists()


def test_a_face_in_a_few_frames_of_a_video_is_on_the_sheet(run, tmp_path):
    blank, face = Image.new("RGB", (64, 64)), truth("p0001", "c1", "smile", 64)
    clip = write_video(tmp_path / "clip.mp4", [blank] * 31 + [face] + [blank] * 28)  # every third is for the sheet
    assert "1 face in 60 frames" in succeeds(recognize(run, "--input", clip, "-o", tmp_path / "out.jpg"))


def test_times_are_the_containers_and_a_damaged_part_is_skipped_and_counted(run, clip, tmp_path):
    frames = [truth(f"p{i:04d}", "c1", "smile", 64) for i in range(8)]
    frames[0].save(tmp_path / "slower.gif", save_all=True, append_images=frames[1:], duration=[100] * 4 + [1000] * 4)
    assert [frame.seconds for frame in Video(tmp_path / "slower.gif")()] == pytest.approx(
        [0, 0.1, 0.2, 0.3, 0.4, 1.4, 2.4, 3.4])
    random = numpy.random.default_rng(0)
    noise = [Image.fromarray(random.integers(0, 256, (8, 8, 3), numpy.uint8)).resize((128, 128)) for _ in range(6)]
    damaged = write_video(tmp_path / "damaged.mp4", [noise[i // 10] for i in range(60)])
    content = bytearray(damaged.read_bytes())
    third = len(content) // 3
    content[third:third + 3000] = bytes(3000)
    damaged.write_bytes(content)
    video = Video(damaged)
    seconds = [frame.seconds for frame in video()]
    assert 0 < video.missing == 60 - len(seconds) and seconds[-1] == pytest.approx(5.9)
    result = recognize(run, "--input", clip, tmp_path / "damaged.mp4", "-o", tmp_path / "out.jpg")
    assert result.returncode == 0 and f"damaged, {video.missing} of about 60 frames" in result.stderr, result.stderr
    assert [row["file"] for row in rows_of(tmp_path / "out.csv")] == [str(clip)] * 20 + [str(video.path)] * len(seconds)


# -------------------------------------------------------------------------------------------------- bad input

@pytest.mark.parametrize("argv, messages", [
    ([], ["--input is missing"]), (["--input", "nothing*.jpg"], ["nothing*.jpg: no file has such a name"]),
    (["--input", "empty"], ["empty: holds no images"]),
    (["--input", "a.txt", "b.txt"], ["a.txt: cannot be read", "nor in any of 1 others"]),
    (["--input", SMILE, "-o", SMILE], ["is a file that is read"]),
    (["--input", SMILE, "-o", "out.gif"], ["out.gif", ".png, .jpg or .pdf"]),
    (["--input", SMILE, "-a", "joy", "anger"], ["was trained with -a disgust scream"]),
    (["--input", SMILE, "--restore", 3], ["--restore 3", "only its best recognizer"]),
    (["--input", SMILE, "--align", "nowhere.onnx"], ["nowhere.onnx: no such model file|needs OpenCV"])])
def test_what_cannot_be_recognized_is_refused_in_one_line(run, tmp_path, monkeypatch, argv, messages):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("no image")
    line = refused(recognize(run, *argv))
    assert all(any(choice in line for choice in message.split("|")) for message in messages), line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt", "empty"]


def test_outputs_never_overwrite_an_input(run, faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (faces / "table.csv").write_bytes((faces / "smile.png").read_bytes())
    before = snapshot(faces)
    (tmp_path / "link").symlink_to(faces)
    for source, output in ((faces, tmp_path / "link" / "smile.png"), (faces / "table.csv", faces / "table.jpg")):
        assert "is a file that is read" in refused(recognize(run, "--input", source, "-o", output))
    assert snapshot(faces) == before and not list(tmp_path.glob("*.csv"))
    for head in ("picture,valence\n", "file,label,subject\n"):
        (tmp_path / "ratings.csv").write_text(head)
        assert "holds something else" in refused(recognize(run, "--input", faces, "-o", tmp_path / "ratings.jpg"))
        assert (tmp_path / "ratings.csv").read_text() == head


def test_videos_that_cannot_be_read_are_refused(run, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.mp4").write_bytes(clip.read_bytes()[:200])
    assert "broken.mp4: OpenCV cannot read it as a video" in refused(recognize(run, "--input", tmp_path / "broken.mp4"))
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert "clip.mp4: reading a video needs OpenCV, which is not installed" in refused(recognize(run, "--input", clip))
