"""``--mode test`` and ``--mode grid`` of one's own faces as a user types them: swaps, interpolations, alignment."""

import shutil
import subprocess
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from conftest import EXPRESSIONS, REPOSITORY, command, refused, shared, succeeds, train_command
from datasets.files import is_drawn

IMAGES = REPOSITORY / "images"
SMILE, NEUTRAL = IMAGES / "smile.jpg", IMAGES / "neutral.jpg"


def swap(run: Path, *more: object) -> subprocess.CompletedProcess:
    """Swap the expressions of two of the repository's images by a run; further arguments may name other images."""
    return train_command("--mode", "test", "--restore", "--swap_list", 2, 5, "-i", SMILE, "-t", NEUTRAL,
                         "--checkpoint_dir", run, "--gpu", -1, *more)


def tile(picture: Image.Image, column: int, left: int, foot: int) -> Image.Image:
    """Return a tile of a sheet's last row, whose 64 px tiles begin at ``left`` and end ``foot`` above the edge."""
    x, y = left + 67 * column, picture.height - foot - 67
    return picture.crop((x, y, x + 64, y + 64))


def test_swap_writes_six_panels(finished, tmp_path):
    result = command("train.py", "-a", *EXPRESSIONS, "--swap_list", 2, 5, "--input", "./images/smile.jpg", "--target",
                     "./images/neutral.jpg", "--mode", "test", "--restore", "--gpu", 0, "--checkpoint_dir", finished,
                     "--output", tmp_path / "result.jpg")
    succeeds(result)
    assert result.stderr.count("warning") == 1 and "no CUDA GPU" in result.stderr
    picture = Image.open(tmp_path / "result.jpg")
    assert picture.size == (450, 38 + 67 + 30) and len({tile(picture, i, 3, 30).tobytes() for i in range(6)}) == 6


def test_strip_goes_from_no_swap_to_full_swap(finished, tmp_path):
    succeeds(swap(finished, "--frames", 4, "--output", tmp_path / "strip.png"))
    succeeds(swap(finished, "--output", tmp_path / "result.png"))
    strip, row = Image.open(tmp_path / "strip.png"), Image.open(tmp_path / "result.png")
    assert strip.height == 22 + 67 + 3 and strip.width > 5 * 67  # four steps and the target
    left = strip.width - 5 * 67
    assert tile(strip, 3, left, 3).tobytes() == tile(row, 2, 3, 30).tobytes() != tile(row, 0, 3, 30).tobytes()


def test_a_face_gets_every_expression_without_the_data(finished, tmp_path):
    """The references are those that the run has kept, each of the expression of its column."""
    shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("state", "options.json"))
    file = tmp_path / "run" / "model" / "exemplars.pth"
    argv = ["--mode", "grid", "--checkpoint_dir", tmp_path / "run", "--gpu", -1, "-i", NEUTRAL]
    output = succeeds(train_command(*argv, "--swap_list", "neutral", "-o", tmp_path / "grid.png"))
    assert "1 face with 6 expressions" in output
    kept = torch.load(file, weights_only=True)
    assert kept["expression"] == sorted(3 * list(range(6))) and kept["image"].shape == (18, 3, 32, 32)
    picture = Image.open(tmp_path / "grid.png")
    left, top = picture.width - 7 * 67, picture.height - 30 - 3 * 67
    for column in range(6):  # 32 px faces twice as large
        x = left + 67 * (column + 1)
        reference = numpy.asarray(picture.crop((x, top, x + 64, top + 64)).resize((32, 32)))
        distance = (torch.tensor(reference).permute(2, 0, 1) - kept["image"].float()).abs().mean((1, 2, 3))
        assert kept["expression"][distance.argmin()] == column
    output = succeeds(train_command(*argv, "-o", tmp_path / "b.png"))
    assert "the run's recognizer predicts" in output and "--swap_list" in output
    with_target = "--swap_list", "neutral", 2, "--target", SMILE, "-o", tmp_path / "c.png"
    assert "1 face with 1 expression," in succeeds(train_command(*argv, *with_target))
    torch.save({**kept, "image": kept["image"][:4]}, file)
    assert "exemplars.pth: damaged" in refused(train_command(*argv, "-o", tmp_path / "d.png"))
    file.unlink()
    assert "--target" in refused(train_command(*argv, "--data_dir", tmp_path, "-o", tmp_path / "d.png"))


def test_a_recognizer_that_disagrees_with_a_stated_expression_is_reported(finished, tmp_path):
    agreed = []
    for name in EXPRESSIONS:
        other = "smile" if name == "squint" else "squint"
        output = succeeds(swap(finished, "--swap_list", name, other, "-o", tmp_path / "a.png"))
        agreed += [name] * (f"is stated to be {name}, but the run's" not in output)
    assert len(agreed) == 1


