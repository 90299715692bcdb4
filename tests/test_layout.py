"""Lists → samples, splits and pairs (METHOD §6)."""

from collections import Counter
from pathlib import Path

import numpy
import pytest
from PIL import Image

from conftest import command, refused, shared
from datasets.layout import Sample, check_classes, check_images, read_layout, write_layout
from datasets.splits import pair_lines, read_pairs, sample_pairs, training_pairs, with_kept_validation, with_validation
from utils import UserError

NAMES = ("happy", "sad", "neutral")


def write_lists(root: Path, train: str, test: str = "t.jpg 0\n", **files: str) -> Path:
    (root / "data").mkdir(parents=True)
    for name, text in {"images.list": train, "images_test.list": test, **files}.items():
        (root / name.replace("__", ".")).write_text(text)
    return root


def test_training_is_what_is_in_no_other_list(tmp_path):
    root = write_lists(tmp_path / "d", "a.jpg 0\nb c.jpg 1\nt.jpg 0\nv.jpg 2\n", images_val__list="v.jpg 2\n",
                       subjects__list="a.jpg p1 s1\nv.jpg p2\nb c.jpg p3\n")
    layout = read_layout(root, NAMES)
    assert layout.train == [Sample("a.jpg", 0, root / "data" / "a.jpg", "p1", "s1"),
                            Sample("b c.jpg", 1, root / "data" / "b c.jpg", "p3")]
    assert layout.val == [Sample("v.jpg", 2, root / "data" / "v.jpg", "p2")]
    assert [s.name for s in layout.test] == ["t.jpg"] and layout.counts("train") == [1, 1, 0]


def test_reference_directory_works_as_it_is(tmp_path):
    (tmp_path / "align_5p").mkdir()
    (tmp_path / "list_attr_mine_train.txt").write_text("2\nhappy sad\na.jpg 1 -1\nb.jpg -1 1\n")
    (tmp_path / "list_attr_mine_test.txt").write_text("1\nhappy sad\nc.jpg -1 1\n")
    (tmp_path / "data").mkdir()  # where the published code keeps other pictures
    layout = read_layout(tmp_path, ["happy", "sad"])
    assert [(s.name, s.label) for s in layout.train + layout.test] == [("a.jpg", 0), ("b.jpg", 1), ("c.jpg", 1)]
    assert layout.train[0].path == tmp_path / "align_5p" / "a.jpg"


def test_label_n_marks_target_only_neutral_faces(tmp_path):
    root = write_lists(tmp_path / "d", "a.jpg 0\nb.jpg 1\nn.jpg 2\nm.jpg 2\n", test="t.jpg 0\n",
                       expressions__txt="anger surprise")
    line = refused(lambda: read_layout(root))
    assert "label 2 is out of range" in line and "2 images have it; name its expression in" in line
    assert line.endswith("write target_only behind the names there")
    (root / "expressions.txt").write_text("anger surprise target_only")
    layout = read_layout(root)
    (root / "expressions.txt").unlink()  # the published lists of MMI name nothing
    assert read_layout(root, known=["anger", "surprise"]) == layout
    training = layout.train + layout.target_only
    assert layout.neutral == 2 and [s.name for s in training] == ["a.jpg", "b.jpg", "n.jpg", "m.jpg"]
    assert {training[target].name for _, target in sample_pairs(layout, 0)} == {"n.jpg", "m.jpg"}
    (layout.root / "images_gan_nature.list").write_text("a_m.jpg 0\nn_m.jpg 2\n")
    assert training_pairs(layout, 0, 6).tolist() == [[0, 3]]  # a swap to no class is none to train on


def test_other_data_may_name_its_expressions_in_another_way(tmp_path, capsys):
    root = write_lists(tmp_path / "d", "a.jpg 0\nb.jpg 1\nc.jpg 2\n", "t.jpg 0\nu.jpg 1\nv.jpg 2\n",
                       expressions__txt="Neutral HAPPY contempt")
    layout = read_layout(root, NAMES, user="the recognizer in run/VGG")
    assert [(s.name, s.label) for s in layout.train + layout.test] == [
        ("a.jpg", 2), ("b.jpg", 0), ("t.jpg", 2), ("u.jpg", 0)] and layout.expressions == NAMES
    assert capsys.readouterr().out == (
        f"note: {root}: has no sad, which the recognizer in run/VGG knows as well\n"
        f"note: {root}: 2 of 6 images are left out (1 of 3 test images), which show contempt\n")
    layout = read_layout(root, ["happy", "neutral"])  # as typed with -a
    assert [s.label for s in layout.train] == [1, 0] and "c.jpg" in [s.name for s in layout.left_out]


