"""``--mode recognize``: recognize the expression of each face in pictures, photographs or videos.

Prints a table and writes ``recognized.csv``, and ``recognized.jpg`` with the first faces, their probabilities and heat
maps; with ``--align`` also copies of the photographs with labeled boxes. ``--output out.mp4`` is a video with them.
"""

import contextlib
import csv
import os
import sys
import time
from itertools import chain, islice
from pathlib import Path
from typing import IO, Callable, Iterable, Iterator, NamedTuple, Sequence

import numpy
import torch
from PIL import Image
from tqdm import tqdm

import utils
from commands.trained import image_directories, load_best_recognizer, preparation_for
from datasets.align import output_name
from datasets.crops import (Crop, Cutter, Picture, Video, batches, cut_in_batches, find_pictures, is_video_name,
                            video_file)
from datasets.files import check_figure, check_output, check_table, describe, save_figure
from datasets.loading import to_float
from datasets.pictures import read_picture
from evaluation import verdict
from models.checkpoints import TrainedRecognizer
from models.recognizer import explained_side
from options.config import Config
from pictures.cards import Card, cards_picture, with_boxes
from utils import UserError

BATCH, LARGE_BATCH = 16, 64  # pictures at a time: whole photographs and frames; small faces
FACES_DRAWN = 24


def recognize(config: Config) -> None:
    """Recognize the expressions in ``--input``, print and write them; exit with status 1 if pictures were skipped.

    Raises UserError if the input, the recognizer or the output cannot be used, or no face was found.
    """
    faces = config.faces
    paths, passed_over = find_pictures(faces.input)
    if passed_over:
        print(f"{len(paths)} files in --input, {describe(passed_over)}")
    videos = {path: Video(path) for path in paths if is_video_name(path)}
    outputs = find_outputs(config.use.output, [path for path in paths if path not in videos], list(videos),
                           bool(faces.align))
    trained = load_best_recognizer(config)
    check_output(outputs.picture, "--output", trees=image_directories(trained.config))
    for finding in verdict.of_checkpoint(trained.acc, len(trained.names)):
        print(f"warning: {finding}", file=sys.stderr)
    cutter = Cutter(preparation_for(faces, trained.image_size, trained.alignment, paths))
    pictures = chain.from_iterable(videos[path]() if path in videos else [Picture(path)] for path in paths)
    total = len(paths) - len(videos) + sum(video.frames for video in videos.values())
    video = next(iter(videos.values())) if outputs.is_video else None
    annotated = video_file(outputs.picture, video.rate, video.size) if video else contextlib.nullcontext()
    started, size = time.perf_counter(), BATCH if videos or faces.align else LARGE_BATCH
    with utils.atomic_file(outputs.table, "w") as handle, annotated as add_frame:
        results = Results(handle, outputs.copies, trained.names, total, add_frame)
        for recognized in recognized_pictures(pictures, total, cutter, trained, config.loading.num_workers, size):
            results.add(*recognized)
        seconds = time.perf_counter() - started
        if not results.faces:
            raise UserError(f"--input {' '.join(map(str, faces.input[:3]))}: {results.nothing_found()}")
    if not video:
        save_figure(draw_sheet(results, trained), outputs.picture)
    report(results, outputs, list(videos.values()), seconds)
    if results.faults:
        sys.exit(1)


# ------------------------------------------------------------------------------------------ before any work

class Outputs(NamedTuple):
    """The files to write: the picture or video of ``--output``, its table, and copies with boxes by photograph."""

    picture: Path
    table: Path
    copies: dict[Path, Path]

    @property
    def is_video(self) -> bool:
        """Whether ``--output`` is a video."""
        return self.picture.suffix.lower() == ".mp4"


