"""Whatever a file, flag or environment says, a command works or ends in one line: no traceback, no hang."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import utils
from conftest import REPOSITORY, cases, refused, works_or_is_refused
from datasets import convert
from datasets.aligning.aligner import Options
from datasets.aligning.directory import RECORD, _open_output
from datasets.checking.directory import check_directory
from datasets.drawing.data_set import describe
from datasets.layout import Sample, check_images, check_splits, read_layout
from datasets.lists import is_integer, read_label_list
from datasets.loading import Images
from datasets.pictures import read_image
from datasets.plans import real_plan, recognizer_plan
from datasets.splits import read_pairs, with_validation
from evaluation.judge import ExpressionJudge, load_judge, save_judge
from evaluation.metrics import Report
from models.backbones import VGG_fx
from models.checkpoints import gan_config, load_recognizer, load_swap_gan, read_perceptual, save_gan, save_recognizer
from models.generator import Encoder
from models.recognizer import Recognizer
from models.swap_gan import SwapGAN
from models.vgg import VGG
from models.state_dicts import LARGEST, fault_of_weights, on_cpu
from options import schema
from options.command_line import read_config
from options.config import DEFAULTS, OPTIONS, RUN_KEYS
from options.option import LARGEST as LARGEST_VALUE
from options.recipes import GANShape
from training.launch import check_compiler
from training.memory import check_memory, needed
from training.state import StateStore, exploded

CPU = torch.device("cpu")


# ------------------------------------------------------------------------------------------------------ mutations

def deep(depth: int) -> list:
    """Lists in lists."""
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


PLAIN = [None, True, False, 0, -1, 1, 33, 10 ** 9, 10 ** 20, -10 ** 20, 0.5, float("nan"), float("inf"), -float("inf"),
         "", "x", "\0", "ü" * 300, "a" * 5000, [], {}, [1], ["a", "a"], [[]], {"a": {}}, deep(50)]
TENSORS = [torch.zeros(()), torch.zeros(3), torch.full((2, 2), float("nan")), torch.ones(2, dtype=torch.int64),
           torch.ones(3, dtype=torch.complex64), torch.zeros(0, 5), torch.tensor(float("inf")),
           torch.zeros(1).expand(1000, 1000), torch.ones(2, 3, 4, 5)]
seeds = st.integers(0, 2 ** 32 - 1)


def mutated(value: Any, seed: int, values: Sequence[Any] = PLAIN) -> Any:
    """A copy of nested dicts and lists with one to three things replaced, removed or added, by the seed."""
    draw = random.Random(seed)
    for _ in range(draw.randint(1, 3)):
        value = _mutated(value, draw, values)
    return value


def _mutated(value: Any, draw: random.Random, values: Sequence[Any]) -> Any:
    if isinstance(value, torch.Tensor) and value.numel() and draw.random() < 0.5:
        changed = draw.choice([lambda v: v.double() * float("nan"), lambda v: v.long(), lambda v: v.flatten()[:1],
                               lambda v: v.to(torch.complex64), lambda v: v[None], lambda v: v.float() + float("inf")])
        return changed(value)
    if not isinstance(value, (dict, list, tuple)) or not value or draw.random() < 0.1:
        return draw.choice(values)
    if isinstance(value, dict):
        value, key = dict(value), draw.choice(list(value))
        if draw.random() < 0.15:
            del value[key]
        elif draw.random() < 0.1:
            value[draw.choice(["new", 7, ""])] = draw.choice(values)
        else:
            value[key] = _mutated(value[key], draw, values)
        return value
    position = draw.randrange(len(value))
    if draw.random() < 0.15:
        return [*value[:position], *value[position + 1:]]
    return [*value[:position], _mutated(value[position], draw, values), *value[position + 1:]]


NUMERIC = sorted(name for name, spec in OPTIONS.items() if spec.type in (int, float))


# --------------------------------------------------------------------------------------------------- flags

@cases(140)
@given(st.sampled_from(NUMERIC), st.sampled_from(["nan", "inf", "-inf", "-1", "0", str(10 ** 20), "1e300", "-0.0", "",
                                                  "9" * 5000, "1_0", "٣", "0x1", "valid"]))
def test_every_numeric_flag(tmp_path, name, word):
    spec = OPTIONS[name]
    valid = spec.default if spec.default is not None else spec.least
    word = str(valid) if word == "valid" else word
    words = [f"--checkpoint_dir={tmp_path}", f"--{name}={word}"]
    found: list = []
    if works_or_is_refused(lambda: found.append(read_config(words))):
        value = found[0].values()[name]
        value = value[0] if isinstance(value, list) else value
        assert spec.fault_of_one(value) is None and -LARGEST_VALUE <= value <= LARGEST_VALUE
        assert spec.least is None or value >= spec.least
    else:
        assert word != str(valid) or name in ("fold", "frames", "judge_epochs", "margin", "every")


@cases(30)
@given(seeds)
def test_options_of_a_run(tmp_path, seed):
    kept = {**DEFAULTS, "attributes": ["a", "b"], "checkpoint_dir": str(tmp_path)}
    (tmp_path / "options.json").write_text(json.dumps(mutated(kept, seed)))
    works_or_is_refused(lambda: read_config(["--restore", "--checkpoint_dir", str(tmp_path)]))


def test_options_of_another_program_are_no_run(tmp_path):
    (tmp_path / "options.json").write_text(json.dumps({name: 1 for name in list(RUN_KEYS)[1:]}))
    assert "no options of a run" in refused(lambda: read_config(["--auto_restore", "--checkpoint_dir", str(tmp_path)]))


def test_what_exceeds_the_machine_is_refused_with_the_figure(faces):
    layout = read_layout(faces)
    for words in (["--base_width=1024", "--vgg_width=1024", "--fc_width=65536"], ["--batch_size=65536"],
                  ["--vgg_batch_size=65536"], ["--image_size=2048", "--batch_size=1000"]):
        options = read_config(["--vgg_init=none", *words])
        assert "GiB of memory are needed" in refused(lambda: check_memory(options, layout, False, 1))
    check_memory(read_config(["--image_size=64", "--vgg_width=8", "--base_width=16"]), layout, False, 1)


def test_images_in_memory_are_those_that_training_looks_at(faces):
    layout = read_layout(faces)
    options = read_config(["--cache=ram", "--image_size=32"])
    assert needed(options, layout)[2] == 3 * 32 ** 2 * len(layout.train) and layout.test


# ----------------------------------------------------------------------------------------------------- JSON

@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    gan, recognizer = SwapGAN(GANShape(2, 32, 2, label_copy=1)), Recognizer(VGG_fx(2, 2, 4, 2))
    config = {"expressions": ["a", "b"], "listed": ["a", "b"], "neutral_name": "b", "image_size": 32,
              "data_dir": "x", "selected_on": "val"}
    save_gan(folder / "model", gan, {**config, "gan": dict(vars(gan.shape))}, 1)
    save_recognizer(folder / "VGG", recognizer, Encoder(2), 50.0, config)
    utils.save_checkpoint(folder / "2_max_ckpt.t7", {"net": on_cpu(VGG(2, 2, 4)), "acc": 1.0, "step": 1,
                                                     "config": config})
    save_judge(folder / "judge.pth", ExpressionJudge(2, 32), JUDGED)
    return folder


@cases(40)
@given(seeds)
def test_config_beside_the_gan(networks, tmp_path, seed):
    whole = utils.read_json(networks / "model" / "config.json")
    (tmp_path / "config.json").write_text(json.dumps(mutated(whole, seed)))
    found: list = []
    if works_or_is_refused(lambda: found.append(gan_config(tmp_path))):
        GANShape(**found[0]["gan"])


@cases(15)
@given(seeds)
def test_manifest_of_the_states(tmp_path, seed):
    store = StateStore(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps(mutated(
        [{"file": f"state_{i:06d}.pth", "sha256": "0" * 64} for i in range(2)], seed)))
    works_or_is_refused(store.newest)
    assert not works_or_is_refused(store.load)


@cases(20)
@given(seeds)
def test_records_of_aligned_and_drawn_faces(tmp_path, seed):
    told = {**vars(Options(32, 0.0, False, 0.6, None, "points")), "source": "photos", "points": "0"}
    (tmp_path / "align.json").write_text(json.dumps(mutated(told, seed)))
    works_or_is_refused(lambda: _open_output(tmp_path, told, False))
    (tmp_path / "images.list").write_text("a 0")
    drawn = {"drawing": 1, "seed": 0, "image_size": 32, "subjects_train": 1, "subjects_test": 1, "scenes": 1}
    (tmp_path / "synthetic.json").write_text(json.dumps(mutated(drawn, seed)))
    works_or_is_refused(lambda: describe(tmp_path))
    assert schema.fault_of(told, RECORD) is None


@pytest.mark.parametrize("text", ["[" * 100000, '{"a":' * 100000, "9" * 100000, "", "\0", "NaN", "{", "\xff"])
def test_json_beyond_reason(tmp_path, text):
    for name in ("options.json", "config.json", "manifest.json", "align.json"):
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    refused(lambda: read_config(["--restore", "--checkpoint_dir", str(tmp_path)]))
    refused(lambda: gan_config(tmp_path))
    refused(StateStore(tmp_path).load)
    refused(lambda: _open_output(tmp_path, vars(Options(32, 0.0, False, 0.6, None, "points")), False))


# ----------------------------------------------------------------------------------------------- checkpoints

def loaders(folder: Path) -> dict[str, tuple[Path, Callable[[], object]]]:
    """Return the files of the networks, each with a function that reads it."""
    def recognizer() -> object:
        return load_recognizer(folder / "VGG", CPU)

    def swap_gan() -> object:
        return load_swap_gan(folder / "model", None, ["a", "b"], 32, CPU)

    return {"recognizer": (folder / "VGG" / "max_ckpt.t7", recognizer),
            "encoder": (folder / "VGG" / "Enc_max.pth", recognizer),
            "decoder": (folder / "model" / "Dec_iter_temp.pth", swap_gan),
            "config": (folder / "model" / "config.json", swap_gan),
            "perceptual": (folder / "2_max_ckpt.t7", lambda: read_perceptual(folder / "2_max_ckpt.t7")),
            "judge": (folder / "judge.pth", lambda: load_judge(folder / "judge.pth", JUDGED))}


NETWORKS = ["recognizer", "encoder", "decoder", "perceptual"]
JUDGED = {"expressions": ["a", "b"], "image_size": 32, "images": "x", "content": "y"}


@contextlib.contextmanager
def spoiled(path: Path, content: bytes):
    whole = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(whole)


@cases(10)
@given(st.sampled_from([*NETWORKS, "judge"]), seeds)
def test_checkpoints_of_networks(networks, which, seed):
    """Any of the files, with other types, sizes, nesting, NaN, whole and complex numbers in it."""
    (path, load), buffer = loaders(networks)[which], io.BytesIO()
    torch.save(mutated(torch.load(path, weights_only=True), seed, [*PLAIN, *TENSORS]), buffer)
    with spoiled(path, buffer.getvalue()):
        works_or_is_refused(load)


@pytest.mark.parametrize("key, value", [
    ("image_size", 33), ("image_size", 10 ** 9), ("image_size", "32"), ("expressions", [1, 2]), ("expressions", "ab"),
    ("data_dir", 7), ("data_dir", "a\0b"), ("listed", {}), ("neutral_name", 3), ("expressions", ["a", "a"])])
def test_the_line_names_file_and_key(networks, tmp_path, key, value):
    checkpoint = torch.load(networks / "VGG" / "max_ckpt.t7", weights_only=True)
    checkpoint["config"][key] = value
    torch.save(checkpoint, tmp_path / "max_ckpt.t7")
    line = refused(lambda: load_recognizer(tmp_path, CPU))
    assert "max_ckpt.t7" in line and f'"{key}"' in line


@pytest.mark.parametrize("change", [lambda v: v * float("nan"), lambda v: v + float("inf"), lambda v: v.long(),
                                    lambda v: v.to(torch.complex64)])
def test_weights_that_are_no_numbers_are_refused(networks, tmp_path, change):
    state = torch.load(networks / "model" / "Enc_iter_temp.pth", weights_only=True)
    key = "main.2.0.weight"
    torch.save({**state, key: change(state[key])}, tmp_path / "Enc_max.pth")
    (tmp_path / "max_ckpt.t7").write_bytes((networks / "VGG" / "max_ckpt.t7").read_bytes())
    assert f"{key} holds" in refused(lambda: load_recognizer(tmp_path, CPU))


def test_exploded_networks_are_never_called_good():
    sound = {"net.weight": torch.ones(3)}
    assert exploded({"gan": {"generator": sound, "optimizer_g": {"x": torch.tensor(float("nan"))}}}) is None
    for value in (float("nan"), float("inf"), 1e28, -2 * LARGEST):
        phase, said = exploded({"perceptual": {"recognizer": {"network": {"w": torch.tensor([0.0, value])}}}})
        assert phase == "perceptual" and "network: w holds" in said
    assert fault_of_weights({"w": torch.zeros(1).expand(10 ** 9, 10 ** 3)}) is not None


# --------------------------------------------------------------------------------------------- lists and data

def directory(root: Path, **lists: str) -> Path:
    (root / "data").mkdir(parents=True, exist_ok=True)
    for name, text in {"images": "a.jpg 0\nb.jpg 1\n", "images_test": "t.jpg 0\n", **lists}.items():
        (root / (name + (".txt" if name == "expressions" else ".list"))).write_text(text)
    return root


@pytest.mark.parametrize("word", ["--4", "+-4", "-+4", "++1", "+", "-", "", "1" * 10, "٣"])
def test_labels_that_are_no_numbers(tmp_path, word):
    assert not is_integer(word)
    (tmp_path / "x.list").write_text(f"a.jpg {word}\n")
    refused(lambda: read_label_list(tmp_path / "x.list"))


@pytest.mark.parametrize("lists, words", [
    ({"images": "a.jpg 0\n./a.jpg 1\n"}, "has the label 1 here and 0 before"),
    ({"images": "a.jpg 0\nx/../a.jpg 1\n"}, "has the label 1 here and 0 before"),
    ({"expressions": ""}, "names no expression"), ({"expressions": "a b a"}, "names a twice"),
    ({"expressions": "a " * 5000}, "names 5000 expressions"),
    ({"images": "x" * 5000 + " 0\nb.jpg 1\n"}, "2 of 2 listed images")])
def test_lists_that_contradict_themselves(tmp_path, lists, words):
    asked = ["a", "b"] if "expressions" not in lists else None
    line = refused(lambda: check_images(read_layout(directory(tmp_path, **lists), asked).train))
    assert words in line and len(line) < 1600


@pytest.mark.parametrize("val", ["t.jpg 0\n", "v.jpg 0\n./t.jpg 0\n"])
def test_validation_images_are_not_tested_on(tmp_path, val):
    root = directory(tmp_path, images_val=val)
    assert "images_test.list too" in refused(lambda: check_splits(read_layout(root, ["a", "b"])))


def test_many_missing_and_over_long_names_are_told_at_once(tmp_path):
    samples = [Sample(name, 0, Path(f"{tmp_path}/{name}")) for name in (f"{'x' * 3000}{i}" for i in range(20000))]
    started = time.process_time()
    line = refused(lambda: check_images(samples))
    assert "20000 of 20000" in line and len(line) < 1700 and time.process_time() - started < 5


def test_a_check_of_over_long_names(tmp_path):
    directory(tmp_path, images="x" * 300 + ".jpg 0\nb.jpg 1\n", expressions="a b")
    assert works_or_is_refused(lambda: check_directory(tmp_path))


@pytest.mark.parametrize("words, content", [
    (["rafdb"], {"basic/EmoLabel/list_patition_label.txt": "train_0 5\n", "basic/Image/aligned/x": ""}),
    (["csv"], {"t.csv": f"file,label\na.jpg,{'x' * 200000}\n"}), (["csv"], {"t.csv": f"{'x' * 200000},label\n"}),
    (["csv"], {"t.csv": "file,label\na\0.jpg,x\n"}),
    (["csv"], {"t.csv": "file,label\n" + "".join(f"{'n' * 300}{i}.jpg,{i % 2}\n" for i in range(4))}),
    (["folders", "--expressions", "happy", "sad", "--target_only", "sad"],
     {f"{name}/{i}.png": "image" for name in ("happy", "sad") for i in range(4)})])
def test_sources_that_cannot_be_converted(tmp_path, words, content):
    for name, text in content.items():
        (tmp_path / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "src" / name).write_text(text)
        if text == "image":
            Image.new("RGB", (40, 40)).save(tmp_path / "src" / name)
    source = tmp_path / "src" / ("t.csv" if words[0] == "csv" else "")
    refused(lambda: convert.main([words[0], str(source), "--out", str(tmp_path / "out"), *words[1:]]))
    assert not (tmp_path / "out").exists()


def test_no_batch_of_one_image():
    for count in range(2, 40):
        for size in (2, 3, 5):
            plans = real_plan(count, size, 0), recognizer_plan(numpy.arange(count) % 2, numpy.zeros((1, 2), int), size,
                                                               0, True, 0, 0)
            assert all(len(batch.first) > 1 for plan in plans for batch in plan)
            assert all(sum(len(batch.first) for batch in plan) == count for plan in plans)


# ------------------------------------------------------------------------------- reports, terminals, processes

def test_reports_hold_no_bare_nan(tmp_path):
    report = Report(numpy.array([[3, 1], [0, 0]]))
    utils.write_json(tmp_path / "x.json", {**report.as_dict(["a", "b"]), "nan": float("nan"),
                                           "in": [float("inf"), (1.5,)]})
    found = json.loads((tmp_path / "x.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert found["nan"] is None and found["in"] == [None, [1.5]]


PRINTER = ("import sys; sys.path.insert(0, {0!r}); import utils\n"
           "def main():\n    print('ä – ü'); print('warning: ß', file=sys.stderr)\n"
           "    list(utils.progress(range(3), 'Ö'))\n    raise utils.UserError('– ' + {1!r})\n"
           "utils.run_command(main)")


@pytest.mark.parametrize("redirect", ["", "2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_terminals_without_letters_and_closed_streams(redirect):
    program = PRINTER.format(str(REPOSITORY), "x" * 10000)
    environment = {**os.environ, "sys.executableIOENCODING": "ascii", "LC_ALL": "C"}
    result = subprocess.run(["bash", "-c", f'"$0" -c "$1" {redirect}', sys.executable, program], env=environment,
                            capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and "Traceback" not in result.stdout + result.stderr and len(result.stderr) < 500


@pytest.mark.parametrize("environment", [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": "x"}, {"WORLD_SIZE": "2", "RANK": "0"},
                                         {"WORLD_SIZE": "-1", "RANK": "0", "LOCAL_RANK": "0"}])
def test_several_processes_without_torchrun(monkeypatch, environment):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert "torchrun has not started" in refused(utils.number_of_processes)


def test_two_processes_do_not_share_one_gpu(monkeypatch):
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "2"),
                        ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    with pytest.raises(utils.UserError, match="need 2 different GPUs"):
        utils.pick_device([1])
    assert utils.pick_device([1, 0]).index == 1


def test_a_machine_without_a_compiler(monkeypatch):
    def compiled(function):
        raise RuntimeError("\nno compiler\nfound")

    monkeypatch.setattr(torch, "compile", compiled)
    assert "--compile" in refused(lambda: check_compiler(CPU))


def test_memory_that_is_not_there_is_one_line():
    def hungry(error):
        raise error

    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")):
        assert "not enough memory" in refused(lambda: hungry(error))
    assert "no text" in refused(lambda: "\udcff".encode())


# --------------------------------------------------------------------------------------------------- lists

names = st.sampled_from(["a.jpg", "b_c.jpg", "b_c_d.png", "with space.jpg", "ü.jpg", "a", "../x.jpg", ""])
labels = st.one_of(st.integers(-2, 4).map(str), st.sampled_from(["one", "1.0", "", "0x1", "٣", "99999999999999999999"]))
rows = st.tuples(names, labels, st.sampled_from([" ", "\t", "  ", ","])).map(lambda row: f"{row[0]}{row[2]}{row[1]}")
list_text = st.one_of(st.lists(rows, max_size=6).map("\n".join), st.text(max_size=60)).map(str.encode)
list_bytes = st.one_of(list_text, st.binary(max_size=60))


def bytes_in(folder: Path, **files: bytes) -> Path:
    (folder / "data").mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


@cases(50)
@given(train=list_bytes, test=list_bytes, val=st.none() | list_bytes)
def test_label_lists(tmp_path, train, test, val):
    root = bytes_in(tmp_path, images__list=train, images_test__list=test, **({"images_val__list": val} if val else {}))
    if works_or_is_refused(lambda: with_validation(read_layout(root, ["happy", "sad"]), 0)):
        layout = read_layout(root, ["happy", "sad"])
        assert all(0 <= sample.label < 2 for sample in layout.split("all"))
        assert {s.name for s in layout.train}.isdisjoint(s.name for s in layout.test + layout.val)


@cases(30)
@given(first=st.one_of(list_bytes, st.integers(0, 3).map(lambda n: b"%d" % n)), second=list_bytes,
       body=st.lists(st.tuples(names, st.lists(st.sampled_from(["1", "-1", "0", "x"]), max_size=4)), max_size=4))
def test_attribute_lists(tmp_path, first, second, body):
    content = b"\n".join([first, second, *(" ".join([name, *values]).encode() for name, values in body)])
    root = bytes_in(tmp_path, list_attr_x_train__txt=content, list_attr_x_test__txt=content)
    works_or_is_refused(lambda: read_layout(root))


@cases(20)
@given(subjects=list_bytes, expressions=list_bytes)
def test_subjects_and_names(tmp_path, subjects, expressions):
    root = bytes_in(tmp_path, images__list=b"a.jpg 0\nb.jpg 1\n", images_test__list=b"t.jpg 0\n",
                     subjects__list=subjects, expressions__txt=expressions)
    works_or_is_refused(lambda: with_validation(read_layout(root), 0))


@cases(20)
@given(content=st.one_of(list_bytes, st.lists(st.sampled_from(
    ["a_b_c.jpg 0", "b_c_a.jpg 1", "a_a.jpg 7", "a_a.jpg", "nobody_a.jpg 0"]), max_size=5)
    .map("\n".join).map(str.encode)))
def test_pair_lists(tmp_path, content):
    root = bytes_in(tmp_path, images__list=b"a.jpg 0\nb_c.jpg 1\n", images_test__list=b"t.jpg 0\n")
    train = read_layout(root, ["happy", "sad"]).train
    (root / "pairs.list").write_bytes(content)
    works_or_is_refused(lambda: len(read_pairs(root / "pairs.list", train)))


# -------------------------------------------------------------------------------------------- checkpoints

class CreatesAFile:
    """A pickle that would run code when it is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@cases(40)
