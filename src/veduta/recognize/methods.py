"""Ways to name what a photo shows: each gives some labels, and numbers that speak for them.

What the numbers are worth is another matter, and the same for all: `veduta.recognize.confidence`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veduta.keypoints import Keypoints
from veduta.recognize.labelled import UNLABELLED, Labelled
from veduta.search import VERIFIED_PHOTOS, exact
from veduta.search.reranking import Ranking, rerank

NEIGHBOURS = 5  # that vote; what the reports' baseline leaves open
_LIKELIEST = 5  # labels that are looked at more closely
_FIRST = 10  # hits whose labels are
_ABSENT = -7.0  # log-odds of a label that no hit has: a probability of one in a thousand
_CERTAIN = 30.0  # log-odds, either way


@dataclass(frozen=True, slots=True)
class Asked:
    """One photo, or several of one thing, that are to be recognised.

    Attributes:
        descriptor: (d,) float32, of length one.
        keypoints: of each photo; empty: geometry is left out.
        linear: (C,) scores of the linear recogniser.
        without: rows of the gallery that are taken as not being there.
    """

    descriptor: NDArray[np.float32]
    keypoints: Sequence[Keypoints]
    linear: NDArray[np.float64]
    without: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Labels that a photo may have.

    Attributes:
        codes: (c,) in `Labelled.names`; empty when nothing speaks for any.
        features: (c, f) float64, the more the likelier.
        ranking: the gallery photos that were looked at, nearest first.
    """

    codes: NDArray[np.intp]
    features: NDArray[np.float64]
    ranking: Ranking


Method = Callable[[Labelled, Asked], Candidates]


def evidence(known: Labelled, asked: Asked) -> Candidates:
    """Weigh what the linear recogniser says, the best hit of each label, and its geometry."""
    ranking = _searched(known, asked)
    codes = known.codes[ranking.rows]
    likely = _likely(asked)
    first = codes[:_FIRST]
    candidates = np.union1d(likely, first[first != UNLABELLED]).astype(np.intp)
    likelihood = np.clip(ranking.probabilities, 1e-13, 1 - 1e-13)
    logits = np.clip(np.log(likelihood / (1 - likelihood)), -_CERTAIN, _CERTAIN)
    agreeing = np.array(
        [
            found.verification.agreeing if (found := ranking.geometry.get(row)) else 0
            for row in ranking.rows.tolist()
        ],
        np.float64,
    )
    features = [
        (
            asked.linear[code],
            logits[codes == code].max(initial=_ABSENT),
            np.log1p(agreeing[codes == code].max(initial=0)),
        )
        for code in candidates.tolist()
    ]
    return Candidates(candidates, _table(features, 3), ranking)


def knn(known: Labelled, asked: Asked) -> Candidates:
    """Let the five nearest photos vote, the nearest deciding a tie."""
    ranking = _nearest(known, asked)
    votes = known.codes[ranking.rows[:NEIGHBOURS]]
    codes, first, counts = np.unique(
        votes[votes != UNLABELLED], return_index=True, return_counts=True
    )
    if not len(codes):
        return Candidates(codes.astype(np.intp), np.empty((0, 2)), ranking)
    winner = np.lexsort((first, -counts))[0]
    similarity = ranking.similarities[:NEIGHBOURS][votes == codes[winner]].max()
    features = [(counts[winner] / len(votes), float(similarity))]
    return Candidates(codes[[winner]].astype(np.intp), _table(features, 2), ranking)


def inliers(known: Labelled, asked: Asked) -> Candidates:
    """Let the hits vote, each with as many votes as it has inliers; without any, the nearest."""
    ranking = _searched(known, asked)
    codes = known.codes[ranking.rows]
    votes = np.array(
        [
            len(found.verification.inliers) if (found := ranking.geometry.get(row)) else 0
            for row in ranking.rows.tolist()
        ],
        np.float64,
    )
    named = np.flatnonzero(codes != UNLABELLED)
    if not len(named):
        return Candidates(np.empty(0, np.intp), np.empty((0, 2)), ranking)
    sums = np.zeros(len(known.names))
    np.add.at(sums, codes[named], votes[named])
    winner = int(sums.argmax()) if sums.any() else int(codes[named[0]])
    share = sums[winner] / max(votes.sum(), 1)
    features = [(np.log1p(sums[winner]), share)]
    return Candidates(np.array([winner], np.intp), _table(features, 2), ranking)


def prototypes(known: Labelled, asked: Asked) -> Candidates:
    """Compare with the mean descriptor of each label."""
    ranking = _nearest(known, asked)
    sums = known.sums
    if len(asked.without):
        sums = sums.copy()
        gone = asked.without[known.codes[asked.without] != UNLABELLED]
        left = known.gallery.snapshot.take(gone).astype(np.float32)
        np.subtract.at(sums, known.codes[gone], left)
        sums[np.bincount(known.codes[gone], minlength=len(sums)) == known.counts] = 0
    lengths = np.linalg.norm(sums, axis=1)
    similar = np.full(len(sums), -np.inf)
    there = lengths > 0
    similar[there] = sums[there] @ asked.descriptor / lengths[there]
    likely = np.argsort(-similar, kind="stable")[:_LIKELIEST]
    likely = likely[np.isfinite(similar[likely])]
    features = []
    for code in likely.tolist():
        others = np.delete(similar[likely], np.flatnonzero(likely == code))
        # The last label has none to stand out from.
        ahead = similar[code] - others.max() if len(others) else 0.0
        features.append((similar[code], ahead))
    return Candidates(likely.astype(np.intp), _table(features, 2), ranking)


def linear(known: Labelled, asked: Asked) -> Candidates:
    """Go by the linear recogniser alone."""
    likely = _likely(asked)
    features = [(score,) for score in asked.linear[likely].tolist()]
    return Candidates(likely, _table(features, 1), _nearest(known, asked))


METHODS: dict[str, Method] = {
    "evidence": evidence,
    "knn": knn,
    "inliers": inliers,
    "prototypes": prototypes,
    "linear": linear,
}
GEOMETRIC = ("evidence", "inliers")


def _likely(asked: Asked) -> NDArray[np.intp]:
    likely = np.argsort(-asked.linear, kind="stable")[:_LIKELIEST]
    return likely[np.isfinite(asked.linear[likely])]


def _kept(known: Labelled, asked: Asked) -> NDArray[np.bool_] | None:
    if not len(asked.without):
        return None
    keep = np.ones(known.gallery.snapshot.photos, np.bool_)
    keep[asked.without] = False
    return keep


def _nearest(known: Labelled, asked: Asked) -> Ranking:
    keep = _kept(known, asked)
    rows, similarities = exact.nearest(
        known.gallery.snapshot, asked.descriptor, VERIFIED_PHOTOS, keep
    )
    return Ranking(rows, similarities, similarities, weighed=False)


def _searched(known: Labelled, asked: Asked) -> Ranking:
    keep = _kept(known, asked)
    rows, similarities = exact.nearest(
        known.gallery.snapshot, asked.descriptor, VERIFIED_PHOTOS, keep
    )
    return rerank(
        known.gallery,
        asked.descriptor,
        asked.keypoints,
        rows,
        similarities,
        keep=keep,
        without=asked.without.tolist(),
    )


def _table(features: Sequence[Sequence[float]], width: int) -> NDArray[np.float64]:
    return np.array(features, np.float64).reshape(-1, width)
