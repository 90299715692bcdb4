"""The parts that all importers share: the importer itself, the collection of samples that it returns, and boxes."""

import argparse
import filecmp
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence

from datasets.files import Walk, check_output
from datasets.layout import Sample
from datasets.lists import LISTS, Names, shortened
from utils import UserError, refuse

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom lie outside the face

_MAGIC = {b"PAR1": ".parquet", b"PK\3\4": ".zip", b"\x89HDF": ".h5", b"MATLAB": ".mat", b"\x93NUMPY": ".npy",
          b"\x1f\x8b": ".gz", b"ARROW1": ".arrow", b"\xd0\xcf\x11\xe0": ".xls", b"\x80\4": ".pkl", b"\x80\5": ".pkl",
          b"\xff\xfe": ".utf16", b"\xfe\xff": ".utf16",
          b"\x80\2": ".pkl", b"\x80\3": ".pkl", b"{": ".jsonl", b"[": ".json", b"Rar!": ".rar", b"7z\xbc\xaf": ".7z"}
_AS_CSV = "save it as CSV: python -c \"import pandas; pandas.{}.to_csv('labels.csv')\""
_AS_FILES = "read it with {}, and write its pictures as files, and a CSV table of file,label"
_EXCEL, _PICKLE = _AS_CSV.format("read_excel('{0}')"), _AS_FILES.format("pickle.load")
_FORMATS = {  # what is said of a file that is no text, {0}, by its ending
    ".parquet": "is a Parquet file; " + _AS_FILES.format("pandas.read_parquet"),
    ".arrow": "is an Arrow file; " + _AS_FILES.format("pandas.read_feather"),
    ".feather": "is a Feather file; " + _AS_FILES.format("pandas.read_feather"),
    ".xlsx": "is an Excel file; " + _EXCEL, ".xls": "is an Excel file; " + _EXCEL,
    ".json": "is a JSON file; " + _AS_CSV.format("read_json('{0}')"),
    ".jsonl": "is a file of JSON lines; " + _AS_CSV.format("read_json('{0}', lines=True)"),
    ".npz": "is NumPy's arrays; " + _AS_FILES.format("numpy.load"),
    ".npy": "is a NumPy array; " + _AS_FILES.format("numpy.load"),
    ".mat": "is a MATLAB file; " + _AS_FILES.format("scipy.io.loadmat"),
    ".h5": "is an HDF5 file; " + _AS_FILES.format("h5py.File"),
    ".hdf5": "is an HDF5 file; " + _AS_FILES.format("h5py.File"),
    ".pkl": "is a Python pickle, which may run code; " + _PICKLE,
    ".pickle": "is a Python pickle, which may run code; " + _PICKLE,
    ".pt": "is a PyTorch file; " + _AS_FILES.format("torch.load"),
    ".mdb": "is an LMDB database; " + _AS_FILES.format("lmdb.open"),
    ".tfrecord": "is a TFRecord file; " + _AS_FILES.format("tensorflow.data.TFRecordDataset"),
    ".utf16": "is text in UTF-16; save it in UTF-8",
    **dict.fromkeys((".avi", ".mp4", ".mov", ".mkv", ".wmv", ".mpg", ".mpeg", ".webm"),
                    "is a video; write its frames as images: ffmpeg -i {0} %05d.png"),
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"),
                    "is an archive; unpack it, and name the directory or the table that it holds")}


@dataclass(frozen=True)
class SourceSample(Sample):
    """A sample of a source: ``path`` is the source's file, ``name`` the name of its image in the data directory.

    ``split`` is None while it is undecided. ``pixels`` are the greys of a square picture, row by row, if the table
    ``path`` holds them. ``box`` is the box of the face, if the picture shows several.
    """

    split: str | None = None
    pixels: bytes | None = field(default=None, repr=False)
    box: Box | None = None

    @property
    def is_extracted(self) -> bool:
        """True if the image is not the source's file, but is extracted from it and becomes a PNG file."""
        return self.pixels is not None or self.box is not None


