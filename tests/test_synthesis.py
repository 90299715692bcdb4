"""The swaps of a run: judge and metrics, and the modes test, grid, evaluate and generate."""

import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from commands.evaluate import all_swaps
from commands.grid import choose_samples
from commands.trained import subject_numbers
from conftest import (EXPRESSIONS, REPOSITORY, command, networks, refused, restored, shared,
                      succeeds, train_command, trained)
from datasets.files import is_drawn
from datasets.layout import Sample, read_layout
from models.judge import ExpressionJudge, train_judge
from evaluation.synthesis import Gallery, Trial, evaluate_synthesis, with_expressions
from models.gan import SwapGAN
from models.networks import Pair
from options.config import GANShape
from utils import read_json

BEYOND = ["--lambda_truth_loss", 600, "--mismatched", "--ema", 0.9, "--mirror", "--mix", 1, "--guided", "--balanced",
          "--encode_synthesized", "--vgg_schedule", "cosine"]
IMAGES = REPOSITORY / "images"
SMILE, NEUTRAL = IMAGES / "smile.jpg", IMAGES / "neutral.jpg"


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory) -> Path:
    """A finished run of one GAN epoch, with an averaged generator."""
    folder = tmp_path_factory.mktemp("run") / "run"
    trained(faces, folder, "-a", *EXPRESSIONS, *BEYOND)
    log = (folder / "log" / "metrics.csv").read_text()
    assert all(f",{name}," in log for name in ("truth", "mismatched"))
    return folder


def used(run: Path, mode: str, *argv: object) -> subprocess.CompletedProcess:
    """Run a mode on a finished run."""
    return restored(run, "--mode", mode, *argv)


def swap(run: Path, *more: object) -> subprocess.CompletedProcess:
    """Swap the expressions of two of the repository's images; further arguments may name others."""
    return used(run, "test", "--swap_list", 2, 5, "-i", SMILE, "-t", NEUTRAL, *more)


def tile(path: Path, row: int, column: int, foot: int = 3) -> np.ndarray:
    """Return a 64 px tile of a sheet, whose rows end above a foot, and at the right if < 0."""
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    top = picture.shape[0] - foot + 67 * row
    left = 67 * column + (3 if column >= 0 else picture.shape[1])
    return picture[top:top + 64, left:left + 64]


