"""The leaks of a split to look at: one HTML file with the pictures inside, without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.files import write_text
from veduta.pages.html import environment
from veduta.photos import preview

if TYPE_CHECKING:
    from veduta.curate.split_table import SplitTable
    from veduta.curate.splitting import Leak

__all__ = ["write_leaks_page"]

_MOST = 300
_SIDE = 256  # pixels


@dataclass(frozen=True, slots=True)
class _Shown:
    name: str
    label: str | None
    part: str
    jpeg: bytes | None


@dataclass(frozen=True, slots=True)
class _Row:
    note: str
    pictures: tuple[_Shown, _Shown]


def write_leaks_page(
    file: Path, table: SplitTable, chosen: Sequence[str], leaks: Sequence[Leak], summary: str
) -> None:
    """Write the page to `file`, which appears complete or not at all.

    Raises `OSError` when it cannot be written.
    """
    rows = [
        _Row(
            leak.kind if leak.score == 1.0 else f"{leak.kind}, {leak.score:.3f}",
            (_shown(table, chosen, leak.first), _shown(table, chosen, leak.second)),
        )
        for leak in leaks[:_MOST]
    ]
    template = environment().get_template("leaks.html")
    content = {
        "title": f"Leaks of {table.root.resolve().name}",
        "summary": summary,
        "rows": rows,
        "total": len(leaks),
    }
    write_text(file, template.generate(content))


def _shown(table: SplitTable, chosen: Sequence[str], at: int) -> _Shown:
    jpeg = preview(table.root / table.paths[at], _SIDE)
    return _Shown(table.paths[at], table.labels[at], chosen[at], jpeg)
