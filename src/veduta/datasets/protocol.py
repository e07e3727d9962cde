"""Which photos of a dataset are queries, which are the gallery, and which answers are right."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from veduta.datasets.dataset import Dataset, as_table, some_of
from veduta.datasets.split_names import NO_SPLIT
from veduta.errors import DatasetError, readable
from veduta.text import count

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "ClassCoverage",
    "RetrievalProtocol",
    "class_coverage",
    "recognition_protocol",
    "retrieval_protocol",
]

NO_CLASS_ID = -1


@dataclass(frozen=True, slots=True)
class RetrievalProtocol:
    """The queries and the gallery of a dataset, as rows of its table.

    The rows are in the order of the table; in an unsplit dataset, distractors come last.

    Attributes:
        queries: (Q,) int64 rows of the queries.
        gallery: (G,) int64 rows of the gallery photos, with the distractors.
        distractors: how many of the G photos are distractors. They are ranked and never right.
        leave_one_out: whether the queries are also the gallery. Each query is then left out of its
            own ranking.
        query_class_ids: (Q,) int32. Two photos have the same class if their class ids are equal.
            -1 stands for no label.
        gallery_class_ids: (G,) int32. -1 stands for no label, and for distractors.
    """

    queries: NDArray[np.int64]
    gallery: NDArray[np.int64]
    distractors: int
    leave_one_out: bool
    query_class_ids: NDArray[np.int32]
    gallery_class_ids: NDArray[np.int32]

    def relevant(self, query: int) -> NDArray[np.bool_]:
        """Tell which gallery photos are right answers to a query.

        Args:
            query: the number of the query, from 0 to Q - 1.

        Returns:
            (G,) bool. In leave-one-out, the query itself is not a right answer.
        """
        class_id = self.query_class_ids[query]
        if class_id == NO_CLASS_ID:
            return np.zeros(len(self.gallery), np.bool_)
        relevant: NDArray[np.bool_] = self.gallery_class_ids == class_id
        own = self.own_position(query)
        if own is not None:
            relevant[own] = False
        return relevant

    def own_position(self, query: int) -> int | None:
        """Return the position in the gallery of the query's own photo; None if it is not there."""
        return query if self.leave_one_out else None


def retrieval_protocol(dataset: Dataset) -> RetrievalProtocol:
    """Return the queries and the gallery of a dataset.

    In a split dataset, the gallery has the `gallery` and the `distractor` rows, and a `gallery` row
    with the label of the query is a right answer. Rows of other splits take no part. In an unsplit
    dataset, each photo is a query against all others and the distractors.

    Args:
        dataset: the photos.

    Raises:
        DatasetError: there is no query or no gallery photo.
    """
    splits = dataset.table["split"].to_numpy()
    class_ids = _class_ids(dataset.table["label"])
    is_distractor = splits == "distractor"
    if (splits == NO_SPLIT).any():
        unsplit = np.flatnonzero(splits == NO_SPLIT)
        if len(unsplit) < 2:
            raise DatasetError(f"{readable(dataset.root)}: needs two photos at least")
        distractors = np.flatnonzero(is_distractor)
        no_class = np.full(len(distractors), NO_CLASS_ID, np.int32)
        return RetrievalProtocol(
            unsplit,
            np.concatenate([unsplit, distractors]),
            len(distractors),
            True,
            class_ids[unsplit],
            np.concatenate([class_ids[unsplit], no_class]),
        )
    queries = np.flatnonzero(splits == "query")
    gallery = np.flatnonzero((splits == "gallery") | is_distractor)
    for rows, wanted in ((queries, "query"), (np.flatnonzero(splits == "gallery"), "gallery")):
        if not len(rows):
            found = ", ".join(sorted(set(splits.tolist())))
            raise DatasetError(
                f"{readable(dataset.root)}: no photo with the split {wanted!r} (found: {found})"
            )
    gallery_class_ids = np.where(is_distractor, np.int32(NO_CLASS_ID), class_ids)[gallery]
    return RetrievalProtocol(
        queries, gallery, int(is_distractor.sum()), False, class_ids[queries], gallery_class_ids
    )


