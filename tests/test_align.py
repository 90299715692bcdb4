"""datasets.align: the similarity transform on numbers, the command as typed, YuNet on photographs."""

import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from conftest import command
from datasets import align
from datasets.aligning.detect import align_face, align_points
from datasets.aligning.geometry import (border_mask, eye_tilt, inverse, paste_back, similarity, template, transformed,
                                        warp)
from datasets.aligning.landmarks import Landmarks
from datasets.layout import read_layout
from datasets.pictures import read_picture
from utils import UserError

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared" / "data"
MODEL = SHARED / "yunet" / "yunet_n_640_640.onnx"
WILD_FACES = SHARED / "wild_faces"
needs_photographs = pytest.mark.skipif(not (MODEL.is_file() and WILD_FACES.is_dir()),
                                       reason="needs ../shared/data/yunet and ../shared/data/wild_faces")


def run(*words) -> subprocess.CompletedProcess:
    return command("-m", "datasets.align", *words)


def motion(angle: float, scale: float, shift) -> numpy.ndarray:
    cosine, sine = scale * math.cos(math.radians(angle)), scale * math.sin(math.radians(angle))
    return numpy.array([[cosine, -sine, shift[0]], [sine, cosine, shift[1]]])


def drawn_face(angle: float, size: int = 300) -> tuple[Image.Image, numpy.ndarray]:
    """A picture with five colored dots where the points of a tilted face lie."""
    points = transformed(motion(angle, 0.5, (0, 0)), template(size, 0.3) - size / 2) + size / 2
    image = Image.new("RGB", (size, size), "gray")
    for (x, y), color in zip(points, ("red", "lime", "blue", "yellow", "cyan")):
        ImageDraw.Draw(image).ellipse((x - 5, y - 5, x + 5, y + 5), fill=color)
    return image, points


# ------------------------------------------------------------------------------------------------- geometry

@settings(max_examples=50, deadline=None)
@given(st.floats(-180, 180), st.floats(0.05, 20), st.floats(-500, 500), st.floats(-500, 500))
def test_similarity_recovers_known_transforms(angle, scale, x, y):
    known, points = motion(angle, scale, (x, y)), template(100, 0.2)
    assert numpy.allclose(similarity(points, transformed(known, points)), known, atol=1e-6)
    assert numpy.allclose(transformed(inverse(known), transformed(known, points)), points, atol=1e-6)


def test_similarity_is_the_least_squares_optimum_without_reflection():
    random = numpy.random.default_rng(0)
    source, target = template(100, 0.2), template(100, 0.2) + random.normal(0, 5, (5, 2))

    def error(matrix):
        return ((transformed(matrix, source) - target) ** 2).sum()

    best = similarity(source, target)
    for row, column in ((0, 2), (1, 2)):
        for step in (-0.5, 0.5):
            moved = best.copy()
            moved[row, column] += step
            assert error(moved) > error(best)
    assert error(motion(1, 1, (0, 0)) @ numpy.vstack([best, [0, 0, 1]])) > error(best)
    mirrored = similarity(source, source * (-1, 1))
    assert numpy.linalg.det(mirrored[:, :2]) > 0
    with pytest.raises(ValueError):
        similarity(numpy.ones((5, 2)), target)


def test_the_template_is_level_and_centered():
    points = template(256, 0.3)
    assert eye_tilt(points) == 0 and points[2, 0] == 128
    assert numpy.allclose(points[0] + points[1], points[3] * (1, 0) + points[4] * (1, 0) + (0, 2 * points[0, 1]))
    assert points[0, 0] < points[1, 0] and points[0, 1] < points[2, 1] < points[3, 1] < 256


@pytest.mark.parametrize("angle", [-40, 0, 25])
def test_warp_brings_the_points_to_the_template(angle):
    image, points = drawn_face(angle)
    face, matrix = align_points(image, points, 128, 0.3)
    assert face.size == (128, 128)
    goal = template(128, 0.3)
    for (x, y), color in zip(goal, ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255))):
        assert numpy.abs(numpy.array(face.getpixel((int(x), int(y)))) - color).max() < 40
    assert numpy.allclose(transformed(matrix, points), goal)


def test_warp_averages_when_it_shrinks():
    stripes = numpy.zeros((512, 512, 3), numpy.uint8)
    stripes[:, ::2] = 255
    small = numpy.asarray(warp(Image.fromarray(stripes), motion(0, 0.1, (0, 0)), 51))[5:-5, 5:-5]
    assert 120 < small.mean() < 135 and small.std() < 10


