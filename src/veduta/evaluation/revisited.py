"""Revisited Oxford and Paris: three setups of one ranking, junk, and AP by trapezoids.

Radenović, Iscen, Tolias, Avrithis, Chum, "Revisiting Oxford and Paris: Large-Scale Image Retrieval
Benchmarking", CVPR 2018. Each query has gallery photos that are easy, hard and junk:

| setup | right | taken out before ranking |
| --- | --- | --- |
| easy | easy | hard, junk |
| medium | easy, hard | junk |
| hard | hard | easy, junk |

- AP is the area under the precision-recall curve by trapezoids.
- Precision at k divides by k, or by the rank of the last positive where that comes first: a query
  with three positives, all in front, has a precision of 1 at 10.
- A query without a positive in a setup is in no mean of that setup.

The protocol also crops each query to the box of its building before it is encoded; that is done
where photos are read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from veduta.errors import DatasetError
from veduta.evaluation.bootstrap import RESAMPLES, bootstrap_intervals
from veduta.evaluation.metrics import trapezoidal_average_precision
from veduta.evaluation.summary import Interval

__all__ = [
    "CUTOFFS",
    "SETUPS",
    "RevisitedQuery",
    "RevisitedSetup",
    "judge_revisited",
    "revisited_figures",
]

SETUPS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "easy": (("easy",), ("hard", "junk")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("easy", "junk")),
}
"""From a setup to the kinds that are right in it and the kinds that are taken out."""

CUTOFFS = (1, 5, 10)

_KINDS = ("easy", "hard", "junk")


@dataclass(frozen=True, slots=True)
class RevisitedQuery:
    """How one query fared in one setup: AP and precision at 1, 5 and 10, NaN without positives."""

    positives: int
    ap: float
    p1: float
    p5: float
    p10: float


@dataclass(frozen=True, slots=True)
class RevisitedSetup:
    """The means of one setup over the queries that have a positive in it, in [0, 1]; NaN over none.

    `map`, `mp1`, `mp5`, `mp10`: mean AP and mean precision at 1, 5 and 10, with 95 % bootstrap
    intervals over queries. `queries`: how many the means are over. `queries_without_positives`: how
    many more there are. `ap`: (Q,) of each query, NaN without positives.
    """

    setup: str
    map: float
    mp1: float
    mp5: float
    mp10: float
    map_interval: Interval
    mp1_interval: Interval
    mp5_interval: Interval
    mp10_interval: Interval
    queries: int
    queries_without_positives: int
    ap: NDArray[np.float64]

    def as_json(self) -> dict[str, object]:
        """Return the figures under these names, for `json.dump`; NaN as null."""
        figures: dict[str, object] = {"setup": self.setup}
        for name in ("map", "mp1", "mp5", "mp10"):
            figures[name] = _plain(getattr(self, name))
            figures[f"{name}_interval"] = [_plain(x) for x in getattr(self, f"{name}_interval")]
        return {
            **figures,
            "queries": self.queries,
            "queries_without_positives": self.queries_without_positives,
            "ap": [_plain(value) for value in self.ap.tolist()],
        }


def judge_revisited(
    ranking: ArrayLike, truth: Mapping[str, ArrayLike]
) -> dict[str, RevisitedQuery]:
    """Return how one query fared in each setup.

    Args:
        ranking: (R,) int, row numbers of gallery photos, best first. It may stop early; a positive
            that it lacks is never found.
        truth: `easy`, `hard` and `junk`, each (n,) int row numbers; other keys are not looked at.

    Raises:
        ValueError: a photo is ranked twice or is of two kinds, or a kind is missing.
    """
    order = np.asarray(ranking, dtype=np.int64)
    if order.ndim != 1 or len(np.unique(order)) < len(order):
        raise ValueError("the ranking is not a list of different row numbers")
    if missing := [kind for kind in _KINDS if kind not in truth]:
        raise ValueError(f"the truth has no {' and no '.join(missing)}")
    rows = {kind: np.unique(np.asarray(truth[kind], dtype=np.int64)) for kind in _KINDS}
    every = np.concatenate(list(rows.values()))
    if len(np.unique(every)) < len(every):
        raise ValueError("a photo is of two kinds among easy, hard and junk")
    # Only what the truth names matters, and how much else stands before it.
    places = np.flatnonzero(np.isin(order, every))
    named = order[places]
    judged = {}
    for setup, (right_kinds, junk_kinds) in SETUPS.items():
        right = np.concatenate([rows[kind] for kind in right_kinds])
        junk = np.isin(named, np.concatenate([rows[kind] for kind in junk_kinds]))
        without_junk = places - np.cumsum(junk)
        judged[setup] = _judge(without_junk[np.isin(named, right)], len(right))
    return judged


def revisited_figures(
    rankings: Iterable[ArrayLike],
    truths: Iterable[Mapping[str, ArrayLike]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, RevisitedSetup]:
    """Return the figures of each setup, by its name.

    `rankings`, `truths`: one a query, in the same order, as `judge_revisited` takes them; they are
    gone through one at a time.

    Raises `ValueError` as `judge_revisited` does and when there are more of one than of the other,
    `DatasetError` when no query has a positive in any setup.
    """
    judged = [
        judge_revisited(ranking, truth) for ranking, truth in zip(rankings, truths, strict=True)
    ]
    if not any(query[setup].positives for query in judged for setup in SETUPS):
        raise DatasetError(f"none of the {len(judged)} queries has an easy or a hard photo")
    return {
        setup: _means(setup, [query[setup] for query in judged], resamples, seed)
        for setup in SETUPS
    }


def _judge(positions: NDArray[np.int64], positives: int) -> RevisitedQuery:
    """Judge from where the positives stand, from 0 and without junk, and how many there are."""
    if not positives:
        return RevisitedQuery(0, *[math.nan] * 4)
    last = int(positions[-1]) + 1 if len(positions) else max(CUTOFFS)
    precisions = []
    for cutoff in CUTOFFS:
        k = min(last, cutoff)
        precisions.append(float(np.searchsorted(positions, k) / k))
    ap = trapezoidal_average_precision(positions, positives=positives)
    return RevisitedQuery(positives, ap, *precisions)


def _means(setup: str, queries: list[RevisitedQuery], resamples: int, seed: int) -> RevisitedSetup:
    values = np.array([[query.ap, query.p1, query.p5, query.p10] for query in queries])
    judged = values[~np.isnan(values[:, 0])]
    means = np.full(4, math.nan)
    ends = np.full((4, 2), math.nan)
    if len(judged):
        means = judged.mean(axis=0)
        ends = bootstrap_intervals(judged, resamples=resamples, seed=seed)
    mean_ap, mp1, mp5, mp10 = means.tolist()
    intervals: list[Interval] = [(low, high) for low, high in ends.tolist()]
    return RevisitedSetup(
        setup=setup,
        map=mean_ap,
        mp1=mp1,
        mp5=mp5,
        mp10=mp10,
        map_interval=intervals[0],
        mp1_interval=intervals[1],
        mp5_interval=intervals[2],
        mp10_interval=intervals[3],
        queries=len(judged),
        queries_without_positives=len(queries) - len(judged),
        ap=values[:, 0],
    )


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
