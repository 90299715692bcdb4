"""``--mode recognize``: recognize the expression of each face in pictures, photographs or videos.

Prints a table and writes ``recognized.csv``, and ``recognized.jpg`` with the first faces, their probabilities and heat
maps; with ``--align`` also copies of the photographs with labeled boxes, and for a video ``timeline.png``.
"""

import csv
import os
import sys
import time
from collections import defaultdict
from itertools import chain, islice
from pathlib import Path
from typing import IO, Iterable, Iterator, NamedTuple, Sequence

import numpy
import torch
from PIL import Image
from tqdm import tqdm

import utils
from commands.trained import image_directories, load_best_recognizer, preparation_for
from datasets.crops import Crop, Cutter, Picture, batches, cut_in_batches, find_pictures, is_video_name
from datasets.files import check_figure, check_output, check_table, describe, save_figure
from datasets.loading import to_float
from datasets.pictures import read_picture
from datasets.video import Persons, Video
from evaluation import verdict
from models.checkpoints import TrainedRecognizer
from models.recognizer import explained_side
from options.config import Config
from pictures.cards import Card, cards_picture, with_boxes
from pictures.timelines import PERSONS_SHOWN, timeline
from utils import UserError

BATCH, LARGE_BATCH = 16, 64  # pictures at a time: whole photographs and frames; small faces
FACES_DRAWN = 24