@pytest.mark.parametrize("argv", [["grid", "--paste"], ["grid", "--align", "m.onnx"], ["export", "--every", 2],
                                   ["recognize", "-i", "images/smile.jpg", "--target", "images/smile.jpg"],
                                   ["train", "--input", "images/smile.jpg"], ["report", "--epochs", 3],
                                   ["evaluate", "--swap_list", 0, 1], ["generate", "-o", "made", "--matrix"]])
def test_options_that_a_mode_does_not_use_are_refused(finished, argv):
    flag = [text for text in argv if str(text).startswith("--")][-1]
    line = refused(train_command("--mode", *argv, "--checkpoint_dir", finished))
    assert f"--mode {argv[0]}: {flag} is not used" in line


def test_swap_aligns_the_faces_and_puts_them_back(finished, tmp_path):
    pytest.importorskip("cv2")
    model, photos = shared("data/yunet/yunet_n_640_640.onnx"), shared("data/wild_faces/data")
    wide = Image.new("RGB", (300, 200), "navy")
    wide.paste(Image.open(photos / "test_0001.jpg").convert("RGB"), (150, 50))
    wide.save(tmp_path / "wide.png")
    succeeds(swap(finished, "--input", tmp_path / "wide.png", "--target", photos / "test_0002.jpg", "--align", model,
                  "--paste", "--output", tmp_path / "result.png"))
    pasted = Image.open(tmp_path / "result_input.png")
    assert pasted.size == (300, 200) and Image.open(tmp_path / "result_target.png").size == (128, 128)
    assert pasted.crop((0, 0, 140, 200)).tobytes() == wide.crop((0, 0, 140, 200)).tobytes()  # away from the face
    assert pasted.crop((190, 90, 240, 140)).tobytes() != wide.crop((190, 90, 240, 140)).tobytes()
    assert "cannot use it as a YuNet" in refused(swap(finished, "--align", tmp_path / "wide.png"))


@pytest.mark.parametrize("name, mode", [
    ("result.jpg", ["test", "--swap_list", 2, 5, "--input", SMILE, "--target", NEUTRAL]), ("grid.jpg", ["grid"]),
    ("recognized.jpg", ["recognize", "--input", SMILE])])
def test_pictures_under_a_default_name_are_overwritten_if_they_are_ours(finished, tmp_path, monkeypatch, name, mode):
    monkeypatch.chdir(tmp_path)
    argv = ["--mode", *mode, "--restore", "--checkpoint_dir", finished, "--gpu", -1]
    shutil.copy(SMILE, name)
    line = refused(train_command(*argv))
    assert name in line and "move it away" in line and Path(name).read_bytes() == SMILE.read_bytes()
    succeeds(train_command(*argv, "--output", name))  # a name that is typed may be overwritten
    assert is_drawn(name)
    succeeds(train_command(*argv))


def test_swap_reads_the_published_codes_own_files(finished, tmp_path):
    (tmp_path / "model").mkdir()
    for name in ("Enc", "Dec"):
        state = torch.load(finished / "model" / f"{name}_iter_temp.pth", weights_only=True)
        torch.save(state, tmp_path / "model" / f"{name}_iter_010.pth", _use_new_zipfile_serialization=False)
    succeeds(swap(tmp_path, "--restore", 10, "--image_size", 32, "-o", tmp_path / "a.png"))
    succeeds(swap(finished, "-o", tmp_path / "b.png"))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("options, messages", [
    (["--swap_list", 2, 6], ["--swap_list 2 6: 6 is out of range", "5 neutral"]),
    (["--swap_list", 5, 5], ["must differ"]),
    (["--swap_list", "smiel", "neutral"], ["smiel is no expression of this run", "did you mean smile?"]),
    (["--input", "absent.jpg"], ["absent.jpg: no such image"]),
    (["--input", REPOSITORY / "README.md"], ["README.md: cannot be read as an image"]),
    (["--output", "result.txt"], ["result.txt", ".png, .jpg or .pdf"]),
    (["--restore", 7], ["Enc_iter_007.pth is not there"]),
    (["-a", "scream", "disgust", "smile", "squint", "surprise", "neutral"], ["was trained with -a disgust scream"]),
    (["-a", "disgust", "neutral"], ["was trained with -a disgust scream"]),
    (["--frames", 1], ["--frames 1"]), (["--swap_list", 2], ["--swap_list 2", "2 names or positions"]),
    (["--swap_list", 2, 5, 1, "-t", NEUTRAL, SMILE], ["several targets", "--frames"]),
    (["--matrix", "--frames", 3], ["--matrix: needs two targets"]),
    (["--checkpoint_dir", IMAGES], ["Enc_iter_temp.pth is not there"])])
def test_bad_swap_options_are_refused(finished, options, messages):
    line = refused(swap(finished, *options))
    assert all(message in line for message in messages), line
