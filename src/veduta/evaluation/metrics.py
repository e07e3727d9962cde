"""Retrieval metrics, one query at a time: nothing here ever holds queries × gallery.

The rules, once:

- Ranking: by score, highest first; equal scores by row number, lowest first.
- Junk, and the query's own photo, are taken out before ranking: neither right nor wrong.
- Average precision (AP): non-interpolated, over the whole ranked gallery, divided by the number of
  positives (Manning, Raghavan, Schütze, "Introduction to Information Retrieval", 2008, chapter 8).
- AP at 100: the same sum over the first hundred, divided by the number of positives or by 100,
  whichever is less (Weyand, Araujo, Cao, Sim, "Google Landmarks Dataset v2", CVPR 2020).
- Precision at 10: how many of the first ten are right, divided by ten, also when there are fewer
  than ten positives or ten gallery photos.
- Recall at 10: how many of the first ten are right, divided by the number of positives. Place
  recognition calls another figure recall: whether one of the first k is right. That is top-k here.
- Precision at a recall: the highest precision at any rank from there on, so that the curve falls
  ("interpolated"; Manning, Raghavan, Schütze, 2008, section 8.4). It is for the eye: AP is not the
  area under it.
- Top-k: whether one of the first k is right.
- A query without a positive has no AP. It is counted and takes no part in any mean.

Oxford and Paris have an AP of their own, `trapezoidal_average_precision`: it must not be compared
with the other two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "RECALL_LEVELS",
    "TOP_K",
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
"""The k of the top-k that every report gives."""

RECALL_LEVELS = tuple(level / 10 for level in range(11))
"""The recalls at which a precision-recall curve is drawn."""


@dataclass(frozen=True, slots=True)
class NearestPhoto:
    """One of a query's first answers: `row` is its position in the gallery, from 0."""

    row: int
    score: float
    correct: bool


@dataclass(frozen=True, slots=True)
class QueryResult:
    """How one query fared.

    `positives`: right answers in the gallery. `ap`, `p10`, `recall10`, `ap100`: in [0, 1], NaN
    without positives. `first_correct_rank`: from 1, None if no answer is right. `nearest`: the
    first answers, best first. `precision_at_recall`: at each of `RECALL_LEVELS`, see there; empty
    without positives.
    """

    path: str
    label: str | None
    positives: int
    ap: float
    p10: float
    recall10: float
    ap100: float
    first_correct_rank: int | None
    nearest: tuple[NearestPhoto, ...]
    precision_at_recall: tuple[float, ...] = ()

    def right_within(self, k: int) -> bool:
        """Tell whether one of the first `k` answers is right."""
        return self.first_correct_rank is not None and self.first_correct_rank <= k

    def as_json(self) -> dict[str, object]:
        """Return the figures, and `right_at_1`, `_3`, `_5`, `_10`; NaN as null."""
        figures = {name: getattr(self, name) for name in ("ap", "p10", "recall10", "ap100")}
        return {
            "path": self.path,
            "label": self.label,
            "positives": self.positives,
            **{name: None if math.isnan(value) else value for name, value in figures.items()},
            **{f"right_at_{k}": self.right_within(k) for k in TOP_K},
            "first_correct_rank": self.first_correct_rank,
        }


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


def average_precision(relevant_in_rank_order: ArrayLike, *, positives: int | None = None) -> float:
    """Return the AP of a whole ranked gallery: the mean over its positives of precision there.

    `relevant_in_rank_order`: (N,) bool, best rank first. `positives`: how many there are, when the
    ranking does not hold them all; those it lacks count 0. NaN without a positive.

    Raises `ValueError` when the ranking holds more than `positives`.
    """
    positions = _positions(relevant_in_rank_order)
    return _precision_sum(positions, _all_positives(positions, positives))


def average_precision_at(relevant_in_rank_order: ArrayLike, k: int, positives: int) -> float:
    """Return AP@k: precision at each positive among the first `k`, summed, over min(positives, k).

    `relevant_in_rank_order`: (N,) bool, best rank first, cut off anywhere from `k` on. `positives`:
    how many there are in the gallery. The rule of the Google Landmarks Dataset v2 (Weyand et al.,
    2020). NaN without a positive.

    Raises `ValueError` for a `k` below 1, and when the ranking holds more than `positives`.
    """
    _check_k(k)
    positions = _positions(relevant_in_rank_order)
    count = _all_positives(positions, positives)
    return _precision_sum(positions[: np.searchsorted(positions, k)], min(count, k))


def trapezoidal_average_precision(positions: ArrayLike, *, positives: int | None = None) -> float:
    """Return the area under the precision-recall curve by trapezoids, as Oxford and Paris do.

    Each positive adds the mean of the precision just before it and the precision at it, over the
    number of positives; before the first rank precision is 1 (Philbin, Chum, Isard, Sivic,
    Zisserman, "Object retrieval with large vocabularies", CVPR 2007, and the evaluation of
    Radenović et al., CVPR 2018). Where positives follow a wrong answer this is lower than
    `average_precision`.

    `positions`: (P,) int, ascending, where the positives stand, from 0, junk not counted.
    `positives`: how many there are, when some were not ranked. NaN without a positive.

    Raises `ValueError` for positions that do not ascend, and for fewer `positives` than positions.
    """
    at = np.asarray(positions, dtype=np.int64)
    if at.ndim != 1 or (len(at) and at[0] < 0) or (np.diff(at) <= 0).any():
        raise ValueError("the positions of the positives do not ascend from 0 or more")
    count = _all_positives(at, positives)
    if not count:
        return math.nan
    found = np.arange(len(at))
    before = np.divide(found, at, out=np.ones(len(at)), where=at > 0)
    return float(np.sum(before + (found + 1) / (at + 1)) / (2 * count))