def stripes(label: torch.Tensor, seed: int) -> torch.Tensor:
    """Return noise (N, 3, 32, 32) with bright stripes, vertical for label 0 and horizontal for 1."""
    image = 0.3 * torch.randn(len(label), 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    wave = torch.sin(torch.arange(32) * math.pi / 4).expand(32, 32)
    return (image + torch.where(label[:, None, None, None] == 0, wave, wave.T)).clamp(-1, 1)


def test_judge_learns_and_halves_the_side_to_four():
    torch.manual_seed(0)
    judge, random = ExpressionJudge(2, 32), torch.Generator().manual_seed(0)
    labels = [torch.randint(0, 2, (16,), generator=random) for _ in range(30)]
    train_judge(judge, ((stripes(label, i), label) for i, label in enumerate(labels)), 30, random)
    label = torch.arange(20) % 2
    assert (judge.eval()(stripes(label, 99)).argmax(1) == label).all()
    for size in (32, 64, 256):
        assert ExpressionJudge(2, size).main(torch.zeros(2, 3, size, size)).shape[-1] == 4


def test_every_image_meets_every_other_expression_of_another_person():
    samples = [Sample(f"{s}{e}.png", e, None, s, "c") for s in "pqr" for e in range(3)]
    first, second = all_swaps(samples, subject_numbers(samples))
    assert len(first) == 9 * 2
    assert all(samples[a].subject != samples[b].subject for a, b in zip(first, second))
    assert {(a, samples[b].label) for a, b in zip(first, second)} == {
        (a, e) for a in range(9) for e in range(3) if e != samples[a].label}
    unknown = [Sample(f"{i}.png", i % 2, None) for i in range(4)]
    assert len(set(subject_numbers(unknown))) == 4


class Copier(SwapGAN):
    """A GAN whose C is the image B, and whose reconstruction is off by 0.2 everywhere."""

    def edits(self, pair: Pair):
        return super().edits(pair)._replace(c=pair.image_b, a_rebuilt=pair.image_a + 0.2)


def test_metrics_of_a_known_swap():
    judge, gan = ExpressionJudge(2, 32).eval(), Copier(GANShape(2, 32, 4))
    label, subject = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    image = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8
    judge.head = torch.nn.Linear(judge.head.in_features, 2)
    predicted = judge(image).argmax(1)
    gallery = Gallery.from_batches(judge, [(image, label)], subject)
    a, b = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 2, 3, 0])  # the second and the last: another person
    pair = Pair(image[a], image[b], label[a], label[b])
    truth = image[torch.tensor([1, 0, 3, 2])]  # the same person with the other expression

    def evaluated(known: list[bool]):
        return evaluate_synthesis(gan, judge, 50.0, [Trial(pair, truth, torch.tensor(known), subject[a])], gallery,
                                  judge.describe(image) + 1.0)

    report = evaluated([True, True, True, False])
    assert report.transfer == pytest.approx(100 * (predicted[b] == label[b]).float().mean().item())
    assert report.kept == pytest.approx(100 * (predicted[b] == label[a]).float().mean().item())
    back = (predicted[b] == label[b])[label[a] == 1].float().mean().item()  # from the second expression to the first
    assert report.rebuilt_psnr == pytest.approx(20, abs=1e-4) and report.truths == 3
    assert report.identity == pytest.approx(200 / 3)  # 0 → 1 and 2 → 3 keep the person, 1 → 2 does not
    assert math.isinf(report.true_psnr) and math.isfinite(report.unchanged_psnr)
    assert report.fid_floor == pytest.approx(judge.head.in_features, rel=0.01)  # the means are 1 apart in each feature
    values = report.as_dict(["x", "y"])
    assert values["swaps"] == 4 and values["judge_accuracy"] == 50 and set(values["transfer_to"]) == {"x", "y"}
    assert values["transfer_from_to"]["y"] == {"x": pytest.approx(100 * back)}  # no swap keeps the expression
    without = evaluated([False] * 4)
    without.transfer_to[0] = float("nan")  # no test image shows it
    values, text = without.as_dict(["x", "y"]), without.as_text(["x", "y"])
    assert values["identity"] is None and values["true_psnr"] is None and "transferred" in text
    assert "true picture" not in text and "nan" not in text


def test_evaluate_measures_and_keeps_its_judge(run, broken, monkeypatch):
    monkeypatch.setattr("commands.evaluate.JUDGE_EPOCHS", 2)
    argv = ["evaluate"]
    output = succeeds(used(run, *argv))
    values = read_json(run / "synthesis.json")
    assert values["swaps"] == values["truths"] == 18 * 5 and 0 <= values["transfer"] + values["kept"] <= 100
    assert values["psnr_gain"] == pytest.approx(values["true_psnr"] - values["unchanged_psnr"], abs=1e-3)
    assert f"{values['transfer']:.1f} %" in output and "right person is nearest" in output
    assert "verdict: the swaps are not nearer to the true pictures" in output and len(values["verdict"]) == 2
    judge = (run / "judge.pth").read_bytes()
    succeeds(used(run, *argv))
    assert (run / "judge.pth").read_bytes() == judge
    assert {**read_json(run / "synthesis.json"), "images_per_second": 0} == {**values, "images_per_second": 0}
    listed, held_out = (broken / "images.list").read_text(), (run / "splits" / "images_val.list").read_text()
    dropped = next(line for line in listed.splitlines() if line not in held_out)
    (broken / "images.list").write_text(listed.replace(dropped + "\n", ""))
    argv += ["--data_dir", broken]
    refused(used(run, *argv), "its training images are not those of the run")
    refused(used(run, *argv, "--force"), "was not trained on these training images")


def test_generate_writes_a_data_set_to_train_on(run, faces, tmp_path):
    out = tmp_path / "made"
    succeeds(used(run, "generate", "--output", out))
    layout, original = read_layout(out), read_layout(faces)
    pairs = (run / "splits" / "images_gan_nature.list").read_text().replace("_train_", ".jpg train_").splitlines()
    contents = {(target, source if label != "5" else target)  # 5 keeps its expression
                for source, target, label in map(str.split, pairs)}
    assert len(layout.train) == len(contents) and len(layout.test) == 18
    made_from = dict(line.split(" ", 1) for line in (out / "made_from.list").read_text().splitlines())
    by_name = {sample.name: sample for sample in original.train + original.val}
    for sample in layout.train:
        source, target = (by_name[name] for name in made_from[sample.name].split())
        assert sample.label == source.label and (sample.subject, sample.scene) == (target.subject, target.scene)
        assert target.label == 5 and Image.open(sample.path).size == (32, 32)
    refused(used(run, "generate", "--output", faces / "made"), "lies inside the source")
    refused(used(run, "generate"), "--output is missing; name the data directory")


