"""Which keypoint of one photo is which of another: mutual nearest neighbours, and the ratio test.

All products of two sets of descriptors are whole numbers (int8 rows, or counts of equal bits), so
results are the same on every machine, and equal similarities are really equal: the lower index
wins.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from veduta.keypoints.features import Keypoints

__all__ = ["LEAST", "mutual", "mutual_many", "ratio"]

LEAST = 0.82  # of XFeat's authors
_UNIT = 127 * 127  # the product of an int8 row with itself


def mutual(a: Keypoints, b: Keypoints, *, least: float = LEAST) -> NDArray[np.intp]:
    """Return the pairs that are nearest to each other in both directions.

    Args:
        a: n keypoints.
        b: m keypoints with descriptors of the same kind.
        least: the smallest similarity of a pair, in [-1, 1]: the cosine; of binary descriptors
            the share of equal bits.

    Returns:
        (k, 2) indices into `a` and `b`, in the order of `a`. Of several nearest ones that are
        equally near, the first counts.

    Raises:
        ValueError: the descriptors are of different kinds or widths.
    """
    similar, unit = _similarities(a, b)
    if not similar.size:
        return _none()
    best = similar.argmax(axis=1)
    reached = similar[np.arange(len(best)), best]
    highest = similar.max(axis=0)
    # Less a hair, lest least * unit = 230.40000000000003 refuse what is exactly at the limit.
    floor = math.ceil(least * unit - 1e-6)
    rows = np.flatnonzero((reached >= floor) & (reached == highest[best]))
    # Another row may reach the same maximum of the column. This is looked at only for the few
    # columns that are left: a search of all columns takes longer than all products.
    first = similar[:, best[rows]].argmax(axis=0)
    rows = rows[first == rows]
    return np.stack([rows, best[rows]], axis=1)


def mutual_many(
    query: Keypoints, others: Sequence[Keypoints], *, least: float = LEAST
) -> list[NDArray[np.intp]]:
    """Return `mutual(query, other, least=least)` for each of `others`."""
    return [mutual(query, other, least=least) for other in others]


def ratio(a: Keypoints, b: Keypoints, *, most: float = 0.75) -> NDArray[np.intp]:
    """Return the pairs whose nearest neighbour is clearly nearer than the second nearest.

    The ratio test of D. Lowe, Distinctive image features from scale-invariant keypoints, IJCV
    2004, in the direction from `a` to `b`; the distance is Euclidean, or Hamming for binary
    descriptors.

    Args:
        a: n keypoints.
        b: m keypoints with descriptors of the same kind; fewer than two give no pairs.
        most: the distance to the nearest is smaller than this share of that to the second.

    Returns:
        (k, 2) indices into `a` and `b`, in the order of `a`; several of `a` may have the same
        of `b`.

    Raises:
        ValueError: the descriptors are of different kinds or widths.
    """
    distances = _distances(a, b)
    if len(a) == 0 or len(b) < 2:
        return _none()
    rows = np.arange(len(a))
    best = distances.argmin(axis=1)
    nearest = distances[rows, best].copy()
    distances[rows, best] = np.iinfo(distances.dtype).max
    second = distances.min(axis=1)
    # int8 distances are squared.
    share = most if a.binary else most * most
    rows = np.flatnonzero(nearest < share * second)
    return np.stack([rows, best[rows]], axis=1)


def _none() -> NDArray[np.intp]:
    return np.empty((0, 2), np.intp)


def _similarities(a: Keypoints, b: Keypoints) -> tuple[NDArray[Any], int]:
    """Return (n, m) similarities as whole numbers, and the number that stands for 1."""
    if a.binary:
        bits = 8 * a.descriptors.shape[1]
        return bits - _distances(a, b), bits
    return _products(a, b), _UNIT


def _distances(a: Keypoints, b: Keypoints) -> NDArray[Any]:
    """Return (n, m) Hamming distances, or squared Euclidean distances of int8 rows."""
    if not a.binary:
        products = _products(a, b)
        return _squares(a)[:, None] + _squares(b) - 2 * products
    _check(a, b)
    if len(a) == 0 or len(b) == 0:
        return np.zeros((len(a), len(b)), np.int32)
    import numkong

    packed = numkong.hammings_pack(np.ascontiguousarray(b.descriptors))
    counts = numkong.hammings_packed(np.ascontiguousarray(a.descriptors), packed)
    return np.asarray(counts).astype(np.int32)


def _squares(keypoints: Keypoints) -> NDArray[np.int32]:
    wide = keypoints.descriptors.astype(np.int32)
    squares: NDArray[np.int32] = np.einsum("nd,nd->n", wide, wide)
    return squares


def _products(a: Keypoints, b: Keypoints) -> NDArray[np.int32]:
    _check(a, b)
    if len(a) == 0 or len(b) == 0:
        return np.zeros((len(a), len(b)), np.int32)
    import numkong

    packed = numkong.dots_pack(np.ascontiguousarray(b.descriptors), "int8")
    return np.asarray(numkong.dots_packed(np.ascontiguousarray(a.descriptors), packed))


def _check(a: Keypoints, b: Keypoints) -> None:
    if a.binary != b.binary or a.descriptors.shape[1] != b.descriptors.shape[1]:
        kinds = [f"{k.descriptors.shape[1]} × {k.descriptors.dtype}" for k in (a, b)]
        raise ValueError(
            f"keypoints of two methods do not match: descriptors {kinds[0]} and {kinds[1]}"
        )
