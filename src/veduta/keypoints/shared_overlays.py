"""Do two photos share nothing but an overlay: a logo, a banner, a watermark, a stamp?

An overlay is the same picture on both photos. So all of it has moved alike, and it has kept its
size, in pixels or as a share of the photo. A thing that is photographed twice rarely moves like
this, because the camera turns and the distance changes. A copy of a photo does, but in a copy
nearly everything moves like this.

The stamp of a photo agency has several parts, such as a logo in the middle and letters near the
corners. It is scaled with the photo, and each part keeps its place relative to the middle, a corner
or an edge. Where two photos have different shapes, the parts do not move alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.keypoints.features import Keypoints

    Points = NDArray[np.floating[Any]]

__all__ = ["covered_area", "only_an_overlay", "stamped_matches"]

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

_MAX_STAMP_ERROR = 2.5 / 640
"""The largest distance from its place of a match that belongs to a stamp, in the photo that shows
the stamp with fewer pixels."""

_MIN_STAMP_MATCHES = 5

_MIN_STAMP_MATCH_SHARE = 0.3
"""The smallest share of all matches. Fewer do not decide, and two photos that a robot takes at
almost the same place have some such matches by chance."""

_PART_RADIUS = 0.06
_PART_MATCHES = 4
"""A match belongs to a part of a stamp if so many matches, with itself, are within the radius."""

_MIN_SHARE_IN_PARTS = 0.75
"""The smallest share of the matches of a stamp that belong to its parts. Two photos of a fixed
camera keep their places as a stamp does, but their matches are spread over the photo."""

_MAX_STAMP_SHARE = 0.1
"""The largest share of a photo's keypoints that match within a stamp. A copy has more."""

_STAMP_GRID_CELLS = 32
_MAX_STAMP_CELLS = 0.05
"""The largest share of the cells of a 32 × 32 grid in which a stamp has matches."""


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


def stamped_matches(
    query: Keypoints, other: Keypoints, matches: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Return which matches are those of a stamp on both photos.

    Args:
        query: the keypoints of one photo.
        other: the keypoints of the other photo.
        matches: (m, 2) index pairs.

    Returns:
        (m,) bool. All are False if the matches that keep their places are no stamp: too few, too
        many, or spread over the photo.
    """
    none = np.zeros(len(matches), bool)
    if len(matches) < _MIN_STAMP_MATCHES:
        return none
    kept = _keep_their_places(query, other, matches)
    count = np.count_nonzero(kept)
    least = max(_MIN_STAMP_MATCHES, _MIN_STAMP_MATCH_SHARE * len(matches))
    if not least <= count <= _MAX_STAMP_SHARE * max(len(query), len(other)):
        return none
    positions = query.xy[matches[kept, 0]] / max(query.width, query.height)
    distances = _lengths((positions[:, None] - positions[None]).reshape(-1, 2))
    near = (distances <= _PART_RADIUS).reshape(count, count).sum(axis=1)
    if (near >= _PART_MATCHES).mean() < _MIN_SHARE_IN_PARTS:
        return none
    cells = np.unique((positions * _STAMP_GRID_CELLS).astype(np.intp), axis=0)
    if len(cells) > _MAX_STAMP_CELLS * _STAMP_GRID_CELLS**2:
        return none
    return kept


def _keep_their_places(
    query: Keypoints, other: Keypoints, matches: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Return which matches keep their places under the one growth for which most do, (m,) bool."""
    sizes = [np.array([photo.width, photo.height], float) for photo in (query, other)]
    a = query.xy[matches[:, 0]].astype(float)
    b = other.xy[matches[:, 1]].astype(float)
    distinct = {
        1.0,
        *(sizes[1] / sizes[0]).tolist(),
        sizes[1].max() / sizes[0].max(),
        sizes[1].min() / sizes[0].min(),
    }
    growths = np.array(sorted(distinct))[:, None, None]
    moved = b - growths * a
    added = sizes[1] - 1 - growths * (sizes[0] - 1)
    # The left or upper edge, the middle, the other edge, or a place at this share of the photo.
    errors = np.abs(moved)
    for share in (0.5, 1.0, a / sizes[0]):
        np.minimum(errors, np.abs(moved - share * added), out=errors)
    pixels = np.maximum(sizes[1].max(), growths[:, :, 0] * sizes[0].max())
    kept: NDArray[np.bool_] = np.hypot(*np.moveaxis(errors, 2, 0)) <= _MAX_STAMP_ERROR * pixels
    best: NDArray[np.bool_] = kept[kept.sum(axis=1).argmax()]
    return best


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
