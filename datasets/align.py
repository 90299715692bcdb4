"""The command that detects and aligns faces: ``python -m datasets.align SRC OUT --model FILE``."""

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Iterable, Sequence

import numpy
from PIL import Image

from datasets.aligning.detect import FaceDetector, align_points
from datasets.aligning.geometry import Fit, measure_fit
from datasets.files import ENDINGS, check_output, describe, walk
from datasets.layout import RECORD_NAME
from datasets.lists import (LIST_NAMES, TARGET_ONLY, Lists, Names, image_directory, read_lists, read_lines,
                            shortened, subject_line)
from datasets.pictures import BLANK, BadPicture, exif_turn, greys_of, is_blank, read_picture
from options.config import OneLineParser, check_ranges
from utils import (UserError, by_threads, fingerprint, home_expanded, read_json, refuse, run_command, save_picture,
                   sha256, usable_cores, user_path, write_json, write_text)

LARGEST_TILT = 45  # degrees of a face whose landmarks belong to the picture as it is shown
# The options that decide how a face looks, as align.json records them, and their names in messages.
SETTINGS = {"size": "--size", "margin": "--margin", "score": "--score", "model": "--model",
            "landmarks": "--landmarks", "source": "source directory", "points": "--points"}


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    refuse(args.source, (not args.source.is_dir(), "no such directory of photographs"),
           (not args.model and not args.landmarks, "--model FILE is needed to find faces (YuNet's ONNX file, see "
            "--help), or --landmarks FILE if their points are known"))
    refuse(args.landmarks, (args.landmarks and not Path(args.landmarks).exists(), "no such landmarks file"))
    check_ranges(args, size=(16, 4096), margin=(-0.2, 2), score=(0.05, 1), workers=(1, 512))
    check_output(args.out, "OUT", apart=[args.source], directory=True)
    align_directory(args)


def build_parser() -> OneLineParser:
    """Return the parser of this command."""
    parser = OneLineParser(
        prog="python -m datasets.align",
        description="Every face is turned upright and cut out at one size by a similarity transform of its five "
                    "points. If SRC is a data directory (it has an images.list), OUT becomes one too: its "
                    "lists, without the images that show no face.",
        epilog="The model: YuNet, published as face_detection_yunet in opencv_zoo and as yunet_n_640_640.onnx in "
               "libfacedetection.train (both on GitHub). It runs in OpenCV: pip install -r requirements-optional.txt")
    parser.add_argument("source", metavar="SRC", type=user_path,
                        help="a directory of photographs, or a data directory with lists")
    parser.add_argument("out", metavar="OUT", type=user_path,
                        help="where the aligned faces go, in the same subdirectories")
    parser.add_argument("--model", type=home_expanded, metavar="FILE",
                        help="YuNet's ONNX file (not needed with --landmarks)")
    parser.add_argument("--landmarks", type=home_expanded, metavar="FILE",
                        help="no detection: lines \"<name> x1 y1 ... x5 y5\" (right "
                        "eye, left eye, nose, mouth corners), or RAF-DB's directory of *_manu_attri.txt")
    parser.add_argument("--size", type=int, default=256, help="side of the faces in pixels (%(default)s)")
    parser.add_argument("--margin", type=float, default=0.0,
                        help="share of the crop (forehead to chin) added on each side (%(default)s)")
    parser.add_argument("--score", type=float, default=0.6, help="least confidence of a face, 0 to 1 (%(default)s)")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="threads (one per core: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="align everything anew, e.g. with other options")
    return parser


# ------------------------------------------------------------------------------------------------------ a directory

