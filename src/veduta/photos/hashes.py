"""Two fingerprints of a photo: one of its bytes, and one of its look."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["content_hash", "hamming", "perceptual_hash"]


def content_hash(data: bytes) -> bytes:
    """Return the BLAKE3 hash of `data`, 32 bytes. Only the same bytes have the same hash."""
    return blake3(data).digest()


def perceptual_hash(pixels: NDArray[np.uint8]) -> int:
    """Return the 64-bit difference hash of a photo (Krawetz, "Kind of Like That", 2013).

    Luma L = 0.299 R + 0.587 G + 0.114 B is rounded to 8 bits and reduced to 9 columns by 8 rows,
    each the mean of its area. A bit is 1 if a value is greater than its left neighbour. The rows go
    from the top, each from the left; the first bit is the most significant. Sizes and qualities of
    one photo differ in a few bits (compare with `hamming`). Crops, turns and other views differ in
    about half.

    Args:
        pixels: (H, W, 3) uint8 RGB.

    Returns:
        An integer in [0, 2^64).
    """
    from PIL import Image

    grey = Image.fromarray(pixels).convert("L").resize((9, 8), Image.Resampling.BOX)
    values = np.asarray(grey)
    bits = np.packbits(values[:, 1:] > values[:, :-1])
    return int.from_bytes(bits.tobytes(), "big")


def hamming(a: int, b: int) -> int:
    """Return the number of bits (0 to 64) in which two perceptual hashes differ."""
    return (a ^ b).bit_count()
