"""How many bits of a number are set, for many numbers at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["bit_counts", "portable_bit_counts"]


def portable_bit_counts(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return how many bits of each word are set (Warren, "Hacker's Delight", 5-1)."""
    pairs = words - (words >> np.uint64(1) & np.uint64(0x5555555555555555))
    low = np.uint64(0x3333333333333333)
    fours = (pairs & low) + (pairs >> np.uint64(2) & low)
    eights = fours + (fours >> np.uint64(4)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    sums: NDArray[np.uint64] = eights * np.uint64(0x0101010101010101) >> np.uint64(56)
    return sums


# numpy has its own, faster function from version 2 on.
bit_counts = getattr(np, "bitwise_count", portable_bit_counts)
