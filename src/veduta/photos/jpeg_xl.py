"""JPEG XL: its header, and its decoder.

libjxl (package imagecodecs) decodes. It belongs to the extra `veduta[formats]`. The header is read
here first, to know what decoding will cost (ISO/IEC 18181-1, annex D).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from veduta.errors import UnsupportedFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["BYTES_PER_PIXEL", "Header", "decode", "read_header"]

BYTES_PER_PIXEL = 16
"""What libjxl takes at most, with the result. 3 to 6 were measured, more are needed for tricks."""

MAX_EXTRA_CHANNELS = 4

_SIZE_BITS = (9, 13, 18, 30)
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_HEADER_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Header:
    """What the header says.

    Attributes:
        width: of the upright picture, in pixels.
        height: of the upright picture, in pixels.
        extra_channels: number of channels beside the colours.
        exif: the Exif block; empty if there is none, or if it is packed.
    """

    width: int
    height: int
    extra_channels: int
    exif: bytes


class _Bits:
    """Reads numbers from the lowest bit of each byte upwards."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise ValueError("the header is cut short")
        number = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return number

    def choose(self, *choices: tuple[int, int]) -> int:
        """Read a number whose first two bits choose a base and a number of further bits."""
        base, bits = choices[self.take(2)]
        return base + self.take(bits)


def read_header(data: bytes) -> Header:
    """Read the header.

    Args:
        data: the content of the file: a bare stream, or one in boxes.

    Raises:
        ValueError: it does not parse.
    """
    exif, stream = b"", b""
    if data.startswith(b"\xff\x0a"):
        stream = data[:_HEADER_BYTES]
    else:
        for kind, body in _boxes(data):
            if kind == b"Exif" and not exif:
                exif = bytes(body[4:])
            elif kind in (b"jxlc", b"jxlp"):
                stream += body[4 if kind == b"jxlp" else 0 :][:_HEADER_BYTES]
                if len(stream) >= _HEADER_BYTES:
                    break
    if not stream.startswith(b"\xff\x0a"):
        raise ValueError("no picture")
    bits = _Bits(stream[2:])
    width, height = _size(bits)
    orientation, extra_channels = _metadata(bits)
    if orientation >= 5:
        width, height = height, width
    return Header(width, height, extra_channels, exif)


def decode(data: bytes, name: str) -> Image.Image:
    """Decode the first frame, upright.

    Args:
        data: the content of the file.
        name: of the photo, for messages.

    Returns:
        An image of mode L, LA, RGB, RGBA or I;16.

    Raises:
        UnsupportedFormat: the extra is not installed, or the layout is not known.
        Exception: anything that libjxl raises on bytes that do not decode.
    """
    from PIL import Image

    try:
        from imagecodecs import jpegxl_decode
    except ImportError as error:
        raise UnsupportedFormat(
            name, "a JPEG XL image, which is read after: pip install 'veduta[formats]'"
        ) from error
    values = jpegxl_decode(data, index=0, numthreads=1)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim == 2 and values.dtype == np.uint16:
        return Image.fromarray(values)
    if values.ndim != 2 and not (values.ndim == 3 and 2 <= values.shape[2] <= 4):
        raise UnsupportedFormat(name, "a JPEG XL image of an unknown layout: save it as JPEG")
    return Image.fromarray(_eight_bits(values))


def _eight_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    greatest = 65535 if values.dtype == np.uint16 else 1
    finite = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=greatest, neginf=0.0)
    scaled: NDArray[np.uint8] = np.rint(np.clip(finite * (255 / greatest), 0, 255)).astype(np.uint8)
    return scaled


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    view = memoryview(data)
    start = 0
    while start + 8 <= len(view):
        size, content = int.from_bytes(view[start : start + 4], "big"), start + 8
        if size == 1:  # The size is in the 64 bits after the type.
            size, content = int.from_bytes(view[start + 8 : start + 16], "big"), start + 16
        end = len(view) if size == 0 else start + size
        if end < content:
            raise ValueError("a box of an impossible size")
        kind = bytes(view[start + 4 : start + 8])
        limit = len(view) if kind == b"Exif" else content + _HEADER_BYTES + 4
        yield kind, bytes(view[content : min(end, limit)])
        start = end


def _size(bits: _Bits) -> tuple[int, int]:
    choices = tuple((1, count) for count in _SIZE_BITS)

    def side(small: int) -> int:
        return 8 * (1 + bits.take(5)) if small else bits.choose(*choices)

    small = bits.take(1)
    height = side(small)
    ratio = bits.take(3)
    if ratio == 0:
        return side(small), height
    across, down = _RATIOS[ratio - 1]
    return height * across // down, height


def _metadata(bits: _Bits) -> tuple[int, int]:
    """Return the orientation, as in Exif, and the number of extra channels."""
    if bits.take(1):  # Everything is as usual.
        return 1, 0
    orientation = 1
    if bits.take(1):
        orientation = 1 + bits.take(3)
        if bits.take(1):
            _size(bits)  # How large it is to be shown.
        if bits.take(1):
            _skip_preview(bits)
        if bits.take(1):
            _skip_animation(bits)
    if bits.take(1):  # Floating values.
        bits.choose((32, 0), (16, 0), (24, 0), (1, 6))
        bits.take(4)
    else:
        bits.choose((8, 0), (10, 0), (12, 0), (1, 6))
    bits.take(1)
    return orientation, bits.choose((0, 0), (1, 0), (2, 4), (1, 12))


def _skip_preview(bits: _Bits) -> None:
    in_eighths = bits.take(1)
    choices = (
        ((16, 0), (32, 0), (1, 5), (33, 9))
        if in_eighths
        else ((1, 6), (65, 8), (321, 10), (1345, 12))
    )
    bits.choose(*choices)
    if bits.take(3) == 0:
        bits.choose(*choices)


def _skip_animation(bits: _Bits) -> None:
    bits.choose((100, 0), (1000, 0), (1, 10), (1, 30))
    bits.choose((1, 0), (1001, 0), (1, 8), (1, 10))
    bits.choose((0, 0), (0, 3), (0, 16), (0, 32))
    bits.take(1)
