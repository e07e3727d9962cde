"""Retrieval metrics. Each query is judged on its own: nothing holds queries × gallery.

The rules:

- Ranking: by score, highest first; equal scores by row number, lowest first.
- Junk and the query's own photo are taken out before ranking: neither right nor wrong.
- Average precision (AP): non-interpolated, over the whole ranked gallery, divided by the number of
  positives (Manning, Raghavan, Schütze, "Introduction to Information Retrieval", 2008, chapter 8).
- AP at 100: the same sum over the first hundred, divided by the number of positives or by 100,
  whichever is less (Weyand, Araujo, Cao, Sim, "Google Landmarks Dataset v2", CVPR 2020).
- Precision at 10: how many of the first ten are right, divided by ten, also if there are fewer
  than ten positives or ten gallery photos.
- Recall at 10: how many of the first ten are right, divided by the number of positives. Place
  recognition calls another figure recall: whether one of the first k is right. That is top-k here.
- Precision at a recall: the highest precision at any rank from there on, so that the curve falls
  ("interpolated"; Manning, Raghavan, Schütze, 2008, section 8.4). It is for the eye: AP is not the
  area under it.
- Top-k: whether one of the first k is right.
- A query without a positive has no AP. It is counted, but it is in no mean.

Oxford and Paris have an AP of their own, `trapezoidal_average_precision`: it must not be compared
with the other two.

A new metric is one entry of `METRICS`. The summary, the JSON file, the report page, `veduta
compare` and the command line read that table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from veduta.evaluation.figures import json_value

__all__ = [
    "METRICS",
    "RECALL_LEVELS",
    "TOP_K",
    "Metric",
    "NearestPhoto",
    "QueryResult",
    "average_precision",
    "average_precision_at",
    "judge",
    "judge_ranked",
    "precision_at",
    "precision_at_recall",
    "ranking",
    "recall_at",
    "top_k_accuracy",
    "trapezoidal_average_precision",
]

TOP_K = (1, 3, 5, 10)
"""The k of the top-k accuracies in every report."""

RECALL_LEVELS = tuple(level / 10 for level in range(11))
"""The recalls at which a precision-recall curve is drawn."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of retrieval: the mean of one value of each query that has a positive.

    Attributes:
        key: its name in JSON files, in `veduta compare` and on the command line.
        title: its name on a page.
        explanation: what it means, in a few words.
        query_key: the name of a query's value in JSON files and of `QueryResult`.
        of_query: returns the value of a query in [0, 1], or a boolean, from the positions of its
            ranked positives, (P,) int64 ascending from 0, and the number of its positives.
            Without a positive it returns NaN, or False.
    """

    key: str
    title: str
    explanation: str
    query_key: str
    of_query: Callable[[NDArray[np.int64], int], float]


@dataclass(frozen=True, slots=True)
class NearestPhoto:
    """One of a query's first answers.

    Attributes:
        row: its position in the gallery, from 0.
        score: higher is nearer.
        correct: whether it is right.
    """

    row: int
    score: float
    correct: bool


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The result of one query.

    The value of a metric is an attribute by its `query_key`: `result.ap`, `result.p10`.

    Attributes:
        path: the query.
        label: of the query, or None.
        positives: how many right answers the gallery has.
        values: of each of `METRICS`, in that order.
        first_correct_rank: from 1; None if no answer is right.
        nearest: the first answers, best first.
        precision_at_recall: at each of `RECALL_LEVELS`; empty without positives.
    """

    path: str
    label: str | None
    positives: int
    values: tuple[float, ...]
    first_correct_rank: int | None
    nearest: tuple[NearestPhoto, ...]
    precision_at_recall: tuple[float, ...] = ()

    def __getattr__(self, name: str) -> float:
        """Return the value of a metric by its `query_key`."""
        if name != "values":
            for metric, value in zip(METRICS, self.values, strict=True):
                if metric.query_key == name:
                    return value
        raise AttributeError(f"no metric of a query is called {name!r}", name=name, obj=self)

    def right_within(self, k: int) -> bool:
        """Return whether one of the first `k` answers is right."""
        return self.first_correct_rank is not None and self.first_correct_rank <= k

    def as_json(self) -> dict[str, object]:
        """Return the result as JSON types: numbers before booleans, NaN as null."""
        return {
            "path": self.path,
            "label": self.label,
            "positives": self.positives,
            **self.values_as_json(),
        }

    def values_as_json(self) -> dict[str, object]:
        """Return the values and the rank of the first right answer, as in `as_json`."""
        values = {m.query_key: value for m, value in zip(METRICS, self.values, strict=True)}
        numbers = {key: value for key, value in values.items() if not isinstance(value, bool)}
        return {
            **{key: json_value(value) for key, value in numbers.items()},
            **{key: value for key, value in values.items() if key not in numbers},
            "first_correct_rank": self.first_correct_rank,
        }


