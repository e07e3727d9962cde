"""The memory that decoders of this process may use together.

A small file can hold an enormous picture. What a decoder will need is computed from the header. A
photo that needs more than the whole budget is refused before anything is allocated. Otherwise it
waits until the photos that other threads decode leave enough.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from typing import TYPE_CHECKING

from veduta.errors import PhotoTooLarge, QueryError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DEFAULT_BUDGET_MB", "SETTING", "budget_bytes", "reserved"]

SETTING = "VEDUTA_DECODE_MEMORY_MB"
"""The environment variable that sets the budget, in units of 10⁶ bytes."""
DEFAULT_BUDGET_MB = 900

_MB = 1_000_000
_MEGABYTES = re.compile(r"0*[1-9][0-9]{0,7}")

_changed = threading.Condition()
_reserved_bytes = 0


def budget_bytes() -> int:
    """Return the budget of this process.

    Raises:
        QueryError: the setting is no whole number of megabytes.
    """
    text = os.environ.get(SETTING, "").strip()
    if not text:
        return DEFAULT_BUDGET_MB * _MB
    if not _MEGABYTES.fullmatch(text):
        raise QueryError(
            f"{SETTING} must be a whole number of megabytes from 1 to 99999999, not {text[:40]!r}"
        )
    return int(text) * _MB


@contextlib.contextmanager
def reserved(name: str, size: tuple[int, int], cost: float) -> Iterator[None]:
    """Hold a part of the budget while a photo is decoded. Wait for it if need be.

    A block must not reserve again, or two threads could wait for each other.

    Args:
        name: of the photo.
        size: its width and height in pixels, for the message.
        cost: bytes that the file, its decoder and the result take together.

    Raises:
        PhotoTooLarge: `cost` is more than the whole budget.
        QueryError: the setting is no whole number of megabytes.
    """
    global _reserved_bytes  # noqa: PLW0603
    budget = budget_bytes()
    needed = int(cost)
    if needed > budget:
        enough = -(-needed // (100 * _MB)) * 100
        raise PhotoTooLarge(
            name,
            f"{size[0]} × {size[1]} pixels of this kind take {needed / _MB:,.0f} MB to decode, "
            f"more than the {budget / _MB:,.0f} MB that decoding may use: set {SETTING}={enough}",
        )
    with _changed:
        _changed.wait_for(lambda: _reserved_bytes == 0 or _reserved_bytes + needed <= budget)
        _reserved_bytes += needed
    try:
        yield
    finally:
        with _changed:
            _reserved_bytes -= needed
            _changed.notify_all()