def find_outputs(output: str, photos: Sequence[Path], videos: Sequence[Path], is_aligned: bool) -> Outputs:
    """Return the files to write for these photographs and videos. Raises UserError if one must not be written.

    Copies of photographs get the photographs' names, in the same subdirectories, in a directory beside the picture that
    is named as it is.
    """
    picture, inputs = Path(output), {path.resolve() for path in (*photos, *videos)}
    folder = picture.with_suffix("")
    if any(folder.resolve() in path.parents for path in inputs):  # copies are not written among the input
        folder = folder.with_name(f"{folder.name}_boxes")
    depth = len(os.path.commonprefix([path.absolute().parent.parts for path in photos]))
    copies = {path: folder / output_name("/".join(path.absolute().parts[depth:])) for path in photos if is_aligned}
    outputs = Outputs(picture, picture.with_suffix(".csv"), copies)
    for path in (picture, outputs.table, *copies.values()):
        check_output(path, "--output", inputs=[path] if path.resolve() in inputs else [])
    check_table(outputs.table, f"--output {picture}", "file,face,left,", "file,frame,seconds,")
    for path in copies.values():
        check_figure(path, "--output")
    if outputs.is_video and (photos or len(videos) != 1):
        raise UserError(f"--output {picture}: a video is written for a single video of --input; name a picture (.jpg)")
    return outputs


# ------------------------------------------------------------------------------------------------- the work

Recognized = tuple[Picture, "Sequence[Crop] | UserError", Sequence[numpy.ndarray]]


def recognized_pictures(pictures: Iterable[Picture], total: int, cutter: Cutter, trained: TrainedRecognizer,
                        threads: int, size: int) -> Iterator[Recognized]:
    """Yield every picture in order, with its faces and their probabilities (n,) or the error for which it is skipped.

    ``size`` pictures are in memory at a time, ``threads`` read them, and ``total`` is the number of pictures.
    """
    device = trained.recognizer.device
    with utils.progress(None, "recognizing", total, "picture") as bar:
        for batch in cut_in_batches(pictures, cutter, threads, size, device.type == "cuda"):
            all_crops = [crop for _, crops in batch if not isinstance(crops, UserError) for crop in crops]
            probabilities = chain.from_iterable(  # in batches, since a photograph can hold any number of faces
                trained.recognize(to_float(torch.stack([crop.pixels for crop in part]), device)).cpu().double().numpy()
                for part in batches(all_crops, LARGE_BATCH))
            for picture, crops in batch:
                count = 0 if isinstance(crops, UserError) else len(crops)
                yield picture, crops, list(islice(probabilities, count))
            bar.update(len(batch))


