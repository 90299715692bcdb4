"""What lists and samples show without a look at the images."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Iterable, Sequence

from datasets.layout import Layout, class_mistakes, image_directory, label_mistakes, target_only_label
from datasets.lists import Lists
from datasets.names import explain_adapted
from datasets.walking import Walk, describe, walk

SPLITS = ("train", "val", "test")


@dataclass
class Findings:
    """What a check has to say: ``problems`` spoil a result, ``notes`` do not."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def inspect_lists(lists: Lists, names: Sequence[str], neutral: str | None, findings: Findings) -> None:
    """Find names in two lists, and labels that name no expression."""
    if lists.held_out:      # as in the reference's lists; reading takes them out of training
        findings.notes.append(f"{len(lists.held_out)} names of the training list are held out, because the validation "
                              f"or test list has them too, e.g. {min(lists.held_out)}")
    if lists.contradicted:
        findings.problems.append(f"{len(lists.contradicted)} names have one label in the training list and another in "
                                 f"the validation or test list: {first_of(sorted(lists.contradicted))}")
    if lists.adapted:
        findings.notes.append(explain_adapted(lists.adapted, min(lists.adapted)))
    torn = lists.val.keys() & lists.test.keys()
    if torn:
        findings.problems.append(f"leak: {len(torn)} names are in the validation and in the test list, "
                                 f"e.g. {min(torn)}")
    findings.problems += label_mistakes(lists, names, neutral)
    target_only = target_only_label(names, neutral)
    for split, rows in (("val", lists.val), ("test", lists.test)):
        count = sum(row.label == target_only for row in rows.values())
        if count:
            findings.notes.append(f"{count} images of the {split} list have the label of target-only faces "
                                  f"({target_only})")


def inspect_classes(layout: Layout, findings: Findings) -> None:
    """Find expressions without images, and synthesis without neutral faces."""
    findings.problems += class_mistakes(layout)
    empty = [name for name, count in zip(layout.expressions, layout.counts("test")) if count == 0]
    if empty:
        findings.notes.append(f"no test image of {', '.join(empty)}")
    if layout.neutral is None:
        findings.notes.append("no expression is called neutral: training needs --neutral NAME or --targets any")
    if layout.target_only or not layout.targets():
        return
    with_neutral = {sample.subject for sample in layout.targets()}
    alone = {sample.subject for sample in layout.train if sample.subject} - with_neutral
    if alone:
        findings.notes.append(f"{len(alone)} training subjects have no neutral image of their own, e.g. {min(alone)}")


def inspect_subjects(layout: Layout, lists: Lists, findings: Findings) -> None:
    """Find persons on both sides of a split, and images and subjects that do not find each other."""
    named, listed = set(lists.subjects), lists.names()
    for names, what in ((named - listed, "lines of subjects.list name no listed image"),
                        (listed - named, "listed images have no line in subjects.list")):
        if named and names:
            findings.notes.append(f"{len(names)} {what}, e.g. {min(names)}")
    subjects = {split: {sample.subject.casefold(): sample.subject for sample in samples if sample.subject}
                for split, samples in (("train", layout.train + layout.target_only), ("val", layout.val),
                                       ("test", layout.test))}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        shared = sorted(subjects[one][subject] for subject in subjects[one].keys() & subjects[other].keys())
        if shared:
            findings.problems.append(f"leak: {len(shared)} subjects are in {one} and {other}, "
                                     f"e.g. {', '.join(shared[:3])}")


def inspect_unlisted(lists: Lists, findings: Findings) -> None:
    """Find images that no list names, and whole directories of them."""
    images, listed = image_directory(lists.root), lists.names()
    files = walk(images) if images.is_dir() else Walk()
    if files.passed_over():
        findings.notes.append(f"in {images}: {describe(files.passed_over())}")
    folder_of = {path.relative_to(images).as_posix(): path.parent.relative_to(images).as_posix()
                 for path in files.images}
    used = {".", *(folder for name, folder in folder_of.items() if name in listed)}
    forgotten = Counter(folder for folder in folder_of.values() if folder not in used)
    for folder, count in sorted(forgotten.items()):
        findings.problems.append(f"unlisted class: none of the {count} images in {images / folder} is in a list")
    rest = [name for name, folder in folder_of.items() if name not in listed and folder in used]
    if rest:
        findings.notes.append(f"{len(rest)} images in {images} are in no list, e.g. {rest[0]}")


def first_of(items: Iterable[str], count: int = 3) -> str:
    """Return the first items of a long list, and how many more there are."""
    items = list(items)
    return ", ".join(items[:count]) + (f", and {len(items) - count} more" if len(items) > count else "")
