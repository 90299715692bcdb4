"""A directory of photographs → one of aligned faces; a data directory stays one."""

import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

from datasets.aligning.aligner import Aligner, Options, align_all, output_name
from datasets.lists import LIST_NAMES, LISTS, image_directory, read_lines, read_lists, subject_line
from datasets.names import Names
from datasets.walking import ENDINGS, describe, walk
from options.schema import check, number, optional, text, true_or_false, whole_number
from utils import UserError, progress, read_json, sha256, write_json, write_text

RECORD_NAME = "align.json"  # the file of a directory of aligned faces that keeps their source and options
RECORD = {"size": whole_number(16, 4096), "margin": number(-0.2, 2), "every_face": true_or_false,
          "score": number(0.05, 1), "points": optional(text(64)),
          **{name: optional(text()) for name in ("model", "landmarks", "source")}}
FLAGS = {"every_face": "--all", "source": "source directory"}  # names in messages; those of other keys are --KEY


def align_directory(source: Path, out: Path, options: Options, *, workers: int = 1, overwrite: bool = False) -> None:
    """Align all photographs below ``source`` into ``out``, in the same subdirectories, and report what became of them.

    If ``source`` is a data directory (it has an ``images.list``), ``out`` becomes one too: its lists, without the
    images that show no face. ``out/align.json`` keeps source and options, so that a second run continues an interrupted
    one; ``overwrite`` aligns everything anew, as does a list of landmarks that has changed since.
    ``out/no_face.list`` names what could not be aligned. Raises UserError if options do not fit together or do not fit
    what ``out`` holds, and if no photograph shows a face.
    """
    is_data_directory = (source / "images.list").is_file() or any(source.glob("list_attr_*_train.txt"))
    if is_data_directory and options.every_face:
        raise UserError(f"--all: {source} is a data directory and its lists have one label per image; "
                        "align without --all")
    subjects = read_lists(source, complete=False).subjects if is_data_directory else {}
    photos, faces = (image_directory(source), out / "data") if is_data_directory else (source, out)
    names = _photograph_names(photos)
    setup = photos, faces, options, frozenset(map(output_name, names))
    landmarks = Aligner(*setup).landmarks  # reports a missing package or a wrong model before anything is written
    if landmarks:
        landmarks.check_names(names)
    settings = asdict(replace(options, model=None if options.landmarks else sha256(options.model)))
    overwrite |= _open_output(out, {**settings, "source": str(source.resolve()),
                                    "points": landmarks and landmarks.digest}, overwrite)

    waiting = [name for name in names if overwrite or not (face := faces / output_name(name)).is_file()
               or face.stat().st_mtime < (photos / name).stat().st_mtime]
    results = progress(align_all(waiting, workers, *setup), "aligning", len(waiting), "image")
    faults = {name: fault for name, fault in results if fault}
    write_text(out / "no_face.list", "".join(f"{name} {fault}\n" for name, fault in sorted(faults.items())))
    _report(names, waiting, faults, out)
    aligned = set(names) - faults.keys()
    if not aligned:
        fault, count = Counter(faults.values()).most_common(1)[0]
        raise UserError(f"{photos}: none of the {len(names)} images shows a face ({count} of them: {fault}); see "
                        f"{out / 'no_face.list'}")
    if is_data_directory:
        carry_lists(source, out, aligned, subjects)


def _photograph_names(photos: Path) -> list[str]:
    """Return the names of the images below a directory. Raises UserError if there are none or two share an output."""
    files = walk(photos)
    if files.passed_over():
        print(f"{photos}: {describe(files.passed_over())}")
    if not files.images:
        raise UserError(f"{photos}: holds no images ({' '.join(ENDINGS)})")
    names = [path.relative_to(photos).as_posix() for path in files.images]
    if len(set(map(output_name, names))) < len(names):
        raise UserError(f"{photos}: some images differ only in that one ends in .jpg; rename one of them")
    return names


def alignment_of(root: Path) -> dict[str, float] | None:
    """Return the ``size`` and ``margin`` with which a directory was aligned; None for any other directory."""
    record = Path(root) / RECORD_NAME
    settings = read_json(record) if record.is_file() else None
    if isinstance(settings, dict):
        size, margin = settings.get("size"), settings.get("margin")
        if isinstance(size, (int, float)) and isinstance(margin, (int, float)):
            return {"size": int(size), "margin": float(margin)}
    return None


