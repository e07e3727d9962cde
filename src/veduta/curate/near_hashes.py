"""Pairs of photos whose perceptual hashes differ in few bits, straight or mirrored.

Two hashes that differ in at most b bits agree in at least one of b + 1 bands of them, so only
photos with a band in common are compared, a block at a time. The hashes of smooth pictures are
near each other, however many there are: each photo keeps only its nearest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MOST_BITS", "mirrored_hashes", "near_photos"]

MOST_BITS = 7
_ROW = 8  # bits; a hash has eight rows of them
_BITS = 64
_BANDS = MOST_BITS + 1
_AT_ONCE = 1 << 19  # pairs
_OF_ONE_HASH = 4  # photos with equal hashes that another one is compared with
_NEAREST = 12  # hashes that are kept of those near to one, the nearest first
_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


def near_photos(hashes: NDArray[np.uint64]) -> set[tuple[int, int]]:
    """Return the pairs (smaller, larger) of places in `hashes` (n,) that may show one picture.

    Of the photos with one and the same hash, which may be all blank ones of a collection, each is
    paired with the next few: where they are copies, that holds them together. So the pairs grow
    with the photos, not with their square.
    """
    values, inverse = np.unique(hashes, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1)
    pairs = {
        (int(group[at]), int(other))
        for group in members
        for at in range(len(group))
        for other in group[at + 1 : at + 1 + _OF_ONE_HASH]
    }
    for others in (values, mirrored_hashes(values)):
        for a, b in _nearest(others, values):
            for first in members[a][:_OF_ONE_HASH].tolist():
                for second in members[b][:_OF_ONE_HASH].tolist():
                    if first != second:
                        pairs.add((min(first, second), max(first, second)))
    return pairs


def mirrored_hashes(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the hashes of the mirrored photos, (n,), but for places where neighbours are equal.

    A bit says that a place is brighter than the one to its left; mirrored, it says the opposite
    at the other end of its row.
    """
    rows = hashes.astype(">u8").view(np.uint8).reshape(-1, _ROW, 1)
    turned = np.packbits(1 - np.unpackbits(rows, axis=2)[:, :, ::-1], axis=2)
    mirrored: NDArray[np.uint64] = turned.reshape(-1).view(">u8").astype(np.uint64)
    return mirrored


def _nearest(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Yield (row of `first`, another row of `second`) with few different bits, few of each row."""
    found = [np.empty((0, 3), np.int64), *_near(first, second)]
    pairs = _best(np.unique(np.concatenate(found), axis=0))
    yield from zip(pairs[:, 0].tolist(), pairs[:, 2].tolist(), strict=True)


def _best(found: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return of `found` (m, 3), sorted: row, different bits, another row; the first few of each."""
    starts = np.flatnonzero(np.diff(found[:, 0], prepend=-1))
    rank = np.arange(len(found)) - np.repeat(starts, np.diff(starts, append=len(found)))
    return found[rank < _NEAREST]


def _near(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """Yield (m, 3): row of `first`, different bits, another row of `second`; some several times."""
    for band in range(_BANDS):
        low, high = band * _BITS // _BANDS, (band + 1) * _BITS // _BANDS
        mask = np.uint64((1 << (high - low)) - 1)
        asked, known = ((hashes >> np.uint64(low)) & mask for hashes in (first, second))
        order = np.argsort(known, kind="stable")
        starts = np.searchsorted(known[order], asked, "left")
        sizes = np.searchsorted(known[order], asked, "right") - starts
        step = max(1, _AT_ONCE // max(1, int(sizes.max(initial=1))))
        for start in range(0, len(first), step):
            some = slice(start, start + step)
            rows = np.repeat(np.arange(len(first))[some], sizes[some])
            within = np.arange(len(rows)) - np.repeat(
                np.cumsum(sizes[some]) - sizes[some], sizes[some]
            )
            others = order[np.repeat(starts[some], sizes[some]) + within]
            different = (first[rows] ^ second[others]).view(np.uint8).reshape(-1, _BITS // 8)
            bits = _ONES[different].sum(axis=1)
            near = (bits <= MOST_BITS) & (rows != others)
            found = np.stack([rows[near], bits[near], others[near]], axis=1).astype(np.int64)
            yield _best(found[np.lexsort((found[:, 2], found[:, 1], found[:, 0]))])
