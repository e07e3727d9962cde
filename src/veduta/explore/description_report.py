"""A description as people look at it: the content of its page, and its charts as files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.explore.class_samples import PhotoLoader, class_rows
from veduta.explore.description_charts import class_charts, description_charts, photo_charts
from veduta.files import write_bytes
from veduta.pages.class_sheet import write_class_sheet
from veduta.pages.description_page import (
    ClassTable,
    CopiesBetween,
    DescriptionPage,
    MissingClasses,
    NumberTile,
    PhotoRows,
    PhotosPart,
)
from veduta.pages.photo_rows import PhotoRow
from veduta.text import format_number

if TYPE_CHECKING:
    from veduta.curate.hash_duplicates import DuplicatePair, Duplicates
    from veduta.curate.photo_scan import PhotoScan
    from veduta.datasets import Dataset
    from veduta.explore.classes import ClassSizes
    from veduta.explore.description import Description

__all__ = ["description_page", "write_charts"]

_MAX_PAIRS, _MAX_GROUPS, _MAX_CLASSES = 24, 12, 500
_MAX_GROUP_PHOTOS = 6


def description_page(description: Description) -> DescriptionPage:
    """Return what the page shows."""
    sizes = description.sizes
    dataset, facts, duplicates = description.dataset, description.facts, description.duplicates
    photos = None
    if dataset is not None and facts is not None and duplicates is not None:
        photos = _photos_part(description, dataset, facts, duplicates)
    return DescriptionPage(
        title=description.name,
        counts=list(_counts(description)),
        problems=description.problems,
        class_numbers=list(_class_numbers(sizes)),
        missing_classes=[
            MissingClasses(split, other, labels)
            for (split, other), labels in description.lacking().items()
        ],
        class_charts=list(class_charts(sizes).values()),
        class_table=_class_table(sizes),
        photos=photos,
    )


def write_charts(folder: str | os.PathLike[str], description: Description) -> list[Path]:
    """Write each chart as a PNG file, and a contact sheet of some photos.

    Args:
        folder: the folder to write into. It is made if it is missing.
        description: what to draw. Without photos there is no contact sheet.

    Returns:
        The files.

    Raises:
        OSError: a file cannot be written.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name, chart in description_charts(description).items():
        written.append(target / f"{name}.png")
        write_bytes(written[-1], chart.png())
    if description.dataset is not None and description.facts is not None:
        frequent, others = class_rows(description, PhotoLoader(description.dataset))
        if rows := frequent + others:
            written.append(target / "contact_sheet.png")
            write_class_sheet(written[-1], rows)
    return written


def _counts(description: Description) -> Iterator[NumberTile]:
    sizes = description.sizes
    without = f"{sizes.unlabelled:,} without a label" if sizes.unlabelled else ""
    yield NumberTile("photos", f"{sizes.photos:,}", without)
    yield NumberTile("classes", f"{len(sizes.names):,}")
    for split, photos in sizes.splits.items():
        if split:
            yield NumberTile(split, f"{photos:,}")
    if description.facts is not None and description.duplicates is not None:
        yield NumberTile("unreadable", f"{len(description.facts.unreadable):,}")
        yield NumberTile("copies", f"{description.duplicates.spare:,}", "more than one of a group")


def _class_numbers(sizes: ClassSizes) -> Iterator[NumberTile]:
    imbalance = sizes.imbalance()
    largest, smallest, median, mean, ratio, effective = map(
        format_number,
        (
            imbalance.largest,
            imbalance.smallest,
            imbalance.median,
            imbalance.mean,
            imbalance.ratio,
            imbalance.effective,
        ),
    )
    single = 100 * imbalance.single / len(sizes.names)
    yield NumberTile("largest", largest, f"photos, {ratio} times the smallest")
    yield NumberTile("median", median, f"photos in a class; mean {mean}")
    yield NumberTile("smallest", smallest, "photo" if imbalance.smallest == 1 else "photos")
    yield NumberTile("with one photo", f"{imbalance.single:,}", f"{single:.1f} % of the classes")
    yield NumberTile("effective classes", effective, "so many classes of equal size are as diverse")
    yield NumberTile(
        "Gini coefficient",
        f"{imbalance.gini:.2f}",
        "0 if all classes have one size, near 1 if one class has all photos",
    )


def _class_table(sizes: ClassSizes) -> ClassTable:
    splits = [name for name in sizes.splits if name]
    columns = [sizes.sizes, *(sizes.by_split[split] for split in splits)]
    counts = zip(*(column[:_MAX_CLASSES].tolist() for column in columns), strict=True)
    rows = [
        (label, *numbers) for label, numbers in zip(sizes.names[:_MAX_CLASSES], counts, strict=True)
    ]
    return ClassTable(splits, rows, len(sizes.names))


def _photos_part(
    description: Description, dataset: Dataset, facts: PhotoScan, duplicates: Duplicates
) -> PhotosPart:
    loader = PhotoLoader(dataset)
    # A copy in another split and under another label is shown once, with the splits.
    across_labels = [
        copy
        for copy in duplicates.across_labels
        if loader.splits[copy.first] == loader.splits[copy.second]
    ]
    frequent, others = class_rows(description, loader)
    return PhotosPart(
        is_split=any(description.sizes.splits),
        copies_between=[
            CopiesBetween(split, other, photos)
            for (split, other), photos in description.copies_between().items()
        ],
        exact_groups=len(duplicates.exact),
        near_groups=len(duplicates.near),
        across_splits=_pairs(loader, duplicates.across_splits),
        across_labels=_pairs(loader, across_labels),
        groups=_groups(loader, duplicates.groups),
        unreadable=[(loader.paths[row], reason) for row, reason in facts.unreadable],
        misnamed=[(loader.paths[row], kind) for row, kind in facts.misnamed],
        charts=list(photo_charts(facts).values()),
        frequent=frequent,
        others=others,
    )


def _pairs(loader: PhotoLoader, copies: Sequence[DuplicatePair]) -> PhotoRows:
    rows = [
        PhotoRow(
            [loader.load(copy.first), loader.load(copy.second)],
            note="same bytes" if copy.same_bytes else f"likeness {copy.correlation:.3f}",
        )
        for copy in copies[:_MAX_PAIRS]
    ]
    return PhotoRows(rows, len(copies))


def _groups(loader: PhotoLoader, groups: Sequence[tuple[int, ...]]) -> PhotoRows:
    rows = [
        PhotoRow(
            [loader.load(row) for row in group[:_MAX_GROUP_PHOTOS]], note=f"{len(group)} photos"
        )
        for group in groups[:_MAX_GROUPS]
    ]
    return PhotoRows(rows, len(groups))
