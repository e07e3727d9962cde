"""Three facts from a photo's Exif block: its orientation, and when and where it was taken.

Cameras, editors and damaged files write every kind of Exif. This reader looks at eleven tags and
stays inside the block. Where the block does not follow the standard (CIPA DC-008), it returns the
default, because a photo with bad metadata is still a photo.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from datetime import datetime, timedelta

__all__ = ["Exif", "first_directory", "read_exif"]

_ORIENTATION = 0x0112
_DATE_TIME = 0x0132
_EXIF_IFD = 0x8769
_GPS_IFD = 0x8825
_GPS_LATITUDE_REF, _GPS_LATITUDE = 0x0001, 0x0002
_GPS_LONGITUDE_REF, _GPS_LONGITUDE = 0x0003, 0x0004
_GPS_TIME_STAMP = 0x0007
_GPS_DATE_STAMP = 0x001D
_DATE_TIME_ORIGINAL = 0x9003
_DATE_TIME_DIGITIZED = 0x9004

_SHORT = 3
_ASCII = 2
_LONG = 4
_RATIONAL = 5
_TEXT_KINDS = frozenset({_ASCII, 7, 129})
"""ASCII, and what is written in its place: undefined bytes, and UTF-8 of Exif 3.0."""

_MIN_DATE_BYTES = 8
_MAX_DATE_BYTES = 64

_MAX_ENTRIES = 1000
_FIRST_PHOTOGRAPH = datetime(1826, 1, 1)
_CLOCK_TOLERANCE = timedelta(days=2)
"""The camera's clock may be fast, or in another time zone."""
# The standard has only "2014:05:06 07:08:09". Phones and programs also write dashes or slashes, a
# T, a date alone, no seconds, fractions of a second, and an offset from UTC.
_DATE = re.compile(
    rb"(\d{4})[-:/.]([ \d]?\d)[-:/.]([ \d]?\d)"
    rb"(?:(?:T| +)([ \d]?\d):([ \d]?\d)(?::([ \d]?\d)(?:[.,:]\d*)?)?)?"
    rb" *(?:Z|UTC|GMT|[-+]\d\d:?\d\d)?"
)


@dataclass(frozen=True, slots=True)
class Exif:
    """What the Exif block says.

    Attributes:
        orientation: 1 to 8: how the stored pixels are turned (1: upright).
        taken: naive local time of the exposure; None if it is absent or impossible. The time that
            GPS tells, in UTC, stands in for it.
        place: latitude in [-90, 90] and longitude in [-180, 180], in degrees north and east; None
            if they are absent or impossible.
    """

    orientation: int = 1
    taken: datetime | None = None
    place: tuple[float, float] | None = None


def read_exif(block: bytes) -> Exif:
    r"""Read an Exif block.

    Args:
        block: a TIFF header with its directories, with or without "Exif\0\0" before it.
    """
    tiff = memoryview(block)
    if block[:6] == b"Exif\0\0":
        tiff = tiff[6:]
    byte_order = _byte_order(tiff)
    if byte_order is None:
        return Exif()
    main = _directory(tiff, byte_order, struct.unpack_from(byte_order + "I", tiff, 4)[0])
    orientation = _integer(main, _ORIENTATION, byte_order)
    # The standard puts the first two into the inner directory, TIFF/EP into the main one.
    directories = [main]
    exif_position = _integer(main, _EXIF_IFD, byte_order)
    if exif_position is not None:
        directories.insert(0, _directory(tiff, byte_order, exif_position))
    dates = [
        _text(tiff, directory, tag, byte_order)
        for tag in (_DATE_TIME_ORIGINAL, _DATE_TIME_DIGITIZED)
        for directory in directories
    ]
    dates.append(_text(tiff, main, _DATE_TIME, byte_order))
    gps_position = _integer(main, _GPS_IFD, byte_order)
    place = None
    if gps_position is not None:
        gps = _directory(tiff, byte_order, gps_position)
        dates.append(_gps_date(tiff, gps, byte_order))
        place = _gps_place(tiff, gps, byte_order)
    return Exif(
        orientation if orientation is not None and 1 <= orientation <= 8 else 1,
        next((taken for date in dates if (taken := _parse_date(date)) is not None), None),
        place,
    )


def first_directory(data: bytes) -> dict[int, int | None]:
    """Return the tags of the first directory of a TIFF, with their values.

    Args:
        data: the content of the file.

    Returns:
        tag → its value if that is one whole number, else None. Empty if there is no directory.
    """
    tiff = memoryview(data)
    byte_order = _byte_order(tiff)
    if byte_order is None:
        return {}
    entries = _directory(tiff, byte_order, struct.unpack_from(byte_order + "I", tiff, 4)[0])
    return {tag: _integer(entries, tag, byte_order) for tag in entries}


