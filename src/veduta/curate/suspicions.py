"""The findings that a review starts from: what is suspected, and what to do about it."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.curate.review_decisions import Decision
from veduta.datasets.csv_records import read_header, read_records, refuse

if TYPE_CHECKING:
    from veduta.curate.findings import Finding

__all__ = ["Suspicion", "read_suspicions", "suspicions_of"]


@dataclass(frozen=True, slots=True)
class Suspicion:
    """One finding about one photo: `score` is higher the surer it is.

    `other` is the path of the photo that it is a copy of.
    """

    kind: str
    score: float
    reason: str
    suggestion: Decision | None
    other: str | None = None


def suspicions_of(findings: Iterable[Finding]) -> dict[str, list[Suspicion]]:
    """Return what findings of `veduta clean` say of each photo, the surest first."""
    found: dict[str, list[Suspicion]] = {}
    for one in findings:
        decision = _decision(one.suggestion, one.suggested_label)
        suspicion = Suspicion(one.kind, one.score, one.reason, decision, one.other)
        found.setdefault(posixpath.normpath(one.path), []).append(suspicion)
    return _surest_first(found)


def read_suspicions(file: Path) -> dict[str, list[Suspicion]]:
    """Return what a CSV file of findings says of each photo, the surest first.

    The columns are `path` or `photo` (relative to the dataset), `kind`, `score`, `reason` and
    `suggestion`: `keep`, `drop`, `relabel` with the label in `suggested_label`, `relabel:` and the
    label, or nothing. `other` may name the photo that it is a copy of. Further columns are passed
    over.

    Raises `DatasetError`, naming file and line, for a file that is not of this kind.
    """
    found: dict[str, list[Suspicion]] = {}
    named = "photo" if "photo" in [name.strip().lower() for name in read_header(file)] else "path"
    columns = (named, "kind", "score", "reason", "suggestion")
    for line, values in read_records(file, columns, ("suggested_label", "other")):
        photo, kind, written, reason, suggestion, label, other = (value.strip() for value in values)
        if not photo:
            refuse(file, line, f"the {named} is empty")
        try:
            decision = _decision(suggestion, label or None)
        except ValueError as error:
            wanted = "keep, drop, relabel:LABEL or nothing"
            refuse(
                file, line, f"the suggestion is {suggestion!r} ({error}); wanted {wanted}", error
            )
        score = _score(file, line, written)
        suspicion = Suspicion(kind, score, reason, decision, other or None)
        found.setdefault(posixpath.normpath(values[0]), []).append(suspicion)
    return _surest_first(found)


def _surest_first(found: dict[str, list[Suspicion]]) -> dict[str, list[Suspicion]]:
    for suspicions in found.values():
        suspicions.sort(key=lambda suspicion: -suspicion.score)
    return found


def _decision(suggestion: str, label: str | None) -> Decision | None:
    verdict, _, written = suggestion.partition(":")
    if not verdict:
        return None
    return Decision(verdict, (written.strip() or label) if verdict == "relabel" else None)  # type: ignore[arg-type]


def _score(file: Path, line: int, written: str) -> float:
    try:
        score = float(written)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        refuse(file, line, f"the score is {written!r}; wanted a number")
    return score
