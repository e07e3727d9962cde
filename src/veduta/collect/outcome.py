"""What became of a row: one of few words, and the facts that go with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Outcome", "Result"]


class Outcome(StrEnum):
    """What became of a row, in the words of the column `outcome`."""

    COLLECTED = "collected"
    """The photo is in its place."""
    UNREACHABLE = "unreachable"
    """No such host, no connection, no answer in time, or it broke off."""
    BUSY = "busy"
    """The server said to come later: status 408, 425, 429 or 5xx."""
    HTTP_ERROR = "http-error"
    """Any other status than 200: gone, forbidden, redirected in a circle."""
    TLS_ERROR = "tls-error"
    """The server's certificate does not hold, or no encryption could be agreed on."""
    REFUSED = "refused"
    """No http or https address, or one that is not public."""
    OPTED_OUT = "opted-out"
    """The server's X-Robots-Tag asks not to be collected."""
    TOO_LARGE = "too-large"
    """More bytes or pixels than the cap."""
    NOT_A_PHOTO = "not-a-photo"
    """The bytes are of no supported format, or do not decode."""
    REPEATED = "repeated"
    """The same id, label and URL as a row before."""
    PENDING = "pending"
    """Not tried yet: the run was interrupted."""

    @property
    def passing(self) -> bool:
        """Whether it may be otherwise tomorrow, so that the next run tries again by itself."""
        return self in (Outcome.UNREACHABLE, Outcome.BUSY, Outcome.PENDING)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one row. None where there is nothing to say."""

    outcome: Outcome
    error: str | None = None
    """Why there is no photo, in a few words."""
    status: int | None = None
    """Of the last HTTP answer."""
    final_url: str | None = None
    """Where redirects led."""
    bytes: int | None = None
    """Size of the file as it was written."""
    width: int | None = None
    """Of the file as it was written, upright, in pixels; None if it was not decoded."""
    height: int | None = None
    format: str | None = None
    """One of `veduta.photos.FORMATS`."""
    hash: str | None = None
    """BLAKE3 of the file as it was written: 64 hexadecimal digits."""
    path: str | None = None
    """Below the folder, with `/`."""
    attempts: int = 0
    """Requests in this run, redirects not counted."""
    when: str | None = None
    """UTC, ISO 8601, to the second."""