def _byte_order(tiff: memoryview) -> str | None:
    if len(tiff) < 8:
        return None
    return {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(tiff[:4]))


# A directory's entries: tag → (type, count, the four bytes that hold the value or its offset).
_Entries = dict[int, tuple[int, int, bytes]]


def _directory(tiff: memoryview, byte_order: str, position: int) -> _Entries:
    if not 8 <= position <= len(tiff) - 2:
        return {}
    count = min(struct.unpack_from(byte_order + "H", tiff, position)[0], _MAX_ENTRIES)
    count = min(count, (len(tiff) - position - 2) // 12)
    entries: _Entries = {}
    for number in range(count):
        start = position + 2 + 12 * number
        tag, kind, size, value = struct.unpack_from(byte_order + "HHI4s", tiff, start)
        entries.setdefault(tag, (kind, size, value))
    return entries


def _integer(entries: _Entries, tag: int, byte_order: str) -> int | None:
    kind, count, value = entries.get(tag, (0, 0, b""))
    if count != 1 or kind not in (_SHORT, _LONG):
        return None
    number: int = struct.unpack_from(byte_order + ("H" if kind == _SHORT else "I"), value)[0]
    return number


def _text(tiff: memoryview, entries: _Entries, tag: int, byte_order: str) -> bytes:
    kind, count, value = entries.get(tag, (0, 0, b""))
    if kind not in _TEXT_KINDS or not _MIN_DATE_BYTES <= count <= _MAX_DATE_BYTES:
        return b""
    start = struct.unpack(byte_order + "I", value)[0]
    return bytes(tiff[start : start + count])


def _gps_date(tiff: memoryview, entries: _Entries, byte_order: str) -> bytes:
    """Return the date and time of the GPS directory as one text; midnight without a time."""
    date = _without_padding(_text(tiff, entries, _GPS_DATE_STAMP, byte_order))
    time = _three_rationals(tiff, entries, _GPS_TIME_STAMP, byte_order)
    if not date or time is None:
        return date
    hour, minute, second = (number // divisor if divisor else 0 for number, divisor in time)
    return date + f" {hour:02}:{minute:02}:{second:02}".encode()


def _three_rationals(
    tiff: memoryview, entries: _Entries, tag: int, byte_order: str
) -> list[tuple[int, int]] | None:
    """Return three numbers, each as numerator and denominator; None if the tag has none."""
    kind, count, value = entries.get(tag, (0, 0, b""))
    if kind != _RATIONAL or count != 3:
        return None
    start = struct.unpack(byte_order + "I", value)[0]
    if start + 24 > len(tiff):
        return None
    numbers = struct.unpack_from(byte_order + "6I", tiff, start)
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _gps_place(tiff: memoryview, entries: _Entries, byte_order: str) -> tuple[float, float] | None:
    """Return latitude and longitude; None without both. 0°, 0° means that GPS knew no place."""
    latitude = _degrees(tiff, entries, _GPS_LATITUDE, _GPS_LATITUDE_REF, "NS", byte_order)
    longitude = _degrees(tiff, entries, _GPS_LONGITUDE, _GPS_LONGITUDE_REF, "EW", byte_order)
    if latitude is None or longitude is None or (latitude, longitude) == (0, 0):
        return None
    return (latitude, longitude) if abs(latitude) <= 90 and abs(longitude) <= 180 else None


def _degrees(
    tiff: memoryview, entries: _Entries, tag: int, side_tag: int, sides: str, byte_order: str
) -> float | None:
    kind, count, side = entries.get(side_tag, (0, 0, b""))
    parts = _three_rationals(tiff, entries, tag, byte_order)
    if kind != _ASCII or not 1 <= count <= 4 or parts is None:
        return None
    letter = side[:1].decode("latin-1").upper()
    if letter not in sides or not letter or not parts[0][1]:
        return None
    degrees = 0.0
    for (number, divisor), unit in zip(parts, (1, 60, 3600), strict=True):
        if divisor:  # Some write 0/0 for minutes or seconds that they do not use.
            degrees += number / divisor / unit
    return degrees if letter == sides[0] else -degrees


def _without_padding(text: bytes) -> bytes:
    return text.split(b"\0", 1)[0].strip()


def _parse_date(date: bytes) -> datetime | None:
    """Parse a date and time; None for unset clocks, impossible days and the future.

    Fractions of a second and the offset from UTC are left out: what counts is the local time. Hour
    24 is hour 0 of the same day, as some phones write it, and second 60 is a leap second.
    """
    match = _DATE.fullmatch(_without_padding(date))
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
    try:
        taken = datetime(
            year, month, day, 0 if hour == 24 else hour, minute, 59 if second == 60 else second
        )
    except ValueError:
        return None
    return taken if _FIRST_PHOTOGRAPH <= taken <= datetime.now() + _CLOCK_TOLERANCE else None
