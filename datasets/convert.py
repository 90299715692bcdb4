"""Data sets that people have → the layout that training reads: ``python -m datasets.convert KIND SRC``.

The source is never touched. OUT/data gets links to its images (or copies, with --copy or --reencode), OUT the lists.
A second run gives the same files; lists of another data set are not replaced unless --overwrite is given.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from utils import UserError, atomic_file, progress, run_command, save_picture

if TYPE_CHECKING:
    from datasets.importers import Collection
    from datasets.layout import Sample

LISTS = ("expressions.txt", "subjects.list", "images_val.list", "images_test.list", "images.list")


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    asked = _parser().parse_args(arguments)
    from datasets.checking.overview import table
    from datasets.importers import decide_splits, distinct_names
    from datasets.layout import read_layout, write_layout
    from datasets.files import check_writable

    source, out = Path(asked.source), Path(asked.out)
    if asked.reencode is not None and asked.reencode < 32:
        raise UserError(f"--reencode {asked.reencode}: at least 32 pixels")
    check_writable(out)
    found = _read(asked, source, out)
    _drop_broken(found)
    decide_splits(found, _test_choice(asked), asked.seed)
    if asked.reencode:
        _name_jpegs(found)
    distinct_names(found)
    _check_complete(found, source)
    splits = {split: sorted(samples, key=lambda sample: sample.name) for split, samples in found.splits.items()}
    samples = [sample for split in splits.values() for sample in split]
    images = out / "data"
    waiting = [sample for sample in samples if not _is_current(images / sample.name, sample.path, asked)]
    if not asked.overwrite:
        _check_free(out, found.expressions, splits, waiting)

    _write_images(waiting, images, asked)
    write_layout(out, found.expressions, splits)
    done = f"{len(waiting)} of them new" if waiting else "all there already"
    print(f"{out}: {len(samples)} images ({done})")
    for reason, count in sorted(found.left_out.items()):
        print(f"left out: {count} images {reason}")
    print(table(read_layout(out)))


# --------------------------------------------------------------------------------------------- command line

def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m datasets.convert", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="multipie|rafdb|folders|csv")

    multipie = kinds.add_parser("multipie", help="a Multi-PIE tree (session01/multiview/...)")
    _common(multipie, "SRC", "datasets/multiple", "the directory that holds session01 ... session04")
    multipie.add_argument("--cameras", nargs="+", default=["05_1"], metavar="CC_C", help="default: 05_1, frontal")
    multipie.add_argument("--illuminations", nargs="+", default=["07"], metavar="LL", help="default: 07")
    multipie.add_argument("--test_subjects", nargs="+", default=["0.2"], metavar="SHARE|ID|FILE",
                          help="a share of the images, chosen by subject, or subjects' numbers, or a file of them")

    rafdb = kinds.add_parser("rafdb", help="RAF-DB's basic expressions (basic/EmoLabel, basic/Image)")
    _common(rafdb, "SRC", "datasets/RAF", "the directory that holds basic/")
    rafdb.add_argument("--images", choices=("aligned", "original"), default="aligned", help="default: aligned")

    folders = kinds.add_parser("folders", help="one directory per expression, with or without train/, test/")
    _common(folders, "SRC", "datasets/folders", "the directory that holds the expressions' directories")
    folders.add_argument("--target_only", metavar="NAME",
                         help="a directory of neutral faces that are targets of synthesis, in no class (as MMI's)")

    table = kinds.add_parser("csv", help="a table with columns for file and label")
    _common(table, "FILE", "datasets/csv", "the table; its first line names the columns")
    table.add_argument("--root", metavar="DIR", help="where the files lie (default: the table's directory)")
    for name, meaning in (("file", "file names"), ("label", "labels"), ("split", "train, val or test; optional"),
                          ("subject", "subjects; optional")):
        table.add_argument(f"--{name}_column", metavar="NAME", help=f"the column of {meaning} (default: {name})")

    for kind in (folders, table):
        kind.add_argument("--expressions", nargs="+", metavar="NAME", help="the expressions to take, in the order "
                          "of their labels (default: all, by name, neutral last)")
        kind.add_argument("--subject_regex", metavar="REGEX", help="the part of a file name that tells the subject, "
                          "or its first group, e.g. '^(S[0-9]+)_'")
        kind.add_argument("--test_share", type=float, default=0.2, metavar="SHARE", help="without a test split: the "
                          "share to test on, whole subjects where they are known (default: 0.2)")
    return parser


def _common(parser: argparse.ArgumentParser, source: str, out: str, meaning: str) -> None:
    parser.add_argument("source", metavar=source, help=meaning)
    parser.add_argument("--out", default=out, metavar="DIR", help=f"default: {out}")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--copy", action="store_true", help="copy the images; without it they are linked, and the "
                     "source must stay where it is")
    how.add_argument("--reencode", type=int, metavar="SIDE", help="write upright JPEG files whose shorter side has "
                     "at most SIDE pixels: smaller and faster to read than large photographs")
    parser.add_argument("--seed", type=int, default=0, help="of the split, where the source has none (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace the lists of another data set in DIR")


def _read(asked: argparse.Namespace, source: Path, out: Path) -> "Collection":
    from datasets import importers
    from datasets.files import check_apart

    if asked.kind == "csv":
        root = Path(asked.root) if asked.root else source.parent
        if not source.is_file():
            raise UserError(f"{source}: no such table")
        keys = ("file", "label", "split", "subject")
        columns = {key: getattr(asked, f"{key}_column") or key for key in keys}
        named = {key for key in keys if getattr(asked, f"{key}_column")}
        found = importers.read_csv(source, root, columns, named, asked.expressions, asked.subject_regex)
        images = (out / "data").resolve()
        inside = [s.path for s in importers.everything(found) if images in s.path.resolve().parents]
        if inside:
            raise UserError(f"{inside[0]}: lies inside the output {images}; choose another --out")
        return found
    if not source.is_dir():
        raise UserError(f"{source}: no such directory")
    check_apart(source, out)
    if asked.kind == "multipie":
        return importers.read_multipie(source, asked.cameras, asked.illuminations)
    if asked.kind == "rafdb":
        return importers.read_rafdb(source, asked.images)
    return importers.read_folders(source, asked.expressions, asked.subject_regex, asked.target_only)


def _test_choice(asked: argparse.Namespace) -> float | set[str]:
    """The share of the images to test on, or the subjects."""
    from datasets.lists import read_lines

    words = getattr(asked, "test_subjects", None) or [str(getattr(asked, "test_share", 0.2))]
    if len(words) == 1 and Path(words[0]).is_file():
        return set(read_lines(Path(words[0]), as_words=True))
    if len(words) == 1 and "." in words[0] or asked.kind != "multipie":
        try:
            share = float(words[0])
        except ValueError:
            raise UserError(f"--test_subjects {words[0]}: no share, no subject's number and no file") from None
        if not 0 < share < 1:
            raise UserError(f"the share to test on must lie between 0 and 1, not {words[0]}")
        return share
    return set(words)


# --------------------------------------------------------------------------------------------------- checks

def _drop_broken(found: "Collection") -> None:
    """Leave out what is no image by its header, so that the lists never name it."""
    from datasets.importers import everything
    from datasets.pictures import image_fault

    samples = everything(found)
    with ThreadPoolExecutor(8) as pool:
        faults = dict(zip((s.path for s in samples), pool.map(lambda sample: image_fault(sample.path), samples)))
    found.left_out += Counter(f"that cannot be used: {fault}" for fault in faults.values() if fault)
    found.splits = {split: [s for s in part if not faults[s.path]] for split, part in found.splits.items()}
    found.undecided = [s for s in found.undecided if not faults[s.path]]


def _name_jpegs(found: "Collection") -> None:
    from dataclasses import replace

    for split, samples in found.splits.items():
        found.splits[split] = [replace(s, name=str(Path(s.name).with_suffix(".jpg"))) for s in samples]


def _check_complete(found: "Collection", source: Path) -> None:
    reasons = "; ".join(f"{count} {reason}" for reason, count in found.left_out.items())
    counted = {split: len(samples) for split, samples in found.splits.items()}
    if not any(counted.values()):
        raise UserError(f"{source}: no images to take" + (f" (left out: {reasons})" if reasons else ""))
    for split in ("train", "test"):
        if not counted[split]:
            told = f" (left out: {reasons})" if reasons else ""
            raise UserError(f"{source}: no images for the {split} list{told}; choose another split")
    if len(found.expressions) < 2:
        raise UserError(f"{source}: only one expression ({found.expressions[0]}); at least two are needed")
    if len({name.lower() for name in found.expressions}) < len(found.expressions):
        raise UserError(f"{source}: two expressions have one name ({' '.join(found.expressions)})")


def _check_free(out: Path, expressions: tuple[str, ...], splits: dict[str, list["Sample"]],
                waiting: list["Sample"]) -> None:
    """UserError where a list or an image of another data set would be replaced."""
    from datasets.layout import write_layout

    with tempfile.TemporaryDirectory() as folder:
        write_layout(folder, expressions, splits)
        for name in LISTS:
            old, new = out / name, Path(folder) / name
            if old.is_file() and not (new.is_file() and old.read_bytes() == new.read_bytes()):
                raise UserError(f"{old}: belongs to another data set or selection; choose another --out, "
                                "or replace it with --overwrite")
    taken = [out / "data" / s.name for s in waiting if _is_foreign(out / "data" / s.name, s.path)]
    if taken:
        raise UserError(f"{taken[0]}: another image has this name ({len(taken)} such); choose another --out, "
                        "or replace it with --overwrite")


# --------------------------------------------------------------------------------------------------- images

def _is_current(target: Path, source: Path, asked: argparse.Namespace) -> bool:
    """Whether an earlier run has written the image in the way that is asked for."""
    if not target.exists():
        return False
    if not asked.copy and not asked.reencode:
        return target.samefile(source)
    if target.is_symlink() or target.samefile(source) or not _same_time(target, source):
        return False
    if asked.copy:
        return target.stat().st_size == source.stat().st_size
    from PIL import Image

    with Image.open(target) as image, Image.open(source) as original:
        return image.format == "JPEG" and min(image.size) == min(asked.reencode, *original.size)


def _is_foreign(target: Path, source: Path) -> bool:
    """Whether a file is neither a link to the source nor a copy of it in any of the ways."""
    return target.exists() and not target.samefile(source) and not _same_time(target, source)


def _same_time(target: Path, source: Path) -> bool:
    return abs(target.stat().st_mtime - source.stat().st_mtime) < 2     # copies keep the time; FAT rounds it


def _write_images(waiting: list["Sample"], images: Path, asked: argparse.Namespace) -> None:
    images.mkdir(parents=True, exist_ok=True)
    write = _reencode if asked.reencode else _copy if asked.copy else _link

    def write_one(sample: "Sample") -> None:
        write(sample.path.resolve(), images / sample.name, asked)

    with ThreadPoolExecutor(4) as pool:
        list(progress(pool.map(write_one, waiting), "writing", len(waiting), "image"))


def _link(source: Path, target: Path, asked: argparse.Namespace) -> None:
    """A symbolic link: it works across file systems and shows where the image is. Windows may refuse: then a copy."""
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.symlink(source, part)
    except (OSError, NotImplementedError):
        _copy(source, target, asked)
    else:
        os.replace(part, target)


def _copy(source: Path, target: Path, asked: argparse.Namespace) -> None:
    with open(source, "rb") as original, atomic_file(target) as handle:
        shutil.copyfileobj(original, handle, 1 << 20)
    _keep_time(source, target)


def _reencode(source: Path, target: Path, asked: argparse.Namespace) -> None:
    from PIL import Image

    from datasets.pictures import read_picture

    image = read_picture(source)
    scale = asked.reencode / min(image.size)
    if scale < 1:
        size = tuple(max(asked.reencode, round(scale * length)) for length in image.size)
        image = image.resize(size, Image.Resampling.LANCZOS)
    save_picture(image, target)
    _keep_time(source, target)


def _keep_time(source: Path, target: Path) -> None:
    times = source.stat()
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))


if __name__ == "__main__":
    run_command(main)
