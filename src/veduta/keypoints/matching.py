"""Which keypoint of one photo is which of another: mutual nearest neighbours and the ratio test.

All products of two sets of descriptors are whole numbers (int8 rows, or counts of equal bits). So
results are the same on every machine, and of equal similarities the one with the lower index wins.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.keypoints.features import Keypoints

    Compared = Callable[[NDArray[Any]], NDArray[np.int32]]

__all__ = ["Matching", "MutualMatching", "RatioMatching", "mutual", "ratio"]

_SQUARED_LENGTH = 127 * 127
"""The product of an int8 row with itself."""

_ROWS_AT_A_TIME = 256
"""The products of so many rows with those of a photo stay in a processor's cache."""


class Matching(Protocol):
    """How keypoints of one kind are matched. Its `repr` names the method and its limits.

    An index stores the `repr` with its graph: the links are verified again when it changes.
    """

    def pairs(self, query: Keypoints, other: Keypoints) -> NDArray[np.intp]:
        """Return the matching keypoints of two photos.

        Args:
            query: n keypoints.
            other: m keypoints of the same kind.

        Returns:
            (k, 2) indices into `query` and `other`.

        Raises:
            ValueError: the descriptors are of different kinds or widths.
        """
        ...


@dataclass(frozen=True, slots=True)
class MutualMatching:
    """Keypoints that are nearest to each other in both directions, see `mutual`.

    Attributes:
        min_similarity: as in `mutual`.
    """

    min_similarity: float

    def pairs(self, query: Keypoints, other: Keypoints) -> NDArray[np.intp]:
        """Return `mutual` of two photos."""
        return mutual(query, other, min_similarity=self.min_similarity)


@dataclass(frozen=True, slots=True)
class RatioMatching:
    """Keypoints that are nearest to each other and pass the ratio test, see `ratio`.

    Attributes:
        max_ratio: as in `ratio`.
    """

    max_ratio: float

    def pairs(self, query: Keypoints, other: Keypoints) -> NDArray[np.intp]:
        """Return the symmetric `ratio` of two photos."""
        return ratio(query, other, max_ratio=self.max_ratio, symmetric=True)


def mutual(a: Keypoints, b: Keypoints, *, min_similarity: float) -> NDArray[np.intp]:
    """Return the pairs that are nearest to each other in both directions.

    Args:
        a: n keypoints.
        b: m keypoints with descriptors of the same kind.
        min_similarity: the smallest similarity of a pair, in [-1, 1]: the cosine; of binary
            descriptors the share of equal bits.

    Returns:
        (k, 2) indices into `a` and `b`, in the order of `a`. Of several nearest ones that are
        equally near, the first counts.

    Raises:
        ValueError: the descriptors are of different kinds or widths.
    """
    _check_same_kind(a, b)
    if len(a) == 0 or len(b) == 0:
        return _no_pairs()
    nearest, reached = _most_similar(a.descriptors, b.descriptors)
    one = 8 * a.descriptors.shape[1] if a.binary else _SQUARED_LENGTH
    # The small number keeps a product such as 230.40000000000003 from excluding the limit itself.
    limit = math.ceil(min_similarity * one - 1e-6)
    rows = np.flatnonzero(reached >= limit)
    # To compare those with all of `a` again is faster than to search in columns of a large matrix.
    back, _ = _most_similar(b.descriptors[nearest[rows]], a.descriptors)
    rows = rows[back == rows]
    return np.stack([rows, nearest[rows]], axis=1)


