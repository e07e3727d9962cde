"""Pairs of photos whose perceptual hashes differ in few bits.

Two hashes that differ in at most b bits have at least one of b + 1 bands of bits in common. So only
hashes with equal bands are compared, one block of them at a time: every pair is found, and no
N × N table is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from veduta.photos.bit_counts import bit_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "MAX_COPY_BITS",
    "copy_candidates",
    "mirrored_hashes",
    "near_hashes",
    "nearest_hashes",
]

MAX_COPY_BITS = 7
"""Hashes that differ in at most so many bits make two photos candidates for copies."""

_HASH_BITS = 64
_ROW_BITS = 8  # A hash consists of eight rows of eight bits.
_BLOCK_PAIRS = 1 << 20
_PARTNERS_PER_EQUAL_HASH = 4
_NEAREST_HASHES = 12


def near_hashes(
    first: NDArray[np.uint64],
    second: NDArray[np.uint64] | None = None,
    *,
    max_bits: int,
    on_band: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.integer]]]:
    """Yield the pairs of hashes that differ in few bits.

    A pair that agrees in several bands comes several times, once in each of them.

    Args:
        first: (n,) hashes.
        second: (m,) other hashes; `None` pairs those of `first` with each other, each two once.
        max_bits: the largest number of different bits.
        on_band: called after each band with its number and the number of bands.

    Yields:
        (p,) rows of `first`, (p,) rows of `second` and (p,) numbers of different bits. All pairs
        that a row has in a band are in one block, unless `second` is None.
    """
    others = first if second is None else second
    bands = max_bits + 1
    for band in range(bands):
        low, high = band * _HASH_BITS // bands, (band + 1) * _HASH_BITS // bands
        mask = np.uint64((1 << (high - low)) - 1)
        first_buckets = _buckets((first >> np.uint64(low)) & mask)
        second_buckets = _buckets((others >> np.uint64(low)) & mask) if second is not None else {}
        for value, rows in first_buckets.items():
            columns = rows if second is None else second_buckets.get(value)
            if columns is None or (second is None and len(rows) < 2):
                continue
            step = max(1, _BLOCK_PAIRS // len(columns))
            for start in range(0, len(rows), step):
                block_rows = rows[start : start + step]
                block_columns = columns[start:] if second is None else columns
                bits = bit_counts(first[block_rows, np.newaxis] ^ others[block_columns])
                a, b = np.nonzero(bits <= max_bits)
                if second is None:
                    later = b > a
                    a, b = a[later], b[later]
                if len(a):
                    yield block_rows[a], block_columns[b], bits[a, b]
        if on_band:
            on_band(band + 1, bands)


def copy_candidates(hashes: NDArray[np.uint64]) -> set[tuple[int, int]]:
    """Return the pairs of photos whose hashes are near, straight or with one photo mirrored.

    The number of pairs grows with the number of photos, not with its square. Photos with equal
    hashes, for example all blank ones, are paired only with the next few, which keeps copies
    connected. Smooth pictures have near hashes too, so each hash keeps only its nearest.

    Args:
        hashes: (n,) perceptual hashes.

    Returns:
        Pairs (smaller, larger) of positions in `hashes`.
    """
    values, inverse = np.unique(hashes, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1)
    pairs = {
        (int(group[row]), int(other))
        for group in members
        for row in range(len(group))
        for other in group[row + 1 : row + 1 + _PARTNERS_PER_EQUAL_HASH]
    }
    for others in (values, mirrored_hashes(values)):
        for a, b in nearest_hashes(others, values):
            for first in members[a][:_PARTNERS_PER_EQUAL_HASH].tolist():
                for second in members[b][:_PARTNERS_PER_EQUAL_HASH].tolist():
                    if first != second:
                        pairs.add((min(first, second), max(first, second)))
    return pairs


def nearest_hashes(
    first: NDArray[np.uint64], second: NDArray[np.uint64]
) -> Iterator[tuple[int, int]]:
    """Yield (row of `first`, row of `second`) of the nearest hashes; equal rows are left out.

    Args:
        first: (n,) hashes.
        second: (m,) other hashes.
    """
    blocks = [np.empty((0, 3), np.int64)]
    for rows, others, bits in near_hashes(first, second, max_bits=MAX_COPY_BITS):
        table = np.stack([rows, bits.astype(np.int64), others], axis=1)[rows != others]
        blocks.append(_first_of_each_row(table[np.lexsort(table.T[::-1])]))
    pairs = _first_of_each_row(np.unique(np.concatenate(blocks), axis=0))
    yield from zip(pairs[:, 0].tolist(), pairs[:, 2].tolist(), strict=True)


def mirrored_hashes(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the hashes of the mirrored photos; bits of equal neighbours may be wrong.

    A bit says that a pixel is brighter than its left neighbour. In the mirrored photo the opposite
    holds at the other end of the row.

    Args:
        hashes: (n,) perceptual hashes.

    Returns:
        (n,) perceptual hashes.
    """
    rows = hashes.astype(">u8").view(np.uint8).reshape(-1, _ROW_BITS, 1)
    turned = np.packbits(1 - np.unpackbits(rows, axis=2)[:, :, ::-1], axis=2)
    mirrored: NDArray[np.uint64] = turned.reshape(-1).view(">u8").astype(np.uint64)
    return mirrored


def _buckets(values: NDArray[np.uint64]) -> dict[int, NDArray[np.int64]]:
    """Return value → the rising rows that have it."""
    order = np.argsort(values, kind="stable")
    ends = np.flatnonzero(np.diff(values[order])) + 1
    return {int(values[rows[0]]): rows for rows in np.split(order, ends) if len(rows)}


def _first_of_each_row(table: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first few lines of each row from a sorted table of (row, bits, other row)."""
    starts = np.flatnonzero(np.diff(table[:, 0], prepend=-1))
    rank = np.arange(len(table)) - np.repeat(starts, np.diff(starts, append=len(table)))
    return table[rank < _NEAREST_HASHES]
