"""Where the next page of a list begins, as text that clients pass back as it is."""

from __future__ import annotations

import base64
import binascii
from typing import TypeVar

import msgspec

from veduta.web.problems import Problem

__all__ = [
    "PhotoCursor",
    "SearchCursor",
    "read_photo_cursor",
    "read_search_cursor",
    "search_cursor",
]

C = TypeVar("C", bound=msgspec.Struct)


class SearchCursor(msgspec.Struct, array_like=True, frozen=True):
    """The next page of a search, or of a list of groups.

    Attributes:
        offset: number of hits on the pages before it.
        version: of the index, as it was searched.
    """

    offset: int
    version: str

    def text(self) -> str:
        """Return it for a client."""
        return _encoded(self)


class PhotoCursor(msgspec.Struct, array_like=True, frozen=True):
    """The next page of a list of photos.

    Attributes:
        last_id: of the last photo before it. The page begins after it, also if photos were added.
        position: of the next photo. It counts if that photo is gone.
    """

    last_id: int
    position: int

    def text(self) -> str:
        """Return it for a client."""
        return _encoded(self)


def search_cursor(offset: int, total: int, version: str) -> str | None:
    """Return the cursor of the next page.

    Args:
        offset: number of hits on the pages before it.
        total: number of hits as far as they are known.
        version: of the index.

    Returns:
        None if there is no next page.
    """
    return SearchCursor(offset, version).text() if total > offset else None


def read_search_cursor(text: str | None, version: str) -> int:
    """Return the offset in a cursor of a search; 0 without one.

    Args:
        text: as the client sent it.
        version: of the index now.

    Raises:
        Problem: 422, it is no cursor; 409, the index has changed since.
    """
    if text is None:
        return 0
    cursor = _decoded(text, SearchCursor)
    if cursor.offset < 0:
        raise _no_cursor()
    if cursor.version != version:
        raise Problem(
            409,
            "The index has changed since the first page of this search. Search again.",
            kind="IndexChanged",
        )
    return cursor.offset


def read_photo_cursor(text: str | None) -> PhotoCursor | None:
    """Return a cursor of a list of photos; None without one.

    Args:
        text: as the client sent it.

    Raises:
        Problem: 422, it is no cursor.
    """
    return None if text is None else _decoded(text, PhotoCursor)


def _encoded(cursor: msgspec.Struct) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).decode().rstrip("=")


def _decoded(text: str, kind: type[C]) -> C:
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return msgspec.msgpack.decode(data, type=kind)
    except (ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise _no_cursor() from error


def _no_cursor() -> Problem:
    return Problem(422, "The cursor is not one of this service. Leave it out for the first page.")
