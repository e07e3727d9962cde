"""The distances that reports on image retrieval compare with cosine, over a whole collection.

On descriptors of length one the Euclidean ranking is the cosine ranking, and correlation differs
from cosine only by the mean of each descriptor. Manhattan and Chebyshev rank differently.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from veduta.errors import QueryError
from veduta.index.snapshot import as_float32
from veduta.search.options import DISTANCES

__all__ = ["distances"]

_BLOCK_ROWS = 4096

Rows = NDArray[np.float32]


def _cosine(rows: Rows, query: Rows) -> Rows:
    return np.asarray(1 - rows @ query)


def _euclidean(rows: Rows, query: Rows) -> Rows:
    return np.asarray(np.linalg.norm(rows - query, axis=1))


def _manhattan(rows: Rows, query: Rows) -> Rows:
    return np.asarray(np.abs(rows - query).sum(axis=1))


def _chebyshev(rows: Rows, query: Rows) -> Rows:
    return np.asarray(np.abs(rows - query).max(axis=1))


def _correlation(rows: Rows, query: Rows) -> Rows:
    rows = rows - rows.mean(axis=1, keepdims=True)
    query = query - query.mean()
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
    return np.asarray(1 - (rows @ query) / np.maximum(lengths, np.finfo(np.float32).tiny))


_FUNCTIONS: dict[str, Callable[[Rows, Rows], Rows]] = {
    "cosine": _cosine,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
    "chebyshev": _chebyshev,
    "correlation": _correlation,
}


def distances(
    descriptors: NDArray[np.float16] | NDArray[np.float32],
    query: NDArray[np.float32],
    name: str,
    block_rows: int = _BLOCK_ROWS,
) -> NDArray[np.float32]:
    """Return the distance of a query to every row.

    Args:
        descriptors: (n, d).
        query: (d,) float32.
        name: one of `DISTANCES`. `cosine` and `correlation` are one minus the similarity.
        block_rows: how many rows are converted to float32 at a time.

    Returns:
        (n,) float32, smaller is nearer.

    Raises:
        QueryError: no distance has that name.
    """
    if name not in _FUNCTIONS:
        raise QueryError(f"No distance '{name}'. Choose one of: {', '.join(DISTANCES)}.")
    function = _FUNCTIONS[name]
    result = np.empty(len(descriptors), np.float32)
    for start in range(0, len(descriptors), block_rows):
        block = slice(start, start + block_rows)
        result[block] = function(as_float32(descriptors[block]), query)
    return result
