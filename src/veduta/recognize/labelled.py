"""A gallery whose photos have names: what recognition goes by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from veduta.errors import QueryError, readable
from veduta.search.reranking import Gallery

UNLABELLED = -1
_BLOCK = 4096  # rows in memory at a time


@dataclass(frozen=True)
class Labelled:
    """A gallery with labels.

    Attributes:
        gallery: n photos.
        names: the C labels, in alphabetical order.
        codes: (n,) int32, the position of each photo's label in `names`, or `UNLABELLED`.
        outsiders: (m,) rows of photos that are known to show none of the labelled places.
    """

    gallery: Gallery
    names: tuple[str, ...]
    codes: NDArray[np.int32]
    outsiders: NDArray[np.intp]

    @cached_property
    def examples(self) -> NDArray[np.bool_]:
        """(n,): the photos that a recogniser learns from: those with a label, and outsiders."""
        examples: NDArray[np.bool_] = self.codes != UNLABELLED
        examples[self.outsiders] = True
        return examples

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(C,): how many photos have each label."""
        return np.bincount(self.codes[self.codes != UNLABELLED], minlength=len(self.names))

    @cached_property
    def sums(self) -> NDArray[np.float32]:
        """(C, d): the descriptors of each label's photos, added up."""
        snapshot = self.gallery.snapshot
        sums = np.zeros((len(self.names), snapshot.dimension), np.float32)
        for start in range(0, snapshot.photos, _BLOCK):
            codes = self.codes[start : start + _BLOCK]
            named = codes != UNLABELLED
            block = snapshot.descriptors[start : start + _BLOCK].astype(np.float32)
            np.add.at(sums, codes[named], block[named])
        return sums


def label(gallery: Gallery, labels: Sequence[str | None], *, outsiders: bool = True) -> Labelled:
    """Give each photo of a gallery its label.

    Args:
        gallery: n photos.
        labels: of each; None: it has none.
        outsiders: whether photos without a label show none of the labelled places; otherwise they
            may show anything, and nothing is learned from them.

    Raises:
        QueryError: no photo has a label, or all have the same and there are no outsiders.
    """
    names = tuple(sorted({name for name in labels if name is not None}))
    if not names:
        raise QueryError(
            "No photo of this collection has a label, so there is nothing to recognise. Index it "
            "with one folder a place, or with --labels FILE."
        )
    if len(names) == 1 and (not outsiders or None not in labels):
        raise QueryError(
            f"All photos that count have the label {readable(names[0])}, so there is nothing to "
            "tell it from. Index photos of other things too, with other labels or without one."
        )
    code_of = {name: code for code, name in enumerate(names)}
    codes = [UNLABELLED if name is None else code_of[name] for name in labels]
    coded = np.array(codes, np.int32)
    out = np.flatnonzero(coded == UNLABELLED) if outsiders else np.empty(0, np.intp)
    return Labelled(gallery, names, coded, out)
