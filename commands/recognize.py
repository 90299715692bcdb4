"""``--mode recognize``: pictures, photographs or videos → what each face shows, how surely, and where that was seen.

A table on the terminal, ``recognized.csv``, and ``recognized.jpg`` with the first faces, their probabilities and heat
maps; with ``--align`` also copies of the photographs with boxes and names, of a video ``timeline.png``.
"""

from __future__ import annotations

import csv
import os
import sys
import time
from collections import defaultdict
from itertools import chain, count, islice
from pathlib import Path
from typing import IO, Iterable, Iterator, NamedTuple, Sequence

import numpy
import torch
from PIL import Image
from tqdm import tqdm

import utils
from commands.trained import images_of, load_trained, preparation
from datasets.crops import Crop, Cutter, Picture, batches, cut_in_batches, find_pictures, is_video_name
from datasets.files import check_figure, check_output, check_table, save_figure
from datasets.loading import to_float
from datasets.pictures import read_picture
from datasets.video import Persons, Video
from datasets.walking import describe
from evaluation import verdict
from evaluation.attribution import explained_side
from models.checkpoints import TrainedRecognizer
from options.config import Config
from pictures.cards import Card, cards_picture, with_boxes
from pictures.timelines import PERSONS_SHOWN, timeline
from utils import UserError

BATCH, LARGE_BATCH, SHOWN = 16, 64, 24  # pictures at a time: whole photographs and frames, small faces; faces drawn


