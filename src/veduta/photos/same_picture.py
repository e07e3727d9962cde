"""Whether two photos are one picture, saved again in another size, quality or format.

They are if their perceptual hashes differ in at most `MAX_SAME_BITS` of 64 bits and their luma on a
grid of 16 × 16 correlates by at least `MIN_CORRELATION`. The hashes find the candidates. The
correlation tells a copy from two drawings on white paper, whose hashes are alike. Crops, rotated
and mirrored photos are not found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from veduta.errors import PhotoError
from veduta.photos.decode import decode
from veduta.photos.resizing import resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "GRID_CELLS",
    "MAX_SAME_BITS",
    "MIN_CONTRAST",
    "MIN_CORRELATION",
    "luma_correlation",
    "luma_grid",
    "thumbnail_grid",
]

MAX_SAME_BITS = 5
MIN_CORRELATION = 0.98
MIN_CONTRAST = 2.0
"""Standard deviation of the luma, of 255. A picture with less contrast has nothing to compare."""

_GRID_SIDE = 16
GRID_CELLS = _GRID_SIDE**2
_LUMA = (0.299, 0.587, 0.114)


def luma_grid(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the luma of a photo on a grid of 16 × 16.

    Args:
        pixels: (H, W, 3) uint8 RGB.

    Returns:
        (256,) uint8, row by row.
    """
    small = resize(pixels, _GRID_SIDE, _GRID_SIDE).astype(np.float32)
    return np.rint(small @ np.array(_LUMA, np.float32)).astype(np.uint8).reshape(-1)


def thumbnail_grid(jpeg: bytes) -> NDArray[np.uint8] | None:
    """Return the luma of a stored thumbnail on a grid of 16 × 16.

    Args:
        jpeg: the thumbnail. It is empty if its row is gone since.

    Returns:
        (256,) uint8; None without a thumbnail or without contrast.
    """
    try:
        grid = luma_grid(decode(jpeg, path="thumbnail").pixels)
    except PhotoError:
        return None
    return grid if grid.std() >= MIN_CONTRAST else None


def luma_correlation(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (M,) correlations of (M, 256) with (M, 256) luma; 0 where one has no contrast.

    Args:
        first: grids of M photos.
        second: grids of M other photos.
    """
    a, b = first.astype(np.float32), second.astype(np.float32)
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    product = np.einsum("ij,ij->i", a, b)
    correlation: NDArray[np.float32] = np.divide(
        product, length, out=np.zeros_like(product), where=length > 0
    )
    return correlation