def test_target_only_faces_of_validation_persons_are_left_out(tmp_path):
    rows = [(f"p{p}_{i}_{label}.jpg", label, f"p{p}") for p in range(20) for i in range(3) for label in range(3)]
    root = write_lists(tmp_path / "d", "".join(f"{name} {label}\n" for name, label, _ in rows),
                       subjects__list="".join(f"{name} {person}\n" for name, _, person in rows),
                       expressions__txt="happy sad target_only")
    layout = read_layout(root)
    split = with_validation(layout, 0)
    persons = {s.subject for s in split.val}
    assert persons and {s.subject for s in split.target_only} == {f"p{p}" for p in range(20)} - persons
    assert len(split.target_only) + len(split.left_out) == len(layout.target_only) == 60
    run = tmp_path / "run" / "splits"
    run.mkdir(parents=True)
    (run / "images_val.list").write_text("".join(f"{s.name} {s.label}\n" for s in split.val))
    assert with_kept_validation(layout, run.parent) == split


@pytest.mark.parametrize("expressions, neutral, label", [
    (NAMES, None, 2), (("Neutral", "happy"), None, 0), (("AN", "NE"), None, None), (NAMES, "sad", 1)])
def test_neutral_is_the_expression_called_so_or_named(tmp_path, expressions, neutral, label):
    root = write_lists(tmp_path / "d", "a.jpg 0\nb.jpg 1\n")
    assert read_layout(root, expressions, neutral=neutral).neutral == label


@pytest.mark.parametrize("files, message", [
    ({"train": "a.jpg 0\n\nb.jpg one\n"}, r"images\.list, line 3: .*<file name> <label>"),
    ({"train": "a.jpg 3\n"}, r"images\.list, line 1: label 3 is out of range.*0 to 2"),
    ({"train": "a.jpg 0\na.jpg 1\n"}, r"line 2: a\.jpg has the label 1 here and 0 before"),
    ({"train": ""}, r"images\.list: lists no image"),
    ({"train": "a.jpg 0\n", "subjects__list": "a.jpg\n"}, r"subjects\.list, line 1")])
def test_a_wrong_line_is_named(tmp_path, files, message):
    with pytest.raises(UserError, match=message):
        read_layout(write_lists(tmp_path / "d", **files), NAMES)


@pytest.mark.parametrize("folder, expressions, message", [
    ("d", ["happy", "angry", "neutral"], "unknown expression angry.*has happy sad neutral"),
    ("d", ["happy"], "at least two"), ("d", ["happy", "happy"], "happy named twice"),
    ("d", NAMES, "no training image of sad, neutral.*--neutral"),
    ("nowhere", NAMES, "no such data directory"), ("", NAMES, r"images\.list: no such list"),
    ("empty", NAMES, "holds no data yet.*--preset demo")])
def test_wrong_names_empty_classes_and_absent_lists_are_refused(tmp_path, folder, expressions, message):
    write_lists(tmp_path / "d", "a.jpg 0\n", expressions__txt="happy sad neutral")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "README.md").touch()
    with pytest.raises(UserError, match=message):
        check_classes(read_layout(tmp_path / folder, expressions))


