"""``--mode generate``: the synthesized training set of a run as a data directory, for any recognizer (METHOD §4)."""

from __future__ import annotations

import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Iterable, Sequence

import numpy

import utils
from commands.trained import load_gan, read_data
from datasets.files import check_output
from datasets.layout import Sample, foreign_lists, write_layout
from datasets.loading import Images, Loaded, load
from datasets.plans import Batch, Plan
from datasets.splits import training_pairs
from models.checkpoints import RUN_FOLDERS
from models.swap_gan import SwapGAN
from options.config import Config
from options.schema import check, whole_number
from pictures.sheets import to_picture
from system.devices import usable_cores
from utils import UserError, fingerprint

BATCH = 32
MARK, FORMAT = "generated.json", 1  # the mark comes first: what lies beside it was made here


def generate(config: Config) -> None:
    """Write the synthesized images of all training pairs into ``--output``, with lists; UserError if it holds others.

    ``images.list`` names the synthesized images, ``images_test.list`` and ``images_val.list`` copies of the real ones,
    and ``made_from.list`` says who was made from whom: ``<file name> <source> <target>``. The images come first and
    the lists last; a second run gives the same files.
    """
    out, run = Path(config.output.output), config.run.checkpoint_dir
    check_out(out, run)
    trained = load_gan(config)
    gan, names, layout = trained.swapper, trained.names, read_data(config, trained)
    for folder in (out, out / "data"):
        check_output(folder, "--output", apart=[layout.root], directory=True)
    everyone = layout.train + layout.target_only
    pairs = training_pairs(layout, config.run.seed, config.recognizer.pairs_per_image,
                           config.recognizer.targets == "any")
    for name in names:
        if len(name.split()) != 1:
            raise UserError(f"--mode generate: expressions.txt cannot hold the name {name!r} of the run, which is more "
                            "than one word")
    for path in foreign_lists(out, {"train": layout.train, "val": layout.val, "test": layout.test}):
        raise UserError(f"{path}: this run has nothing to write there, and training would read it; move it away, or "
                        "choose another --output")
    file_names = Names()
    samples = named_pairs(out, everyone, pairs, file_names)
    count, pairs = len(pairs), pairs[list(samples)]
    utils.write_json(out / MARK, {"format": FORMAT, "checkpoint_dir": run})
    images = Images(everyone, gan.shape.image_size, config.loading.cache)
    plan = Plan.of(Batch.of(*pairs.T), BATCH)
    batches = utils.progress(load(images, plan, config.loading.num_workers), "synthesizing", len(plan), "batch")
    write_swaps(gan, batches, [sample.path for sample in samples.values()])
    splits = {"train": list(samples.values())}
    for split in ("val", "test"):
        splits[split] = [copied(sample, out, file_names(f"real_{split}_{sample.name}"))
                         for sample in layout.split(split)]
    utils.write_text(out / "made_from.list", "".join(
        f"{sample.name} {everyone[source].name} {everyone[target].name}\n"
        for sample, (source, target) in zip(samples.values(), pairs)))
    write_layout(out, names, splits)
    counts = Counter(names[sample.label] for sample in samples.values())
    print(f"wrote {len(samples)} synthesized training images into {out}: "
          + ", ".join(f"{name} {counts[name]}" for name in names)
          + (f" ({count - len(samples)} of {count} pairs would give an image again)" if count > len(samples) else "")
          + f"; train on them with --data_dir {out}")


def write_swaps(gan: SwapGAN, batches: Iterable[Loaded], paths: Sequence[Path]) -> None:
    """Write the synthesized image of each pair; those of a batch are encoded while the next one is computed."""
    remaining, saving = iter(paths), iter(())
    with ThreadPoolExecutor(usable_cores()) as pool:
        for batch in batches:
            batch = batch.to(gan.device)
            synthesized, _ = gan.synthesize(batch.first, batch.second, batch.label, batch.second_label)
            pictures = [to_picture(image) for image in synthesized.cpu()]
            list(saving)  # raises what went wrong there
            saving = pool.map(utils.save_picture, pictures, islice(remaining, len(pictures)))
        list(saving)


def check_out(out: Path, run: str) -> None:
    """Raises UserError if the output holds anything that was not made here, or lies among a run's networks."""
    check_output(out, "--output", trees=[Path(run) / name for name in RUN_FOLDERS], directory=True)
    if not out.is_dir() or not any(out.iterdir()):
        return
    if (out / MARK).is_file():
        check(utils.read_json(out / MARK), {"format": whole_number(FORMAT, FORMAT)}, out / MARK)
    elif not ((out / "made_from.list").is_file() and (out / "images.list").is_file()):  # as before there was a mark
        raise UserError(f"--output {out}: is not empty and holds no data directory that was generated here; choose "
                        "another")


def named_pairs(out: Path, everyone: list[Sample], pairs: numpy.ndarray, names: "Names") -> dict[int, Sample]:
    """The samples to write by the row of their pair: the target's person and scene with the source's expression.

    What comes twice is written once: a pair, and a target that keeps its expression, whoever the source is.
    """
    samples: dict[int, Sample] = {}
    seen: set[tuple[int, int]] = set()
    for row, (a, b) in enumerate(pairs.tolist()):
        source, target = everyone[a], everyone[b]
        content = (b, b) if source.label == target.label else (a, b)
        if content not in seen:
            seen.add(content)
            name = names(f"{Path(source.name).with_suffix('')}_{Path(target.name).with_suffix('.jpg')}")
            samples[row] = replace(target, name=name, label=source.label, path=out / "data" / name)
    return samples


class Names:
    """File names of one directory: each is given out once, a second one with a number, also where case is ignored."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def __call__(self, name: str) -> str:
        name = name.replace("/", "-")
        stem, ending, number = Path(name).stem, Path(name).suffix, 1
        if len(name.encode(errors="replace")) > 200:  # more than a file system takes, with the ending of a new file
            stem = f"{stem[:40]}-{fingerprint([name])[:16]}"
        name = stem + ending
        while name.lower() in self._taken:
            number += 1
            name = f"{stem}-{number}{ending}"
        self._taken.add(name.lower())
        return name


def copied(sample: Sample, out: Path, name: str) -> Sample:
    """A real image copied into the output under a name of its own."""
    target = out / "data" / name
    with utils.atomic_file(target) as handle, open(sample.path, "rb") as original:
        shutil.copyfileobj(original, handle)
    return replace(sample, name=name, path=target)
