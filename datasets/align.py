"""The command that detects and aligns faces: ``python -m datasets.align SRC OUT --model FILE``."""

import sys
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Sequence

import numpy
from PIL import Image

from datasets.aligning.detect import FaceDetector, align_points
from datasets.aligning.geometry import measure_fit
from datasets.aligning.landmarks import Landmarks
from datasets.files import ENDINGS, check_output, describe, walk
from datasets.layout import RECORD_NAME
from datasets.lists import LIST_NAMES, TARGET_ONLY, Lists, image_directory, read_lists, subject_line
from datasets.pictures import BLANK, BadPicture, exif_turn, greys_of, is_blank, read_picture
from options.config import OneLineParser, check_ranges
from utils import (UserError, by_threads, home_expanded, read_json, run_command, save_picture, sha256, usable_cores,
                   user_path, write_json, write_text)

LARGEST_TILT = 45  # degrees of a face whose landmarks belong to the picture as it is shown
FLAGS = {"every_face": "--all", "source": "source directory"}  # names in messages; those of other keys are --KEY


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    if not args.source.is_dir():
        raise UserError(f"{args.source}: no such directory of photographs")
    if not args.model and not args.landmarks:
        raise UserError("--model FILE is needed to find faces (YuNet's ONNX file, see --help), "
                        "or --landmarks FILE if their points are known")
    if args.landmarks and not Path(args.landmarks).exists():
        raise UserError(f"{args.landmarks}: no such landmarks file")
    check_ranges(args, size=(16, 4096), margin=(-0.2, 2), score=(0.05, 1), workers=(1, 512))
    check_output(args.out, "OUT", apart=[args.source], directory=True)
    landmarks = str(Path(args.landmarks).absolute()) if args.landmarks else None
    options = Options(args.size, args.margin, args.every_face, args.score, args.model, landmarks)
    align_directory(args.source, args.out, options, workers=args.workers, overwrite=args.overwrite)


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
    parser.add_argument("--all", dest="every_face", action="store_true",
                        help="keep every face of a photograph (name.jpg, name_1.jpg, ...), not the largest alone")
    parser.add_argument("--score", type=float, default=0.6, help="least confidence of a face, 0 to 1 (%(default)s)")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="threads (one per core: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="align everything anew, e.g. with other options")
    return parser


# ------------------------------------------------------------------------------------------------------ a directory

@dataclass(frozen=True)
class Options:
    """The options that decide how an aligned picture looks.

    ``size`` is the side in pixels, ``margin`` the share of the crop added on each side, ``score`` the least confidence
    of a face, in 0..1. ``model`` (YuNet's ONNX file) is not needed if ``landmarks`` (a file of points) are given.
    """

    size: int
    margin: float
    every_face: bool
    score: float
    model: str | None
    landmarks: str | None


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
    lists = read_lists(source, complete=False) if is_data_directory else None  # reports mistakes before any work
    photos, faces = (image_directory(source), out / "data") if is_data_directory else (source, out)
    names = _photograph_names(photos)
    align = Aligner(photos, faces, options, names)  # reports a wrong model or list before anything is written
    settings = {**asdict(replace(options, model=None if options.landmarks else sha256(options.model))),
                "source": str(source.resolve()), "points": align.landmarks and align.landmarks.digest}
    overwrite |= _open_output(out, settings, overwrite)

    waiting = [name for name in names if overwrite or not (face := faces / output_name(name)).is_file()
               or face.stat().st_mtime < (photos / name).stat().st_mtime]
    faults = {name: fault for name, fault in zip(waiting, by_threads(align, waiting, "aligning", workers)) if fault}
    write_text(out / "no_face.list", "".join(f"{name} {fault}\n" for name, fault in sorted(faults.items())))
    _report(names, waiting, faults, out)
    aligned = set(names) - faults.keys()
    if not aligned:
        fault, count = Counter(faults.values()).most_common(1)[0]
        raise UserError(f"{photos}: none of the {len(names)} images shows a face ({count} of them: {fault}); see "
                        f"{out / 'no_face.list'}")
    if lists:
        carry_lists(lists, out, aligned)


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


def _open_output(out: Path, settings: dict[str, object], overwrite: bool) -> bool:
    """Write ``align.json``, and return whether the list of landmarks has changed since an earlier run.

    Raises UserError if ``out`` holds anything else or, without ``overwrite``, was made with other settings.
    """
    record = out / RECORD_NAME
    previous = read_json(record) if record.is_file() else None
    if not isinstance(previous, dict):
        if out.is_dir() and any(out.iterdir()):
            raise UserError(f"{out}: holds other files already; choose another output directory")
        previous = settings
    different = [key for key in settings if previous.get(key, settings[key]) != settings[key]]
    landmarks_changed = different == ["points"]
    if landmarks_changed and not overwrite:
        print(f"{settings['landmarks']}: has changed since; all images are aligned anew")
    elif different and not overwrite:
        names = ", ".join(FLAGS.get(key, f"--{key}") for key in different)
        raise UserError(f"{out}: was made with another {names}; choose another output directory, or align everything "
                        "anew with --overwrite")
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
    """Aligns single photographs: ``aligner(name)`` writes the faces of one and returns what is wrong with it, or None.

    Photographs lie below ``source``, faces are written below ``target``; ``names`` are those of all photographs.
    Threads may share an aligner. Raises UserError if the detector or the landmarks cannot be used.
    """

    def __init__(self, source: Path, target: Path, options: Options, names: Sequence[str]) -> None:
        self._source, self._target, self._options = source, target, options
        self._used_names = frozenset(map(output_name, names))
        self.landmarks = Landmarks(Path(options.landmarks), names) if options.landmarks else None
        self._detector = None if self.landmarks else FaceDetector(options.model, options.score)

    def __call__(self, name: str) -> str | None:
        try:
            photo = read_picture(self._source / name)
            faces = [align_points(photo, points, self._options.size, self._options.margin)[0]
                     for points in self._points(photo, name)]
        except BadPicture as error:
            return error.fault
        except UserError as error:
            return str(error)
        for index, face in reversed(list(enumerate(faces))):  # the largest last: once it is there, all are
            save_picture(face, self._target / self._face_name(name, index))
        return None

    def _points(self, photo: Image.Image, name: str) -> list[numpy.ndarray]:
        """Return the five points (5, 2) of each face to cut out. Raises UserError if there are none to be used."""
        if self.landmarks is None:
            return [face.points for face in self._detector(photo, self._options.every_face)]
        points = self.landmarks.points_of(name)
        if is_blank(greys_of(photo)):
            raise BadPicture(name, BLANK)
        if abs(measure_fit(points).tilt) > LARGEST_TILT and exif_turn(self._source / name) is not None:
            raise UserError("unusable landmarks: they were found before the picture was turned as its EXIF block says")
        if fault := self.landmarks.fault_of(points, photo.size):
            raise UserError(f"unusable landmarks: {fault}")
        return [points]

    def _face_name(self, name: str, number: int) -> str:
        if number == 0:
            return output_name(name)
        stem, ending = output_name(name).rsplit(".", 1)
        while f"{stem}_{number}.{ending}" in self._used_names:   # another photograph has this name
            stem += "_face"
        return f"{stem}_{number}.{ending}"


def output_name(name: str) -> str:
    """Return the name of an aligned picture: the source's, with ``.jpg`` appended unless it is a JPEG or PNG file."""
    return name if name.lower().endswith((".jpg", ".jpeg", ".png")) else name + ".jpg"


if __name__ == "__main__":
    run_command(main)
