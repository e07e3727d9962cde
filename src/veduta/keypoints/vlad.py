"""Many keypoints → one descriptor (VLAD), so that comparing two photos takes one product.

Jégou, Douze, Schmid & Pérez, "Aggregating local descriptors into a compact image representation",
CVPR 2010: each keypoint is assigned to the nearest of a few centroids, and its differences from
that centroid are added up. Each difference is scaled to length one first (Delhumeau, Gosselin,
Jégou & Pérez, "Revisiting the VLAD image representation", ACM Multimedia 2013), and a square root
reduces the weight of repeated patterns (the power law of Jégou et al., "Aggregating local image
descriptors into compact codes", PAMI 2012).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["aggregate", "fit_centroids"]

_KMEANS_ROUNDS = 20
"""After so many rounds, assignments hardly change."""

_BLOCK_ROWS = 8192
"""How many descriptors are assigned at a time."""

_STORED_LENGTH = np.float32(127)
"""The length of a stored descriptor."""

_MIN_DIFFERENCE = 1e-6
"""A descriptor nearer than this to its centroid counts as equal to it: its difference has no
direction."""


def fit_centroids(
    descriptors: NDArray[np.int8], count: int = 128, *, seed: int = 0
) -> NDArray[np.float32]:
    """Fit centroids by k-means (Lloyd, 1982), starting from a random choice of the descriptors.

    Args:
        descriptors: (n, d) int8, rows of length one times 127, as in `Keypoints`.
        count: the number of centroids. The result has at most n.
        seed: of the random choice. Equal seeds and descriptors give equal centroids.

    Returns:
        (min(count, n), d) float32, for rows of length one.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(descriptors), min(count, len(descriptors)), replace=False)
    centroids = _unit_rows(descriptors[chosen])
    for _ in range(_KMEANS_ROUNDS if len(centroids) else 0):
        sums = np.zeros(centroids.shape)
        sizes = np.zeros(len(centroids), np.intp)
        for start in range(0, len(descriptors), _BLOCK_ROWS):
            rows = _unit_rows(descriptors[start : start + _BLOCK_ROWS])
            nearest = _nearest_centroids(rows, centroids)
            _add_to_groups(sums, rows, nearest)
            sizes += np.bincount(nearest, minlength=len(centroids))
        # A centroid without descriptors keeps its position.
        used = sizes > 0
        centroids[used] = sums[used] / sizes[used, None]
    return centroids


def aggregate(descriptors: NDArray[np.int8], centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the VLAD of one photo's keypoints.

    Args:
        descriptors: (n, d) int8, rows of length one times 127.
        centroids: (k, d) float32, from `fit_centroids`.

    Returns:
        (k * d,) float32 of length one. All zeros for a photo without keypoints.
    """
    sums = np.zeros(centroids.shape)
    if len(descriptors) and len(centroids):
        rows = _unit_rows(descriptors)
        nearest = _nearest_centroids(rows, centroids)
        differences = rows - centroids[nearest]
        lengths = np.linalg.norm(differences, axis=1, keepdims=True)
        differences[lengths[:, 0] < _MIN_DIFFERENCE] = 0
        _add_to_groups(sums, differences / np.maximum(lengths, _MIN_DIFFERENCE), nearest)
    vlad = np.sign(sums) * np.sqrt(np.abs(sums))
    vlad /= np.linalg.norm(vlad) or 1.0
    return vlad.reshape(-1).astype(np.float32)


def _unit_rows(descriptors: NDArray[np.int8]) -> NDArray[np.float32]:
    return descriptors.astype(np.float32) / _STORED_LENGTH


def _nearest_centroids(
    rows: NDArray[np.float32], centroids: NDArray[np.float32]
) -> NDArray[np.intp]:
    """Return the nearest centroid of each row (n,). Of equally near ones the first counts."""
    half_squares = np.einsum("kd,kd->k", centroids, centroids) / 2
    nearest: NDArray[np.intp] = (rows @ centroids.T - half_squares).argmax(axis=1)
    return nearest


def _add_to_groups(
    sums: NDArray[np.float64], rows: NDArray[np.floating[Any]], groups: NDArray[np.intp]
) -> None:
    """Add each row (n, d) to the row of `sums` (k, d) that `groups` (n,) gives for it."""
    order = np.argsort(groups, kind="stable")
    present, first = np.unique(groups[order], return_index=True)
    sums[present] += np.add.reduceat(rows[order], first, axis=0, dtype=np.float64)
