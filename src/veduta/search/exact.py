"""The exact nearest descriptors by cosine, reading one byte a dimension.

A search of a million photos is bound by memory, so the scan reads int8 codes, a quarter of the
float32 that most tools read. It stays exact because each row's quantisation error is known: with
x = s·c + e and q = r + f, |q·x - r·(s·c)| ≤ ‖q‖·‖e‖ + ‖f‖·‖s·c‖. The scan keeps every row whose
upper bound reaches the k-th best lower bound, and only those are scored again from the stored
float16 rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from veduta.index import Snapshot

_BLOCK = 8192  # rows scanned at a time by one thread; its scores stay in the cache
_ROUNDING = 1e-5  # what float32 arithmetic can add to a similarity, amply
_FEW = 8  # a filter that keeps fewer than one row in so many is scored row by row


def nearest(
    snapshot: Snapshot, query: NDArray[np.float32], k: int, keep: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the rows with the k highest cosine similarities, and the similarities.

    Args:
        snapshot: n unit rows of dimension d.
        query: (d,) float32, unit length.
        k: how many; fewer come back when fewer rows are kept.
        keep: (n,) bool, the rows to consider; None considers all.

    Returns:
        rows (m,) and similarities (m,) float32, best first; equal similarities in row order.
    """
    n = snapshot.photos
    kept = n if keep is None else int(np.count_nonzero(keep))
    k = min(k, kept)
    if k == 0:
        return np.empty(0, np.intp), np.empty(0, np.float32)
    if keep is not None and kept * _FEW < n:
        candidates = np.flatnonzero(keep)
    else:
        candidates = _scan(snapshot, query, k, keep)
    similarities = score(snapshot, query, candidates)
    order = np.lexsort((candidates, -similarities))[:k]
    return candidates[order], similarities[order]


def score(
    snapshot: Snapshot, query: NDArray[np.float32], rows: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return the cosine similarity of `query` (d,) to each of `rows` (m,), float32."""
    out = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, start + _BLOCK)
        block = snapshot.take(rows[part]).astype(np.float32)
        # einsum adds up each row by itself, so a row scores the same in whatever company.
        out[part] = np.einsum("nd,d->n", block, query)
    return out


def _scan(
    snapshot: Snapshot, query: NDArray[np.float32], k: int, keep: NDArray[np.bool_] | None
) -> NDArray[np.intp]:
    """Return every row that can be among the k best, in row order."""
    scale = float(np.abs(query).max()) / 127 or 1.0
    codes = np.rint(query / scale).astype(np.int8)
    length = float(np.linalg.norm(query))
    lost = float(np.linalg.norm(query - scale * codes))
    n = snapshot.photos
    upper = np.empty(n, np.float32)

    def scan(rows: slice) -> NDArray[np.float32]:
        import numkong

        products = np.asarray(numkong.cdist(codes[None], snapshot.quantised[rows], metric="dot"))[0]
        errors = snapshot.errors[rows]
        similarity = products * snapshot.scales[rows] * scale
        bound = errors * length + (1 + errors) * lost + _ROUNDING
        upper[rows] = similarity + bound
        lower = similarity - bound
        if keep is not None:
            upper[rows][~keep[rows]] = -np.inf
            lower = lower[keep[rows]]
        best: NDArray[np.float32] = lower if len(lower) <= k else np.partition(lower, -k)[-k:]
        return best.astype(np.float32)

    blocks = [slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]
    if len(blocks) == 1:
        lowest = scan(blocks[0])
    else:
        lowest = np.concatenate(list(_threads().map(scan, blocks)))
    threshold = np.partition(lowest, -k)[-k] if len(lowest) > k else lowest.min()
    return np.flatnonzero(upper >= threshold)


_pool: ThreadPoolExecutor | None = None


def _threads() -> ThreadPoolExecutor:
    global _pool  # noqa: PLW0603 - threads are made once, at the first search that needs them
    if _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="veduta-scan")
    return _pool


def similarities(
    snapshot: Snapshot, queries: NDArray[np.float32], rows: int = 4096
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Stream the similarities of m queries to all rows: (slice of rows, (m, rows) float32).

    For rankings of the whole gallery, as an evaluation needs them.
    """
    for start in range(0, snapshot.photos, rows):
        part = slice(start, min(start + rows, snapshot.photos))
        yield part, queries @ snapshot.descriptors[part].astype(np.float32).T
