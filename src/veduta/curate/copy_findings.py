"""What is suggested for copies: the best photo of each group stays; and for photos of one view."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from veduta.curate.copies import SAME_BYTES, CopyPair
from veduta.curate.findings import Finding, photo_finding
from veduta.curate.groups import copy_groups
from veduta.datasets import Dataset
from veduta.errors import readable

if TYPE_CHECKING:
    from veduta.curate.photo_scan import PhotoScan

__all__ = ["copy_findings", "same_view_findings"]


@dataclass(frozen=True, slots=True)
class _Copy:
    """A photo of a group of copies; `suspected` tells whether its label may be wrong."""

    path: str
    label: str | None
    suspected: bool
    is_link: bool
    pixels: int
    coded_bytes: int

    @property
    def rank(self) -> tuple[Any, ...]:
        """The photo with the smallest rank stays."""
        return tuple(key(self) for _, key in _PREFERENCES)

    def advantage_over(self, other: _Copy) -> str:
        """Return why this photo stays rather than another one."""
        return next(reason for reason, key in _PREFERENCES if key(self) != key(other))


_PREFERENCES: tuple[tuple[str, Callable[[_Copy], Any]], ...] = (
    ("its label is not in doubt", lambda copy: copy.suspected),
    ("it is a file and no link", lambda copy: copy.is_link),
    ("its name is UTF-8", lambda copy: readable(copy.path) != copy.path),
    ("it has a label", lambda copy: copy.label is None),
    ("it is larger", lambda copy: -copy.pixels),
    ("it is less compressed", lambda copy: -copy.coded_bytes),
    ("its name is shorter", lambda copy: len(copy.path)),
    ("its name comes first", lambda copy: copy.path),
)


def copy_findings(
    dataset: Dataset, scan: PhotoScan, pairs: Sequence[CopyPair], suspected: Collection[str]
) -> list[Finding]:
    """Return a finding for each photo of a group of copies except the best, which stays.

    Args:
        dataset: the photos.
        scan: of these.
        pairs: copies, as positions in the dataset. Those of the same view do not count.
        suspected: paths of the photos whose label may be wrong.
    """
    pairs_of: dict[int, list[CopyPair]] = {}
    pairs = [pair for pair in pairs if pair.is_copy]
    for pair in pairs:
        pairs_of.setdefault(pair.first, []).append(pair)
        pairs_of.setdefault(pair.second, []).append(pair)
    findings = []
    for number, group in enumerate(copy_groups(pairs, len(dataset.paths)), start=1):
        copies = {position: _copy(dataset, scan, position, suspected) for position in group}
        ranked = sorted(group, key=lambda position: copies[position].rank)
        best = ranked[0]
        digest_of = {position: scan.digests[scan.row(position)].tobytes() for position in group}
        with_bytes: dict[bytes, list[int]] = {}
        for position in ranked:
            with_bytes.setdefault(digest_of[position], []).append(position)
        for position in ranked[1:]:
            same_bytes = with_bytes[digest_of[position]]
            if position != same_bytes[0]:
                kind, what, score, other = "exact-copy", SAME_BYTES, 1.0, same_bytes[0]
            else:
                pair, other = _best_pair(same_bytes, group, best, pairs_of)
                kind, what, score = "near-copy", pair.kind, pair.score
            reason = what
            if kind == "exact-copy" and other != best:
                reason += f" as {dataset.paths[other]}"
            advantage = copies[best].advantage_over(copies[position])
            reason += f"; {dataset.paths[best]} stays: {advantage}"
            if dataset.labels[position] != dataset.labels[best]:
                reason += f"; the two have different labels ({dataset.labels[best]})"
            if dataset.splits[position] != dataset.splits[best]:
                reason += f"; in different splits ({dataset.splits[best]})"
            findings.append(
                photo_finding(
                    dataset,
                    position,
                    kind,
                    score,
                    reason,
                    group=number,
                    other=dataset.paths[other],
                )
            )
    return findings


def _copy(dataset: Dataset, scan: PhotoScan, position: int, suspected: Collection[str]) -> _Copy:
    path, row = dataset.paths[position], scan.row(position)
    return _Copy(
        path,
        dataset.labels[position],
        path in suspected,
        os.path.islink(dataset.root / path),
        int(scan.widths[row]) * int(scan.heights[row]),
        int(scan.coded_bytes[row]),
    )


def _best_pair(
    same_bytes: Sequence[int],
    group: Collection[int],
    best: int,
    pairs_of: dict[int, list[CopyPair]],
) -> tuple[CopyPair, int]:
    """Return the pair that says why a photo is in a group, and the other photo of that pair.

    The pair may be one of any file with the same bytes. Pairs with the best photo come first.
    """
    candidates = []
    for position in same_bytes:
        allowed = set(group) - (set(same_bytes) - {position})
        for pair in pairs_of[position]:
            if {pair.first, pair.second} <= allowed:
                candidates.append((pair, pair.first + pair.second - position))
    return max(
        candidates, key=lambda found: (best in (found[0].first, found[0].second), found[0].score)
    )


def same_view_findings(
    dataset: Dataset, pairs: Sequence[CopyPair], copies: Sequence[Finding]
) -> list[Finding]:
    """Return a finding for each photo that shows the same view as one before it, and is no copy.

    Args:
        dataset: the photos.
        pairs: copies and photos of the same view, as positions in the dataset.
        copies: the findings about copies. A photo that they suggest to drop is not told again.
    """
    dropped = {finding.path for finding in copies if finding.suggestion == "drop"}
    best: dict[int, CopyPair] = {}
    for pair in sorted(pairs, key=lambda pair: (-pair.score, pair.first, pair.second)):
        if (
            not pair.is_copy
            and not {dataset.paths[pair.first], dataset.paths[pair.second]} & dropped
        ):
            best.setdefault(pair.second, pair)
    findings = []
    for position, pair in sorted(best.items()):
        other = dataset.paths[pair.first]
        reason = (
            f"another exposure of the view of {other}, and no copy: its details are displaced, or "
            "its light has changed"
        )
        if dataset.splits[position] != dataset.splits[pair.first]:
            reason += f"; in different splits ({dataset.splits[pair.first]})"
        findings.append(
            photo_finding(dataset, position, "same-view", pair.score, reason, other=other)
        )
    return findings
