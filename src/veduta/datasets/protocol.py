"""Which rows ask, which rows answer, and which answers are right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from veduta.datasets.dataset import NO_SPLIT, Dataset
from veduta.errors import DatasetError, readable

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["RetrievalProtocol", "retrieval_protocol"]

_NO_LABEL = -1


@dataclass(frozen=True, slots=True)
class RetrievalProtocol:
    """Rows of a dataset's table, in the order of the table.

    `queries`
        (Q,) int64 row numbers of the photos that ask.
    `gallery`
        (G,) int64 row numbers of the photos that answer, distractors among them.
    `distractors`
        how many of the G are distractors: ranked, never right.
    `leave_one_out`
        whether the queries are the gallery too, each left out of its own answers.
    `query_codes`, `gallery_codes`
        (Q,) and (G,) int32: equal when the labels are; -1 without a label and for distractors.
    """

    queries: NDArray[np.int64]
    gallery: NDArray[np.int64]
    distractors: int
    leave_one_out: bool
    query_codes: NDArray[np.int32]
    gallery_codes: NDArray[np.int32]

    def relevant(self, query: int) -> NDArray[np.bool_]:
        """Return (G,) bool: which gallery photos are right answers to query number `query`.

        In leave-one-out the query itself is not among them.
        """
        code = self.query_codes[query]
        if code == _NO_LABEL:
            return np.zeros(len(self.gallery), np.bool_)
        right: NDArray[np.bool_] = self.gallery_codes == code
        own = self.itself(query)
        if own is not None:
            right[own] = False
        return right

    def itself(self, query: int) -> int | None:
        """Return the position in the gallery of the query's own photo; None if it is not there."""
        return query if self.leave_one_out else None


def retrieval_protocol(dataset: Dataset) -> RetrievalProtocol:
    """Return who asks and who answers.

    Split: `query` rows ask; `gallery` and `distractor` rows answer; right is a `gallery` row with
    the query's label; all other rows take no part. Unsplit: each photo asks all the others.

    Raises `DatasetError` when nobody asks or nobody answers.
    """
    splits = dataset.table["split"].to_numpy()
    codes = _label_codes(dataset.table["label"])
    if not (splits != NO_SPLIT).any():
        everyone = np.arange(len(splits), dtype=np.int64)
        if len(everyone) < 2:
            raise DatasetError(f"{readable(dataset.root)}: needs two photos at least")
        return RetrievalProtocol(everyone, everyone, 0, True, codes, codes)
    queries = np.flatnonzero(splits == "query")
    distractors = splits == "distractor"
    gallery = np.flatnonzero((splits == "gallery") | distractors)
    for rows, wanted in ((queries, "query"), (np.flatnonzero(splits == "gallery"), "gallery")):
        if not len(rows):
            found = ", ".join(sorted(set(splits.tolist())))
            raise DatasetError(
                f"{readable(dataset.root)}: no photo with the split {wanted!r} (found: {found})"
            )
    answers = np.where(distractors, np.int32(_NO_LABEL), codes)
    return RetrievalProtocol(
        queries, gallery, int(distractors.sum()), False, codes[queries], answers[gallery]
    )


def _label_codes(labels: pa.ChunkedArray) -> NDArray[np.int32]:
    """Return (N,) int32, one number for each distinct label, -1 for null."""
    import pyarrow.compute as pc

    encoded = labels.combine_chunks().dictionary_encode()
    codes: NDArray[np.int32] = pc.fill_null(encoded.indices, _NO_LABEL).to_numpy(
        zero_copy_only=False
    )
    return codes