def recognition_protocol(dataset: Dataset) -> RetrievalProtocol:
    """Return the photos to recognise, as queries, and the gallery that names them.

    The `query` and the `unknown` rows are recognised, the latter without a label. The gallery is
    that of `retrieval_protocol`.

    Args:
        dataset: the photos. An unsplit dataset is refused: the confidence is fitted on the gallery,
            so its photos cannot be queries as well.

    Raises:
        DatasetError: the dataset is not split, there is no query, there is no gallery photo, or no
            gallery photo has a label.
    """
    if NO_SPLIT in dataset.splits or not {"query", "unknown"}.intersection(dataset.splits):
        raise DatasetError(
            f"{readable(dataset.root)}: no photo is to be recognised; give rows of labels.csv the "
            "split 'query' (or 'unknown': of none of the labels), or name --queries and --gallery"
        )
    rows = zip(dataset.labels, dataset.splits, strict=True)
    labels = [None if split == "unknown" else label for label, split in rows]
    splits = ["query" if split == "unknown" else split for split in dataset.splits]
    queries = Dataset(dataset.root, as_table(dataset.paths, labels, splits), dataset.problems)
    protocol = retrieval_protocol(queries)
    if (protocol.gallery_class_ids < 0).all():
        raise DatasetError(
            f"{readable(dataset.root)}: no photo of the gallery has a label, so there is nothing "
            "to recognise; give rows with the split 'gallery' one"
        )
    return protocol


@dataclass(frozen=True, slots=True)
class ClassCoverage:
    """Which classes have queries and which have gallery photos. Names are in alphabetical order.

    Attributes:
        both: classes with queries and with gallery photos.
        query_only: classes of queries without a gallery photo. Retrieval leaves their queries out
            of every mean. To a recogniser they are as good as unknown.
        query_only_photos: queries of the classes in `query_only`.
        gallery_only: classes of the gallery without a query. Their photos are never right.
        gallery_only_photos: gallery photos of the classes in `gallery_only`.
        unlabelled_queries: queries without a label.
        distractors: photos with the split `distractor`.
        unknown: photos with the split `unknown`.
        aside: photos that take no part: junk, and the other splits of a dataset with queries.
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
        """Return a sentence for each fact that a reader of the figures should know."""
        notes = (
            (
                len(self.query_only),
                f"{count(len(self.query_only), 'class', 'classes')} of the queries not in the "
                f"gallery ({some_of(self.query_only)}): {_queries(self.query_only_photos)}",
            ),
            (
                len(self.gallery_only),
                f"{count(len(self.gallery_only), 'class', 'classes')} of the gallery that no query "
                f"has ({some_of(self.gallery_only)}): {count(self.gallery_only_photos, 'photo')}",
            ),
            (self.unlabelled_queries, f"{_queries(self.unlabelled_queries)} without a label"),
            (self.distractors, f"{count(self.distractors, 'distractor')} in the gallery"),
            (self.unknown, f"{_queries(self.unknown)} with none of the classes"),
            (self.aside, f"{count(self.aside, 'photo')} set aside (junk, or of another split)"),
        )
        return tuple(note for number, note in notes if number)


def class_coverage(dataset: Dataset) -> ClassCoverage:
    """Compare the classes of the queries with those of the gallery.

    In an unsplit dataset, a class with one photo is in `query_only`: its photo has no right answer.

    Args:
        dataset: the photos.
    """
    rows = Counter(zip(dataset.splits, dataset.labels, strict=True))
    queries: dict[str, int] = {}
    gallery: dict[str, int] = {}
    unlabelled = 0
    for (split, label), photos in rows.items():
        if split in {NO_SPLIT, "query"}:
            if label is None:
                unlabelled += photos
            else:
                queries[label] = photos
        if label is not None and (split == "gallery" or (split == NO_SPLIT and photos > 1)):
            gallery[label] = photos
    query_only = sorted(queries.keys() - gallery.keys())
    gallery_only = sorted(gallery.keys() - queries.keys())
    return ClassCoverage(
        both=tuple(sorted(queries.keys() & gallery.keys())),
        query_only=tuple(query_only),
        query_only_photos=sum(queries[label] for label in query_only),
        gallery_only=tuple(gallery_only),
        gallery_only_photos=sum(gallery[label] for label in gallery_only),
        unlabelled_queries=unlabelled,
        distractors=dataset.splits.count("distractor"),
        unknown=dataset.splits.count("unknown"),
        aside=sum(split in {"junk", "train", "val", "test"} for split in dataset.splits),
    )


def _queries(number: int) -> str:
    return count(number, "query", "queries")


def _class_ids(labels: pa.ChunkedArray) -> NDArray[np.int32]:
    """Return (N,) int32, one number for each distinct label, -1 for null."""
    import pyarrow.compute as pc

    encoded = labels.combine_chunks().dictionary_encode()
    class_ids: NDArray[np.int32] = pc.fill_null(encoded.indices, NO_CLASS_ID).to_numpy(
        zero_copy_only=False
    )
    return class_ids
