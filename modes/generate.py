"""``--mode generate``: the synthesized training set of a run as a data directory, for any recognizer (METHOD §4)."""

from __future__ import annotations

import argparse
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy

import utils
from datasets.files import check_apart, check_writable
from datasets.layout import Sample, write_layout
from datasets.loading import Batch, Images, load
from datasets.splits import training_pairs
from models.figures import to_picture
from modes.trained import load_gan, read_data
from utils import UserError

BATCH = 32


def generate(options: argparse.Namespace) -> None:
    """Write the synthesized images of all training pairs into ``--output``, with lists; UserError where it holds others.

    ``images.list`` names the synthesized images, ``images_test.list`` and ``images_val.list`` copies of the real ones,
    and ``made_from.list`` says who was made from whom: ``<file name> <source> <target>``. The images come first and
    the lists last; a second run gives the same files.
    """
    out = Path(options.output)
    gan, names = load_gan(options)
    layout = read_data(options, names)
    check_out(out, layout.root)
    everyone = layout.train + layout.target_only
    pairs = training_pairs(layout, options.seed, options.pairs_per_image, options.targets == "any")
    samples = named_pairs(out, everyone, pairs)
    pairs = pairs[list(samples)]
    images = Images(everyone, gan.shape.image_size, options.cache)
    plan = [Batch.of(part[:, 0], part[:, 1]) for part in (pairs[i:i + BATCH] for i in range(0, len(pairs), BATCH))]
    written = iter(samples.values())
    for batch in utils.progress(load(images, plan, options.num_workers), "synthesizing", len(plan), "batch"):
        batch = batch.to(gan.device)
        made, _ = gan.synthesize(batch.first, batch.second, batch.label, batch.second_label)
        for image, sample in zip(made.cpu(), written):
            utils.save_picture(to_picture(image), sample.path)
    splits = {"train": list(samples.values())}
    for split in ("val", "test"):
        splits[split] = [copied(sample, out, f"real_{split}_") for sample in layout.split(split)]
    utils.write_text(out / "made_from.list", "".join(
        f"{sample.name} {everyone[source].name} {everyone[target].name}\n"
        for sample, (source, target) in zip(samples.values(), pairs)))
    write_layout(out, names, splits)
    counts = Counter(names[sample.label] for sample in samples.values())
    print(f"wrote {len(samples)} synthesized training images into {out}: "
          + ", ".join(f"{name} {counts[name]}" for name in names)
          + f"; train on them with --data_dir {out}")


def check_out(out: Path, source: Path) -> None:
    """UserError where the output lies in the data, or already holds a data directory that was not made here."""
    check_apart(source, out)
    check_writable(out)
    if (out / "images.list").is_file() and not (out / "made_from.list").is_file():
        raise UserError(f"--output {out}: holds a data directory that was not generated; choose another")


def named_pairs(out: Path, everyone: list[Sample], pairs: numpy.ndarray) -> dict[int, Sample]:
    """The samples to write by the row of their pair: the target's person and scene with the source's expression.

    A pair that comes twice is written once.
    """
    samples: dict[str, tuple[int, Sample]] = {}
    for row, (source, target) in enumerate(pairs):
        source, target = everyone[source], everyone[target]
        name = f"{Path(source.name).with_suffix('')}_{Path(target.name).with_suffix('.jpg')}".replace("/", "-")
        samples.setdefault(name, (row, replace(target, name=name, label=source.label, path=out / "data" / name)))
    return dict(samples.values())


def copied(sample: Sample, out: Path, prefix: str) -> Sample:
    """A real image copied into the output under a name of its own."""
    name = prefix + sample.name.replace("/", "-")
    target = out / "data" / name
    if not target.is_file():
        with utils.atomic_file(target) as handle, open(sample.path, "rb") as original:
            shutil.copyfileobj(original, handle)
    return replace(sample, name=name, path=target)
