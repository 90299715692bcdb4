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
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO, Iterable, Iterator, NamedTuple, Sequence

import numpy
import torch
from tqdm import tqdm

import utils
from datasets.crops import Crop, Cutter, Picture, batches, cut_in_batches, find_pictures, is_video_name
from datasets.files import check_figure, check_output, check_table, save_figure
from datasets.loading import to_float
from datasets.pictures import read_picture
from datasets.video import Persons, Video
from evaluation.attribution import explained_side
from datasets.walking import describe
from evaluation import verdict
from models.checkpoints import TrainedRecognizer
from pictures.cards import Card, cards_picture, with_boxes
from pictures.timelines import PERSONS_SHOWN, timeline
from options.config import Config
from commands.trained import images_of, load_trained, preparation
from utils import UserError

BATCH, LARGE_BATCH, SHOWN = 16, 64, 24  # pictures at a time: whole photographs and frames, small faces; faces drawn


class Seen(NamedTuple):
    """A picture with its faces and their probabilities (faces, n); or with what is wrong with it."""
    picture: Picture
    crops: list[Crop]
    probabilities: numpy.ndarray
    fault: str | None = None


@dataclass
class Tally:
    """What is remembered of all pictures: counts, faults, some faces, and for videos everybody's probabilities.

    The faces are the first ones, of every ``stride``-th frame. ``persons`` are seconds and probabilities by video and
    person.
    """
    stride: int = 1
    pictures: int = 0
    faces: int = 0
    faults: list[str] = field(default_factory=list)
    sample: list[tuple[Crop, numpy.ndarray, str]] = field(default_factory=list)
    persons: dict[tuple[Path, int], tuple[list, list]] = field(default_factory=lambda: defaultdict(lambda: ([], [])))


