"""The built-in data set: drawn faces in the ``datasets/multiple`` layout, for a demo that needs no data.

Persons and scenes are functions of the seed and of their names in ``subjects.list``, so that the true picture of
"this person and scene with that expression" can be drawn from what is on disk: :func:`truth`. As in a Multi-PIE
session, every scene of a person holds all six expressions.
"""

from pathlib import Path
from typing import Any

from PIL import Image

from datasets.drawing.faces import EXPRESSIONS, SIZES
from datasets.drawing.portrait import draw
from datasets.files import check_output
from datasets.layout import Sample, write_layout
from datasets.lists import LIST_NAMES
from options.config import LARGEST
from utils import UserError, derived_seed, progress, read_json, refuse, save_picture, write_json

DESCRIPTION = "synthetic.json"
DRAWING = 1
NUMBERS = "drawing", "seed", "image_size", "subjects_train", "subjects_test", "scenes"  # in the description


def truth(subject: str, scene: str, expression: int | str, size: int, seed: int = 0) -> Image.Image:
    """Draw the picture of a subject and scene of ``subjects.list`` with an expression (name or label).

    It is RGB, ``size`` × ``size``. What :func:`make_dataset` wrote is this picture at the data set's size and seed, as
    a JPEG. Raises UserError for an unknown expression and for a size outside 32 to 512.
    """
    return draw(derived_seed(seed, "person", subject), derived_seed(seed, "scene", subject, scene), expression, size)


def make_dataset(root: str | Path, *, image_size: int = 64, subjects_train: int = 70, subjects_test: int = 30,
                 scenes: int = 2, seed: int = 0) -> None:
    """Draw a data set into ``root`` (METHOD §6).

    It has ``subjects_train + subjects_test`` persons, none in both splits, ``scenes`` scenes of each, and six pictures
    of every scene. The same arguments write the same bytes. The lists are written last: a directory without them holds
    an unfinished drawing, which a new call replaces. Raises UserError if the image size is out of range or ``root``
    holds anything else.
    """
    root = Path(root)
    description = {"drawing": DRAWING, "seed": seed, "image_size": image_size, "subjects_train": subjects_train,
                   "subjects_test": subjects_test, "scenes": scenes, "expressions": list(EXPRESSIONS)}
    refuse(f"image size {image_size}", (image_size not in SIZES, f"faces are drawn from {SIZES[0]} to {SIZES[-1]} "
                                        "pixels"))
    check_output(root, "OUT", directory=True)
    _clear(root)
    write_json(root / DESCRIPTION, description)
    splits = _plan(root, subjects_train, subjects_test, scenes)
    all_samples = [sample for samples in splits.values() for sample in samples]
    for sample in progress(all_samples, "drawing faces", len(all_samples), "face"):
        save_picture(truth(sample.subject, sample.scene, sample.label, image_size, seed), sample.path)
    write_layout(root, EXPRESSIONS, splits)


def describe(root: str | Path, finished: bool = True) -> dict[str, Any] | None:
    """Return the description of a built-in data set (``seed``, ``image_size``, …), None for anything else.

    It must be ``finished``, unless this is False.
    """
    try:
        description = read_json(Path(root) / DESCRIPTION)
    except UserError:
        return None
    numbers = [description.get(name) for name in NUMBERS] if isinstance(description, dict) else [None]
    is_whole = all(type(number) is int and abs(number) <= LARGEST for number in numbers)
    return description if is_whole and (not finished or (Path(root) / LIST_NAMES["train"]).is_file()) else None


def _clear(root: Path) -> None:
    """Remove the lists and pictures of an earlier drawing. Raises UserError if ``root`` holds anything else."""
    drawn = describe(root, finished=False)
    is_empty = not root.is_dir() or all(entry.name.startswith(".") for entry in root.iterdir())
    refuse(root, (not is_empty and drawn is None, "holds something that was not drawn here; name an empty or new "
                  "directory"))
    splits = _plan(root, drawn["subjects_train"], drawn["subjects_test"], drawn["scenes"]) if drawn else {}
    pictures = [sample.path for samples in splits.values() for sample in samples]
    for path in (*(root / name for name in (LIST_NAMES["train"], LIST_NAMES["test"], "subjects.list")), *pictures):
        path.unlink(missing_ok=True)


def _plan(root: Path, subjects_train: int, subjects_test: int, scenes: int) -> dict[str, list[Sample]]:
    """Return the samples of both splits, by subject, scene and expression."""
    plan: dict[str, list[Sample]] = {}
    test = range(subjects_train, subjects_train + subjects_test)
    for split, numbers in (("train", range(subjects_train)), ("test", test)):
        pictures = [(f"p{number + 1:04d}", f"c{scene + 1}", label) for number in numbers for scene in range(scenes)
                    for label in range(len(EXPRESSIONS))]
        names = [f"{split}_{number:04d}.jpg" for number in range(1, len(pictures) + 1)]
        plan[split] = [Sample(name, label, root / "data" / name, subject, scene)
                       for name, (subject, scene, label) in zip(names, pictures)]
    return plan