@given(which=st.sampled_from([*NETWORKS, "config"]), where=st.floats(0, 1),
       bit=st.integers(0, 7), cut=st.booleans())
def test_truncated_and_bit_flipped_checkpoints(networks, which, where, bit, cut):
    path, load = loaders(networks)[which]
    content = bytearray(path.read_bytes())
    at = min(int(where * len(content)), len(content) - 1)
    if not cut:
        content[at] ^= 1 << bit
    with spoiled(path, bytes(content[:at] if cut else content)):
        worked = works_or_is_refused(load)
        assert not (cut and worked and which != "config")


keys = st.sampled_from(["main.0.0.weight", "features.0.weight", "new_fc.weight", "net", "x"])
state_dicts = st.dictionaries(keys,
                              st.one_of(st.integers(), st.none(), st.text(max_size=3), st.sampled_from(
                                  [(), (0,), (2, 3, 3, 3), (2, 2), (0, 0, 3, 3), (1000, 1)]).map(torch.zeros)),
                              max_size=4)


@cases(20)
@given(which=st.sampled_from(NETWORKS),
       value=st.one_of(state_dicts, state_dicts.map(lambda state: {"net": state}), st.lists(st.integers(), max_size=3),
                       st.integers(), st.just(torch.zeros(3))))
def test_foreign_checkpoints(networks, which, value):
    path, load = loaders(networks)[which]
    buffer = io.BytesIO()
    torch.save(value, buffer)
    with spoiled(path, buffer.getvalue()):
        assert not works_or_is_refused(load)


