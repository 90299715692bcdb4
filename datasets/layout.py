"""A data directory as samples by split: read from its lists, checked, written (METHOD §6).

datasets/README.md says what a directory holds. Reading never writes into it, and opens no image.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable, Sequence

from datasets.lists import LIST_NAMES, Lists, Names, Row, image_directory, read_lists, shortened, subject_line
from utils import UserError, read_json, write_text

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
    expressions, or of the fold that is tested. ``listed`` are the names of the labels in the order of the lists.
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

def read_layout(root: str | Path, expressions: Sequence[str] | None = None, *,
                known: Sequence[str] | None = None, neutral: str | None = None, need_test: bool = True) -> Layout:
    """Read the lists of a data directory (METHOD §6, §7 row 15).

    ``expressions`` are the names in the order of the layout's labels, which may leave some of the directory's out; by
    default they are those of the directory, or ``known``. ``neutral`` names the expression whose faces are the targets
    of synthesis; by default it is the one called "neutral", if any. Without ``need_test`` the test list may be absent.
    Raises UserError if a list is absent or malformed, or has a label that is none of the expressions.
    """
    lists = read_lists(Path(root), need_test=need_test)
    names = lists.expressions or (tuple(known) if known else None)
    expressions = tuple(expressions) if expressions else names
    if expressions is None:
        raise UserError(f"{root}: nothing names its expressions; give them with -a, in the order of the labels")
    interned = {name: name for name in names or ()}  # equal names become one object, since pickle stores each object
    expressions = tuple(interned.get(name, name) for name in expressions)
    _check_names(expressions, names, lists.root)
    for mistake in label_mistakes(lists, names or expressions, neutral):
        raise UserError(mistake)
    return build_layout(lists, names or expressions, expressions, neutral)


def build_layout(lists: Lists, names: tuple[str, ...], expressions: tuple[str, ...], neutral: str | None = None
                 ) -> Layout:
    """Return the layout of lists whose labels have ``names``, with labels that are positions in ``expressions``.

    Rows whose label has no name are ignored; :func:`label_mistakes` reports them.
    """
    n, images = len(expressions), image_directory(lists.root)
    position = {label: expressions.index(name) if name in expressions else -1 for label, name in enumerate(names)}
    position[target_only_label(names, neutral)] = n

    train, val, test = ([Sample(name, position[row.label], images / name, *lists.subjects.get(name, (None, None)))
                         for name, row in rows.items() if row.label in position]
                        for rows in (lists.train, lists.val, lists.test))
    has_targets = any(sample.label == n for sample in train + val + test)
    return Layout(lists.root, expressions, n if has_targets else neutral_label(expressions, neutral),
                  *([s for s in split if 0 <= s.label < n] for split in (train, val, test)),
                  target_only=[s for s in train if s.label == n], left_out=[s for s in train if s.label < 0],
                  listed=names)


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


def target_only_label(names: Sequence[str], neutral: str | None = None) -> int | None:
    """Return the label, one above the expressions', that marks target-only neutral faces (METHOD §7, row 15).

    It is None if one of the expressions is the neutral one.
    """
    return len(names) if neutral is None and "neutral" not in (name.lower() for name in names) else None


def _check_names(expressions: tuple[str, ...], names: tuple[str, ...] | None, root: Path) -> None:
    """Check the expressions of -a. Raises UserError if there are fewer than two, or some are repeated or unknown."""
    if len(expressions) < 2:
        raise UserError("-a: at least two expressions are needed to swap one for another")
    repeated = [name for name, count in Counter(expressions).items() if count > 1]
    if repeated:
        raise UserError(f"-a: {' '.join(repeated)} named twice")
    unknown = [name for name in expressions if names is not None and name not in names]
    if unknown:
        raise UserError(f"-a: unknown expression {' '.join(unknown)}; {root} has {' '.join(names)} "
                        f"(to use other names, write them in the order of the labels into {root / 'expressions.txt'})")


def alignment_of(root: Path) -> dict[str, float] | None:
    """Return the ``size`` and ``margin`` with which a directory was aligned; None for any other directory."""
    record = Path(root) / RECORD_NAME
    settings = read_json(record) if record.is_file() else None
    if isinstance(settings, dict):
        size, margin = settings.get("size"), settings.get("margin")
        if isinstance(size, (int, float)) and isinstance(margin, (int, float)):
            return {"size": int(size), "margin": float(margin)}
    return None


# ------------------------------------------------------------------------------------------------- checking

def label_mistakes(lists: Lists, names: Sequence[str], neutral: str | None = None) -> list[str]:
    """Return a sentence for every label that is none of the named expressions, at the first line that has it."""
    known = {*range(len(names)), target_only_label(names, neutral)}
    unknown: dict[int, list[Row]] = {}
    shown = " ".join(map(shortened, names[:20])) + (" ..." if len(names) > 20 else "")
    for row in lists.rows():
        if row.label not in known:
            unknown.setdefault(row.label, []).append(row)
    return [f"{rows[0].where}: label {label} is out of range, the {len(names)} expressions ({shown}) have "
            f"the labels 0 to {len(names) - 1}" + (f"; {len(rows)} images have it" if len(rows) > 1 else "")
            for label, rows in unknown.items()]


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
    more = f", and {len(broken) - 5} more" if len(broken) > 5 else ""
    first = ", ".join(f"{path} ({fault})" if len(path) <= 300 else f"{path[:297]}... ({fault})"
                      for path, fault in ((str(sample.path), fault) for sample, fault in broken[:5]))
    missing, hint = [sample for sample, fault in broken if fault == "missing"], ""
    if missing:
        names = Names(Path(missing[0].path.as_posix().removesuffix(missing[0].name)))
        for sample in missing[:2]:
            names.find(sample.name)
        hint = f"; missing are {names.explain_missing()}" if names.missing else ""
    raise UserError(f"{len(broken)} of {len(samples)} listed images cannot be used: {first}{more}{hint}; remove them "
                    "from the lists or replace them")


# ------------------------------------------------------------------------------------------------- writing

def write_layout(root: str | Path, expressions: Sequence[str], splits: dict[str, Sequence[Sample]],
                 remove: bool = False) -> None:
    """Write the lists of a data directory, each atomically, ``images.list`` last.

    ``splits`` maps ``train``, ``test`` and optionally ``val`` to samples; ``subjects.list`` is written if any sample
    has a subject. With ``remove``, existing lists that would be empty now are removed.
    """
    root = Path(root)
    write_text(root / "expressions.txt", "\n".join(expressions) + "\n")
    for name, text in _list_texts(splits).items():
        if text:
            write_text(root / name, text)
        elif remove:
            (root / name).unlink(missing_ok=True)


def list_text(samples: Sequence[Sample]) -> str:
    """Return the text of a list: ``<file name> <label>`` per line."""
    return "".join(f"{sample.name} {sample.label}\n" for sample in samples)


def _list_texts(splits: dict[str, Sequence[Sample]]) -> dict[str, str]:
    """Return the text of each list by its file name, in the order in which they are to be written."""
    everything = [sample for name in ("train", "val", "test") for sample in splits.get(name, ())]
    texts = {"subjects.list": "".join(subject_line(s.name, s.subject, s.scene) for s in everything if s.subject)}
    return texts | {LIST_NAMES[split]: list_text(splits.get(split, ())) for split in ("val", "test", "train")}
