"""A data directory as samples by split: read from its lists, checked, written (METHOD §6).

datasets/README.md says what a directory holds. Reading never writes into it, and opens no image.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Iterable, Sequence

from datasets.lists import (LIST_NAMES, TARGET_ONLY, Lists, Names, Row, image_directory, read_lists, shortened,
                            subject_line)
from utils import UserError, main_process, read_json, write_text

SPLITS = ("train", "val", "test")
RECORD_NAME = "align.json"  # the file of a directory of aligned faces that keeps their source and options


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a list. ``label`` is a position in the expressions, or their number for a target-only face."""

    name: str
    label: int
    path: Path
    subject: str | None = None
    scene: str | None = None


@dataclass(frozen=True)
class DataSet:
    """What ``--data`` knows of a published data set (METHOD §6)."""

    name: str
    directory: str
    expressions: tuple[str, ...]


DATA_SETS = {
    1: DataSet("mmi", "datasets/MMI", ("anger", "disgust", "fear", "happiness", "sadness", "surprise")),
    2: DataSet("multipie", "datasets/multiple", ("disgust", "scream", "smile", "squint", "surprise", "neutral")),
    3: DataSet("raf", "datasets/RAF",
               ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")),
}


@dataclass(frozen=True)
class Layout:
    """The samples of a data directory by split. Labels are positions in ``expressions``.

    ``neutral`` is the label of the neutral faces that synthesis takes as targets, or None; it is ``len(expressions)``
    if these are ``target_only``: in no class and no test (METHOD §7, row 15). ``left_out`` are listed images of other
    expressions, of the fold that is tested, and target-only faces of the persons in it or in a validation split.
    ``listed`` are the names of the labels in the order of the lists, ``notes`` what :func:`read_layout` prints.
    """

    root: Path
    expressions: tuple[str, ...]
    neutral: int | None
    train: list[Sample]
    val: list[Sample]
    test: list[Sample]
    target_only: list[Sample] = field(default_factory=list)
    left_out: list[Sample] = field(default_factory=list)
    listed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def split(self, name: str) -> list[Sample]:
        """Return the samples of ``train``, ``val`` or ``test``, or of ``all`` three."""
        return self.train + self.val + self.test if name == "all" else getattr(self, name)

    def counts(self, name: str) -> list[int]:
        """Return the number of images of each expression in a split."""
        counted = Counter(sample.label for sample in self.split(name))
        return [counted[label] for label in range(len(self.expressions))]

    def targets(self) -> list[Sample]:
        """Return the neutral training faces that synthesis gives other expressions."""
        return self.target_only or [sample for sample in self.train if sample.label == self.neutral]


def counts_table(layout: Layout) -> str:
    """Return images by expression and split, and subjects by split, as an aligned text table."""
    splits = [split for split in SPLITS if split != "val" or layout.val]
    rows = [["expression", *splits, "all"]]
    for label, name in enumerate(layout.expressions):
        counts = [layout.counts(split)[label] for split in splits]
        rows.append([name, *map(str, counts), str(sum(counts))])
    sums = [len(layout.split(split)) for split in splits]
    rows.append(["all", *map(str, sums), str(sum(sums))])
    if layout.target_only:
        rows.append(["neutral (targets only)", str(len(layout.target_only)), *[""] * len(splits)])
    subjects = [{s.subject for s in layout.split(split) if s.subject} for split in splits]
    if any(subjects):
        rows.append(["subjects", *(str(len(part)) for part in subjects), str(len(set().union(*subjects)))])
    name_width, *widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join([name.ljust(name_width), *map(str.rjust, cells, widths)]).rstrip()
                     for name, *cells in rows)


def short_names(expressions: Sequence[str]) -> list[str]:
    """Return two-letter names for tables (``DI SC SM SQ SU NE``, METHOD §6), longer ones if two letters are ambiguous.
    """
    for length in range(2, max(map(len, expressions)) + 1):
        names = [name[:length].upper() for name in expressions]
        if len(set(names)) == len(names):
            return names
    return list(expressions)


# ------------------------------------------------------------------------------------------------- reading

