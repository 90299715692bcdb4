"""datasets.align: the similarity transform on numbers, the command as typed, YuNet on photographs."""

import math
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from conftest import command, refused, shared, snapshot, succeeds
from datasets import align
from datasets.align import Landmarks, carry_lists
from datasets.aligning.detect import FaceDetector, NoFace, align_points
from datasets.aligning.geometry import eye_tilt, inverse, similarity, template, transformed, warp
from datasets.layout import read_layout
from datasets.lists import read_lists
from datasets.pictures import read_picture

COLORS = {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0), "cyan": (0, 255, 255)}


def run(*argv) -> subprocess.CompletedProcess:
    return command("-m", "datasets.align", *argv)


def similarity_matrix(angle: float, scale: float, shift) -> numpy.ndarray:
    """Return the matrix (2, 3) of a rotation in degrees, a scale and a shift."""
    cosine, sine = scale * math.cos(math.radians(angle)), scale * math.sin(math.radians(angle))
    return numpy.array([[cosine, -sine, shift[0]], [sine, cosine, shift[1]]])


def drawn_face(angle: float, size: int = 300) -> tuple[Image.Image, numpy.ndarray]:
    """Return a picture with five colored dots at the points (5, 2) of a face tilted by an angle, and these points."""
    points = transformed(similarity_matrix(angle, 0.5, (0, 0)), template(size, 0.3) - size / 2) + size / 2
    image = Image.new("RGB", (size, size), "gray")
    for (x, y), color in zip(points, COLORS):
        ImageDraw.Draw(image).ellipse((x - 5, y - 5, x + 5, y + 5), fill=color)
    return image, points


def points_line(name: str, points: numpy.ndarray) -> str:
    """Return the line of a picture in a list of landmarks."""
    return f"{name} " + " ".join(f"{value:.2f}" for value in points.ravel()) + "\n"


# ------------------------------------------------------------------------------------------------- geometry

@settings(max_examples=50, deadline=None)
@given(st.floats(-180, 180), st.floats(0.05, 20), st.floats(-500, 500), st.floats(-500, 500))
def test_similarity_recovers_known_transforms(angle, scale, x, y):
    known, points = similarity_matrix(angle, scale, (x, y)), template(100, 0.2)
    assert numpy.allclose(similarity(points, transformed(known, points)), known, atol=1e-6)
    assert numpy.allclose(transformed(inverse(known), transformed(known, points)), points, atol=1e-6)


def test_similarity_is_the_least_squares_optimum_without_reflection():
    source = template(100, 0.2)
    target = source + numpy.random.default_rng(0).normal(0, 5, (5, 2))
    equations = [row for x, y in source for row in ([x, -y, 1, 0], [y, x, 0, 1])]
    cosine, sine, right, down = numpy.linalg.lstsq(numpy.array(equations), target.ravel(), rcond=None)[0]
    assert numpy.allclose(similarity(source, target), [[cosine, -sine, right], [sine, cosine, down]])
    assert numpy.linalg.det(similarity(source, source * (-1, 1))[:, :2]) > 0
    refused(lambda: similarity(numpy.ones((5, 2)), target))


@pytest.mark.parametrize("angle", [-40, 0, 25])
def test_warp_brings_the_points_to_the_template(angle):
    image, points = drawn_face(angle)
    face, matrix = align_points(image, points, 128, 0.3)
    assert face.size == (128, 128)
    target = template(128, 0.3)
    for (x, y), color in zip(target, COLORS.values()):
        assert numpy.abs(numpy.array(face.getpixel((int(x), int(y)))) - color).max() < 40
    assert numpy.allclose(transformed(matrix, points), target)


def test_warp_averages_when_it_shrinks():
    stripes = numpy.zeros((512, 512, 3), numpy.uint8)
    stripes[:, ::2] = 255
    small = numpy.asarray(warp(Image.fromarray(stripes), similarity_matrix(0, 0.1, (0, 0)), 51))[5:-5, 5:-5]
    assert 120 < small.mean() < 135 and small.std() < 10


# ------------------------------------------------------------------------------------------------ landmarks