def test_swap_writes_six_panels(finished, tmp_path):
    out = tmp_path / "result.jpg"
    result = command("train.py", "-a", *EXPRESSIONS, "--swap_list", 2, 5, "--input", "./images/smile.jpg", "--target",
                     "./images/neutral.jpg", "--mode", "test", "--restore", "--gpu", 0, "--checkpoint_dir", finished,
                     "--output", out)
    succeeds(result)
    assert result.stderr.count("warning") == 1 and "no CUDA GPU" in result.stderr
    assert Image.open(out).size == (450, 38 + 67 + 30)
    assert len({tile(out, -1, column, 30).tobytes() for column in range(6)}) == 6


def test_interpolation_ends_with_the_swap_and_to_several_targets_is_a_matrix_too(run, tmp_path):
    strips, matrix, row = (tmp_path / f"{name}.png" for name in ("strips", "matrix", "row"))
    succeeds(swap(run, "--frames", 4, "--output", strips))
    succeeds(swap(run, "--output", row))
    full = tile(strips, -1, -2)  # beside the target
    assert (full == tile(row, -1, 2, 30)).all() and (full != tile(row, -1, 0, 30)).any()
    argv = ["test", "--swap_list", 2, 5, 1, "-i", SMILE, "-t", NEUTRAL, SMILE, "--frames", 3]
    succeeds(used(run, *argv, "--output", strips))
    succeeds(used(run, *argv, "--matrix", "--output", matrix))
    for step in range(3):  # down: to the first target; right: to the second
        assert np.abs(tile(matrix, step - 4, -4) - tile(strips, -2, step - 4)).max() <= 1
        assert np.abs(tile(matrix, -4, step - 4) - tile(strips, -1, step - 4)).max() <= 1
    assert (tile(matrix, -1, -3) == 255).all()
    assert np.abs(tile(matrix, -1, -4) - tile(strips, -2, -1)).max() <= 1


def test_grid_draws_persons_with_references_of_others(run, faces, tmp_path):
    sheet = tmp_path / "grid.png"
    assert (run / "test_result" / "grid.jpg").is_file()
    assert "3 test persons with 6 expressions" in succeeds(used(run, "grid", "--output", sheet))
    assert (tile(sheet, -7, -7, 30) == 255).all()  # no input beside the references
    assert tile(sheet, -6, -7, 30).std() > 10
    persons, references = choose_samples(read_layout(faces), 2, 0)
    assert [reference.label for reference in references] == list(range(6))
    assert not {person.subject for person in persons} & {reference.subject for reference in references}
    torch.manual_seed(0)
    gan, image = SwapGAN(GANShape(3, 32, 4)), torch.rand(3, 3, 32, 32) * 1.8 - 0.9
    swapped, _ = with_expressions(gan, image[0], 1, image, torch.tensor([0, 1, 2]))
    edits = gan.edits(Pair(image[:1], image[2:], torch.tensor([1]), torch.tensor([2])))
    torch.testing.assert_close(swapped[1:], torch.cat([edits.a_rebuilt, edits.c]))


