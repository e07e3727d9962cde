"""Two fingerprints of a photo: one of its bytes, one of what it looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["content_hash", "hamming", "perceptual_hash"]


def content_hash(data: bytes) -> bytes:
    """Return the BLAKE3 hash of `data`: 32 bytes, the same for the same bytes only."""
    return blake3(data).digest()


def perceptual_hash(pixels: NDArray[np.uint8]) -> int:
    """Return the 64-bit difference hash of an (H, W, 3) RGB photo, an integer in [0, 2^64).

    The recipe (Krawetz, "Kind of Like That", 2013): luma L = 0.299 R + 0.587 G + 0.114 B rounded
    to 8 bits; reduced to 9 columns by 8 rows, each the mean of its area; bit = 1 where a value is
    greater than its left neighbour; rows from the top, each from the left, the first bit the most
    significant. Sizes and qualities of one photo differ in a few bits (compare with `hamming`);
    crops, turns and other views differ in about half.
    """
    from PIL import Image

    grey = Image.fromarray(pixels).convert("L").resize((9, 8), Image.Resampling.BOX)
    values = np.asarray(grey)
    bits = np.packbits(values[:, 1:] > values[:, :-1])
    return int.from_bytes(bits.tobytes(), "big")


def hamming(a: int, b: int) -> int:
    """Return in how many of their bits (0 to 64) two perceptual hashes differ."""
    return (a ^ b).bit_count()
