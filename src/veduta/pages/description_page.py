"""The page of a description: what a dataset holds, in numbers, charts and photos."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from veduta.pages.html import write_page
from veduta.pages.photo_rows import PhotoRow

if TYPE_CHECKING:
    from veduta.pages.charts import Chart

__all__ = [
    "ClassTable",
    "CopiesBetween",
    "DescriptionPage",
    "MissingClasses",
    "NumberTile",
    "PhotoRows",
    "PhotosPart",
    "write_description_page",
]


@dataclass(frozen=True, slots=True)
class NumberTile:
    """A number with its name, and what it means."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class MissingClasses:
    """The classes of one split that have no photo in another."""

    split: str
    other: str
    labels: Sequence[str]


@dataclass(frozen=True, slots=True)
class ClassTable:
    """The largest classes.

    Attributes:
        splits: names of the columns after the photos.
        rows: (label, photos, photos in each split…).
        classes: how many classes there are; the table may show fewer.
    """

    splits: Sequence[str]
    rows: Sequence[tuple[str | int, ...]]
    classes: int


@dataclass(frozen=True, slots=True)
class PhotoRows:
    """Rows of photos; there are `total` of them, and the page may show fewer."""

    rows: Sequence[PhotoRow]
    total: int


@dataclass(frozen=True, slots=True)
class CopiesBetween:
    """How many photos of one split have a copy in another."""

    split: str
    other: str
    photos: int


@dataclass(frozen=True, slots=True)
class PhotosPart:
    """What the page shows where the photos were read.

    Attributes:
        is_split: whether the dataset has splits.
        copies_between: of the splits.
        exact_groups: groups of photos with the same bytes.
        near_groups: groups of the same picture saved in another way.
        across_splits: pairs of copies in two splits.
        across_labels: pairs of copies under two labels, in the same split.
        groups: groups of copies.
        unreadable: (path, reason).
        misnamed: (path, format) of photos whose name says another format.
        charts: of sizes, formats and files.
        frequent: photos of the most frequent classes.
        others: photos of some of the other classes.
    """

    is_split: bool
    copies_between: Sequence[CopiesBetween]
    exact_groups: int
    near_groups: int
    across_splits: PhotoRows
    across_labels: PhotoRows
    groups: PhotoRows
    unreadable: Sequence[tuple[str, str]]
    misnamed: Sequence[tuple[str, str]]
    charts: Sequence[Chart]
    frequent: Sequence[PhotoRow]
    others: Sequence[PhotoRow]


@dataclass(frozen=True, slots=True)
class DescriptionPage:
    """The content of the page.

    Attributes:
        title: the heading.
        counts: of photos, classes and splits.
        problems: what was left out before any photo was read.
        class_numbers: how uneven the classes are.
        missing_classes: for pairs of splits.
        class_charts: of the sizes of the classes.
        class_table: the largest classes.
        photos: None if no photo was read.
    """

    title: str
    counts: Sequence[NumberTile]
    problems: Sequence[str]
    class_numbers: Sequence[NumberTile]
    missing_classes: Sequence[MissingClasses]
    class_charts: Sequence[Chart]
    class_table: ClassTable
    photos: PhotosPart | None = None


def write_description_page(file: str | os.PathLike[str], page: DescriptionPage) -> None:
    """Write the page.

    Args:
        file: it appears complete or not at all.
        page: what the page shows.

    Raises:
        OSError: the file cannot be written.
    """
    write_page(file, "description.html", page)