def test_missing_and_broken_images_are_counted_and_five_named(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.jpg").write_bytes(b"" if i else b"no image")
    Image.new("L", (4, 4)).save(tmp_path / "good.png")
    samples = [Sample(name, 0, tmp_path / name) for name in ["good.png", *(f"{i}.jpg" for i in range(7))]]
    with pytest.raises(UserError, match=r"^7 of 8 listed images.*0\.jpg \(no image\).*4\.jpg \(missing\), and 2 more"):
        check_images(samples)
    check_images(samples[:1])


# ------------------------------------------------------------------------------------------- splits and pairs

def people(count: int, scenes: int = 2) -> list[Sample]:
    return [Sample(f"p{p}_{s}_{label}.jpg", label, Path("x"), f"p{p}", f"s{s}")
            for p in range(count) for s in range(scenes) for label in range(3)]


def layout_of(tmp_path, train: list[Sample]):
    root = tmp_path / "d"
    (root / "data").mkdir(parents=True)
    write_layout(root, NAMES, {"train": train, "test": [Sample("t.jpg", 0, root / "t.jpg")]})
    return read_layout(root)


def test_validation_is_a_tenth_by_subject_and_stratified(tmp_path):
    layout = with_validation(layout_of(tmp_path, people(40)), seed=3)
    assert {s.subject for s in layout.val}.isdisjoint(s.subject for s in layout.train)
    assert layout.counts("val") == [8, 8, 8] and layout.counts("train") == [72, 72, 72]
    again, other = (with_validation(read_layout(layout.root), seed) for seed in (3, 4))
    assert again.val == layout.val != other.val


def test_a_runs_validation_split_is_used_unless_the_data_have_their_own(tmp_path):
    root = write_lists(tmp_path / "d", "a.jpg 0\nb.jpg 1\nc.jpg 2\n", expressions__txt="happy sad neutral")
    run = tmp_path / "run"
    (run / "splits").mkdir(parents=True)
    (run / "splits" / "images_val.list").write_text("b.jpg 1\n")
    kept = with_kept_validation(read_layout(root), run)
    assert [s.name for s in kept.val] == ["b.jpg"] and [s.name for s in kept.train] == ["a.jpg", "c.jpg"]
    (run / "splits" / "images_val.list").write_text("b.jpg 1\ngone.jpg 1\n")
    with pytest.raises(UserError, match="1 images of the run's validation split"):
        with_kept_validation(read_layout(root), run)
    (root / "images_val.list").write_text("c.jpg 2\n")
    assert [s.name for s in with_kept_validation(read_layout(root), run).val] == ["c.jpg"]


def test_validation_without_subjects_keeps_a_training_image_of_every_class(tmp_path):
    train = [Sample(f"{i}.jpg", label, Path("x")) for i, label in enumerate([0] * 30 + [1] * 2 + [2] * 1)]
    layout = with_validation(layout_of(tmp_path, train), seed=0)
    assert layout.counts("val") == [3, 1, 0] and layout.counts("train") == [27, 1, 1]


def test_pairs_have_distinct_neutral_targets_and_come_back_from_their_file(tmp_path):
    layout = layout_of(tmp_path, people(5))
    pairs = sample_pairs(layout, seed=1)
    assert Counter(pairs[:, 0].tolist()) == {source: 6 for source in range(len(layout.train))}
    assert {layout.train[target].label for target in pairs[:, 1]} == {2}
    assert all(len({*pairs[pairs[:, 0] == source, 1].tolist()}) == 6 for source in range(len(layout.train)))
    path = tmp_path / "pairs.list"
    path.write_text("".join(pair_lines(layout.train, pairs)))
    assert (read_pairs(path, layout.train) == pairs).all()
    path.write_text("p0_0_1_nobody.jpg 1\n")
    with pytest.raises(UserError, match=r"pairs\.list, line 1"):
        read_pairs(path, layout.train)


def test_reference_lists_have_the_counts_that_METHOD_states():
    root = shared("data/reference/lists")
    layout = read_layout(root)
    assert layout.expressions == ("disgust", "scream", "smile", "squint", "surprise", "neutral")
    assert (len(layout.train), len(layout.test)) == (6124, 1531)
    assert numpy.add(layout.counts("train"), layout.counts("test")).tolist() == [1150, 1195, 1595, 1015, 1015, 1685]
    pairs = read_pairs(root / "images_gan_nature.list", layout.train)
    assert len(pairs) == 36744 and {layout.train[target].label for target in pairs[:, 1]} == {5}
    assert set(Counter(pairs[:, 0].tolist()).values()) == {6}


def test_commands_and_lists_are_imported_without_heavy_packages():
    result = command("-c", "import sys, datasets.convert, datasets.synthetic, datasets.layout, options.command_line\n"
                     "print({'torch', 'numpy', 'PIL', 'cv2'} & sys.modules.keys())\n"
                     "import datasets.align, datasets.check\nprint({'torch', 'cv2'} & sys.modules.keys())")
    assert result.stdout == "set()\nset()\n", result