class Results:
    """The results so far: writes the table, the copies with boxes and the frames, prints lines, keeps what is drawn.

    The picture of all shows faces of pictures that are evenly spread over ``total``, and of the first one with a face.
    ``add_frame`` takes the frames with boxes, if a video is written.
    """

    def __init__(self, handle: IO[str], copies: dict[Path, Path], names: Sequence[str], total: int,
                 add_frame: Callable[[Image.Image], None] | None) -> None:
        self.copies, self.names, self.add_frame, self._stride = copies, names, add_frame, -(-total // FACES_DRAWN)
        self.pictures = self.faces = self.without_face = 0
        self.faults: list[str] = []
        self.drawn: list[tuple[Crop, numpy.ndarray, str]] = []
        self._writer = csv.writer(handle, lineterminator="\n")
        self._writer.writerow(["file", "frame", "seconds", "face", "left", "top", "width", "height", "expression",
                               "probability", *names])
        self._width = max(10, *map(len, names))
        print(f"{'expression':<{self._width}}  probability  {'runner-up':<{self._width + 9}}  file")

    def add(self, picture: Picture, crops: Sequence[Crop] | UserError, distributions: Sequence[numpy.ndarray]) -> None:
        """Print and write the rows of a picture, its copy or frame, and keep what the picture of all shows."""
        is_drawn, name = not self.drawn or self.pictures % self._stride == 0, printable(picture.path)
        self.pictures += 1
        if isinstance(crops, UserError):
            self.without_face += 1
            self.faults += [f"{name}: {str(crops).removeprefix(f'{picture.path}: ')}"] * (picture.frame is None)
            crops = ()
        for number, (crop, probabilities) in enumerate(zip(crops, distributions), 1):
            self.faces += 1
            caption = name + (f" {picture.seconds:.2f} s" if picture.frame is not None else "")
            caption += f" #{number}" if len(crops) > 1 else ""
            self._write_row(picture, number, crop, probabilities, caption)
            if is_drawn and len(self.drawn) < FACES_DRAWN:
                self.drawn.append((crop, probabilities, caption))
        boxes = [crop.box for crop in crops]
        if self.add_frame:
            self.add_frame(with_boxes(picture.image, boxes, distributions, self.names))
        elif picture.path in self.copies and crops:
            photo = read_picture(picture.path)  # again: to keep it meanwhile would take the memory of a whole batch
            save_figure(with_boxes(photo, boxes, distributions, self.names), self.copies[picture.path])

    def _write_row(self, picture: Picture, number: int, crop: Crop, probabilities: numpy.ndarray, caption: str) -> None:
        """Write a face's row into the table, and its line on the terminal."""
        first, second = probabilities.argsort()[::-1][:2]
        frame = ["", ""] if picture.frame is None else [picture.frame, f"{picture.seconds:.3f}"]
        self._writer.writerow([printable(picture.path), *frame, number, *(crop.box or [""] * 4), self.names[first],
                               *(f"{value:.6f}" for value in (probabilities[first], *probabilities))])
        width = self._width
        line = (f"{self.names[first]:<{width}}  {100 * probabilities[first]:9.1f} %  {self.names[second]:<{width}} "
                f"{100 * probabilities[second]:6.1f} %  {caption}")
        tqdm.write(line)  # above the progress bar

    def nothing_found(self) -> str:
        """Return the message for the user if no picture shows a face."""
        if not self.faults:
            return f"none of the {self.pictures} frames shows a face"
        others = f", nor in any of {self.pictures - 1} others" if self.pictures > 1 else ""
        return f"nothing to recognize in {self.faults[0]}{others}"


def printable(path: Path) -> str:
    """Return a file's name as text, also if it is not valid UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


# ------------------------------------------------------------------------------------------------ at the end

def report(results: Results, outputs: Outputs, videos: Sequence[Video], seconds: float) -> None:
    """Print what was skipped, the speed and what was written."""
    for fault in results.faults:
        print(f"skipped {fault}", file=sys.stderr)
    for video in videos:
        if video.missing:
            print(f"warning: {printable(video.path)}: damaged, {video.missing} of about {video.frames} frames cannot "
                  "be read", file=sys.stderr)
    kind, rate = "frame" if videos else "picture", results.pictures / seconds
    skipped = f"; {results.without_face} {kind}s without a usable face" if results.without_face else ""
    print(f"\n{counted(results.faces, 'face')} in {counted(results.pictures, kind)}{skipped}: {seconds:.1f} s, "
          f"{rate:.{0 if rate > 10 else 1}f} {kind}s/s with reading them")
    is_part = results.faces > len(results.drawn) and not outputs.is_video
    written = [f"{outputs.picture}" + f" ({len(results.drawn)} of the faces)" * is_part, str(outputs.table)]
    if outputs.copies:
        folder = os.path.commonpath([path.parent for path in outputs.copies.values()])
        written.append(f"{folder}{os.sep} (the photographs with boxes)")
    print("wrote " + ", ".join(written))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 face``, ``2 faces``."""
    return f"{number:,} {noun}" + ("s" if number != 1 else "")


def draw_sheet(results: Results, trained: TrainedRecognizer) -> Image.Image:
    """Draw the faces that were kept for the picture, with their probabilities and heat maps."""
    crops, probabilities, captions = zip(*results.drawn)
    image = to_float(torch.stack([crop.pixels for crop in crops]))
    predicted = torch.from_numpy(numpy.argmax(probabilities, 1))
    heat = torch.cat([trained.heat_maps(*part).cpu() for part in zip(image.split(8), predicted.split(8))])
    part = f"{len(crops)} of " if results.faces > len(crops) else ""
    side = explained_side(trained.image_size)
    heads = [part + counted(results.faces, "face"),
             f"heat: evidence for the named expression (LayerCAM, maps of {side} x {side})"]
    return cards_picture(list(map(Card, image, heat, probabilities, captions)), trained.names, heads)
