"""Descriptors of regions in one bit for each dimension, and their similarity to a query.

A descriptor is rotated, and the signs of its numbers are kept. The share of signs in which two
descriptors differ is an estimate of their angle (Charikar, "Similarity Estimation Techniques from
Rounding Algorithms", STOC 2002). The rotation spreads the few large numbers of a descriptor over
all dimensions; without it the signs are a poor estimate. It is two rounds of random signs and a
Hartley transform, which is orthogonal and fast for every dimension (after Ailon & Chazelle,
"Approximate Nearest Neighbors and the Fast Johnson-Lindenstrauss Transform", STOC 2006).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["code_bytes", "code_similarities", "codes_of"]

_SEED = 0
_ROUNDS = 2
_BLOCK_ROWS = 65_536


def code_bytes(dimension: int) -> int:
    """Return the length in bytes of the code of a descriptor of `dimension` numbers."""
    return (dimension + 7) // 8


def codes_of(descriptors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the codes of some descriptors.

    Args:
        descriptors: (n, D) of length one.

    Returns:
        (n, `code_bytes(D)`).
    """
    rotated = descriptors.astype(np.float64)
    for signs in _signs(descriptors.shape[1]):
        spectrum = np.fft.fft(rotated * signs)
        rotated = (spectrum.real - spectrum.imag) / np.sqrt(descriptors.shape[1])
    return np.packbits(rotated > 0, axis=1)


def code_similarities(
    query: NDArray[np.uint8], codes: NDArray[np.uint8], dimension: int
) -> NDArray[np.float32]:
    """Return an estimate of the cosine similarity of a query to some descriptors.

    Args:
        query: (b,) its code.
        codes: (n, b).
        dimension: D of the descriptors.

    Returns:
        (n,) in [-1, 1].
    """
    import numkong

    similarities = np.empty(len(codes), np.float32)
    for start in range(0, len(codes), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        block = np.ascontiguousarray(codes[rows])
        bits = np.asarray(numkong.cdist(query[None], block, metric="hamming", dtype="uint1"))[0]
        similarities[rows] = np.cos(np.pi * bits / dimension)
    return similarities


@cache
def _signs(dimension: int) -> NDArray[np.float64]:
    return np.random.default_rng(_SEED).choice([-1.0, 1.0], (_ROUNDS, dimension))