def recognize(config: Config) -> None:
    """Recognize the expressions in ``--input``; exit status 1 where some pictures had to be skipped.

    Raises UserError if nothing can be recognized, before anything is read wherever that shows.
    """
    faces, every = config.faces, config.use.every
    paths, videos = find_input(faces.input, every)
    places = Places.of(config.output.output, paths, bool(faces.align), bool(videos))
    places.check(paths)
    trained = load_trained(config)
    check_output(places.sheet, "--output", trees=images_of(trained.config))
    for finding in verdict.of_checkpoint(trained.acc, len(trained.names)):
        print(f"warning: {finding}", file=sys.stderr)
    cutter = Cutter(preparation(faces, trained.image_size, trained.alignment, paths))
    pictures = chain.from_iterable(video(every) for video in videos) if videos else map(Picture, paths)
    count = sum(-(-video.frames // every) for video in videos) if videos else len(paths)
    tally, started = Tally(stride=-(-count // SHOWN) if videos else 1), time.monotonic()
    with utils.atomic_file(places.table, "w") as handle:
        report = Table(handle, trained.names, paths, bool(videos))
        size = BATCH if videos or faces.align else LARGE_BATCH
        for seen in looked_at(pictures, count, cutter, trained, config.loading.num_workers, size):
            take(seen, tally, report, places, trained.names)
        seconds = time.monotonic() - started
        if not tally.faces:
            raise UserError(nothing_found(tally, faces.input, bool(videos)))
    finish(tally, trained, places, videos, every, seconds)
    if tally.faults and not videos:
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


@dataclass(frozen=True)
class Places:
    """Where everything is written: the sheet of ``--output``, and the rest beside it."""
    sheet: Path
    table: Path
    timelines: dict[Path, Path]
    copies: dict[Path, Path]

    @classmethod
    def of(cls, output: str, paths: Sequence[Path], copies: bool, videos: bool) -> "Places":
        """The places for these pictures or videos.

        ``copies`` of photographs get the photographs' names, in a folder; several videos have timelines with theirs.
        """
        sheet, names = Path(output), names_apart(paths)
        table, several = sheet.with_suffix(".csv"), len(paths) > 1
        if videos:
            return cls(sheet, table, {path: sheet.with_name(f"timeline_{name}.png" if several else "timeline.png")
                                      for path, name in names.items()}, {})
        folder = sheet.with_suffix("")
        if any(folder.resolve() in path.resolve().parents for path in paths):  # copies have no place among the input
            folder = folder.with_name(f"{folder.name}_boxes")
        return cls(sheet, table, {}, {path: folder / f"{name}.jpg" for path, name in names.items()} if copies else {})

    def check(self, paths: Sequence[Path]) -> None:
        """Raises UserError if something that is to be written is one of the pictures, or cannot be written."""
        inputs = {path.resolve() for path in paths}
        for place in (self.sheet, self.table, *self.timelines.values(), *self.copies.values()):
            check_output(place, "--output", inputs=[place] if place.resolve() in inputs else [])
        check_table(self.table, f"--output {self.sheet}", "file,face,left,", "file,frame,seconds,")
        if self.sheet in self.timelines.values():
            raise UserError(f"--output {self.sheet}: is the name of the picture over time beside it; choose another")
        for place in (*self.timelines.values(), *self.copies.values()):
            check_figure(place, "--output")


def names_apart(paths: Sequence[Path]) -> dict[Path, str]:
    """The names of files without their endings, numbered where two would be the same on some file system."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in paths:
        name, number = path.stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{path.stem}_{number}"
        taken.add(name.lower())
        names[path] = name
    return names


# ------------------------------------------------------------------------------------------------- the work

def looked_at(pictures: Iterable[Picture], count: int, cutter: Cutter, trained: TrainedRecognizer, threads: int,
              size: int) -> Iterator[Seen]:
    """Every picture in order, its faces recognized, ``size`` pictures at a time; a bar shows how far it is."""
    with utils.progress(None, "recognizing", count, "picture") as bar:
        for some in cut_in_batches(pictures, cutter, threads, size, trained.recognizer.device.type == "cuda"):
            crops = [crop for _, found in some if not isinstance(found, UserError) for crop in found]
            predicted = []
            for part in batches(crops, LARGE_BATCH):  # photographs of a crowd hold more faces
                image = to_float(torch.stack([crop.pixels for crop in part]), trained.recognizer.device)
                predicted += trained.recognize(image).cpu().numpy().tolist()
            yield from _with_answers(some, predicted, len(trained.names))
            bar.update(len(some))


def _with_answers(some: Sequence[tuple], predicted: list, n: int) -> Iterator[Seen]:
    answers = iter(predicted)
    for picture, found in some:
        if isinstance(found, UserError):
            yield Seen(picture, [], numpy.zeros((0, n)), str(found).removeprefix(f"{picture.path}: "))
        else:
            yield Seen(picture, found, numpy.array([next(answers) for _ in found]))


def take(seen: Seen, tally: Tally, table: "Table", places: Places, names: Sequence[str]) -> None:
    """Write one picture's rows and its copy, and remember what the sheet and the timeline need."""
    tally.pictures += 1
    if seen.fault:
        tally.faults.append(f"{shown(seen.picture.path)}: {seen.fault}")
        return
    tally.faces += len(seen.crops)
    for person, crop, shares in zip(table.write(seen), seen.crops, seen.probabilities):
        if len(tally.sample) < SHOWN and (seen.picture.frame is None or (tally.pictures - 1) % tally.stride == 0):
            tally.sample.append((crop, shares, table.caption(seen, person)))
        if seen.picture.frame is not None:
            seconds, probabilities = tally.persons[seen.picture.path, person]
            seconds.append(seen.picture.seconds)
            probabilities.append(shares)
    if seen.picture.path in places.copies:
        photo = read_picture(seen.picture.path)  # again: to keep it meanwhile would take the memory of a whole batch
        save_figure(with_boxes(photo, [crop.box for crop in seen.crops], seen.probabilities, names),
                           places.copies[seen.picture.path])


class Table:
    """The rows of ``recognized.csv`` and of the terminal, as they come."""
    def __init__(self, handle: IO[str], names: Sequence[str], paths: Sequence[Path], video: bool) -> None:
        self.names, self._several = names, len(paths) > 1
        self._persons = defaultdict(Persons) if video else None  # a video's persons are not those of another
        self._writer = csv.writer(handle, lineterminator="\n")
        self._writer.writerow(["file", *(["frame", "seconds"] if video else []), "face", "left", "top", "width",
                               "height", "expression", "probability", *names])
        longest = max(len(path.name if video else shown(path)) for path in paths)
        self._file = min(48, longest) + (14 if video else 4) if self._several or not video else 14
        self._name = max(10, *map(len, names))
        print(f"{'time' if video else 'file':<{self._file}}  {'expression':<{self._name}}  probability  runner-up")

    def write(self, seen: Seen) -> list[int]:
        """Rows for the faces of a picture; returns their numbers in it, of a video those of the persons."""
        numbers = list(range(1, len(seen.crops) + 1)) if self._persons is None \
            else self._persons[seen.picture.path]([crop.box for crop in seen.crops])
        lines = []
        for number, crop, shares in zip(numbers, seen.crops, seen.probabilities):
            first, second = shares.argsort()[::-1][:2]
            when = [] if self._persons is None else [seen.picture.frame, f"{seen.picture.seconds:.3f}"]
            self._writer.writerow([shown(seen.picture.path), *when, number, *(crop.box or [""] * 4), self.names[first],
                                   f"{shares[first]:.6f}", *(f"{share:.6f}" for share in shares)])
            caption = self.caption(seen, number)
            caption = caption if len(caption) <= self._file else "…" + caption[1 - self._file:]
            lines.append(f"{caption:<{self._file}}  {self.names[first]:<{self._name}}  {100 * shares[first]:9.1f} %  "
                         f"{self.names[second]} {100 * shares[second]:.1f} %")
        if lines:
            tqdm.write("\n".join(lines))  # above the progress bar
        return numbers

    def caption(self, seen: Seen, number: int) -> str:
        """A face's picture, with its number where that says something."""
        where = shown(seen.picture.path) if self._persons is None else \
            f"{shown(Path(seen.picture.path.name)) + ' ' if self._several else ''}{seen.picture.seconds:8.2f} s"
        return where + (f" #{number}" if len(seen.crops) > 1 or number > 1 else "")


def shown(path: Path) -> str:
    """A file's name as text, also where it is no UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


# ------------------------------------------------------------------------------------------------ at the end

def nothing_found(tally: Tally, inputs: Sequence[str], video: bool) -> str:
    """What to say where no picture gave a face."""
    if video:
        return f"--input {' '.join(map(str, inputs[:3]))}: none of the {tally.pictures} frames shows a face"
    first = tally.faults[0] if tally.faults else "nothing to read"
    others = f", nor in any of {len(tally.faults) - 1} others" if len(tally.faults) > 1 else ""
    return f"--input {' '.join(map(str, inputs[:3]))}: nothing to recognize in {first}{others}"


def finish(tally: Tally, trained: TrainedRecognizer, places: Places, videos: Sequence[Video], every: int,
           seconds: float) -> None:
    """Draw the sheet and the timelines, list what was skipped, and say what was written."""
    draw_sheet(tally, trained, places.sheet)
    kind = "frame" if videos else "picture"
    for fault in () if videos else tally.faults:
        print(f"skipped {fault}", file=sys.stderr)
    for video in videos:
        if video.missing:
            print(f"warning: {shown(video.path)}: damaged, {video.missing} of about {video.frames} frames cannot be "
                  "read", file=sys.stderr)
    left_out = f"; {len(tally.faults)} {kind}s without a usable face" if tally.faults else ""
    print(f"\n{counted(tally.faces, 'face')} in {counted(tally.pictures, kind)}{left_out}: {seconds:.1f} s, "
          f"{tally.pictures / seconds:.{0 if tally.pictures > 10 * seconds else 1}f} {kind}s/s with reading them")
    some = f" ({len(tally.sample)} of the faces)" if tally.faces > len(tally.sample) else ""
    written = [f"{places.sheet}{some}", str(places.table)]
    for video in videos:
        persons = {person: answers for (path, person), answers in tally.persons.items() if path == video.path}
        if persons:
            draw_timeline(persons, trained.names, places.timelines[video.path], every * video.step)
            written.append(str(places.timelines[video.path]))
    if places.copies:
        written.append(f"{places.sheet.with_suffix('')}{os.sep} (the photographs with boxes)")
    print("wrote " + ", ".join(written))


def counted(count: int, what: str) -> str:
    """``1 face``, ``2 faces``."""
    return f"{count:,} {what}" + ("s" if count != 1 else "")


def draw_sheet(tally: Tally, trained: TrainedRecognizer, path: Path) -> None:
    """Write the first faces with their probabilities and heat maps."""
    image = to_float(torch.stack([crop.pixels for crop, _, _ in tally.sample]))
    predicted = torch.tensor([int(shares.argmax()) for _, shares, _ in tally.sample])
    heat = torch.cat([trained.heat_maps(*part).cpu() for part in zip(image.split(8), predicted.split(8))])
    cards = [Card(face, warm, shares, caption.strip()) for face, warm, (_, shares, caption)
             in zip(image, heat, tally.sample)]
    which = f"{len(cards)} of " if tally.persons else f"the first {len(cards)} of "
    side = explained_side(trained.image_size)
    heads = [(which if tally.faces > len(cards) else "") + counted(tally.faces, "face"),
             f"heat: evidence for the named expression (LayerCAM, maps of {side} x {side})"]
    save_figure(cards_picture(cards, trained.names, heads), path)


def draw_timeline(persons: dict[int, tuple[list, list]], names: Sequence[str], path: Path, step: float) -> None:
    """Write the probabilities over time of those who are seen most; ``step`` is the seconds between two frames."""
    most = sorted(persons.items(), key=lambda item: -len(item[1][0]))[:PERSONS_SHOWN]
    rows = [(f"person {person}" if len(persons) > 1 else "", numpy.array(seconds), numpy.array(shares))
            for person, (seconds, shares) in sorted(most)]
    more = f", {len(rows)} of {len(persons)} persons" if len(persons) > len(rows) else ""
    save_figure(timeline(rows, names, f"probability of each expression over time{more}", 2.5 * step), path)