def test_a_face_gets_every_expression_without_the_data(finished, tmp_path):
    """The references are those that the run has kept, each of the expression of its column."""
    shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("state", "options.json"))
    file, out = tmp_path / "run" / "model" / "exemplars.pth", tmp_path / "grid.png"
    argv = ["--mode", "grid", "--checkpoint_dir", tmp_path / "run", "-i", NEUTRAL, "-o", out]
    assert "1 face with 6 expressions" in succeeds(train_command(*argv, "--swap_list", "neutral"))
    kept = torch.load(file, weights_only=True)
    assert kept["expression"] == sorted(3 * list(range(6))) and kept["image"].shape == (18, 3, 32, 32)
    for column in range(6):  # 32 px faces twice as large
        reference = Image.fromarray(tile(out, -3, column - 6, 30).astype(np.uint8)).resize((32, 32))
        reference = torch.tensor(np.asarray(reference)).permute(2, 0, 1)
        distance = (reference - kept["image"].float()).abs().mean((1, 2, 3))
        assert kept["expression"][distance.argmin()] == column
    output = succeeds(train_command(*argv))
    assert "the run's recognizer predicts" in output and "--swap_list" in output
    with_target = "--swap_list", "neutral", 2, "--target", SMILE
    assert "1 face with 1 expression," in succeeds(train_command(*argv, *with_target))
    torch.save({**kept, "image": kept["image"][:4]}, file)
    refused(train_command(*argv), "exemplars.pth: damaged")
    file.unlink()
    refused(train_command(*argv, "--data_dir", tmp_path), "--target")


def test_a_recognizer_that_disagrees_with_a_stated_expression_is_reported(finished, tmp_path):
    agreed = []
    for name in EXPRESSIONS:
        other = "smile" if name == "squint" else "squint"
        output = succeeds(swap(finished, "--swap_list", name, other, "-o", tmp_path / "a.png"))
        agreed += [name] * (f"is stated to be {name}, but the run's" not in output)
    assert len(agreed) == 1


def test_swap_aligns_the_faces(finished, tmp_path):
    pytest.importorskip("cv2")
    model, photos = shared("data/yunet/yunet_n_640_640.onnx"), shared("data/wild_faces/data")
    wide = Image.new("RGB", (300, 200), "navy")
    wide.paste(Image.open(photos / "test_0001.jpg").convert("RGB"), (150, 50))
    wide.save(tmp_path / "wide.png")
    succeeds(swap(finished, "--input", tmp_path / "wide.png", "--target", photos / "test_0002.jpg", "--align", model,
                  "--output", tmp_path / "result.png"))
    assert tile(tmp_path / "result.png", -1, 0)[..., 0].mean() > 60  # the navy around the face has no red
    refused(swap(finished, "--align", tmp_path / "wide.png"), "cannot use it as a YuNet")


@pytest.mark.parametrize("name, mode", [
    ("result.jpg", ["test", "--swap_list", 2, 5, "--input", SMILE, "--target", NEUTRAL]), ("grid.jpg", ["grid"]),
    ("recognized.jpg", ["recognize", "--input", SMILE])])
def test_pictures_under_a_default_name_are_overwritten_if_they_are_ours(finished, tmp_path, monkeypatch, name, mode):
    monkeypatch.chdir(tmp_path)
    shutil.copy(SMILE, name)
    refused(used(finished, *mode), name, "move it away")
    assert Path(name).read_bytes() == SMILE.read_bytes()
    succeeds(used(finished, *mode, "--output", name))  # a name that is typed may be overwritten
    assert is_drawn(name)
    succeeds(used(finished, *mode))


@pytest.mark.parametrize("argv, messages", [
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
def test_bad_swap_options_are_refused(finished, argv, messages):
    refused(swap(finished, *argv), *messages)


@pytest.mark.parametrize("argv", [["grid", "--frames", 3], ["grid", "--align", "m.onnx"], ["export", "--tile", 32],
                                   ["recognize", "-i", "images/smile.jpg", "--target", "images/smile.jpg"],
                                   ["train", "--input", "images/smile.jpg"], ["report", "--epochs", 3],
                                   ["evaluate", "--swap_list", 0, 1], ["generate", "-o", "made", "--matrix"]])
def test_options_that_a_mode_does_not_use_are_refused(finished, argv):
    flag = [text for text in argv if str(text).startswith("--")][-1]
    line = refused(train_command("--mode", *argv, "--checkpoint_dir", finished))
    assert f"--mode {argv[0]}: {flag} is not used" in line


def test_a_run_with_an_averaged_generator_resumes_exactly(run, faces, tmp_path):
    succeeds(restored(run, "--epochs", 2))
    options, whole = read_json(run / "options.json"), tmp_path / "whole"
    assert options["ema"] == 0.9 and options["epochs"] == 2
    trained(faces, whole, "-a", *EXPRESSIONS, "--epochs", 2, *BEYOND)
    assert networks(run, "model/*_temp.pth") == networks(whole, "model/*_temp.pth")
