"""Recognition methods: each finds candidate labels for a photo, with the evidence for them.

How much the evidence is worth is the same question for all methods, see
`veduta.recognize.confidence`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veduta.errors import QueryError
from veduta.keypoints import Keypoints
from veduta.recognize.labelled_gallery import UNLABELLED, LabelledGallery
from veduta.recognize.linear import comparable
from veduta.search import VERIFIED_PHOTOS, exact
from veduta.search.reranking import Ranking, rerank

__all__ = ["GEOMETRIC", "METHODS", "Candidates", "RecognitionQuery", "check_method"]

_VOTING_NEIGHBOURS = 5
"""Photos that vote in "knn"; the reports leave their number open."""

_MAX_CANDIDATES = 5
"""Labels of the highest scores that become candidates."""

_CANDIDATE_HITS = 10
"""Hits whose labels become candidates."""

_ABSENT_LOG_ODDS = -7.0
"""Evidence for a label that no hit has: a probability of one in a thousand."""

_MAX_LOG_ODDS = 30.0
"""Log-odds are cut to this, so that a certain hit is worth a finite number."""


@dataclass(frozen=True, slots=True)
class RecognitionQuery:
    """A photo that is to be recognised, or several photos of one thing.

    Attributes:
        descriptor: (d,) float32, of length one.
        keypoints: one entry a photo; empty to recognise without geometry.
        linear_scores: (C,) scores of the linear classifier.
        excluded_rows: rows of the gallery that take no part.
    """

    descriptor: NDArray[np.float32]
    keypoints: Sequence[Keypoints]
    linear_scores: NDArray[np.float64]
    excluded_rows: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Labels that a photo may have.

    Attributes:
        class_ids: (c,) positions in `LabelledGallery.names`; empty if there is no candidate.
        features: (c, f) float64, the evidence; a larger value makes a label likelier.
        ranking: the gallery photos that were compared, nearest first.
    """

    class_ids: NDArray[np.intp]
    features: NDArray[np.float64]
    ranking: Ranking


Method = Callable[[LabelledGallery, RecognitionQuery], Candidates]


def evidence(labelled: LabelledGallery, query: RecognitionQuery) -> Candidates:
    """Weigh the linear classifier, the best hit of each label, and the geometry of its hits."""
    ranking = _reranked(labelled, query)
    class_ids = labelled.class_ids[ranking.rows]
    of_first_hits = class_ids[:_CANDIDATE_HITS]
    candidates = np.union1d(
        _likeliest(query.linear_scores), of_first_hits[of_first_hits != UNLABELLED]
    ).astype(np.intp)
    probabilities = np.clip(ranking.scores, 1e-13, 1 - 1e-13)
    log_odds = np.log(probabilities / (1 - probabilities))
    log_odds = np.clip(log_odds, -_MAX_LOG_ODDS, _MAX_LOG_ODDS)
    consistent_matches = np.array(
        [
            pair.verification.consistent_matches if (pair := ranking.geometry.get(row)) else 0
            for row in ranking.rows.tolist()
        ],
        np.float64,
    )
    scores = _comparable_scores(labelled, query)
    features = [
        (
            scores[class_id],
            log_odds[class_ids == class_id].max(initial=_ABSENT_LOG_ODDS),
            np.log1p(consistent_matches[class_ids == class_id].max(initial=0)),
        )
        for class_id in candidates.tolist()
    ]
    return Candidates(candidates, _table(features, 3), ranking)


def knn(labelled: LabelledGallery, query: RecognitionQuery) -> Candidates:
    """Let the five nearest photos vote; the nearest decides a tie."""
    ranking = _nearest(labelled, query)
    votes = labelled.class_ids[ranking.rows[:_VOTING_NEIGHBOURS]]
    class_ids, first, counts = np.unique(
        votes[votes != UNLABELLED], return_index=True, return_counts=True
    )
    if not len(class_ids):
        return Candidates(class_ids.astype(np.intp), np.empty((0, 2)), ranking)
    winner = np.lexsort((first, -counts))[0]
    similarities = ranking.similarities[:_VOTING_NEIGHBOURS]
    similarity = similarities[votes == class_ids[winner]].max()
    features = [(counts[winner] / len(votes), float(similarity))]
    return Candidates(class_ids[[winner]].astype(np.intp), _table(features, 2), ranking)