def test_paste_back_restores_the_photograph():
    image, points = drawn_face(20)
    face, matrix = align_points(image, points, 256, 0.3)
    same = numpy.asarray(paste_back(image, face, matrix), float)
    assert numpy.abs(same - numpy.asarray(image, float)).mean() < 0.5
    white = numpy.asarray(paste_back(image, Image.new("RGB", (256, 256), "white"), matrix))
    x, y = points.mean(0).astype(int)
    assert (white[y, x] == 255).all() and (white[2, 2] == numpy.asarray(image)[2, 2]).all()
    mask = numpy.asarray(border_mask(100, 0.1))
    assert mask[0].max() == 0 and mask[50, 50] == 255 and 0 < mask[50, 5] < 255


# ------------------------------------------------------------------------------------------------ landmarks

def test_landmarks_tables_and_raf(tmp_path):
    (tmp_path / "p.txt").write_text("a b/c.jpg 10 10 30 10 20 22 12 33 28 33\n")
    assert Landmarks(tmp_path / "p.txt").of("a b/c.jpg").tolist() == [[10, 10], [30, 10], [20, 22], [12, 33], [28, 33]]
    (tmp_path / "train_00001_manu_attri.txt").write_text("10.5\t10\n30\t10\n20\t22\n12\t33\n28\t33\n0\n1\n2\n")
    assert Landmarks(tmp_path).of("x/train_00001.jpg")[0].tolist() == [10.5, 10]
    assert Landmarks(tmp_path).of("train_00002.jpg") is None
    (tmp_path / "bad.txt").write_text("a.jpg 1 2 3 4 5 6 7 8 9 10\nb.jpg 1 2 x\n")
    with pytest.raises(UserError, match="line 2"):
        Landmarks(tmp_path / "bad.txt")


@pytest.mark.parametrize("changed, cause", [
    (lambda p: p[[1, 0, 2, 4, 3]], "in the order left eye, right eye, nose, left mouth corner, right mouth corner;"),
    (lambda p: p[[2, 0, 1, 3, 4]], "in the order nose, right eye, left eye, right mouth corner, left mouth corner;"),
    (lambda p: p[:, ::-1], "with y before x"), (lambda p: p.T.reshape(5, 2), "with all x before all y"),
    (lambda p: p / 300, "shares of the picture's side"), (lambda p: p, None)])
def test_points_in_another_order_or_unit_are_refused_by_their_likely_cause(tmp_path, changed, cause):
    faces = [changed(drawn_face(angle)[1]) for angle in (-8, 0, 15)]
    (tmp_path / "p.csv").write_text("image,lx,ly,rx,ry,nx,ny,lmx,lmy,rmx,rmy\n" + "".join(
        f"{i}.jpg," + ",".join(f"{value:.4f}" for value in points.ravel()) + "\n" for i, points in enumerate(faces)))
    if cause is None:
        assert Landmarks(tmp_path / "p.csv").fault_of("0.jpg", (300, 300)) is None
        assert "outside the picture" in Landmarks(tmp_path / "p.csv").fault_of("0.jpg", (100, 100))
    else:
        with pytest.raises(UserError, match=cause):
            Landmarks(tmp_path / "p.csv")


def landmark_source(tmp_path: Path) -> tuple[Path, Path]:
    source, lines = tmp_path / "src", []
    for number, angle in enumerate((-30, 0, 15)):
        image, points = drawn_face(angle)
        path = source / f"p{number}" / "face.png"
        path.parent.mkdir(parents=True)
        image.save(path)
        lines.append(f"p{number}/face.png " + " ".join(f"{value:.2f}" for value in points.ravel()))
    (source / "p0" / "broken.jpg").write_bytes(b"nothing")
    (tmp_path / "points.txt").write_text("\n".join(lines))
    return source, tmp_path / "points.txt"