def ranking(scores: ArrayLike) -> NDArray[np.int64]:
    """Return row numbers, highest score first, equal scores by row number.

    Args:
        scores: (N,) numbers, infinities allowed.

    Returns:
        (N,) int64.

    Raises:
        ValueError: a score is NaN, which has no place in an order, or the shape is wrong.
    """
    values = np.asarray(scores)
    if values.ndim != 1:
        raise ValueError(f"scores have the shape {values.shape}; wanted one dimension")
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    if np.isnan(values).any():
        raise ValueError(f"{int(np.isnan(values).sum())} of {len(values)} scores are NaN")
    return np.argsort(-values, kind="stable").astype(np.int64, copy=False)


def average_precision(relevant_in_rank_order: ArrayLike, *, positives: int | None = None) -> float:
    """Return the AP of a whole ranked gallery: the mean over its positives of precision there.

    Args:
        relevant_in_rank_order: (N,) bool, best rank first.
        positives: how many there are, if the ranking does not hold all of them. A positive that it
            does not hold counts 0.

    Returns:
        A number in [0, 1]; NaN without a positive.

    Raises:
        ValueError: the ranking holds more than `positives`.
    """
    positions = _positions(relevant_in_rank_order)
    return _precision_sum(positions, _all_positives(positions, positives))


def average_precision_at(relevant_in_rank_order: ArrayLike, k: int, positives: int) -> float:
    """Return AP@k: precision at each positive among the first `k`, summed, over min(positives, k).

    The rule of the Google Landmarks Dataset v2 (Weyand et al., 2020).

    Args:
        relevant_in_rank_order: (N,) bool, best rank first, cut off anywhere from `k` on.
        k: how many ranks count.
        positives: how many there are in the gallery.

    Returns:
        A number in [0, 1]; NaN without a positive.

    Raises:
        ValueError: `k` is below 1, or the ranking holds more than `positives`.
    """
    _check_k(k)
    positions = _positions(relevant_in_rank_order)
    return _average_precision_within(positions, _all_positives(positions, positives), k)


def trapezoidal_average_precision(positions: ArrayLike, *, positives: int | None = None) -> float:
    """Return the area under the precision-recall curve by trapezoids, as Oxford and Paris do.

    Each positive adds the mean of the precision just before it and the precision at it, over the
    number of positives; before the first rank precision is 1 (Philbin, Chum, Isard, Sivic,
    Zisserman, "Object retrieval with large vocabularies", CVPR 2007, and the evaluation of
    Radenović et al., CVPR 2018). Where positives follow a wrong answer this is lower than
    `average_precision`.

    Args:
        positions: (P,) int, ascending from 0 or more: the ranks of the positives, junk not
            counted.
        positives: how many there are, if some were not ranked.

    Returns:
        A number in [0, 1]; NaN without a positive.

    Raises:
        ValueError: the positions do not ascend, or there are fewer `positives` than positions.
    """
    ranks = np.asarray(positions, dtype=np.int64)
    if ranks.ndim != 1 or (len(ranks) and ranks[0] < 0) or (np.diff(ranks) <= 0).any():
        raise ValueError("the positions of the positives do not ascend from 0 or more")
    count = _all_positives(ranks, positives)
    if not count:
        return math.nan
    right_before = np.arange(len(ranks))
    before = np.divide(right_before, ranks, out=np.ones(len(ranks)), where=ranks > 0)
    return float(np.sum(before + (right_before + 1) / (ranks + 1)) / (2 * count))


