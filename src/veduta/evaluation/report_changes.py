"""Find the queries that two reports answer differently: they explain a difference of figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Change", "Changes", "changed_queries"]


@dataclass(frozen=True, slots=True)
class Change:
    """One query in the first report and in another.

    Attributes:
        path: the query.
        label: of the query, or None.
        before: its average precision in the first report; of a published protocol one divided by
            the rank of the first right answer; or its answer: a name, or None for "unknown".
        after: the same in the other report.
        gain: in average precision; of a recognition 1 (wrong, now right), -1 (right, now wrong) or
            0 (wrong in another way).
    """

    path: str
    label: str | None
    before: float | str | None
    after: float | str | None
    gain: float

    def as_json(self) -> dict[str, object]:
        """Return the change as JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes between the first report and another, on the queries that both have.

    Attributes:
        system: the name of the other report.
        better: how many queries it answers better.
        worse: how many queries it answers worse.
        gained: the largest changes for the better, largest first.
        lost: the largest changes for the worse, largest first.
    """

    system: str
    better: int
    worse: int
    gained: tuple[Change, ...]
    lost: tuple[Change, ...]

    def as_json(self) -> dict[str, object]:
        """Return the changes as JSON types."""
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
    """Return the changes between the first report and each of the others.

    Queries that a report does not have, or without a right answer in the gallery, are not compared.
    Equal changes keep the order of the first report.

    Args:
        reports: of one task, checked by `veduta.evaluation.comparison.compare`.
        names: one a report.
        most: how many changes for the better, and for the worse, are listed.

    Returns:
        One entry for each report but the first.
    """
    first_rows = {row["path"]: row for row in reports[0]["queries"]}
    change_of = _CHANGE_OF[reports[0]["task"]]
    result = []
    for report, name in zip(reports[1:], names[1:], strict=True):
        rows = {row["path"]: row for row in report["queries"]}
        shared = [(row, rows[path]) for path, row in first_rows.items() if path in rows]
        changes = [change for pair in shared if (change := change_of(*pair)) is not None]
        better = [change for change in changes if change.gain > 0]
        worse = [change for change in changes if change.gain < 0]
        result.append(
            Changes(
                system=name,
                better=len(better),
                worse=len(worse),
                gained=tuple(sorted(better, key=lambda change: -change.gain)[:most]),
                lost=tuple(sorted(worse, key=lambda change: change.gain)[:most]),
            )
        )
    return tuple(result)


def _change_of_ranking(before: Mapping[str, Any], after: Mapping[str, Any]) -> Change | None:
    if before["ap"] is None or after["ap"] is None:
        return None
    gain = after["ap"] - before["ap"]
    return Change(before["path"], before.get("label"), before["ap"], after["ap"], gain)


def _change_of_first_right(before: Mapping[str, Any], after: Mapping[str, Any]) -> Change | None:
    """Compare one divided by the rank of the first right answer; nothing right counts as 0."""
    if not before["positives"] or not after["positives"]:
        return None
    ranks = before["first_correct_rank"], after["first_correct_rank"]
    first, second = (1 / rank if rank else 0.0 for rank in ranks)
    return Change(before["path"], before.get("label"), first, second, second - first)


def _change_of_medium(before: Mapping[str, Any], after: Mapping[str, Any]) -> Change | None:
    if before["ap_medium"] is None or after["ap_medium"] is None:
        return None
    gain = after["ap_medium"] - before["ap_medium"]
    return Change(before["path"], None, before["ap_medium"], after["ap_medium"], gain)


def _change_of_answer(before: Mapping[str, Any], after: Mapping[str, Any]) -> Change | None:
    label = before["label"]
    answers = [row["guess"] if row["named"] else None for row in (before, after)]
    gain = float((answers[1] == label) - (answers[0] == label))
    return Change(before["path"], label, answers[0], answers[1], gain)


_CHANGE_OF: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Change | None]] = {
    "retrieve": _change_of_ranking,
    "recognize": _change_of_answer,
    "protocol": _change_of_first_right,
    "revisited": _change_of_medium,
}
