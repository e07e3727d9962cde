"""How a download treats servers: connections per host, back-off, Retry-After, X-Robots-Tag.

Retry-After follows RFC 9110, section 10.2.3. The form of X-Robots-Tag follows Google's "Robots meta
tag" specification. The directives `noai` and `noimageai` come from DeviantArt, and img2dataset made
the choice of directives that is used here.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from datetime import UTC, datetime

__all__ = [
    "FIRST_WAIT_SECONDS",
    "MAX_REQUESTS_PER_HOST",
    "MAX_RETRIES",
    "MAX_WAIT_SECONDS",
    "back_off",
    "opts_out",
    "retry_after",
]

# Browsers open at most six connections to one host.
MAX_REQUESTS_PER_HOST = 6
# Further requests after one that failed for a temporary reason.
MAX_RETRIES = 3
# The wait before the second request. It doubles before each further one.
FIRST_WAIT_SECONDS = 1.0
# The longest wait between two requests, even if Retry-After asks for more.
MAX_WAIT_SECONDS = 60.0

_ROBOT_NAME = "veduta"
_OPT_OUT_DIRECTIVES = frozenset({"noindex", "noimageindex", "noai", "noimageai", "none"})
# A larger exponent would overflow and changes nothing, because the wait is limited.
_MAX_DOUBLINGS = 30


def back_off(attempt: int, first_wait: float, max_wait: float) -> float:
    """Return the seconds to wait after a failed attempt.

    The wait doubles with each attempt. A random factor between a half and one keeps many rows from
    coming back at the same time.

    Args:
        attempt: number of the attempt that failed, from 1.
        first_wait: seconds after the first attempt.
        max_wait: the longest wait in seconds.
    """
    wait = min(max_wait, first_wait * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS))
    return wait * random.uniform(0.5, 1)  # noqa: S311


def retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds, 0 or more, that a Retry-After header asks for.

    Args:
        value: the header: seconds or a date.
        now: the present time, with its time zone.

    Returns:
        The seconds; None if the header is missing or not understood.
    """
    from email.utils import parsedate_to_datetime

    text = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - now).total_seconds())


def opts_out(headers: Iterable[str]) -> str | None:
    """Return the directive of the X-Robots-Tag headers that asks not to collect the photo.

    A directive is for all robots, or for the robot whose name and a colon precede it. The name of
    this robot is "veduta".

    Args:
        headers: the values of all X-Robots-Tag headers.

    Returns:
        The directive; None if there is none.
    """
    for header in headers:
        robot = ""
        for part in header.lower().split(","):
            name, colon, rest = part.partition(":")
            if colon:
                robot = name.strip()
            directive = (rest if colon else part).strip()
            if directive in _OPT_OUT_DIRECTIVES and robot in ("", "*", _ROBOT_NAME):
                return directive
    return None
