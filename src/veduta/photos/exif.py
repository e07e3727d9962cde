"""The two things asked of a photo's Exif block: which way up it is, and when it was taken.

Cameras, editors and damaged files write every kind of Exif. This reader looks at four tags, stays
inside the block, and answers with the default where the block is not as the standard (CIPA
DC-008) wants it: a photo is not lost because its metadata is.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from datetime import datetime, timedelta

__all__ = ["Exif", "read_exif"]

_ORIENTATION = 0x0112
_DATE_TIME = 0x0132
_EXIF_IFD = 0x8769
_DATE_TIME_ORIGINAL = 0x9003
_DATE_TIME_DIGITIZED = 0x9004

_SHORT = 3
_ASCII = 2
_LONG = 4

_MOST_ENTRIES = 1000
_FIRST_PHOTOGRAPH = datetime(1826, 1, 1)
_DATE = re.compile(rb"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)")


@dataclass(frozen=True, slots=True)
class Exif:
    """What the Exif block says."""

    orientation: int = 1
    """1 to 8: how the stored pixels are turned (1: upright)."""
    taken: datetime | None = None
    """Naive local time of the exposure; None where absent or absurd."""


def read_exif(block: bytes) -> Exif:
    """Read an Exif block: a TIFF header with its directories, with or without "Exif\\0\\0"."""
    tiff = memoryview(block)
    if block[:6] == b"Exif\0\0":
        tiff = tiff[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(tiff[:4]))
    if order is None or len(tiff) < 8:
        return Exif()
    main = _directory(tiff, order, struct.unpack_from(order + "I", tiff, 4)[0])
    orientation = _integer(main, _ORIENTATION, order)
    dates = [_text(tiff, main, _DATE_TIME, order)]
    pointer = _integer(main, _EXIF_IFD, order)
    if pointer is not None:
        inner = _directory(tiff, order, pointer)
        dates = [
            _text(tiff, inner, _DATE_TIME_ORIGINAL, order),
            _text(tiff, inner, _DATE_TIME_DIGITIZED, order),
            *dates,
        ]
    return Exif(
        orientation if orientation is not None and 1 <= orientation <= 8 else 1,
        next((taken for date in dates if (taken := _parse(date)) is not None), None),
    )


# A directory's entries: tag -> (type, count, the four bytes that hold the value or its offset).
_Entries = dict[int, tuple[int, int, bytes]]


def _directory(tiff: memoryview, order: str, at: int) -> _Entries:
    if not 8 <= at <= len(tiff) - 2:
        return {}
    count = min(struct.unpack_from(order + "H", tiff, at)[0], _MOST_ENTRIES)
    count = min(count, (len(tiff) - at - 2) // 12)
    entries: _Entries = {}
    for number in range(count):
        tag, kind, size, value = struct.unpack_from(order + "HHI4s", tiff, at + 2 + 12 * number)
        entries.setdefault(tag, (kind, size, value))
    return entries


def _integer(entries: _Entries, tag: int, order: str) -> int | None:
    kind, count, value = entries.get(tag, (0, 0, b""))
    if count != 1 or kind not in (_SHORT, _LONG):
        return None
    number: int = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), value)[0]
    return number


def _text(tiff: memoryview, entries: _Entries, tag: int, order: str) -> bytes:
    kind, count, value = entries.get(tag, (0, 0, b""))
    if kind != _ASCII or not 19 <= count <= 64:
        return b""
    at = struct.unpack(order + "I", value)[0]
    return bytes(tiff[at : at + count])


def _parse(date: bytes) -> datetime | None:
    """Parse "YYYY:MM:DD HH:MM:SS"; None for unset clocks, impossible days and the future."""
    match = _DATE.fullmatch(date.rstrip(b"\0 "))
    if match is None:
        return None
    try:
        taken = datetime(*map(int, match.groups()))  # type: ignore[arg-type]
    except ValueError:
        return None
    # Two days of grace: the camera's clock may be in another time zone than ours, or fast.
    latest = datetime.now() + timedelta(days=2)
    return taken if _FIRST_PHOTOGRAPH <= taken <= latest else None