@cases(10)
@given(which=st.sampled_from(NETWORKS), legacy=st.booleans(),
       inside=st.booleans(), bare=st.booleans())
def test_a_checkpoint_that_would_run_code_is_refused(networks, tmp_path, which, legacy, inside, bare):
    path, load = loaders(networks)[which]
    bomb, buffer = CreatesAFile(str(tmp_path / "created")), io.BytesIO()
    value = {"net": {"main.0.0.weight": bomb}} if inside else bomb
    if bare:
        pickle.dump(value, buffer)
    else:
        torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    with spoiled(path, buffer.getvalue()):
        assert not works_or_is_refused(load)
    assert not (tmp_path / "created").exists()


@cases(10)
@given(newest=st.floats(0, 1), manifest=st.none() | list_bytes | st.sampled_from(
    [b"[]", b"{}", b"[1]", b'[{"file": "../x", "sha256": ""}]', b'[{"file": "state_000001.pth", "sha256": "0"}]']))
def test_damaged_training_states(tmp_path, newest, manifest):
    store = StateStore(tmp_path / "state")
    for path in store.folder.glob("*"):
        path.unlink()
    store.save({"step": 1, "weight": torch.ones(3)})
    store.save({"step": 2, "weight": torch.ones(3)})
    content = store.newest().read_bytes()
    store.newest().write_bytes(content[:int(newest * len(content))])
    if manifest is not None:
        (store.folder / "manifest.json").write_bytes(manifest)
    found: list[dict] = []
    if works_or_is_refused(lambda: found.append(store.load())):
        assert found[0]["step"] == (2 if newest == 1 else 1)
    else:
        assert manifest is not None


