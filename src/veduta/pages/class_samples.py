"""The photos of a collection as small pictures, and some of each class to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from veduta.photos import preview
from veduta.text import count

if TYPE_CHECKING:
    from veduta.datasets import Dataset
    from veduta.explore.description import Description

__all__ = ["Picture", "Row", "Shelf", "class_rows"]

_SIDE = 192  # pixels of a small copy
_FREQUENT, _RANDOM, _EACH = 6, 6, 8


@dataclass(frozen=True, slots=True)
class Picture:
    """`jpeg` is None where the photo cannot be read any more."""

    name: str
    label: str | None
    split: str
    jpeg: bytes | None


@dataclass(frozen=True, slots=True)
class Row:
    """`note` says how often, or how alike."""

    title: str
    note: str
    pictures: Sequence[Picture]


class Shelf:
    """The photos of a collection by their places, as small pictures."""

    def __init__(self, dataset: Dataset) -> None:
        self.root = dataset.root
        self.paths: list[str] = dataset.table["path"].to_pylist()
        self.labels: list[str | None] = dataset.table["label"].to_pylist()
        self.splits: list[str] = dataset.table["split"].to_pylist()

    def picture(self, at: int) -> Picture:
        """Return the photo at place `at` of the dataset's table."""
        jpeg = preview(self.root / self.paths[at], _SIDE)
        return Picture(self.paths[at], self.labels[at], self.splits[at], jpeg)


def class_rows(description: Description, shelf: Shelf) -> tuple[list[Row], list[Row]]:
    """Return photos of the most frequent classes, and of some of the others.

    The same at every run.
    """
    frequent, random = _some_classes(description)
    return (
        [_class_row(shelf, description, at) for at in frequent],
        [_class_row(shelf, description, at) for at in random],
    )


def _some_classes(description: Description) -> tuple[list[int], list[int]]:
    """Return the most frequent classes, and some of the others, the same at every run."""
    classes = len(description.sizes.names)
    frequent = list(range(min(_FREQUENT, classes)))
    others = np.random.default_rng(0).permutation(np.arange(len(frequent), classes))
    return frequent, sorted(others[:_RANDOM].tolist())


def _class_row(shelf: Shelf, description: Description, at: int) -> Row:
    sizes, seen = description.sizes, description.facts
    label = sizes.names[at]
    places = [row for row in (seen.rows.tolist() if seen else []) if shelf.labels[row] == label]
    chosen = np.random.default_rng(at).permutation(places)[:_EACH]
    note = count(sizes.sizes[at], "photo")
    return Row(label, note, [shelf.picture(place) for place in sorted(chosen.tolist())])