def _open_output(out: Path, settings: dict[str, object], overwrite: bool) -> bool:
    """Write ``align.json``, and return whether the list of landmarks has changed since an earlier run.

    Raises UserError if ``out`` holds anything else or, without ``overwrite``, was made with other settings.
    """
    record, landmarks_changed = out / RECORD_NAME, False
    if record.is_file():
        previous = {"source": settings["source"],  # an earlier version did not write it
                    **check(read_json(record), RECORD, record, "choose another output directory")}
        landmarks_changed = settings["landmarks"] == previous.get("landmarks") is not None \
            and settings["points"] != previous.get("points")
        if landmarks_changed and not overwrite:
            print(f"{settings['landmarks']}: has changed since; all images are aligned anew")
        different = [FLAGS.get(key, f"--{key}") for key in settings if previous.get(key) != settings[key]
                     and not (key == "points" and landmarks_changed)]
        if different and not overwrite:
            raise UserError(f"{out}: was made with another {', '.join(different)}; choose another output directory, "
                            "or align everything anew with --overwrite")
    elif out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out}: holds other files already; choose another output directory")
    write_json(record, settings)
    return landmarks_changed


def _report(names: list[str], waiting: list[str], faults: dict[str, str], out: Path) -> None:
    """Print how many images are aligned, how many are not, and the first reasons."""
    earlier = len(names) - len(waiting)
    print(f"{len(names) - len(faults)} of {len(names)} images aligned into {out}"
          + (f" ({earlier} of them by an earlier run)" if earlier else ""))
    broken = {name: fault for name, fault in faults.items() if fault != "no face found"}
    if faults:
        print(f"{len(faults) - len(broken)} without a face, {len(broken)} unusable: listed in {out / 'no_face.list'}")
    for name, fault in list(broken.items())[:5]:
        print(f"warning: {name}: {fault}", file=sys.stderr)


# ------------------------------------------------------------------------------------------------- the lists

def carry_lists(source: Path, out: Path, aligned: set[str], subjects: dict[str, tuple[str, str | None]]) -> None:
    """Write the lists of a data directory for its aligned images, ``images.list`` last.

    ``subjects`` are those of :class:`datasets.lists.Lists`. The list of pairs is not carried: it would name images
    that are left out, and training draws its own.
    """
    lists, names = {}, Names(image_directory(source))
    if (source / "expressions.txt").is_file():
        lists["expressions.txt"] = "".join(line + "\n" for line in read_lines(source / "expressions.txt")), 0
    if (source / "subjects.list").is_file():
        aligned_subjects = {output_name(name): subject for name, subject in subjects.items() if name in aligned}
        lists["subjects.list"] = ("".join(subject_line(name, *subject) for name, subject in aligned_subjects.items()),
                                  len(subjects) - len(aligned_subjects))
    for path in (*_attribute_lists(source), source / "images_val.list", source / "images_test.list",
                 source / "images.list"):
        if path.is_file():
            lists[path.name] = _carry_list(path, aligned, names.for_another_list())
    for name, (lines, left_out) in lists.items():
        write_text(out / name, lines)
        if left_out:
            print(f"{name}: {left_out} lines left out, their images have no aligned face")
    for path in (*_attribute_lists(out), *(out / name for name in LISTS)):
        if path.name not in lists and path.is_file():
            print(f"warning: {path}: {source} has no such list, and training reads this one; remove it if it is an "
                  "earlier source's", file=sys.stderr)


def _attribute_lists(root: Path) -> list[Path]:
    return sorted(path for split in LIST_NAMES for path in root.glob(f"list_attr_*_{split}.txt"))


def _carry_list(path: Path, aligned: set[str], names: Names) -> tuple[str, int]:
    """Return the text of a list of labels for the aligned images, and the number of lines that are left out."""
    header: list[str] = []
    lines = read_lines(path)
    if path.name.startswith("list_attr_"):
        header, lines = lines[:2], lines[2:]
    values = len(header[1].split()) if header else 1  # that follow each name
    rows = [line.rsplit(None, values) for line in lines if line.strip()]
    carried = [" ".join([output_name(name), *labels]) for listed, *labels in rows
               if (name := names.find(listed)) in aligned]
    if header:
        header[0] = str(len(carried))
    return "".join(line + "\n" for line in [*header, *carried]), len(rows) - len(carried)
