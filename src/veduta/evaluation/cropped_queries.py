"""Queries that are parts of photos, cropped to a box before anything else is done to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from veduta.datasets import Dataset, RetrievalProtocol
from veduta.encoders import Encoder
from veduta.evaluation.dataset_index import IndexedDataset
from veduta.evaluation.photo_ranking import DescriptorOptions, QueryByQuery
from veduta.search import Box, Engine
from veduta.search.query_views import QueryViews

__all__ = ["cropped_queries", "gallery_only"]


def gallery_only(dataset: Dataset) -> RetrievalProtocol:
    """Return a protocol of the gallery alone, since cropped queries are encoded one by one.

    Args:
        dataset: photos with the splits `query` and `gallery`.
    """
    rows = np.flatnonzero(dataset.table["split"].to_numpy() == "gallery")
    no_labels = np.full(len(rows), -1, np.int32)
    return RetrievalProtocol(rows, rows, 0, True, no_labels, no_labels)


def cropped_queries(
    indexed: IndexedDataset,
    options: DescriptorOptions,
    encoder: Encoder,
    photos: Sequence[Path],
    boxes: Sequence[Box | None],
    own_position: Callable[[int], int | None] = lambda _: None,
) -> QueryByQuery:
    """Return what ranks the gallery for each of Q queries.

    Args:
        indexed: the gallery, indexed with the protocol `gallery_only`.
        options: with a resolved `rerank`.
        encoder: makes the descriptors.
        photos: (Q,) files.
        boxes: (Q,) the part of each photo that is the query; None for the whole photo.
        own_position: as in `QueryByQuery`.
    """
    engine = Engine(indexed.gallery_index, encoder=encoder)
    gallery = engine.state.gallery

    def views(number: int) -> QueryViews:
        mode = "geometry" if options.verifies else "none"
        return engine.query_views([photos[number]], crop=boxes[number], rerank=mode)

    return QueryByQuery(
        options, gallery, indexed.gallery_rows(gallery.snapshot), own_position, views
    )
