"""Many keypoints → one descriptor (VLAD), so that comparing two photos takes one product.

Jégou, Douze, Schmid & Pérez, "Aggregating local descriptors into a compact image representation",
CVPR 2010: each keypoint goes to the nearest of a few centroids, and what it differs by from there
is added up. Each difference is brought to length one first (Delhumeau, Gosselin, Jégou & Pérez,
"Revisiting the VLAD image representation", ACM Multimedia 2013), and a square root evens out
repeated patterns (the power law of Jégou et al., "Aggregating local image descriptors into compact
codes", PAMI 2012).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["aggregate", "fit_centroids"]

_ROUNDS = 20  # of k-means; assignments hardly change any more
_BLOCK = 8192  # descriptors assigned at a time
_UNIT = np.float32(127)  # the length of a stored descriptor
_NOTHING = 1e-6  # a descriptor nearer than this is the centroid, and differs by no direction


def fit_centroids(
    descriptors: NDArray[np.int8], count: int = 128, *, seed: int = 0
) -> NDArray[np.float32]:
    """Fit centroids by k-means (Lloyd, 1982), from a random choice of the descriptors.

    Args:
        descriptors: (n, d) int8, unit rows times 127, as `Keypoints` has them.
        count: how many centroids; no more than n come back.
        seed: of the choice; the same seed and descriptors give the same centroids.

    Returns:
        (min(count, n), d) float32, in units of the unit rows.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(descriptors), min(count, len(descriptors)), replace=False)
    centroids = _unit_rows(descriptors[chosen])
    for _ in range(_ROUNDS if len(centroids) else 0):
        sums = np.zeros(centroids.shape)
        sizes = np.zeros(len(centroids), np.intp)
        for start in range(0, len(descriptors), _BLOCK):
            rows = _unit_rows(descriptors[start : start + _BLOCK])
            _add_up(sums, rows, nearest := _nearest(rows, centroids))
            sizes += np.bincount(nearest, minlength=len(centroids))
        moved = sizes > 0  # one that no descriptor is nearest to stays where it is
        centroids[moved] = sums[moved] / sizes[moved, None]
    return centroids


def aggregate(descriptors: NDArray[np.int8], centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the VLAD of one photo's keypoints.

    Args:
        descriptors: (n, d) int8, unit rows times 127.
        centroids: (k, d) float32, from `fit_centroids`.

    Returns:
        (k * d,) float32 of length one; all zeros for a photo without keypoints.
    """
    sums = np.zeros(centroids.shape)
    if len(descriptors) and len(centroids):
        rows = _unit_rows(descriptors)
        nearest = _nearest(rows, centroids)
        differences = rows - centroids[nearest]
        lengths = np.linalg.norm(differences, axis=1, keepdims=True)
        differences[lengths[:, 0] < _NOTHING] = 0
        _add_up(sums, differences / np.maximum(lengths, _NOTHING), nearest)
    vlad = np.sign(sums) * np.sqrt(np.abs(sums))
    vlad /= np.linalg.norm(vlad) or 1.0
    return vlad.reshape(-1).astype(np.float32)


def _unit_rows(descriptors: NDArray[np.int8]) -> NDArray[np.float32]:
    return descriptors.astype(np.float32) / _UNIT


def _nearest(rows: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the nearest centroid of each row (n,); of equally near ones the first."""
    half_squares = np.einsum("kd,kd->k", centroids, centroids) / 2
    nearest: NDArray[np.intp] = (rows @ centroids.T - half_squares).argmax(axis=1)
    return nearest


def _add_up(
    sums: NDArray[np.float64], rows: NDArray[np.floating[Any]], groups: NDArray[np.intp]
) -> None:
    """Add each row (n, d) to the line of `sums` (k, d) that `groups` (n,) names."""
    order = np.argsort(groups, kind="stable")
    present, first = np.unique(groups[order], return_index=True)
    sums[present] += np.add.reduceat(rows[order], first, axis=0, dtype=np.float64)
