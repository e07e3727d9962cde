"""The page of findings: one HTML file with its pictures inside, without scripts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from veduta.curate.findings import KINDS, Finding
from veduta.files import write_text
from veduta.pages.html import environment
from veduta.photos import preview

if TYPE_CHECKING:
    from jinja2 import Template

    from veduta.curate.cleaning import Cleaning

__all__ = ["write_page"]

_MOST = 60  # findings of a kind
_SIDE = 160


@dataclass(frozen=True, slots=True)
class _Picture:
    name: str
    jpeg: bytes | None
    """None where the photo gives no picture."""


def write_page(file: str | os.PathLike[str], cleaning: Cleaning) -> None:
    """Write the page to `file`, which appears complete or not at all.

    Of each kind the 60 surest findings are shown. Memory holds one picture at a time.

    Raises `OSError` when it cannot be written.
    """
    of_kind: dict[str, list[Finding]] = {name: [] for name in cleaning.counts}
    for finding in cleaning.findings:
        of_kind[finding.kind].append(finding)
    parts = _template().generate(
        title=cleaning.photos.root.name,
        cleaning=cleaning,
        drops=len(cleaning.drops()),
        kinds=[(KINDS[name], found[:_MOST], len(found)) for name, found in of_kind.items()],
        pictures=lambda finding: _pictures(cleaning, finding),
    )
    write_text(file, parts)


def _pictures(cleaning: Cleaning, finding: Finding) -> Iterator[_Picture]:
    """Yield the photo and, of a copy, the one it is a copy of."""
    for path in (finding.path, finding.other):
        if path is not None:
            yield _Picture(path, preview(cleaning.photos.root / path, _SIDE))


@cache
def _template() -> Template:
    return environment().get_template("findings.html")
