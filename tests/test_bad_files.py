"""Whatever an option, JSON file or checkpoint holds, a command works or ends with one line: no traceback, no hang."""

import contextlib
import io
import json
import os
import pickle
import random
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest import cases, refused, works_or_is_refused
from datasets.align import _open_output
from datasets.drawing.data_set import describe
from models.judge import ExpressionJudge, load_judge, save_judge
from models.checkpoints import (LARGEST, fault_of_weights, gan_config, load_recognizer, load_swap_gan, on_cpu,
                                read_perceptual, save_checkpoint, save_gan, save_recognizer)
from models.gan import SwapGAN
from models.networks import VGG, Encoder, VGG_fx
from models.recognizer import Recognizer
from options.command_line import resolve
from options.config import DEFAULTS, LARGEST as LARGEST_VALUE, OPTIONS, GANShape
from training.run_directory import StateStore
from training.trainer import exploded

CPU = torch.device("cpu")
seeds = st.integers(0, 2 ** 32 - 1)


# ------------------------------------------------------------------------------------------------------ mutations

def nested_lists(depth: int) -> list:
    return [nested_lists(depth - 1)] if depth else []


PLAIN = [None, True, False, 0, -1, 1, 33, 10 ** 9, 10 ** 20, -10 ** 20, 0.5, float("nan"), float("inf"), -float("inf"),
         "", "x", "\0", "ü" * 300, "a" * 5000, [], {}, [1], ["a", "a"], [[]], {"a": {}}, nested_lists(50)]
TENSORS = [torch.zeros(()), torch.zeros(3), torch.full((2, 2), float("nan")), torch.ones(2, dtype=torch.int64),
           torch.ones(3, dtype=torch.complex64), torch.zeros(0, 5), torch.tensor(float("inf")),
           torch.zeros(1).expand(1000, 1000), torch.ones(2, 3, 4, 5)]
CHANGES = [lambda v: v.double() * float("nan"), lambda v: v.long(), lambda v: v.to(torch.complex64),
           lambda v: v.float() + float("inf"), lambda v: v.flatten()[:1], lambda v: v[None]]


def mutated(value: Any, seed: int, values: Sequence[Any] = PLAIN) -> Any:
    """Return a copy of nested dicts and lists with one to three things replaced, removed or added, by the seed."""
    draw = random.Random(seed)
    for _ in range(draw.randint(1, 3)):
        value = _mutated(value, draw, values)
    return value


def _mutated(value: Any, draw: random.Random, values: Sequence[Any]) -> Any:
    if isinstance(value, torch.Tensor) and value.numel() and draw.random() < 0.5:
        return draw.choice(CHANGES)(value)
    if not isinstance(value, (dict, list, tuple)) or not value or draw.random() < 0.1:
        return draw.choice(values)
    items = dict(value) if isinstance(value, dict) else dict(enumerate(value))
    key = draw.choice(list(items))
    if draw.random() < 0.15:
        del items[key]
    elif draw.random() < 0.1:
        items[draw.choice(["new", 7, ""])] = draw.choice(values)
    else:
        items[key] = _mutated(items[key], draw, values)
    return items if isinstance(value, dict) else list(items.values())


# --------------------------------------------------------------------------------------------- flags and JSON files

NUMERIC = sorted(name for name, spec in OPTIONS.items() if spec.type in (int, float))
NOT_ALONE = ["fold", "frames", "tile"]  # used in other modes, or with another flag


@cases(140)
@given(st.sampled_from(NUMERIC), st.sampled_from(["nan", "inf", "-inf", "-1", "0", str(10 ** 20), "1e300", "-0.0", "",
                                                  "9" * 5000, "1_0", "٣", "0x1", "valid"]))
