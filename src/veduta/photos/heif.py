"""A look at a HEIF's list of items before libheif's binding sees it.

pi_heif (1.4) makes text of every metadata item's type, and takes the process down with it where
the bytes are none, as one damaged byte in the list makes them. Boxes: ISO/IEC 14496-12.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_items"]

_FULL_BOX = 4  # version and flags, before the content
_MOST_ITEMS = 100_000


def check_items(data: bytes) -> None:
    """Raise ValueError where an item's type, name or content type is no text."""
    view = memoryview(data)
    for meta in _boxes(view, b"meta"):
        for items in _boxes(meta[_FULL_BOX:], b"iinf"):
            if len(items) < _FULL_BOX + 4:
                return  # libheif refuses it in its own words
            wide_count = 4 if items[0] != 0 else 2
            for number, item in enumerate(_boxes(items[_FULL_BOX + wide_count :], b"infe")):
                if number >= _MOST_ITEMS:
                    raise ValueError(f"more than {_MOST_ITEMS} items")
                _check_item(item)


def _check_item(item: memoryview) -> None:
    version = item[0] if item else 0
    identity = {2: 4, 3: 6}.get(version, 4)  # item_ID and protection index
    words = bytes(item[_FULL_BOX + identity :])
    if version >= 2:
        kind, words = words[:4], words[4:]
        if not all(0x20 <= byte < 0x7F for byte in kind):
            raise ValueError(f"an item of the impossible type {kind!r}")
    try:
        words.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("an item whose name is no text") from error


def _boxes(view: memoryview, kind: bytes) -> Iterator[memoryview]:
    """Yield the content of each box of one kind that lies directly in `view`."""
    at = 0
    while at + 8 <= len(view):
        size, start = int.from_bytes(view[at : at + 4], "big"), at + 8
        if size == 1:  # the size stands after the type, in 64 bits
            size, start = int.from_bytes(view[at + 8 : at + 16], "big"), at + 16
        end = len(view) if size == 0 else at + size
        if end < start:
            return  # libheif refuses it in its own words
        if view[at + 4 : at + 8] == kind:
            yield view[start:end]
        at = end
