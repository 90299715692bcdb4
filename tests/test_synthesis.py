"""The swaps of a run measured, drawn and written: the judge, the metrics, --mode evaluate, grid and generate."""

import itertools
import math
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from commands.evaluate import all_swaps
from commands.generate import write_swaps
from commands.grid import choose_samples
from commands.trained import subject_numbers
from conftest import EXPRESSIONS, REPOSITORY, refused, succeeds, train_command, trained
from datasets.layout import Sample, read_layout
from datasets.loading import Batch
from evaluation.judge import ExpressionJudge, blurred, disturbed, shifted, train_judge
from evaluation.metrics import frechet_distance
from evaluation.synthesis import Gallery, Trial, evaluate_synthesis, nearest_subject, small_pixels, with_expressions
from models.gan import SwapGAN
from models.networks import Pair
from options.config import GANShape
from utils import read_json

BEYOND = ["--lambda_truth_loss", 600, "--mismatched", "--ema", 0.9, "--mirror", "--mix", 1, "--guided", "--balanced",
          "--encode_synthesized", "--vgg_schedule", "cosine"]


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory) -> Path:
    """A finished run of one GAN epoch, with an averaged generator."""
    folder = tmp_path_factory.mktemp("run") / "run"
    trained(faces, folder, "-a", *EXPRESSIONS, *BEYOND)
    log = (folder / "log" / "metrics.csv").read_text()
    assert all(f",{name}," in log for name in ("truth", "mismatched"))
    return folder


def used(run: Path, mode: str, *argv: object):
    """Run a mode on the finished run."""
    return train_command("--mode", mode, "--restore", "--checkpoint_dir", run, "--gpu", -1, *argv)


# ----------------------------------------------------------------------------------------------- the judge

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