def ratio(
    a: Keypoints, b: Keypoints, *, max_ratio: float = 0.75, symmetric: bool = False
) -> NDArray[np.intp]:
    """Return the pairs whose nearest neighbour is clearly nearer than the second nearest.

    The ratio test of D. Lowe, Distinctive image features from scale-invariant keypoints, IJCV
    2004, in the direction from `a` to `b`. The distance is Euclidean, or Hamming for binary
    descriptors.

    Args:
        a: n keypoints.
        b: m keypoints with descriptors of the same kind. Fewer than two give no pairs.
        max_ratio: the distance to the nearest is smaller than this share of the distance to the
            second nearest.
        symmetric: take only pairs that are nearest to each other in both directions.

    Returns:
        (k, 2) indices into `a` and `b`, in the order of `a`. Unless the pairs are symmetric,
        several of `a` may have the same of `b`.

    Raises:
        ValueError: the descriptors are of different kinds or widths.
    """
    _check_same_kind(a, b)
    if len(a) == 0 or len(b) < 2:
        return _no_pairs()
    distances = _distances(a.descriptors, b.descriptors)
    rows = np.arange(len(a))
    nearest = distances.argmin(axis=1)
    smallest = distances[rows, nearest].copy()
    distances[rows, nearest] = np.iinfo(distances.dtype).max
    second = distances.min(axis=1)
    # The distances of int8 rows are squared.
    share = max_ratio if a.binary else max_ratio * max_ratio
    rows = np.flatnonzero(smallest < share * second)
    if symmetric:
        back = _distances(b.descriptors[nearest[rows]], a.descriptors)
        rows = rows[back.argmin(axis=1) == rows]
    return np.stack([rows, nearest[rows]], axis=1)


def _no_pairs() -> NDArray[np.intp]:
    return np.empty((0, 2), np.intp)


def _most_similar(a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Return for each row of `a` (n, d) the most similar row of `b`, and the similarity.

    Returns:
        (n,) rows of `b`, of equal ones the first. (n,) products, or numbers of equal bits.
    """
    is_binary = a.dtype == np.uint8
    compared = _different_bits_with(b) if is_binary else _products_with(b)
    nearest, reached = np.empty(len(a), np.intp), np.empty(len(a), np.int32)
    for start in range(0, len(a), _ROWS_AT_A_TIME):
        block = slice(start, start + _ROWS_AT_A_TIME)
        similarities = compared(a[block])
        if is_binary:
            similarities = 8 * a.shape[1] - similarities
        nearest[block] = similarities.argmax(axis=1)
        reached[block] = similarities[np.arange(len(similarities)), nearest[block]]
    return nearest, reached


def _distances(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Return (n, m) Hamming distances, or squared Euclidean distances of int8 rows."""
    if a.dtype == np.uint8:
        return _different_bits_with(b)(a)
    return _squared_lengths(a)[:, None] + _squared_lengths(b) - 2 * _products_with(b)(a)


def _squared_lengths(rows: NDArray[np.int8]) -> NDArray[np.int32]:
    wide = rows.astype(np.int32)
    squares: NDArray[np.int32] = np.einsum("nd,nd->n", wide, wide)
    return squares


def _products_with(b: NDArray[np.int8]) -> Compared:
    """Return what multiplies rows (n, d) with all rows of `b` (m, d): (n, m) int32."""
    import numkong

    packed = numkong.dots_pack(np.ascontiguousarray(b), "int8")

    def products(rows: NDArray[np.int8]) -> NDArray[np.int32]:
        if not len(rows):
            return np.empty((0, len(b)), np.int32)
        return np.asarray(numkong.dots_packed(np.ascontiguousarray(rows), packed))

    return products


def _different_bits_with(b: NDArray[np.uint8]) -> Compared:
    """Return what counts in how many bits rows (n, d) differ from all rows of `b`: (n, m) int32."""
    import numkong

    packed = numkong.hammings_pack(np.ascontiguousarray(b))

    def different_bits(rows: NDArray[np.uint8]) -> NDArray[np.int32]:
        if not len(rows):
            return np.empty((0, len(b)), np.int32)
        counts = np.asarray(numkong.hammings_packed(np.ascontiguousarray(rows), packed))
        return counts.astype(np.int32)

    return different_bits


def _check_same_kind(a: Keypoints, b: Keypoints) -> None:
    if a.binary != b.binary or a.descriptors.shape[1] != b.descriptors.shape[1]:
        kinds = [f"{k.descriptors.shape[1]} × {k.descriptors.dtype}" for k in (a, b)]
        raise ValueError(
            f"keypoints of two methods do not match: descriptors {kinds[0]} and {kinds[1]}"
        )
