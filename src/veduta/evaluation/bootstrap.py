"""Bootstrap intervals over queries: how far a mean would move with other queries of the kind."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["RESAMPLES", "bootstrap_intervals"]

RESAMPLES = 2000

_COUNTS_AT_ONCE = 1_000_000
"""Draw counts held at a time, so that memory stays flat however many queries there are."""


def bootstrap_intervals(
    values: ArrayLike, *, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 0
) -> NDArray[np.float64]:
    """Return (M, 2): the lower and upper end of the interval of each column's mean.

    `values`: (N, M) finite, one row a query, one column a measure. The percentile bootstrap (Efron
    and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13): N rows are drawn with
    replacement `resamples` times, the same draw for all columns, and the interval runs between the
    quantiles that leave (1 - level) / 2 on either side. The same seed gives the same interval.

    Queries count as independent. Those of one place are alike, so with few places the true interval
    is wider.

    Raises `ValueError` without a row, and for NaN.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not len(table):
        raise ValueError(f"values have the shape {table.shape}; wanted (N, M) with N of 1 or more")
    if not np.isfinite(table).all():
        raise ValueError("values are not all finite")
    count = len(table)
    generator = np.random.default_rng(seed)
    # How often each query is drawn is all that a mean needs, and a product of matrices from there.
    block = max(1, _COUNTS_AT_ONCE // count)
    means = np.concatenate(
        [
            _draw_counts(generator, min(block, resamples - start), count) @ table
            for start in range(0, resamples, block)
        ]
    )
    tail = (1.0 - level) / 2.0
    ends: NDArray[np.float64] = np.quantile(means / count, [tail, 1.0 - tail], axis=0)
    return ends.T


def _draw_counts(generator: np.random.Generator, resamples: int, count: int) -> NDArray[np.float64]:
    """Return (resamples, count): how often each of `count` rows is drawn in `count` draws."""
    drawn = generator.integers(count, size=(resamples, count))
    drawn += count * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * count)
    return counts.reshape(resamples, count).astype(np.float64)
