"""Oulu-CASIA: ``OriginalImg/VL/Strong/P001/Anger/000.jpeg``, or ``PreProcess Img/VL_Acropped/Strong/...``."""

from __future__ import annotations

import argparse

from datasets.importing import naming, sequences
from datasets.importing.collection import Collection, Importer, source_directory
from datasets.walking import walk
from options.option import check_ranges
from utils import UserError

CAMERAS, LIGHTS = ("VL", "NI"), ("Strong", "Weak", "Dark")
_EXPRESSIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this kind."""
    parser.add_argument("--camera", choices=CAMERAS, default="VL", help="visible light or near infrared (default: VL)")
    parser.add_argument("--light", choices=LIGHTS, default="Strong", help="default: Strong")
    sequences.add_options(parser)
    naming.add_test_subjects(parser)


def read(asked: argparse.Namespace) -> Collection:
    """Return the sequences of a camera and a light, each with its first frame and last ``--peak``, as one scene.

    The source holds the tree of original images, else the one of cropped faces, or is one of them.
    """
    check_ranges(asked, peak=(1, 1000))
    source, camera, light, peak = source_directory(asked), asked.camera, asked.light, asked.peak
    places = [source / place / light for place in (f"OriginalImg/{camera}", f"PreProcess Img/{camera}_Acropped", camera,
                                                   f"{camera}_Acropped")]
    root = next((place for place in places if place.is_dir()), None)
    if root is None:
        raise UserError(f"{source}: not an Oulu-CASIA tree with --camera {camera} --light {light}; neither {places[0]} "
                        f"nor {places[1]} is there")
    found, folders = Collection(_EXPRESSIONS, walk(source)), {}
    for path in found.walk.images:
        folders.setdefault(path.parent, []).append(path)
    for folder, frames in folders.items():
        place = folder.relative_to(root).parts if root in folder.parents else ()
        expression = folder.name.lower()
        if not place:
            found.leave_out(f"that are not below {root}", *frames)
        elif len(place) != 2:
            found.leave_out("not in a directory like P001/Anger", *frames)
        elif expression not in _EXPRESSIONS[:-1]:
            found.leave_out(f"of an unknown expression ({folder.name})", *frames)
        else:
            subject, scene = naming.one_word(place[0]), f"{camera}_{light}_{folder.name}"
            sequences.take_sequence(found, frames, _EXPRESSIONS.index(expression), peak, subject, scene,
                                    lambda path: f"{subject}_{scene}_{naming.one_word(path.name)}")
    return found


OULU = Importer("oulu", "Oulu-CASIA (OriginalImg, or PreProcess Img)",
                ("SRC", "the directory that holds OriginalImg/ or PreProcess Img/, or one of them"), "datasets/oulu",
                add_options, read)
