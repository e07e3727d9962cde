"""The content of the page of findings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from veduta.curate.findings import KINDS, Finding
from veduta.pages.findings_page import FindingKind, FindingsPage, FindingTile

if TYPE_CHECKING:
    from veduta.curate.cleaning import Cleaning

__all__ = ["findings_page"]

_MAX_SHOWN_PER_KIND = 60


def findings_page(cleaning: Cleaning) -> FindingsPage:
    """Return the content of the page, with the 60 most certain findings of each kind."""
    by_kind: dict[str, list[Finding]] = {name: [] for name in cleaning.counts}
    for finding in cleaning.findings:
        by_kind[finding.kind].append(finding)
    return FindingsPage(
        title=cleaning.dataset.root.name,
        root=cleaning.dataset.root,
        photos=len(cleaning.dataset.paths),
        readable=cleaning.readable,
        drops=len(cleaning.drops()),
        kinds=[
            FindingKind(
                name=name,
                suggestion=KINDS[name].suggestion,
                meaning=KINDS[name].meaning,
                findings=len(findings),
                shown=[_tile(finding) for finding in findings[:_MAX_SHOWN_PER_KIND]],
            )
            for name, findings in by_kind.items()
        ],
        notes=cleaning.notes,
    )


def _tile(finding: Finding) -> FindingTile:
    return FindingTile(
        paths=[path for path in (finding.path, finding.other) if path is not None],
        score=finding.score,
        suggestion=finding.suggestion,
        reason=finding.reason,
        new_label=finding.suggested_label,
    )
