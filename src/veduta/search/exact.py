"""The exact nearest descriptors by cosine, from one byte for each dimension.

A search of a million photos is limited by the memory bandwidth. So the scan reads descriptors
quantised to int8, a quarter of the float32 that most tools read. The result is exact because the
quantisation error of each row is known: with x = s·c + e and q = r + f,
|q·x - r·(s·c)| ≤ ‖q‖·‖e‖ + ‖f‖·‖s·c‖. The scan keeps every row whose upper bound reaches the k-th
best lower bound. Only those rows are scored again from the stored float16 rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from veduta.idle_cores import map_with_help
from veduta.index import Snapshot
from veduta.index.snapshot import as_float32
from veduta.search.best_first import best_first

__all__ = ["nearest", "score", "similarities"]

_BLOCK_ROWS = 8192
"""One thread scans this many rows at a time. Their scores stay in the processor's cache."""

_ROUNDING_ERROR = 1e-5
"""More than float32 arithmetic can add to a similarity."""

_SCAN_SHARE = 8
"""If conditions allow fewer than one row in so many, each allowed row is scored without a scan."""

_STREAM_ROWS = 4096


def nearest(
    snapshot: Snapshot, query: NDArray[np.float32], k: int, keep: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the rows with the k highest cosine similarities, and the similarities.

    Args:
        snapshot: n rows of length one and dimension d.
        query: (d,) float32, of length one.
        k: how many rows. The result has fewer if fewer rows are allowed.
        keep: (n,) bool, the rows that are allowed. None: all.

    Returns:
        Rows (m,) and similarities (m,) float32, best first; equal similarities in order of path.
    """
    n = snapshot.photos
    allowed = n if keep is None else int(np.count_nonzero(keep))
    k = min(k, allowed)
    if k == 0:
        return np.empty(0, np.intp), np.empty(0, np.float32)
    if keep is not None and allowed * _SCAN_SHARE < n:
        candidates = np.flatnonzero(keep)
    else:
        candidates = _scan(snapshot, query, k, keep)
    scores = score(snapshot, query, candidates)
    if len(scores) > k:
        kth_best = np.partition(scores, -k)[-k]
        candidates, scores = candidates[scores >= kth_best], scores[scores >= kth_best]
    order = best_first(snapshot, candidates, scores)[:k]
    return candidates[order], scores[order]


def score(
    snapshot: Snapshot, query: NDArray[np.float32], rows: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return the cosine similarity of a query to some rows.

    Args:
        snapshot: n rows of length one and dimension d.
        query: (d,) float32, of length one.
        rows: (m,) of the snapshot.

    Returns:
        (m,) float32.
    """
    scores = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        block = snapshot.take(rows[part])
        # einsum adds up each row by itself. So the score of a row does not depend on other rows.
        scores[part] = np.einsum("nd,d->n", block, query)
    return scores


def _scan(
    snapshot: Snapshot, query: NDArray[np.float32], k: int, keep: NDArray[np.bool_] | None
) -> NDArray[np.intp]:
    """Return every row that can be among the k best, in row order."""
    scale = float(np.abs(query).max()) / 127 or 1.0
    quantised = np.rint(query / scale).astype(np.int8)
    length = float(np.linalg.norm(query))
    query_error = float(np.linalg.norm(query - scale * quantised))
    n = snapshot.photos
    upper = np.empty(n, np.float32)

    def scan_block(rows: slice) -> NDArray[np.float32]:
        """Fill in the upper bounds of some rows, and return their k best lower bounds."""
        import numkong

        products = np.asarray(
            numkong.cdist(quantised[None], snapshot.quantised[rows], metric="dot")
        )[0]
        errors = snapshot.errors[rows]
        similarity = products * snapshot.scales[rows] * scale
        bound = errors * length + (1 + errors) * query_error + _ROUNDING_ERROR
        upper[rows] = similarity + bound
        lower = similarity - bound
        if keep is not None:
            upper[rows][~keep[rows]] = -np.inf
            lower = lower[keep[rows]]
        best: NDArray[np.float32] = lower if len(lower) <= k else np.partition(lower, -k)[-k:]
        return best.astype(np.float32)

    blocks = [slice(start, min(start + _BLOCK_ROWS, n)) for start in range(0, n, _BLOCK_ROWS)]
    if len(blocks) == 1:
        lower_bounds = scan_block(blocks[0])
    else:
        lower_bounds = np.concatenate(list(map_with_help(scan_block, blocks)))
    enough = len(lower_bounds) > k
    threshold = np.partition(lower_bounds, -k)[-k] if enough else lower_bounds.min()
    return np.flatnonzero(upper >= threshold)


def similarities(
    snapshot: Snapshot, queries: NDArray[np.float32], block_rows: int = _STREAM_ROWS
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Stream the similarities of queries to all rows, as rankings of the whole gallery need them.

    Args:
        snapshot: n rows of length one and dimension d.
        queries: (m, d) float32, of length one.
        block_rows: how many rows are compared at a time.

    Yields:
        A slice of rows, and the similarities (m, rows in the slice) float32.
    """
    for start in range(0, snapshot.photos, block_rows):
        part = slice(start, min(start + block_rows, snapshot.photos))
        yield part, queries @ as_float32(snapshot.descriptors[part]).T
