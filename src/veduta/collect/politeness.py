"""What a server may ask of a collector: to wait, and to leave its photos out.

Retry-After: RFC 9110, section 10.2.3. X-Robots-Tag: Google's "Robots meta tag" specification for
the form; `noai` and `noimageai` are DeviantArt's, and the choice of directives is img2dataset's.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["back_off", "opts_out", "retry_after"]

OWN_NAME = "veduta"
_OPT_OUT = frozenset({"noindex", "noimageindex", "noai", "noimageai", "none"})


def opts_out(headers: Iterable[str]) -> str | None:
    """Return the directive by which the X-Robots-Tag headers ask not to be collected, or None.

    A directive holds for all, or, after "name:", for the robot of that name. Ours is "veduta".
    """
    for header in headers:
        robot = ""
        for part in header.lower().split(","):
            name, colon, rest = part.partition(":")
            if colon:
                robot = name.strip()
            directive = (rest if colon else part).strip()
            if directive in _OPT_OUT and robot in ("", "*", OWN_NAME):
                return directive
    return None


def retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for, at least 0; None for nonsense."""
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - now).total_seconds())


def back_off(attempt: int, first: float, longest: float) -> float:
    """Return the seconds to wait after the attempt number `attempt`, from 1.

    Twice as long each time, at most `longest`; half to all of it by chance, so that many rows do
    not come back at once.
    """
    return min(longest, first * 2.0 ** min(attempt - 1, 30)) * random.uniform(0.5, 1)  # noqa: S311
