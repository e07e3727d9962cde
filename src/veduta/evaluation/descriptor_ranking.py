"""Rank the gallery of a dataset by descriptors, and with re-ranking also as a search does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.datasets import Dataset, retrieval_protocol
from veduta.encoders import Encoder, name_without_folders
from veduta.errors import QueryError
from veduta.evaluation.dataset_index import IndexedDataset, OnProgress, index_dataset
from veduta.index import open_snapshot, set_projection
from veduta.keypoints import DEFAULT_KEYPOINTS, Extractor
from veduta.photos.orientation import UPRIGHT, Orientation
from veduta.search import VERIFIED_PHOTOS, EncodedQuery, Hit, exact, hits_of
from veduta.search.best_orientation import Attempt, best_attempt
from veduta.search.distances import distances
from veduta.search.exact import similarities
from veduta.search.expansion import EXPANSIONS, rank_by_expansion
from veduta.search.query_views import QueryViews
from veduta.search.reranking import Gallery, open_gallery, resolve_rerank
from veduta.search.reranking import rerank as rerank_hits

__all__ = [
    "DescriptorOptions",
    "RankedQuery",
    "check_verification",
    "rank_by_descriptors",
    "resolved_rerank",
]

_BLOCK_QUERIES = 64
_VERIFYING_MODES = frozenset({"geometry", "expansion"})


@dataclass(frozen=True, slots=True)
class RankedQuery:
    """The gallery as one query ranks it.

    Attributes:
        number: of the query, from 0.
        row: of the query in the table of the dataset.
        scores: (G,) by which the gallery is ranked, the highest first.
        descriptor_scores: (G,) by the descriptor alone, if `scores` are re-ranked; None otherwise.
        orientation: how the query was turned.
    """

    number: int
    row: int
    scores: NDArray[np.floating[Any]]
    descriptor_scores: NDArray[np.floating[Any]] | None = None
    orientation: Orientation = UPRIGHT


@dataclass(frozen=True, slots=True)
class DescriptorOptions:
    """The options of `veduta.evaluation.evaluate` that keypoint methods do not have."""

    encoder: str | None = None
    runtime: str | None = None
    distance: str = "cosine"
    project: int | None = None
    rerank: str | None = None
    verify: int = VERIFIED_PHOTOS
    keypoints: str = DEFAULT_KEYPOINTS
    orientation: str = UPRIGHT.name

    @property
    def verifies(self) -> bool:
        """Whether photos are verified by their keypoints; `rerank` must be resolved."""
        return self.rerank in _VERIFYING_MODES


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
    if rerank in _VERIFYING_MODES:
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
        ranked = _by_descriptor(indexed, options.distance)
    else:
        ranked = iter(_QueryByQuery.of(indexed, options, encoder, extractor))
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
    if options.orientation != UPRIGHT.name:
        settings |= {"orientation": options.orientation}
    if options.verifies and options.keypoints != DEFAULT_KEYPOINTS:
        calibration = open_gallery(indexed.gallery_index).calibration
        calibrated = calibration.geometry_is_calibrated
        settings |= {
            "keypoints": options.keypoints,
            "score_kind": "probability" if calibrated else "evidence",
        }
    return indexed.dataset, settings, ranked


@dataclass(frozen=True, slots=True)
class _QueryByQuery:
    """Ranks the gallery for one query after the other, each in its best orientation.

    Attributes:
        indexed: the queries and the gallery.
        options: how the gallery is ranked.
        gallery: of the index.
        rows: (G,) the row of each gallery photo.
        views_of: returns a query by its number.
    """

    indexed: IndexedDataset
    options: DescriptorOptions
    gallery: Gallery
    rows: NDArray[np.intp]
    views_of: Callable[[int], QueryViews]

    @classmethod
    def of(
        cls,
        indexed: IndexedDataset,
        options: DescriptorOptions,
        encoder: Encoder,
        extractor: Extractor | None,
    ) -> _QueryByQuery:
        gallery = open_gallery(indexed.gallery_index)
        rows = indexed.gallery_rows(gallery.snapshot)
        return cls(indexed, options, gallery, rows, indexed.query_views(encoder, extractor))

    def __iter__(self) -> Iterator[RankedQuery]:
        return map(self._ranked, range(len(self.indexed.protocol.queries)))

    def _ranked(self, number: int) -> RankedQuery:
        snapshot, views = self.gallery.snapshot, self.views_of(number)
        own_position = self.indexed.protocol.own_position(number)
        own = [] if own_position is None else [int(self.rows[own_position])]
        keep = np.ones(snapshot.photos, np.bool_)
        keep[own] = False

        def attempt(orientation: Orientation) -> Attempt[RankedQuery]:
            query = views.encoded(orientation)
            nearest, similarity = exact.nearest(
                snapshot, query.descriptor, snapshot.photos, keep if own else None
            )
            by_descriptor = np.zeros(snapshot.photos, np.float32)
            by_descriptor[nearest] = similarity
            scores, hits = self._scores(query, nearest, similarity, own)
            ranked = RankedQuery(
                number,
                int(self.indexed.protocol.queries[number]),
                (by_descriptor if scores is None else scores)[self.rows],
                None if self.options.rerank == "none" else by_descriptor[self.rows],
                orientation,
            )
            return Attempt.of(
                ranked,
                hits,
                verified=views.verified,
                stands_out=self.gallery.stands_out(query.descriptor, similarity[:1]),
            )

        return best_attempt(
            self.options.orientation,
            attempt,
            partial(views.first_similarity, snapshot, keep=keep),
            verified=views.verified,
            is_promising=partial(views.is_promising, self.gallery, self.options.verify, keep=keep),
        )

    def _scores(
        self,
        query: EncodedQuery,
        nearest: NDArray[np.intp],
        similarity: NDArray[np.float32],
        own: Sequence[int],
    ) -> tuple[NDArray[np.floating[Any]] | None, list[Hit] | None]:
        """Return the score of each row, and the first hit. None for the hit: it has no evidence.

        None for the scores: those by the descriptor stay.
        """
        options, snapshot = self.options, self.gallery.snapshot
        if options.rerank == "none":
            if options.distance == "cosine":
                return None, None
            return -distances(snapshot.descriptors, query.descriptor, options.distance), None
        keep = None
        if own:
            keep = np.ones(snapshot.photos, np.bool_)
            keep[own] = False
        evidence = self.gallery, query.descriptor, query.keypoints, nearest, similarity
        scores = np.zeros(snapshot.photos)
        if options.rerank in EXPANSIONS:
            without = own[0] if own else None
            ranked_rows, ranked_scores = rank_by_expansion(
                options.rerank, *evidence, verify=options.verify, keep=keep, without=without
            )
            scores[ranked_rows] = ranked_scores
            return scores, None
        reranked = rerank_hits(*evidence, verify=options.verify, keep=keep, without=own)
        scores[reranked.rows] = reranked.scores
        return scores, hits_of(snapshot, reranked, 1, query)


def _by_descriptor(indexed: IndexedDataset, distance: str) -> Iterator[RankedQuery]:
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
            number = start + offset
            yield RankedQuery(number, int(indexed.protocol.queries[number]), values[rows])
