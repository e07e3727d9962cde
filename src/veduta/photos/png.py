"""PNG without its metadata: Pillow gets only the chunks that hold the picture.

Pillow refuses a photo for metadata that is too large or whose checksum is wrong. Neither says
anything about the pixels. Chunks: PNG specification, third edition (W3C), chapter 5.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Picture", "read_picture"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))
_MAX_EXIF_BYTES = 1 << 20
_MAX_PROFILE_BYTES = 1 << 23
_MAX_PROFILE_NAME_BYTES = 80


@dataclass(frozen=True, slots=True)
class Picture:
    """The parts of a PNG that matter.

    Attributes:
        file: a PNG of the same picture, without metadata.
        exif: the Exif block; empty if there is none.
        profile: the ICC profile; empty if there is none, or none that unpacks.
    """

    file: bytes
    exif: bytes
    profile: bytes


def read_picture(data: bytes) -> Picture:
    """Take a PNG apart.

    A chunk with metadata is skipped, and so is a transparency whose checksum is wrong, as libpng
    does. A missing end is added. What is behind the end is left out.

    Args:
        data: the content of the file.

    Raises:
        ValueError: a chunk that the picture needs is damaged.
    """
    view = memoryview(data)
    parts: list[bytes | memoryview] = [_SIGNATURE]
    exif = profile = b""
    for kind, chunk, body, is_right in _chunks(view):
        if kind == b"IEND":
            break
        if kind == b"CgBI":
            raise ValueError("Apple's own compression is not supported")
        if kind == b"eXIf" and not exif and len(body) <= _MAX_EXIF_BYTES:
            exif = bytes(body)
        elif kind == b"iCCP" and not profile and len(body) <= _MAX_PROFILE_BYTES:
            profile = bytes(body)
        elif kind == b"tRNS" and is_right:
            parts.append(chunk)
        elif kind in (b"IHDR", b"PLTE", b"IDAT"):
            if not is_right:
                raise ValueError(f"wrong checksum of {kind.decode()}")
            if len(chunk) == len(body) + 12:
                parts.append(chunk)
            else:  # The file ends here. It may still hold every pixel.
                whole = kind + bytes(body)
                parts += [struct.pack(">I", len(body)), whole]
                parts.append(struct.pack(">I", zlib.crc32(whole)))
    parts.append(_END)
    return Picture(b"".join(parts), exif, _unpacked(profile))


def _unpacked(profile: bytes) -> bytes:
    """Return the content of a chunk iCCP."""
    end = profile.find(b"\0", 0, _MAX_PROFILE_NAME_BYTES)
    if end < 0:
        return b""
    try:
        return zlib.decompressobj().decompress(profile[end + 2 :], _MAX_PROFILE_BYTES)
    except zlib.error:
        return b""  # A photo with bad metadata is still a photo.


def _chunks(view: memoryview) -> Iterator[tuple[bytes, memoryview, memoryview, bool]]:
    """Yield (type, chunk, content, whether the checksum is right) up to the end of the file.

    A chunk that the file cuts short comes last. It has no checksum to compare.
    """
    start = len(_SIGNATURE)
    while start + 8 <= len(view):
        size = int.from_bytes(view[start : start + 4], "big")
        end = start + 12 + size
        body = view[start + 8 : min(start + 8 + size, len(view))]
        is_right = True
        if end <= len(view):
            checksum = int.from_bytes(view[end - 4 : end], "big")
            is_right = zlib.crc32(view[start + 4 : end - 4]) == checksum
        yield bytes(view[start + 4 : start + 8]), view[start:end], body, is_right
        start = end