def test_landmarks_tables_and_raf(tmp_path):
    line = "10 10 30 10 20 22 12 33 28 33\n"
    (tmp_path / "p.txt").write_text("a b/c.jpg " + line)
    points = Landmarks(tmp_path / "p.txt", ["a b/c.jpg"]).points_of("a b/c.jpg")
    assert points.tolist() == [[10, 10], [30, 10], [20, 22], [12, 33], [28, 33]]
    (tmp_path / "train_00001_manu_attri.txt").write_text("10.5\t10\n30\t10\n20\t22\n12\t33\n28\t33\n0\n1\n2\n")
    landmarks = Landmarks(tmp_path, ["x/train_00001.jpg", "train_00002.jpg"])
    assert landmarks.points_of("x/train_00001.jpg")[0].tolist() == [10.5, 10]
    (tmp_path / "c.txt").write_text("c.jpg " + line)
    (tmp_path / "bad.txt").write_text(f"a.jpg {line}b.jpg 1 2 x\n")
    refused(lambda: landmarks.points_of("train_00002.jpg"), "no landmarks given")
    refused(lambda: Landmarks(tmp_path / "c.txt", ["x/c.jpg", "y/c.jpg"]), "would serve for x/c.jpg and for y/c.jpg")
    refused(lambda: Landmarks(tmp_path / "bad.txt", []), "line 2")


@pytest.mark.parametrize("change, cause", [
    (lambda p: p[[1, 0, 2, 3, 4]], "are the eyes or the mouth corners exchanged"),
    (lambda p: p[[2, 0, 1, 3, 4]], "no upright face"), (lambda p: p[:, ::-1], "y before x"),
    (lambda p: p / 300, "shares of the picture's side"), (lambda p: p, None)])
def test_points_in_another_order_or_unit_are_refused_with_the_usual_mistakes(tmp_path, change, cause):
    faces = [change(drawn_face(angle)[1]) for angle in (-8, 0, 15)]
    (tmp_path / "p.csv").write_text("image,lx,ly,rx,ry,nx,ny,lmx,lmy,rmx,rmy\n" + "".join(
        f"{i}.jpg," + ",".join(f"{value:.4f}" for value in points.ravel()) + "\n" for i, points in enumerate(faces)))
    if cause is None:
        landmarks = Landmarks(tmp_path / "p.csv", ["0.jpg"])
        assert landmarks.fault_of(landmarks.points_of("0.jpg"), (300, 300)) is None
        assert "outside the picture" in landmarks.fault_of(landmarks.points_of("0.jpg"), (100, 100))
    else:
        refused(lambda: Landmarks(tmp_path / "p.csv", []), cause)


def landmark_source(tmp_path: Path) -> tuple[Path, Path]:
    """Write three photographs, a broken file, and a list of the photographs' landmarks."""
    source, lines = tmp_path / "src", []
    for number, angle in enumerate((-30, 0, 15)):
        image, points = drawn_face(angle)
        (source / f"p{number}").mkdir(parents=True)
        image.save(source / f"p{number}/face.png")
        lines.append(points_line(f"p{number}/face.png", points))
    (source / "p0" / "broken.jpg").write_bytes(b"nothing")
    (tmp_path / "points.txt").write_text("".join(lines))
    return source, tmp_path / "points.txt"


def test_the_command_with_landmarks_resumes(tmp_path):
    source, points = landmark_source(tmp_path)
    out = tmp_path / "out"
    argv = source, out, "--landmarks", points, "--size", 96, "--workers", 2
    assert "3 of 4 images aligned" in succeeds(run(*argv))
    assert (out / "no_face.list").read_text() == "p0/broken.jpg no image\n"
    pictures = [out / f"p{i}" / "face.png" for i in range(3)]
    reference = numpy.asarray(Image.open(pictures[1]), float)
    for path in pictures:
        assert numpy.abs(numpy.asarray(Image.open(path), float) - reference).mean() < 3
    times = [path.stat().st_mtime_ns for path in pictures[:2]]
    pictures[2].unlink()
    assert "(2 of them by an earlier run)" in run(*argv).stdout
    assert [path.stat().st_mtime_ns for path in pictures[:2]] == times and pictures[2].is_file()
    lines = points.read_text().splitlines(keepends=True)
    points.write_text("".join([lines[0], lines[2].replace("p2/", "p1/"), lines[2]]))
    assert "has changed since; all images are aligned anew" in run(*argv).stdout
    assert numpy.abs(numpy.asarray(Image.open(pictures[1]), float) - reference).mean() > 3
    before = snapshot(out)
    assert "another --size" in refused(run(*argv[:4], "--size", 64))
    elsewhere = shutil.copytree(source, tmp_path / "elsewhere")  # the same names, perhaps other faces
    assert "another source directory" in refused(run(elsewhere, *argv[1:]))
    assert snapshot(out) == before


