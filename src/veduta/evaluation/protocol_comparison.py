"""The figures of systems on the same queries of a published protocol, for draws of the queries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from veduta.errors import DatasetError, readable
from veduta.evaluation.bootstrap import Statistic
from veduta.evaluation.open_set import gap_statistic
from veduta.evaluation.pooled_metrics import PairPool, pair_statistic
from veduta.evaluation.protocol_metrics import (
    NAMING_PROTOCOLS,
    POOLED_METRICS,
    POOLING_PROTOCOLS,
    PROTOCOL_METRICS,
)
from veduta.evaluation.revisited import SETUPS
from veduta.validation import InvalidValue, convert

__all__ = ["compared_protocol"]

_T = TypeVar("_T")

_Row = Mapping[str, Any]
_Rows = Sequence[_Row]


class _Named(msgspec.Struct):
    label: str | None = None
    guess: str | None = None
    confidence: float | None = None
    positives: int = 0


class _Paired(msgspec.Struct):
    positives: int
    pairs: list[tuple[float, bool]]


def compared_protocol(
    report: Mapping[str, Any], table: Sequence[_Rows], names: Sequence[str]
) -> tuple[list[str], Statistic, int]:
    """Return the figures of S systems as a function of draws of Q queries.

    Args:
        report: one of the reports, which says what the protocol is.
        table: (S,) lists of the same Q queries.
        names: (S,) for messages.

    Returns:
        The keys of the M figures, a function from (B, Q) counts to (B, S × M), and Q.

    Raises:
        DatasetError: a query is not as reports have it, or there is nothing to compare.
    """
    protocol = report.get("protocol")
    keys: list[str] = []
    columns: dict[str, str] = {}
    if report["task"] == "revisited":
        columns = {f"map_{setup}": f"ap_{setup}" for setup in SETUPS}
    elif protocol is not None:
        columns = {metric.key: metric.key for metric in PROTOCOL_METRICS[protocol]}
    keys += columns
    if protocol in NAMING_PROTOCOLS:
        keys += [metric.key for metric in POOLED_METRICS["names"]]
    if protocol in POOLING_PROTOCOLS:
        keys += [metric.key for metric in POOLED_METRICS["pairs"]]
    statistics = []
    for rows, name in zip(table, names, strict=True):
        if columns:
            statistics.append(_means(rows, list(columns.values()), name))
        if protocol in NAMING_PROTOCOLS:
            statistics.append(_of_names(rows, name))
        if protocol in POOLING_PROTOCOLS:
            statistics.append(_of_pairs(rows, name))

    def figures(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([statistic(counts) for statistic in statistics], axis=1)

    queries = len(table[0])
    if np.isnan(figures(np.ones((1, queries)))).all():
        raise DatasetError("no query has a right answer in the gallery in all of the reports")
    return keys, figures, queries


def _means(rows: _Rows, keys: Sequence[str], name: str) -> Statistic:
    """Return the mean of each column over the queries that have a value."""
    kind = msgspec.defstruct("_Values", [(key, float | None, None) for key in keys])
    checked = [msgspec.structs.astuple(_checked(row, kind, name)) for row in rows]
    values = np.array(checked, np.float64)  # None becomes NaN
    present = ~np.isnan(values)
    filled = np.where(present, values, 0.0)

    def means(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        weights = counts @ present
        sums = counts @ filled
        return np.asarray(
            np.divide(sums, weights, out=np.full(sums.shape, math.nan), where=weights > 0)
        )

    return means


def _of_names(rows: _Rows, name: str) -> Statistic:
    queries = [_checked(row, _Named, name) for row in rows]
    known = np.array([query.label is not None and query.positives > 0 for query in queries])
    answered = np.array([query.confidence is not None for query in queries])
    confidences = np.array(
        [-math.inf if query.confidence is None else query.confidence for query in queries]
    )
    right = known & np.array([query.guess == query.label for query in queries])
    gap = gap_statistic(confidences, right, known, answered)
    of_known = gap_statistic(confidences, right, known, answered & known)

    def statistic(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        weights = counts @ known
        accuracy = np.divide(
            counts @ right, weights, out=np.full(len(counts), math.nan), where=weights > 0
        )
        return np.concatenate([gap(counts), of_known(counts), accuracy[:, None]], axis=1)

    return statistic


def _of_pairs(rows: _Rows, name: str) -> Statistic:
    pool = PairPool()
    positives = np.zeros(len(rows), np.int64)
    for number, row in enumerate(rows):
        query = _checked(row, _Paired, name)
        positives[number] = query.positives
        scores = [score for score, _ in query.pairs]
        pool.add(number, scores, [right for _, right in query.pairs])
    _, right, queries = pool.sorted()
    return pair_statistic(right, queries, positives)


def _checked(row: _Row, kind: type[_T], name: str) -> _T:
    """Return a query of a report as a declared type."""
    try:
        return convert(row, kind)
    except InvalidValue as error:
        raise DatasetError(f"{name}: {readable(row['path'])}: {error}") from None
