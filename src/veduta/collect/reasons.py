"""Why rows have no photo: rows that failed in the same way are counted together."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from veduta.collect.outcome import Outcome, Result
from veduta.collect.summary import Reason

__all__ = ["ReasonCounts", "is_failure"]

# Servers write a part of the words, so that there is no end to how many there may be.
_MAX_REASONS = 200
_OTHER_WORDS = "for other reasons"

# Two addresses, or two sizes, are no two reasons.
_ADDRESS = re.compile(r"\b\d+(?:\.\d+){3}\b|[0-9a-f]*:[0-9a-f:.]*:[0-9a-f:.]*", re.IGNORECASE)
_NUMBER = re.compile(r"\d[\d,.]*")


def is_failure(result: Result) -> bool:
    """Return whether a row was tried and has no photo."""
    return result.outcome not in (Outcome.COLLECTED, Outcome.REPEATED, Outcome.PENDING)


@dataclass(slots=True)
class _Rows:
    first: str
    url: str
    rows: int = 0


@dataclass(slots=True)
class ReasonCounts:
    """Counts of the reasons of many rows. Memory does not grow with the number of rows."""

    _rows_of: dict[tuple[Outcome, str], _Rows] = field(default_factory=dict)

    def add(self, url: str, result: Result) -> None:
        """Count one row; a row that did not fail does not count.

        Args:
            url: of the row.
            result: of the row.
        """
        if not is_failure(result):
            return
        reason = result.error or str(result.outcome)
        key = result.outcome, _kind_of(reason, result.status)
        if key not in self._rows_of and len(self._rows_of) >= _MAX_REASONS:
            reason = _OTHER_WORDS
            key = result.outcome, reason
        self._rows_of.setdefault(key, _Rows(reason, url)).rows += 1

    def reasons(self) -> tuple[Reason, ...]:
        """Return the reasons, the most frequent first."""
        reasons = [
            Reason(str(outcome), rows.first, rows.rows, rows.url)
            for (outcome, _), rows in self._rows_of.items()
        ]
        return tuple(sorted(reasons, key=lambda reason: -reason.rows))


def _kind_of(reason: str, status: int | None) -> str:
    """Return what the reasons of rows that failed in the same way have in common."""
    if status is not None and reason.startswith(str(status)):
        return str(status)  # What follows are the words of the server.
    return _NUMBER.sub("0", _ADDRESS.sub("an address", reason))
