"""The page of results: queries with their ranked hits, as one HTML file that needs nothing else.

Photos are inside the file, there are no scripts, and names are escaped, so that the file can be
mailed and opened anywhere. `contact_sheet` draws the same rows as a picture.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from veduta.pages.hit import HitTile
from veduta.pages.html import write_page

__all__ = ["Figure", "ResultRow", "ResultsPage", "Table", "write_results_page"]


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One query and its hits, best first.

    Attributes:
        name: of the query.
        label: of the query, or None.
        photo: JPEG bytes; None where there is no picture to show.
        tiles: its hits.
        note: a line below the query.
    """

    name: str
    label: str | None
    photo: bytes | None
    tiles: Sequence[HitTile]
    note: str = ""

    def score_share(self, tile: HitTile) -> float | None:
        """Return how much of its bar a tile fills.

        The full length is 1, or the row's best score if that is more. Negated distances have no
        natural full length, so a row without a positive score has no bars.

        Args:
            tile: one of the row.

        Returns:
            The share in [0, 1]; None where there is no bar.
        """
        best = max(other.score for other in self.tiles)
        if not 0.0 < best < math.inf:
            return None
        return max(0.0, tile.score / max(1.0, best))


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value in [0, 1].

    Attributes:
        name: of the value.
        value: NaN is shown as a dash.
        interval: its confidence interval; None for none.
        explanation: what it means.
        beside: another value of the same kind, with its name in words; "" for none.
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None
    explanation: str = ""
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the first column names the row, a float is a share in [0, 1]."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str | int | float, ...]]


@dataclass(frozen=True, slots=True)
class ResultsPage:
    """The content of the page.

    Attributes:
        title: the heading.
        rows: the queries. Memory holds the photos of one row at a time.
        subtitle: a line below the title.
        figures: measured values above the rows.
        tables: folded tables above the rows.
        notes: folded sentences above the rows.
        explains_marks: whether the circle and the cross are explained.
    """

    title: str
    rows: Iterable[ResultRow]
    subtitle: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    explains_marks: bool = False


def write_results_page(file: str | os.PathLike[str], page: ResultsPage) -> None:
    """Write the page.

    Args:
        file: it appears complete or not at all.
        page: what the page shows.

    Raises:
        OSError: the file cannot be written.
    """
    write_page(file, "results.html", page)
