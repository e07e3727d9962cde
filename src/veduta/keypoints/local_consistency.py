"""How many matches move as the matches around them do: geometry without a global model.

A fish-eye lens, a curved wall, or two buildings at different depths are no plane and not always one
rigid scene. But right matches that are near each other turn, grow and shift together (C. Schmid,
R. Mohr, Local grayvalue invariants for image retrieval, TPAMI 1997; T. Sattler, B. Leibe,
L. Kobbelt, SCRAMSAC, ICCV 2009). This file counts them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["locally_consistent_matches"]

_NEIGHBOURS = 6

_MIN_CONSISTENT_NEIGHBOURS = 3
"""A match is consistent with its surroundings if this many of its neighbours move like most."""

_MAX_DEVIATION = 0.35
"""The largest difference of a neighbour from the common change, as a share of that change."""

_MAX_GROWTH = 5.0
"""The largest change of size in either direction."""

_COINCIDENT_STEP = 1e-6
"""The distance that two keypoints at the same position are given."""


def locally_consistent_matches(a: NDArray[np.float64], b: NDArray[np.float64]) -> int:
    """Return how many of m matches move as their neighbours in the first photo do.

    The vectors from each match to its six nearest matches are compared before and after. As complex
    numbers, their quotient is the turn and the growth. A match counts if at least three of the six
    quotients are close to the median.

    Args:
        a: (m, 2) positions in the first photo.
        b: (m, 2) positions of the same matches in the second photo.
    """
    count = len(a)
    if count <= _MIN_CONSISTENT_NEIGHBOURS:
        return 0
    before, after = a[:, 0] + 1j * a[:, 1], b[:, 0] + 1j * b[:, 1]
    neighbours = _nearest_points(a, min(_NEIGHBOURS, count - 1))
    steps = before[neighbours] - before[:, None]
    steps[steps == 0] = _COINCIDENT_STEP
    change = (after[neighbours] - after[:, None]) / steps
    common = _medians(change.real) + 1j * _medians(change.imag)
    growth = np.abs(common)
    close = np.abs(change - common[:, None]) < (
        _MAX_DEVIATION * np.maximum(growth, 1 / _MAX_GROWTH)[:, None]
    )
    plausible = (growth > 1 / _MAX_GROWTH) & (growth < _MAX_GROWTH)
    consistent = close.sum(axis=1) >= _MIN_CONSISTENT_NEIGHBOURS
    return int(np.count_nonzero(consistent & plausible))


def _medians(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median of each row (m, k). `np.median` takes ten times as long for few numbers."""
    ascending = np.sort(rows, axis=1)
    middle = ascending.shape[1] // 2
    medians: NDArray[np.float64] = (ascending[:, ~middle] + ascending[:, middle]) / 2
    return medians


def _nearest_points(points: NDArray[np.float64], k: int) -> NDArray[np.intp]:
    """Return the k other points that are nearest to each of m points, (m, k)."""
    import cv2

    single = points.astype(np.float32)
    _, nearest = cv2.batchDistance(single, single, cv2.CV_32F, normType=cv2.NORM_L2SQR, K=k + 1)
    # Each point is its own nearest point, except where other points have the same position.
    others = nearest != np.arange(len(points))[:, None]
    others[others.all(axis=1), -1] = False
    neighbours: NDArray[np.intp] = nearest[others].reshape(-1, k).astype(np.intp)
    return neighbours