def recognize(config: Config) -> None:
    """Recognize the expressions in ``--input``, print and write them; exit with status 1 if pictures were skipped.

    Raises UserError if the input, the recognizer or the output cannot be used, or no face was found.
    """
    faces, every = config.faces, config.use.every
    paths, videos = find_input(faces.input, every)
    outputs = find_outputs(config.output.output, paths, bool(faces.align), bool(videos))
    trained = load_best_recognizer(config)
    check_output(outputs.sheet, "--output", trees=image_directories(trained.config))
    for finding in verdict.of_checkpoint(trained.acc, len(trained.names)):
        print(f"warning: {finding}", file=sys.stderr)
    cutter = Cutter(preparation_for(faces, trained.image_size, trained.alignment, paths))
    pictures = chain.from_iterable(video(every) for video in videos) if videos else map(Picture, paths)
    total = sum(-(-video.frames // every) for video in videos) if videos else len(paths)
    started, size = time.perf_counter(), BATCH if videos or faces.align else LARGE_BATCH
    with utils.atomic_file(outputs.table, "w") as handle:
        results = Results(handle, outputs, trained.names, paths, -(-total // FACES_DRAWN) if videos else None)
        for recognized in recognized_pictures(pictures, total, cutter, trained, config.loading.num_workers, size):
            results.add(recognized)
        seconds = time.perf_counter() - started
        if not results.faces:
            raise UserError(f"--input {' '.join(map(str, faces.input[:3]))}: {results.nothing_found()}")
    finish(results, trained, videos, every, seconds)
    if results.faults and not videos:
        sys.exit(1)


# ------------------------------------------------------------------------------------------ before any work

def find_input(inputs: Sequence[str], every: int) -> tuple[list[Path], list[Video]]:
    """Return the files of ``--input``, and the same files opened as videos, or [] if they are pictures.

    Raises UserError if a file does not exist or is no video that can be read, or if videos and pictures are mixed.
    """
    paths, passed_over = find_pictures(inputs)
    if passed_over:
        print(f"{len(paths)} files in --input, {describe(passed_over)}")
    videos = [path for path in paths if is_video_name(path)]
    if videos and len(paths) > len(videos):
        raise UserError(f"--input: {videos[0]} is a video, and {len(paths) - len(videos)} other files are pictures; "
                        "recognize videos and pictures one after the other")
    if every != 1 and not videos:
        raise UserError(f"--every {every}: is for a video; leave it out for pictures")
    return paths, list(map(Video, videos))


class Outputs(NamedTuple):
    """The files to write: the sheet of ``--output``, its table, and by input file a timeline or a copy with boxes."""

    sheet: Path
    table: Path
    timelines: dict[Path, Path]
    copies: dict[Path, Path]


def find_outputs(output: str, paths: Sequence[Path], with_copies: bool, videos: bool) -> Outputs:
    """Return the files to write for these pictures or videos. Raises UserError if one of them must not be written.

    Copies of photographs get the photographs' names, in a directory beside the sheet; the timelines of several videos
    have the videos' names in theirs.
    """
    sheet, names = Path(output), unique_stems(paths)
    folder, inputs = sheet.with_suffix(""), {path.resolve() for path in paths}
    if any(folder.resolve() in path.parents for path in inputs):  # copies are not written among the input
        folder = folder.with_name(f"{folder.name}_boxes")
    table = sheet.with_suffix(".csv")
    timelines = {path: sheet.with_name(f"timeline_{name}.png" if len(paths) > 1 else "timeline.png")
                 for path, name in names.items() if videos}
    copies = {path: folder / f"{name}.jpg" for path, name in names.items() if with_copies and not videos}
    derived = *timelines.values(), *copies.values()  # the user does not type their names
    for path in (sheet, table, *derived):
        check_output(path, "--output", inputs=[path] if path.resolve() in inputs else [])
    check_table(table, f"--output {sheet}", "file,face,left,", "file,frame,seconds,")
    if sheet in timelines.values():
        raise UserError(f"--output {sheet}: the timeline beside it gets this name; choose another")
    for path in derived:
        check_figure(path, "--output")
    return Outputs(sheet, table, timelines, copies)


def unique_stems(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the names of files without their endings; a number is added to those used before, ignoring case."""
    names: dict[Path, str] = {}
    used: set[str] = set()
    numbers: dict[str, int] = defaultdict(lambda: 1)  # the last one that was tried for a stem
    for path in paths:
        name, stem = path.stem, path.stem.lower()
        while name.lower() in used:
            numbers[stem] += 1
            name = f"{path.stem}_{numbers[stem]}"
        names[path] = name
        used.add(name.lower())
    return names


# ------------------------------------------------------------------------------------------------- the work

class Recognized(NamedTuple):
    """A picture with its faces and their probabilities (faces, n), or with the reason why it was skipped."""

    picture: Picture
    crops: Sequence[Crop] = ()
    probabilities: Sequence[numpy.ndarray] = ()
    fault: str | None = None


def recognized_pictures(pictures: Iterable[Picture], total: int, cutter: Cutter, trained: TrainedRecognizer,
                        threads: int, size: int) -> Iterator[Recognized]:
    """Yield every picture in order with its recognized faces, while a bar shows the progress.

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
                if isinstance(crops, UserError):
                    yield Recognized(picture, fault=str(crops).removeprefix(f"{picture.path}: "))
                else:
                    yield Recognized(picture, crops, list(islice(probabilities, len(crops))))
            bar.update(len(batch))


class Results:
    """The results so far: writes the table and the copies with boxes, prints lines, and keeps what is drawn at the end.

    The sheet shows faces of every ``stride``-th frame of a video, and of the first frame with a face; ``stride`` is
    None for pictures. ``persons`` are seconds and probabilities by video and person.
    """

    def __init__(self, handle: IO[str], outputs: Outputs, names: Sequence[str], paths: Sequence[Path],
                 stride: int | None) -> None:
        self.outputs, self.names, self.stride = outputs, names, stride
        self.pictures = self.faces = 0
        self.faults: list[str] = []
        self.drawn: list[tuple[Crop, numpy.ndarray, str]] = []
        self.persons: dict[tuple[Path, int], tuple[list, list]] = defaultdict(lambda: ([], []))
        self._several, video = len(paths) > 1, stride is not None
        self._person_numbers = defaultdict(Persons)  # each video has persons of its own
        self._writer = csv.writer(handle, lineterminator="\n")
        self._writer.writerow(["file", *(["frame", "seconds"] if video else []), "face", "left", "top", "width",
                               "height", "expression", "probability", *names])
        longest = max(len(path.name if video else printable(path)) for path in paths)
        self._file_width = min(48, longest) + (14 if video else 4) if self._several or not video else 14
        self._name_width = max(10, *map(len, names))
        print(f"{'time' if video else 'file':<{self._file_width}}  {'expression':<{self._name_width}}  probability  "
              "runner-up")

    def add(self, recognized: Recognized) -> None:
        """Print and write the rows of a picture and its copy, and keep what the sheet and the timeline need."""
        (path, _, seconds, _), video = recognized.picture, self.stride is not None
        self.pictures += 1
        boxes, lines = [crop.box for crop in recognized.crops], []
        numbers = self._person_numbers[path](boxes) if video else range(1, len(boxes) + 1)
        if recognized.fault:
            self.faults.append(f"{printable(path)}: {recognized.fault}")
            return
        is_drawn = not video or not self.drawn or (self.pictures - 1) % self.stride == 0
        for number, crop, probabilities in zip(numbers, recognized.crops, recognized.probabilities):
            self.faces += 1
            caption = self._caption(recognized, number)
            lines.append(self._write_row(recognized.picture, number, crop, probabilities, caption))
            if is_drawn and len(self.drawn) < FACES_DRAWN:
                self.drawn.append((crop, probabilities, caption))
            if video:
                for series, value in zip(self.persons[path, number], (seconds, probabilities)):
                    series.append(value)
        if lines:
            tqdm.write("\n".join(lines))  # above the progress bar
        if path in self.outputs.copies:
            photo = read_picture(path)  # again: to keep it meanwhile would take the memory of a whole batch
            save_figure(with_boxes(photo, boxes, recognized.probabilities, self.names), self.outputs.copies[path])

    def _write_row(self, picture: Picture, number: int, crop: Crop, probabilities: numpy.ndarray, caption: str) -> str:
        """Write a face's row into the table and return its line for the terminal."""
        first, second = probabilities.argsort()[::-1][:2]
        frame = [] if self.stride is None else [picture.frame, f"{picture.seconds:.3f}"]
        self._writer.writerow([printable(picture.path), *frame, number, *(crop.box or [""] * 4), self.names[first],
                               *(f"{value:.6f}" for value in (probabilities[first], *probabilities))])
        width = self._file_width
        caption = caption if len(caption) <= width else "…" + caption[1 - width:]
        return (f"{caption:<{width}}  {self.names[first]:<{self._name_width}}  {100 * probabilities[first]:9.1f} %  "
                f"{self.names[second]} {100 * probabilities[second]:.1f} %")

    def _caption(self, recognized: Recognized, number: int) -> str:
        """Return the name of a face's picture or its frame's time, with the face's number if it is needed."""
        path, _, seconds, _ = recognized.picture
        caption = printable(path)
        if self.stride is not None:
            caption = (f"{printable(Path(path.name))} " if self._several else "") + f"{seconds:8.2f} s"
        return caption + (f" #{number}" if len(recognized.crops) > 1 or number > 1 else "")

    def nothing_found(self) -> str:
        """Return the message for the user if no picture shows a face."""
        if self.stride is not None:
            return f"none of the {self.pictures} frames shows a face"
        first = self.faults[0] if self.faults else "nothing to read"
        others = f", nor in any of {len(self.faults) - 1} others" if len(self.faults) > 1 else ""
        return f"nothing to recognize in {first}{others}"


def printable(path: Path) -> str:
    """Return a file's name as text, also if it is not valid UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


# ------------------------------------------------------------------------------------------------ at the end

def finish(results: Results, trained: TrainedRecognizer, videos: Sequence[Video], every: int, seconds: float) -> None:
    """Draw the sheet and the timelines, and print what was skipped, the speed and what was written."""
    outputs, kind = results.outputs, "frame" if videos else "picture"
    save_figure(draw_sheet(results, trained), outputs.sheet)
    for fault in () if videos else results.faults:
        print(f"skipped {fault}", file=sys.stderr)
    for video in videos:
        if video.missing:
            print(f"warning: {printable(video.path)}: damaged, {video.missing} of about {video.frames} frames cannot "
                  "be read", file=sys.stderr)
    skipped = f"; {len(results.faults)} {kind}s without a usable face" if results.faults else ""
    rate = results.pictures / seconds
    print(f"\n{counted(results.faces, 'face')} in {counted(results.pictures, kind)}{skipped}: {seconds:.1f} s, "
          f"{rate:.{0 if rate > 10 else 1}f} {kind}s/s with reading them")
    drawn = f" ({len(results.drawn)} of the faces)" if results.faces > len(results.drawn) else ""
    written = [f"{outputs.sheet}{drawn}", str(outputs.table)]
    for video in videos:
        persons = {person: series for (path, person), series in results.persons.items() if path == video.path}
        if persons:
            save_figure(draw_timeline(persons, trained.names, every * video.step), outputs.timelines[video.path])
            written.append(str(outputs.timelines[video.path]))
    for folder in {path.parent for path in outputs.copies.values()}:
        written.append(f"{folder}{os.sep} (the photographs with boxes)")
    print("wrote " + ", ".join(written))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 face``, ``2 faces``."""
    return f"{number:,} {noun}" + ("s" if number != 1 else "")


def draw_sheet(results: Results, trained: TrainedRecognizer) -> Image.Image:
    """Draw the faces that were kept for the sheet, with their probabilities and heat maps."""
    crops, probabilities, captions = zip(*results.drawn)
    image = to_float(torch.stack([crop.pixels for crop in crops]))
    predicted = torch.from_numpy(numpy.argmax(probabilities, 1))
    heat = torch.cat([trained.heat_maps(*part).cpu() for part in zip(image.split(8), predicted.split(8))])
    cards = [Card(*card, caption.strip()) for *card, caption in zip(image, heat, probabilities, captions)]
    part = f"{'the first ' * (results.stride is None)}{len(cards)} of " if results.faces > len(cards) else ""
    side = explained_side(trained.image_size)
    heads = [part + counted(results.faces, "face"),
             f"heat: evidence for the named expression (LayerCAM, maps of {side} x {side})"]
    return cards_picture(cards, trained.names, heads)


def draw_timeline(persons: dict[int, tuple[list, list]], names: Sequence[str], step: float) -> Image.Image:
    """Draw the probabilities over time of the persons in most frames; ``step`` is the seconds between two frames."""
    most = sorted(persons.items(), key=lambda item: -len(item[1][0]))[:PERSONS_SHOWN]
    rows = [(f"person {person}" if len(persons) > 1 else "", numpy.array(seconds), numpy.array(probabilities))
            for person, (seconds, probabilities) in sorted(most)]
    more = f", {len(rows)} of {len(persons)} persons" if len(persons) > len(rows) else ""
    return timeline(rows, names, f"probability of each expression over time{more}", 2.5 * step)