def test_names_with_spaces_keep_their_labels_subjects_and_scenes(tmp_path):
    source, (image, points) = tmp_path / "src", drawn_face(0)
    (source / "data").mkdir(parents=True)
    for name in ("img 1.png", "img 2.png", "plain.png"):
        image.save(source / "data" / name)
    (tmp_path / "points.txt").write_text(points_line("img 1.png", points) + points_line("plain.png", points))
    (source / "images.list").write_text("img 1.png 0\nimg 2.png 1\n")
    (source / "images_test.list").write_text("plain.png 1\n")
    (source / "subjects.list").write_text("img 1.png p1 s1\nimg 2.png p2\nplain.png p3\n")
    (source / "expressions.txt").write_text("joy\nneutral\n")
    argv = source, tmp_path / "out", "--landmarks", tmp_path / "points.txt", "--size", 32
    assert "subjects.list: 1 lines left out" in succeeds(run(*argv))
    layout = read_layout(tmp_path / "out")
    assert [(s.name, s.label, s.subject, s.scene) for s in layout.split("all")] == [
        ("img 1.png", 0, "p1", "s1"), ("plain.png", 1, "p3", None)]
    assert Image.open(layout.train[0].path).size == (32, 32)
    (source / "images.list").write_text("img 1.png\n")
    assert "images.list, line 1" in refused(run(source, tmp_path / "other", *argv[2:]))
    assert not (tmp_path / "other").exists()  # refused before anything is aligned


def test_all_lists_are_carried_and_those_of_another_source_are_named(tmp_path, capsys):
    source, out = tmp_path / "src", tmp_path / "out"
    for folder in (source, out):
        (folder / "data").mkdir(parents=True)
    (out / "subjects.list").write_text("a.jpg p1\n")
    for split, name in (("train", "a.jpg"), ("val", "b.bmp"), ("test", "c.jpg")):
        (source / f"list_attr_x_{split}.txt").write_text(f"1\nhappy sad\n{name} -1 1\n")
        (source / "data" / name).touch()
    carry_lists(read_lists(source), out, {"a.jpg", "b.bmp"})
    printed = capsys.readouterr()
    texts = {path.name: path.read_text() for path in out.glob("*.*")}
    assert texts == {"expressions.txt": "happy\nsad\n", "images.list": "a.jpg 1\n", "images_val.list": "b.bmp.jpg 1\n",
                     "images_test.list": "", "subjects.list": "a.jpg p1\n"}
    assert "images_test.list: 1 lines left out" in printed.out and f"warning: {out / 'subjects.list'}" in printed.err


def test_landmarks_of_the_picture_before_its_exif_rotation_are_refused(tmp_path):
    image, points = drawn_face(0)
    exif = Image.Exif()
    exif[0x0112] = 6        # a quarter turn clockwise makes it upright
    (tmp_path / "src").mkdir()
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "src/turned.png", exif=exif)
    assert numpy.array_equal(numpy.asarray(read_picture(tmp_path / "src/turned.png")), numpy.asarray(image))
    before = numpy.column_stack([points[:, 1], 300 - points[:, 0]])  # where they lie in the file's own pixels
    (tmp_path / "p.txt").write_text(points_line("turned.png", before))
    line = refused(run(tmp_path / "src", tmp_path / "out", "--landmarks", tmp_path / "p.txt"))
    assert "before the picture was turned as its EXIF block says" in line


@pytest.mark.parametrize("argv, message", [
    ("{src} {out}", "--model FILE is needed"), ("{src} {src}/p0/out --landmarks {points}", "inside the source"),
    ("{empty} {out} --landmarks {points}", "holds no images"),
    ("{src} {empty}/.. --landmarks {points}", "inside the output"),
    ("{src} {out} --model {points}.onnx", "no such model file")])
