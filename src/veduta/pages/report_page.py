"""The page of a report: figures, charts, tables and queries with photos, without scripts.

`ReportPage` is the content. `veduta.evaluation` fills it in for each task.
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
    "MAX_TABLE_CLASSES",
    "Plot",
    "Provenance",
    "ReportPage",
    "ReportRow",
    "RowGroup",
    "classes_title",
    "write_report_page",
]

MAX_TABLE_CLASSES = 1000
"""Rows of a table of classes. The JSON file lists all classes."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A chart with a caption.

    Attributes:
        chart: the chart.
        caption: the text below it.
        wide: whether it is too wide for a phone, where it is scrolled sideways.
    """

    chart: Chart
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A query with its photos.

    Attributes:
        row: the query and its photos.
        answer: the answer as text; "" for none.
        right: whether the answer is right, shown as a mark; None for no mark.
    """

    row: ResultRow
    answer: str = ""
    right: bool | None = None


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Queries under a heading.

    Attributes:
        title: the heading.
        note: a sentence that says how the queries were chosen.
        rows: the queries.
    """

    title: str
    note: str
    rows: Iterable[ReportRow]


@dataclass(frozen=True, slots=True)
class Provenance:
    """How and when a report was made.

    Attributes:
        environment: name → value, such as versions; None, False and "" are not shown.
        command: the command line.
        generated: the date.
    """

    environment: Mapping[str, object] = field(default_factory=dict)
    command: str = ""
    generated: str = ""


@dataclass(frozen=True, slots=True)
class ReportPage:
    """The content of the page, from the top to the bottom.

    Attributes:
        title: the heading.
        counts: the line below it: how many queries and gallery photos.
        method: the line below that: the encoder or the method.
        figures: NaN is shown as a dash.
        figures_note: a sentence above the figures.
        plots: the charts.
        tables: the first column names the row; a float is a share in [0, 1], NaN a dash.
        groups: queries with their photos.
        answers: says what the photos of a row are; "" if the rows have none.
        left_out: sentences.
        settings: name → value; None, False and "" are not shown.
        provenance: how and when the report was made.
        right_words: what the mark of a right photo means.
        wrong_words: what the mark of a wrong photo means.
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
    provenance: Provenance = field(default_factory=Provenance)
    right_words: str = "same label as the query"
    wrong_words: str = "another label, or none"


def classes_title(classes: int) -> str:
    """Return the title of a table of all classes, or of the first `MAX_TABLE_CLASSES`."""
    if classes > MAX_TABLE_CLASSES:
        return f"The {MAX_TABLE_CLASSES:,} weakest of {classes:,} classes"
    return "1 class" if classes == 1 else f"{classes:,} classes, weakest first"


def write_report_page(file: str | os.PathLike[str], page: ReportPage) -> None:
    """Write the page, one row at a time; it appears complete or not at all.

    Args:
        file: the HTML file to write.
        page: its content.

    Raises:
        OSError: the file cannot be written.
    """
    write_page(file, "report.html", page)
