"""Figures that pool the answers of all queries: one list of pairs of a query and a photo, by score.

`micro_ap` is the sum of the precision at each right pair, divided by all right pairs (Douze et al.,
"The 2021 Image Similarity Dataset and Challenge", 2021). `recall_at_precision90` is the highest
share of the right pairs that a threshold finds at a precision of 0.9 or more.

Equal scores count against the system: of pairs with one score the wrong ones come first. So the
order of a file decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "MAX_POOLED_PAIRS",
    "PairPool",
    "micro_average_precision",
    "pair_statistic",
    "recall_at_precision",
]

MAX_POOLED_PAIRS = 500_000
"""How many of the best pairs count, as in the challenge of 2021. Right pairs beyond are missed."""


class PairPool:
    """The best pairs of all queries; memory never holds more than twice as many as count.

    Attributes:
        limit: how many pairs count.
    """

    def __init__(self, limit: int = MAX_POOLED_PAIRS) -> None:
        self.limit = limit
        self._parts: list[tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]] = []
        self._held = 0
        self._least = -math.inf

    def add(self, query: int, scores: ArrayLike, right: ArrayLike) -> None:
        """Add pairs of a query.

        Args:
            query: the number of the query.
            scores: (n,) of the pairs; a higher one is nearer.
            right: (n,) bool: which pairs are right.

        Raises:
            ValueError: a score is NaN.
        """
        values = np.asarray(scores, np.float64)
        judged = np.asarray(right, np.bool_)
        if np.isnan(values).any():
            raise ValueError(f"{int(np.isnan(values).sum())} of {len(values)} scores are NaN")
        counts = values >= self._least
        values, judged = values[counts], judged[counts]
        self._parts.append((values, judged, np.full(len(values), query, np.int64)))
        self._held += len(values)
        if self._held > 2 * self.limit:
            kept = self.sorted()
            self._parts = [kept]
            self._held = len(kept[0])
            self._least = float(kept[0][-1])

    def sorted(self) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
        """Return the pairs that count, best first, of equal scores the wrong ones first.

        Returns:
            (n,) float64 scores, (n,) bool whether the pair is right, (n,) int64 queries.
        """
        if not self._parts:
            return np.empty(0), np.empty(0, np.bool_), np.empty(0, np.int64)
        columns = zip(*self._parts, strict=True)
        scores, right, queries = (np.concatenate(column) for column in columns)
        order = np.lexsort((right, -scores))[: self.limit]
        return scores[order], right[order], queries[order]


def micro_average_precision(scores: ArrayLike, right: ArrayLike, positives: int) -> float:
    """Return the average precision of one list of pairs.

    Args:
        scores: (n,) of the pairs, in any order.
        right: (n,) bool: which pairs are right.
        positives: how many right pairs there are, in the list or not.

    Returns:
        A number in [0, 1]; NaN without a right pair.

    Raises:
        ValueError: there are more right pairs in the list than `positives`.
    """
    judged = _worst_order(scores, right, positives)
    if not positives:
        return math.nan
    ranks = np.flatnonzero(judged)
    return float(np.sum(np.arange(1, len(ranks) + 1) / (ranks + 1)) / positives)


def recall_at_precision(
    scores: ArrayLike, right: ArrayLike, positives: int, *, precision: float = 0.9
) -> float:
    """Return the highest recall of a threshold at which the precision is high enough.

    Args:
        scores: (n,) of the pairs, in any order.
        right: (n,) bool: which pairs are right.
        positives: how many right pairs there are, in the list or not.
        precision: the least precision, in (0, 1].

    Returns:
        A number in [0, 1], 0 if no threshold reaches the precision; NaN without a right pair.

    Raises:
        ValueError: there are more right pairs in the list than `positives`.
    """
    judged = _worst_order(scores, right, positives)
    if not positives:
        return math.nan
    found = np.cumsum(judged)
    enough = found / np.arange(1, len(found) + 1) >= precision
    return float(found[enough].max(initial=0) / positives)


def pair_statistic(
    right: NDArray[np.bool_],
    queries: NDArray[np.int64],
    positives_of_query: NDArray[np.int64],
    *,
    precision: float = 0.9,
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return a function that computes both figures of draws of queries, for the bootstrap.

    A query that is drawn c times has each of its pairs c times in the list, of equal scores the
    wrong ones first. The pairs are those of the pool, whatever is drawn: a pool that is full holds
    as many pairs of the queries as they are, not of the draw.

    Args:
        right: (n,) bool, in the order of `PairPool.sorted`.
        queries: (n,) int64 the query of each pair.
        positives_of_query: (Q,) how many right pairs each query has.
        precision: the least precision, in (0, 1].

    Returns:
        A function from (R, Q) counts of the queries, whole numbers, to (R, 2): µAP and recall at
        that precision.
    """
    right_rows = np.flatnonzero(right)

    def statistic(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        values = np.full((len(counts), 2), math.nan)
        for row, times in enumerate(counts):
            positives = float(times @ positives_of_query)
            if not positives:
                continue
            of_pair = times[queries].astype(np.int64)
            drawn = of_pair[right_rows]
            wrong = np.cumsum(of_pair)[right_rows] - np.cumsum(drawn)
            # One row for each time that a right pair is in the list of the draw.
            wrong_before = np.repeat(wrong, drawn)
            found = np.arange(1, len(wrong_before) + 1)
            share = found / (found + wrong_before)
            values[row, 0] = float(share.sum()) / positives
            values[row, 1] = float(found[share >= precision].max(initial=0)) / positives
        return values

    return statistic


def _worst_order(scores: ArrayLike, right: ArrayLike, positives: int) -> NDArray[np.bool_]:
    """Return (n,) bool whether each pair is right, best score first, wrong ones first if equal."""
    values = np.asarray(scores, np.float64)
    judged = np.asarray(right, np.bool_)
    if int(judged.sum()) > positives:
        raise ValueError(f"{int(judged.sum())} right pairs are listed, but there are {positives}")
    return judged[np.lexsort((judged, -values))]