def test_every_numeric_flag(tmp_path, name, word):
    spec = OPTIONS[name]
    valid = spec.default if spec.default is not None else spec.least
    word = str(valid) if word == "valid" else word
    configs: list = []
    if works_or_is_refused(lambda: configs.append(resolve([f"--checkpoint_dir={tmp_path}", f"--{name}={word}"]))):
        value = configs[0].values()[name]
        value = value[0] if isinstance(value, list) else value
        assert spec.fault_of_one(value) is None and -LARGEST_VALUE <= value <= LARGEST_VALUE
        assert spec.least is None or value >= spec.least
    else:
        assert word != str(valid) or name in NOT_ALONE


CONFIG = {"expressions": ["a", "b"], "listed": ["a", "b"], "neutral_name": "b", "image_size": 32, "data_dir": "x",
          "selected_on": "val"}
ALIGNED = {"size": 32, "margin": 0.0, "score": 0.6, "model": None, "landmarks": "points",
           "source": "photos", "points": "0"}
JSON_FILES = [  # the file's name, a valid content, and a function that reads it from its folder
    ("options.json", {**DEFAULTS, "attributes": ["a", "b"]},
     lambda folder: resolve(["--restore", "--checkpoint_dir", str(folder)])),
    ("config.json", {**CONFIG, "gan": vars(GANShape(2, 32, 2))},
     lambda folder: GANShape(**gan_config(folder)["gan"])),
    ("manifest.json", [{"file": f"state_{i:06d}.pth", "sha256": "0" * 64} for i in range(2)],
     lambda folder: StateStore(folder).newest()),
    ("align.json", ALIGNED, lambda folder: _open_output(folder, ALIGNED, False)),
    ("synthetic.json", {"drawing": 1, "seed": 0, "image_size": 32, "subjects_train": 1, "subjects_test": 1,
                        "scenes": 1}, describe)]


@cases(125)
@given(st.sampled_from(JSON_FILES), seeds)
def test_changed_json_files(tmp_path, file, seed):
    name, valid, read = file
    (tmp_path / "images.list").write_text("a 0")  # a finished data set, for describe
    (tmp_path / name).write_text(json.dumps(valid))
    assert works_or_is_refused(lambda: read(tmp_path))
    for text in (json.dumps(mutated(valid, seed)), "[" * 100000, "9" * 100000, "", "NaN"):
        (tmp_path / name).write_text(text)
        works_or_is_refused(lambda: read(tmp_path))


# ------------------------------------------------------------------------------------------- checkpoints of networks

NETWORKS = ["recognizer", "encoder", "decoder", "perceptual"]
JUDGE_CONFIG = {"expressions": ["a", "b"], "image_size": 32, "images": "x", "content": "y"}


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> dict[str, tuple[Path, Callable[[], object]]]:
    """The files of a run's networks, each with a function that reads it."""
    folder = tmp_path_factory.mktemp("networks")
    gan, recognizer = SwapGAN(GANShape(2, 32, 2, label_copy=1)), Recognizer(VGG_fx(2, 2, 4, 2))
    save_gan(folder / "model", gan, {**CONFIG, "gan": dict(vars(gan.shape))}, 1)
    save_recognizer(folder / "VGG", recognizer, Encoder(2), 50.0, CONFIG)
    perceptual, judge = folder / "2_max_ckpt.t7", folder / "judge.pth"
    save_checkpoint(perceptual, {"net": on_cpu(VGG(2, 2, 4)), "acc": 1.0, "step": 1, "config": CONFIG})
    save_judge(judge, ExpressionJudge(2, 32), JUDGE_CONFIG)

    def read_recognizer() -> object:
        return load_recognizer(folder / "VGG", CPU)

    def read_gan() -> object:
        return load_swap_gan(folder / "model", None, ["a", "b"], 32, CPU)

    return {"recognizer": (folder / "VGG" / "max_ckpt.t7", read_recognizer),
            "encoder": (folder / "VGG" / "Enc_max.pth", read_recognizer),
            "decoder": (folder / "model" / "Dec_iter_temp.pth", read_gan),
            "config": (folder / "model" / "config.json", read_gan),
            "perceptual": (perceptual, lambda: read_perceptual(perceptual)),
            "judge": (judge, lambda: load_judge(judge, JUDGE_CONFIG))}