# -------------------------------------------------------------------------------------------------- images

def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b""))


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    found = []
    for mode, kind in (("RGB", "JPEG"), ("L", "PNG"), ("P", "GIF"), ("RGBA", "PNG"), ("RGB", "BMP"), ("I", "TIFF"),
                       ("RGB", "WEBP")):
        buffer = io.BytesIO()
        Image.linear_gradient("L").resize((40, 30)).convert(mode).save(buffer, kind)
        found.append(buffer.getvalue())
    return found


@cases(40)
@given(which=st.integers(0, 6), where=st.floats(0, 1), damage=st.sampled_from(["cut", "flip", "zero", "noise", "huge"]),
       ending=st.sampled_from(["jpg", "png", "gif", "txt", ""]), noise=st.binary(max_size=40),
       side=st.sampled_from([0, 1, 10 ** 4, 65000, 2 ** 31 - 1]))
def test_broken_images(tmp_path, pictures, which, where, damage, ending, noise, side):
    from datasets.layout import Sample

    content = bytearray(pictures[which])
    at = min(int(where * len(content)), len(content) - 1)
    content = {"cut": content[:at], "zero": bytearray(), "noise": content[:at] + noise + content[at:],
               "huge": png_header(side, 2 * side), "flip": content}[damage]
    if damage == "flip":
        content[at] ^= 0xFF
    path = tmp_path / f"x.{ending}"
    path.write_bytes(bytes(content))
    sample = Sample(path.name, 0, path)
    works_or_is_refused(lambda: check_images([sample]))
    if works_or_is_refused(lambda: read_image(path, 32)):
        assert read_image(path, 32).size == (32, 32)
        assert Images([sample], 32, "ram")[[0]].shape == (1, 3, 32, 32)
    else:
        assert not works_or_is_refused(lambda: Images([sample], 32, "ram"))
