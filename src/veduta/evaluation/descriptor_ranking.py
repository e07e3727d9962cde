"""Rank the gallery of a dataset by descriptors, and with re-ranking also as a search does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from veduta.datasets import Dataset, retrieval_protocol
from veduta.devices import PROCESSOR
from veduta.encoders import Encoder, name_without_folders
from veduta.errors import QueryError
from veduta.evaluation.dataset_index import IndexedDataset, OnProgress, index_dataset
from veduta.evaluation.photo_ranking import DescriptorOptions, QueryByQuery, RankedQuery
from veduta.index import open_snapshot, set_projection
from veduta.keypoints import DEFAULT_KEYPOINTS, Extractor
from veduta.photos.orientation import UPRIGHT
from veduta.search import VERIFIED_PHOTOS
from veduta.search.distances import distances
from veduta.search.exact import similarities
from veduta.search.expansion import EXPANSIONS
from veduta.search.reranking import open_gallery, resolve_rerank

__all__ = [
    "by_descriptor",
    "check_verification",
    "rank_by_descriptors",
    "resolved_rerank",
    "settings_of",
]

_BLOCK_QUERIES = 64


def resolved_rerank(rerank: str | None, distance: str, *, encoder_is_named: bool) -> str:
    """Return how an evaluation re-ranks.

    Args:
        rerank: what was asked for. None: nothing if an encoder is named, because its figures are to
            be its own, and what a search does otherwise.
        distance: how descriptors are compared.
        encoder_is_named: whether the caller named an encoder.

    Raises:
        QueryError: there is no such mode, or it does not go with this distance.
    """
    if rerank is None:
        rerank = "none" if encoder_is_named else "auto"
    if rerank not in EXPANSIONS:
        return resolve_rerank(rerank, distance, keypoints=True)
    if distance != "cosine":
        raise QueryError(f"--rerank {rerank} goes with the cosine distance only.")
    return rerank


def check_verification(
    rerank: str, *, verify: int = VERIFIED_PHOTOS, keypoints: str = DEFAULT_KEYPOINTS
) -> None:
    """Refuse settings of the verification where no photo is verified.

    Args:
        rerank: how the evaluation re-ranks.
        verify: how many photos are to be verified.
        keypoints: by which they are to be verified.

    Raises:
        QueryError: a setting is not at its default, and would have no effect.
    """
    if DescriptorOptions(rerank=rerank).verifies:
        return
    for name, is_set in (
        ("verify", verify != VERIFIED_PHOTOS),
        ("keypoints", keypoints != DEFAULT_KEYPOINTS),
    ):
        if is_set:
            raise QueryError(
                f"--{name} is about the verification of photos, but nothing is verified here: add "
                f"--rerank geometry, or leave out --{name}."
            )


def rank_by_descriptors(
    dataset: Dataset,
    options: DescriptorOptions,
    encoder: Encoder,
    extractor: Extractor | None,
    on_progress: OnProgress | None,
) -> tuple[Dataset, dict[str, Any], Iterator[RankedQuery]]:
    """Bring the indexes of a dataset up to date, and rank the gallery as `veduta search` does.

    Args:
        dataset: the dataset.
        options: with a resolved `rerank`.
        encoder: makes the descriptors.
        extractor: finds the keypoints, if photos are verified; None otherwise.
        on_progress: called with (stage, done, total).

    Returns:
        The dataset without photos that do not decode, the settings, and the queries.

    Raises:
        DatasetError: the dataset does not fit the protocol of retrieval.
        EncoderError: the gallery has fewer photos than the projection dimensions.
    """
    indexed = index_dataset(
        dataset,
        retrieval_protocol,
        encoder,
        extractor,
        on_progress,
        graph=options.rerank != "none",
    )
    set_projection(indexed.gallery_index, options.project)
    ranked: Iterator[RankedQuery]
    if options.rerank == "none" and options.orientation == UPRIGHT.name:
        ranked = by_descriptor(indexed, options.distance)
    else:
        gallery = open_gallery(indexed.gallery_index)
        queries = QueryByQuery(
            options,
            gallery,
            indexed.gallery_rows(gallery.snapshot),
            indexed.protocol.own_position,
            indexed.query_views(encoder, extractor),
        )
        ranked = map(queries.ranked, range(len(indexed.protocol.queries)))
    return indexed.dataset, settings_of(options, encoder, indexed.gallery_index), ranked


def settings_of(options: DescriptorOptions, encoder: Encoder, index: Path) -> dict[str, Any]:
    """Return the settings of a ranking, for reports.

    Args:
        options: with a resolved `rerank`.
        encoder: makes the descriptors.
        index: the folder of the index of the gallery.
    """
    facts = encoder.describe()
    settings = {
        "encoder": name_without_folders(encoder.name),
        "identity": encoder.identity,
        "runtime": facts["runtime"],
        "precision": facts["precision"],
        "distance": options.distance,
        "project": options.project,
        "rerank": options.rerank,
        "verify": options.verify if options.verifies else None,
    }
    if (device := facts.get("device", PROCESSOR.name)) != PROCESSOR.name:
        settings |= {"device": device}
    if options.orientation != UPRIGHT.name:
        settings |= {"orientation": options.orientation}
    if options.verifies and options.keypoints != DEFAULT_KEYPOINTS:
        calibrated = open_gallery(index).calibration.geometry_is_calibrated
        settings |= {
            "keypoints": options.keypoints,
            "score_kind": "probability" if calibrated else "evidence",
        }
    return settings


def by_descriptor(indexed: IndexedDataset, distance: str) -> Iterator[RankedQuery]:
    """Rank the gallery for each query by the descriptor alone, many queries at a time.

    Args:
        indexed: the queries and the gallery.
        distance: one of `veduta.search.DISTANCES`.

    Yields:
        The queries in their order.
    """
    snapshot = open_snapshot(indexed.gallery_index)
    rows = indexed.gallery_rows(snapshot)
    queries = indexed.query_descriptors()
    for start in range(0, len(queries), _BLOCK_QUERIES):
        block = queries[start : start + _BLOCK_QUERIES]
        if distance == "cosine":
            scores = np.empty((len(block), snapshot.photos), np.float32)
            for part, values in similarities(snapshot, block):
                scores[:, part] = values
        else:
            scores = np.stack([-distances(snapshot.descriptors, q, distance) for q in block])
        for offset, values in enumerate(scores):
            yield RankedQuery(start + offset, values[rows])
