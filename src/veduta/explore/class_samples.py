"""Sample photos of some classes, for the page and the contact sheet of a description."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from veduta.pages.photo_rows import PagePhoto, PhotoRow, load_photo
from veduta.text import count

if TYPE_CHECKING:
    from veduta.datasets import Dataset
    from veduta.explore.description import Description

__all__ = ["PhotoLoader", "class_rows"]

_PHOTO_SIDE = 192  # pixels
_FREQUENT_CLASSES = 6
_OTHER_CLASSES = 6
_PHOTOS_OF_A_CLASS = 8


class PhotoLoader:
    """Loads the photos of a dataset for a page, by their rows in its table."""

    def __init__(self, dataset: Dataset) -> None:
        self.root = dataset.root
        self.paths = dataset.paths
        self.labels = dataset.labels
        self.splits = dataset.splits

    def load(self, row: int) -> PagePhoto:
        """Return one photo with its label and split."""
        return load_photo(
            self.root,
            self.paths[row],
            side=_PHOTO_SIDE,
            label=self.labels[row],
            split=self.splits[row],
        )


def class_rows(
    description: Description, loader: PhotoLoader
) -> tuple[list[PhotoRow], list[PhotoRow]]:
    """Return photos of the most frequent classes and of some others, the same at every run."""
    classes = len(description.sizes.names)
    frequent = list(range(min(_FREQUENT_CLASSES, classes)))
    shuffled = np.random.default_rng(0).permutation(np.arange(len(frequent), classes))
    others = sorted(shuffled[:_OTHER_CLASSES].tolist())
    return (
        [_class_row(description, loader, number) for number in frequent],
        [_class_row(description, loader, number) for number in others],
    )


def _class_row(description: Description, loader: PhotoLoader, number: int) -> PhotoRow:
    label = description.sizes.names[number]
    readable = description.facts.positions.tolist() if description.facts else []
    rows = [row for row in readable if loader.labels[row] == label]
    chosen = np.random.default_rng(number).permutation(rows)[:_PHOTOS_OF_A_CLASS]
    photos = [loader.load(row) for row in sorted(chosen.tolist())]
    return PhotoRow(photos, title=label, note=count(int(description.sizes.sizes[number]), "photo"))
