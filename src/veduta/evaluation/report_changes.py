"""Which queries two reports answer differently: where a difference of two figures comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Change", "Changes", "changed_queries"]


@dataclass(frozen=True, slots=True)
class Change:
    """One query in the first report and in another.

    `before`, `after`: its average precision, or its answer, a name or None for "unknown". `gain`:
    in average precision; of a recognition 1 (wrong, now right), -1 (right, now wrong) or 0 (wrong
    in another way).
    """

    path: str
    label: str | None
    before: float | str | None
    after: float | str | None
    gain: float

    def as_json(self) -> dict[str, object]:
        """Return it for `json.dump`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Changes:
    """How the queries that two reports share fared in the second one.

    `better`, `worse`: how many. `gained`, `lost`: those that changed most, most first.
    """

    system: str
    better: int
    worse: int
    gained: tuple[Change, ...]
    lost: tuple[Change, ...]

    def as_json(self) -> dict[str, object]:
        """Return it for `json.dump`."""
        return {
            "system": self.system,
            "better": self.better,
            "worse": self.worse,
            "gained": [change.as_json() for change in self.gained],
            "lost": [change.as_json() for change in self.lost],
        }


def changed_queries(
    reports: Sequence[Mapping[str, Any]], names: Sequence[str], *, most: int = 5
) -> tuple[Changes, ...]:
    """Return for each report but the first what changed since that one, at most `most` either way.

    `reports`: of one task, as `veduta.evaluation.comparison.compare` has accepted them. `names`:
    one a report. Queries that a report does not have, or without a right answer in the gallery, are
    not compared. Equal changes keep the order of the first report.
    """
    first = {row["path"]: row for row in reports[0]["queries"]}
    retrieval = reports[0]["task"] == "retrieve"
    found = []
    for report, name in zip(reports[1:], names[1:], strict=True):
        rows = {row["path"]: row for row in report["queries"]}
        shared = [(row, rows[path]) for path, row in first.items() if path in rows]
        changes = [_ranked(*pair) if retrieval else _answered(*pair) for pair in shared]
        better = [change for change in changes if change is not None and change.gain > 0]
        worse = [change for change in changes if change is not None and change.gain < 0]
        found.append(
            Changes(
                system=name,
                better=len(better),
                worse=len(worse),
                gained=tuple(sorted(better, key=lambda change: -change.gain)[:most]),
                lost=tuple(sorted(worse, key=lambda change: change.gain)[:most]),
            )
        )
    return tuple(found)


def _ranked(before: Mapping[str, Any], after: Mapping[str, Any]) -> Change | None:
    if before["ap"] is None or after["ap"] is None:
        return None
    gain = after["ap"] - before["ap"]
    return Change(before["path"], before.get("label"), before["ap"], after["ap"], gain)


def _answered(before: Mapping[str, Any], after: Mapping[str, Any]) -> Change:
    label = before["label"]
    answers = [row["guess"] if row["named"] else None for row in (before, after)]
    gain = float((answers[1] == label) - (answers[0] == label))
    return Change(before["path"], label, answers[0], answers[1], gain)