def align_directory(args: argparse.Namespace) -> None:
    """Align all photographs below the source into the output, in the same subdirectories, and report what became of it.

    If the source is a data directory (it has an ``images.list``), the output becomes one too: its lists, without the
    images that show no face. Its ``align.json`` keeps source and options, so that a second run continues an interrupted
    one; ``--overwrite`` aligns everything anew, as does a list of landmarks that has changed since. ``no_face.list``
    names what could not be aligned. Raises UserError if options do not fit together or do not fit what the output
    holds, and if no photograph shows a face.
    """
    source, out = args.source, args.out
    is_data_directory = (source / "images.list").is_file() or any(source.glob("list_attr_*_train.txt"))
    lists = read_lists(source, complete=False) if is_data_directory else None  # reports mistakes before any work
    photos, faces = (image_directory(source), out / "data") if is_data_directory else (source, out)
    names = _photograph_names(photos)
    align = Aligner(photos, faces, args, names)  # reports a wrong model or list before anything is written
    settings = {key: getattr(args, key, None) for key in SETTINGS} | {"source": str(source.resolve())}
    if align.landmarks:
        settings |= {"model": None, "landmarks": str(Path(args.landmarks).absolute()), "points": align.landmarks.digest}
    else:
        settings["model"] = sha256(args.model)
    overwrite = _open_output(out, settings, args.overwrite) or args.overwrite

    waiting = [name for name in names if overwrite or not (face := faces / output_name(name)).is_file()
               or face.stat().st_mtime < (photos / name).stat().st_mtime]
    results = zip(waiting, by_threads(align, waiting, "aligning", args.workers))
    faults = {name: fault for name, fault in results if fault}
    write_text(out / "no_face.list", "".join(f"{name} {fault}\n" for name, fault in sorted(faults.items())))
    earlier, aligned = len(names) - len(waiting), set(names) - faults.keys()
    without_face = sum(fault == "no face found" for fault in faults.values())
    print(f"{len(aligned)} of {len(names)} images aligned into {out}"
          + (f" ({earlier} of them by an earlier run)" if earlier else "")
          + (f"\n{without_face} without a face, {len(faults) - without_face} unusable: listed in {out / 'no_face.list'}"
             if faults else ""))
    fault, count = next(iter(Counter(faults.values()).most_common(1)), ("", 0))
    refuse(photos, (not aligned, f"none of the {len(names)} images shows a face ({count} of them: {fault}); see "
                    f"{out / 'no_face.list'}"))
    if lists:
        carry_lists(lists, out, aligned)


def _photograph_names(photos: Path) -> list[str]:
    """Return the names of the images below a directory. Raises UserError if there are none or two share an output."""
    files = walk(photos)
    if files.passed_over():
        print(f"{photos}: {describe(files.passed_over())}")
    names = [path.relative_to(photos).as_posix() for path in files.images]
    refuse(photos, (not names, f"holds no images ({' '.join(ENDINGS)})"),
           (len(set(map(output_name, names))) < len(names), "some images differ only in that one ends in .jpg; rename "
            "one of them"))
    return names


def _open_output(out: Path, settings: dict[str, object], overwrite: bool) -> bool:
    """Write ``align.json``, and return whether the list of landmarks has changed since an earlier run.

    Raises UserError if ``out`` holds anything else or, without ``overwrite``, was made with other settings.
    """
    record = out / RECORD_NAME
    previous = read_json(record) if record.is_file() else None
    is_known = isinstance(previous, dict)
    refuse(out, (not is_known and out.is_dir() and any(out.iterdir()), "holds other files already; choose another "
                 "output directory"))
    different = [key for key in settings if is_known and previous.get(key, settings[key]) != settings[key]]
    landmarks_changed = different == ["points"]
    if landmarks_changed and not overwrite:
        print(f"{settings['landmarks']}: has changed since; all images are aligned anew")
    refuse(out, (different and not landmarks_changed and not overwrite, "was made with another "
                 f"{', '.join(map(SETTINGS.get, different))}; choose another output directory, or align everything "
                 "anew with --overwrite"))
    write_json(record, settings)
    return landmarks_changed


# ------------------------------------------------------------------------------------------------- the lists

def carry_lists(lists: Lists, out: Path, aligned: set[str]) -> None:
    """Write the lists of a data directory for its ``aligned`` images, ``images.list`` last.

    Lists of attributes become lists of labels. The list of pairs is not carried: it would name images that are left
    out, and training draws its own.
    """
    names = (*(lists.expressions or ()), *[TARGET_ONLY] * lists.has_target_only)
    if names:
        write_text(out / "expressions.txt", "".join(f"{name}\n" for name in names))
    lines = {"subjects.list": {name: subject_line(output_name(name), *subject)
                               for name, subject in lists.subjects.items()}}
    lines |= {LIST_NAMES[split]: {name: f"{output_name(name)} {row.label}\n" for name, row in rows.items()}
              for split, rows in (("val", lists.val), ("test", lists.test), ("train", lists.train))}
    for file, of_file in lines.items():
        carried = [line for name, line in of_file.items() if name in aligned]
        if len(carried) < len(of_file):
            print(f"{file}: {len(of_file) - len(carried)} lines left out, their images have no aligned face")
        if of_file:
            write_text(out / file, carried)
        elif (out / file).is_file():
            print(f"warning: {out / file}: {lists.root} has no such list, and training reads this one; remove it if it "
                  "is an earlier source's", file=sys.stderr)


