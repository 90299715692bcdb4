"""Training and the matrix as a user types them: the files that they write, and how they reject bad input."""

import csv
import os
import re
import shutil
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

import datasets.align
import datasets.check
import datasets.convert
import test_matrix_multi
from conftest import (EXPRESSIONS, REPOSITORY, TINY, command, evaluated, fill, keep_networks,
                      matrix_command, matrix_of, refused, restored, snapshot, succeeds, tiny,
                      train_command, trained)
from datasets.drawing.data_set import make_dataset
from datasets.layout import read_layout, write_layout
from models.checkpoints import load_checkpoint
from options.command_line import resolve
from utils import read_json

IMAGES = REPOSITORY / "images"


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def test_a_run_writes_the_files_of_the_published_code_grids_and_all_metrics(finished):
    for name in ("Enc", "Dec", "D1", "D2"):
        state = torch.load(finished / "model" / f"{name}_iter_temp.pth", weights_only=True)
        assert all(isinstance(value, torch.Tensor) and value.device.type == "cpu" for value in state.values())
        assert not any(key.startswith("module.") for key in state)
    checkpoint = torch.load(finished / "VGG" / "max_ckpt.t7", weights_only=True)
    assert {"net", "acc", "step", "config"} == checkpoint.keys() and 0 <= checkpoint["acc"] <= 100
    assert checkpoint["config"]["expressions"] == EXPRESSIONS and checkpoint["config"]["image_size"] == 32
    assert (finished / "VGG" / "Enc_max.pth").is_file() and (finished / "VGG_loss" / "6_max_ckpt.t7").is_file()
    assert len((finished / "splits" / "images_val.list").read_text().splitlines()) == 6
    assert read_json(finished / "options.json")["gan_raw"] == 3
    grid = Image.open(finished / "img" / "epoch_002.jpg")
    assert grid.width > 8 * 67 and grid.height > 6 * 67  # A, B, C, D, A', B' of eight pairs
    logs = (rows_of(finished / "log" / f"{name}.csv") for name in ("metrics", "speed"))
    metrics, speeds = ({(row["phase"], row["name"]) for row in rows} for rows in logs)
    assert {phase for phase, _ in metrics} >= {"perceptual", "gan", "recognizer", "gan_epoch", "recognizer_epoch"}
    assert {name for phase, name in metrics if phase == "gan"} >= {"D", "D1", "G", "adv", "vgg", "l1", "l2", "tv"}
    assert speeds == {(phase, "images_per_second") for phase in ("perceptual", "gan", "recognizer")}


