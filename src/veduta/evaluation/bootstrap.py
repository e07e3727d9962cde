"""Bootstrap over queries: how far a figure would move with other queries of the kind.

Queries are drawn with replacement, as many as there are, again and again; each draw gives the
figure once more, and the spread of those is its uncertainty (Efron and Tibshirani, "An Introduction
to the Bootstrap", 1993, chapter 13, the percentile interval). Two systems that answered the same
queries are compared on the same draws.

Queries count as independent. Those of one place are alike, so with few places the true interval is
wider.
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

_COUNTS_AT_ONCE = 1_000_000
"""Draw counts held at a time, so that memory stays flat however many queries there are."""

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From (B, N) float64, how often each of N queries is drawn in B draws, to (B, M): M figures of
each draw, NaN where a draw leaves one undefined."""


def bootstrap_intervals(
    values: ArrayLike, *, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 0
) -> NDArray[np.float64]:
    """Return (M, 2): the lower and upper end of the interval of each column's mean.

    `values`: (N, M) finite, one row a query, one column a measure. N rows are drawn `resamples`
    times, the same draw for all columns, and the interval runs between the quantiles that leave
    (1 - level) / 2 on either side. The same seed gives the same interval.

    Raises `ValueError` without a row, and for NaN.
    """
    table = _finite_table(values)
    means = bootstrap_statistic(means_of(table), len(table), resamples=resamples, seed=seed)
    return percentile_intervals(means, level=level)


def means_of(values: NDArray[np.float64]) -> Statistic:
    """Return the statistic that is the mean of each column of (N, M) `values`."""
    # How often each query is drawn is all that a mean needs, and a product of matrices from there.
    return lambda counts: counts @ values / len(values)


def bootstrap_statistic(
    statistic: Statistic, queries: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Return (resamples, M): the figures of each draw of `queries` out of `queries`.

    The same seed gives the same draws, whatever the statistic. Memory stays flat: `statistic` is
    called with a part of the draws at a time.

    Raises `ValueError` for no query and no draw.
    """
    if queries < 1 or resamples < 1:
        raise ValueError(f"{queries} queries drawn {resamples} times; wanted 1 or more of both")
    generator = np.random.default_rng(seed)
    block = max(1, _COUNTS_AT_ONCE // queries)
    return np.concatenate(
        [
            statistic(_draw_counts(generator, min(block, resamples - start), queries))
            for start in range(0, resamples, block)
        ]
    )


def percentile_intervals(figures: ArrayLike, *, level: float = 0.95) -> NDArray[np.float64]:
    """Return (M, 2): between which ends the middle `level` of each column of (R, M) lies.

    Draws that leave a figure undefined (NaN) are left out of its interval; with nothing left, both
    ends are NaN.
    """
    tail = (1.0 - level) / 2.0
    ends = []
    for column in np.asarray(figures, dtype=np.float64).T:
        defined = column[~np.isnan(column)]
        ends.append(np.quantile(defined, [tail, 1.0 - tail]) if len(defined) else [np.nan] * 2)
    return np.array(ends, dtype=np.float64).reshape(-1, 2)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How far the second system is above the first, one entry a measure.

    `difference`: (M,) second minus first. `interval`: (M, 2), its ends. `p_value`: (M,), two-sided,
    see `two_sided_p_values`.
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

    `first`, `second`: (N, M) finite, row i of both is query i. For figures that are no means, draw
    the difference itself with `bootstrap_statistic`.

    Raises `ValueError` for shapes that differ, without a row, and for NaN.
    """
    tables = _finite_table(first), _finite_table(second)
    if tables[0].shape != tables[1].shape:
        raise ValueError(f"the values have the shapes {tables[0].shape} and {tables[1].shape}")
    apart = tables[1] - tables[0]
    drawn = bootstrap_statistic(means_of(apart), len(apart), resamples=resamples, seed=seed)
    return PairedDifference(
        difference=apart.mean(axis=0),
        interval=percentile_intervals(drawn, level=level),
        p_value=two_sided_p_values(drawn),
    )


def two_sided_p_values(differences: ArrayLike) -> NDArray[np.float64]:
    """Return (M,): how likely a difference as large would come of chance alone, in (0, 1].

    `differences`: (R, M) between two systems, one row a draw. With R draws of which L are ≤ 0 and U
    are ≥ 0, p = min(1, 2 (1 + min(L, U)) / (R + 1)): the percentile interval turned round (Efron
    and Tibshirani, 1993, section 15.4), so that, but for one draw in R, p is below 0.05 where the
    95 % interval leaves out 0. The ones count what was observed as a draw, so that no p is 0
    (Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 4.2). Undefined
    draws are left out; NaN when none is left.
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
