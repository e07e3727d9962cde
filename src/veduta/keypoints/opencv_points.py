"""The scales and directions of keypoints that OpenCV found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from veduta.keypoints.features import Keypoints
from veduta.keypoints.working_size import lengths_at_full_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["no_oriented_keypoints", "scales_and_directions"]


def scales_and_directions(
    points: Sequence[Any],
    order: NDArray[np.intp],
    shape: tuple[int, ...],
    width: int,
    height: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the diameters and the directions of some of the points, as in `Keypoints`.

    Args:
        points: `cv2.KeyPoint`, found in the reduced photo.
        order: (n,) which of them, in this order.
        shape: (rows, columns, ...) of the reduced photo.
        width: of the photo at its full size, in pixels.
        height: of the photo at its full size, in pixels.

    Returns:
        (n,) float32 pixels of the photo at its full size, and (n,) float32 degrees in [0, 360).
    """
    diameters = np.array([point.size for point in points])[order]
    directions = np.array([point.angle for point in points], np.float32)[order] % 360
    return lengths_at_full_size(diameters, shape, width, height), directions


def no_oriented_keypoints(no_rows: NDArray[Any], width: int, height: int) -> Keypoints:
    """Return no keypoints, of a kind that has scales and directions.

    Args:
        no_rows: (0, d) descriptors.
        width: of the upright photo, in pixels.
        height: of the upright photo, in pixels.
    """
    nothing = np.empty(0, np.float32)
    return Keypoints(np.empty((0, 2), np.float32), no_rows, width, height, nothing, nothing)
