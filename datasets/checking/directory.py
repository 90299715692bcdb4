"""All checks of a data directory, in order."""

import os
from pathlib import Path
from typing import Sequence

from datasets.checking.findings import Findings, inspect_classes, inspect_lists, inspect_subjects, inspect_unlisted
from datasets.checking.looks import inspect_pictures, look_at
from datasets.checking.overview import contact_sheet, table
from datasets.files import check_output, is_drawn
from datasets.layout import build_layout, image_directory
from datasets.lists import read_lists
from utils import UserError, check_picture_name, save_picture

OURS = b"contact sheet of datasets.check"  # the comment by which a sheet is known


def check_directory(root: Path, expressions: Sequence[str] | None = None, neutral: str | None = None,
                    sheet: Path | None = None) -> Findings:
    """Print the table of a data directory, draw its contact sheet and return everything that its check has found.

    ``expressions`` names the labels where the directory does not; ``neutral`` is the expression that serves as
    neutral. The sheet goes to ``root/check.jpg`` unless ``sheet`` says otherwise; a picture of this name that is no
    sheet of ours is left alone. Raises UserError if a list is malformed or that of training is absent, or if ``sheet``
    cannot be written.
    """
    findings, lists = Findings(), read_lists(root, need_test=False)
    images, place = image_directory(root), sheet or root / "check.jpg"
    check_picture_name(place)
    listed = [path for path in (images / name for name in lists.names()) if path.name == place.name or sheet]
    if sheet:
        check_output(sheet, "--sheet", trees=[images], inputs=listed)
    names = lists.expressions or tuple(expressions or ())
    if not names:  # the labels themselves; one that is far too high is a mistake and has no name
        highest = max((row.label for row in lists.rows() if row.label < 100), default=0)
        names = tuple(map(str, range(max(2, 1 + highest))))
        findings.notes.append("nothing names the expressions: labels are shown as numbers (name them with -a)")
    if not lists.test:
        findings.notes.append("there is no test list: only --folds can train on these images")
    inspect_lists(lists, names, neutral, findings)
    layout = build_layout(lists, names, names, neutral)
    print(table(layout), end="\n\n")
    inspect_classes(layout, findings)
    inspect_subjects(layout, lists, findings)
    looks = look_at(layout)
    inspect_pictures(looks, findings)
    inspect_unlisted(lists, findings)
    if not sheet and os.path.lexists(place) and not is_drawn(place, OURS):
        findings.notes.append(f"no contact sheet, {place} is another picture: choose a place with --sheet FILE")
        return findings
    try:
        check_output(place, "--sheet", trees=[images], inputs=listed)
        save_picture(contact_sheet(layout, {seen.sample for seen in looks if seen.fault}), place, OURS)
        print(f"contact sheet: {place}")
    except OSError as error:
        if sheet:
            raise UserError(f"{sheet}: cannot be written ({error.strerror}); choose another --sheet") from None
        findings.notes.append(f"no contact sheet, {root} is not writable: choose a place with --sheet FILE")
    return findings
