"""Rank the gallery of a published protocol from its photos, with the index that users have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from veduta.datasets import Dataset, RetrievalProtocol
from veduta.datasets.boxes import fitted_box, photo_size
from veduta.datasets.dataset import as_table, some_of
from veduta.datasets.judged_set import Box, JudgedSet
from veduta.encoders import Encoder
from veduta.errors import DatasetError, PhotoError, readable
from veduta.evaluation.cropped_queries import cropped_queries, gallery_only
from veduta.evaluation.dataset_index import IndexedDataset, OnProgress, index_dataset
from veduta.evaluation.descriptor_ranking import by_descriptor, settings_of
from veduta.evaluation.photo_ranking import DescriptorOptions, QueryByQuery, RankedQuery
from veduta.index import set_projection
from veduta.keypoints import Extractor
from veduta.photos.orientation import UPRIGHT
from veduta.search.reranking import open_gallery
from veduta.text import count

__all__ = ["rank_photos", "with_boxes_inside", "with_photos_that_exist"]


def with_photos_that_exist(judged: JudgedSet, *, allow_missing: bool) -> JudgedSet:
    """Return a set whose photos are all there.

    Args:
        judged: the set.
        allow_missing: whether photos that are missing are left out, with a problem that says so. If
            not, they are refused: the figures would not compare with published ones.

    Raises:
        DatasetError: photos are missing. The message has how many, and the first five.
    """
    queries, gallery = judged.missing_photos()
    missing = [*queries, *gallery]
    if not missing:
        return judged
    parts = [
        f"{len(ids):,} of {total:,} {what} ({some_of(ids)})"
        for ids, total, what in (
            (queries, len(judged.queries), "query photos"),
            (gallery, len(judged.gallery), "gallery photos"),
        )
        if ids
    ]
    what = f"{readable(judged.root)}: missing: {' and '.join(parts)}"
    if not allow_missing:
        raise DatasetError(
            f"{what}. Without them the figures do not compare with published ones; name the folder "
            "of the photos with --photos, or measure on the others with --allow-missing"
        )
    for ids, total, side in (
        (queries, len(judged.queries), "query"),
        (gallery, len(judged.gallery), "gallery"),
    ):
        if len(ids) == total:
            raise DatasetError(f"{what}; no {side} photo is left")
    return judged.without(set(queries), set(gallery)).with_problems(
        f"{what}; they are left out, and the figures do not compare with published ones"
    )


def with_boxes_inside(judged: JudgedSet) -> JudgedSet:
    """Return a set whose boxes lie in their photos; a box that leaves its photo is cut to it.

    Args:
        judged: the set. All its photos exist.

    Raises:
        DatasetError: a box is empty or outside its photo. The message names the photo.
    """
    if not judged.boxes:
        return judged
    problems: list[str] = []
    boxes: list[Box | None] = []
    for path, box in zip(judged.query_paths, judged.boxes, strict=True):
        if box is None:
            boxes.append(None)
            continue
        x, y, width, height = box
        photo = judged.root / path
        corners = (x, y, x + width, y + height)
        boxes.append(fitted_box(readable(photo), corners, photo_size(photo), problems))
    return replace(judged, boxes=tuple(boxes)).with_problems(*problems)


def rank_photos(
    judged: JudgedSet,
    options: DescriptorOptions,
    encoder: Encoder,
    extractor: Extractor | None,
    on_progress: OnProgress | None,
) -> tuple[JudgedSet, dict[str, Any], Iterator[RankedQuery | PhotoError]]:
    """Bring the indexes of a set up to date, and rank its gallery as `veduta search` does.

    Args:
        judged: the set. All its photos exist.
        options: with a resolved `rerank`.
        encoder: makes the descriptors.
        extractor: finds the keypoints, if photos are verified; None otherwise.
        on_progress: called with (stage, done, total).

    Returns:
        The set without the photos that do not decode, the settings, and for each of its queries the
        ranking, or the error if its photo does not decode.

    Raises:
        DatasetError: no query or no gallery photo decodes.
    """
    shared = judged.query_paths == judged.gallery_paths and not judged.boxes
    paths = [*judged.gallery_paths] if shared else [*judged.query_paths, *judged.gallery_paths]
    splits = ["gallery"] * len(paths)
    if not shared:
        splits[: len(judged.queries)] = ["query"] * len(judged.queries)
    dataset = Dataset(judged.root, as_table(paths, [None] * len(paths), splits))
    indexed = index_dataset(
        dataset,
        gallery_only if shared or judged.boxes else _both_sides,
        encoder,
        extractor,
        on_progress,
        graph=options.rerank != "none",
    )
    judged = _decoded(judged, indexed)
    set_projection(indexed.gallery_index, None)
    settings = settings_of(options, encoder, indexed.gallery_index)
    if judged.boxes:
        files = [judged.root / path for path in judged.query_paths]
        cropped = cropped_queries(
            indexed, options, encoder, files, judged.boxes, judged.own_position
        )
        return judged, settings, _one_by_one(cropped.ranked, len(judged.queries))
    if options.rerank == "none" and options.orientation == UPRIGHT.name:
        return judged, settings, by_descriptor(indexed, options.distance)
    gallery = open_gallery(indexed.gallery_index)
    queries = QueryByQuery(
        options,
        gallery,
        indexed.gallery_rows(gallery.snapshot),
        judged.own_position,
        indexed.query_views(encoder, extractor),
    )
    return judged, settings, _one_by_one(queries.ranked, len(judged.queries))


def _both_sides(dataset: Dataset) -> RetrievalProtocol:
    is_query = dataset.table["split"].to_numpy() == "query"
    queries, gallery = np.flatnonzero(is_query), np.flatnonzero(~is_query)
    no_labels = np.full(len(is_query), -1, np.int32)
    return RetrievalProtocol(
        queries, gallery, 0, False, no_labels[: len(queries)], no_labels[: len(gallery)]
    )


def _decoded(judged: JudgedSet, indexed: IndexedDataset) -> JudgedSet:
    """Return the set without the photos that do not decode, which become problems."""
    decoded = set(indexed.dataset.paths)
    broken_queries, broken_gallery = (
        {each for each, path in zip(ids, paths, strict=True) if path not in decoded}
        for ids, paths in (
            (judged.queries, judged.query_paths),
            (judged.gallery, judged.gallery_paths),
        )
    )
    if judged.boxes:  # A query is decoded when it is cropped.
        broken_queries = set()
    if not broken_queries and not broken_gallery:
        return judged
    judged = judged.without(broken_queries, broken_gallery)
    if not judged.queries or not judged.gallery:
        side = "gallery" if judged.queries else "query"
        raise DatasetError(f"{readable(judged.root)}: no {side} photo decodes")
    broken = count(len(broken_queries | broken_gallery), "photo")
    return judged.with_problems(
        *indexed.dataset.problems,
        f"{broken} left out that do not decode; the figures do not compare with published ones",
    )


def _one_by_one(
    rank: Callable[[int], RankedQuery], queries: int
) -> Iterator[RankedQuery | PhotoError]:
    for number in range(queries):
        try:
            yield rank(number)
        except PhotoError as error:
            yield error
