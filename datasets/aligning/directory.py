"""A directory of photographs → one of aligned faces; a data directory stays one."""

import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

from datasets.aligning.aligner import Aligner, Options, align_all, output_name
from datasets.layout import image_directory
from datasets.lists import read_lines, read_lists, subject_line
from datasets.names import Names
from datasets.walking import ENDINGS, describe, walk
from options.schema import check, number, optional, text, true_or_false, whole_number
from utils import UserError, progress, read_json, sha256, write_json, write_text

RECORD = {"size": whole_number(16, 4096), "margin": number(-0.2, 2), "every_face": true_or_false,
          "score": number(0.05, 1), "points": optional(text(64)),
          **{name: optional(text()) for name in ("model", "landmarks", "source")}}
TYPED = {"every_face": "--all", "source": "source directory"}  # what the others are called, with two dashes


def align_directory(source: Path, out: Path, options: Options, *, workers: int = 1, overwrite: bool = False) -> None:
    """Align all photographs below ``source`` into ``out``, in the same subdirectories, and say what became of them.

    Where ``source`` is a data directory (it has an ``images.list``), ``out`` becomes one too: its lists, without the
    images that show no face. ``out/align.json`` keeps source and options, so that a second run goes on where one has
    stopped; ``overwrite`` aligns everything anew, as does a list of landmarks that has changed since.
    ``out/no_face.list`` names what could not be aligned. Raises UserError if options do not fit together or do not fit
    what ``out`` holds, and if no photograph shows a face.
    """
    is_layout = (source / "images.list").is_file() or any(source.glob("list_attr_*_train.txt"))
    if is_layout and options.every_face:
        raise UserError(f"--all: {source} is a data directory and its lists have one label per image; "
                        "align without --all")
    subjects = read_lists(source, complete=False).subjects if is_layout else {}
    photos, faces = (image_directory(source), out / "data") if is_layout else (source, out)
    files = walk(photos)
    if files.passed_over():
        print(f"{photos}: {describe(files.passed_over())}")
    if not files.images:
        raise UserError(f"{photos}: holds no images ({' '.join(ENDINGS)})")
    names = [path.relative_to(photos).as_posix() for path in files.images]
    taken = frozenset(map(output_name, names))
    if len(taken) < len(names):
        raise UserError(f"{photos}: some images differ only in that one ends in .jpg; rename one of them")
    setup = (photos, faces, options, taken)
    landmarks = Aligner(*setup).landmarks  # a missing package or a wrong model shows here, before anything is written
    record = replace(options, model=None if options.landmarks else sha256(options.model))
    if landmarks:
        landmarks.check_names(names)
    overwrite |= _open_output(out, {**asdict(record), "source": str(source.resolve()),
                                    "points": landmarks and landmarks.digest}, overwrite)

    waiting = [name for name in names if overwrite or not (face := faces / output_name(name)).is_file()
               or face.stat().st_mtime < (photos / name).stat().st_mtime]
    faults = dict(progress(align_all(waiting, workers, *setup), "aligning", len(waiting), "image"))
    faults = {name: fault for name, fault in faults.items() if fault}
    write_text(out / "no_face.list", "".join(f"{name} {fault}\n" for name, fault in sorted(faults.items())))
    aligned = {name for name in names if name not in faults}
    _report(names, waiting, faults, out)
    if not aligned:
        fault, count = Counter(faults.values()).most_common(1)[0]
        raise UserError(f"{photos}: none of the {len(names)} images shows a face; {count} times: {fault}; see "
                        f"{out / 'no_face.list'}")
    if is_layout:
        carry_lists(source, out, aligned, subjects)


def alignment_of(root: Path) -> dict[str, float] | None:
    """Return the ``size`` and ``margin`` with which a directory was aligned; None for any other directory."""
    record = Path(root) / "align.json"
    settings = read_json(record) if record.is_file() else None
    if isinstance(settings, dict):
        size, margin = settings.get("size"), settings.get("margin")
        if isinstance(size, (int, float)) and isinstance(margin, (int, float)):
            return {"size": int(size), "margin": float(margin)}
    return None


def _open_output(out: Path, settings: dict[str, object], overwrite: bool) -> bool:
    """Write ``align.json``, and return whether the list of landmarks has changed since an earlier run."""
    record = out / "align.json"
    if not record.is_file() and out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out}: holds something else already; choose another output directory")
    if record.is_file():
        before = check(read_json(record), RECORD, record, "choose another output directory")
        before = {"source": settings["source"], **before}  # an earlier version did not write it
    corrected = record.is_file() and settings["landmarks"] == before.get("landmarks") is not None \
        and settings["points"] != before.get("points")
    if corrected and not overwrite:
        print(f"{settings['landmarks']}: has changed since; all images are aligned anew")
        before["points"] = settings["points"]
    if record.is_file() and not overwrite:
        changed = [TYPED.get(key, f"--{key}") for key in settings if before.get(key) != settings[key]]
        if changed:
            raise UserError(f"{out}: was made with another {', '.join(changed)}; choose another output directory, "
                            "or align everything anew with --overwrite")
    write_json(record, settings)
    return corrected


def _report(names: list[str], waiting: list[str], faults: dict[str, str], out: Path) -> None:
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
    texts, names = {}, Names(image_directory(source))
    if (source / "expressions.txt").is_file():
        texts["expressions.txt"] = "".join(line + "\n" for line in read_lines(source / "expressions.txt")), 0
    if (source / "subjects.list").is_file():
        known = {output_name(name): subject for name, subject in subjects.items() if name in aligned}
        texts["subjects.list"] = ("".join(subject_line(name, *subject) for name, subject in known.items()),
                                  len(subjects) - len(known))
    for path in (*sorted(source.glob("list_attr_*_t*.txt")), source / "images_val.list", source / "images_test.list",
                 source / "images.list"):
        if path.is_file():
            texts[path.name] = _carried(path, aligned, names.for_another_list())
    for name, (lines, left_out) in texts.items():
        write_text(out / name, lines)
        if left_out:
            print(f"{name}: {left_out} lines left out, their images have no aligned face")


def _carried(path: Path, aligned: set[str], names: Names) -> tuple[str, int]:
    """The text of a list of labels for the aligned images, and how many lines it lacks."""
    head: list[str] = []
    lines = read_lines(path)
    if path.name.startswith("list_attr_"):
        head, lines = lines[:2], lines[2:]
    words = len(head[1].split()) if head else 1
    rows = [line.rsplit(None, words) for line in lines if line.strip()]
    kept = [" ".join([output_name(name), *rest]) for listed, *rest in rows if (name := names.find(listed)) in aligned]
    if head:
        head[0] = str(len(kept))
    return "".join(line + "\n" for line in [*head, *kept]), len(rows) - len(kept)
