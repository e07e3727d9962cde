"""The codes of the regions of a photo, as they are stored behind its keypoints."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["pack", "packed_size", "unpack"]

_CHECKSUM_BYTES = 4


def packed_size(shape: tuple[int, int]) -> int:
    """Return the number of bytes that codes take.

    Args:
        shape: number of regions, bytes of a code.
    """
    return shape[0] * shape[1] + _CHECKSUM_BYTES


def pack(codes: NDArray[np.uint8]) -> bytes:
    """Return codes (r, b) with their checksum, a CRC-32."""
    data = codes.tobytes()
    return data + zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "little")


def unpack(data: bytes, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the codes (r, b) that `pack` packed.

    Args:
        data: the bytes.
        shape: r, b.

    Raises:
        ValueError: the bytes are cut off, or do not match their checksum.
    """
    if len(data) != packed_size(shape):
        raise ValueError("they are cut off")
    codes, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    if zlib.crc32(codes) != int.from_bytes(checksum, "little"):
        raise ValueError("they do not match their checksum")
    return np.frombuffer(codes, np.uint8).reshape(shape)
