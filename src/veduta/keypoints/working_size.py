"""From a photo to the size at which an extractor works, and from its positions to the full size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from veduta.photos import resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["grey_photo", "lengths_at_full_size", "to_full_size"]


def grey_photo(pixels: NDArray[np.uint8], long_side: int) -> NDArray[np.uint8]:
    """Return the luma of a photo at the size at which an extractor works.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        long_side: the largest long side of the result in pixels. A smaller photo keeps its size.

    Returns:
        (h, w) uint8.
    """
    import cv2

    rows, columns = pixels.shape[:2]
    factor = min(1.0, long_side / max(rows, columns))
    small = resize(pixels, max(1, round(columns * factor)), max(1, round(rows * factor)))
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def to_full_size(
    xy: NDArray[np.floating[Any]], shape: tuple[int, ...], width: int, height: int
) -> NDArray[np.float32]:
    """Return positions in a reduced photo as positions in the photo at its full size.

    Both are counted from the middle of the first pixel.

    Args:
        xy: (n, 2) positions in the reduced photo, in pixels.
        shape: (rows, columns, ...) of the reduced photo.
        width: of the photo at its full size, in pixels.
        height: of the photo at its full size, in pixels.

    Returns:
        (n, 2) float32 within the photo.
    """
    reduced = np.array([shape[1], shape[0]], np.float64)
    full = np.array([width, height], np.float64)
    positions = (xy + 0.5) * (full / reduced) - 0.5
    return np.clip(positions, 0, full - 1).astype(np.float32)


def lengths_at_full_size(
    lengths: NDArray[np.floating[Any]], shape: tuple[int, ...], width: int, height: int
) -> NDArray[np.float32]:
    """Return lengths in a reduced photo as lengths in the photo at its full size.

    Args:
        lengths: (n,) in pixels of the reduced photo.
        shape: (rows, columns, ...) of the reduced photo.
        width: of the photo at its full size, in pixels.
        height: of the photo at its full size, in pixels.

    Returns:
        (n,) float32.
    """
    return np.asarray(lengths * (max(width, height) / max(shape[:2])), np.float32)
