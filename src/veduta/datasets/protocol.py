"""Which rows ask, which rows answer, and which answers are right."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from veduta.datasets.dataset import Dataset, some_of
from veduta.datasets.split_names import NO_SPLIT
from veduta.errors import DatasetError, readable
from veduta.text import count

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ClassCoverage", "RetrievalProtocol", "class_coverage", "retrieval_protocol"]

_NO_LABEL = -1


@dataclass(frozen=True, slots=True)
class RetrievalProtocol:
    """Rows of a dataset's table, in the order of the table (unsplit, distractors come last).

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
    the query's label; all other rows take no part. Unsplit: each photo asks all the others and the
    distractors, if classes were named as such.

    Raises `DatasetError` when nobody asks or nobody answers.
    """
    splits = dataset.table["split"].to_numpy()
    codes = _label_codes(dataset.table["label"])
    distractors = splits == "distractor"
    if (splits == NO_SPLIT).any():
        everyone = np.flatnonzero(splits == NO_SPLIT)
        if len(everyone) < 2:
            raise DatasetError(f"{readable(dataset.root)}: needs two photos at least")
        apart = np.flatnonzero(distractors)
        answers = np.concatenate([codes[everyone], np.full(len(apart), _NO_LABEL, np.int32)])
        gallery = np.concatenate([everyone, apart])
        return RetrievalProtocol(everyone, gallery, len(apart), True, codes[everyone], answers)
    queries = np.flatnonzero(splits == "query")
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


@dataclass(frozen=True, slots=True)
class ClassCoverage:
    """Which classes ask and which answer; the names in alphabetical order.

    `both`
        classes with queries and with gallery photos.
    `query_only`, `query_only_photos`
        classes that ask and have no gallery photo, and how many photos ask so: in no mean of
        retrieval, and to a recogniser as good as unknown.
    `gallery_only`, `gallery_only_photos`
        classes that nobody asks for, and their photos: they answer, and are always wrong.
    `unlabelled_queries`
        queries without a label.
    `distractors`, `unknown`
        photos with those splits.
    `aside`
        photos that take no part: junk, and other splits of a dataset that has queries.
    """

    both: tuple[str, ...]
    query_only: tuple[str, ...]
    query_only_photos: int
    gallery_only: tuple[str, ...]
    gallery_only_photos: int
    unlabelled_queries: int
    distractors: int
    unknown: int
    aside: int

    def notes(self) -> tuple[str, ...]:
        """Return a sentence for each thing that a reader of the figures should know."""
        said = (
            (
                len(self.query_only),
                f"{count(len(self.query_only), 'class', 'classes')} of the queries not "
                f"in the gallery ({some_of(self.query_only)}): "
                f"{count(self.query_only_photos, 'query', 'queries')}",
            ),
            (
                len(self.gallery_only),
                f"{count(len(self.gallery_only), 'class', 'classes')} of the gallery "
                f"that no query has ({some_of(self.gallery_only)}): "
                f"{count(self.gallery_only_photos, 'photo')}",
            ),
            (
                self.unlabelled_queries,
                f"{count(self.unlabelled_queries, 'query', 'queries')} without a label",
            ),
            (self.distractors, f"{count(self.distractors, 'distractor')} in the gallery"),
            (self.unknown, f"{count(self.unknown, 'query', 'queries')} with none of the classes"),
            (self.aside, f"{count(self.aside, 'photo')} set aside (junk, or of another split)"),
        )
        return tuple(note for number, note in said if number)


def class_coverage(dataset: Dataset) -> ClassCoverage:
    """Return which classes ask and which answer. In an unsplit dataset all that have two photos do.

    There a class of one photo asks without an answer: it is in `query_only`.
    """
    splits = dataset.table["split"].to_pylist()
    labels = dataset.table["label"].to_pylist()
    rows = Counter(zip(splits, labels, strict=True))
    asking = {label: n for (split, label), n in rows.items() if split in {NO_SPLIT, "query"}}
    answering = {label: n for (split, label), n in rows.items() if split == "gallery"}
    answering |= {label: n for (split, label), n in rows.items() if split == NO_SPLIT and n > 1}
    unlabelled = asking.pop(None, 0)
    answering.pop(None, 0)
    query_only = sorted(asking.keys() - answering.keys())
    gallery_only = sorted(answering.keys() - asking.keys())
    return ClassCoverage(
        both=tuple(sorted(asking.keys() & answering.keys())),
        query_only=tuple(query_only),
        query_only_photos=sum(asking[label] for label in query_only),
        gallery_only=tuple(gallery_only),
        gallery_only_photos=sum(answering[label] for label in gallery_only),
        unlabelled_queries=unlabelled,
        distractors=splits.count("distractor"),
        unknown=splits.count("unknown"),
        aside=sum(split in {"junk", "train", "val", "test"} for split in splits),
    )


def _label_codes(labels: pa.ChunkedArray) -> NDArray[np.int32]:
    """Return (N,) int32, one number for each distinct label, -1 for null."""
    import pyarrow.compute as pc

    encoded = labels.combine_chunks().dictionary_encode()
    codes: NDArray[np.int32] = pc.fill_null(encoded.indices, _NO_LABEL).to_numpy(
        zero_copy_only=False
    )
    return codes