def precision_at(relevant_in_rank_order: ArrayLike, k: int) -> float:
    """Return how many of the first `k` are right, divided by `k` even if there are fewer."""
    _check_k(k)
    return float(np.count_nonzero(np.asarray(relevant_in_rank_order, dtype=np.bool_)[:k]) / k)


def recall_at(relevant_in_rank_order: ArrayLike, k: int, *, positives: int | None = None) -> float:
    """Return the share of the positives that are among the first `k`.

    `relevant_in_rank_order`: (N,) bool, best rank first. `positives`: how many there are, when the
    ranking does not hold them all. NaN without a positive.

    Raises `ValueError` for a `k` below 1, and when the ranking holds more than `positives`.
    """
    _check_k(k)
    positions = _positions(relevant_in_rank_order)
    count = _all_positives(positions, positives)
    return float(np.searchsorted(positions, k) / count) if count else math.nan


def precision_at_recall(
    relevant_in_rank_order: ArrayLike, *, positives: int | None = None
) -> tuple[float, ...]:
    """Return the interpolated precision at each of `RECALL_LEVELS`; empty without a positive.

    Precision at recall r is the highest at any rank whose recall is r or more, 0 when the ranking
    ends before it.

    `relevant_in_rank_order`: (N,) bool, best rank first. `positives`: how many there are, when the
    ranking does not hold them all.

    Raises `ValueError` when the ranking holds more than `positives`.
    """
    positions = _positions(relevant_in_rank_order)
    return _precision_at_recall(positions, _all_positives(positions, positives))


def top_k_accuracy(results: Iterable[QueryResult], k: int) -> float:
    """Return the share of the queries with a positive that have one in their first `k` answers.

    NaN when no query has a positive.
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
    """Return how one query fared against the whole gallery.

    `path`, `label`
        of the query, kept in the result.
    `scores`
        (G,) of every gallery photo, higher is nearer; -inf ranks a photo last.
    `relevant`
        (G,) bool: which are right.
    `itself`
        position of the query's own photo in the gallery, taken out before ranking.
    `junk`
        (G,) bool: photos taken out before ranking, right or not.
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
    if junk is not None:
        out = np.asarray(junk, dtype=np.bool_)
        if out.shape != values.shape:
            raise ValueError(f"{values.shape} scores but {out.shape} marks of junk")
        order = order[~out[order]]
    return judge_ranked(path, label, right[order], nearest=_nearest(order[:keep], values, right))


def judge_ranked(
    path: str,
    label: str | None,
    relevant_in_rank_order: ArrayLike,
    *,
    positives: int | None = None,
    nearest: tuple[NearestPhoto, ...] = (),
) -> QueryResult:
    """Return how one query fared, from a ranking without scores.

    `path`, `label`
        of the query, kept in the result.
    `relevant_in_rank_order`
        (N,) bool, best rank first, without junk and without the query's own photo.
    `positives`
        how many there are in the gallery, when the ranking does not hold it all; those it lacks
        are never found.
    `nearest`
        the first answers, kept in the result.

    Raises `ValueError` when the ranking holds more than `positives`.
    """
    # All figures follow from where the few positives stand: the ranking is gone through once.
    positions = _positions(relevant_in_rank_order)
    count = _all_positives(positions, positives)
    in10, in100 = np.searchsorted(positions, (10, 100)).tolist()
    return QueryResult(
        path=path,
        label=label,
        positives=count,
        ap=_precision_sum(positions, count),
        p10=in10 / 10 if count else math.nan,
        recall10=in10 / count if count else math.nan,
        ap100=_precision_sum(positions[:in100], min(count, 100)),
        first_correct_rank=int(positions[0]) + 1 if len(positions) else None,
        nearest=nearest,
        precision_at_recall=_precision_at_recall(positions, count),
    )


def _positions(relevant_in_rank_order: ArrayLike) -> NDArray[np.int64]:
    """Return where the positives stand, from 0."""
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
    found = np.arange(1, len(positions) + 1)
    return float(np.sum(found / (positions + 1)) / divisor)


def _precision_at_recall(positions: NDArray[np.int64], count: int) -> tuple[float, ...]:
    if not count:
        return ()
    precision = np.arange(1, len(positions) + 1) / (positions + 1)
    highest = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    # In whole numbers, since 0.3 * 10 is more than 3: how many positives make up each recall.
    steps = len(RECALL_LEVELS) - 1
    needed = -(-np.arange(len(RECALL_LEVELS)) * count // steps)
    return tuple(highest[np.minimum(np.maximum(needed, 1) - 1, len(positions))].tolist())


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k is {k}; wanted 1 or more")


def _nearest(
    rows: NDArray[np.int64], scores: NDArray[np.generic], right: NDArray[np.bool_]
) -> tuple[NearestPhoto, ...]:
    kept: Sequence[int] = rows.tolist()
    return tuple(NearestPhoto(row, float(scores[row]), bool(right[row])) for row in kept)
