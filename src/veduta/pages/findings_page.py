"""The page of findings: the photos that a dataset is better without, by kind of fault."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from veduta.pages.html import write_page
from veduta.pages.photo_rows import PagePhoto, load_photo

__all__ = ["FindingKind", "FindingTile", "FindingsPage", "write_findings_page"]

_PHOTO_SIDE = 256  # pixels


@dataclass(frozen=True, slots=True)
class FindingTile:
    """One finding.

    Attributes:
        paths: of the photo and, for a copy, of the photo that it is a copy of.
        score: how sure the finding is, in [0, 1].
        suggestion: "drop", "keep" or "relabel".
        reason: why, in words.
        new_label: the label that is suggested, or None.
    """

    paths: Sequence[str]
    score: float
    suggestion: str
    reason: str
    new_label: str | None = None


@dataclass(frozen=True, slots=True)
class FindingKind:
    """The findings of one kind.

    Attributes:
        name: of the kind.
        suggestion: "drop", "keep" or "relabel".
        meaning: what the kind means, in words.
        findings: how many there are.
        shown: the surest of them.
    """

    name: str
    suggestion: str
    meaning: str
    findings: int
    shown: Sequence[FindingTile]


@dataclass(frozen=True, slots=True)
class FindingsPage:
    """The content of the page.

    Attributes:
        title: the heading.
        root: the folder that all paths are relative to.
        photos: of the dataset.
        readable: how many of them decode.
        drops: how many would go to quarantine.
        kinds: in the order of the page.
        notes: what was not looked for, and why.
    """

    title: str
    root: Path
    photos: int
    readable: int
    drops: int
    kinds: Sequence[FindingKind]
    notes: Sequence[str] = ()

    @property
    def findings(self) -> int:
        """How many findings there are."""
        return sum(kind.findings for kind in self.kinds)

    def load_photo(self, path: str) -> PagePhoto:
        """Read one photo when the page comes to it, so that memory holds one picture at a time."""
        return load_photo(self.root, path, side=_PHOTO_SIDE)


def write_findings_page(file: str | os.PathLike[str], page: FindingsPage) -> None:
    """Write the page.

    Args:
        file: it appears complete or not at all.
        page: what the page shows.

    Raises:
        OSError: the file cannot be written.
    """
    write_page(file, "findings.html", page)
