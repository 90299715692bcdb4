"""All checks of a data directory, in order."""

import os
from pathlib import Path
from typing import Sequence

from datasets.checking.findings import Findings, inspect_classes, inspect_lists, inspect_subjects, inspect_unlisted
from datasets.checking.looks import inspect_pictures, scan_images
from datasets.checking.overview import contact_sheet, table
from datasets.files import check_output, is_drawn
from datasets.layout import build_layout
from datasets.lists import Lists, image_directory, read_lists
from utils import UserError, check_picture_name, save_picture

SHEET_COMMENT = b"contact sheet of datasets.check"  # in the file of a sheet, which is then drawn anew


def check_directory(root: Path, expressions: Sequence[str] | None = None, neutral: str | None = None,
                    sheet: Path | None = None) -> Findings:
    """Print the table of a data directory, draw its contact sheet and return everything that its check has found.

    ``expressions`` names the labels if the directory does not; ``neutral`` is the expression that serves as neutral.
    The sheet is written to ``root/check.jpg`` unless ``sheet`` names another file; another picture of this name is left
    alone. Raises UserError if a list is malformed or that of training is absent, or if ``sheet`` cannot be written.
    """
    findings, lists = Findings(), read_lists(root, need_test=False)
    path, images = sheet or root / "check.jpg", image_directory(root)
    check_picture_name(path)
    listed = [image for image in (images / name for name in lists.names()) if image.name == path.name or sheet]
    if sheet:
        check_output(sheet, "--sheet", trees=[images], inputs=listed)
    names = _expression_names(lists, expressions, findings)
    if not lists.test:
        findings.notes.append("there is no test list: only --folds can train on these images")
    inspect_lists(lists, names, neutral, findings)
    layout = build_layout(lists, names, names, neutral)
    print(table(layout), end="\n\n")
    inspect_classes(layout, findings)
    inspect_subjects(layout, lists, findings)
    scans = scan_images(layout)
    inspect_pictures(scans, findings)
    inspect_unlisted(lists, findings)
    if not sheet and os.path.lexists(path) and not is_drawn(path, SHEET_COMMENT):
        findings.notes.append(f"no contact sheet, {path} is another picture: choose a place with --sheet FILE")
        return findings
    try:
        if not sheet:
            check_output(path, "--sheet", trees=[images], inputs=listed)
        save_picture(contact_sheet(layout, {scan.sample for scan in scans if scan.fault}), path, SHEET_COMMENT)
        print(f"contact sheet: {path}")
    except (OSError, UserError) as error:
        if sheet:
            raise UserError(f"{sheet}: cannot be written ({error.strerror}); choose another --sheet") from None
        findings.notes.append(f"no contact sheet, {path} cannot be written: choose a place with --sheet FILE")
    return findings


def _expression_names(lists: Lists, expressions: Sequence[str] | None, findings: Findings) -> tuple[str, ...]:
    """Return the names of the labels: the directory's, or ``expressions``, or else the labels themselves."""
    if names := lists.expressions or tuple(expressions or ()):
        return names
    findings.notes.append("nothing names the expressions: labels are shown as numbers (name them with -a)")
    # A label that is far too high is a mistake and gets no name.
    highest = max((row.label for row in lists.rows() if row.label < 100), default=0)
    return tuple(map(str, range(max(2, 1 + highest))))
