"""Do two photos share nothing but an overlay: a logo, a banner, a watermark?

An overlay is the same picture on both photos. So all of it has moved alike, and it has kept its
size, in pixels or as a share of the photo. A thing that is photographed twice rarely moves like
this, because the camera turns and the distance changes. A copy of a photo does, but in a copy
nearly everything moves like this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.keypoints.features import Keypoints

    Points = NDArray[np.floating[Any]]

__all__ = ["covered_area", "only_an_overlay"]

# All lengths are shares of a photo's longer side. Extractors work at 640 pixels and are exact to
# one or two of them.
_MAX_SHIFT_ERROR = 6 / 640
"""The largest distance from the median shift of a match that belongs to the overlay."""

_REQUIRED_ACCURACY = ((0.3, 2 / 640), (0.5, 3 / 640))
"""(Share of the inliers, distance): so many inliers at least are this near to the mean shift."""

_MAX_COPY_ERROR = 8 / 640
"""The largest distance from the shift of a match in a photo and its copy."""

_MAX_LINEAR_SHARE = 0.2
"""The largest share of the variance of shifts that is linear in the positions. A larger share means
another view of a thing."""

_MIN_COPY_SHARE = 0.25
"""A copy has at least this share of all keypoints that both photos could show in common."""

_MAX_CUT_OUT_AREA = 0.25
"""Inliers that cover a larger share of a photo may be a blurred or darkened copy."""

_MAX_OVERLAY_AREA = 0.15
"""A copy covers more than this share of a photo, even if the photo shows little."""

_OUTLIER_SHARE = 10
"""One tenth of the points at each end is left out of a covered area."""


def only_an_overlay(
    query: Keypoints, other: Keypoints, matches: NDArray[np.intp], inliers: NDArray[np.intp]
) -> bool:
    """Return whether inliers agree only because both photos carry the same overlay.

    Args:
        query: the keypoints of one photo.
        other: the keypoints of the other photo.
        matches: (m, 2) index pairs, all that could agree.
        inliers: (k, 2) index pairs that agree on a model, at least one.
    """
    sides = max(query.width, query.height), max(other.width, other.height)
    a, b = query.xy[inliers[:, 0]], other.xy[inliers[:, 1]]
    # The overlay has kept its size either in pixels or as a share of the photo.
    for growth in {1.0, sides[0] / sides[1]}:
        moved = b / sides[1] - a * (growth / sides[0])
        # If half of the inliers have moved alike, the median is close to their shift.
        median = np.sort(moved, axis=0)[len(moved) // 2]
        alike = _lengths(moved - median) <= _MAX_SHIFT_ERROR
        if alike.mean() < 0.5:
            continue
        shift = moved[alike].mean(axis=0)
        errors = _lengths(moved - shift)
        if any((errors <= error).mean() < share for share, error in _REQUIRED_ACCURACY):
            continue
        near = errors <= _MAX_COPY_ERROR
        if _linear_share(a[near], moved[near]) > _MAX_LINEAR_SHARE:
            continue
        areas = [
            covered_area(np.sort(points / (keypoints.width, keypoints.height), axis=0))
            for keypoints, points in ((query, a), (other, b))
        ]
        if max(areas) < _MAX_OVERLAY_AREA:
            return True
        # Photos whose common part has the same size in pixels may be a photo and a cut-out. At its
        # own size a cut-out differs from the whole photo in many places.
        if (
            max(areas) < _MAX_CUT_OUT_AREA
            and growth == 1
            and _differs_elsewhere(query, other, matches, shift)
        ):
            return True
    return False


def covered_area(positions: Points) -> float:
    """Return the area in which points lie, without a few outliers.

    Args:
        positions: (n, 2) as shares of a photo's width and height, each column in ascending order.
    """
    cut = len(positions) // _OUTLIER_SHARE
    low, high = positions[[cut, -len(positions) // _OUTLIER_SHARE]]
    return float(np.prod((high - low) / 0.8))


def _linear_share(positions: Points, moved: Points) -> float:
    """Return the share of the variance of `moved` that is linear in `positions`.

    A thing that is seen a little turned, larger or from the side moves by its position. The errors
    of an overlay do not depend on the position.
    """
    centred, rest = positions - positions.mean(axis=0), moved - moved.mean(axis=0)
    total = float((rest**2).sum())
    if total == 0 or len(centred) < 4:
        return 0.0
    residual = rest - centred @ np.linalg.lstsq(centred, rest, rcond=None)[0]
    # Two numbers fitted to n rows explain a part of any error, which the degrees of freedom remove.
    return 1 - float((residual**2).sum()) / total * (len(centred) - 1) / (len(centred) - 3)


def _differs_elsewhere(
    query: Keypoints, other: Keypoints, matches: NDArray[np.intp], shift: Points
) -> bool:
    """Return whether most keypoints that both photos could show do not move by `shift`."""
    shifted = query.xy / max(query.width, query.height) + shift
    positions = other.xy / max(other.width, other.height)
    alike = _lengths(positions[matches[:, 1]] - shifted[matches[:, 0]]) <= _MAX_COPY_ERROR
    visible = max(_count_inside(shifted, other), _count_inside(positions - shift, query))
    return bool(np.count_nonzero(alike) < _MIN_COPY_SHARE * visible)


def _count_inside(positions: Points, keypoints: Keypoints) -> int:
    """Count the positions, as shares of the photo's longer side, that are within the photo."""
    size = np.array([keypoints.width, keypoints.height]) / max(keypoints.width, keypoints.height)
    return int(np.count_nonzero(((positions >= 0) & (positions <= size)).all(axis=1)))


def _lengths(vectors: Points) -> Points:
    lengths: Points = np.hypot(vectors[:, 0], vectors[:, 1])
    return lengths