def read_layout(root: str | Path, expressions: Sequence[str] | None = None, *, known: Sequence[str] | None = None,
                neutral: str | None = None, need_test: bool = True, user: str | None = None, complete: bool = True
                ) -> Layout:
    """Read the lists of a data directory (METHOD §6, §7 row 15).

    ``expressions`` are the names in the order of the layout's labels, which may leave some of the directory's out, and
    may differ from them in case; by default they are those of the directory, or ``known``. ``neutral`` names the
    expression whose faces are the targets of synthesis; by default it is the one called "neutral", if any. Without
    ``need_test`` the test list may be absent, without ``complete`` each. ``user`` is what is tested on other data, such
    as a recognizer: its expressions may be absent there, and are taken for the directory's labels if nothing names
    these. Notes say so, and how many images are left out. Raises UserError if a list is absent or malformed, or has a
    label that is none of the expressions.
    """
    lists = read_lists(Path(root), complete=complete, need_test=need_test)
    if lists.expressions is None and known:
        lists = replace(lists, has_target_only=True)  # as in the published lists of MMI
    names = lists.expressions or tuple(known or expressions or ())
    if not names:
        raise UserError(f"{root}: nothing names its expressions; give them with -a, in the order of the labels")
    expressions = tuple(expressions or names)
    interned = {name: name for name in names}  # equal names become one object, since pickle stores each object
    expressions = tuple(interned.get(name, name) for name in expressions)
    notes = _check_names(expressions, names, lists.root, user)
    for mistake in label_mistakes(lists, names):
        raise UserError(mistake)
    layout = build_layout(lists, names, expressions, neutral)
    if user and lists.expressions is None:
        notes.append(f"nothing names its labels, so 0 to {len(names) - 1} are taken for {' '.join(names)}; if they "
                     f"mean others, write their names in order into {lists.root / 'expressions.txt'}")
    if layout.left_out:
        rows, count = lists.labels(), sum(sample.name in lists.test for sample in layout.left_out)
        labels = sorted({rows[sample.name].label for sample in layout.left_out})
        shown = ", ".join(dict(enumerate(names)).get(label, "faces for targets only") for label in labels)
        notes.append(f"{len(layout.left_out)} of {len(rows)} images are left out ({count} of {len(lists.test)} test "
                     f"images), which show {shown}")
    for note in notes if main_process() else ():
        print(f"note: {lists.root}: {note}")
    return replace(layout, notes=tuple(notes))


def build_layout(lists: Lists, names: tuple[str, ...], expressions: tuple[str, ...], neutral: str | None = None
                 ) -> Layout:
    """Return the layout of lists whose labels have ``names``, with labels that are positions in ``expressions``.

    Rows whose label has no name are ignored; :func:`label_mistakes` reports them.
    """
    n, images, keys = len(expressions), image_directory(lists.root), [name.casefold() for name in expressions]
    position = {label: keys.index(name.casefold()) if name.casefold() in keys else -1
                for label, name in enumerate(names)}
    if lists.has_target_only:
        position[len(names)] = n if neutral_label(names, neutral) is None else -1

    train, val, test = ([Sample(name, position[row.label], images / name, *lists.subjects.get(name, (None, None)))
                         for name, row in rows.items() if row.label in position]
                        for rows in (lists.train, lists.val, lists.test))
    has_targets = any(sample.label == n for sample in train + val + test)
    return Layout(lists.root, expressions, n if has_targets else neutral_label(expressions, neutral),
                  *([s for s in split if 0 <= s.label < n] for split in (train, val, test)),
                  target_only=[s for s in train if s.label == n],
                  left_out=[s for s in train + val + test if s.label < 0], listed=names)


def neutral_label(expressions: Sequence[str], neutral: str | None = None) -> int | None:
    """Return the position of the neutral expression: the one named ``neutral``, else the one called "neutral", or None.

    Raises UserError if ``neutral`` is none of the expressions.
    """
    lowered = [name.lower() for name in expressions]
    if neutral is None:
        return lowered.index("neutral") if "neutral" in lowered else None
    if neutral.lower() not in lowered:
        raise UserError(f"--neutral {neutral}: not among the expressions {' '.join(expressions)}")
    return lowered.index(neutral.lower())


