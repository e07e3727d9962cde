"""The outcome of a row: one word, and the facts that go with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from msgspec import Meta

__all__ = ["Outcome", "Result"]

# What the columns of the table hold. A stranger may have written the journal.
_Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_Size = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Outcome(StrEnum):
    """The outcome of a row, in the words of the column `outcome`."""

    COLLECTED = "collected"
    """The photo was written."""
    UNREACHABLE = "unreachable"
    """The host is unknown, refused the connection, did not answer in time or broke off."""
    BUSY = "busy"
    """The server asked to come back later: status 408, 425, 429 or 5xx."""
    HTTP_ERROR = "http-error"
    """Any other status than 200, or a circle of redirects."""
    TLS_ERROR = "tls-error"
    """The certificate of the server is not valid, or there was no common encryption."""
    REFUSED = "refused"
    """The URL is not http or https, or its address is not public."""
    OPTED_OUT = "opted-out"
    """The X-Robots-Tag of the server asks not to collect the photo."""
    TOO_LARGE = "too-large"
    """The photo has more bytes or pixels than the limit."""
    TOO_SMALL = "too-small"
    """The short side of the photo has fewer pixels than the limit."""
    NOT_A_PHOTO = "not-a-photo"
    """The bytes have no supported format, or do not decode."""
    REPEATED = "repeated"
    """An earlier row has the same id, label and URL."""
    PENDING = "pending"
    """The row was not tried yet, because the run was interrupted."""

    @property
    def temporary(self) -> bool:
        """Whether the next run tries the row again without being asked to."""
        return self in (Outcome.UNREACHABLE, Outcome.BUSY, Outcome.PENDING)


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one row and its facts; None where a fact is not known.

    Attributes:
        outcome: the outcome.
        error: why there is no photo, in a few words.
        status: of the last HTTP response.
        final_url: where redirects led.
        bytes: size of the file that was written.
        width: of the file that was written or is too small, upright, in pixels; None if it was not
            decoded.
        height: as `width`.
        format: one of `veduta.photos.FORMATS`.
        hash: BLAKE3 of the file that was written, 64 hexadecimal digits.
        path: of the file below the folder, with `/`.
        attempts: requests in this run, without redirects.
        when: UTC, ISO 8601, to the second.
    """

    outcome: Outcome
    error: str | None = None
    status: _Count | None = None
    final_url: str | None = None
    bytes: _Size | None = None
    width: _Count | None = None
    height: _Count | None = None
    format: str | None = None
    hash: _Hash | None = None
    path: str | None = None
    attempts: _Count = 0
    when: str | None = None