@dataclass
class Collection:
    """The samples that an importer takes from a source, and an account of those that it leaves out.

    ``walk`` holds the files of the source, ``rows`` is the number of faces that its table lists, ``names`` find the
    files that its lists mean, ``notes`` are sentences for the user. ``left_out`` counts the images that are left out by
    the reason, ``refused`` are their files.
    """

    expressions: tuple[str, ...]
    walk: Walk = field(default_factory=Walk)
    rows: int = 0
    names: list[Names] = field(default_factory=list)
    samples: list[SourceSample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)
    refused: set[Path] = field(default_factory=set)

    def split(self, split: str | None) -> list[SourceSample]:
        """Return the samples of a split, or the undecided ones for None."""
        return [sample for sample in self.samples if sample.split == split]

    def leave_out(self, reason: str, *paths: Path) -> None:
        """Count images of the source that are left out, with the reason."""
        self.left_out[reason] += len(paths)
        self.refused.update(paths)

    def note(self, found: object, sentence: str) -> None:
        """Add a note for the user if something was found."""
        self.notes += [sentence] if found else []

    def images_named(self, pattern: re.Pattern, example: str) -> Iterator[tuple[Path, re.Match]]:
        """Yield the images of the source whose file names match a pattern, with the match; leave out the others.

        Of several copies of one file the first is yielded. Raises UserError if two different files have one name.
        """
        first: dict[tuple, Path] = {}
        for path in self.walk.images:
            match = pattern.fullmatch(path.name)
            name = tuple(part and part.upper() for part in match.groups()) if match else path.name
            known = first.setdefault(name, path)
            if not match:
                self.leave_out(f"not named like {example}", path)
            elif known is path:
                yield path, match
            elif filecmp.cmp(known, path, shallow=False):
                self.leave_out("that are copies of others", path)
            else:
                raise UserError(f"{known} and {path} have names of the same picture and differ; name the directory of "
                                "one of them as the source, or move the other away")


@dataclass(frozen=True)
class Importer:
    """One kind of data set of ``python -m datasets.convert KIND SOURCE``.

    ``meaning`` and ``source_meaning`` explain kind and source in the help. ``read`` returns the :class:`Collection` for
    the command's arguments: it reads names and lists, no image files, writes nothing, and raises UserError for a source
    that is no such data set. ``options`` are the kind's own options by flag, as argparse takes them. ``out`` is the
    default data directory, ``datasets/KIND`` if it is empty.
    """

    kind: str
    meaning: str
    source_meaning: str
    read: Callable[[argparse.Namespace], Collection]
    options: Mapping[str, Mapping[str, Any]]
    out: str = ""
    metavar: str = "SRC"


def source_directory(source: Path, out: Path) -> Path:
    """Return the directory to import from. Raises UserError if it is absent, or if it and the output overlap."""
    fault = foreign_format(source) or "is a file; name a directory"
    refuse(source, (source.is_file(), fault), (not source.is_dir(), "no such directory"))
    for written in (out, out / "data"):
        check_output(written, "--out", apart=[source], directory=True)
    return source


def source_table(table: Path, out: Path, *others: Path) -> Path:
    """Return the table to import from. Raises UserError if it is absent, or if lists would replace it or ``others``."""
    for path in (*others, table):
        fault = foreign_format(path)
        refuse(path, (not path.is_file(), "no such table"), (fault, str(fault)))
    for name in LISTS:
        check_output(out / name, "--out", inputs=[table, *others])
    return table


def foreign_format(path: Path) -> str | None:
    """Return what a message says of a file that is no text, by its first bytes or its ending: its format, and the way.
    """
    start = b""
    if path.is_file():
        with open(path, "rb") as handle:
            start = handle.read(4096)
    ending = next((ending for magic, ending in _MAGIC.items() if start.startswith(magic)), path.suffix.lower())
    inside = {b"[Content_Types].xml": ".xlsx", b".npy": ".npz", b"data.pkl": ".pt"} if ending == ".zip" else {}
    ending = next((ending for name, ending in inside.items() if name in start), ending)
    return _FORMATS[ending].format(path.name) if ending in _FORMATS else None


def read_box(values: Sequence[str], sized: bool, where: str) -> Box:
    """Return the box of a list's values: left, top, right and bottom, or width and height as the last two if ``sized``.

    Fractions of pixels are rounded outwards. Raises UserError, with ``where`` the values stand, if they are no box.
    """
    try:
        left, top, *ends = map(float, values)
        right, bottom = (start * sized + end for start, end in zip((left, top), ends))
        box = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
    except (ValueError, OverflowError):
        box = (0, 0, 0, 0)
    form = f"left, top, {'width and height' if sized else 'right and bottom'} in pixels"
    is_empty = box[0] >= box[2] or box[1] >= box[3]
    refuse(where, (is_empty, f"\"{shortened(' '.join(values))}\" is not a box of {form}"))
    return box


def face_name(name: str, box: Box) -> str:
    """Return the name of the image of a face in a picture's box."""
    return f"{name.rpartition('.')[0] or name}_{'_'.join(map(str, box))}.png"
