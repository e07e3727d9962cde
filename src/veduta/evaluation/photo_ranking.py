"""Rank the gallery for one query after the other, each in its best orientation, as in a search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veduta.keypoints import DEFAULT_KEYPOINTS
from veduta.photos.orientation import UPRIGHT, Orientation
from veduta.search import VERIFIED_PHOTOS, EncodedQuery, Hit, exact, hits_of
from veduta.search.best_orientation import Attempt, best_attempt
from veduta.search.distances import distances
from veduta.search.expansion import EXPANSIONS, rank_by_expansion
from veduta.search.query_views import QueryViews
from veduta.search.reranking import Gallery
from veduta.search.reranking import rerank as rerank_hits

__all__ = ["DescriptorOptions", "QueryByQuery", "RankedQuery"]

_VERIFYING_MODES = frozenset({"geometry", "expansion"})


@dataclass(frozen=True, slots=True)
class RankedQuery:
    """The gallery as one query ranks it.

    Attributes:
        number: of the query, from 0.
        scores: (G,) by which the gallery is ranked, the highest first.
        descriptor_scores: (G,) by the descriptor alone, if `scores` are re-ranked; None otherwise.
        orientation: how the query was turned.
    """

    number: int
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


@dataclass(frozen=True, slots=True)
class QueryByQuery:
    """Ranks the gallery for each of Q queries.

    Attributes:
        options: how the gallery is ranked, with a resolved `rerank`.
        gallery: of the index.
        rows: (G,) the row of each gallery photo in the snapshot of the index.
        own_position: returns the position of a query's own photo in the gallery, which is not
            ranked, by the number of the query; None if it is not there.
        views_of: returns a query by its number.
    """

    options: DescriptorOptions
    gallery: Gallery
    rows: NDArray[np.intp]
    own_position: Callable[[int], int | None]
    views_of: Callable[[int], QueryViews]

    def ranked(self, number: int) -> RankedQuery:
        """Return the gallery as a query ranks it.

        Args:
            number: of the query, from 0.

        Raises:
            PhotoError: the photo of the query cannot be read.
        """
        snapshot, views = self.gallery.snapshot, self.views_of(number)
        own_position = self.own_position(number)
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