def recognize(config: Config) -> None:
    """Recognize the expressions in ``--input``; exit status 1 where some pictures had to be skipped.

    Raises UserError if nothing can be recognized, before anything is read wherever that shows.
    """
    faces, every = config.faces, config.use.every
    paths, videos = find_input(faces.input, every)
    places = find_places(config.output.output, paths, bool(faces.align), bool(videos))
    trained = load_trained(config)
    check_output(places.sheet, "--output", trees=images_of(trained.config))
    for finding in verdict.of_checkpoint(trained.acc, len(trained.names)):
        print(f"warning: {finding}", file=sys.stderr)
    cutter = Cutter(preparation(faces, trained.image_size, trained.alignment, paths))
    pictures = chain.from_iterable(video(every) for video in videos) if videos else map(Picture, paths)
    total = sum(-(-video.frames // every) for video in videos) if videos else len(paths)
    started, size = time.monotonic(), BATCH if videos or faces.align else LARGE_BATCH
    with utils.atomic_file(places.table, "w") as handle:
        results = Results(handle, places, trained.names, paths, -(-total // SHOWN) if videos else None)
        for seen in recognized_pictures(pictures, total, cutter, trained, config.loading.num_workers, size):
            results.add(seen)
        seconds = time.monotonic() - started
        if not results.faces:
            raise UserError(f"--input {' '.join(map(str, faces.input[:3]))}: {results.nothing_found()}")
    finish(results, trained, videos, every, seconds)
    if results.faults and not videos:
        sys.exit(1)


# ------------------------------------------------------------------------------------------ before any work

def find_input(inputs: Sequence[str], every: int) -> tuple[list[Path], list[Video]]:
    """The files of ``--input``, and all of them as videos where they are. Raises UserError for what cannot be read."""
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


class Places(NamedTuple):
    """Where everything is written: the sheet of ``--output``, its table, and by input a timeline or a copy."""

    sheet: Path
    table: Path
    timelines: dict[Path, Path]
    copies: dict[Path, Path]


def find_places(output: str, paths: Sequence[Path], copies: bool, videos: bool) -> Places:
    """Return the places for these pictures or videos. Raises UserError if one of them is not to be written to.

    ``copies`` of photographs get the photographs' names, in a folder; several videos have timelines with theirs.
    """
    sheet, names = Path(output), names_apart(paths)
    folder, inputs = sheet.with_suffix(""), {path.resolve() for path in paths}
    if any(folder.resolve() in path.parents for path in inputs):  # copies have no place among the input
        folder = folder.with_name(f"{folder.name}_boxes")
    places = Places(sheet, sheet.with_suffix(".csv"), {}, {})
    if videos:
        places.timelines.update((path, sheet.with_name(f"timeline_{name}.png" if len(paths) > 1 else "timeline.png"))
                                for path, name in names.items())
    elif copies:
        places.copies.update((path, folder / f"{name}.jpg") for path, name in names.items())
    nameless = *places.timelines.values(), *places.copies.values()
    for place in (sheet, places.table, *nameless):
        check_output(place, "--output", inputs=[place] if place.resolve() in inputs else [])
    check_table(places.table, f"--output {sheet}", "file,face,left,", "file,frame,seconds,")
    if sheet in places.timelines.values():
        raise UserError(f"--output {sheet}: is the name of the picture over time beside it; choose another")
    for place in nameless:
        check_figure(place, "--output")
    return places


def names_apart(paths: Sequence[Path]) -> dict[Path, str]:
    """The names of files without their endings, numbered where two would be the same on some file system."""
    names: dict[Path, str] = {}
    used: set[str] = set()
    for path in paths:
        numbered = chain([path.stem], (f"{path.stem}_{number}" for number in count(2)))
        names[path] = next(name for name in numbered if name.lower() not in used)
        used.add(names[path].lower())
    return names


# ------------------------------------------------------------------------------------------------- the work

class Seen(NamedTuple):
    """A picture with its faces and their probabilities (faces, n); or with what is wrong with it."""

    picture: Picture
    crops: Sequence[Crop] = ()
    probabilities: Sequence[numpy.ndarray] = ()
    fault: str | None = None


def recognized_pictures(pictures: Iterable[Picture], total: int, cutter: Cutter, trained: TrainedRecognizer,
                        threads: int, size: int) -> Iterator[Seen]:
    """Every picture in order, its faces recognized, ``size`` pictures at a time; a bar shows how far it is."""
    device = trained.recognizer.device
    with utils.progress(None, "recognizing", total, "picture") as bar:
        for some in cut_in_batches(pictures, cutter, threads, size, device.type == "cuda"):
            crops = [crop for _, found in some if not isinstance(found, UserError) for crop in found]
            answers = chain.from_iterable(  # photographs of a crowd hold more faces
                trained.recognize(to_float(torch.stack([crop.pixels for crop in part]), device)).cpu().double().numpy()
                for part in batches(crops, LARGE_BATCH))
            for picture, found in some:
                if isinstance(found, UserError):
                    yield Seen(picture, fault=str(found).removeprefix(f"{picture.path}: "))
                else:
                    yield Seen(picture, found, list(islice(answers, len(found))))
            bar.update(len(some))


class Results:
    """What is seen, as it comes: rows of the table and of the terminal, copies with boxes, what is drawn at the end.

    ``stride`` says of a video that the sheet shows faces of every so many frames; None for pictures. ``persons`` are
    seconds and probabilities by video and person.
    """

    def __init__(self, handle: IO[str], places: Places, names: Sequence[str], paths: Sequence[Path],
                 stride: int | None) -> None:
        self.places, self.names, self.stride = places, names, stride
        self.pictures = self.faces = 0
        self.faults: list[str] = []
        self.sample: list[tuple[Crop, numpy.ndarray, str]] = []
        self.persons: dict[tuple[Path, int], tuple[list, list]] = defaultdict(lambda: ([], []))
        self._several, video = len(paths) > 1, stride is not None
        self._numbers = defaultdict(Persons)  # a video's persons are not those of another
        self._writer = csv.writer(handle, lineterminator="\n")
        self._writer.writerow(["file", *(["frame", "seconds"] if video else []), "face", "left", "top", "width",
                               "height", "expression", "probability", *names])
        longest = max(len(path.name if video else shown(path)) for path in paths)
        self._file = min(48, longest) + (14 if video else 4) if self._several or not video else 14
        self._name = max(10, *map(len, names))
        print(f"{'time' if video else 'file':<{self._file}}  {'expression':<{self._name}}  probability  runner-up")

    def add(self, seen: Seen) -> None:
        """Write one picture's rows and its copy, and remember what the sheet and the timeline need."""
        (path, _, seconds, _), video = seen.picture, self.stride is not None
        self.pictures += 1
        if seen.fault:
            self.faults.append(f"{shown(path)}: {seen.fault}")
            return
        boxes = [crop.box for crop in seen.crops]
        numbers, lines = self._numbers[path](boxes) if video else range(1, len(boxes) + 1), []
        for number, crop, probabilities in zip(numbers, seen.crops, seen.probabilities):
            self.faces += 1
            caption = self._caption(seen, number)
            lines.append(self._write_row(seen.picture, number, crop, probabilities, caption))
            if len(self.sample) < SHOWN and (not video or (self.pictures - 1) % self.stride == 0):
                self.sample.append((crop, probabilities, caption))
            if video:
                for known, value in zip(self.persons[path, number], (seconds, probabilities)):
                    known.append(value)
        if lines:
            tqdm.write("\n".join(lines))  # above the progress bar
        if path in self.places.copies:
            photo = read_picture(path)  # again: to keep it meanwhile would take the memory of a whole batch
            save_figure(with_boxes(photo, boxes, seen.probabilities, self.names), self.places.copies[path])

    def _write_row(self, picture: Picture, number: int, crop: Crop, probabilities: numpy.ndarray, caption: str) -> str:
        """Write a face's row into the table and return its line for the terminal."""
        first, second = probabilities.argsort()[::-1][:2]
        when = [] if self.stride is None else [picture.frame, f"{picture.seconds:.3f}"]
        self._writer.writerow([shown(picture.path), *when, number, *(crop.box or [""] * 4), self.names[first],
                               *(f"{value:.6f}" for value in (probabilities[first], *probabilities))])
        caption = caption if len(caption) <= self._file else "…" + caption[1 - self._file:]
        return (f"{caption:<{self._file}}  {self.names[first]:<{self._name}}  {100 * probabilities[first]:9.1f} %  "
                f"{self.names[second]} {100 * probabilities[second]:.1f} %")

    def _caption(self, seen: Seen, number: int) -> str:
        """A face's picture, with its number where that says something."""
        path, where = seen.picture.path, shown(seen.picture.path)
        if self.stride is not None:
            where = (f"{shown(Path(path.name))} " if self._several else "") + f"{seen.picture.seconds:8.2f} s"
        return where + (f" #{number}" if len(seen.crops) > 1 or number > 1 else "")

    def nothing_found(self) -> str:
        """What to say where no picture gave a face."""
        if self.stride is not None:
            return f"none of the {self.pictures} frames shows a face"
        first = self.faults[0] if self.faults else "nothing to read"
        others = f", nor in any of {len(self.faults) - 1} others" if len(self.faults) > 1 else ""
        return f"nothing to recognize in {first}{others}"


def shown(path: Path) -> str:
    """A file's name as text, also where it is no UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


# ------------------------------------------------------------------------------------------------ at the end

def finish(results: Results, trained: TrainedRecognizer, videos: Sequence[Video], every: int, seconds: float) -> None:
    """Draw the sheet and the timelines, list what was skipped, and say what was written."""
    places, kind = results.places, "frame" if videos else "picture"
    save_figure(sheet_of(results, trained), places.sheet)
    for fault in () if videos else results.faults:
        print(f"skipped {fault}", file=sys.stderr)
    for video in videos:
        if video.missing:
            print(f"warning: {shown(video.path)}: damaged, {video.missing} of about {video.frames} frames cannot be "
                  "read", file=sys.stderr)
    left_out = f"; {len(results.faults)} {kind}s without a usable face" if results.faults else ""
    rate = results.pictures / seconds
    print(f"\n{counted(results.faces, 'face')} in {counted(results.pictures, kind)}{left_out}: {seconds:.1f} s, "
          f"{rate:.{0 if rate > 10 else 1}f} {kind}s/s with reading them")
    some = f" ({len(results.sample)} of the faces)" if results.faces > len(results.sample) else ""
    written = [f"{places.sheet}{some}", str(places.table)]
    for video in videos:
        persons = {person: answers for (path, person), answers in results.persons.items() if path == video.path}
        if persons:
            save_figure(timeline_of(persons, trained.names, every * video.step), places.timelines[video.path])
            written.append(str(places.timelines[video.path]))
    for folder in {place.parent for place in places.copies.values()}:
        written.append(f"{folder}{os.sep} (the photographs with boxes)")
    print("wrote " + ", ".join(written))


def counted(number: int, what: str) -> str:
    """``1 face``, ``2 faces``."""
    return f"{number:,} {what}" + ("s" if number != 1 else "")


def sheet_of(results: Results, trained: TrainedRecognizer) -> Image.Image:
    """The first faces with their probabilities and heat maps."""
    crops, probabilities, captions = zip(*results.sample)
    image = to_float(torch.stack([crop.pixels for crop in crops]))
    predicted = torch.from_numpy(numpy.argmax(probabilities, 1))
    heat = torch.cat([trained.heat_maps(*part).cpu() for part in zip(image.split(8), predicted.split(8))])
    cards = [Card(*shown_with, caption.strip()) for *shown_with, caption in zip(image, heat, probabilities, captions)]
    which = f"{'the first ' * (results.stride is None)}{len(cards)} of " if results.faces > len(cards) else ""
    side = explained_side(trained.image_size)
    heads = [which + counted(results.faces, "face"),
             f"heat: evidence for the named expression (LayerCAM, maps of {side} x {side})"]
    return cards_picture(cards, trained.names, heads)


def timeline_of(persons: dict[int, tuple[list, list]], names: Sequence[str], step: float) -> Image.Image:
    """The probabilities over time of those who are seen most; ``step`` is the seconds between two frames."""
    most = sorted(persons.items(), key=lambda item: -len(item[1][0]))[:PERSONS_SHOWN]
    rows = [(f"person {person}" if len(persons) > 1 else "", numpy.array(seconds), numpy.array(probabilities))
            for person, (seconds, probabilities) in sorted(most)]
    more = f", {len(rows)} of {len(persons)} persons" if len(persons) > len(rows) else ""
    return timeline(rows, names, f"probability of each expression over time{more}", 2.5 * step)
