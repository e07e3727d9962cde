"""A gallery whose photos have labels: what recognition learns from and compares with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from veduta.errors import QueryError, readable
from veduta.index.distinct_photos import distinct_photos
from veduta.index.snapshot import as_float32
from veduta.search.reranking import Gallery

__all__ = ["UNLABELLED", "LabelledGallery"]

UNLABELLED = -1
"""The class id of a photo without a label."""

_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class LabelledGallery:
    """A gallery of n photos with C labels.

    Attributes:
        gallery: n photos.
        names: the C labels, in alphabetical order.
        class_ids: (n,) int32, the position of each photo's label in `names`, or `UNLABELLED`.
        outsiders: (m,) rows of photos that show none of the labelled places.
        background: (b, d) float32, unit rows: descriptors of other things, which belong to the
            encoder and not to the collection, see `veduta.recognize.background`; b may be 0.
    """

    gallery: Gallery
    names: tuple[str, ...]
    class_ids: NDArray[np.int32]
    outsiders: NDArray[np.intp]
    background: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        gallery: Gallery,
        labels: Sequence[str | None],
        *,
        outsiders: bool = True,
        background: NDArray[np.float32] | None = None,
    ) -> LabelledGallery:
        """Give each photo of a gallery its label.

        Args:
            gallery: n photos.
            labels: one a photo; None if it has none.
            outsiders: whether photos without a label show none of the labelled places. If not,
                they may show anything, and nothing is learned from them.
            background: (b, d) descriptors of other things; None: there are none.

        Returns:
            The labelled gallery.

        Raises:
            QueryError: no photo has a label, or all have the same, and there are neither outsiders
                nor a background.
        """
        names = tuple(sorted({name for name in labels if name is not None}))
        if not names:
            raise QueryError(
                "No photo of this collection has a label, so there is nothing to recognise. With "
                "one folder of photos for each place, `veduta index FOLDER --labels folders` takes "
                "the names of the folders as labels; --labels FILE.csv takes them from a file."
            )
        if background is None:
            background = np.empty((0, gallery.snapshot.dimension), np.float32)
        if len(names) == 1 and not len(background) and (not outsiders or None not in labels):
            raise QueryError(
                f"All photos that count have the label {readable(names[0])}, so there is nothing "
                "to tell it from: Veduta does not know how other things look to the encoder of "
                "this index. Index photos of other things too, with other labels or without one."
            )
        class_id_of: dict[str | None, int] = {name: i for i, name in enumerate(names)}
        class_id_of[None] = UNLABELLED
        class_ids = np.array([class_id_of[name] for name in labels], np.int32)
        without_label = np.flatnonzero(class_ids == UNLABELLED)
        rows = without_label if outsiders else np.empty(0, np.intp)
        return cls(gallery, names, class_ids, rows, background)

    @cached_property
    def photo_of_row(self) -> NDArray[np.int32]:
        """(n,): equal numbers for copies, ascending with the content hash."""
        return distinct_photos(self.gallery.snapshot).photo_of_row

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """(n,): the rows by content hash, those of copies by label.

        What is computed in this order does not depend on the order in which photos were indexed.
        """
        return np.lexsort((self.class_ids, self.photo_of_row))

    @cached_property
    def examples(self) -> NDArray[np.bool_]:
        """(n,): the photos that a recogniser learns from: those with a label, and outsiders."""
        examples: NDArray[np.bool_] = self.class_ids != UNLABELLED
        examples[self.outsiders] = True
        return examples

    @property
    def example_count(self) -> int:
        """How many examples a recogniser learns from: photos and background."""
        return int(np.count_nonzero(self.examples)) + len(self.background)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(C,): how many photos have each label."""
        labelled = self.class_ids[self.class_ids != UNLABELLED]
        return np.bincount(labelled, minlength=len(self.names))

    @cached_property
    def sums(self) -> NDArray[np.float32]:
        """(C, d): the sum of the descriptors of each label's photos."""
        snapshot = self.gallery.snapshot
        sums = np.zeros((len(self.names), snapshot.dimension), np.float32)
        labelled = self.order[self.class_ids[self.order] != UNLABELLED]
        for start in range(0, len(labelled), _BLOCK_ROWS):
            rows = labelled[start : start + _BLOCK_ROWS]
            block = as_float32(snapshot.descriptors[rows])
            np.add.at(sums, self.class_ids[rows], block)
        return sums
