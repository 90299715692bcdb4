"""Facts of a result: on which data a network was trained, how, and whether that fits the images that it is tested on.

A training writes them into its checkpoints' metadata, so that a copied ``VGG`` directory keeps them. Every command that
gives a number gathers those of its own images and says what :func:`findings` finds. Images are compared by content and
label, whatever they are called and in whatever order they are listed.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy
import torch

from datasets.layout import Layout, alignment_of
from datasets.lists import person_key
from datasets.loading import Images
from datasets.pictures import aspect_of
from datasets.splits import fold_metadata
from options.config import OPTIONS, Config
from utils import UserError, fingerprint, read_json, write_json

DIGEST = 16  # hexadecimal digits of a digest of an image or person: 64 bits
ASPECTS = 200  # pictures of a split whose shape is looked at
SQUEEZED = 1.1  # of a picture's sides, in comparison with those of the training pictures
DATE = "%Y-%m-%d %H:%M:%S"
NO_SETTINGS = {"seed", "seeds", "split_seed", "fold", "preset", "size"}  # may differ between seeds and folds
MEMBER = re.compile(r"\b(seed|fold)_\d{2,}")


@dataclass(frozen=True)
class Facts:
    """What is known of a network's data and training, or of the images of a test; what is empty is not known.

    ``images`` has for each split ("train", with targets of synthesis; "val"; "test") the content and label of every
    image as ``<16 hexadecimal digits>:<label>``, in the order of the list; labels are positions in ``expressions``.
    ``persons`` are digests of the splits' persons, ``aspects`` the typical width of the pictures, divided by their
    height. ``fold`` is what :func:`datasets.splits.fold_metadata` returns, ``encoder`` a digest of the weights of the
    recognizer's encoder, and ``options`` are those of the run.
    """

    expressions: Sequence[str] = ()
    data_dir: str = ""
    selected_on: str = "val"
    alignment: Mapping[str, float] | None = None
    fold: Mapping[str, Any] | None = None
    encoder: str | None = None
    images: Mapping[str, Sequence[str]] = field(default_factory=dict)
    persons: Mapping[str, Sequence[str]] = field(default_factory=dict)
    aspects: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_images(cls, layout: Layout, splits: Mapping[str, Images], **known: Any) -> Facts:
        """Return the facts of the images of some splits of a data directory, and whatever else is ``known``."""
        samples = {split: images.samples for split, images in splits.items() if images.samples}
        return cls(
            layout.expressions, os.path.abspath(layout.root), alignment=alignment_of(layout.root),
            images={split: [f"{digest[:DIGEST // 2].tobytes().hex()}:{sample.label}" for digest, sample
                            in zip(images.contents(), images.samples)] for split, images in splits.items()},
            persons={split: sorted({fingerprint([person_key(sample.subject)])[:DIGEST] for sample in samples[split]
                                    if sample.subject}) for split in samples},
            aspects={split: float(numpy.median([aspect_of(sample.path) for sample in
                                                samples[split][::-(-len(samples[split]) // ASPECTS)]]))
                     for split in samples}, **known)

    @classmethod
    def of_training(cls, config: Config, layout: Layout, images: Images) -> Facts:
        """Return the facts of a run on a data directory, of which ``images`` holds the training images."""
        series, select_on = config.series, config.recognizer.select_on
        fold = fold_metadata(layout.test, series.fold, series.folds, series.folds_by, config.run.seed) \
            if series.fold else None
        values = {**config.values(), "attributes": list(layout.expressions)}  # as options.json gives a resumed run
        options = {name: value for name, value in values.items()
                   if OPTIONS[name].restore not in ("momentary", "free")}
        splits = {"train": images.subset(layout.train + layout.target_only),
                  **{split: Images(layout.split(split), 0, "none") for split in ("val", "test")}}
        return cls.of_images(layout, splits, selected_on=select_on, fold=fold, options=options)

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, Any]) -> Facts:
        """Return the facts in a checkpoint's metadata. Raises UserError if they are damaged."""
        kept = metadata.get("facts") or {}
        try:
            known = {name: metadata[name] for name in ("expressions", "data_dir", "selected_on", "alignment", "fold",
                                                       "encoder") if metadata.get(name) is not None}
            return cls(**known, aspects={split: float(aspect) for split, aspect in kept.get("aspects", {}).items()},
                       options=dict(kept.get("options", {})),
                       **{name: {split: digests.split() for split, digests in kept.get(name, {}).items()}
                          for name in ("images", "persons")})
        except (AttributeError, TypeError, ValueError):
            raise UserError(f"{metadata.get('data_dir') or 'checkpoint'}: the facts of the run in its checkpoint are "
                            "damaged; use another copy of it") from None

    def metadata(self) -> dict[str, Any]:
        """Return the facts as plain values, which a checkpoint can hold.

        No text is the same object as another, since pickle stores such texts once: a resumed run, whose options come
        from a file, would write other bytes.
        """
        return json.loads(json.dumps({
            "data_dir": self.data_dir, "selected_on": self.selected_on, "alignment": self.alignment, "fold": self.fold,
            "facts": {"images": {split: " ".join(images) for split, images in self.images.items()},
                      "persons": {split: " ".join(persons) for split, persons in self.persons.items()},
                      "aspects": dict(self.aspects), "options": dict(self.options)}}))

    def has_images_of(self, other: Facts, *splits: str) -> bool:
        """Return whether some splits together hold the same images and labels as those of other facts, in any order.

        True if one of both tells of no images, as those of runs of other programs and of older versions.
        """
        ours, theirs = (sorted(image for split in splits for image in facts.images.get(split, ()))
                        for facts in (self, other))
        return not self.images or not other.images or ours == theirs

    def settings(self) -> dict[str, Any]:
        """Return the options that must be equal for all seeds and folds of a comparison.

        Paths into runs of one series are equal here, since the names of seeds and folds in them are replaced.
        """
        return {name: MEMBER.sub(r"\1_*", value) if isinstance(value, str) else value
                for name, value in {**self.options, "data_dir": self.data_dir}.items() if name not in NO_SETTINGS}


