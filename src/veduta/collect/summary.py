"""The progress and the summary of a download, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Progress", "Reason", "Summary"]

_NOT_FAILED = ("collected", "repeated", "pending")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come.

    Attributes:
        done: rows that this run has finished.
        total: rows that this run has to do, as far as it knows. Rows of earlier runs do not count.
        collected: photos that this run has written.
        failed: rows of this run without a photo.
    """

    done: int
    total: int
    collected: int
    failed: int


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some rows have no photo.

    Attributes:
        outcome: of the rows.
        reason: the words of the first of them. Those of the others may have other numbers.
        rows: number of rows.
        url: the URL of the first of them, as the source has it.
    """

    outcome: str
    reason: str
    rows: int
    url: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The outcomes of all rows, over this run and earlier ones.

    Attributes:
        folder: where the photos are, printable.
        rows: number of rows.
        labels: number of labels, without regard to case; 0 where rows have no label.
        collected: photos that this run wrote.
        already: photos of earlier runs that still exist.
        outcomes: rows by outcome, the most frequent first. After an interrupted run, only its own
            rows count.
        reasons: why rows have no photo, the most frequent first. Repeated rows do not count.
        same_content: photos with the same bytes as an earlier photo.
        denied: rows without a photo whose server answered 401, 403 or 429.
        labels_file: the file with the label of each photo, printable; None without labels, or after
            an interrupted run.
        failed_file: the table of the rows without a photo, printable; None if there are none, or
            after an interrupted run.
        bytes: bytes that this run wrote.
        seconds: duration of this run.
        interrupted: whether this run was stopped.
    """

    folder: str
    rows: int
    labels: int
    collected: int
    already: int
    outcomes: Mapping[str, int]
    reasons: tuple[Reason, ...]
    same_content: int
    denied: int
    labels_file: str | None
    failed_file: str | None
    bytes: int
    seconds: float
    interrupted: bool

    @property
    def photos(self) -> int:
        """Number of photos in the folder."""
        return self.collected + self.already

    @property
    def failed(self) -> int:
        """Number of rows without a photo. Repeated rows do not count."""
        return sum(rows for outcome, rows in self.outcomes.items() if outcome not in _NOT_FAILED)

    def as_json(self) -> dict[str, Any]:
        """Return all fields, `photos` and `failed` as plain values."""
        return {**asdict(self), "photos": self.photos, "failed": self.failed}
