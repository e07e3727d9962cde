"""Where two verified photos show the same: the region around their inliers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.keypoints.features import Keypoints
    from veduta.keypoints.verification import Verification

__all__ = ["overlap"]

_MARGIN = 0.02  # of the longer side: a keypoint describes its surroundings too


def overlap(
    query: Keypoints, other: Keypoints, found: Verification
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Return the region that both photos show, as a convex polygon in each.

    It is the convex hull of the inliers, grown by 2 % of the photo's longer side and cut at the
    photo's edges: what the matches vouch for. The photos may share more.

    Args:
        query: the keypoints that were verified.
        other: those of the other photo.
        found: what `verify` said of them.

    Returns:
        Two arrays (p, 2) float32 of corners in order, in pixels of the query and of the other
        photo; None if the photos are not verified.
    """
    if found.model is None:
        return None
    return _region(query, found.inliers[:, 0]), _region(other, found.inliers[:, 1])


def _region(keypoints: Keypoints, chosen: NDArray[np.intp]) -> NDArray[np.float32]:
    import cv2

    margin = _MARGIN * max(keypoints.width, keypoints.height)
    # The hull of the circles around the inliers, each circle as a polygon of 16 corners.
    angles = np.arange(16) * (np.pi / 8)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1) * margin
    points = (keypoints.xy[chosen][:, None] + circle).reshape(-1, 2).astype(np.float32)
    corners = cv2.convexHull(points)[:, 0].astype(np.float64)
    return _clip(corners, keypoints.width - 1, keypoints.height - 1).astype(np.float32)


def _clip(corners: NDArray[np.float64], right: float, bottom: float) -> NDArray[np.float64]:
    """Cut a polygon at a frame: I. Sutherland and G. Hodgman, Reentrant polygon clipping, 1974."""
    for axis, limit, sign in ((0, 0.0, 1), (0, right, -1), (1, 0.0, 1), (1, bottom, -1)):
        inside = sign * (corners[:, axis] - limit) >= 0
        cut: list[NDArray[np.float64]] = []
        for here, after, kept, stays in zip(
            corners, np.roll(corners, -1, axis=0), inside, np.roll(inside, -1), strict=True
        ):
            if kept:
                cut.append(here)
            if kept != stays:
                share = (limit - here[axis]) / (after[axis] - here[axis])
                cut.append(here + share * (after - here))
        corners = np.array(cut)
    return corners