def inliers(labelled: LabelledGallery, query: RecognitionQuery) -> Candidates:
    """Let the hits vote, each with its number of inliers; without inliers the nearest wins."""
    ranking = _reranked(labelled, query)
    class_ids = labelled.class_ids[ranking.rows]
    votes = np.array(
        [
            len(pair.verification.inliers) if (pair := ranking.geometry.get(row)) else 0
            for row in ranking.rows.tolist()
        ],
        np.float64,
    )
    voters = np.flatnonzero(class_ids != UNLABELLED)
    if not len(voters):
        return Candidates(np.empty(0, np.intp), np.empty((0, 2)), ranking)
    sums = np.zeros(len(labelled.names))
    np.add.at(sums, class_ids[voters], votes[voters])
    winner = int(sums.argmax()) if sums.any() else int(class_ids[voters[0]])
    share = sums[winner] / max(votes.sum(), 1)
    features = [(np.log1p(sums[winner]), share)]
    return Candidates(np.array([winner], np.intp), _table(features, 2), ranking)


def prototypes(labelled: LabelledGallery, query: RecognitionQuery) -> Candidates:
    """Compare the query with the mean descriptor of each label."""
    ranking = _nearest(labelled, query)
    sums = labelled.sums
    if len(query.excluded_rows):
        sums = sums.copy()
        excluded = query.excluded_rows[labelled.class_ids[query.excluded_rows] != UNLABELLED]
        class_ids = labelled.class_ids[excluded]
        descriptors = labelled.gallery.snapshot.take(excluded)
        np.subtract.at(sums, class_ids, descriptors)
        sums[np.bincount(class_ids, minlength=len(sums)) == labelled.counts] = 0
    lengths = np.linalg.norm(sums, axis=1)
    similarities = np.full(len(sums), -np.inf)
    has_mean = lengths > 0
    similarities[has_mean] = sums[has_mean] @ query.descriptor / lengths[has_mean]
    candidates = _likeliest(similarities)
    features = []
    for class_id in candidates.tolist():
        others = np.delete(similarities[candidates], np.flatnonzero(candidates == class_id))
        lead = similarities[class_id] - others.max() if len(others) else 0.0
        features.append((similarities[class_id], lead))
    return Candidates(candidates, _table(features, 2), ranking)


def linear(labelled: LabelledGallery, query: RecognitionQuery) -> Candidates:
    """Use the scores of the linear classifier alone."""
    candidates = _likeliest(query.linear_scores)
    features = [(score,) for score in _comparable_scores(labelled, query)[candidates].tolist()]
    return Candidates(candidates, _table(features, 1), _nearest(labelled, query))


METHODS: dict[str, Method] = {
    "evidence": evidence,
    "knn": knn,
    "inliers": inliers,
    "prototypes": prototypes,
    "linear": linear,
}

GEOMETRIC = ("evidence", "inliers")
"""The methods that use the keypoints of a query."""


def check_method(name: str) -> None:
    """Raise `QueryError` unless `name` is one of `METHODS`."""
    if name not in METHODS:
        raise QueryError(f"{name!r} is no way to recognise. Known: {', '.join(METHODS)}.")


def _likeliest(scores: NDArray[np.float64]) -> NDArray[np.intp]:
    likeliest = np.argsort(-scores, kind="stable")[:_MAX_CANDIDATES]
    return likeliest[np.isfinite(scores[likeliest])].astype(np.intp)


def _comparable_scores(labelled: LabelledGallery, query: RecognitionQuery) -> NDArray[np.float64]:
    """Return the linear scores, (C,), times the factors of `linear.comparable`."""
    if not len(labelled.background):
        return query.linear_scores
    excluded = labelled.class_ids[query.excluded_rows]
    left = labelled.counts - np.bincount(
        excluded[excluded != UNLABELLED], minlength=len(labelled.names)
    )
    return query.linear_scores * comparable(left)


def _included(labelled: LabelledGallery, query: RecognitionQuery) -> NDArray[np.bool_] | None:
    """Return which rows take part; None for all of them."""
    if not len(query.excluded_rows):
        return None
    included = np.ones(labelled.gallery.snapshot.photos, np.bool_)
    included[query.excluded_rows] = False
    return included


def _nearest(labelled: LabelledGallery, query: RecognitionQuery) -> Ranking:
    included = _included(labelled, query)
    rows, similarities = exact.nearest(
        labelled.gallery.snapshot, query.descriptor, VERIFIED_PHOTOS, included
    )
    return Ranking(rows, similarities, similarities, score_kind="similarity")


def _reranked(labelled: LabelledGallery, query: RecognitionQuery) -> Ranking:
    included = _included(labelled, query)
    rows, similarities = exact.nearest(
        labelled.gallery.snapshot, query.descriptor, VERIFIED_PHOTOS, included
    )
    return rerank(
        labelled.gallery,
        query.descriptor,
        query.keypoints,
        rows,
        similarities,
        keep=included,
        without=query.excluded_rows.tolist(),
    )


def _table(features: Sequence[Sequence[float]], columns: int) -> NDArray[np.float64]:
    return np.array(features, np.float64).reshape(-1, columns)
