"""What lists and samples show without a look at the images."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations
from typing import Sequence

from datasets.layout import Layout, class_mistakes, label_mistakes, target_only_label
from datasets.lists import Lists, image_directory
from datasets.names import explain_adapted
from datasets.walking import Walk, describe, walk

SPLITS = ("train", "val", "test")


@dataclass
class Findings:
    """The findings of a check, as sentences: ``problems`` spoil a result, ``notes`` do not."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def inspect_lists(lists: Lists, names: Sequence[str], neutral: str | None, findings: Findings) -> None:
    """Report names in two lists, and labels that name no expression."""
    if lists.held_out:      # as in the published code's lists; reading takes them out of training
        findings.notes.append(f"{len(lists.held_out)} names of the training list are held out, because the validation "
                              f"or test list has them too, e.g. {min(lists.held_out)}")
    if lists.contradicted:
        findings.problems.append(f"{len(lists.contradicted)} names have one label in the training list and another in "
                                 f"the validation or test list: {first_of(sorted(lists.contradicted))}")
    if lists.adapted:
        findings.notes.append(explain_adapted(lists.adapted, min(lists.adapted)))
    shared = lists.val.keys() & lists.test.keys()
    if shared:
        findings.problems.append(f"leak: {len(shared)} names are in the validation and in the test list, "
                                 f"e.g. {min(shared)}")
    findings.problems += label_mistakes(lists, names, neutral)
    target_only = target_only_label(names, neutral)
    for split, rows in (("val", lists.val), ("test", lists.test)):
        count = sum(row.label == target_only for row in rows.values())
        if count:
            findings.notes.append(f"{count} images of the {split} list have the label of target-only faces "
                                  f"({target_only})")


def inspect_classes(layout: Layout, findings: Findings) -> None:
    """Report expressions without images, and a lack of neutral faces for synthesis."""
    findings.problems += class_mistakes(layout)
    empty = [name for name, count in zip(layout.expressions, layout.counts("test")) if count == 0]
    if empty:
        findings.notes.append(f"no test image of {', '.join(empty)}")
    if layout.neutral is None:
        findings.notes.append("no expression is called neutral: training needs --neutral NAME or --targets any")
    if layout.target_only or not layout.targets():
        return
    with_neutral = {sample.subject for sample in layout.targets()}
    without_neutral = {sample.subject for sample in layout.train if sample.subject} - with_neutral
    if without_neutral:
        findings.notes.append(f"{len(without_neutral)} training subjects have no neutral image of their own, "
                              f"e.g. {min(without_neutral)}")


def inspect_subjects(layout: Layout, lists: Lists, findings: Findings) -> None:
    """Report persons in two splits, and images and subjects that do not belong to each other."""
    with_subject, listed = set(lists.subjects), lists.names()
    for names, finding in ((with_subject - listed, "lines of subjects.list name no listed image"),
                           (listed - with_subject, "listed images have no line in subjects.list")):
        if with_subject and names:
            findings.notes.append(f"{len(names)} {finding}, e.g. {min(names)}")
    subjects = {split: {sample.subject.casefold(): sample.subject for sample in samples if sample.subject}
                for split, samples in (("train", layout.train + layout.target_only), ("val", layout.val),
                                       ("test", layout.test))}
    for first, second in combinations(SPLITS, 2):
        shared = sorted(subjects[first][subject] for subject in subjects[first].keys() & subjects[second].keys())
        if shared:
            findings.problems.append(f"leak: {len(shared)} subjects are in {first} and {second}, "
                                     f"e.g. {', '.join(shared[:3])}")


def inspect_unlisted(lists: Lists, findings: Findings) -> None:
    """Report images that no list names, and whole directories of them."""
    images, listed = image_directory(lists.root), lists.names()
    files = walk(images) if images.is_dir() else Walk()
    if files.passed_over():
        findings.notes.append(f"in {images}: {describe(files.passed_over())}")
    folder_of = {path.relative_to(images).as_posix(): path.parent.relative_to(images).as_posix()
                 for path in files.images}
    listed_folders = {".", *(folder for name, folder in folder_of.items() if name in listed)}
    unlisted_folders = Counter(folder for folder in folder_of.values() if folder not in listed_folders)
    for folder, count in sorted(unlisted_folders.items()):
        findings.problems.append(f"unlisted class: none of the {count} images in {images / folder} is in a list")
    unlisted = [name for name, folder in folder_of.items() if name not in listed and folder in listed_folders]
    if unlisted:
        findings.notes.append(f"{len(unlisted)} images in {images} are in no list, e.g. {unlisted[0]}")


def first_of(items: Sequence[str]) -> str:
    """Return the first three items of a list as text, and the number of the others."""
    return ", ".join(items[:3]) + (f", and {len(items) - 3} more" if len(items) > 3 else "")
