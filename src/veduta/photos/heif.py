"""A check of a HEIF's list of items before libheif's binding reads it.

pi_heif (1.4) decodes the type of every metadata item as text. If the bytes are no text, which one
damaged byte in the list can cause, it ends the whole process. Boxes: ISO/IEC 14496-12.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_items", "unread_codec"]

_FULL_BOX_BYTES = 4
"""Version and flags, before the content of a full box."""
_MAX_ITEMS = 100_000


_OTHER_CODECS = {
    b"avc1": "H.264",
    b"av01": "AV1",
    b"j2k1": "JPEG 2000",
    b"jpeg": "JPEG",
    b"unci": "no compression",
    b"vvc1": "VVC",
}


def unread_codec(data: bytes, kinds: set[bytes]) -> str | None:
    """Return the name of the codec of a HEIF that libheif does not read here; None for HEVC.

    Args:
        data: the content of the file.
        kinds: the types of its items.
    """
    if b"hvc1" in kinds:
        return None
    if not kinds and any(True for _ in _boxes(memoryview(data), b"moov")):
        return "a video without a still picture"
    return next((name for kind, name in _OTHER_CODECS.items() if kind in kinds), None)


def check_items(data: bytes) -> set[bytes]:
    """Refuse a HEIF with an item whose type, name or content type is no text.

    Args:
        data: the content of the file.

    Returns:
        The types of the items.

    Raises:
        ValueError: there is such an item, or there are too many items.
    """
    view = memoryview(data)
    kinds: set[bytes] = set()
    for meta in _boxes(view, b"meta"):
        for items in _boxes(meta[_FULL_BOX_BYTES:], b"iinf"):
            if len(items) < _FULL_BOX_BYTES + 4:
                return kinds  # libheif refuses the file with a message of its own.
            count_bytes = 4 if items[0] != 0 else 2
            for number, item in enumerate(_boxes(items[_FULL_BOX_BYTES + count_bytes :], b"infe")):
                if number >= _MAX_ITEMS:
                    raise ValueError(f"more than {_MAX_ITEMS} items")
                kinds.add(_checked_type(item))
    return kinds


def _checked_type(item: memoryview) -> bytes:
    kind = b""
    version = item[0] if item else 0
    id_bytes = {2: 4, 3: 6}.get(version, 4)  # item_ID and protection index
    text = bytes(item[_FULL_BOX_BYTES + id_bytes :])
    if version >= 2:
        kind, text = text[:4], text[4:]
        if not all(0x20 <= byte < 0x7F for byte in kind):
            raise ValueError(f"an item of the impossible type {kind!r}")
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("an item whose name is no text") from error
    return kind


def _boxes(view: memoryview, kind: bytes) -> Iterator[memoryview]:
    """Yield the content of each box of one kind that is directly in `view`."""
    start = 0
    while start + 8 <= len(view):
        size, content = int.from_bytes(view[start : start + 4], "big"), start + 8
        if size == 1:  # The size is in the 64 bits after the type.
            size = int.from_bytes(view[start + 8 : start + 16], "big")
            content = start + 16
        end = len(view) if size == 0 else start + size
        if end < content:
            return  # libheif refuses the file with a message of its own.
        if view[start + 4 : start + 8] == kind:
            yield view[content:end]
        start = end
