"""Revisited Oxford and Paris: three setups of one ranking, junk, and AP by trapezoids.

Radenović, Iscen, Tolias, Avrithis, Chum, "Revisiting Oxford and Paris: Large-Scale Image Retrieval
Benchmarking", CVPR 2018. Each query has gallery photos that are easy, hard and junk:

| setup | right | taken out before ranking |
| --- | --- | --- |
| easy | easy | hard, junk |
| medium | easy, hard | junk |
| hard | hard | easy, junk |

- AP is the area under the precision-recall curve by trapezoids.
- Precision at k divides by k, or by the rank of the last positive if that is less: a query with
  three positives, all at the front, has a precision of 1 at 10.
- A query without a positive in a setup is in no mean of that setup.

The protocol also crops each query to the box of its building before it is encoded; that is done
where photos are read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from veduta.errors import DatasetError
from veduta.evaluation.bootstrap import RESAMPLES, bootstrap_intervals
from veduta.evaluation.figures import Figures, Measured, json_value, measured
from veduta.evaluation.metrics import trapezoidal_average_precision

__all__ = [
    "CUTOFFS",
    "REVISITED_METRICS",
    "SETUPS",
    "RevisitedMetric",
    "RevisitedQuery",
    "RevisitedSetup",
    "judge_revisited",
    "revisited_figures",
    "summarise_revisited",
]

SETUPS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "easy": (("easy",), ("hard", "junk")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("easy", "junk")),
}
"""Setup → the kinds that are right in it, and the kinds that are taken out."""

CUTOFFS = (1, 5, 10)
"""The k of precision at k."""

_KINDS = ("easy", "hard", "junk")


@dataclass(frozen=True, slots=True)
class RevisitedQuery:
    """The result of one query in one setup; its values are NaN without positives.

    Attributes:
        positives: how many photos are right.
        ap: average precision by trapezoids.
        p1: precision at 1.
        p5: precision at 5.
        p10: precision at 10.
    """

    positives: int
    ap: float
    p1: float
    p5: float
    p10: float


class RevisitedMetric(NamedTuple):
    """A figure of a setup: the mean of one value of each query.

    Attributes:
        key: its name in JSON files.
        title: its name on a page and on the command line.
        query_key: the attribute of `RevisitedQuery`.
    """

    key: str
    title: str
    query_key: str


REVISITED_METRICS = (
    RevisitedMetric("map", "mAP", "ap"),
    RevisitedMetric("mp1", "mP@1", "p1"),
    RevisitedMetric("mp5", "mP@5", "p5"),
    RevisitedMetric("mp10", "mP@10", "p10"),
)


@dataclass(frozen=True, slots=True)
class RevisitedSetup(Figures):
    """The figures of one setup: means over the queries with a positive in it, in [0, 1].

    Each of `REVISITED_METRICS` is an attribute by its key: `setup.map`, `setup.map_interval`.

    Attributes:
        setup: its name.
        figures: of each metric, the mean and the 95 % bootstrap interval over queries; NaN if no
            query has a positive.
        queries: how many the means are over.
        queries_without_positives: how many more there are.
        ap: (Q,) of each query, NaN without positives.
    """

    setup: str
    figures: Mapping[str, Measured]
    queries: int
    queries_without_positives: int
    ap: NDArray[np.float64]

    def as_json(self) -> dict[str, object]:
        """Return the figures under these names, as JSON types; NaN as null."""
        figures: dict[str, object] = {}
        for name, (value, interval) in self.figures.items():
            figures[name] = json_value(value)
            figures[f"{name}_interval"] = json_value(interval)
        return {
            "setup": self.setup,
            **figures,
            "queries": self.queries,
            "queries_without_positives": self.queries_without_positives,
            "ap": json_value(self.ap.tolist()),
        }


def judge_revisited(
    ranking: ArrayLike, truth: Mapping[str, ArrayLike]
) -> dict[str, RevisitedQuery]:
    """Return the result of one query in each setup.

    Args:
        ranking: (R,) int, row numbers of gallery photos, best first. It may stop early; a positive
            that it lacks counts as never ranked.
        truth: `easy`, `hard` and `junk`, each (n,) int row numbers; other keys are ignored.

    Returns:
        Setup → result.

    Raises:
        ValueError: a photo is ranked twice or is of two kinds, or a kind is missing.
    """
    order = np.asarray(ranking, dtype=np.int64)
    # Not `np.unique`, which takes a second for a million rows (numpy 2.4).
    if order.ndim != 1 or not np.diff(np.sort(order)).all():
        raise ValueError("the ranking is not a list of different row numbers")
    if missing := [kind for kind in _KINDS if kind not in truth]:
        raise ValueError(f"the truth has no {' and no '.join(missing)}")
    rows = {kind: np.unique(np.asarray(truth[kind], dtype=np.int64)) for kind in _KINDS}
    every = np.concatenate(list(rows.values()))
    if len(np.unique(every)) < len(every):
        raise ValueError("a photo is of two kinds among easy, hard and junk")
    # Only the positions of the photos of the truth matter.
    positions = np.flatnonzero(np.isin(order, every))
    named = order[positions]
    judged = {}
    for setup, (right_kinds, junk_kinds) in SETUPS.items():
        right = np.concatenate([rows[kind] for kind in right_kinds])
        junk = np.isin(named, np.concatenate([rows[kind] for kind in junk_kinds]))
        without_junk = positions - np.cumsum(junk)
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

    Args:
        rankings: one a query, as `judge_revisited` takes them; read one at a time.
        truths: one a query, in the same order; read one at a time.
        resamples: draws of the bootstrap.
        seed: of the bootstrap.

    Returns:
        Setup → figures.

    Raises:
        ValueError: as `judge_revisited`, or the numbers of rankings and truths differ.
        DatasetError: no query has a positive in any setup.
    """
    judged = [
        judge_revisited(ranking, truth) for ranking, truth in zip(rankings, truths, strict=True)
    ]
    return summarise_revisited(judged, resamples=resamples, seed=seed)


def summarise_revisited(
    judged: Sequence[Mapping[str, RevisitedQuery]], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, RevisitedSetup]:
    """Return the figures of each setup, by its name.

    Args:
        judged: one a query, as `judge_revisited` returns it.
        resamples: draws of the bootstrap.
        seed: of the bootstrap.

    Returns:
        Setup → figures.

    Raises:
        DatasetError: no query has a positive in any setup.
    """
    if not any(query[setup].positives for query in judged for setup in SETUPS):
        raise DatasetError(f"none of the {len(judged)} queries has an easy or a hard photo")
    return {
        setup: _means(setup, [query[setup] for query in judged], resamples, seed)
        for setup in SETUPS
    }


def _judge(positions: NDArray[np.int64], positives: int) -> RevisitedQuery:
    """Judge from the positions of the positives, from 0 without junk, and their number."""
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
    keys = [metric.query_key for metric in REVISITED_METRICS]
    values = np.array([[getattr(query, key) for key in keys] for query in queries])
    judged = values[~np.isnan(values[:, 0])]
    means = np.full(len(keys), math.nan)
    ends = np.full((len(keys), 2), math.nan)
    if len(judged):
        means = judged.mean(axis=0)
        ends = bootstrap_intervals(judged, resamples=resamples, seed=seed)
    return RevisitedSetup(
        setup=setup,
        figures=measured(
            [metric.key for metric in REVISITED_METRICS], means.tolist(), ends.tolist()
        ),
        queries=len(judged),
        queries_without_positives=len(queries) - len(judged),
        ap=np.array([query.ap for query in queries]),
    )