@contextlib.contextmanager
def replaced(path: Path, content: object, **settings: bool) -> Iterator[None]:
    """Write other bytes, or another checkpoint, into a file; restore its content at the end."""
    original, buffer = path.read_bytes(), io.BytesIO()
    if not isinstance(content, bytes):
        torch.save(content, buffer, **settings)
    path.write_bytes(content if isinstance(content, bytes) else buffer.getvalue())
    try:
        yield
    finally:
        path.write_bytes(original)


@cases(10)
@given(st.sampled_from([*NETWORKS, "judge"]), seeds)
def test_changed_checkpoints(networks, which, seed):
    """Any of the files, with other types, sizes and nesting, NaN, integers and complex numbers in it."""
    path, read = networks[which]
    with replaced(path, mutated(torch.load(path, weights_only=True), seed, [*PLAIN, *TENSORS])):
        works_or_is_refused(read)


@cases(40)
@given(st.sampled_from([*NETWORKS, "config"]), st.floats(0, 1), st.integers(0, 7), st.booleans())
def test_truncated_and_bit_flipped_checkpoints(networks, which, place, bit, is_truncated):
    path, read = networks[which]
    content = bytearray(path.read_bytes())
    position = min(int(place * len(content)), len(content) - 1)
    content[position] ^= 0 if is_truncated else 1 << bit
    with replaced(path, bytes(content[:position] if is_truncated else content)):
        works = works_or_is_refused(read)
        assert not (is_truncated and works and which != "config")


class CreatesAFolder:
    """An object whose pickle runs code when it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("created",)


@pytest.mark.parametrize("which", NETWORKS)
@pytest.mark.parametrize("value", [3, torch.zeros(3), {"net": {"features.0.weight": torch.zeros(2, 3, 3, 3)}},
                                   CreatesAFolder(), {"net": {"main.0.0.weight": CreatesAFolder()}}])
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_foreign_checkpoints_are_refused_and_run_no_code(networks, tmp_path, monkeypatch, which, value, kind):
    monkeypatch.chdir(tmp_path)
    path, read = networks[which]
    with replaced(path, pickle.dumps(value) if kind == "pickle" else value,
                  _use_new_zipfile_serialization=kind == "zip"):
        assert not works_or_is_refused(read)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key, value", [
    ("image_size", 33), ("image_size", "32"), ("expressions", "ab"), ("data_dir", 7), ("expressions", ["a", "a"])])
def test_the_line_names_file_and_key(networks, key, value):
    path, read = networks["recognizer"]
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["config"][key] = value
    with replaced(path, checkpoint):
        line = refused(read)
    assert "max_ckpt.t7" in line and f'"{key}"' in line


@pytest.mark.parametrize("change", CHANGES[:4])
def test_weights_that_are_no_numbers_are_refused(networks, change):
    (path, read), key = networks["encoder"], "main.2.0.weight"
    state = torch.load(path, weights_only=True)
    with replaced(path, {**state, key: change(state[key])}):
        assert f"{key} holds" in refused(read)


# ---------------------------------------------------------------------------------------------------- training states

def test_exploded_networks_are_reported():
    finite = {"net.weight": torch.ones(3)}
    assert exploded({"gan": {"generator": finite, "optimizer_g": {"x": torch.tensor(float("nan"))}}}) is None
    for value in (float("nan"), float("inf"), 1e28, -2 * LARGEST):
        phase, fault = exploded({"perceptual": {"recognizer": {"network": {"w": torch.tensor([0.0, value])}}}})
        assert phase == "perceptual" and "network: w holds" in fault
    assert fault_of_weights({"w": torch.zeros(1).expand(10 ** 9, 10 ** 3)}) is not None