def precision_at(relevant_in_rank_order: ArrayLike, k: int) -> float:
    """Return how many of the first `k` are right, divided by `k` even if there are fewer."""
    _check_k(k)
    return float(np.count_nonzero(np.asarray(relevant_in_rank_order, dtype=np.bool_)[:k]) / k)


def recall_at(relevant_in_rank_order: ArrayLike, k: int, *, positives: int | None = None) -> float:
    """Return the share of the positives that are among the first `k`.

    Args:
        relevant_in_rank_order: (N,) bool, best rank first.
        k: how many ranks count.
        positives: how many there are, if the ranking does not hold all of them.

    Returns:
        A number in [0, 1]; NaN without a positive.

    Raises:
        ValueError: `k` is below 1, or the ranking holds more than `positives`.
    """
    _check_k(k)
    positions = _positions(relevant_in_rank_order)
    return _recall_within(positions, _all_positives(positions, positives), k)


def precision_at_recall(
    relevant_in_rank_order: ArrayLike, *, positives: int | None = None
) -> tuple[float, ...]:
    """Return the interpolated precision at each of `RECALL_LEVELS`.

    Precision at recall r is the highest at any rank whose recall is r or more, 0 if the ranking
    ends before it.

    Args:
        relevant_in_rank_order: (N,) bool, best rank first.
        positives: how many there are, if the ranking does not hold all of them.

    Returns:
        Numbers in [0, 1]; none without a positive.

    Raises:
        ValueError: the ranking holds more than `positives`.
    """
    positions = _positions(relevant_in_rank_order)
    return _precision_at_recall(positions, _all_positives(positions, positives))


def top_k_accuracy(results: Iterable[QueryResult], k: int) -> float:
    """Return the share of the queries with a positive that have one in their first `k` answers.

    Args:
        results: of any queries.
        k: 1 or more.

    Returns:
        A number in [0, 1]; NaN if no query has a positive.
    """
    _check_k(k)
    right = [result.right_within(k) for result in results if result.positives]
    return sum(right) / len(right) if right else math.nan


def judge(
    path: str,
    label: str | None,
    scores: ArrayLike,
    relevant: ArrayLike,
    *,
    itself: int | None = None,
    junk: ArrayLike | None = None,
    keep: int = 10,
) -> QueryResult:
    """Return the result of one query against the whole gallery.

    Args:
        path: of the query, kept in the result.
        label: of the query, kept in the result.
        scores: (G,) of every gallery photo, higher is nearer; -inf ranks a photo last.
        relevant: (G,) bool: which are right.
        itself: position of the query's own photo in the gallery, taken out before ranking.
        junk: (G,) bool: photos taken out before ranking, right or not.
        keep: how many of the first answers the result holds.

    Returns:
        The result.

    Raises:
        ValueError: shapes differ, or a score is NaN.
    """
    values = np.asarray(scores)
    right = np.asarray(relevant, dtype=np.bool_)
    if values.shape != right.shape:
        raise ValueError(f"{values.shape} scores but {right.shape} judgements")
    order = ranking(values)
    if itself is not None:
        order = order[order != itself]
    if junk is not None:
        is_junk = np.asarray(junk, dtype=np.bool_)
        if is_junk.shape != values.shape:
            raise ValueError(f"{values.shape} scores but {is_junk.shape} marks of junk")
        order = order[~is_junk[order]]
    return judge_ranked(path, label, right[order], nearest=_nearest(order[:keep], values, right))


def judge_ranked(
    path: str,
    label: str | None,
    relevant_in_rank_order: ArrayLike,
    *,
    positives: int | None = None,
    nearest: tuple[NearestPhoto, ...] = (),
) -> QueryResult:
    """Return the result of one query, from a ranking without scores.

    Args:
        path: of the query, kept in the result.
        label: of the query, kept in the result.
        relevant_in_rank_order: (N,) bool, best rank first, without junk and without the query's
            own photo.
        positives: how many there are in the gallery, if the ranking does not hold all of them. A
            positive that it does not hold counts as never ranked.
        nearest: the first answers, kept in the result.

    Returns:
        The result.

    Raises:
        ValueError: the ranking holds more than `positives`.
    """
    # All metrics follow from the positions of the few positives, so the ranking is read once.
    positions = _positions(relevant_in_rank_order)
    count = _all_positives(positions, positives)
    return QueryResult(
        path=path,
        label=label,
        positives=count,
        values=tuple(metric.of_query(positions, count) for metric in METRICS),
        first_correct_rank=int(positions[0]) + 1 if len(positions) else None,
        nearest=nearest,
        precision_at_recall=_precision_at_recall(positions, count),
    )


