"""JPEG: its header, and the decoders.

libjpeg-turbo (package simplejpeg) decodes what is plain: Huffman-coded 8-bit grey or colour
without an error. On a 12-megapixel photo it takes 48 ms where Pillow takes 153 (the whole picture),
29 where Pillow takes 32 (an eighth); it lets other threads run. Everything else (four colours,
anything libjpeg warns about) goes to Pillow, whose verdict is final: it inverts Adobe's CMYK,
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

__all__ = ["Header", "check_scans", "decode_fast", "open_with_pillow", "read_header"]

MOST_SCANS = 500
"""Cameras and encoders write about ten. Each scan costs a pass over the whole picture, so that a
small file with thousands would take hours (the limit is that of libjpeg-turbo's own tools)."""

_START_OF_FRAME = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xD8)})
_START_OF_SCAN, _APP1 = 0xDA, 0xE1


@dataclass(frozen=True, slots=True)
class Header:
    """What the segments up to the first scan say."""

    width: int
    """Of the pixels as stored."""
    height: int
    bits: int
    """Bits of one channel."""
    channels: int
    several_scans: bool
    """Whether the decoder will go on after the first scan."""
    exif: bytes
    """The Exif block, with its "Exif\\0\\0"; empty if there is none."""


def read_header(data: bytes) -> Header:
    """Walk the segments up to the first scan. Raises ValueError where there is none."""
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
    """Yield (marker, body), skipping stray bytes between segments as libjpeg does."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0 and at + 4 <= len(data):
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        else:
            end = at + 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
            yield marker, data[at + 4 : end]
            at = end


def check_scans(data: bytes) -> None:
    """Raise ValueError for more scans than any honest JPEG has."""
    scans = data.count(b"\xff\xda")
    if scans > MOST_SCANS:
        raise ValueError(f"{scans} scans, more than the cap of {MOST_SCANS}")


def decode_fast(data: bytes, header: Header, at_least: int | None) -> NDArray[np.uint8] | None:
    """Decode to (H, W, 3) RGB as stored, or return None for what Pillow has to judge.

    With `at_least`, at the smallest of the scales 1/8, 1/4, 3/8 and 1/2 whose long side is at
    least that, else whole: 5/8 to 7/8 cost more than the whole picture and look worse.
    """
    import simplejpeg

    if header.channels not in (1, 3) or header.bits != 8:
        return None
    wide = header.width >= header.height
    least = at_least or 0
    scaled = 0 < least <= -(-max(header.width, header.height) // 2)
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data,
            "RGB",
            min_width=least if scaled and wide else 0,
            min_height=least if scaled and not wide else 0,
            min_factor=2 if scaled else 1,
        )
    except ValueError:
        return None  # libjpeg warned or failed: Pillow tells which, and says why
    return pixels


def open_with_pillow(data: bytes, header: Header, at_least: int | None) -> JpegImageFile:
    """Open a JPEG with Pillow, set to decode at the smallest scale that `at_least` allows."""
    from PIL.JpegImagePlugin import JpegImageFile

    image = JpegImageFile(io.BytesIO(data))
    if at_least:
        # draft keeps both sides at least as asked: the short one must not hold the long one back.
        wide = header.width >= header.height
        image.draft(None, (at_least, 1) if wide else (1, at_least))
    image.load()
    return image
