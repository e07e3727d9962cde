"""Retrieval metrics, one query at a time: nothing here ever holds queries × gallery.

The rules, once:

- Ranking: by score, highest first; equal scores by row number, lowest first.
- Average precision (AP): non-interpolated, over the whole ranked gallery, divided by the number of
  positives (Manning, Raghavan, Schütze, "Introduction to Information Retrieval", 2008, chapter 8).
- Precision at 10: how many of the first ten are right, divided by ten, also when there are fewer
  than ten positives or ten gallery photos.
- Top-k: whether one of the first k is right.
- A query without a positive has no AP. It is counted and takes no part in any mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "NearestPhoto",
    "QueryResult",
    "average_precision",
    "judge",
    "precision_at",
    "ranking",
    "top_k_accuracy",
]


@dataclass(frozen=True, slots=True)
class NearestPhoto:
    """One of a query's first answers: `row` is its position in the gallery, from 0."""

    row: int
    score: float
    correct: bool


@dataclass(frozen=True, slots=True)
class QueryResult:
    """How one query fared.

    `positives`: right answers in the gallery. `ap`, `p10`: in [0, 1], NaN without positives.
    `first_correct_rank`: from 1, None without positives. `nearest`: the first answers, best first.
    """

    path: str
    label: str | None
    positives: int
    ap: float
    p10: float
    first_correct_rank: int | None
    nearest: tuple[NearestPhoto, ...]

    def right_within(self, k: int) -> bool:
        """Tell whether one of the first `k` answers is right."""
        return self.first_correct_rank is not None and self.first_correct_rank <= k


def ranking(scores: ArrayLike) -> NDArray[np.int64]:
    """Return (N,) int64 row numbers, highest score first, equal scores by row number.

    `scores`: (N,) numbers, infinities allowed.

    Raises `ValueError` for NaN, which has no place in an order.
    """
    values = np.asarray(scores)
    if values.ndim != 1:
        raise ValueError(f"scores have the shape {values.shape}; wanted one dimension")
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    if np.isnan(values).any():
        raise ValueError(f"{int(np.isnan(values).sum())} of {len(values)} scores are NaN")
    return np.argsort(-values, kind="stable").astype(np.int64, copy=False)


def average_precision(relevant_in_rank_order: ArrayLike) -> float:
    """Return the AP of a whole ranked gallery: the mean over its positives of precision there.

    `relevant_in_rank_order`: (N,) bool, best rank first. NaN without a positive.
    """
    positions = np.flatnonzero(np.asarray(relevant_in_rank_order, dtype=np.bool_))
    if not len(positions):
        return math.nan
    found = np.arange(1, len(positions) + 1)
    return float(np.mean(found / (positions + 1)))


def precision_at(relevant_in_rank_order: ArrayLike, k: int) -> float:
    """Return how many of the first `k` are right, divided by `k` even if there are fewer."""
    if k < 1:
        raise ValueError(f"k is {k}; wanted 1 or more")
    return float(np.count_nonzero(np.asarray(relevant_in_rank_order, dtype=np.bool_)[:k]) / k)


def top_k_accuracy(results: Iterable[QueryResult], k: int) -> float:
    """Return the share of the queries with a positive that have one in their first `k` answers.

    NaN when no query has a positive.
    """
    if k < 1:
        raise ValueError(f"k is {k}; wanted 1 or more")
    right = [result.right_within(k) for result in results if result.positives]
    return sum(right) / len(right) if right else math.nan


def judge(
    path: str,
    label: str | None,
    scores: ArrayLike,
    relevant: ArrayLike,
    *,
    itself: int | None = None,
    keep: int = 10,
) -> QueryResult:
    """Return how one query fared against the whole gallery.

    `path`, `label`
        of the query, kept in the result.
    `scores`
        (G,) of every gallery photo, higher is nearer; -inf ranks a photo last.
    `relevant`
        (G,) bool: which are right.
    `itself`
        position of the query's own photo in the gallery, taken out before ranking.
    `keep`
        how many of the first answers the result holds.

    Raises `ValueError` for shapes that differ and for NaN.
    """
    values = np.asarray(scores)
    right = np.asarray(relevant, dtype=np.bool_)
    if values.shape != right.shape:
        raise ValueError(f"{values.shape} scores but {right.shape} judgements")
    order = ranking(values)
    if itself is not None:
        order = order[order != itself]
    ranked = right[order]
    positives = int(np.count_nonzero(ranked))
    return QueryResult(
        path=path,
        label=label,
        positives=positives,
        ap=average_precision(ranked),
        p10=precision_at(ranked, 10) if positives else math.nan,
        first_correct_rank=int(np.argmax(ranked)) + 1 if positives else None,
        nearest=_nearest(order[:keep], values, right),
    )


def _nearest(
    rows: NDArray[np.int64], scores: NDArray[np.generic], right: NDArray[np.bool_]
) -> tuple[NearestPhoto, ...]:
    kept: Sequence[int] = rows.tolist()
    return tuple(NearestPhoto(row, float(scores[row]), bool(right[row])) for row in kept)