def test_the_command_with_landmarks_resumes(tmp_path):
    source, points = landmark_source(tmp_path)
    out = tmp_path / "out"
    words = (source, out, "--landmarks", points, "--size", 96, "--workers", 2)
    first = run(*words)
    assert first.returncode == 0, first.stderr
    assert "3 of 4 images aligned" in first.stdout
    assert (out / "no_face.list").read_text() == "p0/broken.jpg no image\n"
    pictures = [out / f"p{i}" / "face.png" for i in range(3)]
    reference = numpy.asarray(Image.open(pictures[1]), float)
    for path in pictures:
        assert numpy.abs(numpy.asarray(Image.open(path), float) - reference).mean() < 3
    stamps = [path.stat().st_mtime_ns for path in pictures]
    pictures[2].unlink()
    second = run(*words)
    assert second.returncode == 0 and "(2 of them by an earlier run)" in second.stdout
    assert [path.stat().st_mtime_ns for path in pictures[:2]] == stamps[:2] and pictures[2].is_file()
    lines = points.read_text().splitlines()
    points.write_text("\n".join([lines[0], lines[2].replace("p2/", "p1/"), lines[2]]))
    corrected = run(*words)
    assert corrected.returncode == 0 and "has changed since; all images are aligned anew" in corrected.stdout
    assert numpy.abs(numpy.asarray(Image.open(pictures[1]), float) - reference).mean() > 3
    stamps = [path.stat().st_mtime_ns for path in pictures]
    other = run(*words[:4], "--size", 64)
    assert other.returncode == 2 and "another --size" in other.stderr and len(other.stderr.splitlines()) == 1
    elsewhere = run(shutil.copytree(source, tmp_path / "elsewhere"), *words[1:])  # the same names, perhaps other faces
    assert elsewhere.returncode == 2 and "another source directory" in elsewhere.stderr
    assert [path.stat().st_mtime_ns for path in pictures[:2]] == stamps[:2]


def test_names_with_spaces_keep_their_labels_subjects_and_scenes(tmp_path):
    source, lines = tmp_path / "src", []
    (source / "data").mkdir(parents=True)
    for name in ("img 1.png", "img 2.png", "plain.png"):
        image, points = drawn_face(0)
        image.save(source / "data" / name)
        if name != "img 2.png":
            lines.append(f"{name} " + " ".join(f"{value:.2f}" for value in points.ravel()))
    (tmp_path / "points.txt").write_text("\n".join(lines))
    (source / "images.list").write_text("img 1.png 0\nimg 2.png 1\n")
    (source / "images_test.list").write_text("plain.png 1\n")
    (source / "subjects.list").write_text("img 1.png p1 s1\nimg 2.png p2\nplain.png p3\n")
    (source / "expressions.txt").write_text("joy\nneutral\n")
    result = run(source, tmp_path / "out", "--landmarks", tmp_path / "points.txt", "--size", 32)
    assert result.returncode == 0, result.stderr
    layout = read_layout(tmp_path / "out")
    assert [(s.name, s.label, s.subject, s.scene) for s in layout.split("all")] == [
        ("img 1.png", 0, "p1", "s1"), ("plain.png", 1, "p3", None)]
    assert "subjects.list: 1 lines left out" in result.stdout


def test_a_wrong_line_of_a_list_is_told_before_anything_is_aligned(tmp_path):
    source, points = landmark_source(tmp_path)
    (source / "images.list").write_text("p0/face.png\n")
    with pytest.raises(UserError, match="line 1"):
        align.main([str(source), str(tmp_path / "out"), "--landmarks", str(points)])
    assert not (tmp_path / "out").exists()


def test_exif_rotation_is_respected(tmp_path):
    image, points = drawn_face(0)
    exif = Image.Exif()
    exif[0x0112] = 6        # to be turned by a quarter clockwise
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    assert numpy.array_equal(numpy.asarray(read_picture(tmp_path / "turned.png")), numpy.asarray(image))
    before = numpy.column_stack([points[:, 1], 300 - points[:, 0]])  # where they lie in the file's own pixels
    (tmp_path / "p.txt").write_text("turned.png " + " ".join(map(str, before.ravel())))
    with pytest.raises(UserError, match="before the picture was turned as its EXIF block says"):
        align.main([str(tmp_path), str(tmp_path.parent / "out"), "--landmarks", str(tmp_path / "p.txt")])


@pytest.mark.parametrize("words, message", [
    (["{src}", "{out}"], "--model FILE is needed"), (["{src}/none", "{out}"], "no such directory"),
    (["{src}", "{src}/p0/out", "--landmarks", "{points}"], "inside the source"),
    (["{src}", "{points}/out", "--landmarks", "{points}"], "is a file"),
    (["{empty}", "{out}", "--landmarks", "{points}"], "holds no images"),
    (["{src}", "{out}", "--landmarks", "{points}", "--size", "4"], "--size 4"),
    (["{src}", "{empty}/..", "--landmarks", "{points}"], "inside the output"),
    (["{src}", "{out}", "--model", "{points}.onnx"], "no such model file")])
