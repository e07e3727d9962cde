"""Which region two verified photos both show: the surroundings of their inliers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.keypoints.features import Keypoints
    from veduta.keypoints.verification import Verification

__all__ = ["overlap"]

_MARGIN_SHARE = 0.02
"""The margin around an inlier, as a share of the longer side. A keypoint describes its surroundings
too."""

_CIRCLE_CORNERS = 16


def overlap(
    query: Keypoints, other: Keypoints, verification: Verification
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Return the region that both photos show, as a convex polygon in each.

    It is the convex hull of the inliers, enlarged by 2 % of the photo's longer side and cut at the
    photo's edges. The photos may share more than this region.

    Args:
        query: the keypoints of the query.
        other: the keypoints of the other photo.
        verification: the result of `verify` for the two photos.

    Returns:
        Two arrays (p, 2) float32 of corners in order, in pixels of the query and of the other
        photo. None if the photos are not verified.
    """
    if verification.model is None:
        return None
    inliers = verification.inliers
    return _region(query, inliers[:, 0]), _region(other, inliers[:, 1])


def _region(keypoints: Keypoints, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    import cv2

    margin = _MARGIN_SHARE * max(keypoints.width, keypoints.height)
    # The convex hull of circles around the inliers.
    angles = np.arange(_CIRCLE_CORNERS) * (2 * np.pi / _CIRCLE_CORNERS)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1) * margin
    points = (keypoints.xy[rows][:, None] + circle).reshape(-1, 2).astype(np.float32)
    corners = cv2.convexHull(points)[:, 0].astype(np.float64).tolist()
    return np.array(_clip(corners, keypoints.width - 1, keypoints.height - 1), np.float32)


def _clip(corners: list[list[float]], right: float, bottom: float) -> list[list[float]]:
    """Cut a polygon at a frame: I. Sutherland and G. Hodgman, Reentrant polygon clipping, 1974.

    Plain numbers are several times as fast as arrays of two numbers.
    """
    for axis, limit, sign in ((0, 0.0, 1), (0, right, -1), (1, 0.0, 1), (1, bottom, -1)):
        clipped = []
        for corner, following in zip(corners, corners[1:] + corners[:1], strict=True):
            inside = sign * (corner[axis] - limit) >= 0
            if inside:
                clipped.append(corner)
            if inside != (sign * (following[axis] - limit) >= 0):
                share = (limit - corner[axis]) / (following[axis] - corner[axis])
                pairs = zip(corner, following, strict=True)
                clipped.append([here + share * (there - here) for here, there in pairs])
        corners = clipped
    return corners