def write_options(folder: Path, config: Config, layout: Layout, device: torch.device) -> None:
    """Write a run's options into its ``options.json``, with the commands that started it, and when and on what."""
    root, path = Path(__file__).resolve().parents[1], folder / "options.json"
    git = shutil.which("git") if (root / ".git").exists() else None
    commit = git and subprocess.run([git, "-C", root, "describe", "--always", "--dirty"], capture_output=True,
                                    text=True)
    start = {"command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]), "date": time.strftime(DATE),
             "commit": commit.stdout.strip() if commit else "unknown", "torch": torch.__version__,
             "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}, "
             f"{platform.machine()}"}
    earlier = read_json(path).get("starts", []) if path.is_file() and config.resumes else []
    write_json(path, {**config.values(), "attributes": list(layout.expressions), "starts": [*earlier, start]})


def findings(run: Facts, tested: Facts) -> list[str]:
    """Return a sentence for each reason why a result of a run on ``tested`` images means less than it seems.

    That are test images and persons of the training, and images that differ from the training images in their
    alignment, shape or encoder.
    """
    found, images = [], [image[:DIGEST] for image in tested.images.get("test", ())]
    known = {split: {image[:DIGEST] for image in of_split} for split, of_split in run.images.items()}
    if images and not run.images:
        found.append("its checkpoint does not tell which images it was trained on, so these may be among them")
    meanings = {"train": "training images", "val": "validation images, on which the recognizer was chosen"}
    for split, meaning in list(meanings.items())[:2 if run.selected_on == "val" else 1]:
        count = sum(image in known.get(split, ()) for image in images)
        if count:
            found.append(f"{count} of {len(images)} test images are {meaning}: test on images that the run has not "
                         "seen, or train anew without them")
    if run.selected_on == "test" and not set(images).isdisjoint(known.get("test", ())):
        found.append("it was chosen on its test images, as in the published code (--select_on test), so its test "
                     "accuracy is too high")
    persons, trained = (set(facts.persons.get(split, ())) for facts, split in ((tested, "test"), (run, "train")))
    is_related = run.data_dir == tested.data_dir or not set(images).isdisjoint(set().union(*known.values()))
    if is_related and persons & trained:  # in other data, equal names may be other persons
        found.append(f"{len(persons & trained)} of the {len(persons)} persons in the test images are in the training "
                     "images too: cut the test images by person")
    if run.expressions and run.alignment != tested.alignment:
        found.append(f"the training faces are {alignment_text(run.alignment)}, and the test faces "
                     f"{alignment_text(tested.alignment)}: prepare them alike with python -m datasets.align")
    wide, trained_wide = tested.aspects.get("test"), run.aspects.get("train")
    if wide and trained_wide and not 1 / SQUEEZED < wide / trained_wide < SQUEEZED:
        found.append(f"the test pictures are {wide:.2f} times as wide as high, and the training pictures "
                     f"{trained_wide:.2f} times: both are squeezed to squares, so cut them alike")
    if None not in (run.encoder, tested.encoder) and run.encoder != tested.encoder:
        found.append("Enc_max.pth is not the encoder that the recognizer was trained with: restore the file that was "
                     "written with its max_ckpt.t7")
    return found


def alignment_text(alignment: Mapping[str, float] | None) -> str:
    """Return how faces are aligned, in words."""
    return f"aligned (--size {alignment['size']} --margin {alignment['margin']})" if alignment else "not aligned"


def differing_options(groups: Sequence[Facts]) -> dict[str, list[Any]]:
    """Return the options that differ between groups of runs, by name, with the value of each group; None is unknown."""
    settings = [facts.settings() for facts in groups]
    rows = {name: [of_group.get(name) for of_group in settings] for name in OPTIONS
            if any(name in of_group for of_group in settings)}
    return {name: values for name, values in rows.items() if any(value != values[0] for value in values)}
