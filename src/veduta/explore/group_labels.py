"""A labels file in which a person names groups of photos.

Each group is named in one place: the label in its first row, that of the best photo. The other rows
of the group have no label of their own. They share that of the first row by the column
`label_group`, which every reader of a labels file knows (`veduta.datasets.label_columns`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.datasets.label_columns import GROUP_COLUMN
from veduta.errors import readable
from veduta.files import atomic_file

if TYPE_CHECKING:
    from veduta.explore.photo_groups import PhotoGroup
    from veduta.index import IndexedPhoto

__all__ = ["write_group_labels"]

_FORMULA_SIGNS = ("=", "+", "-", "@")
"""A spreadsheet takes a field that begins with one of these for a formula."""


def write_group_labels(
    file: Path, groups: Sequence[PhotoGroup], photos: Iterable[IndexedPhoto]
) -> list[str]:
    """Write the photos of groups with their labels.

    A group without any label has its own name as the label, so the file can be indexed before a
    person names anything. If photos of a group have one label, it is that of the group. If they
    have several, each photo keeps its own. Labelled photos in no group follow after the groups, so
    that no label is lost.

    Args:
        file: it appears complete or not at all. Paths are absolute.
        groups: of an index.
        photos: all photos of the index.

    Returns:
        The paths of photos that are left out, because a CSV file cannot hold a name that is not
        UTF-8.

    Raises:
        CannotWrite: the file cannot be written.
    """
    left_out: list[str] = []
    with atomic_file(file) as draft, draft.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("path", "label", GROUP_COLUMN))
        grouped: set[int] = set()
        for group in groups:
            grouped.update(photo.id for photo in group.photos)
            writer.writerows(_rows(group, _writable(group.photos, left_out)))
        others = (photo for photo in photos if photo.label and photo.id not in grouped)
        for photo in _writable(others, left_out):
            writer.writerow((photo.path, _no_formula(photo.label or ""), ""))
    return left_out


def _writable(photos: Iterable[IndexedPhoto], left_out: list[str]) -> Iterator[IndexedPhoto]:
    """Yield the photos whose paths a CSV file can hold, and note the paths of the others."""
    for photo in photos:
        if readable(photo.path) == photo.path:
            yield photo
        else:
            left_out.append(photo.path)


def _rows(group: PhotoGroup, photos: Iterable[IndexedPhoto]) -> Iterator[tuple[str, str, str]]:
    labels = {photo.label for photo in group.photos if photo.label}
    if len(labels) > 1:  # A person has told these photos apart.
        yield from ((photo.path, _no_formula(photo.label or ""), "") for photo in photos)
        return
    label = next(iter(labels), group.name)
    for number, photo in enumerate(photos):
        yield photo.path, _no_formula(label) if number == 0 else "", group.name


def _no_formula(label: str) -> str:
    """Return a label that no spreadsheet computes. Readers remove the blank."""
    return f" {label}" if label.startswith(_FORMULA_SIGNS) else label