def test_bad_input_writes_nothing(tmp_path, words, message):
    source, points = landmark_source(tmp_path)
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    places = {"src": source, "out": tmp_path / "out", "points": points, "empty": tmp_path / "empty"}
    filled = [word.format(**places) for word in words]
    with pytest.raises(UserError, match=message):
        align.main(filled)
    assert sorted(tmp_path.rglob("*")) == before


def test_without_opencv_one_line_says_what_to_install(monkeypatch, tmp_path):
    from datasets.aligning.detect import FaceDetector

    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match="pip install -r requirements-optional.txt"):
        FaceDetector(tmp_path / "model.onnx")


def test_a_file_that_is_no_model(tmp_path):
    pytest.importorskip("cv2")
    from datasets.aligning.detect import FaceDetector

    (tmp_path / "model.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="cannot use it as a YuNet"):
        FaceDetector(tmp_path / "model.onnx")


# ---------------------------------------------------------------------------------------------- photographs

@needs_photographs
def test_faces_of_photographs_are_found_and_level():
    pytest.importorskip("cv2")
    from datasets.aligning.detect import FaceDetector

    detector = FaceDetector(MODEL)
    paths = sorted((WILD_FACES / "data").iterdir())[::48]
    tilts = []
    for number, path in enumerate(paths):
        photo = read_picture(path)
        photo = photo.rotate((-20, 0, 20)[number % 3], Image.Resampling.BICUBIC)
        try:
            face, _ = align_face(photo, 256, 0.3, detector)
            tilts.append(abs(eye_tilt(detector(face)[0].points)))
        except UserError:
            continue
    assert len(tilts) >= 0.9 * len(paths)
    assert numpy.median(tilts) < 1 and numpy.mean(numpy.array(tilts) <= 2) > 0.8


@needs_photographs
def test_every_face_of_a_group_and_the_largest(tmp_path):
    pytest.importorskip("cv2")
    photo = Image.new("RGB", (700, 400))
    for number, side in enumerate((128, 256, 160)):
        with Image.open(WILD_FACES / "data" / f"test_{number + 1:04}.jpg") as image:
            photo.paste(image.convert("RGB").resize((side, side)), (10 + 230 * number, 60))
    (tmp_path / "src").mkdir()
    photo.save(tmp_path / "src" / "group.jpg", quality=95)
    align.main([str(tmp_path / "src"), str(tmp_path / "out"), "--model", str(MODEL), "--all", "--size", "64",
                "--workers", "1"])
    assert sorted(p.name for p in (tmp_path / "out").glob("*.jpg")) == ["group.jpg", "group_1.jpg", "group_2.jpg"]
    from datasets.aligning.detect import FaceDetector

    x, y = FaceDetector(MODEL)(photo)[0].points.mean(0)
    assert 240 < x < 496 and 60 < y < 316


@needs_photographs
def test_a_data_directory_stays_one(tmp_path):
    pytest.importorskip("cv2")
    source, data = tmp_path / "src", tmp_path / "src" / "data"
    data.mkdir(parents=True)
    for name in ("test_0001.jpg", "test_0002.jpg"):
        (data / name).write_bytes((WILD_FACES / "data" / name).read_bytes())
    Image.new("RGB", (128, 128), "gray").save(data / "nobody.jpg")
    (source / "images.list").write_text("test_0001.jpg 0\nnobody.jpg 1\n")
    (source / "images_test.list").write_text("test_0002.jpg 1\n")
    (source / "subjects.list").write_text("test_0001.jpg s1\nnobody.jpg s2\ntest_0002.jpg s3\n")
    (source / "expressions.txt").write_text("joy\nneutral\n")
    result = run(source, tmp_path / "out", "--model", MODEL, "--size", 128)
    assert result.returncode == 0, result.stderr
    layout = read_layout(tmp_path / "out")
    assert [(s.name, s.label, s.subject) for s in layout.split("all")] == [("test_0001.jpg", 0, "s1"),
                                                                         ("test_0002.jpg", 1, "s3")]
    assert (tmp_path / "out" / "no_face.list").read_text() == "nobody.jpg no face found\n"
    assert Image.open(layout.train[0].path).size == (128, 128)
