"""Bootstrap over queries: how much a figure would differ with other queries of the same kind.

Queries are drawn with replacement, as many as there are, again and again. Each draw gives the
figure once more, and the range of these values is its uncertainty (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993, chapter 13, the percentile interval). Two systems that
answered the same queries are compared on the same draws.

Queries count as independent. Those of one place are similar, so with few places the true interval
is wider.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "RESAMPLES",
    "PairedDifference",
    "Statistic",
    "bootstrap_intervals",
    "bootstrap_statistic",
    "means_of",
    "paired_bootstrap",
    "percentile_intervals",
    "two_sided_p_values",
]

RESAMPLES = 2000

_MAX_COUNTS_IN_MEMORY = 1_000_000
"""Draws are made in blocks of this size, so that memory stays flat with many queries."""

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""A function from (B, N) float64, how often each of N queries is drawn in B draws, to (B, M): M
figures of each draw, NaN where a draw leaves a figure undefined."""


def bootstrap_intervals(
    values: ArrayLike, *, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 0
) -> NDArray[np.float64]:
    """Return the lower and upper end of the interval of each column's mean.

    N rows are drawn `resamples` times, the same draw for all columns. The interval runs between the
    quantiles that leave (1 - level) / 2 on either side.

    Args:
        values: (N, M) finite, one row a query, one column a measure.
        resamples: how many draws.
        level: of the interval, such as 0.95.
        seed: the same seed gives the same interval.

    Returns:
        (M, 2) float64.

    Raises:
        ValueError: there is no row, or a value is NaN.
    """
    table = _finite_table(values)
    means = bootstrap_statistic(means_of(table), len(table), resamples=resamples, seed=seed)
    return percentile_intervals(means, level=level)


def means_of(values: NDArray[np.float64]) -> Statistic:
    """Return the statistic that is the mean of each column of (N, M) `values`."""
    # A mean depends only on how often each query is drawn, so one matrix product gives it.
    return lambda counts: counts @ values / len(values)


def bootstrap_statistic(
    statistic: Statistic, queries: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Return the figures of each draw of `queries` out of `queries`.

    Memory stays flat: `statistic` is called with a part of the draws at a time.

    Args:
        statistic: of M figures.
        queries: how many there are.
        resamples: how many draws.
        seed: the same seed gives the same draws, whatever the statistic.

    Returns:
        (resamples, M) float64.

    Raises:
        ValueError: there is no query or no draw.
    """
    if queries < 1 or resamples < 1:
        raise ValueError(f"{queries} queries drawn {resamples} times; wanted 1 or more of both")
    generator = np.random.default_rng(seed)
    block = max(1, _MAX_COUNTS_IN_MEMORY // queries)
    return np.concatenate(
        [
            statistic(_draw_counts(generator, min(block, resamples - start), queries))
            for start in range(0, resamples, block)
        ]
    )


def percentile_intervals(figures: ArrayLike, *, level: float = 0.95) -> NDArray[np.float64]:
    """Return the ends between which the middle `level` of each column lies.

    Args:
        figures: (R, M), one row a draw. Draws that leave a figure undefined (NaN) are left out of
            its interval.
        level: of the interval, such as 0.95.

    Returns:
        (M, 2) float64; NaN if a figure is undefined in all draws.
    """
    tail = (1.0 - level) / 2.0
    ends = []
    for column in np.asarray(figures, dtype=np.float64).T:
        defined = column[~np.isnan(column)]
        ends.append(np.quantile(defined, [tail, 1.0 - tail]) if len(defined) else [np.nan] * 2)
    return np.array(ends, dtype=np.float64).reshape(-1, 2)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The difference of two systems on the same queries, for M measures.

    Attributes:
        difference: (M,) second minus first.
        interval: (M, 2), its ends.
        p_value: (M,), two-sided, see `two_sided_p_values`.
    """

    difference: NDArray[np.float64]
    interval: NDArray[np.float64]
    p_value: NDArray[np.float64]


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """Compare the means of two systems over the same queries.

    For figures that are no means, draw the difference itself with `bootstrap_statistic`.

    Args:
        first: (N, M) finite, one row a query.
        second: (N, M) finite, row i is the query of row i of `first`.
        resamples: how many draws.
        level: of the interval, such as 0.95.
        seed: of the draws.

    Returns:
        The differences with their intervals and p-values.

    Raises:
        ValueError: shapes differ, there is no row, or a value is NaN.
    """
    tables = _finite_table(first), _finite_table(second)
    if tables[0].shape != tables[1].shape:
        raise ValueError(f"the values have the shapes {tables[0].shape} and {tables[1].shape}")
    difference = tables[1] - tables[0]
    drawn = bootstrap_statistic(
        means_of(difference), len(difference), resamples=resamples, seed=seed
    )
    return PairedDifference(
        difference=difference.mean(axis=0),
        interval=percentile_intervals(drawn, level=level),
        p_value=two_sided_p_values(drawn),
    )


def two_sided_p_values(differences: ArrayLike) -> NDArray[np.float64]:
    """Return how likely a difference as large comes from chance alone, in (0, 1].

    With R draws of which L are ≤ 0 and U are ≥ 0, p = min(1, 2 (1 + min(L, U)) / (R + 1)). This
    inverts the percentile interval (Efron and Tibshirani, 1993, section 15.4): except for one draw
    in R, p is below 0.05 if the 95 % interval does not contain 0. The ones count the observation as
    a draw, so that no p is 0 (Davison and Hinkley, "Bootstrap Methods and their Application", 1997,
    section 4.2).

    Args:
        differences: (R, M) between two systems, one row a draw. Undefined draws (NaN) are left out.

    Returns:
        (M,) float64; NaN if all draws are undefined.
    """
    drawn = np.asarray(differences, dtype=np.float64)
    defined = (~np.isnan(drawn)).sum(axis=0)
    fewer = np.minimum((drawn <= 0).sum(axis=0), (drawn >= 0).sum(axis=0))
    p_values: NDArray[np.float64] = np.minimum(1.0, 2.0 * (1 + fewer) / (defined + 1))
    return np.where(defined > 0, p_values, np.nan)


def _finite_table(values: ArrayLike) -> NDArray[np.float64]:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not len(table):
        raise ValueError(f"values have the shape {table.shape}; wanted (N, M) with N of 1 or more")
    if not np.isfinite(table).all():
        raise ValueError("values are not all finite")
    return table


def _draw_counts(generator: np.random.Generator, resamples: int, count: int) -> NDArray[np.float64]:
    """Return (resamples, count): how often each of `count` rows is drawn in `count` draws."""
    drawn = generator.integers(count, size=(resamples, count))
    drawn += count * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * count)
    return counts.reshape(resamples, count).astype(np.float64)
