"""Each photo of an index against all others: the exact nearest by descriptor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.index import Snapshot

__all__ = ["nearest_of_all"]

_BLOCK_QUERIES = 1024
_BLOCK_ROWS = 4096
"""So many photos are compared with so many others at a time."""

_LOW_HALF = 2**32 - 1
_OWN = np.iinfo(np.int64).min
"""Less than the number of any photo."""


def nearest_of_all(
    snapshot: Snapshot,
    k: int,
    order: NDArray[np.intp],
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.float32]]]:
    """Rank all other photos for each photo, without re-ranking.

    Photos are compared block by block, so the similarities of all pairs are never in memory at
    once. A similarity does not depend on the blocks: products of float16 are exact in float64.

    Args:
        snapshot: of n photos.
        k: how many photos of a ranking, at least 1. There are fewer if the index has fewer others.
        order: (n,) the rows in the order in which queries come. Of equally near photos the last
            one comes first, as in trec_eval.
        on_progress: called with (queries done, queries).

    Yields:
        The row of a query, (m,) rows without its own, best first, and (m,) cosine similarities.
    """
    n = snapshot.photos
    k = min(k, n - 1)
    if k < 1:
        yield from ((int(row), order[:0], np.empty(0, np.float32)) for row in order.tolist())
        return
    for start in range(0, n, _BLOCK_QUERIES):
        queries = np.arange(start, min(start + _BLOCK_QUERIES, n))
        rows = snapshot.descriptors[order[queries]].astype(np.float64)
        best = np.empty((len(queries), 0), np.int64)
        for first in range(0, n, _BLOCK_ROWS):
            others = np.arange(first, min(first + _BLOCK_ROWS, n))
            block = snapshot.descriptors[order[others]].astype(np.float64)
            numbers = _sortable((rows @ block.T).astype(np.float32), others)
            numbers[queries[:, None] == others] = _OWN
            best = _largest(np.concatenate([best, numbers], axis=1), k)
        best = np.sort(best, axis=1)[:, ::-1]
        for query, ranked in zip(queries.tolist(), best, strict=True):
            places, similarities = _from_sortable(ranked)
            yield int(order[query]), order[places], similarities
            if on_progress:
                on_progress(query + 1, n)


def _largest(numbers: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    return numbers if numbers.shape[1] <= k else np.partition(numbers, -k, axis=1)[:, -k:]


def _sortable(similarities: NDArray[np.float32], places: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return numbers that are larger for a larger similarity, or a larger place if it is equal.

    Args:
        similarities: (q, p).
        places: (p,) of the photos in the order.
    """
    bits = (similarities + np.float32(0)).view(np.int32)  # One zero, not two.
    high = np.where(bits < 0, bits ^ np.int32(2**31 - 1), bits).astype(np.int64)
    numbers: NDArray[np.int64] = np.left_shift(high, 32) | places
    return numbers


def _from_sortable(numbers: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    places = (numbers & _LOW_HALF).astype(np.intp)
    high = np.right_shift(numbers, 32).astype(np.int32)
    bits = np.where(high < 0, high ^ np.int32(2**31 - 1), high).astype(np.int32)
    return places, bits.view(np.float32)