def test_the_matrix_needs_nothing_but_the_directory_and_writes_every_prediction(finished, faces, tmp_path):
    output = succeeds(matrix_command("--resume_dir", finished / "VGG", "--output_dir", tmp_path))
    report, rows = matrix_of(tmp_path), rows_of(tmp_path / "predictions.csv")
    assert report["images"] == 18 and f"accuracy {report['accuracy']:.2f} %" in output
    assert list(rows[0]) == ["file", "label", "predicted", *EXPRESSIONS]
    listed = [line.split() for line in (faces / "images_test.list").read_text().splitlines()]
    assert [[row["file"], EXPRESSIONS.index(row["label"])] for row in rows] == [[name, int(n)] for name, n in listed]
    counts = [[sum(row["label"] == a and row["predicted"] == b for row in rows) for b in EXPRESSIONS]
              for a in EXPRESSIONS]
    assert counts == report["counts"] == matrix_of(finished / "test_result")["counts"]
    for row in rows:
        probabilities = [float(row[name]) for name in EXPRESSIONS]
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert EXPRESSIONS[probabilities.index(max(probabilities))] == row["predicted"]
    low, high = report["accuracy_interval"]
    assert low <= report["accuracy"] <= high and report["interval"]["drawn_again"] == "subjects"
    wrong = 18 - sum(report["counts"][i][i] for i in range(6))
    assert abs(Image.open(tmp_path / "mistakes.jpg").height - 182 * -(-wrong // 2)) < 120  # two cards in a row
    assert Image.open(tmp_path / "Con_Matrix.png").width > 600


def test_a_run_knows_its_images_wherever_they_lie(
        finished_copy, faces, broken, tmp_path, monkeypatch):
    other = tmp_path / "other"
    make_dataset(other, image_size=32, subjects_train=6, subjects_test=3, scenes=1, seed=1)  # the same names
    monkeypatch.chdir(tmp_path)
    assert read_json(finished_copy / "options.json")["data_dir"] == str(faces)
    evaluate = ["--mode", "evaluate", "--data_dir"]
    line = refused(restored(finished_copy, *evaluate, "other"))
    assert "training images are not those of the run in" in line
    assert not (finished_copy / "synthesis.json").exists()
    succeeds(restored(finished_copy, *evaluate, "broken"))
    assert read_json(finished_copy / "synthesis.json")["data_dir"] == str(broken)
    argv = ["--resume_dir", finished_copy / "VGG" / "max_ckpt.t7", "--output_dir", tmp_path / "out"]
    succeeds(matrix_command(*argv))  # a file stands for its directory
    faces.rename(tmp_path / "away")
    try:
        refused(matrix_command(*argv), "directory that they have moved to with --data_dir")
        other.rename(faces)
        refused(matrix_command(*argv), "testing images are not those of the run")
    finally:
        shutil.rmtree(faces, ignore_errors=True)
        (tmp_path / "away").rename(faces)


def test_the_matrix_knows_the_validation_split_of_the_run(finished, tmp_path):
    for split, images in (("val", 6), ("train", 30), ("all", 54)):
        assert evaluated(finished, tmp_path, "--split", split)["images"] == images


def test_the_matrix_overwrites_its_own_results_alone(finished, tmp_path):
    argv = ["--resume_dir", finished / "VGG", "--output_dir", tmp_path]
    for name, content in (("predictions.csv", "file,rater,label\na.png,me,smile\n"), ("mistakes.jpg", "mine"),
                          ("confusion_matrix.json", '{"mine": 1}')):
        (tmp_path / name).write_text(content)
        refused(matrix_command(*argv), name, "--output_dir")
        assert snapshot(tmp_path) == {name: content.encode()}
        (tmp_path / name).unlink()
    assert evaluated(finished, tmp_path) == evaluated(finished, tmp_path)


def test_the_published_codes_own_files_are_read(finished, faces, tmp_path):
    """PyTorch 1.0's format, DataParallel's prefix, the accuracy of either numpy, no config."""
    state = {path.name: torch.load(path, weights_only=True)
             for path in (*finished.glob("model/*_temp.pth"), *finished.glob("VGG/*max*"))}
    network = {f"module.{key}": value for key, value in state["max_ckpt.t7"]["net"].items()}
    recognizer = {"net": network, "acc": numpy.float64(12.5), "step": 7.0}
    for name, value in (("VGG/max_ckpt.t7", recognizer), ("VGG/Enc_max.pth", state["Enc_max.pth"]),
                        ("model/Enc_iter_010.pth", state["Enc_iter_temp.pth"]),
                        ("model/Dec_iter_010.pth", state["Dec_iter_temp.pth"])):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        torch.save(value, tmp_path / name, _use_new_zipfile_serialization=False)
    report = evaluated(tmp_path, tmp_path, "--data", 2, "--data_dir", faces, "--image_size", 32)
    assert report["counts"] == matrix_of(finished / "test_result")["counts"]
    content = (tmp_path / "VGG/max_ckpt.t7").read_bytes()
    for module in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        content, count = re.subn(rb"cnumpy\._?core\.multiarray", b"c" + module, content)
        assert count
        (tmp_path / "VGG/max_ckpt.t7").write_bytes(content)
        assert load_checkpoint(tmp_path / "VGG/max_ckpt.t7")["acc"] == 12.5
    images = ["-i", IMAGES / "smile.jpg", "-t", IMAGES / "neutral.jpg"]
    swap = ["--mode", "test", "--swap_list", 2, 5, *images, "-o"]
    succeeds(restored(finished, *swap, tmp_path / "a.png"))
    succeeds(restored(tmp_path, *swap, tmp_path / "b.png", "--restore", 10, "--image_size", 32))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_reordered_expressions_keep_the_labels_of_their_lists(broken, tmp_path, monkeypatch):
    """The lists of --data name no expressions; the run knows them, also where they have moved."""
    (broken / "expressions.txt").unlink()
    monkeypatch.chdir(tmp_path)
    shutil.copytree(broken, "datasets/multiple")
    order = EXPRESSIONS[::-1]
    succeeds(train_command("-a", *order, "--data", 2, "--checkpoint_dir", "run", *TINY))
    report = evaluated(tmp_path / "run", tmp_path)
    assert report["counts"] == matrix_of(tmp_path / "run" / "test_result")["counts"]
    assert report["expressions"] == order and report["images"] == 18
    shutil.move("datasets/multiple", "moved")
    moved = ["--data_dir", "moved"]
    succeeds(restored("run", "--mode", "generate", "--output", "generated", *moved))
    test = {sample.name.removeprefix("real_test_"): order[sample.label] for sample in read_layout("generated").test}
    assert test == {sample.name: EXPRESSIONS[sample.label] for sample in read_layout("moved", EXPRESSIONS).test}
    succeeds(restored("run", "--epochs", 2, *moved))


@pytest.mark.parametrize("listed", [0, 6])
def test_without_selection_every_image_trains_and_the_last_recognizer_is_kept(broken, tmp_path, listed):
    """Listed validation images are evaluated nevertheless."""
    run, lines = tmp_path / "run", (broken / "images.list").read_text().splitlines(keepends=True)
    if listed:
        (broken / "images_val.list").write_text("".join(lines[:listed]))
        (broken / "images.list").write_text("".join(lines[listed:]))
    output = trained(broken, run, "--epochs", 2, "--select_on", "none")
    assert f"{36 - listed} training and {listed} validation images" in output
    kept = torch.load(run / "VGG" / "max_ckpt.t7", weights_only=True)
    last = torch.load(max((run / "state").glob("*.pth")), weights_only=True)["phases"]["recognizer"]["recognizer"]
    assert kept["step"] == last["steps"] and kept["config"]["selected_on"] == "none"
    assert all(torch.equal(value, last["network"][key]) for key, value in kept["net"].items())
    assert ("val_acc" in (run / "log" / "metrics.csv").read_text()) == bool(listed)


def test_restore_n_resumes_after_epoch_n_with_its_networks(finished_copy):
    keep_networks(finished_copy, 1)
    shutil.rmtree(finished_copy / "state")
    rows = (finished_copy / "log" / "metrics.csv").read_text()
    best = torch.load(finished_copy / "VGG" / "max_ckpt.t7", weights_only=True)
    output = succeeds(restored(finished_copy, "--restore", 1))
    assert "gan epoch 1" not in output and "gan epoch 2" in output
    assert "recognizer epoch 1" in output  # the round that is due after epoch 1 comes first
    after = torch.load(finished_copy / "VGG" / "max_ckpt.t7", weights_only=True)
    assert after["acc"] >= best["acc"] and (after["step"] > best["step"] or after["acc"] == best["acc"])
    assert (finished_copy / "log" / "metrics.csv").read_text().startswith(rows)


@pytest.mark.parametrize("name, change, messages", [
    ("images.list", lambda text: text.replace(b"_0002.jpg 1", b"_0002.jpg"), ["line 2", "<file name> <label>"]),
    ("data/train_0005.jpg", lambda content: content[:-200], ["listed images", "train_0005.jpg (cannot be decoded)"]),
    ("images_gan_nature.list", lambda _: b"train_0001_train_0003.jpg 0\n", ["train_0003.jpg is smile", "--neutral"]),
    ("images_test.list", lambda text: re.sub(rb".* [012]\n", b"", text), ["no test image of these expressions"])])
def test_bad_data_is_refused_before_training(broken, tmp_path, name, change, messages):
    path = broken / name
    path.write_bytes(change(path.read_bytes() if path.exists() else b""))
    names = [*EXPRESSIONS[:3], "--targets", "any"] if name == "images_test.list" else EXPRESSIONS
    refused(train_command(*tiny(broken, tmp_path / "run", "-a", *names)), *messages)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("options, messages", [
    (["--image_size", 48], ["--image_size 48", "multiple of 32"]),
    (["--vgg_width", 8], ["--vgg_width 8", "less than twice"]),
    (["--restore"], ["--restore", "no training state"]),
    (["--restore", 30], ["--restore 30", "Enc_iter_030.pth"]),
    (["--neutral", "calm"], ["--neutral calm"]),
    (["--perceptual", "nowhere.t7"], ["--perceptual", "nowhere.t7: no such file"]),
    (["--vgg_init", "imagenet"], ["ImageNet weights only for --vgg_width 64", "--vgg_init none"]),
    (["--batch_size", 0], ["--batch_size 0"]),
    (["--checkpoint_dir", ""], ["--checkpoint_dir", "must not be empty"])])
def test_bad_training_options_are_refused(faces, tmp_path, options, messages):
    refused(train_command(*tiny(faces, tmp_path / "run", *options)), *messages)
    assert not (tmp_path / "run").exists()


def test_patterns_that_no_shell_has_replaced_name_runs_and_others_are_refused(finished, tmp_path):
    for name in ("seed_00", "seed_01"):
        fill(tmp_path / name, "VGG/max_ckpt.t7")
        (tmp_path / f"{name}.txt").touch()  # its output with --jobs
    runs = [os.path.join(tmp_path, name) for name in ("seed_00", "seed_01")]
    assert test_matrix_multi.matching([f"{tmp_path}/seed_*/VGG", "absent"]) == [
        *(os.path.join(run, "VGG") for run in runs), "absent"]
    assert test_matrix_multi.matching([f"{tmp_path}/seed_*"]) == runs
    for name, message in (("nowhere", "no such directory"), ("model", "holds no max_ckpt.t7")):
        refused(matrix_command("--resume_dir", finished / name), message)


@pytest.mark.parametrize("argv, name, value", [  # abbreviations that the published parser took; its lists of GPUs
    (["--vgg_l"], "vgg_lr", 1e-3), (["--targ", "t.jpg"], "target", ["t.jpg"]), (["--G", "9"], "G_max", 9),
    (["--no_vgg_loss"], "lambda_vgg_loss", 0), (["--no-vgg_loss"], "lambda_vgg_loss", 0),
    (["--vgg_loss"], "lambda_vgg_loss", 15), (["--no_alpha5"], "alpha5", False),
    (["--no_l2_loss", "--lambda_l2=3"], "lambda_l2_loss", 0), (["--mu"], "multi_add_gan", True),
    (["--targets", "any"], "targets", "any"), (["--vgg_lr", "1"], "vgg_lr", 1), (["--epo", "3"], "epochs", 3),
    (["--gpu", "0,1"], "gpu", [0, 1]), (["-g", "1,0", "2"], "gpu", [1, 0, 2]), (["--gpu=-1"], "gpu", [-1])])
def test_old_scripts_keep_their_meaning(argv, name, value):
    mode = ["--mode", "grid", "--restore", "--checkpoint_dir", "x", "--input", "i"] if name == "target" else []
    assert resolve([*mode, *argv]).values()[name] == value
    if name == "gpu":
        assert test_matrix_multi.build_parser().parse_args(argv).gpu == value


@pytest.mark.parametrize("argv, message", [
    (["--vgg", "1"], "ambiguous option: --vgg"), (["--gpu", "0,x"], "--gpu x: must be"),
    (["--gpu", "0,-2"], "--gpu -2: must be from -1"),
    (["--data_dir=~nobody-of-this-name/d"], "there is no such user")])
def test_arguments_without_one_meaning_are_refused(argv, message):
    refused(lambda: resolve(argv), message)


@pytest.mark.parametrize("parser, argv", [
    (resolve, "--data_dir=~/d --checkpoint_dir=~/c --perceptual=~/p --vgg_init=~/i --restore"),
    (resolve, "--mode=grid --input=~/i --target=~/t --align=~/a --output=~/o.png"),
    (test_matrix_multi, "--res=~/r --against=~/a --data_dir=~/d --output_dir=~/o"),
    (datasets.convert, "csv ~/t.csv --root=~/r --out=~/o"),
    (datasets.check, "d --sheet=~/s.png"),
    (datasets.align, "~/s ~/o --model=~/m --landmarks=~/l")])
def test_the_home_directory_is_found_behind_equals_in_every_command(
        tmp_path, monkeypatch, parser, argv):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    parse = parser if parser is resolve else parser.build_parser().parse_args
    values = str(parse(argv.split()))
    assert "~" not in values
    assert all(f"{tmp_path}/{path}" in values for path in re.findall(r"~/([\w.]+)", argv))


def test_flags_of_the_published_code_are_explained_and_its_scripts_work(faces, tmp_path):
    flags = ["--resume", "--resume_dir", "x", "--VGG", "--vgg_mode", "train", "--vgg_loss"]
    flags += ["--std", 0.2, "--label_copy", 20, "--select_on", "test", "--G_max", 0]
    result = train_command(*tiny(faces, tmp_path / "run", *flags))
    succeeds(result)
    for flag in ("--resume", "--resume_dir", "--VGG", "--vgg_mode", "--vgg_loss", "--std", "--label_copy"):
        assert f"note: {flag} has no effect here: " in result.stderr
    assert "lower --lr if it grows, else raise --G_max" in result.stderr and "  D updated 0 %  " in result.stdout
    assert "36 training and 0 validation images" in result.stdout  # --select_on test cuts no validation split
    metrics = (tmp_path / "run" / "log" / "metrics.csv").read_text()
    assert "gan_epoch,1,0,D_updated," in metrics and "recognizer_epoch,1,0,best_test_acc," in metrics


FIVE = EXPRESSIONS[:5]


@pytest.fixture(scope="module")
def expressive(tmp_path_factory):
    """Drawn faces without the neutral ones: 4 persons to train on and 2 to test on, with 5 expressions each."""
    root = tmp_path_factory.mktemp("data") / "faces"
    make_dataset(root, image_size=32, subjects_train=4, subjects_test=2, scenes=1)
    layout = read_layout(root, FIVE)
    write_layout(root, FIVE, {"train": layout.train, "test": [s for s in layout.test if 0 <= s.label < 5]})
    return root


def test_training_without_a_neutral_expression_names_both_options(expressive, tmp_path):
    argv = tiny(expressive, tmp_path / "run")
    line = refused(train_command(*argv))
    assert "no expression is called neutral (disgust scream smile squint surprise)" in line
    assert "with --neutral NAME, or use the faces of all with --targets any" in line
    root = shutil.copytree(expressive, tmp_path / "faces")
    (root / "expressions.txt").write_text("disgust scream smile squint neutral\n")
    line = refused(train_command(*argv, "--data_dir", root, "-a", "smile", "scream"))  # neutral is left out of -a
    assert "no expression is called neutral (smile scream)" in line and not (tmp_path / "run").exists()
    assert "note: no expression is called neutral: training needs --neutral NAME or --targets any" in succeeds(
        command("-m", "datasets.check", expressive))


def test_a_run_with_all_targets_is_used_and_resumed_without_neutral(expressive, tmp_path):
    run, generated = tmp_path / "run", tmp_path / "generated"
    trained(expressive, run, "-a", *FIVE, "--targets", "any")
    for config in (read_json(run / "model" / "config.json"),
                   torch.load(run / "VGG" / "max_ckpt.t7", weights_only=True)["config"]):
        assert config["neutral_name"] is None and config["expressions"] == FIVE
    test = [sample.path for sample in read_layout(expressive).test[:2]]
    for argv in (["generate", "--output", generated], ["evaluate"],
                 ["grid", "-o", tmp_path / "g.png"],
                 ["test", "--swap_list", 0, 1, "-i", test[0], "-t", test[1], "-o", tmp_path / "swap.png"]):
        succeeds(train_command("--mode", *argv, "--checkpoint_dir", run))
    layout = read_layout(generated)
    assert (list(layout.expressions), layout.neutral, layout.counts("test")) == (FIVE, None, [2] * 5)
    by_name = {sample.name: sample.label for sample in read_layout(expressive).train}
    made_from = (generated / "made_from.list").read_text().splitlines()
    assert {by_name[line.split()[2]] for line in made_from} == set(range(5))  # the targets
    assert read_json(run / "synthesis.json")["data_dir"] == str(expressive)
    assert evaluated(run, tmp_path)["images"] == 10
    argv = ["--mode", "generate", "--output", tmp_path / "other"]
    line = refused(restored(run, *argv, "--targets", "neutral"))
    assert "no expression is called neutral" in line and "--targets any" in line
    succeeds(restored(run, "--epochs", 2))


def test_a_perceptual_network_near_chance_stops_the_run(tmp_path):
    make_dataset(tmp_path / "faces", image_size=32, subjects_train=22, subjects_test=1, scenes=1)
    lines = (tmp_path / "faces" / "images.list").read_text().splitlines(keepends=True)
    (tmp_path / "faces" / "images.list").write_text("".join(lines[:66]))
    (tmp_path / "faces" / "images_val.list").write_text("".join(lines[66:]))
    argv = tiny(tmp_path / "faces", tmp_path / "run", "--perceptual_lr", 0)
    refused(train_command(*argv), "near chance")
    assert not (tmp_path / "run" / "VGG_loss").exists()
    succeeds(restored(tmp_path / "run", "--force"))
    assert (tmp_path / "run" / "VGG_loss" / "6_max_ckpt.t7").is_file()