def _positions(relevant_in_rank_order: ArrayLike) -> NDArray[np.int64]:
    """Return the positions of the positives, from 0."""
    relevant = np.asarray(relevant_in_rank_order, dtype=np.bool_)
    if relevant.ndim != 1:
        raise ValueError(f"judgements have the shape {relevant.shape}; wanted one dimension")
    return np.flatnonzero(relevant).astype(np.int64, copy=False)


def _all_positives(positions: NDArray[np.int64], positives: int | None) -> int:
    if positives is None:
        return len(positions)
    if positives < len(positions):
        raise ValueError(f"{len(positions)} positives are ranked, but there are only {positives}")
    return positives


def _precision_sum(positions: NDArray[np.int64], divisor: int) -> float:
    """Return the precision at each of the positions, summed, over `divisor`; NaN over 0."""
    if not divisor:
        return math.nan
    right = np.arange(1, len(positions) + 1)
    return float(np.sum(right / (positions + 1)) / divisor)


def _average_precision_within(positions: NDArray[np.int64], positives: int, k: int) -> float:
    return _precision_sum(positions[: positions.searchsorted(k)], min(positives, k))


def _precision_within(positions: NDArray[np.int64], positives: int, k: int) -> float:
    return int(positions.searchsorted(k)) / k if positives else math.nan


def _recall_within(positions: NDArray[np.int64], positives: int, k: int) -> float:
    return int(positions.searchsorted(k)) / positives if positives else math.nan


def _precision_at_recall(positions: NDArray[np.int64], positives: int) -> tuple[float, ...]:
    if not positives:
        return ()
    precision = np.arange(1, len(positions) + 1) / (positions + 1)
    highest = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    # Whole numbers are exact, while 0.3 * 10 is more than 3: how many positives a recall needs.
    steps = len(RECALL_LEVELS) - 1
    needed = -(-np.arange(len(RECALL_LEVELS)) * positives // steps)
    return tuple(highest[np.minimum(np.maximum(needed, 1) - 1, len(positions))].tolist())


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k is {k}; wanted 1 or more")


def _nearest(
    rows: NDArray[np.int64], scores: NDArray[np.generic], right: NDArray[np.bool_]
) -> tuple[NearestPhoto, ...]:
    nearest: Sequence[int] = rows.tolist()
    return tuple(NearestPhoto(row, float(scores[row]), bool(right[row])) for row in nearest)


def _top_k(k: int, words: str) -> Metric:
    return Metric(
        key=f"top{k}",
        title=f"Top-{k}",
        explanation=f"share of the queries {words}",
        query_key=f"right_at_{k}",
        of_query=lambda positions, _: len(positions) > 0 and bool(positions[0] < k),
    )


METRICS: tuple[Metric, ...] = (
    _top_k(1, "whose first answer is right"),
    _top_k(3, "with a right answer among the first three"),
    _top_k(5, "with a right answer among the first five"),
    _top_k(10, "with a right answer among the first ten"),
    Metric(
        key="map",
        title="mAP",
        explanation="mean average precision over the whole ranked gallery",
        query_key="ap",
        of_query=_precision_sum,
    ),
    Metric(
        key="p10",
        title="Precision@10",
        explanation="right answers among the first ten, divided by ten",
        query_key="p10",
        of_query=lambda positions, positives: _precision_within(positions, positives, 10),
    ),
    Metric(
        key="recall10",
        title="Recall@10",
        explanation="right answers among the first ten, divided by all right answers",
        query_key="recall10",
        of_query=lambda positions, positives: _recall_within(positions, positives, 10),
    ),
    Metric(
        key="map100",
        title="mAP@100",
        explanation="mean average precision within the first hundred",
        query_key="ap100",
        of_query=lambda positions, positives: _average_precision_within(positions, positives, 100),
    ),
)
"""All metrics of a retrieval, in the order in which they are shown."""