# --------------------------------------------------------------------------------------------------- one photograph

class Aligner:
    """Aligns photographs: ``aligner(name)`` writes the largest face of one and returns what is wrong with it, or None.

    Photographs lie below ``source``, faces are written below ``target``; ``names`` are those of all photographs, and
    ``args`` the command's options. Threads may share an aligner. Raises UserError if the detector or the landmarks
    cannot be used.
    """

    def __init__(self, source: Path, target: Path, args: argparse.Namespace, names: Sequence[str]) -> None:
        self._source, self._target, self._args = source, target, args
        self.landmarks = Landmarks(Path(args.landmarks), names) if args.landmarks else None
        self._detector = None if self.landmarks else FaceDetector(args.model, args.score)

    def __call__(self, name: str) -> str | None:
        try:
            photo = read_picture(self._source / name)
            points = self._points_of_list(photo, name) if self.landmarks else self._detector(photo)[0].points
            face = align_points(photo, points, self._args.size, self._args.margin)[0]
        except UserError as error:
            return error.fault if isinstance(error, BadPicture) else str(error)
        save_picture(face, self._target / output_name(name))
        return None

    def _points_of_list(self, photo: Image.Image, name: str) -> numpy.ndarray:
        """Return the points (5, 2) of a photograph that the list gives. Raises UserError if they cannot be used."""
        points = self.landmarks.points_of(name)
        is_before_turn = abs(measure_fit(points).tilt) > LARGEST_TILT and exif_turn(self._source / name) is not None
        fault = self.landmarks.fault_of(points, photo.size)
        if is_blank(greys_of(photo)):
            raise BadPicture(name, BLANK)
        refuse("unusable landmarks", (is_before_turn, "they were found before the picture was turned as its EXIF block "
                                      "says"), (fault, fault))
        return points


def output_name(name: str) -> str:
    """Return the name of an aligned picture: the source's, with ``.jpg`` appended unless it is a JPEG or PNG file."""
    return name if name.lower().endswith((".jpg", ".jpeg", ".png")) else name + ".jpg"


# ------------------------------------------------------------------------------------------- points from a file

_RAF_ENDING = "_manu_attri.txt"
_FORM = "<name> x1 y1 ... x5 y5"
_ORDER = ("right eye, left eye, nose, right mouth corner, left mouth corner (sides as the person has them), x before "
          "y, in pixels")
_USUAL_MISTAKES = ("are the eyes or the mouth corners exchanged, or left and right; does the mouth come first, y "
                   "before x, or all x before all y?")
_MOST_IN_LIST = 0.25, 135  # residual and tilt (Fit) of half of a list's faces: photographs may lie on their sides
_MOST_OF_FACE = 0.6, 180  # of a single face, which may be upside down
_LEAST_SIDE = 4  # pixels of a face's side
_CHECKED = 500  # lines of a list that are checked


