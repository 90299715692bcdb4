"""The command that detects and aligns faces: ``python -m datasets.align SRC OUT --model FILE``."""

import os
from pathlib import Path

from datasets.files import check_output
from options.option import OneLineParser, check_ranges
from system.command import run_command
from system.devices import usable_cores
from utils import UserError


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
    from datasets.aligning import aligner, directory

    landmarks = os.path.abspath(args.landmarks) if args.landmarks else None
    options = aligner.Options(args.size, args.margin, args.every_face, args.score, args.model, landmarks)
    directory.align_directory(args.source, args.out, options, workers=args.workers, overwrite=args.overwrite)


def build_parser() -> OneLineParser:
    """Return the parser of this command."""
    parser = OneLineParser(
        prog="python -m datasets.align",
        description="Every face is turned upright and cut out at one size by a similarity transform of its five "
                    "points. If SRC is a data directory (it has an ``images.list``), OUT becomes one too: its "
                    "lists, without the images that show no face.",
        epilog="The model: YuNet, published as face_detection_yunet in opencv_zoo and as yunet_n_640_640.onnx in "
               "libfacedetection.train (both on GitHub). It runs in OpenCV: pip install -r requirements-optional.txt")
    parser.add_argument("source", metavar="SRC", type=Path, help="a directory of photographs, or a data directory with "
                        "lists")
    parser.add_argument("out", metavar="OUT", type=Path, help="where the aligned faces go, in the same subdirectories")
    parser.add_argument("--model", metavar="FILE", help="YuNet's ONNX file (not needed with --landmarks)")
    parser.add_argument("--landmarks", metavar="FILE", help="no detection: lines \"<name> x1 y1 ... x5 y5\" (right "
                        "eye, left eye, nose, mouth corners), or RAF-DB's directory of *_manu_attri.txt")
    parser.add_argument("--size", type=int, default=256, help="side of the faces in pixels (%(default)s)")
    parser.add_argument("--margin", type=float, default=0.0,
                        help="share of the crop (forehead to chin) added on each side (%(default)s)")
    parser.add_argument("--all", dest="every_face", action="store_true",
                        help="keep every face of a photograph (name.jpg, name_1.jpg, ...), not the largest alone")
    parser.add_argument("--score", type=float, default=0.6, help="least confidence of a face, 0 to 1 (%(default)s)")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="processes (one per core: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="align everything anew, e.g. with other options")
    return parser


if __name__ == "__main__":
    run_command(main)