def _check_names(expressions: tuple[str, ...], names: tuple[str, ...], root: Path, user: str | None) -> list[str]:
    """Check that the expressions are different ones of a directory's ``names``, and at least two.

    Return a note if some are absent there, as those of a ``user`` may be. Raises UserError if they are not.
    """
    keys, there = [name.casefold() for name in expressions], {name.casefold() for name in names}
    absent = " ".join(name for name, key in zip(expressions, keys) if key not in there)
    advice = f"to use other names, write them in the order of the labels into {root / 'expressions.txt'}"
    if len(expressions) < 2:
        raise UserError("-a: at least two expressions are needed to swap one for another")
    if len(set(keys)) < len(keys):
        raise UserError(f"-a: {next(name for name in expressions if keys.count(name.casefold()) > 1)} named twice")
    if absent and (not user or len(there & set(keys)) < 2):
        owner = f"that {user} knows" if user else "that is asked for"
        raise UserError(f"{root}: unknown expression {absent}, {owner}; it has {' '.join(names)} ({advice})")
    return [f"has no {absent}, which {user} knows as well"] if absent else []


def published_picture(sample: Sample) -> Path | None:
    """Return the picture of ``data/`` beside a face of ``align_5p/``, or None.

    The published code shows it of a target that keeps its expression, with the features of the face (METHOD §6).
    """
    folder = sample.path.parents[sample.name.count("/")]
    picture = folder.parent / "data" / sample.name
    return picture if folder.name == "align_5p" and picture.is_file() else None


def alignment_of(root: Path) -> dict[str, float] | None:
    """Return the ``size`` and ``margin`` with which a directory was aligned; None for any other directory."""
    record = Path(root) / RECORD_NAME
    settings = read_json(record) if record.is_file() else None
    try:
        return {"size": int(settings["size"]), "margin": float(settings["margin"])}
    except (KeyError, TypeError, ValueError):
        return None


# ------------------------------------------------------------------------------------------------- checking

def label_mistakes(lists: Lists, names: Sequence[str]) -> list[str]:
    """Return a sentence for every label that is none of the named expressions, at the first line that has it."""
    unknown: dict[int, list[Row]] = {}
    for row in lists.labels().values():
        if not 0 <= row.label < len(names) + lists.has_target_only:
            unknown.setdefault(row.label, []).append(row)
    shown = " ".join(map(shortened, names[:20])) + (" ..." if len(names) > 20 else "")
    remedies = f"; name its expression in {lists.root / 'expressions.txt'}, or if it marks neutral faces that are " \
        f"only targets of synthesis, write {TARGET_ONLY} behind the names there"
    return [f"{rows[0].where}: label {label} is out of range, the {len(names)} expressions ({shown}) have the labels "
            f"0 to {len(names) - 1}" + (f"; {len(rows)} images have it" if len(rows) > 1 else "")
            + (remedies if label == len(names) else "") for label, rows in unknown.items()]


def class_mistakes(layout: Layout, any_target: bool = False) -> list[str]:
    """Return a sentence if expressions have no training image, and one if synthesis has no neutral target.

    With ``any_target`` synthesis needs no neutral targets.
    """
    mistakes = []
    empty = [name for name, count in zip(layout.expressions, layout.counts("train")) if count == 0]
    if empty:
        mistakes.append(f"no training image of {', '.join(empty)}: leave it out of -a, or add some")
    if not any_target and layout.neutral is not None and not layout.targets():
        neutral = dict(enumerate(layout.expressions)).get(layout.neutral, "the label of target-only faces")
        mistakes.append(f"no neutral partners: {neutral} has no training image, and synthesis needs neutral faces as "
                        "targets; name the expression that serves with --neutral NAME")
    return mistakes


def check_classes(layout: Layout, any_target: bool = False) -> None:
    """Check that every expression has a training image, and that synthesis has neutral targets if it needs them.

    Raises UserError if not. With ``any_target`` synthesis needs no neutral targets.
    """
    mistakes = class_mistakes(layout, any_target)
    if mistakes:
        raise UserError(f"{layout.root}: {'; '.join(mistakes)}")
    if not any_target:
        check_neutral(layout)


