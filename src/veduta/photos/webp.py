"""WebP without what stands around its picture. Container: RFC 9649."""

from __future__ import annotations

import struct

__all__ = ["picture_alone"]

_HEADER_BYTES = 12
_ALPHA_FLAG = 0x10
_KINDS = (b"VP8X", b"ALPH", b"VP8 ", b"VP8L")


def picture_alone(data: bytes) -> bytes:
    """Return a WebP with the first picture of another one, and nothing else.

    The sizes in the header of the file and chunks of no known kind do not matter.

    Args:
        data: the content of a file with one picture.

    Raises:
        ValueError: it holds no such picture.
    """
    found: dict[bytes, bytes] = {}
    start = _HEADER_BYTES
    while start + 8 <= len(data):
        kind, size = data[start : start + 4], int.from_bytes(data[start + 4 : start + 8], "little")
        if kind in _KINDS:
            found.setdefault(kind, data[start + 8 : start + 8 + size])
        start += 8 + size + size % 2
    if b"VP8L" in found:
        return _container((b"VP8L", found[b"VP8L"]))
    if b"VP8 " not in found:
        raise ValueError("no picture")
    if b"ALPH" not in found or len(found.get(b"VP8X", b"")) < 10:
        return _container((b"VP8 ", found[b"VP8 "]))
    header = bytes((_ALPHA_FLAG, 0, 0, 0)) + found[b"VP8X"][4:10]
    return _container((b"VP8X", header), (b"ALPH", found[b"ALPH"]), (b"VP8 ", found[b"VP8 "]))


def _container(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
        for kind, content in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
