"""How far the details of two aligned photos lie apart: a copy has each one at the same place.

Programs that save, cut, turn or recolour a photo move all of its details by one affine map. Another
exposure has no such map: the camera has moved a little or sees through another lens, and shadows,
leaves and people have moved. The shift of each window is estimated by least squares on its slopes
(B. Lucas, T. Kanade, An iterative image registration technique, IJCAI 1981), after the contrast of
the two windows was made equal.

Other colours and paint make two windows differ too, and least squares finds some shift for any
difference. But such a shift explains nearly nothing of the difference. So each shift is multiplied
by the correlation of the difference that it makes with the difference that is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["displacement"]

_WINDOW_PIXELS = 8.0
# A window with slopes in one direction only, such as an edge, can be shifted along it.
_MIN_CORNER_SHARE = 0.05
# Sum of the mean squared slopes across and down. Smaller slopes are grain.
_MIN_SQUARED_SLOPE = 4.0
# Fewer pixels say nothing.
_MIN_PIXELS = 50
_SHARE = 0.75


def displacement(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    inside: NDArray[np.float32],
    alike: NDArray[np.bool_],
) -> float | None:
    """Return how far the details of two photos lie apart, in pixels: the upper quartile.

    The distance of each window counts as far as it explains how the windows differ.

    Args:
        first: (h, w) luma, a little blurred.
        second: (h, w) luma of another photo, aligned with the first.
        inside: (h, w) 1 where both photos are, and 0 elsewhere.
        alike: (h, w) where the windows around the pixels have contrast and correlate.

    Returns:
        At least 0; None if there are too few windows to tell.
    """
    import cv2

    weight = cv2.GaussianBlur(inside, (0, 0), _WINDOW_PIXELS) + np.float32(1e-6)

    def window_mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        mean: NDArray[np.float32] = cv2.GaussianBlur(values * inside, (0, 0), _WINDOW_PIXELS)
        mean /= weight
        return mean

    a, b = first.astype(np.float32), second.astype(np.float32)
    mean_a, mean_b = window_mean(a), window_mean(b)
    variance = np.maximum(window_mean(b * b) - mean_b**2, np.float32(1e-3))
    gain = (window_mean(a * b) - mean_a * mean_b) / variance
    difference = a - mean_a - gain * (b - mean_b)
    across = gain * cv2.Scharr(b, cv2.CV_32F, 1, 0, scale=1 / 32)
    down = gain * cv2.Scharr(b, cv2.CV_32F, 0, 1, scale=1 / 32)
    squared_across, squared_down = window_mean(across * across), window_mean(down * down)
    product = window_mean(across * down)
    squared = squared_across + squared_down
    determinant = squared_across * squared_down - product**2
    told = (
        alike
        & (inside > 0)
        & (squared > _MIN_SQUARED_SLOPE)
        & (determinant > _MIN_CORNER_SHARE * squared**2)
    )
    if np.count_nonzero(told) < _MIN_PIXELS:
        return None
    shifted_across = window_mean(across * difference)[told]
    shifted_down = window_mean(down * difference)[told]
    x = squared_down[told] * shifted_across - product[told] * shifted_down
    y = squared_across[told] * shifted_down - product[told] * shifted_across
    x, y = x / determinant[told], y / determinant[told]
    squared_difference = np.maximum(window_mean(difference * difference)[told], np.float32(1e-6))
    explained = np.clip((shifted_across * x + shifted_down * y) / squared_difference, 0, 1)
    return float(np.quantile(np.hypot(x, y) * np.sqrt(explained), _SHARE))
