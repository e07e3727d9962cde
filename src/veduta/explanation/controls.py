"""Maps that know nothing of the network: what a method must beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from veduta.explanation.perturbation import grid_shape

__all__ = ["centred_gaussian", "random_map", "sobel_edges"]

_GAUSSIAN_SHARE = 1 / 4
"""Standard deviation, as a share of the photo's height and width."""

_MAP_SIDE = 56
"""Longer side of a map."""

_RANDOM_CELLS = 12
"""Longer side of a random map: that of the default encoder's maps."""


def centred_gaussian(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a Gaussian around the middle of the photo, where photographers put their subject.

    Args:
        pixels: (h, w, 3) uint8 RGB.

    Returns:
        (H, W) float32 in (0, 1], 56 positions along the longer side at most.
    """
    rows, columns = grid_shape(pixels.shape, _MAP_SIDE)
    down, across = ((np.arange(size) + 0.5) / size - 0.5 for size in (rows, columns))
    squares = (down[:, None] ** 2 + across**2) / _GAUSSIAN_SHARE**2
    return np.exp(-squares / 2).astype(np.float32)


def sobel_edges(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the strength of the edges: the length of the gradient of the brightness.

    Args:
        pixels: (h, w, 3) uint8 RGB.

    Returns:
        (H, W) float32, 0 or more: means over cells, 56 along the longer side at most.
    """
    import cv2

    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    across = cv2.Sobel(grey, cv2.CV_32F, 1, 0)
    down = cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    rows, columns = grid_shape(grey.shape, _MAP_SIDE)
    strength = cv2.resize(np.hypot(across, down), (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(strength, dtype=np.float32)


def random_map(pixels: NDArray[np.uint8], seed: int = 0) -> NDArray[np.float32]:
    """Return random numbers.

    Args:
        pixels: (h, w, 3) uint8 RGB.
        seed: the same seed gives the same map.

    Returns:
        (H, W) float32, uniform in [0, 1), 12 positions along the longer side at most.
    """
    shape = grid_shape(pixels.shape, _RANDOM_CELLS)
    return np.random.default_rng(seed).random(shape).astype(np.float32)