def test_disturbed_images_are_shifted_and_blurred_by_a_seed():
    image = stripes(torch.arange(4) % 2, 0)
    one, again, other = (disturbed(image, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other) and one.shape == image.shape
    image = torch.zeros(2, 3, 32, 32)
    image[:, :, 16, 16] = 1.0
    moved = shifted(image, torch.tensor([[4 / 32, 0.0], [0.0, -2 / 32]]))
    assert [moved[i, 0].argmax().item() for i in (0, 1)] == [16 * 32 + 12, 18 * 32 + 16]
    soft = blurred(image, torch.tensor([1.0, 0.0]))
    assert soft[0, 0, 16, 17].item() == pytest.approx(soft[0, 0, 16, 16].item() * math.exp(-0.5), rel=1e-4)
    assert soft[0].sum().item() == pytest.approx(3, rel=1e-4) and torch.allclose(soft[1], image[1])


# ---------------------------------------------------------------------------------------------- the metrics

SAMPLES = [Sample(f"{s}{e}.png", e, None, s, "c") for s in "pqr" for e in range(3)]


def test_every_image_meets_every_other_expression_of_another_person():
    first, second = all_swaps(SAMPLES, subject_numbers(SAMPLES))
    assert len(first) == 9 * 2 and all(SAMPLES[a].subject != SAMPLES[b].subject for a, b in zip(first, second))
    assert {(a, SAMPLES[b].label) for a, b in zip(first, second)} == {
        (a, e) for a in range(9) for e in range(3) if e != SAMPLES[a].label}
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
    assert report.transfer_from_to[1][0] == pytest.approx(100 * back)
    assert report.rebuilt_psnr == pytest.approx(20, abs=1e-4) and report.truths == 3
    assert report.identity == pytest.approx(200 / 3)  # 0 → 1 and 2 → 3 keep the person, 1 → 2 does not
    assert math.isinf(report.true_psnr) and math.isfinite(report.unchanged_psnr)
    assert report.fid_floor == pytest.approx(frechet_distance(gallery.features, judge.describe(image) + 1.0))
    assert report.fid_floor == pytest.approx(judge.head.in_features, rel=0.01)  # the means are 1 apart in each feature
    values = report.as_dict(["x", "y"])
    assert values["swaps"] == 4 and values["judge_accuracy"] == 50 and set(values["transfer_to"]) == {"x", "y"}
    assert values["transfer_from_to"]["y"] == {"x": pytest.approx(100 * back)}  # no swap keeps the expression
    assert f"y to x {100 * back:.1f}" in report.as_text(["x", "y"])
    without = evaluated([False] * 4)
    assert without.as_dict(["x", "y"])["identity"] is None and without.as_dict(["x", "y"])["true_psnr"] is None
    assert "true picture" not in without.as_text(["x", "y"]) and "transferred" in without.as_text(["x", "y"])
    without.transfer_to[0] = float("nan")  # no test image shows it
    assert "nan" not in without.as_text(["x", "y"])


def test_nearest_subject_looks_among_those_with_the_expression():
    pixels = torch.tensor([0.0, 1.0, 2.0, 3.0])[:, None, None, None].expand(4, 3, 2, 2) / 4
    gallery = Gallery(small_pixels(pixels), np.zeros((4, 1)), torch.tensor([0, 1, 0, 1]), torch.tensor([7, 7, 8, 8]))
    assert nearest_subject(small_pixels(pixels[1:3]), torch.tensor([0, 1]), gallery).tolist() == [7, 7]


def test_a_persons_own_expression_is_the_reconstruction():
    torch.manual_seed(0)
    gan, image = SwapGAN(GANShape(3, 32, 4)), torch.rand(3, 3, 32, 32) * 1.8 - 0.9
    swapped, residual = with_expressions(gan, image[0], 1, image, torch.tensor([0, 1, 2]))
    pair = Pair(image[:1], image[2:], torch.tensor([1]), torch.tensor([2]))
    torch.testing.assert_close(swapped[1], gan.edits(pair).a_rebuilt[0])
    torch.testing.assert_close(swapped[2], gan.edits(pair).c[0])
    torch.testing.assert_close((image[0] + residual).clamp(-1, 1), swapped)


# --------------------------------------------------------------------------------------------- the commands

def test_evaluate_measures_and_keeps_its_judge(run, broken):
    argv = ["evaluate", "--judge_epochs", 2]
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
    assert "its training images are not those of the run" in refused(used(run, *argv, "--data_dir", broken))
    assert "was not trained on these training images" in refused(
        used(run, *argv, "--data_dir", broken, "--force"))


def test_training_leaves_a_sheet_and_grid_draws_it(run, tmp_path):
    assert (run / "test_result" / "grid.jpg").is_file()
    output = succeeds(used(run, "grid", "--output", tmp_path / "grid.png"))
    assert "3 test persons with 6 expressions" in output
    sheet = np.asarray(Image.open(tmp_path / "grid.png"))
    top, left = sheet.shape[0] - 30 - 7 * 67, sheet.shape[1] - 7 * 67
    assert (sheet[top:top + 64, left:left + 64] == 255).all()  # no input beside the references
    assert sheet[top + 67:top + 131, left:left + 64].std() > 10


def test_sheet_shows_persons_with_all_expressions_and_references_of_others(faces):
    persons, references = choose_samples(read_layout(faces), 2, 0)
    assert len({person.label for person in persons}) == len({person.subject for person in persons}) == 2
    assert [reference.label for reference in references] == list(range(6))
    assert not {person.subject for person in persons} & {reference.subject for reference in references}


def test_interpolation_to_several_targets_as_strips_and_as_matrix(run, tmp_path):
    smile, neutral = REPOSITORY / "images/smile.jpg", REPOSITORY / "images/neutral.jpg"
    argv = ["test", "--swap_list", 2, 5, 1, "--input", smile, "--target", neutral, smile, "--frames", 3]
    succeeds(used(run, *argv, "--output", tmp_path / "strips.png"))
    succeeds(used(run, *argv, "--matrix", "--output", tmp_path / "matrix.png"))
    strips, matrix = (np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int) for name in ("strips", "matrix"))

    def inner(picture, row, column):
        rows = 2 if picture is strips else 4
        top, left = picture.shape[0] - 3 - 67 * (rows - row), picture.shape[1] - 67 * (4 - column)
        return picture[top:top + 64, left:left + 64]

    for step in range(3):
        assert np.abs(inner(matrix, step, 0) - inner(strips, 0, step)).max() <= 1  # down: to the first target
        assert np.abs(inner(matrix, 0, step) - inner(strips, 1, step)).max() <= 1  # right: to the second
    assert (inner(matrix, 3, 1) == 255).all() and np.abs(inner(matrix, 3, 0) - inner(strips, 0, 3)).max() <= 1


def test_swaps_are_encoded_while_the_next_ones_are_computed(monkeypatch, tmp_path):
    is_computing_the_second, number, saved = threading.Event(), itertools.count(), []
    image, label = torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1)
    batch = Batch(image, label, image, label, 0, None, None, label, 1, 0)

    def synthesize(source, *_):
        if next(number) == 1:
            is_computing_the_second.set()
        return source, None

    def save(picture, path):
        assert is_computing_the_second.wait(20)
        saved.append(path.name)

    monkeypatch.setattr("utils.save_picture", save)
    gan = SimpleNamespace(device="cpu", synthesize=synthesize)
    write_swaps(gan, [batch, batch], [tmp_path / "first.jpg", tmp_path / "second.jpg"])
    assert saved == ["first.jpg", "second.jpg"]


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
    assert "lies inside the source" in refused(used(run, "generate", "--output", faces / "made"))
    assert "--output is missing; name the data directory" in refused(used(run, "generate"))


def test_a_run_with_an_averaged_generator_resumes_exactly(run, faces, tmp_path):
    succeeds(train_command("--checkpoint_dir", run, "--restore", "--epochs", 2))
    options, whole = read_json(run / "options.json"), tmp_path / "whole"
    assert options["ema"] == 0.9 and options["epochs"] == 2
    trained(faces, whole, "-a", *EXPRESSIONS, "--epochs", 2, *BEYOND)
    for name in ("Enc", "Dec", "D1"):
        ours, theirs = (torch.load(folder / "model" / f"{name}_iter_temp.pth", weights_only=True)
                        for folder in (run, whole))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
