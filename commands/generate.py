"""``--mode generate``: the synthesized training set of a run as a data directory, for any recognizer (METHOD §4)."""

import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Callable, Iterable, Sequence

import numpy

import utils
from commands.trained import load_gan, read_data
from datasets.files import check_output
from datasets.layout import RECORD_NAME, Sample, write_layout
from datasets.loading import Batch, Images, load
from datasets.plans import Plan
from datasets.splits import training_pairs
from models.checkpoints import RUN_FOLDERS
from models.gan import Swapper
from options.config import Config
from pictures.sheets import to_picture
from utils import UserError, fingerprint, usable_cores

BATCH = 32


def generate(config: Config) -> None:
    """Write the synthesized images of all training pairs into ``--output``, as a data directory.

    ``images.list`` names the synthesized images, ``images_test.list`` and ``images_val.list`` copies of the real ones,
    and ``made_from.list`` the images that each was synthesized from: ``<file name> <source> <target>``. The images are
    written first and the lists last, so that nothing can be trained on an unfinished output. Raises UserError if
    ``--output`` is not empty.
    """
    out, run = Path(config.use.output), config.run.checkpoint_dir
    check_output(out, "--output", trees=[Path(run) / name for name in RUN_FOLDERS], directory=True)
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"--output {out}: is not empty; name a new directory")
    trained = load_gan(config)
    gan, names, layout = trained.swapper, trained.names, read_data(config, trained)
    check_output(out, "--output", apart=[layout.root], directory=True)
    samples = layout.train + layout.target_only
    pairs = training_pairs(layout, config.run.seed, config.recognizer.pairs_per_image,
                           config.recognizer.targets == "any")
    check_names(names)
    unique_names, count = UniqueNames(), len(pairs)
    synthesized, pairs = named_pairs(out, samples, pairs, unique_names)
    images = Images(samples, gan.shape.image_size, config.loading.cache)
    plan = Plan.of(*pairs.T, sizes=BATCH)
    batches = utils.progress(load(images, plan, config.loading.num_workers), "synthesizing", len(plan), "batch")
    write_swaps(gan, batches, [sample.path for sample in synthesized])
    splits = {"train": synthesized}
    for split in ("val", "test"):
        splits[split] = [copy_image(sample, out, unique_names(f"real_{split}_{sample.name}"))
                         for sample in layout.split(split)]
    utils.write_text(out / "made_from.list", "".join(
        f"{sample.name} {samples[source].name} {samples[target].name}\n"
        for sample, (source, target) in zip(synthesized, pairs)))
    if trained.alignment:
        utils.write_json(out / RECORD_NAME, trained.alignment)
    write_layout(out, names, splits)
    counts, repeated = Counter(names[sample.label] for sample in synthesized), count - len(synthesized)
    print(f"wrote {len(synthesized)} synthesized training images into {out}: "
          + ", ".join(f"{name} {counts[name]}" for name in names)
          + (f" ({repeated} of {count} pairs would repeat an image)" if repeated else "")
          + f"; train on them with --data_dir {out}")


def write_swaps(gan: Swapper, batches: Iterable[Batch], paths: Sequence[Path]) -> None:
    """Write the synthesized image of each pair into its path; a batch's are encoded while the next is computed."""
    remaining, saving = iter(paths), iter(())
    with ThreadPoolExecutor(usable_cores()) as pool:
        for batch in batches:
            batch = batch.to(gan.device)
            synthesized, _ = gan.synthesize(batch.first, batch.second, batch.label, batch.second_label)
            pictures = [to_picture(image) for image in synthesized.cpu()]
            list(saving)  # raises the errors of the threads
            saving = pool.map(utils.save_picture, pictures, islice(remaining, len(pictures)))
        list(saving)


def check_names(names: Sequence[str]) -> None:
    """Check that ``expressions.txt`` can hold the names of a run's expressions. Raises UserError if it cannot."""
    for name in names:
        if len(name.split()) != 1:
            raise UserError(f"--mode generate: expressions.txt cannot hold the name {name!r} of the run, which is more "
                            "than one word")


def named_pairs(out: Path, samples: Sequence[Sample], pairs: numpy.ndarray, unique_name: Callable[[str], str]
                ) -> tuple[list[Sample], numpy.ndarray]:
    """Return the samples to write, each a target's person and scene with the source's expression, and their pairs.

    ``pairs`` (K, 2) are positions of sources and targets in ``samples``. An image that several pairs would give is
    written once: that of a repeated pair, or of a target that keeps its expression, whoever the source is.
    """
    synthesized, rows = [], []
    contents: set[tuple[int, int]] = set()
    for row, (a, b) in enumerate(pairs.tolist()):
        source, target = samples[a], samples[b]
        content = (b, b) if source.label == target.label else (a, b)
        if content not in contents:
            contents.add(content)
            stem, face = PurePosixPath(source.name).with_suffix(""), PurePosixPath(target.name).with_suffix(".jpg")
            name = unique_name(f"{stem}_{face}")
            synthesized.append(replace(target, name=name, label=source.label, path=out / "data" / name))
            rows.append(row)
    return synthesized, pairs[rows]


class UniqueNames:
    """File names of one directory: a name that was used before gets a number, also if only its case differs."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def __call__(self, name: str) -> str:
        name = name.replace("/", "-")
        stem, ending, number = Path(name).stem, Path(name).suffix, 1
        if len(name.encode(errors="replace")) > 200:  # more than a file system takes, with the ending of a new file
            stem = f"{stem[:40]}-{fingerprint([name])[:16]}"
        name = stem + ending
        while name.lower() in self._used:
            number += 1
            name = f"{stem}-{number}{ending}"
        self._used.add(name.lower())
        return name


def copy_image(sample: Sample, out: Path, name: str) -> Sample:
    """Copy a real image into the output under another name, and return the sample of the copy."""
    target = out / "data" / name
    with utils.atomic_file(target) as handle, open(sample.path, "rb") as original:
        shutil.copyfileobj(original, handle)
    return replace(sample, name=name, path=target)
