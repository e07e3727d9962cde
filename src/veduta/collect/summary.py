"""What a run did, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Progress", "Summary"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    done: int
    """Rows that this run is done with; those that it found done do not count."""
    total: int
    """Rows that this run has to do, as far as is known: rows found done are taken off."""
    collected: int
    failed: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of the rows, over this run and those before."""

    folder: str
    rows: int
    labels: int
    """Up to case; 0 where rows have no label."""
    collected: int
    """By this run."""
    already: int
    """Collected by earlier runs and still there."""
    outcomes: Mapping[str, int]
    """Rows of each outcome, most frequent first. Of an interrupted run only those it came to."""
    examples: Mapping[str, str]
    """For each outcome but `collected` and `repeated`: the reason that the first such row has."""
    same_content: int
    """Collected photos that are byte for byte a photo before them."""
    bytes: int
    """Written by this run."""
    seconds: float
    interrupted: bool

    @property
    def photos(self) -> int:
        """Photos that are there now."""
        return self.collected + self.already

    @property
    def failed(self) -> int:
        """Rows without a photo, those not counted that repeat another."""
        apart = ("collected", "repeated", "pending")
        return sum(rows for outcome, rows in self.outcomes.items() if outcome not in apart)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {**asdict(self), "photos": self.photos, "failed": self.failed}