def check_neutral(layout: Layout) -> None:
    """Check that one expression is neutral, whose faces are the targets of synthesis. Raises UserError if none is."""
    if layout.neutral is None:
        raise UserError(f"{layout.root}: no expression is called neutral ({' '.join(layout.expressions)}) and none is "
                        "named; name the one whose faces are targets of synthesis with --neutral NAME, or use the "
                        "faces of all with --targets any")


def check_images(samples: Iterable[Sample]) -> None:
    """Check by the files' headers that all are images. Raises UserError if some are not, or are missing."""
    from datasets.loading import of_files  # commands that only read lists import no torch, Pillow and numpy
    from datasets.pictures import image_fault

    samples = list(samples)
    report_broken(samples, list(of_files(image_fault, [sample.path for sample in samples], "checking images")))


def check_not_moved(root: str | Path, known: str | None) -> None:
    """Check that the data directory ``known`` to a run still exists if it is ``root``. Raises UserError if not."""
    if known and not Path(root).is_dir() and Path(root).absolute() == Path(known).absolute():
        raise UserError(f"{root}: the run's images were here and are not any more; name the directory that they have "
                        "moved to with --data_dir")


def check_splits(layout: Layout) -> None:
    """Check that no image is both in the validation and in the test split. Raises UserError if one is."""
    test_names = {sample.name for sample in layout.test}
    both = [sample.name for sample in layout.val if sample.name in test_names]
    if both:
        raise UserError(f"{layout.root}: {len(both)} of {len(layout.val)} images of images_val.list are in "
                        f"images_test.list too, e.g. {shortened(both[0])}; remove them from one of the lists")


def report_broken(samples: Sequence[Sample], faults: Sequence[str | None]) -> None:
    """Raise a UserError that counts the samples with a fault and names the first five, unless there are none."""
    broken = [(sample, fault) for sample, fault in zip(samples, faults) if fault]
    if not broken:
        return
    first = ", ".join(f"{str(sample.path)[:300]} ({fault})" for sample, fault in broken[:5])
    more, hint = f", and {len(broken) - 5} more" if len(broken) > 5 else "", ""
    if missing := [sample for sample, fault in broken if fault == "missing"][:2]:
        names = Names(Path(missing[0].path.as_posix().removesuffix(missing[0].name)))
        if None in [names.find(sample.name) for sample in missing]:
            hint = f"; missing are {names.explain_missing()}"
    raise UserError(f"{len(broken)} of {len(samples)} listed images cannot be used: {first}{more}{hint}; remove them "
                    "from the lists or replace them")


# ------------------------------------------------------------------------------------------------- writing

def write_layout(root: str | Path, expressions: Sequence[str], splits: dict[str, Sequence[Sample]],
                 remove: bool = False) -> None:
    """Write the lists of a data directory, each atomically, ``images.list`` last.

    ``splits`` maps ``train``, ``test`` and optionally ``val`` to samples, of which those with a label behind the
    expressions are target-only faces; ``subjects.list`` is written if any sample has a subject. With ``remove``,
    existing lists that would be empty now are removed.
    """
    root = Path(root)
    everything = [sample for split in SPLITS for sample in splits.get(split, ())]
    is_marked = any(sample.label == len(expressions) for sample in everything)
    write_text(root / "expressions.txt", "\n".join([*expressions, *[TARGET_ONLY] * is_marked]) + "\n")
    texts = {"subjects.list": "".join(subject_line(s.name, s.subject, s.scene) for s in everything if s.subject)}
    texts |= {LIST_NAMES[split]: list_text(splits.get(split, ())) for split in ("val", "test", "train")}
    for name, text in texts.items():
        if text:
            write_text(root / name, text)
        elif remove:
            (root / name).unlink(missing_ok=True)


def list_text(samples: Sequence[Sample]) -> str:
    """Return the text of a list: ``<file name> <label>`` per line."""
    return "".join(f"{sample.name} {sample.label}\n" for sample in samples)
