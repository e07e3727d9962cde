"""From a photo to the size an extractor works at, and positions back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from veduta.photos import resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["full_size", "grey"]


def grey(pixels: NDArray[np.uint8], long_side: int) -> NDArray[np.uint8]:
    """Return an (H, W, 3) RGB photo as luma (h, w), its long side at most `long_side` pixels."""
    import cv2

    rows, columns = pixels.shape[:2]
    factor = min(1.0, long_side / max(rows, columns))
    small = resize(pixels, max(1, round(columns * factor)), max(1, round(rows * factor)))
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def full_size(
    xy: NDArray[np.floating[Any]], shape: tuple[int, ...], width: int, height: int
) -> NDArray[np.float32]:
    """Return positions (n, 2) in a picture of `shape` (rows, columns, ...) for the full size.

    Both count from the middle of the first pixel; the result lies within the photo.
    """
    small = np.array([shape[1], shape[0]], np.float64)
    large = np.array([width, height], np.float64)
    positions = (xy + 0.5) * (large / small) - 0.5
    return np.clip(positions, 0, large - 1).astype(np.float32)