class Landmarks:
    """The points of the images ``names``, read from a file or a directory.

    ``path`` is a file of lines ``<name> x1 y1 … x5 y5``, a ``*_manu_attri.txt`` of RAF-DB (five lines ``x y``, then
    attributes), or a directory of these. An image is looked up by :class:`datasets.lists.Names`. ``digest`` is that
    of all points. Raises UserError that names the file and the line of a mistake, the usual mistakes or the unit of
    points that fit no face, or two images that would get the points of one line.
    """

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        raf_files = sorted(path.glob("*" + _RAF_ENDING)) if path.is_dir() else \
            [path] * path.name.endswith(_RAF_ENDING)
        refuse(path, (path.is_dir() and not raf_files, f"holds no *{_RAF_ENDING}; give such a directory or a file of "
                      f"lines \"{_FORM}\""))
        points = {file.name.removesuffix(_RAF_ENDING): _read_raf(file) for file in raf_files} or _read_table(path)
        faces = list(points.values())
        fits = [measure_fit(face) for face in faces[::-(-len(faces) // _CHECKED)]]
        fault = _fault_of_fit(Fit(*numpy.median(numpy.abs(fits), axis=0)), *_MOST_IN_LIST)
        refuse(path, (fault, f"{fault}; the list needs {_ORDER}"))
        self.digest = fingerprint([name, face.tolist()] for name, face in sorted(points.items()))
        self._may_be_percent = max(face.max() for face in faces) <= 100
        self._points: dict[str, numpy.ndarray] = {}
        finder, image_of_key = Names(path, points), {}
        for name in names:
            key = finder.for_another_list().find(name)  # a new look-up, since several images may mean one line
            if key is not None:
                first = image_of_key.setdefault(key, name)
                refuse(f"the landmarks of \"{key}\"", (first != name, f"would serve for {first} and for {name}; write "
                                                       "the paths below the source directory into the list"))
                self._points[name] = points[key]

    def points_of(self, name: str) -> numpy.ndarray:
        """Return the points (5, 2) of an image in pixels. Raises UserError if there are none."""
        if name not in self._points:
            raise UserError("no landmarks given")
        return self._points[name]

    def fault_of(self, points: numpy.ndarray, size: tuple[int, int]) -> str | None:
        """Return what is wrong with the points (5, 2) of an image of this width and height, or None."""
        center = points.mean(0)
        if self._may_be_percent and min(size) > 300:
            return "all points of the list lie below 100: are they percent of the picture's side? It needs pixels"
        if (center < 0).any() or (center > size).any():
            return "the points lie outside the picture: were they found in a picture of another size?"
        return _fault_of_fit(measure_fit(points), *_MOST_OF_FACE)


def _fault_of_fit(fit: Fit, most_residual: float, most_tilt: float) -> str | None:
    """Return what a fit tells against its points, or None."""
    if fit.side < _LEAST_SIDE:
        return f"the points make faces of {fit.side:.2g} pixels: are they shares of the picture's side? It needs pixels"
    fault = f"the points fit no upright face ({100 * fit.residual:.0f} % of their spread stays unexplained, tilt " \
        f"{fit.tilt:.0f}°): {_USUAL_MISTAKES}"
    return fault if fit.residual > most_residual or abs(fit.tilt) > most_tilt else None


def _read_raf(path: Path) -> numpy.ndarray:
    return numpy.array([_numbers(line.split(), 2, f"{path}, line {number}", line, "x y")
                        for number, line in enumerate((read_lines(path) + [""] * 5)[:5], 1)])


def _read_table(path: Path) -> dict[str, numpy.ndarray]:
    """Read a text or CSV file, in which a count and a line of column names may come first, as in CelebA's list."""
    points = {}
    for number, line in enumerate(read_lines(path), 1):
        name, *values = line.rsplit(",", 10) if line.count(",") >= 10 else line.rsplit(None, 10) or [""]
        numbers = [text for text in values or [name] if text.strip().lstrip("+-").replace(".", "", 1).isdecimal()]
        is_header = number <= 2 and bool(numbers) != bool(values)
        if line.strip() and not is_header:
            where = f"{path}, line {number}"
            refuse(where, (name in points, f"a second line for {shortened(name)}; keep the right one"))
            points[name] = _numbers(values, 10, where, line, _FORM).reshape(5, 2)
    refuse(path, (not points, f"holds no landmarks; it needs lines \"{_FORM}\""))
    return points


def _numbers(words: list[str], count: int, where: str, line: str, form: str) -> numpy.ndarray:
    """Return the numbers (count,) of a line. Raises UserError, which shows the right form, for anything else."""
    try:
        values = numpy.array(words, dtype=float)
    except ValueError:
        values = numpy.zeros(0)
    is_wrong = len(values) != count or not numpy.isfinite(values).all()
    refuse(where, (is_wrong, f"\"{shortened(line)}\" is not \"{form}\""))
    return values


if __name__ == "__main__":
    run_command(main)
