"""JPEG 2000: how far it can be decoded smaller (ISO/IEC 15444-1, annex A)."""

from __future__ import annotations

__all__ = ["halvings", "max_halvings"]

_CODING_STYLE = b"\xff\x52"
_STREAM = b"\xff\x4f\xff\x51"


def max_halvings(data: bytes) -> int:
    """Return how often the sides can be halved: the number of wavelet decompositions.

    Args:
        data: the content of the file.
    """
    stream = data.find(_STREAM)
    if stream < 0:
        return 0
    start = stream + 2
    while data[start : start + 1] == b"\xff" and start + 10 <= len(data):
        if data[start : start + 2] == _CODING_STYLE:
            return min(data[start + 9], 32)
        start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    return 0


def halvings(width: int, height: int, most: int) -> int:
    """Return how often Pillow can halve the sides of a picture, at most `most` times.

    JPEG 2000 rounds up the sides of a smaller picture. Pillow rounds them to the nearest whole
    number and refuses the picture if that is another one.

    Args:
        width: in pixels.
        height: in pixels.
        most: 0 or more.
    """
    return next(
        count
        for count in range(most, -1, -1)
        if all((side + (1 << count >> 1)) >> count == -(-side >> count) for side in (width, height))
    )
