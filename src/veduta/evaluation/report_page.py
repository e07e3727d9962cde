"""The page of a report: figures, charts, tables and picture rows as one HTML file without scripts.

What stands on it is said by `ReportPage`; `report_retrieval` and `report_recognition` fill one in.
"""

from __future__ import annotations

import base64
import math
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.search.gallery_page import Figure, ResultRow, Table, printable

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

    from veduta.charts import Chart

__all__ = [
    "MOST_CLASSES",
    "Plot",
    "ReportPage",
    "ReportRow",
    "RowGroup",
    "classes_title",
    "write_atomically",
    "write_page",
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


def write_page(file: str | os.PathLike[str], page: ReportPage) -> None:
    """Write the page to `file`, one row at a time; it appears complete or not at all.

    Raises `OSError` when it cannot be written.
    """
    write_atomically(file, _template().generate(page=page))


def write_atomically(file: str | os.PathLike[str], parts: Iterable[str]) -> None:
    """Write text to `file`, which appears complete or not at all: an older one stays until then.

    Raises `OSError` when it cannot be written.
    """
    target = Path(file)
    handle, draft = tempfile.mkstemp(dir=target.parent, prefix=".report-", suffix=target.suffix)
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as out:
            out.writelines(parts)
        # mkstemp makes files for their owner alone; a report is as public as its folder.
        umask = os.umask(0)
        os.umask(umask)
        Path(draft).chmod(0o666 & ~umask)
        Path(draft).replace(target)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def _three_places(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"


def _percent(share: float) -> str:
    """Return a share as a length of CSS, within its track."""
    return f"{100 * min(1.0, max(0.0, share)):.1f}%" if math.isfinite(share) else "0%"


def _breakable(text: str) -> Markup:
    """Return escaped `text` that may wrap behind the marks which file names use for spaces."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[_/-])(?=\w)", text))


def _value(value: object) -> str:
    """Return a setting as text; a mapping of packages as one line."""
    if value is True:
        return "yes"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {of}" for key, of in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "printable": printable,
        "breakable": _breakable,
        "places": _three_places,
        "percent": _percent,
        "value": _value,
        "data_uri": lambda jpeg: "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii"),
        # Charts escape what they are given.
        "svg": lambda chart: Markup(chart.svg()),  # noqa: S704
    }
    environment.tests["share"] = lambda value: isinstance(value, float)
    environment.tests["finite"] = math.isfinite
    return environment.get_template("report.html.j2")
