"""The photos of a review: numbered, in classes, the most suspicious photos of each class first."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from veduta.curate.review_decisions import Decision
from veduta.curate.suspicions import Suspicion
from veduta.datasets import Dataset
from veduta.datasets.dataset import some_of
from veduta.errors import DatasetError, readable
from veduta.text import composed

__all__ = ["ReviewClass", "ReviewPhoto", "ReviewSet", "make_review_set"]


@dataclass(frozen=True, slots=True)
class ReviewPhoto:
    """One photo of a review.

    Attributes:
        path: relative to the root of the dataset.
        label: None for a photo without one.
        suspicions: the most certain first.
        split: "" if the dataset has no splits.
    """

    path: str
    label: str | None
    suspicions: Sequence[Suspicion] = ()
    split: str = ""

    @property
    def suggestion(self) -> Decision | None:
        """The most certain suggestion to drop or relabel; without one, the first suggestion."""
        suggestions = [one.suggestion for one in self.suspicions if one.suggestion is not None]
        changes = (decision for decision in suggestions if decision.verdict != "keep")
        return next(changes, suggestions[0] if suggestions else None)

    @property
    def doubt(self) -> tuple[bool, float]:
        """A sort key: photos to drop or relabel are greater than others, then the score counts."""
        suggestion = self.suggestion
        to_change = suggestion is not None and suggestion.verdict != "keep"
        return to_change, max((one.score for one in self.suspicions), default=-inf)


@dataclass(frozen=True, slots=True)
class ReviewClass:
    """The photos of one label.

    Attributes:
        label: None for the photos without one.
        photos: numbers of photos in the review set, the most suspicious first.
    """

    label: str | None
    photos: Sequence[int]


@dataclass(frozen=True, slots=True)
class ReviewSet:
    """All photos of a review.

    Attributes:
        root: the folder that paths are relative to.
        photos: all photos of the dataset, by number.
        classes: those to review.
        labels: the labels that the page offers for a relabelled photo.
        problems: what was left out, one sentence each.
        path_of_row: path as the CSV file of the dataset has it → path of the photo.
    """

    root: Path
    photos: Sequence[ReviewPhoto]
    classes: Sequence[ReviewClass]
    labels: Sequence[str]
    problems: Sequence[str]
    path_of_row: Mapping[str, str] = field(default_factory=dict)


def make_review_set(
    dataset: Dataset, suspicions: Mapping[str, Sequence[Suspicion]], label: str | None = None
) -> ReviewSet:
    """Return the photos of a dataset in the order of their review.

    Suspicions about photos that are not in the dataset become problems.

    Args:
        dataset: the photos.
        suspicions: path → suspicions.
        label: the only class to review; None means all.

    Raises:
        DatasetError: no photo has that label.
    """
    photos = []
    numbers_of: dict[str | None, list[int]] = {}
    rows = zip(dataset.paths, dataset.labels, dataset.splits, strict=True)
    for number, (path, photo_label, split) in enumerate(rows):
        of_photo = suspicions.get(posixpath.normpath(path), ())
        photos.append(ReviewPhoto(path, photo_label, of_photo, split))
        numbers_of.setdefault(photo_label, []).append(number)
    names = sorted(name for name in numbers_of if name is not None)
    label = None if label is None else composed(label)
    if label is not None and label not in numbers_of:
        raise DatasetError(
            f"{readable(dataset.root)}: no photo is labelled {label!r}; it has {some_of(names)}"
        )
    order: list[str | None] = [*names, *([None] if None in numbers_of else [])]
    classes = [
        ReviewClass(
            name, sorted(numbers_of[name], key=lambda number: photos[number].doubt, reverse=True)
        )
        for name in order
        if label is None or name == label
    ]
    unknown = suspicions.keys() - {posixpath.normpath(path) for path in dataset.paths}
    problems = list(dataset.problems)
    if unknown:
        problems.append(
            f"{len(unknown)} photos of the findings are not in the dataset "
            f"({some_of(sorted(unknown))})"
        )
    return ReviewSet(dataset.root, photos, classes, names, problems, dataset.path_of_row)