def test_bad_input_writes_nothing(tmp_path, argv, message):
    source, points = landmark_source(tmp_path)
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    paths = {"src": source, "out": tmp_path / "out", "points": points, "empty": tmp_path / "empty"}
    assert message in refused(run(*argv.format(**paths).split()))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_detector_without_opencv_or_a_model_names_what_is_needed(monkeypatch, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nothing of the kind")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cv2", None)
        refused(lambda: FaceDetector(tmp_path / "model.onnx"), "pip install -r requirements-optional.txt")
    pytest.importorskip("cv2")
    refused(lambda: FaceDetector(tmp_path / "model.onnx"), "cannot use it as a YuNet")


# ---------------------------------------------------------------------------------------------- photographs

def detector_and_photographs() -> tuple[Path, Path]:
    """Return YuNet's file and a directory of photographs; the test is skipped without them or OpenCV."""
    pytest.importorskip("cv2")
    return shared("data/yunet/yunet_n_640_640.onnx"), shared("data/wild_faces/data")


def test_faces_of_photographs_are_found_and_level():
    model, photographs = detector_and_photographs()
    detector, paths, tilts = FaceDetector(model), sorted(photographs.iterdir())[::48], []
    for number, path in enumerate(paths):
        photo = read_picture(path).rotate((-20, 0, 20)[number % 3], Image.Resampling.BICUBIC)
        try:
            face, _ = align_points(photo, detector(photo)[0].points, 256, 0.3)
            tilts.append(abs(eye_tilt(detector(face)[0].points)))
        except NoFace:
            continue
    assert len(tilts) >= 0.9 * len(paths)
    assert numpy.median(tilts) < 1 and numpy.mean(numpy.array(tilts) <= 2) > 0.8


def test_a_model_is_read_from_a_directory_whose_name_opencv_cannot_open_on_windows(tmp_path, monkeypatch):
    model, photographs = detector_and_photographs()
    import cv2

    create, photo = cv2.FaceDetectorYN.create, read_picture(photographs / "test_0001.jpg")

    def create_on_windows(source: str, *arguments: object):
        if not source.isascii():
            raise cv2.error("cannot be opened")
        return create(source, *arguments)

    monkeypatch.setattr(cv2, "FaceDetectorYN", SimpleNamespace(create=create_on_windows))
    (tmp_path / "Jürgen").mkdir()
    copy = shutil.copy(model, tmp_path / "Jürgen")
    plain, other = FaceDetector(model)(photo), FaceDetector(copy)(photo)
    assert plain and numpy.array_equal(plain[0].points, other[0].points)


def test_the_largest_face_of_a_group_is_aligned(tmp_path):
    model, photographs = detector_and_photographs()
    photo = Image.new("RGB", (700, 400))
    for number, side in enumerate((128, 256, 160)):
        with Image.open(photographs / f"test_{number + 1:04}.jpg") as image:
            photo.paste(image.convert("RGB").resize((side, side)), (10 + 230 * number, 60))
    (tmp_path / "src").mkdir()
    photo.save(tmp_path / "src" / "group.jpg", quality=95)
    Image.new("RGB", (128, 128), "gray").save(tmp_path / "src" / "nobody.jpg")
    align.main([str(tmp_path / "src"), str(tmp_path / "out"), "--model", str(model), "--size", "64", "--workers", "1"])
    assert [path.name for path in (tmp_path / "out").glob("*.jpg")] == ["group.jpg"]
    assert (tmp_path / "out" / "no_face.list").read_text() == "nobody.jpg no face found\n"
    x, y = FaceDetector(model)(photo)[0].points.mean(0)
    assert 240 < x < 496 and 60 < y < 316 and len(FaceDetector(model)(photo, every=True)) == 3


def test_small_faces_behind_a_large_one_are_found():
    model, photographs = detector_and_photographs()
    photo, face = Image.new("RGB", (2600, 1500), "gray"), Image.open(photographs / "test_0001.jpg").convert("RGB")
    for left in range(150, 2400, 450):
        photo.paste(face.resize((80, 80)), (left, 900))
    photo.paste(face.resize((800, 800)), (900, 50))
    first, *others = (face.points.mean(0) for face in FaceDetector(model)(photo, every=True))
    assert 900 < first[0] < 1700 and sorted(round((x - 190) / 450) for x, _ in others) == list(range(5))
