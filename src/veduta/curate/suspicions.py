"""The findings that a review starts from: what is suspected of a photo, and what is suggested."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from veduta.curate.review_decisions import Decision, Verdict
from veduta.datasets.csv_records import read_header, read_records, refuse

if TYPE_CHECKING:
    from veduta.curate.findings import Finding

__all__ = ["Suspicion", "read_suspicions", "suspicions_of"]

_SUGGESTIONS = "keep, drop, relabel:LABEL or nothing"


@dataclass(frozen=True, slots=True)
class Suspicion:
    """One finding about one photo.

    Attributes:
        kind: of the finding.
        score: higher is more certain.
        reason: in words.
        suggestion: the suggested decision, if any.
        other: path of the photo that it is a copy of, if any.
    """

    kind: str
    score: float
    reason: str
    suggestion: Decision | None
    other: str | None = None


def suspicions_of(findings: Iterable[Finding]) -> dict[str, list[Suspicion]]:
    """Return path → suspicions, the most certain first, from findings of `veduta clean`."""
    suspicions: dict[str, list[Suspicion]] = {}
    for finding in findings:
        suggestion = _decision(finding.suggestion, finding.suggested_label)
        suspicions.setdefault(posixpath.normpath(finding.path), []).append(
            Suspicion(finding.kind, finding.score, finding.reason, suggestion, finding.other)
        )
    return _most_certain_first(suspicions)


def read_suspicions(file: Path) -> dict[str, list[Suspicion]]:
    """Return path → suspicions, the most certain first, from a CSV file of findings.

    The columns are `path` or `photo` (relative to the dataset), `kind`, `score`, `reason` and
    `suggestion`. A suggestion is `keep`, `drop`, `relabel` with the label in `suggested_label`,
    `relabel:` and the label, or empty. `other` may name the photo that it is a copy of. Other
    columns are ignored.

    Args:
        file: the CSV file.

    Raises:
        DatasetError: the file has another form. The message names the file and the line.
    """
    suspicions: dict[str, list[Suspicion]] = {}
    header = [name.strip().lower() for name in read_header(file)]
    path_column = "photo" if "photo" in header else "path"
    columns = (path_column, "kind", "score", "reason", "suggestion")
    for line, values in read_records(file, columns, ("suggested_label", "other")):
        path, kind, score, reason, suggestion, label, other = (value.strip() for value in values)
        if not path:
            refuse(file, line, f"the {path_column} is empty")
        try:
            decision = _decision(suggestion, label or None)
        except ValueError as error:
            why = f"the suggestion is {suggestion!r} ({error}); wanted {_SUGGESTIONS}"
            refuse(file, line, why, error)
        suspicions.setdefault(posixpath.normpath(values[0]), []).append(
            Suspicion(kind, _score(file, line, score), reason, decision, other or None)
        )
    return _most_certain_first(suspicions)


def _most_certain_first(suspicions: dict[str, list[Suspicion]]) -> dict[str, list[Suspicion]]:
    for of_photo in suspicions.values():
        of_photo.sort(key=lambda suspicion: -suspicion.score)
    return suspicions


def _decision(suggestion: str, suggested_label: str | None) -> Decision | None:
    verdict, _, label = suggestion.partition(":")
    if not verdict:
        return None
    # `Decision` refuses other verdicts.
    return Decision(
        cast(Verdict, verdict),
        (label.strip() or suggested_label) if verdict == "relabel" else None,
    )


def _score(file: Path, line: int, text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        refuse(file, line, f"the score is {text!r}; wanted a number")
    return score
