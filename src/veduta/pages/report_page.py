"""The page of a report: figures, charts, tables and picture rows as one HTML file without scripts.

What stands on it is said by `ReportPage`; `report_retrieval` and `report_recognition` fill one in.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from veduta.pages.html import write_page
from veduta.pages.results_page import Figure, ResultRow, Table

if TYPE_CHECKING:
    from veduta.pages.charts import Chart

__all__ = [
    "MOST_CLASSES",
    "Plot",
    "ReportPage",
    "ReportRow",
    "RowGroup",
    "classes_title",
    "write_report_page",
]

MOST_CLASSES = 1000
"""Rows of a table of classes; the JSON file has them all."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A chart and the sentence below it. `wide`: too wide for a phone, scrolled sideways there."""

    chart: Chart
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A query with its photos. `right`: the mark of its `answer`, None where there is none."""

    row: ResultRow
    answer: str = ""
    right: bool | None = None


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Queries under a heading, with a sentence that says how they were chosen."""

    title: str
    note: str
    rows: Iterable[ReportRow]


@dataclass(frozen=True, slots=True)
class ReportPage:
    """All that the page says, from the top to the bottom.

    `counts`, `method`
        the lines under the title: on what, and with what.
    `figures`
        NaN is shown as a dash.
    `tables`
        the first column names the row; a float is a share in [0, 1], NaN a dash.
    `answers`
        what the photos of a row are.
    `left_out`
        sentences.
    `settings`, `environment`
        name → value; None, False and "" are not shown.
    """

    title: str
    counts: str
    method: str
    figures: Sequence[Figure]
    figures_note: str
    plots: Sequence[Plot]
    tables: Sequence[Table]
    groups: Sequence[RowGroup]
    answers: str
    left_out: Sequence[str]
    settings: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, object] = field(default_factory=dict)
    command: str = ""
    generated: str = ""


def classes_title(classes: int) -> str:
    """Return the title of a table that has `classes` classes, or the first `MOST_CLASSES`."""
    if classes > MOST_CLASSES:
        return f"The {MOST_CLASSES:,} weakest of {classes:,} classes"
    return "1 class" if classes == 1 else f"{classes:,} classes, weakest first"


def write_report_page(file: str | os.PathLike[str], page: ReportPage) -> None:
    """Write the page to `file`, one row at a time; it appears complete or not at all.

    Raises `OSError` when it cannot be written.
    """
    write_page(file, "report.html", page)
