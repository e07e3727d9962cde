"""Do two photos agree on nothing but a mark that both bear: a logo, a banner, a watermark?

A mark is one and the same picture on both, so that all of it has moved alike and has kept its size,
in pixels or as a share of the photo. What is photographed twice hardly ever has: the camera turns,
and the distance changes. A copy has, but in a copy nearly everything moves so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.keypoints.features import Keypoints

    Points = NDArray[np.floating[Any]]

__all__ = ["covered", "only_a_mark"]

# Lengths are shares of a photo's longer side. A keypoint is found to within a pixel or two of the
# 640 that are looked at, so what has moved alike is close together in the middle of the errors.
_ROUGHLY = 6 / 640
_EXACT = ((0.3, 2 / 640), (0.5, 3 / 640))  # of the inliers so many are at least so near
_CLOSE = 8 / 640  # what a photo and its copy may differ by
_BY_PLACE = 0.2  # of the variance of errors; more of it comes of another view of the thing
_COPIED = 0.25  # a copy has more than this in common of all keypoints that both could show
_LARGE = 0.25  # of the photo; what covers more may be a blurred or a darkened copy of it
_SMALL = 0.15  # of the photo; a copy of a picture with nothing else to see covers more


def only_a_mark(
    query: Keypoints, other: Keypoints, matches: NDArray[np.intp], inliers: NDArray[np.intp]
) -> bool:
    """Say whether inliers agree because both photos bear a mark.

    Args:
        query: the keypoints of one photo.
        other: those of the other.
        matches: (m, 2) index pairs, all that could agree.
        inliers: (k, 2) those that agree on a model, at least one.
    """
    sides = max(query.width, query.height), max(other.width, other.height)
    a, b = query.xy[inliers[:, 0]], other.xy[inliers[:, 1]]
    for growth in {1.0, sides[0] / sides[1]}:
        moved = b / sides[1] - a * (growth / sides[0])
        # If half of them have moved alike, the medians are about there.
        near = _length(moved - np.sort(moved, axis=0)[len(moved) // 2]) <= _ROUGHLY
        if near.mean() < 0.5:
            continue
        shift = moved[near].mean(axis=0)
        off = _length(moved - shift)
        if any((off <= error).mean() < share for share, error in _EXACT):
            continue
        if _by_place(a[off <= _CLOSE], moved[off <= _CLOSE]) > _BY_PLACE:
            continue
        areas = [
            covered(np.sort(points / (keypoints.width, keypoints.height), axis=0))
            for keypoints, points in ((query, a), (other, b))
        ]
        if max(areas) < _SMALL:
            return True
        # Of the same size in pixels only, it may be a cut-out, which at its own size looks unlike
        # the whole photo in many places.
        if max(areas) < _LARGE and growth == 1 and _elsewhere_differs(query, other, matches, shift):
            return True
    return False


def _by_place(places: Points, moved: Points) -> float:
    """Return the share of the variance of `moved` that is linear in `places`.

    A thing that is seen again a little turned, larger or from the side moves by its place; the
    errors of a mark do not depend on it.
    """
    here, rest = places - places.mean(axis=0), moved - moved.mean(axis=0)
    total = float((rest**2).sum())
    if total == 0 or len(here) < 4:
        return 0.0
    left = rest - here @ np.linalg.lstsq(here, rest, rcond=None)[0]
    # Two numbers fitted to n rows explain some of any error.
    return 1 - float((left**2).sum()) / total * (len(here) - 1) / (len(here) - 3)


def _elsewhere_differs(
    query: Keypoints, other: Keypoints, matches: NDArray[np.intp], shift: Points
) -> bool:
    """Whether of what both photos could show most does not move by `shift`."""
    ahead = query.xy / max(query.width, query.height) + shift
    there = other.xy / max(other.width, other.height)
    alike = _length(there[matches[:, 1]] - ahead[matches[:, 0]]) <= _CLOSE
    shown = max(_inside(ahead, other), _inside(there - shift, query))
    return bool(np.count_nonzero(alike) < _COPIED * shown)


def covered(places: Points) -> float:
    """Return the area in which points lie, all but a few: one by chance must not make it large.

    Args:
        places: (n, 2) in shares of a photo's width and height, each column in ascending order.
    """
    low, high = places[[len(places) // 10, -len(places) // 10]]
    return float(np.prod((high - low) / 0.8))


def _inside(places: Points, keypoints: Keypoints) -> int:
    """Count the places, in shares of the photo's longer side, that lie in the photo."""
    size = np.array([keypoints.width, keypoints.height]) / max(keypoints.width, keypoints.height)
    return int(np.count_nonzero(((places >= 0) & (places <= size)).all(axis=1)))


def _length(steps: Points) -> Points:
    lengths: Points = np.hypot(steps[:, 0], steps[:, 1])
    return lengths
