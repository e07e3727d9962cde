"""JPEG: its header, the scale at which it is decoded, and the decoders.

libjpeg-turbo (package simplejpeg) decodes most files: Huffman-coded 8-bit grey or colour without an
error. For a 12-megapixel photo it takes 48 ms where Pillow takes 153 (the whole picture), and 29
where Pillow takes 32 (an eighth). Other threads run meanwhile. Pillow decodes everything else (four
colours, anything that libjpeg warns about), and its verdict is final: it inverts Adobe's CMYK,
accepts harmless oddities and refuses what is cut short.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray
    from PIL.JpegImagePlugin import JpegImageFile

__all__ = [
    "Header",
    "check_scans",
    "decode_fast",
    "load_with_pillow",
    "min_scaled_size",
    "read_header",
]

MIN_REDUCTION = 2
"""A JPEG is decoded whole, or its sides are divided by this factor at least.

libjpeg could also decode at 5/8 to 7/8 of the size. These scales take longer than the whole picture
and look worse."""

MAX_SCANS = 500
"""Cameras and encoders write about ten. Each scan costs a pass over the whole picture, so a small
file with thousands of them would take hours. libjpeg-turbo's own tools have the same limit."""

_START_OF_FRAME = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xD8)})
_START_OF_SCAN, _APP1 = 0xDA, 0xE1


@dataclass(frozen=True, slots=True)
class Header:
    r"""What the segments up to the first scan say.

    Attributes:
        width: of the pixels as stored.
        height: of the pixels as stored.
        bits: of one channel.
        channels: their number.
        several_scans: whether the decoder will continue after the first scan.
        exif: the Exif block with its "Exif\0\0"; empty if there is none.
    """

    width: int
    height: int
    bits: int
    channels: int
    several_scans: bool
    exif: bytes


def read_header(data: bytes) -> Header:
    """Read the segments up to the first scan.

    Args:
        data: the content of the file.

    Raises:
        ValueError: there is no scan, or a side is 0.
    """
    exif = frame = b""
    progressive = False
    for marker, body in _segments(data):
        if marker in _START_OF_FRAME and not frame:
            frame = body
            progressive = marker in _PROGRESSIVE
        elif marker == _APP1 and not exif and body.startswith(b"Exif\0\0"):
            exif = body
        elif marker == _START_OF_SCAN and len(frame) >= 6 and body:
            bits, height, width, channels = struct.unpack(">BHHB", frame[:6])
            if width == 0 or height == 0:
                raise ValueError(f"{width} × {height} pixels")
            return Header(width, height, bits, channels, progressive or body[0] < channels, exif)
    raise ValueError("the file ends before the picture begins")


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (marker, body), and skip stray bytes between segments as libjpeg does."""
    start = 2
    while (start := data.find(b"\xff", start)) >= 0 and start + 4 <= len(data):
        marker = data[start + 1]
        if marker == 0xFF:  # A fill byte.
            start += 1
        elif marker in _WITHOUT_LENGTH:
            start += 2
        else:
            end = start + 2 + max(2, int.from_bytes(data[start + 2 : start + 4], "big"))
            yield marker, data[start + 4 : end]
            start = end


def check_scans(data: bytes) -> None:
    """Refuse a JPEG with more than `MAX_SCANS` scans.

    Args:
        data: the content of the file.

    Raises:
        ValueError: it has more.
    """
    scans = data.count(b"\xff\xda")
    if scans > MAX_SCANS:
        raise ValueError(f"{scans} scans, more than the cap of {MAX_SCANS}")


def min_scaled_size(header: Header, at_least: int | None) -> tuple[int, int] | None:
    """Return the least size at which a JPEG is decoded scaled down: this is the scale rule.

    libjpeg can decode at 1/8, 1/4, 3/8 and 1/2 of the size (see `MIN_REDUCTION`). The smallest of
    these scales is used at which the long side has at least `at_least` pixels. If there is none,
    the picture is decoded whole.

    Args:
        header: of the JPEG.
        at_least: wanted pixels of the long side, >= 1; None for the whole picture.

    Returns:
        Least (width, height) of the decoded picture. The short side has no limit (0). None: the
        picture is to be decoded whole.
    """
    half_long_side = -(-max(header.width, header.height) // MIN_REDUCTION)
    if at_least is None or at_least > half_long_side:
        return None
    return (at_least, 0) if header.width >= header.height else (0, at_least)


def decode_fast(data: bytes, header: Header, at_least: int | None) -> NDArray[np.uint8] | None:
    """Decode a JPEG with libjpeg-turbo.

    Args:
        data: the content of the file.
        header: of the file.
        at_least: pixels of the long side, see `min_scaled_size`.

    Returns:
        (H, W, 3) RGB as stored. None: Pillow must decode it.
    """
    import simplejpeg

    if header.channels not in (1, 3) or header.bits != 8:
        return None
    limits = min_scaled_size(header, at_least)
    min_width, min_height = limits or (0, 0)
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data,
            "RGB",
            min_width=min_width,
            min_height=min_height,
            min_factor=MIN_REDUCTION if limits else 1,
        )
    except ValueError:
        return None  # libjpeg warned or failed. Pillow says which, and why.
    return pixels


def load_with_pillow(data: bytes, header: Header, at_least: int | None) -> JpegImageFile:
    """Decode a JPEG with Pillow, which scales by 1/8, 1/4 or 1/2.

    Args:
        data: the content of the file.
        header: of the file.
        at_least: pixels of the long side; None for the whole picture.

    Returns:
        The image, with its pixels.

    Raises:
        Exception: anything that Pillow raises on bytes that do not decode.
    """
    from PIL.JpegImagePlugin import JpegImageFile

    image = JpegImageFile(io.BytesIO(data))
    if at_least:
        # `draft` keeps both sides at least as large as asked. The limit of the short side is 1, so
        # that only the long side counts.
        wide = header.width >= header.height
        image.draft(None, (at_least, 1) if wide else (1, at_least))
    image.load()
    return image
