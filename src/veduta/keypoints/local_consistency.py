"""How many matches move as the matches around them do: geometry without a global model.

A plane or a rigid scene is more than one can ask of a fish-eye lens, of a curved wall, or of two
buildings at two depths. But nearby matches that are right turn, grow and shift together (C. Schmid,
R. Mohr, Local grayvalue invariants for image retrieval, TPAMI 1997; T. Sattler, B. Leibe,
L. Kobbelt, SCRAMSAC, ICCV 2009), and this counts those.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["agreeing"]

_NEIGHBOURS = 6
_NEEDED = 3  # of the neighbours
_TOLERANCE = 0.35  # of the common change, in size and direction
_LARGEST_CHANGE = 5.0  # of size, either way


def agreeing(a: NDArray[np.float64], b: NDArray[np.float64]) -> int:
    """Return how many of m matches agree with their neighbours in the first photo.

    For each match, the vectors to its six nearest matches are compared before and after: as complex
    numbers their quotient is turn and growth. A match agrees when at least three of the six have
    about the median quotient.

    Args:
        a: (m, 2) positions in the first photo.
        b: (m, 2) positions of the same matches in the second.
    """
    count = len(a)
    if count <= _NEEDED:
        return 0
    before, after = a[:, 0] + 1j * a[:, 1], b[:, 0] + 1j * b[:, 1]
    near = _nearest(a, min(_NEIGHBOURS, count - 1))
    steps = before[near] - before[:, None]
    steps[steps == 0] = 1e-6  # two keypoints at one place
    change = (after[near] - after[:, None]) / steps
    common = np.median(change.real, axis=1) + 1j * np.median(change.imag, axis=1)
    size = np.abs(common)
    alike = np.abs(change - common[:, None]) < (
        _TOLERANCE * np.maximum(size, 1 / _LARGEST_CHANGE)[:, None]
    )
    plausible = (size > 1 / _LARGEST_CHANGE) & (size < _LARGEST_CHANGE)
    return int(np.count_nonzero((alike.sum(axis=1) >= _NEEDED) & plausible))


def _nearest(points: NDArray[np.float64], k: int) -> NDArray[np.intp]:
    """Return (m, k): the other points nearest to each of m."""
    import cv2

    single = points.astype(np.float32)
    _, found = cv2.batchDistance(single, single, cv2.CV_32F, normType=cv2.NORM_L2SQR, K=k + 1)
    # Each point is nearest to itself, unless others lie at the very same place.
    others = found != np.arange(len(points))[:, None]
    others[others.all(axis=1), -1] = False
    near: NDArray[np.intp] = found[others].reshape(-1, k).astype(np.intp)
    return near
